/*
 * basketscores.c
 *		Which products a customer will order next, by each of the algorithms.
 *
 * Arrays with a place per product or customer are clean between predictions;
 * each cleans what it has touched, and nothing in between can fail.
 */
#include "postgres.h"

#include <math.h>

#include "utils/memutils.h"

#include "basketscores.h"

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

static int
compare_scores(const void *a, const void *b, void *arg)
{
	const double *score = arg;
	int left = *(const int *) a;
	int right = *(const int *) b;

	if (score[left] != score[right])
		return score[left] > score[right] ? -1 : 1;
	return left - right;
}

/* Products as they are worth to whoever has not had them and whose neighbours have not either. */
static void
rank_products(const OmBasketModel *model, OmBasketWork *work)
{
	int nproducts = model->baskets->nproducts;

	work->other_score = allocate(sizeof(double) * nproducts);
	work->by_other_score = allocate(sizeof(int) * nproducts);
	for (int i = 0; i < nproducts; i++)
	{
		work->other_score[i] = om_basketfeatures_score_product(model, i);
		work->by_other_score[i] = i;
	}
	qsort_arg(work->by_other_score, nproducts, sizeof(int), compare_scores, work->other_score);
}

OmBasketWork *
om_basketscores_begin(const OmBasketModel *model)
{
	OmBasketWork *work = palloc0(sizeof(OmBasketWork));
	int nproducts = model->baskets->nproducts;
	int ncustomers = model->baskets->ncustomers;
	Size places = sizeof(int) * (nproducts + OM_BASKET_MAX_STRANGERS);

	work->nproducts = nproducts;
	work->place = allocate(places);
	memset(work->place, -1, places);
	work->near = allocate_zero(sizeof(float) * nproducts);
	work->near_products = allocate(sizeof(int32) * (nproducts + 1));
	work->dot = allocate_zero(sizeof(float) * ncustomers);
	work->met = allocate(sizeof(int32) * (ncustomers + 1));
	work->neighbours = allocate(sizeof(OmBasketNeighbour) * (ncustomers + 1));
	if (model->parameters.algorithm == OM_BASKET_BLEND)
		rank_products(model, work);
	return work;
}

void
om_basketscores_end(OmBasketWork *work)
{
	pfree(work->place);
	pfree(work->near);
	pfree(work->near_products);
	pfree(work->dot);
	pfree(work->met);
	pfree(work->neighbours);
	if (work->own != NULL)
		pfree(work->own);
	if (work->other_score != NULL)
	{
		pfree(work->other_score);
		pfree(work->by_other_score);
	}
	pfree(work);
}

/* ---------- neighbours ---------- */

/*
 * Adds entries to the cells of their numbers, and lists the cells that were 0; one place
 * more than there are cells may be written.  Without branches, which nobody could predict.
 */
static int
scatter(const OmBasketEntry *entries, int count, float factor, float *cells, int32 *list, int nlist)
{
	for (int i = 0; i < count; i++)
	{
		float *cell = &cells[entries[i].number];

		list[nlist] = entries[i].number;
		nlist += *cell == 0;
		*cell += entries[i].weight * factor;
	}
	return nlist;
}

/* The dot product of vectors with all who have had something that he has had. */
static void
meet(const OmBasketModel *model, OmBasketWork *work)
{
	work->nmet = 0;
	for (int i = 0; i < work->nown; i++)
	{
		int32 product = work->own[i].product;
		int first;

		if (product >= work->nproducts)
			continue;
		first = model->first_buyer[product];
		work->nmet = scatter(model->buyers + first, model->first_buyer[product + 1] - first,
							 work->own[i].weight, work->dot, work->met, work->nmet);
	}
}

/* The same with the number of products in common. */
static void
meet_common(const OmBasketModel *model, OmBasketWork *work)
{
	work->nmet = 0;
	for (int i = 0; i < work->nown; i++)
	{
		int32 product = work->own[i].product;

		if (product >= work->nproducts)
			continue;
		for (int b = model->first_buyer[product]; b < model->first_buyer[product + 1]; b++)
		{
			int32 customer = model->buyers[b].number;

			if (work->dot[customer] == 0)
				work->met[work->nmet++] = customer;
			work->dot[customer]++;
		}
	}
}

static void
part(OmBasketWork *work)
{
	for (int i = 0; i < work->nmet; i++)
		work->dot[work->met[i]] = 0;
}

static int
compare_neighbours(const void *a, const void *b)
{
	const OmBasketNeighbour *left = a;
	const OmBasketNeighbour *right = b;

	if (left->distance != right->distance)
		return left->distance < right->distance ? -1 : 1;
	return left->customer - right->customer;
}

#define NBUCKETS 4096

typedef struct Buckets
{
	float least;
	float per_distance;
	int counts[NBUCKETS];
} Buckets;

static inline int
bucket_of(const Buckets *buckets, float distance)
{
	return (int) ((distance - buckets->least) * buckets->per_distance);
}

static void
fill_buckets(Buckets *buckets, const OmBasketNeighbour *all, int count)
{
	float least = all[0].distance;
	float most = all[0].distance;

	for (int i = 1; i < count; i++)
	{
		least = Min(least, all[i].distance);
		most = Max(most, all[i].distance);
	}
	buckets->least = least;
	buckets->per_distance = most - least > 1e-30f ? (NBUCKETS - 1) / (most - least) : 0;
	memset(buckets->counts, 0, sizeof(buckets->counts));
	for (int i = 0; i < count; i++)
		buckets->counts[bucket_of(buckets, all[i].distance)]++;
}

/* Moves those in the first buckets to the front, and those in the next behind them. */
static int
move_to_front(OmBasketNeighbour *all, int count, const Buckets *buckets, int last, int *nlast)
{
	int front = 0;

	*nlast = 0;
	for (int i = 0; i < count; i++)
	{
		OmBasketNeighbour this = all[i];
		int bucket = bucket_of(buckets, this.distance);

		if (bucket > last)
			continue;
		all[i] = all[front + *nlast];
		all[front + *nlast] = this;
		if (bucket == last)
		{
			(*nlast)++;
			continue;
		}
		all[front + *nlast] = all[front];
		all[front++] = this;
	}
	return front;
}

/*
 * Moves the nearest to the front, in an order that depends on nothing but them.
 * Counting by distance finds the few among which to look closely.
 */
static void
select_nearest(OmBasketNeighbour *all, int count, int wanted)
{
	Buckets buckets;
	int last = 0;
	int seen = 0;
	int front;
	int nlast;

	if (count <= wanted)
		return;
	fill_buckets(&buckets, all, count);
	while (seen + buckets.counts[last] < wanted)
		seen += buckets.counts[last++];
	front = move_to_front(all, count, &buckets, last, &nlast);
	qsort(all + front, nlast, sizeof(OmBasketNeighbour), compare_neighbours);
}

/* Customers who share nothing with him are as far away as both vectors are long. */
static int
add_distant(const OmBasketModel *model, OmBasketWork *work, int self, int count, float norm)
{
	int added = 0;

	for (int i = 0; i < model->nby_norm && added < model->parameters.neighbours; i++)
	{
		int customer = model->by_norm[i];

		if (work->dot[customer] != 0 || customer == self)
			continue;
		work->neighbours[count + added++] =
			(OmBasketNeighbour){norm + model->norm[customer], customer};
	}
	return count + added;
}

static int
find_nearest(const OmBasketModel *model, OmBasketWork *work, int self)
{
	int wanted = model->parameters.neighbours;
	int count = 0;
	float norm = 0;

	for (int i = 0; i < work->nown; i++)
		norm += work->own[i].weight * work->own[i].weight;
	meet(model, work);
	for (int i = 0; i < work->nmet; i++)
	{
		int customer = work->met[i];

		if (customer != self)
			work->neighbours[count++] = (OmBasketNeighbour){
				norm + model->norm[customer] - 2 * work->dot[customer], customer};
	}
	count = add_distant(model, work, self, count, norm);
	part(work);
	select_nearest(work->neighbours, count, wanted);
	return Min(count, wanted);
}

/* The mean of the vectors of the nearest. */
static void
ask_nearest(const OmBasketModel *model, OmBasketWork *work, int self)
{
	int count = find_nearest(model, work, self);

	for (int i = 0; i < count; i++)
	{
		int first = model->first_entry[work->neighbours[i].customer];
		int end = model->first_entry[work->neighbours[i].customer + 1];

		/* Rows lie here and there: the next ones are fetched meanwhile. */
		__builtin_prefetch(&model->first_entry[work->neighbours[Min(i + 8, count - 1)].customer]);
		__builtin_prefetch(
			&model->entries[model->first_entry[work->neighbours[Min(i + 4, count - 1)].customer]]);
		work->nnear = scatter(model->entries + first, end - first, 1.0f / count, work->near,
							  work->near_products, work->nnear);
	}
}

/* Of the largest weight; less is lost in the digits of a sum. */
#define NEGLIGIBLE 1e-8

static void
add_shares(const OmBasketModel *model, OmBasketWork *work, int customer, float factor)
{
	for (int e = model->first_entry[customer]; e < model->first_entry[customer + 1]; e++)
	{
		int32 product = model->entries[e].number;
		float part = factor * model->shares[e];

		if (work->near[product] == 0 && part > 0)
			work->near_products[work->nnear++] = product;
		work->near[product] += part;
	}
}

/*
 * UP-CF: the products in common by the numbers of products of both, whose shares
 * of the denominator the asymmetry sets.
 */
static int
find_similar(const OmBasketModel *model, OmBasketWork *work, int self, float *highest)
{
	double asymmetry = model->parameters.asymmetry;
	double mine = pow(work->nown, asymmetry);
	int count = 0;

	*highest = 0;
	meet_common(model, work);
	for (int i = 0; i < work->nmet; i++)
	{
		int customer = work->met[i];
		int theirs = model->first_entry[customer + 1] - model->first_entry[customer];
		float similarity = work->dot[customer] / (mine * pow(theirs, 1 - asymmetry));

		if (customer == self)
			continue;
		work->neighbours[count++] = (OmBasketNeighbour){-similarity, customer};
		*highest = Max(*highest, similarity);
	}
	part(work);
	return count;
}

/* Everybody is asked, as much as he is similar; but not whom nobody would hear beside the most similar. */
static void
ask_similar(const OmBasketModel *model, OmBasketWork *work, int self)
{
	const OmBasketParameters *parameters = &model->parameters;
	float highest;
	float least;
	int count;

	count = find_similar(model, work, self, &highest);
	least = highest * pow(NEGLIGIBLE, 1 / Max(parameters->locality, 1e-3));
	for (int i = 0; i < count; i++)
	{
		float similarity = -work->neighbours[i].distance;

		if (similarity >= least)
			add_shares(model, work, work->neighbours[i].customer,
					   powf(similarity, parameters->locality));
	}
}

/* ---------- what there is to know about a customer ---------- */

static void
weigh_own(const OmBasketModel *model, OmBasketWork *work, const OmBasketRun *run)
{
	int lines = 0;
	int first = run->nbaskets > 0 ? run->nitems[0] : 0;

	for (int i = 0; i < run->nbaskets; i++)
		lines += run->nitems[i];
	if (lines > work->own_room)
	{
		/* First the new one: the work is used again after an error. */
		OmBasketOwn *own =
			MemoryContextAllocHuge(GetMemoryChunkContext(work), sizeof(OmBasketOwn) * lines * 2);

		if (work->own != NULL)
			pfree(work->own);
		work->own = own;
		work->own_room = lines * 2;
	}
	work->nown = om_basketmodel_weigh_run(&model->parameters, run, work->place, work->own);
	work->rebuying = lines > first ? (lines - work->nown + 1.0) / (lines - first + 5) : 0.2;
	for (int i = 0; i < work->nown; i++)
		work->place[work->own[i].product] = i;
}

void
om_basketscores_look(const OmBasketModel *model, OmBasketWork *work, const OmBasketRun *run,
					 int self)
{
	OmBasketAlgorithm algorithm = model->parameters.algorithm;

	weigh_own(model, work, run);
	work->nnear = 0;
	if (work->nown == 0)
		return;
	if (om_basket_is_tifu(algorithm) || algorithm == OM_BASKET_BLEND)
		ask_nearest(model, work, self);
	else if (algorithm == OM_BASKET_UP_CF)
		ask_similar(model, work, self);
}

void
om_basketscores_forget(OmBasketWork *work)
{
	for (int i = 0; i < work->nown; i++)
		work->place[work->own[i].product] = -1;
	if (work->nnear > work->nproducts / 16)
		memset(work->near, 0, sizeof(float) * work->nproducts);
	else
		for (int i = 0; i < work->nnear; i++)
			work->near[work->near_products[i]] = 0;
	work->nown = 0;
	work->nnear = 0;
}

float
om_basketscores_near(const OmBasketWork *work, int32 product)
{
	return product < work->nproducts ? work->near[product] : 0;
}

/* ---------- choosing ---------- */

typedef struct Choosing
{
	const OmBasketModel *model;
	OmBasketWork *work;
	int nbaskets;
	OmBasketChoice *choice;
	int count;
	int k;
} Choosing;

static const char *
name_of(const Choosing *choosing, int32 product)
{
	int nproducts = choosing->work->nproducts;

	return product < nproducts ? choosing->model->baskets->product_ids[product]
							   : choosing->work->stranger_ids[product - nproducts];
}

/* Numbers are in the order of the ids, but for strangers. */
static bool
is_smaller(const Choosing *choosing, int32 a, int32 b)
{
	if ((a < choosing->work->nproducts) == (b < choosing->work->nproducts))
		return a < b;
	return strcmp(name_of(choosing, a), name_of(choosing, b)) < 0;
}

static bool
is_better(const Choosing *choosing, const OmBasketChoice *a, const OmBasketChoice *b)
{
	if (a->score != b->score)
		return a->score > b->score;
	if (a->second != b->second)
		return a->second > b->second;
	return is_smaller(choosing, a->product, b->product);
}

static void
offer(Choosing *choosing, int32 product, double score, double second)
{
	OmBasketChoice candidate = {product, score, second};
	int place;

	if (choosing->count == choosing->k &&
		!is_better(choosing, &candidate, &choosing->choice[choosing->k - 1]))
		return;
	place = choosing->count < choosing->k ? choosing->count++ : choosing->k - 1;
	while (place > 0 && is_better(choosing, &candidate, &choosing->choice[place - 1]))
	{
		choosing->choice[place] = choosing->choice[place - 1];
		place--;
	}
	choosing->choice[place] = candidate;
}

static double
popularity_of(const OmBasketModel *model, int32 product)
{
	return product < model->baskets->nproducts
			 ? (double) model->count[product] / model->baskets->nbaskets
			 : 0;
}

/* Products that the algorithm has not scored, the most frequent first, where there is room. */
static void
fill_up(Choosing *choosing, bool with_score)
{
	const OmBasketModel *model = choosing->model;
	OmBasketWork *work = choosing->work;

	for (int i = 0; i < model->baskets->nproducts && choosing->count < choosing->k; i++)
	{
		int32 product = model->by_popularity[i];

		if (model->count[product] == 0 || work->place[product] >= 0 || work->near[product] > 0)
			continue;
		choosing->choice[choosing->count++] =
			(OmBasketChoice){product, with_score ? popularity_of(model, product) : 0, 0};
	}
}

typedef enum Ties
{
	TIES_BY_ID,
	TIES_BY_POPULARITY,
	TIES_BY_FIRST_ORDER /* what he has had first */
} Ties;

/* His products lie in the order in which they first appear. */
static double
break_tie(const Choosing *choosing, int nth, Ties ties)
{
	if (ties == TIES_BY_POPULARITY)
		return popularity_of(choosing->model, choosing->work->own[nth].product);
	return ties == TIES_BY_FIRST_ORDER ? -nth : 0;
}

static void
choose_personal(Choosing *choosing, Ties ties)
{
	OmBasketWork *work = choosing->work;

	for (int i = 0; i < work->nown; i++)
		offer(choosing, work->own[i].product, (double) work->own[i].count / choosing->nbaskets,
			  break_tie(choosing, i, ties));
}

/* His own vector and that of the others, mixed. */
static void
choose_mixed(Choosing *choosing, double own_part, double near_part, bool is_share)
{
	OmBasketWork *work = choosing->work;

	for (int i = 0; i < work->nown; i++)
	{
		OmBasketOwn *own = &work->own[i];

		offer(choosing, own->product,
			  own_part * (is_share ? own->share : own->weight) +
				  near_part * om_basketscores_near(work, own->product),
			  0);
	}
	for (int i = 0; i < work->nnear; i++)
	{
		int32 product = work->near_products[i];

		if (work->place[product] < 0)
			offer(choosing, product, near_part * work->near[product], 0);
	}
}

static double
score_owned(const OmBasketModel *model, const OmBasketWork *work, const OmBasketOwn *own,
			int nbaskets)
{
	float features[OM_BASKET_OWNED_FEATURES];
	double score = 0;

	om_basketfeatures_describe_owned(model, own, nbaskets, om_basketscores_near(work, own->product),
									 work->rebuying, features);
	for (int i = 0; i < OM_BASKET_OWNED_FEATURES; i++)
		score += model->parameters.weights[i] * features[i];
	return score;
}

/* No weight among the neighbours adds more than this to a score: */
static double
most_by_near(const OmBasketWork *work, const OmBasketNearWeights *weights)
{
	float most = 0;

	for (int i = 0; i < work->nnear; i++)
		if (work->near[work->near_products[i]] > most && work->place[work->near_products[i]] < 0)
			most = work->near[work->near_products[i]];
	return Max(weights->log * om_basketmodel_log_share(most),
			   weights->log * om_basketmodel_log_share(0)) +
		   Max(om_basketfeatures_score_near(&(OmBasketNearWeights){0, weights->plain}, most), 0);
}

/* What he has not had, by what each is worth by itself, until the neighbours cannot make up for it. */
static void
offer_others(Choosing *choosing)
{
	const OmBasketModel *model = choosing->model;
	OmBasketWork *work = choosing->work;
	OmBasketNearWeights weights = om_basketfeatures_near_weights(model, choosing->nbaskets);
	double most = most_by_near(work, &weights);
	double by_nobody = om_basketfeatures_score_near(&weights, 0);

	for (int i = 0; i < model->baskets->nproducts; i++)
	{
		int32 product = work->by_other_score[i];
		double score = work->other_score[product];
		float near = work->near[product];

		if (choosing->count == choosing->k &&
			score + most < choosing->choice[choosing->k - 1].score)
			break;
		if (work->place[product] >= 0 || model->count[product] == 0)
			continue;
		offer(choosing, product,
			  score + (near > 0 ? om_basketfeatures_score_near(&weights, near) : by_nobody), 0);
	}
}

static void
choose_blend(Choosing *choosing)
{
	OmBasketWork *work = choosing->work;

	for (int i = 0; i < work->nown; i++)
		offer(choosing, work->own[i].product,
			  score_owned(choosing->model, work, &work->own[i], choosing->nbaskets), 0);
	offer_others(choosing);
}

static void
choose_by(Choosing *choosing)
{
	const OmBasketParameters *parameters = &choosing->model->parameters;

	switch (parameters->algorithm)
	{
		case OM_BASKET_GLOBAL_FREQUENCY:
			break;
		case OM_BASKET_PERSONAL_FREQUENCY:
			choose_personal(choosing, TIES_BY_ID);
			break;
		case OM_BASKET_PERSONAL_POPULARITY_TIES:
			choose_personal(choosing, TIES_BY_POPULARITY);
			break;
		case OM_BASKET_GP_TOPFREQ:
			choose_personal(choosing, TIES_BY_FIRST_ORDER);
			break;
		case OM_BASKET_TIFU_KNN:
		case OM_BASKET_TIFU_KNN_CODE:
			choose_mixed(choosing, parameters->alpha, 1 - parameters->alpha, false /* is_share */);
			break;
		case OM_BASKET_UP_CF:
			choose_mixed(choosing, 1, 1, true /* is_share */);
			break;
		case OM_BASKET_BLEND:
			choose_blend(choosing);
			break;
	}
}

int
om_basketscores_choose(const OmBasketModel *model, OmBasketWork *work, const OmBasketRun *run,
					   int self, int k, OmBasketChoice *choice)
{
	Choosing choosing = {
		.model = model, .work = work, .nbaskets = run->nbaskets, .choice = choice, .k = k};
	OmBasketRun nothing = {0};

	if (model->parameters.algorithm == OM_BASKET_GLOBAL_FREQUENCY || run->nbaskets == 0)
	{
		om_basketscores_look(model, work, &nothing, self);
		fill_up(&choosing, true /* with_score */);
	}
	else
	{
		om_basketscores_look(model, work, run, self);
		choose_by(&choosing);
		fill_up(&choosing, false /* with_score */);
	}
	om_basketscores_forget(work);
	return choosing.count;
}
