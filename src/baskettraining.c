/*
 * baskettraining.c
 *		Trains a model of next baskets, and measures how good one is.
 *
 * Training holds back the last basket of every customer, trains and tries on the
 * rest, and keeps what was best: nobody sees a basket that comes later.  How good
 * that is, is measured on customers who had no part in it.  The model itself is
 * then made of all baskets.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "basketexamples.h"
#include "basketscores.h"
#include "baskettraining.h"

/* Choices between hyper-parameters are made by so many customers. */
#define TRIAL_CUSTOMERS 1500

#define VALIDATION_K 10

/* ---------- measuring ---------- */

static bool
is_measured(const OmBasketMeasure *measure, int customer)
{
	const OmBaskets *baskets = measure->model->baskets;
	bool for_measuring;

	if (om_baskets_of(baskets, customer) == 0)
		return false;
	if (measure->whom == OM_BASKET_ALL)
		return true;
	for_measuring = om_basket_part(baskets, customer) == OM_BASKET_FOR_MEASURING;
	return for_measuring == (measure->whom == OM_BASKET_ONLY_MEASURING) &&
		   om_basket_is_sampled(baskets, customer, measure->one_of);
}

static int
predict_customer(const OmBasketMeasure *measure, OmBasketWork *work, int customer, int32 *products)
{
	const OmBaskets *baskets = measure->model->baskets;
	OmBasketChoice choice[OM_BASKET_MAX_K];
	OmBasketRun run =
		om_baskets_run(baskets, customer, om_baskets_of(baskets, customer), 0 /* room */);
	int count = om_basketscores_choose(measure->model, work, &run, customer,
									   measure->ks[measure->nks - 1], choice);

	for (int i = 0; i < count; i++)
		products[i] = choice[i].product;
	pfree(run.items);
	pfree(run.nitems);
	return count;
}

static void
measure_customer(const OmBasketMeasure *measure, OmBasketWork *work, int customer,
				 OmBasketMetrics *sums)
{
	const OmBaskets *whole = measure->whole;
	int truth = whole->first_basket[customer + 1] - 1;
	int32 products[OM_BASKET_MAX_K];
	int count = predict_customer(measure, work, customer, products);

	for (int i = 0; i < measure->nks; i++)
	{
		OmBasketMetrics metrics =
			om_basketmetrics_measure(products, count, whole->items + whole->first_item[truth],
									 om_baskets_nitems(whole, truth), measure->ks[i]);

		om_basketmetrics_add(&sums[i], &metrics);
	}
}

void
om_baskettraining_measure(const OmBasketMeasure *measure, OmBasketMetrics *results, int *counts)
{
	OmBasketWork *work = om_basketscores_begin(measure->model);

	memset(results, 0, sizeof(OmBasketMetrics) * measure->nfolds * measure->nks);
	memset(counts, 0, sizeof(int) * measure->nfolds);
	for (int i = 0; i < measure->model->baskets->ncustomers; i++)
	{
		int fold = i % measure->nfolds;

		CHECK_FOR_INTERRUPTS();
		if (!is_measured(measure, i))
			continue;
		measure_customer(measure, work, i, results + fold * measure->nks);
		counts[fold]++;
	}
	for (int i = 0; i < measure->nfolds * measure->nks; i++)
	{
		double count = Max(counts[i / measure->nks], 1);

		results[i].recall /= count;
		results[i].ndcg /= count;
		results[i].ndcg_min /= count;
	}
	om_basketscores_end(work);
}

/* ---------- choosing hyper-parameters ---------- */

typedef struct Trial
{
	const OmBaskets *shorter;
	const OmBaskets *whole;
	OmBasketParameters best;
	double best_result;
} Trial;

static void
try_parameters(Trial *trial, const OmBasketParameters *parameters)
{
	static const int ks[] = {VALIDATION_K};
	OmBasketModel *model = om_basketmodel_build(trial->shorter, parameters);
	OmBasketMeasure measure = {.model = model,
							   .whole = trial->whole,
							   .nks = 1,
							   .ks = ks,
							   .nfolds = 1,
							   .whom = OM_BASKET_BUT_MEASURING,
							   .one_of = trial->shorter->ncustomers *
											 (int64) (OM_BASKET_SHARES - 1) / OM_BASKET_SHARES /
											 TRIAL_CUSTOMERS +
										 1};
	OmBasketMetrics result;
	int count;

	om_baskettraining_measure(&measure, &result, &count);
	om_basketmodel_free(model);
	if (result.recall + result.ndcg <= trial->best_result)
		return;
	trial->best = *parameters;
	trial->best_result = result.recall + result.ndcg;
}

/* One after the other, each with the best of those before. */
static void
try_doubles(Trial *trial, size_t offset, const double *values, int count)
{
	OmBasketParameters parameters = trial->best;

	for (int i = 0; i < count; i++)
	{
		double *value = (double *) ((char *) &parameters + offset);

		if (*(double *) ((char *) &trial->best + offset) == values[i])
			continue;
		*value = values[i];
		try_parameters(trial, &parameters);
	}
}

static void
try_ints(Trial *trial, size_t offset, const int *values, int count)
{
	OmBasketParameters parameters = trial->best;

	for (int i = 0; i < count; i++)
	{
		int *value = (int *) ((char *) &parameters + offset);

		if (*(int *) ((char *) &trial->best + offset) == values[i])
			continue;
		*value = values[i];
		try_parameters(trial, &parameters);
	}
}

#define TRY_DOUBLES(trial, member, ...)                                                 \
	try_doubles((trial), offsetof(OmBasketParameters, member), (double[]){__VA_ARGS__}, \
				lengthof(((double[]){__VA_ARGS__})))
#define TRY_INTS(trial, member, ...)                                              \
	try_ints((trial), offsetof(OmBasketParameters, member), (int[]){__VA_ARGS__}, \
			 lengthof(((int[]){__VA_ARGS__})))

static void
choose_parameters(Trial *trial)
{
	OmBasketParameters first = trial->best;

	try_parameters(trial, &first);
	if (om_basket_is_tifu(first.algorithm))
	{
		TRY_DOUBLES(trial, alpha, 0.3, 0.5, 0.7, 0.9);
		TRY_INTS(trial, groups, 3, 7, 11);
		TRY_DOUBLES(trial, group_decay, 0.5, 0.7, 0.9);
		TRY_DOUBLES(trial, within_decay, 0.7, 0.9, 1);
		TRY_INTS(trial, neighbours, 100, 300, 600);
	}
	else
	{
		TRY_INTS(trial, recency, 5, 10, 25, 100);
		TRY_DOUBLES(trial, asymmetry, 0, 0.25, 0.5, 0.75, 1);
		TRY_DOUBLES(trial, locality, 1, 2, 5, 10, 25);
	}
}

/* ---------- training ---------- */

void
om_baskettraining_validate(const OmBasketModel *model, const OmBaskets *whole,
						   OmBasketResult *result)
{
	static const int ks[] = {VALIDATION_K};
	OmBasketMeasure measure = {.model = model,
							   .whole = whole,
							   .nks = 1,
							   .ks = ks,
							   .nfolds = 1,
							   .whom = OM_BASKET_ONLY_MEASURING,
							   .one_of =
								   whole->ncustomers / (OM_BASKET_SHARES * TRIAL_CUSTOMERS) + 1};

	om_baskettraining_measure(&measure, &result->validation, &result->nvalidation);
}

OmBasketResult
om_baskettraining_train(const OmBaskets *baskets, const OmBasketTask *task)
{
	const OmBaskets *shorter = om_baskets_without_last(baskets);
	Trial trial = {.shorter = shorter, .whole = baskets, .best = task->first, .best_result = -1};
	OmBasketAlgorithm algorithm = task->first.algorithm;
	OmBasketResult result = {0};
	OmBasketModel *model;

	if ((om_basket_is_tifu(algorithm) || algorithm == OM_BASKET_UP_CF) && !task->is_fixed)
		choose_parameters(&trial);
	model = om_basketmodel_build(shorter, &trial.best);
	if (algorithm == OM_BASKET_BLEND && !task->is_fixed)
		result.learnt = om_basketlearning_learn(model, baskets, task->left_out);
	om_baskettraining_validate(model, baskets, &result);
	result.parameters = model->parameters;
	om_basketmodel_free(model);
	return result;
}
