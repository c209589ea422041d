/*
 * demandmethods.h
 *		Histories of demand in weeks, and simple methods that forecast from them.
 *
 * Mathematics only: no SQL, no tables.  docs/demand.md has the formulas.
 */
#ifndef OM_DEMANDMETHODS_H
#define OM_DEMANDMETHODS_H

#include "postgres.h"

/* --- what has been ordered ----------------------------------------------------------------------- */

/* One product on one day.  Days are numbered as type date does. */
typedef struct OmDemandDay
{
	int32 day;
	int32 lines;    /* order lines */
	float quantity; /* their units */
} OmDemandDay;

typedef struct OmDemandProduct
{
	const char *product_id;
	int64 first; /* index of its first day, of which it has ndays, in order */
	int32 ndays;
} OmDemandProduct;

typedef struct OmDemandHistory
{
	int32 begin; /* the first day */
	int32 end;   /* the day after the last one */
	OmDemandProduct *products;
	int32 nproducts;
	OmDemandDay *days;
} OmDemandHistory;

/* The first of a product's days that is not before "day", counted from 0. */
extern int om_demand_find_day(const OmDemandHistory *history, const OmDemandProduct *product,
							  int32 day);

/* Units of a product on the days [from, to). */
extern double om_demand_units(const OmDemandHistory *history, const OmDemandProduct *product,
							  int32 from, int32 to);

typedef struct OmDemandVolume
{
	int32 product;
	double units;
} OmDemandVolume;

/* Products by the units ordered on [from, to), most first. */
extern OmDemandVolume *om_demand_rank(const OmDemandHistory *history, int32 from, int32 to);

/* For qsort(). */
extern int om_demand_compare_floats(const void *a, const void *b);

/* --- in weeks ------------------------------------------------------------------------------------- */

#define OM_DEMAND_WEEK 7
#define OM_DEMAND_MAX_WEEKS 156 /* longer ago is not looked at */

/* The history before some day, in weeks that end with it. */
typedef struct OmDemandFrame
{
	const OmDemandHistory *history;
	int32 end;
	int nweeks;
	float shop[OM_DEMAND_MAX_WEEKS]; /* order lines of all products a week, their mean being 1 */
	float weekday[OM_DEMAND_WEEK];   /* shares of the shop's order lines */
	double typical;                  /* units of a week in which a product is ordered */
} OmDemandFrame;

extern OmDemandFrame *om_demand_make_frame(const OmDemandHistory *history, int32 end);

/* A product's weeks, as they were at some origin. */
typedef struct OmDemandSeries
{
	float quantity[OM_DEMAND_MAX_WEEKS];
	float lines[OM_DEMAND_MAX_WEEKS];
	float cut[OM_DEMAND_MAX_WEEKS]; /* quantity without outliers */
	int begin;                      /* the first week in which it was ordered */
	int origin;                     /* the week after the last one that is known */
	float line;                     /* units of an order line */
} OmDemandSeries;

extern void om_demand_fill_weeks(const OmDemandFrame *frame, const OmDemandProduct *product,
								 OmDemandSeries *series);

/* To be called after that, and before any method. */
extern void om_demand_set_origin(const OmDemandFrame *frame, OmDemandSeries *series, int origin);

/* Order lines a week, lately. */
extern double om_demand_frequency(const OmDemandSeries *series);

/* --- methods -------------------------------------------------------------------------------------- */

#define OM_DEMAND_METHODS 30

/* The first one is used where there is nothing to choose by. */
#define OM_METHOD_DEFAULT 0
#define OM_METHOD_LAST_WEEK 1
#define OM_METHOD_AVERAGE 2

/* Ways in which a week's demand goes on over the coming weeks. */
typedef enum OmDemandPath
{
	OM_PATH_FLAT,  /* as it is */
	OM_PATH_SHOP,  /* with the trend of the whole shop */
	OM_PATH_YEAR,  /* as the whole shop went a year ago */
	OM_PATH_TREND, /* its own trend, to be added */
	OM_DEMAND_PATHS
} OmDemandPath;

#define OM_DEMAND_HORIZON 26 /* weeks for which paths are known; the last one goes on */

/* The paths from an origin on. */
typedef struct OmDemandOutlook
{
	float path[OM_DEMAND_PATHS][OM_DEMAND_HORIZON];
} OmDemandOutlook;

extern void om_demand_look_ahead(const OmDemandFrame *frame, int origin, OmDemandOutlook *outlook);

/* Adds what a method says of a product, with some weight, to its levels on the paths (units a week). */
extern void om_demand_add_method(const OmDemandFrame *frame, const OmDemandSeries *series,
								 int method, double weight, float *levels);

/* What levels mean for the n-th week from the origin on, counted from 0. */
extern double om_demand_week(const float *levels, const OmDemandOutlook *outlook, int week);

/* --- weekdays ------------------------------------------------------------------------------------- */

extern int om_demand_weekday(int32 day);

/* How a product's week is divided among weekdays, by what was before the end. */
extern void om_demand_divide_week(const OmDemandFrame *frame, const OmDemandProduct *product,
								  int32 end, float *weekday);

/* As its last week was. */
extern void om_demand_repeat_week(const OmDemandFrame *frame, const OmDemandProduct *product,
								  float *weekday);

#endif /* OM_DEMANDMETHODS_H */
