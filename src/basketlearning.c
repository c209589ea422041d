/*
 * basketlearning.c
 *		Learns the weights of the blend.
 *
 * A customer's list are the products that might come next; those that came in the
 * basket that was held back are to get the largest part of a softmax over the
 * list (a listwise loss, convex in the weights), minimised by Adam in batches.
 * Of products that nobody near has had, which are most, a sample stands for all.
 * Few customers move the weights little away from where they begin.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "basketlearning.h"
#include "basketscores.h"

#define MAX_LISTS 6000
#define EPOCHS 8
#define BATCH_LISTS 64
#define STEP 0.05
#define STEP_SHRINKS 0.75

/* Weight of the first values, in lists. */
#define ANCHOR 20.0

/* Below this weight among the neighbours, one of so many products is looked at, at least, and so many in all. */
#define NEAR_ENOUGH 0.002f
#define LEAST_SAMPLE 25
#define SAMPLED_PRODUCTS 500

#define NWEIGHTS (OM_BASKET_OWNED_FEATURES + OM_BASKET_OTHER_FEATURES)

typedef struct Row
{
	float offset; /* what it stands for besides itself, as a logarithm */
	bool is_owned;
	bool is_hit;
} Row;

typedef struct ExampleList
{
	int64 first_row;
	int64 first_feature;
	int nrows;
	int nhits;
} ExampleList;

typedef struct Examples
{
	ExampleList *lists;
	int nlists;
	Row *rows;
	int64 nrows;
	int64 rows_room;
	float *features;
	int64 nfeatures;
	int64 features_room;
} Examples;

/* ---------- examples ---------- */

static float *
add_row(Examples *examples, bool is_owned, bool is_hit, float offset)
{
	int width = is_owned ? OM_BASKET_OWNED_FEATURES : OM_BASKET_OTHER_FEATURES;
	ExampleList *list = &examples->lists[examples->nlists];
	float *features;

	if (examples->nrows == examples->rows_room)
	{
		examples->rows_room *= 2;
		examples->rows = repalloc_huge(examples->rows, sizeof(Row) * examples->rows_room);
	}
	if (examples->nfeatures + width > examples->features_room)
	{
		examples->features_room *= 2;
		examples->features =
			repalloc_huge(examples->features, sizeof(float) * examples->features_room);
	}
	examples->rows[examples->nrows++] = (Row){offset, is_owned, is_hit};
	features = examples->features + examples->nfeatures;
	examples->nfeatures += width;
	list->nrows++;
	list->nhits += is_hit;
	return features;
}

static void
add_other(Examples *examples, const OmBasketModel *model, int32 product, float near, bool is_hit,
		  float offset)
{
	float *features = add_row(examples, false /* is_owned */, is_hit, offset);

	features[OM_OTHER_RECENT] = model->log_recent[product];
	features[OM_OTHER_POPULAR] = model->log_popular[product];
	features[OM_OTHER_NEAR_LOG] = om_basketmodel_log_near(near);
	features[OM_OTHER_NEAR] = near * 10;
	features[OM_OTHER_REBUY] = model->log_rebuy[product];
}

/* hit[] marks the products of the basket that was held back. */
static void
add_products(Examples *examples, const OmBasketModel *model, const OmBasketWork *work,
			 const bool *hit, int nbaskets, int customer)
{
	int nproducts = model->baskets->nproducts;
	int sample = Max(LEAST_SAMPLE, nproducts / SAMPLED_PRODUCTS);

	for (int i = 0; i < work->nown; i++)
		om_basketscores_describe(
			model, work, &work->own[i], nbaskets,
			add_row(examples, true /* is_owned */, hit[work->own[i].product], 0 /* offset */));
	for (int i = 0; i < work->nnear; i++)
	{
		int32 product = work->near_products[i];
		float near = work->near[product];

		if (near >= NEAR_ENOUGH && work->place[product] < 0)
			add_other(examples, model, product, near, hit[product], 0 /* offset */);
	}
	for (int product = customer % sample; product < nproducts; product += sample)
		if (work->near[product] < NEAR_ENOUGH && work->place[product] < 0 &&
			model->count[product] > 0)
			add_other(examples, model, product, work->near[product], hit[product], logf(sample));
}

static void
mark(bool *hit, const OmBaskets *whole, int basket, bool value)
{
	for (int i = whole->first_item[basket]; i < whole->first_item[basket + 1]; i++)
		hit[whole->items[i]] = value;
}

static void
add_list(Examples *examples, const OmBasketModel *model, OmBasketWork *work, const OmBaskets *whole,
		 int customer, bool *hit)
{
	int nbaskets = om_baskets_of(model->baskets, customer);
	int held_back = whole->first_basket[customer + 1] - 1;
	ExampleList *list = &examples->lists[examples->nlists];
	OmBasketRun run = om_baskets_run(model->baskets, customer, nbaskets, 0 /* room */);

	*list = (ExampleList){.first_row = examples->nrows, .first_feature = examples->nfeatures};
	om_basketscores_look(model, work, &run, customer);
	mark(hit, whole, held_back, true);
	add_products(examples, model, work, hit, nbaskets, customer);
	mark(hit, whole, held_back, false);
	om_basketscores_forget(work);
	pfree(run.items);
	pfree(run.nitems);
	if (list->nhits > 0)
	{
		examples->nlists++;
		return;
	}
	/* Nothing of what came can be learnt. */
	examples->nrows = list->first_row;
	examples->nfeatures = list->first_feature;
}

static bool
is_example(const OmBasketModel *model, int customer)
{
	return om_baskets_of(model->baskets, customer) > 0 && !OM_BASKET_IS_FOR_VALIDATION(customer);
}

static void
collect(Examples *examples, const OmBasketModel *model, const OmBaskets *whole)
{
	OmBasketWork *work = om_basketscores_begin(model);
	bool *hit = palloc0(Max(model->baskets->nproducts, 1));
	int stride = model->baskets->ncustomers / MAX_LISTS + 1;

	examples->lists = palloc(sizeof(ExampleList) * (MAX_LISTS + 1));
	examples->rows_room = 1024;
	examples->rows = palloc(sizeof(Row) * examples->rows_room);
	examples->features_room = 1024 * OM_BASKET_OWNED_FEATURES;
	examples->features = palloc(sizeof(float) * examples->features_room);
	for (int i = 0; i < model->baskets->ncustomers && examples->nlists < MAX_LISTS; i++)
	{
		CHECK_FOR_INTERRUPTS();
		/* Not each stride-th itself: a multiple of 5 would meet none but those for validation. */
		if (i / stride * stride + i / stride % stride == i && is_example(model, i))
			add_list(examples, model, work, whole, i, hit);
	}
	pfree(hit);
	om_basketscores_end(work);
}

/* ---------- descent ---------- */

typedef struct Descent
{
	double weights[NWEIGHTS];
	double first[NWEIGHTS];
	double gradient[NWEIGHTS];
	double mean[NWEIGHTS];
	double spread[NWEIGHTS];
	int steps;
	double step;
	double *parts;
	int parts_room;
} Descent;

static int
first_weight(const Row *row)
{
	return row->is_owned ? 0 : OM_BASKET_OWNED_FEATURES;
}

static int
width_of(const Row *row)
{
	return row->is_owned ? OM_BASKET_OWNED_FEATURES : OM_BASKET_OTHER_FEATURES;
}

static double
score_row(const Descent *descent, const Row *row, const float *features)
{
	const double *weights = descent->weights + first_weight(row);
	double score = row->offset;

	for (int i = 0; i < width_of(row); i++)
		score += weights[i] * features[i];
	return score;
}

/* Each row's part of the softmax. */
static void
share_out(Descent *descent, const ExampleList *list, const Row *rows, const float *features)
{
	double highest = -DBL_MAX;
	double sum = 0;

	for (int i = 0; i < list->nrows; features += width_of(&rows[i++]))
	{
		descent->parts[i] = score_row(descent, &rows[i], features);
		highest = Max(highest, descent->parts[i]);
	}
	for (int i = 0; i < list->nrows; i++)
		sum += descent->parts[i] = exp(descent->parts[i] - highest);
	for (int i = 0; i < list->nrows; i++)
		descent->parts[i] /= sum;
}

static void
add_gradient(Descent *descent, const Examples *examples, const ExampleList *list)
{
	const Row *rows = examples->rows + list->first_row;
	const float *features = examples->features + list->first_feature;

	if (list->nrows > descent->parts_room)
	{
		descent->parts_room = list->nrows * 2;
		descent->parts = repalloc_huge(descent->parts, sizeof(double) * descent->parts_room);
	}
	share_out(descent, list, rows, features);
	for (int i = 0; i < list->nrows; features += width_of(&rows[i++]))
	{
		double error = descent->parts[i] - (rows[i].is_hit ? 1.0 / list->nhits : 0);
		double *gradient = descent->gradient + first_weight(&rows[i]);

		for (int j = 0; j < width_of(&rows[i]); j++)
			gradient[j] += error * features[j];
	}
}

static void
step(Descent *descent, int batch, int nlists)
{
	descent->steps++;
	for (int i = 0; i < NWEIGHTS; i++)
	{
		double gradient = descent->gradient[i] / batch +
						  ANCHOR / nlists * (descent->weights[i] - descent->first[i]);

		descent->mean[i] = 0.9 * descent->mean[i] + 0.1 * gradient;
		descent->spread[i] = 0.999 * descent->spread[i] + 0.001 * gradient * gradient;
		descent->weights[i] -= descent->step * (descent->mean[i] / (1 - pow(0.9, descent->steps))) /
							   (sqrt(descent->spread[i] / (1 - pow(0.999, descent->steps))) + 1e-8);
		descent->gradient[i] = 0;
	}
}

/* A sequence of its own: the same data give the same weights, whatever else the session does. */
static void
shuffle(int *order, int count, uint32 *seed)
{
	for (int i = count - 1; i > 0; i--)
	{
		int other;
		int swap = order[i];

		*seed = *seed * 1664525 + 1013904223;
		other = (uint64) *seed * (i + 1) >> 32;
		order[i] = order[other];
		order[other] = swap;
	}
}

static void
descend(Descent *descent, const Examples *examples)
{
	int *order = palloc(sizeof(int) * examples->nlists);
	uint32 seed = 1;

	for (int i = 0; i < examples->nlists; i++)
		order[i] = i;
	for (int epoch = 0; epoch < EPOCHS; epoch++)
	{
		int batch = 0;

		CHECK_FOR_INTERRUPTS();
		shuffle(order, examples->nlists, &seed);
		for (int i = 0; i < examples->nlists; i++)
		{
			add_gradient(descent, examples, &examples->lists[order[i]]);
			if (++batch < BATCH_LISTS && i < examples->nlists - 1)
				continue;
			step(descent, batch, examples->nlists);
			batch = 0;
		}
		descent->step *= STEP_SHRINKS;
	}
	pfree(order);
}

static void
set_weights(OmBasketParameters *parameters, const double *weights)
{
	memcpy(parameters->owned_weights, weights, sizeof(parameters->owned_weights));
	memcpy(parameters->other_weights, weights + OM_BASKET_OWNED_FEATURES,
		   sizeof(parameters->other_weights));
}

static void
get_weights(const OmBasketParameters *parameters, double *weights)
{
	memcpy(weights, parameters->owned_weights, sizeof(parameters->owned_weights));
	memcpy(weights + OM_BASKET_OWNED_FEATURES, parameters->other_weights,
		   sizeof(parameters->other_weights));
}

void
om_basketlearning_learn(OmBasketModel *model, const OmBaskets *whole)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt learning", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Examples examples = {0};
	Descent descent = {.step = STEP};

	collect(&examples, model, whole);
	descent.parts = palloc(sizeof(double));
	get_weights(&model->parameters, descent.weights);
	memcpy(descent.first, descent.weights, sizeof(descent.first));
	if (examples.nlists > 0)
		descend(&descent, &examples);
	set_weights(&model->parameters, descent.weights);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	om_basketmodel_weigh(model);
}
