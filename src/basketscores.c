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
	work->near_products = allocate(sizeof(int32) * nproducts);
	work->dot = allocate_zero(sizeof(float) * ncustomers);
	work->common = allocate_zero(sizeof(int) * ncustomers);
	work->met = allocate(sizeof(int) * ncustomers);
	work->neighbours = allocate(sizeof(OmBasketNeighbour) * (ncustomers + 1));
	return work;
}

void
om_basketscores_end(OmBasketWork *work)
{
	pfree(work->place);
	pfree(work->near);
	pfree(work->near_products);
	pfree(work->dot);
	pfree(work->common);
	pfree(work->met);
	pfree(work->neighbours);
	if (work->own != NULL)
		pfree(work->own);
	pfree(work);
}

/* ---------- neighbours ---------- */

/* All who have had something that he has had; work->met lists them. */
static void
meet(const OmBasketModel *model, OmBasketWork *work, int self)
{
	work->nmet = 0;
	for (int i = 0; i < work->nown; i++)
	{
		int32 product = work->own[i].product;
		float weight = work->own[i].weight;

		if (product >= work->nproducts)
			continue;
		for (int b = model->first_buyer[product]; b < model->first_buyer[product + 1]; b++)
		{
			int customer = model->buyer[b];

			if (work->common[customer]++ == 0)
				work->met[work->nmet++] = customer;
			work->dot[customer] += weight * model->buyer_weight[b];
		}
	}
	if (self < 0 || work->common[self] > 0)
		return;
	/* His own row says nothing new, also where his baskets are others by now. */
	work->common[self] = 1;
	work->met[work->nmet++] = self;
}

static void
part(OmBasketWork *work)
{
	for (int i = 0; i < work->nmet; i++)
	{
		work->common[work->met[i]] = 0;
		work->dot[work->met[i]] = 0;
	}
}

static inline bool
is_nearer(const OmBasketNeighbour *a, const OmBasketNeighbour *b)
{
	return a->distance < b->distance || (a->distance == b->distance && a->customer < b->customer);
}

/* Moves the nearest to the front, in no order. */
static void
select_nearest(OmBasketNeighbour *all, int count, int wanted)
{
	int low = 0;
	int high = count - 1;

	while (wanted < count && low < high)
	{
		OmBasketNeighbour pivot = all[low + (high - low) / 2];
		int i = low;
		int j = high;

		while (i <= j)
		{
			while (is_nearer(&all[i], &pivot))
				i++;
			while (is_nearer(&pivot, &all[j]))
				j--;
			if (i <= j)
			{
				OmBasketNeighbour swap = all[i];

				all[i++] = all[j];
				all[j--] = swap;
			}
		}
		if (wanted <= j)
			high = j;
		else if (wanted >= i)
			low = i;
		else
			return;
	}
}

/* Customers who share nothing with him are as far away as both vectors are long. */
static int
add_distant(const OmBasketModel *model, OmBasketWork *work, int count, float norm)
{
	int added = 0;

	for (int i = 0; i < model->nby_norm && added < model->parameters.neighbours; i++)
	{
		int customer = model->by_norm[i];

		if (work->common[customer] > 0)
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
	meet(model, work, self);
	for (int i = 0; i < work->nmet; i++)
	{
		int customer = work->met[i];

		if (customer != self)
			work->neighbours[count++] = (OmBasketNeighbour){
				norm + model->norm[customer] - 2 * work->dot[customer], customer};
	}
	count = add_distant(model, work, count, norm);
	part(work);
	select_nearest(work->neighbours, count, wanted);
	return Min(count, wanted);
}

static void
add_near(OmBasketWork *work, int32 product, float weight)
{
	if (work->near[product] == 0)
		work->near_products[work->nnear++] = product;
	work->near[product] += weight;
}

/* The mean of the vectors of the nearest. */
static void
ask_nearest(const OmBasketModel *model, OmBasketWork *work, int self)
{
	int count = find_nearest(model, work, self);

	for (int i = 0; i < count; i++)
	{
		int customer = work->neighbours[i].customer;

		for (int e = model->first_entry[customer]; e < model->first_entry[customer + 1]; e++)
			add_near(work, model->entry_product[e], model->entry_weight[e] / count);
	}
}

/*
 * UP-CF: everybody is asked, as much as he is similar: the products in common by
 * the numbers of products of both, whose shares of the denominator the asymmetry
 * sets; the locality is an exponent.
 */
static void
ask_similar(const OmBasketModel *model, OmBasketWork *work, int self)
{
	const OmBasketParameters *parameters = &model->parameters;
	double mine = pow(work->nown, parameters->asymmetry);

	meet(model, work, self);
	for (int i = 0; i < work->nmet; i++)
	{
		int customer = work->met[i];
		int first = model->first_entry[customer];
		int end = model->first_entry[customer + 1];
		double similarity =
			work->common[customer] / (mine * pow(end - first, 1 - parameters->asymmetry));
		float weight = pow(similarity, parameters->locality);

		for (int e = first; e < end && customer != self && weight > 0; e++)
			if (model->entry_share[e] > 0)
				add_near(work, model->entry_product[e], weight * model->entry_share[e]);
	}
	part(work);
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
		if (work->own != NULL)
			pfree(work->own);
		work->own_room = lines * 2;
		work->own = MemoryContextAllocHuge(GetMemoryChunkContext(work),
										   sizeof(OmBasketOwn) * work->own_room);
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
	if (algorithm == OM_BASKET_TIFU_KNN || algorithm == OM_BASKET_BLEND)
		ask_nearest(model, work, self);
	else if (algorithm == OM_BASKET_UP_CF)
		ask_similar(model, work, self);
}

void
om_basketscores_forget(OmBasketWork *work)
{
	for (int i = 0; i < work->nown; i++)
		work->place[work->own[i].product] = -1;
	for (int i = 0; i < work->nnear; i++)
		work->near[work->near_products[i]] = 0;
	work->nown = 0;
	work->nnear = 0;
}

static float
near_weight(const OmBasketWork *work, int32 product)
{
	return product < work->nproducts ? work->near[product] : 0;
}

void
om_basketscores_describe(const OmBasketModel *model, const OmBasketWork *work,
						 const OmBasketOwn *own, int nbaskets, float *features)
{
	int product = Min(own->product, work->nproducts);
	float share = (float) own->count / nbaskets;
	float near = near_weight(work, own->product);
	float rebuy = model->log_rebuy[product];
	int n = 0;

	features[n++] = 1;
	features[n++] = logf(own->weight + 1e-3f) + 7;
	features[n++] = share;
	features[n++] = logf(1 + own->count);
	features[n++] = logf(own->faded) + 3;
	features[n++] = 1.0f / (1 + own->age);
	features[n++] = own->age == 0;
	features[n++] = rebuy;
	features[n++] = model->log_recent[product];
	features[n++] = model->log_popular[product];
	features[n++] = om_basketmodel_log_near(near);
	features[n++] = near * 10;
	features[n++] = own->weight * 3;
	features[n++] = logf(nbaskets);
	features[n++] = share * logf(nbaskets);
	features[n++] = logf(1 + own->age);
	features[n++] = work->rebuying;
	features[n++] = (rebuy - 5) * work->rebuying;
	features[n++] = (1 + own->age) * share;
	Assert(n == OM_BASKET_OWNED_FEATURES);
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

static void
choose_personal(Choosing *choosing, bool popularity_ties)
{
	OmBasketWork *work = choosing->work;

	for (int i = 0; i < work->nown; i++)
	{
		OmBasketOwn *own = &work->own[i];

		offer(choosing, own->product, (double) own->count / choosing->nbaskets,
			  popularity_ties ? popularity_of(choosing->model, own->product) : 0);
	}
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
				  near_part * near_weight(work, own->product),
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

	om_basketscores_describe(model, work, own, nbaskets, features);
	for (int i = 0; i < OM_BASKET_OWNED_FEATURES; i++)
		score += model->parameters.owned_weights[i] * features[i];
	return score;
}

/* What nobody near has had differs by itself only: the first k of them are enough. */
static void
offer_the_rest(Choosing *choosing)
{
	const OmBasketModel *model = choosing->model;
	OmBasketWork *work = choosing->work;
	double by_near =
		model->parameters.other_weights[OM_OTHER_NEAR_LOG] * om_basketmodel_log_near(0);
	int offered = 0;

	for (int i = 0; i < model->baskets->nproducts && offered < choosing->k; i++)
	{
		int32 product = model->by_other_score[i];

		if (work->place[product] >= 0 || work->near[product] > 0 || model->count[product] == 0)
			continue;
		offer(choosing, product, model->other_score[product] + by_near, 0);
		offered++;
	}
}

static void
choose_blend(Choosing *choosing)
{
	const OmBasketModel *model = choosing->model;
	OmBasketWork *work = choosing->work;
	const double *weights = model->parameters.other_weights;

	for (int i = 0; i < work->nown; i++)
		offer(choosing, work->own[i].product,
			  score_owned(model, work, &work->own[i], choosing->nbaskets), 0);
	for (int i = 0; i < work->nnear; i++)
	{
		int32 product = work->near_products[i];
		float near = work->near[product];

		if (work->place[product] < 0)
			offer(choosing, product,
				  model->other_score[product] +
					  weights[OM_OTHER_NEAR_LOG] * om_basketmodel_log_near(near) +
					  weights[OM_OTHER_NEAR] * near * 10,
				  0);
	}
	offer_the_rest(choosing);
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
			choose_personal(choosing, false /* popularity_ties */);
			break;
		case OM_BASKET_PERSONAL_POPULARITY_TIES:
			choose_personal(choosing, true /* popularity_ties */);
			break;
		case OM_BASKET_TIFU_KNN:
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
