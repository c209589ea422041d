/*
 * demandscore.h
 *		How good forecasts of demand would have been.
 */
#ifndef OM_DEMANDSCORE_H
#define OM_DEMANDSCORE_H

#include "postgres.h"

#include "demandmodel.h"

#define OM_DEMAND_WEEKS_AHEAD 4

/* Sums over products and origins, for the n-th week ahead. */
typedef struct OmDemandScore
{
	double error[OM_DEMAND_WEEKS_AHEAD]; /* |expected - actual| */
	double bias[OM_DEMAND_WEEKS_AHEAD];  /* expected - actual */
} OmDemandScore;

typedef struct OmDemandEvaluation
{
	int32 nproducts;
	int32 norigins;
	double actual[OM_DEMAND_WEEKS_AHEAD];
	OmDemandScore score[OM_DEMAND_ALGORITHMS];
	/* Intervals of the algorithm of the options, by spans: how many there were, and in how many it came to lie. */
	double intervals[OM_DEMAND_SPANS];
	double covered[OM_DEMAND_SPANS];
} OmDemandEvaluation;

/*
 * Rolling origin: for each of the last "weeks" weeks trains on what was before
 * and forecasts it and up to three more.  Products are the "top" by units
 * ordered before the first of these weeks.
 */
extern OmDemandEvaluation *om_demand_evaluate(const OmDemandHistory *history,
											  const OmDemandOptions *options, int32 weeks,
											  int32 top);

#endif /* OM_DEMANDSCORE_H */
