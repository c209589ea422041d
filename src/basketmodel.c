/*
 * basketmodel.c
 *		What is derived from the baskets of customers, so that predictions are quick.
 *
 * Nothing of this is stored: it takes milliseconds to make, and lies in a memory
 * context of its own.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "basketmodel.h"

/* How much less a basket counts than the one after it. */
static const double fading[OM_BASKET_FADINGS] = {0.5, 0.8, 0.95};

/* However long ago, what has been ordered weighs more than what has not: 0 stands for that. */
#define LEAST_WEIGHT 1e-12

/* Rebuying is taken to be as usual in the shop, until so many orders say otherwise. */
#define REBUY_PRIOR 20

/* Indexed by OmBasketAlgorithm. */
const char *const om_basket_algorithm_names[OM_BASKET_ALGORITHM_COUNT] = {
	"global_frequency",
	"personal_frequency",
	"personal_popularity_ties",
	"tifu_knn",
	"up_cf",
	"blend",
	"tifu_knn_code",
	"gp_topfreq"};

/* Those published for Ta-Feng. */
const OmBasketParameters om_basketmodel_defaults = {.algorithm = OM_BASKET_BLEND,
													.neighbours = 300,
													.groups = 7,
													.within_decay = 0.9,
													.group_decay = 0.7,
													.alpha = 0.7,
													.recency = 10,
													.asymmetry = 0.75,
													.locality = 10};

static void *
allocate(Size size)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, Max(size, 1));
}

static void *
allocate_zero(Size size)
{
	return palloc_extended(Max(size, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* ---------- a customer's own baskets ---------- */

static OmBasketOwn *
find_own(OmBasketOwn *own, int *count, int *place, int32 product)
{
	if (place[product] < 0)
	{
		place[product] = *count;
		own[*count] = (OmBasketOwn){.product = product};
		(*count)++;
	}
	return &own[place[product]];
}

static void
weigh_basket(const OmBasketRun *run, int basket, float weight, float share, int *place,
			 OmBasketOwn *own, int *count)
{
	int age = run->nbaskets - 1 - basket;
	float faded[OM_BASKET_FADINGS];

	for (int f = 0; f < OM_BASKET_FADINGS; f++)
		faded[f] = Max(pow(fading[f], age), LEAST_WEIGHT);
	for (int i = 0; i < run->nitems[basket]; i++)
	{
		OmBasketOwn *entry = find_own(own, count, place, run->items[basket][i]);

		entry->count++;
		entry->age = age;
		entry->weight += weight;
		entry->share += share;
		for (int f = 0; f < OM_BASKET_FADINGS; f++)
			entry->faded[f] += faded[f];
	}
}

/*
 * TIFU-KNN: the baskets form groups of like size, the larger ones last.  The
 * vector of a group is the mean of its baskets, each decayed by how far it is from
 * the end of the group; that of the customer the mean of the groups, decayed
 * likewise.  The authors' program decays baskets by how far they are from the end
 * of the whole history, and groups as if there were always as many as wanted.
 */
static double
weigh_group(const OmBasketParameters *parameters, int ngroups, int group)
{
	bool as_code = parameters->algorithm == OM_BASKET_TIFU_KNN_CODE;
	int distance = (as_code ? parameters->groups : ngroups) - 1 - group;

	return pow(parameters->group_decay, distance) / ngroups;
}

int
om_basketmodel_weigh_run(const OmBasketParameters *parameters, const OmBasketRun *run, int *place,
						 OmBasketOwn *own)
{
	bool as_code = parameters->algorithm == OM_BASKET_TIFU_KNN_CODE;
	int ngroups = Min(parameters->groups, run->nbaskets);
	int recent = Min(parameters->recency, run->nbaskets);
	int count = 0;
	int basket = 0;

	for (int group = 0; group < ngroups; group++)
	{
		int size = run->nbaskets / ngroups + (group >= ngroups - run->nbaskets % ngroups);
		double group_weight = weigh_group(parameters, ngroups, group);

		for (int i = 0; i < size; i++, basket++)
		{
			int distance = as_code ? run->nbaskets - 1 - basket : size - 1 - i;
			double weight = group_weight * pow(parameters->within_decay, distance) / size;

			weigh_basket(run, basket, Max(weight, LEAST_WEIGHT),
						 basket >= run->nbaskets - recent ? 1.0f / recent : 0, place, own, &count);
		}
	}
	for (int i = 0; i < count; i++)
		place[own[i].product] = -1;
	return count;
}

/* ---------- customers and products ---------- */

static int
count_run(const OmBasketRun *run)
{
	int sum = 0;

	for (int i = 0; i < run->nbaskets; i++)
		sum += run->nitems[i];
	return sum;
}

typedef struct Building
{
	OmBasketModel *model;
	int *place;
	int64 *chances; /* of each product: orders after the customer's first with it */
	int64 *taken;   /* and those of them that had it again */
	int nentries;
} Building;

static void
add_entry(Building *building, int customer, const OmBasketOwn *own, int nbaskets, int first)
{
	OmBasketModel *model = building->model;
	int entry = building->nentries++;

	model->entries[entry] = (OmBasketEntry){own->product, own->weight};
	model->shares[entry] = own->share;
	model->norm[customer] += own->weight * own->weight;
	model->count[own->product] += own->count;
	model->recent[own->product] += own->faded[OM_BASKET_USUAL_FADING];
	model->first_buyer[own->product]++;
	building->chances[own->product] += nbaskets - 1 - first;
	building->taken[own->product] += own->count - 1;
}

/* Entries come in the order in which products first appear, so their first baskets ascend. */
static void
add_customer(Building *building, int customer)
{
	const OmBaskets *baskets = building->model->baskets;
	OmBasketRun run =
		om_baskets_run(baskets, customer, om_baskets_of(baskets, customer), 0 /* room */);
	int room = count_run(&run);
	OmBasketOwn *own = palloc(sizeof(OmBasketOwn) * Max(room, 1));
	int count = om_basketmodel_weigh_run(&building->model->parameters, &run, building->place, own);
	int next = 0;

	for (int b = 0; b < run.nbaskets; b++)
		for (int i = 0; i < run.nitems[b]; i++)
			if (next < count && own[next].product == run.items[b][i])
				add_entry(building, customer, &own[next++], run.nbaskets, b);
	pfree(own);
	pfree(run.items);
	pfree(run.nitems);
}

/* A share may be nothing. */
float
om_basketmodel_log_share(float share)
{
	return logf(1e-5f + share) + 11.5f;
}

static void
set_logs(OmBasketModel *model, int product, double recent, double share, double rebuy)
{
	model->log_recent[product] = om_basketmodel_log_share(recent);
	model->log_popular[product] = om_basketmodel_log_share(share);
	model->log_rebuy[product] = log(rebuy) + 5;
}

/* A shop where nobody has bought anything twice does not make it impossible. */
static double
usual_rebuy(const Building *building)
{
	double chances = 1;
	double taken = 0;

	for (int i = 0; i < building->model->baskets->nproducts; i++)
	{
		chances += building->chances[i];
		taken += building->taken[i];
	}
	return Max(taken / chances, 0.01);
}

static void
describe_products(Building *building)
{
	OmBasketModel *model = building->model;
	int nproducts = model->baskets->nproducts;
	double usual = usual_rebuy(building);

	for (int i = 0; i < nproducts; i++)
	{
		model->recent[i] /= model->baskets->ncustomers;
		set_logs(model, i, model->recent[i], (double) model->count[i] / model->baskets->nbaskets,
				 (building->taken[i] + REBUY_PRIOR * usual) / (building->chances[i] + REBUY_PRIOR));
	}
	set_logs(model, nproducts, 0, 0, usual);
}

/* first_buyer[] counts buyers until now. */
static void
make_buyers(OmBasketModel *model, int nentries)
{
	int nproducts = model->baskets->nproducts;
	int *next = allocate(sizeof(int) * nproducts);
	int sum = 0;

	for (int i = 0; i <= nproducts; i++)
	{
		int count = i < nproducts ? model->first_buyer[i] : 0;

		model->first_buyer[i] = sum;
		if (i < nproducts)
			next[i] = sum;
		sum += count;
	}
	model->buyers = allocate(sizeof(OmBasketEntry) * nentries);
	for (int c = 0; c < model->baskets->ncustomers; c++)
		for (int e = model->first_entry[c]; e < model->first_entry[c + 1]; e++)
			model->buyers[next[model->entries[e].number]++] =
				(OmBasketEntry){c, model->entries[e].weight};
	pfree(next);
}

/* ---------- orders of preference ---------- */

static int
compare_norms(const void *a, const void *b, void *arg)
{
	const float *norm = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;

	if (norm[left] != norm[right])
		return norm[left] < norm[right] ? -1 : 1;
	return left - right;
}

static int
compare_counts(const void *a, const void *b, void *arg)
{
	const int *count = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;

	if (count[left] != count[right])
		return count[left] > count[right] ? -1 : 1;
	return left - right;
}

/* The most frequent first. */
static int *
sort_products(const OmBasketModel *model)
{
	int nproducts = model->baskets->nproducts;
	int *order = allocate(sizeof(int) * nproducts);

	for (int i = 0; i < nproducts; i++)
		order[i] = i;
	qsort_arg(order, nproducts, sizeof(int), compare_counts, model->count);
	return order;
}

static void
sort_customers(OmBasketModel *model)
{
	int ncustomers = model->baskets->ncustomers;

	model->by_norm = allocate(sizeof(int) * ncustomers);
	for (int i = 0; i < ncustomers; i++)
		if (om_baskets_of(model->baskets, i) > 0)
			model->by_norm[model->nby_norm++] = i;
	qsort_arg(model->by_norm, model->nby_norm, sizeof(int), compare_norms, model->norm);
}

/* ---------- the model ---------- */

static OmBasketModel *
make_empty(const OmBaskets *baskets, const OmBasketParameters *parameters)
{
	OmBasketModel *model = palloc0(sizeof(OmBasketModel));
	int room = baskets->first_item[baskets->nbaskets];

	model->baskets = baskets;
	model->parameters = *parameters;
	model->first_entry = allocate(sizeof(int) * (baskets->ncustomers + 1));
	model->entries = allocate(sizeof(OmBasketEntry) * room);
	model->shares = allocate(sizeof(float) * room);
	model->norm = allocate_zero(sizeof(float) * baskets->ncustomers);
	model->first_buyer = allocate_zero(sizeof(int) * (baskets->nproducts + 1));
	model->count = allocate_zero(sizeof(int) * baskets->nproducts);
	model->recent = allocate_zero(sizeof(float) * baskets->nproducts);
	model->log_recent = allocate(sizeof(float) * (baskets->nproducts + 1));
	model->log_popular = allocate(sizeof(float) * (baskets->nproducts + 1));
	model->log_rebuy = allocate(sizeof(float) * (baskets->nproducts + 1));
	return model;
}

static void
fill(OmBasketModel *model)
{
	const OmBaskets *baskets = model->baskets;
	Building building = {.model = model};

	building.place = allocate(sizeof(int) * baskets->nproducts);
	memset(building.place, -1, sizeof(int) * baskets->nproducts);
	building.chances = allocate_zero(sizeof(int64) * baskets->nproducts);
	building.taken = allocate_zero(sizeof(int64) * baskets->nproducts);
	for (int i = 0; i < baskets->ncustomers; i++)
	{
		CHECK_FOR_INTERRUPTS();
		model->first_entry[i] = building.nentries;
		add_customer(&building, i);
	}
	model->first_entry[baskets->ncustomers] = building.nentries;
	describe_products(&building);
	make_buyers(model, building.nentries);
	pfree(building.place);
	pfree(building.chances);
	pfree(building.taken);
}

OmBasketModel *
om_basketmodel_build(const OmBaskets *baskets, const OmBasketParameters *parameters)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt baskets", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmBasketModel *model = make_empty(baskets, parameters);

	fill(model);
	sort_customers(model);
	model->by_popularity = sort_products(model);
	MemoryContextSwitchTo(caller);
	return model;
}

void
om_basketmodel_free(OmBasketModel *model)
{
	MemoryContextDelete(GetMemoryChunkContext(model));
}
