/*
 * basketmetrics.c
 *		How good a list of predicted products is.
 */
#include "postgres.h"

#include <math.h>

#include "basketmetrics.h"

/* What a hit counts at this rank, from 0. */
static double
gain_at(int rank)
{
	return 1 / log2(rank + 2);
}

static double
best_gain(int count)
{
	double sum = 0;

	for (int i = 0; i < count; i++)
		sum += gain_at(i);
	return sum;
}

static bool
is_among(int32 product, const int32 *truth, int ntruth)
{
	int low = 0;
	int high = ntruth;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (truth[middle] < product)
			low = middle + 1;
		else
			high = middle;
	}
	return low < ntruth && truth[low] == product;
}

OmBasketMetrics
om_basketmetrics_measure(const int32 *predicted, int npredicted, const int32 *truth, int ntruth,
						 int k)
{
	int hits = 0;
	double gain = 0;

	for (int i = 0; i < Min(npredicted, k); i++)
		if (is_among(predicted[i], truth, ntruth))
		{
			hits++;
			gain += gain_at(i);
		}
	return (OmBasketMetrics){.recall = (double) hits / ntruth,
							 .ndcg = gain / best_gain(ntruth),
							 .ndcg_min = gain / best_gain(Min(ntruth, k))};
}

void
om_basketmetrics_add(OmBasketMetrics *sum, const OmBasketMetrics *more)
{
	sum->recall += more->recall;
	sum->ndcg += more->ndcg;
	sum->ndcg_min += more->ndcg_min;
}
