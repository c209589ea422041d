/*
 * basketexamples.c
 *		What the weights of the blend are learnt from: lists of products that might have come next.
 *
 * Of products that nobody near has had, which are most, a sample stands for all.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "basketexamples.h"
#include "basketscores.h"

/* Below this weight among the neighbours, one of so many products is looked at, at least, and so many in all. */
#define NEAR_ENOUGH 0.002f
#define LEAST_SAMPLE 40
#define SAMPLED_PRODUCTS 300

static float *
add_row(OmBasketExamples *examples, bool is_owned, bool is_hit, float offset)
{
	OmBasketList *list = &examples->lists[examples->nlists];
	OmBasketRow row = {offset, is_owned, is_hit};
	int width = om_basket_row_width(&row);
	float *features;

	if (examples->nrows == examples->rows_room)
	{
		examples->rows_room *= 2;
		examples->rows = repalloc_huge(examples->rows, sizeof(OmBasketRow) * examples->rows_room);
	}
	if (examples->nfeatures + width > examples->features_room)
	{
		examples->features_room *= 2;
		examples->features =
			repalloc_huge(examples->features, sizeof(float) * examples->features_room);
	}
	examples->rows[examples->nrows++] = row;
	features = examples->features + examples->nfeatures;
	examples->nfeatures += width;
	list->nrows++;
	list->nhits += is_hit;
	return features;
}

typedef struct Collecting
{
	OmBasketExamples *examples;
	const OmBasketModel *model;
	const OmBaskets *whole;
	OmBasketWork *work;
	bool *hit; /* marks the products of the basket that was held back */
	int nbaskets;
} Collecting;

static void
add_owned(const Collecting *collecting, const OmBasketOwn *own)
{
	const OmBasketWork *work = collecting->work;
	float *features = add_row(collecting->examples, true /* is_owned */,
							  collecting->hit[own->product], 0 /* offset */);

	om_basketfeatures_describe_owned(collecting->model, own, collecting->nbaskets,
									 om_basketscores_near(work, own->product), work->rebuying,
									 features);
}

static void
add_other(const Collecting *collecting, int32 product, float offset)
{
	float *features =
		add_row(collecting->examples, false /* is_owned */, collecting->hit[product], offset);

	om_basketfeatures_describe_other(collecting->model, product, collecting->nbaskets,
									 collecting->work->near[product], features);
}

/* Products that nobody near has had, nor he. */
static bool
is_far(const Collecting *collecting, int32 product)
{
	return collecting->work->near[product] < NEAR_ENOUGH && collecting->work->place[product] < 0 &&
		   collecting->model->count[product] > 0;
}

/* Those that came are there, each for itself, and a sample of the others for all of them. */
static void
add_far(const Collecting *collecting, int customer, int held_back)
{
	const OmBaskets *whole = collecting->whole;
	int nproducts = collecting->model->baskets->nproducts;
	int sample = Max(LEAST_SAMPLE, nproducts / SAMPLED_PRODUCTS);

	for (int i = whole->first_item[held_back]; i < whole->first_item[held_back + 1]; i++)
		if (is_far(collecting, whole->items[i]))
			add_other(collecting, whole->items[i], 0 /* offset */);
	for (int product = customer % sample; product < nproducts; product += sample)
		if (is_far(collecting, product) && !collecting->hit[product])
			add_other(collecting, product, logf(sample));
}

static void
add_products(const Collecting *collecting, int customer, int held_back)
{
	const OmBasketWork *work = collecting->work;

	for (int i = 0; i < work->nown; i++)
		add_owned(collecting, &work->own[i]);
	for (int i = 0; i < work->nnear; i++)
	{
		int32 product = work->near_products[i];

		if (work->near[product] >= NEAR_ENOUGH && work->place[product] < 0)
			add_other(collecting, product, 0 /* offset */);
	}
	add_far(collecting, customer, held_back);
}

static void
mark(const Collecting *collecting, int basket, bool value)
{
	const OmBaskets *whole = collecting->whole;

	for (int i = whole->first_item[basket]; i < whole->first_item[basket + 1]; i++)
		collecting->hit[whole->items[i]] = value;
}

static void
add_list(Collecting *collecting, int customer)
{
	const OmBaskets *baskets = collecting->model->baskets;
	OmBasketExamples *examples = collecting->examples;
	int held_back = collecting->whole->first_basket[customer + 1] - 1;
	OmBasketList *list = &examples->lists[examples->nlists];
	OmBasketRun run =
		om_baskets_run(baskets, customer, om_baskets_of(baskets, customer), 0 /* room */);

	*list = (OmBasketList){.part = om_basket_part(baskets, customer),
						   .first_row = examples->nrows,
						   .first_feature = examples->nfeatures};
	collecting->nbaskets = run.nbaskets;
	om_basketscores_look(collecting->model, collecting->work, &run, customer);
	mark(collecting, held_back, true);
	add_products(collecting, customer, held_back);
	mark(collecting, held_back, false);
	om_basketscores_forget(collecting->work);
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

static OmBasketExamples *
make_empty(int most)
{
	OmBasketExamples *examples = palloc0(sizeof(OmBasketExamples));

	examples->lists = palloc(sizeof(OmBasketList) * (most + 1));
	examples->rows_room = 1024;
	examples->rows = palloc(sizeof(OmBasketRow) * examples->rows_room);
	examples->features_room = 1024 * OM_BASKET_OWNED_FEATURES;
	examples->features = palloc(sizeof(float) * examples->features_room);
	return examples;
}

OmBasketExamples *
om_basketexamples_collect(const OmBasketModel *model, const OmBaskets *whole, int most)
{
	const OmBaskets *baskets = model->baskets;
	int one_of = (int64) baskets->ncustomers * (OM_BASKET_SHARES - 1) / OM_BASKET_SHARES / most + 1;
	Collecting collecting = {.examples = make_empty(most),
							 .model = model,
							 .whole = whole,
							 .work = om_basketscores_begin(model),
							 .hit = palloc0(Max(baskets->nproducts, 1))};

	for (int i = 0; i < baskets->ncustomers && collecting.examples->nlists < most; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (om_baskets_of(baskets, i) > 0 &&
			om_basket_part(baskets, i) != OM_BASKET_FOR_MEASURING &&
			om_basket_is_sampled(baskets, i, one_of))
			add_list(&collecting, i);
	}
	pfree(collecting.hit);
	om_basketscores_end(collecting.work);
	return collecting.examples;
}
