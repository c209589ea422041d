/*
 * basketmetrics.h
 *		How good a list of predicted products is.
 */
#ifndef OM_BASKETMETRICS_H
#define OM_BASKETMETRICS_H

#include "postgres.h"

/*
 * Of the first k predictions: recall = hits / number of true products.  NDCG is
 * the sum of 1 / log2(rank + 1) over the hits, divided by what the best order
 * would have.  ndcg: the best list has all true products, however many;
 * ndcg_min: it has k at most, so that 1 can be reached.
 */
typedef struct OmBasketMetrics
{
	double recall;
	double ndcg;
	double ndcg_min;
} OmBasketMetrics;

/* The truth is in ascending order and not empty. */
extern OmBasketMetrics om_basketmetrics_measure(const int32 *predicted, int npredicted,
												const int32 *truth, int ntruth, int k);

extern void om_basketmetrics_add(OmBasketMetrics *sum, const OmBasketMetrics *more);

#endif /* OM_BASKETMETRICS_H */
