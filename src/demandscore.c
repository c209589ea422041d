/*
 * demandscore.c
 *		Measures forecasts of demand against what came.
 *
 * Each origin trains on what was before it, whatever the model that is deployed
 * has seen.  The baselines are trained and forecast in the same way.
 */
#include "postgres.h"

#include <math.h>

#include "utils/memutils.h"

#include "demandscore.h"

#define WEEK OM_DEMAND_WEEK

static void
score_product(const OmDemandHistory *history, const OmDemandModel *model, int32 product,
			  OmDemandScore *score, double *actual)
{
	for (int h = 0; h < OM_DEMAND_WEEKS_AHEAD; h++)
	{
		int32 from = model->end + h * WEEK;
		OmDemandRange range;
		double came;

		if (from + WEEK > history->end)
			return;
		came = om_demand_units(history, &history->products[product], from, from + WEEK);
		range = om_demand_forecast(model, &model->items[product], from, WEEK);
		score->error[h] += fabs(range.expected - came);
		score->bias[h] += range.expected - came;
		if (actual != NULL)
			actual[h] += came;
	}
}

/* Does what came lie in the interval?  Days of the first week; the first week; two; four. */
static void
check_intervals(const OmDemandHistory *history, const OmDemandModel *model, int32 product,
				OmDemandEvaluation *evaluation)
{
	for (int span = 0; span < OM_DEMAND_SPANS; span++)
		for (int32 from = model->end; from < model->end + (span == 0 ? WEEK : 1); from++)
		{
			int32 to = from + om_demand_span_days[span];
			OmDemandRange range;
			double came;

			if (to > history->end)
				continue;
			came = om_demand_units(history, &history->products[product], from, to);
			range =
				om_demand_forecast(model, &model->items[product], from, om_demand_span_days[span]);
			evaluation->intervals[span]++;
			evaluation->covered[span] += came >= range.low && came <= range.high;
		}
}

static void
evaluate_origin(const OmDemandHistory *history, const OmDemandOptions *options, int32 origin,
				const OmDemandVolume *ranked, OmDemandEvaluation *evaluation)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "demand", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	OmDemandOptions chosen = *options;

	for (int algorithm = 0; algorithm < OM_DEMAND_ALGORITHMS; algorithm++)
	{
		bool is_ours = algorithm == (int) options->algorithm;
		OmDemandModel *model;

		chosen.algorithm = algorithm;
		chosen.validation = is_ours ? options->validation : 0; /* for its intervals, too */
		model = om_demand_train(history, origin, &chosen);
		for (int i = 0; i < evaluation->nproducts; i++)
		{
			score_product(history, model, ranked[i].product, &evaluation->score[algorithm],
						  is_ours ? evaluation->actual : NULL);
			if (is_ours)
				check_intervals(history, model, ranked[i].product, evaluation);
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

OmDemandEvaluation *
om_demand_evaluate(const OmDemandHistory *history, const OmDemandOptions *options, int32 weeks,
				   int32 top)
{
	OmDemandEvaluation *evaluation = palloc0(sizeof(OmDemandEvaluation));
	int32 first = history->end - weeks * WEEK;
	OmDemandVolume *ranked = om_demand_rank(history, history->begin, first);

	for (int i = 0; i < history->nproducts && i < top; i++)
		evaluation->nproducts += ranked[i].units > 0;
	for (int32 origin = first; origin < history->end; origin += WEEK)
	{
		evaluate_origin(history, options, origin, ranked, evaluation);
		evaluation->norigins++;
	}
	return evaluation;
}
