/*
 * demandmodel.h
 *		How much of each product will be ordered in the coming days.
 *
 * Mathematics only: no SQL, no tables.  docs/demand.md has the formulas.
 */
#ifndef OM_DEMANDMODEL_H
#define OM_DEMANDMODEL_H

#include "postgres.h"

#include "demandmethods.h"

typedef enum OmDemandAlgorithm
{
	OM_DEMAND_AUTO,
	OM_DEMAND_SEASONAL_NAIVE, /* each weekday as a week ago */
	OM_DEMAND_MOVING_AVERAGE, /* the mean of the last four weeks */
	OM_DEMAND_ALGORITHMS
} OmDemandAlgorithm;

typedef struct OmDemandOptions
{
	OmDemandAlgorithm algorithm;
	bool unbiased;    /* the sum of all products counts as much as each of them */
	double interval;  /* the share of what really comes that is to lie between low and high */
	int32 validation; /* weeks at the end of the history by which methods are chosen */
} OmDemandOptions;

#define OM_DEMAND_MAX_VALIDATION 26

typedef struct OmDemandItem
{
	const char *product_id;
	float level[OM_DEMAND_PATHS];  /* units a week */
	float line;                    /* units of an order line */
	float weekday[OM_DEMAND_WEEK]; /* shares of a week, by om_demand_weekday() */
} OmDemandItem;

#define OM_DEMAND_SPANS 4
#define OM_DEMAND_BINS 14

extern const int om_demand_span_days[OM_DEMAND_SPANS];

/* How far sums over spans of days may be from what was expected, as factors. */
typedef struct OmDemandSpread
{
	float low[OM_DEMAND_SPANS][OM_DEMAND_BINS];
	float high[OM_DEMAND_SPANS][OM_DEMAND_BINS];
} OmDemandSpread;

typedef struct OmDemandModel
{
	int32 begin; /* of the history */
	int32 end;   /* of the history: the first day that can be forecast */
	double interval;
	double wape; /* of the next week, in the weeks by which methods were chosen; NaN: none */
	OmDemandOutlook outlook;
	OmDemandSpread spread;
	int32 nitems;
	OmDemandItem *items; /* in the order of the history's products */
} OmDemandModel;

typedef struct OmDemandRange
{
	double expected;
	double low;
	double high;
} OmDemandRange;

/* Learns from all days before "end", in the current memory context. */
extern OmDemandModel *om_demand_train(const OmDemandHistory *history, int32 end,
									  const OmDemandOptions *options);

/* The sum of the days [from, from + ndays), of which none is before the model's end. */
extern OmDemandRange om_demand_forecast(const OmDemandModel *model, const OmDemandItem *item,
										int32 from, int32 ndays);

#endif /* OM_DEMANDMODEL_H */
