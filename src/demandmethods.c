/*
 * demandmethods.c
 *		Simple methods that forecast demand, each from a product's weeks.
 *
 * A method makes of the weeks of a product a level, in units a week, which goes
 * on along one of the paths: as it is, or with the whole shop.  Weeks are those
 * that end with the history, and large ones are cut where a method wants it.
 *
 * Nothing depends on chance or on time.
 */
#include "postgres.h"

#include <math.h>

#include "demandmethods.h"

#define WEEK OM_DEMAND_WEEK
#define PROFILE_WEEKS 26 /* weekdays are those of so many weeks */
#define RECENT_WEEKS 13  /* how often a product is ordered */
#define TREND_DAMPING 0.85

/* --- the history ------------------------------------------------------------------------------------ */

int
om_demand_find_day(const OmDemandHistory *history, const OmDemandProduct *product, int32 day)
{
	int low = 0;
	int high = product->ndays;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (history->days[product->first + middle].day < day)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

double
om_demand_units(const OmDemandHistory *history, const OmDemandProduct *product, int32 from,
				int32 to)
{
	double units = 0;

	for (int i = om_demand_find_day(history, product, from); i < product->ndays; i++)
	{
		const OmDemandDay *day = &history->days[product->first + i];

		if (day->day >= to)
			break;
		units += day->quantity;
	}
	return units;
}

static int
compare_volumes(const void *a, const void *b)
{
	const OmDemandVolume *x = a;
	const OmDemandVolume *y = b;

	if (x->units != y->units)
		return x->units < y->units ? 1 : -1;
	return (x->product > y->product) - (x->product < y->product);
}

OmDemandVolume *
om_demand_rank(const OmDemandHistory *history, int32 from, int32 to)
{
	OmDemandVolume *ranked = MemoryContextAllocHuge(
		CurrentMemoryContext, sizeof(OmDemandVolume) * (Size) Max(1, history->nproducts));

	for (int i = 0; i < history->nproducts; i++)
		ranked[i] = (OmDemandVolume){i, om_demand_units(history, &history->products[i], from, to)};
	qsort(ranked, history->nproducts, sizeof(OmDemandVolume), compare_volumes);
	return ranked;
}

int
om_demand_weekday(int32 day)
{
	return ((day % WEEK) + WEEK) % WEEK;
}

/* --- weeks ------------------------------------------------------------------------------------------ */

/* The week of a day; negative where it is before the frame. */
static int
week_of(const OmDemandFrame *frame, int32 day)
{
	int back = (frame->end - 1 - day) / WEEK;

	return day >= frame->end ? frame->nweeks : frame->nweeks - 1 - back;
}

void
om_demand_fill_weeks(const OmDemandFrame *frame, const OmDemandProduct *product,
					 OmDemandSeries *series)
{
	const OmDemandDay *day = &frame->history->days[product->first];

	memset(series->quantity, 0, sizeof(float) * frame->nweeks);
	memset(series->lines, 0, sizeof(float) * frame->nweeks);
	series->begin = frame->nweeks;
	for (const OmDemandDay *last = day + product->ndays; day < last && day->day < frame->end; day++)
	{
		int week = week_of(frame, day->day);

		if (week < 0)
			continue;
		series->quantity[week] += day->quantity;
		series->lines[week] += day->lines;
		series->begin = Min(series->begin, week);
	}
}

static void
count_weekdays(OmDemandFrame *frame)
{
	const OmDemandHistory *history = frame->history;
	double lines = 0;

	for (int i = 0; i < history->nproducts; i++)
	{
		const OmDemandProduct *product = &history->products[i];
		int last = om_demand_find_day(history, product, frame->end);
		int first = om_demand_find_day(history, product, frame->end - PROFILE_WEEKS * WEEK);

		for (const OmDemandDay *day = &history->days[product->first + first];
			 day < &history->days[product->first + last]; day++)
		{
			frame->weekday[om_demand_weekday(day->day)] += day->lines;
			lines += day->lines;
		}
	}
	for (int d = 0; d < WEEK; d++)
		frame->weekday[d] = lines > 0 ? frame->weekday[d] / lines : 1.0 / WEEK;
}

static void
count_weeks(OmDemandFrame *frame)
{
	const OmDemandHistory *history = frame->history;
	OmDemandSeries *series = palloc(sizeof(OmDemandSeries));
	double lines = 0, logs = 0;
	int64 ordered = 0;

	for (int i = 0; i < history->nproducts; i++)
	{
		om_demand_fill_weeks(frame, &history->products[i], series);
		for (int week = series->begin; week < frame->nweeks; week++)
		{
			if (series->quantity[week] <= 0)
				continue;
			frame->shop[week] += series->lines[week];
			lines += series->lines[week];
			logs += log(series->quantity[week]);
			ordered++;
		}
	}
	for (int week = 0; week < frame->nweeks; week++)
		frame->shop[week] = lines > 0 ? frame->shop[week] * frame->nweeks / lines : 1;
	frame->typical = ordered > 0 ? exp(logs / ordered) : 1;
	pfree(series);
}

OmDemandFrame *
om_demand_make_frame(const OmDemandHistory *history, int32 end)
{
	OmDemandFrame *frame = palloc0(sizeof(OmDemandFrame));

	frame->history = history;
	frame->end = end;
	frame->nweeks = Min(OM_DEMAND_MAX_WEEKS, Max(1, (end - history->begin) / WEEK));
	count_weeks(frame);
	count_weekdays(frame);
	return frame;
}

/* --- outliers ----------------------------------------------------------------------------------------- */

int
om_demand_compare_floats(const void *a, const void *b)
{
	float x = *(const float *) a;
	float y = *(const float *) b;

	return (x > y) - (x < y);
}

#define CUT_WEEKS 52
#define CUT_FACTOR 2.5
#define CUT_TRUST 4.0 /* weeks of the shop's other products that are added to those of its own */

/*
 * More than this in a week is an outlier.  A product that was ordered in one
 * week only has no usual week: then the shop's other products count.
 */
static float
outlier_limit(const OmDemandFrame *frame, const OmDemandSeries *series)
{
	float ordered[CUT_WEEKS];
	int n = 0;
	double upper;

	for (int week = Max(series->begin, series->origin - CUT_WEEKS); week < series->origin; week++)
		if (series->quantity[week] > 0)
			ordered[n++] = series->quantity[week];
	if (n == 0)
		return 0;
	qsort(ordered, n, sizeof(float), om_demand_compare_floats);
	upper = log(ordered[(int) (0.75 * (n - 1) + 0.5)]);
	return CUT_FACTOR * exp((n * upper + CUT_TRUST * log(frame->typical)) / (n + CUT_TRUST));
}

/* What is known at an origin; the series has been filled. */
void
om_demand_set_origin(const OmDemandFrame *frame, OmDemandSeries *series, int origin)
{
	double lines = 0, units = 0;
	float limit;

	series->origin = origin;
	limit = outlier_limit(frame, series);
	for (int week = series->begin; week < origin; week++)
	{
		series->cut[week] = Min(series->quantity[week], limit);
		lines = 0.95 * lines + series->lines[week];
		units = 0.95 * units + series->cut[week];
	}
	series->line = lines > 0 ? units / lines : 1;
}

/* --- methods ------------------------------------------------------------------------------------------ */

typedef enum Source
{
	AS_ORDERED,
	CUT,  /* without outliers */
	ROOT, /* square roots, so that large weeks count less */
	LINES /* order lines, times the units of one */
} Source;

typedef enum Smoother
{
	EXPONENTIAL,
	HOLT,         /* with a damped trend */
	INTERMITTENT, /* Teunter, Syntetos and Babai: how often, times how much */
	MEAN,
	MEDIAN
} Smoother;

typedef struct Method
{
	Smoother smoother;
	Source source;
	double parameter; /* of smoothing, or weeks */
	OmDemandPath path;
} Method;

/* The first three have names in the header. */
static const Method methods[OM_DEMAND_METHODS] = {
	{EXPONENTIAL, CUT, 0.2, OM_PATH_FLAT},   {MEAN, AS_ORDERED, 1, OM_PATH_FLAT},
	{MEAN, AS_ORDERED, 4, OM_PATH_FLAT},     {MEAN, CUT, 8, OM_PATH_FLAT},
	{MEDIAN, AS_ORDERED, 4, OM_PATH_FLAT},   {MEDIAN, AS_ORDERED, 8, OM_PATH_FLAT},
	{MEDIAN, AS_ORDERED, 12, OM_PATH_SHOP},  {EXPONENTIAL, AS_ORDERED, 0.15, OM_PATH_FLAT},
	{EXPONENTIAL, CUT, 0.1, OM_PATH_FLAT},   {EXPONENTIAL, CUT, 0.4, OM_PATH_FLAT},
	{EXPONENTIAL, CUT, 0.7, OM_PATH_FLAT},   {EXPONENTIAL, CUT, 0.1, OM_PATH_SHOP},
	{EXPONENTIAL, CUT, 0.2, OM_PATH_SHOP},   {EXPONENTIAL, CUT, 0.4, OM_PATH_SHOP},
	{EXPONENTIAL, CUT, 0.2, OM_PATH_YEAR},   {EXPONENTIAL, ROOT, 0.1, OM_PATH_FLAT},
	{EXPONENTIAL, ROOT, 0.2, OM_PATH_FLAT},  {EXPONENTIAL, ROOT, 0.4, OM_PATH_FLAT},
	{EXPONENTIAL, ROOT, 0.1, OM_PATH_SHOP},  {EXPONENTIAL, ROOT, 0.2, OM_PATH_SHOP},
	{EXPONENTIAL, ROOT, 0.4, OM_PATH_SHOP},  {EXPONENTIAL, ROOT, 0.2, OM_PATH_YEAR},
	{EXPONENTIAL, LINES, 0.2, OM_PATH_FLAT}, {EXPONENTIAL, LINES, 0.4, OM_PATH_FLAT},
	{EXPONENTIAL, LINES, 0.2, OM_PATH_SHOP}, {EXPONENTIAL, LINES, 0.4, OM_PATH_SHOP},
	{EXPONENTIAL, LINES, 0.3, OM_PATH_YEAR}, {HOLT, CUT, 0.3, OM_PATH_FLAT},
	{HOLT, LINES, 0.3, OM_PATH_FLAT},        {INTERMITTENT, CUT, 0.1, OM_PATH_FLAT},
};

/* What a method says of a product, in units a week. */
typedef struct Estimate
{
	double level;
	double trend;
} Estimate;

static const float *
source_of(const OmDemandSeries *series, Source source)
{
	switch (source)
	{
		case LINES:
			return series->lines;
		case AS_ORDERED:
			return series->quantity;
		default:
			return series->cut;
	}
}

/* Weeks that a method reads, from series->begin on; NaN in those that say nothing. */
static void
prepare_input(const OmDemandFrame *frame, const OmDemandSeries *series, const Method *method,
			  float *input)
{
	const float *source = source_of(series, method->source);

	for (int week = series->begin; week < series->origin; week++)
	{
		input[week] = source[week];
		/* In a week without any orders the shop was closed. */
		if (method->path != OM_PATH_FLAT)
			input[week] = frame->shop[week] > 0 ? input[week] / frame->shop[week] : NAN;
		if (method->source == ROOT)
			input[week] = sqrtf(input[week]);
	}
}

/* The first values count alike, until each counts less than the parameter says. */
static double
weight_of(double parameter, int nth)
{
	return Max(parameter, 1.0 / nth);
}

static double
smooth_exponentially(const float *input, int begin, int end, double parameter)
{
	double level = 0;
	int n = 0;

	for (int week = begin; week < end; week++)
		if (!isnan(input[week]))
			level += weight_of(parameter, ++n) * (input[week] - level);
	return level;
}

static Estimate
smooth_with_trend(const float *input, int begin, int end, double parameter)
{
	double level = 0, trend = 0;
	int n = 0;

	for (int week = begin; week < end; week++)
	{
		double before = level;

		level += TREND_DAMPING * trend;
		level += weight_of(parameter, ++n) * (input[week] - level);
		if (n > 4)
			trend = TREND_DAMPING * trend + 0.15 * (level - before - TREND_DAMPING * trend);
	}
	return (Estimate){level, trend};
}

static double
smooth_intermittent(const float *input, int begin, int end, double parameter)
{
	double often = 0, much = 0;
	int n = 0, ordered = 0;

	for (int week = begin; week < end; week++)
	{
		often += weight_of(parameter, ++n) * ((input[week] > 0) - often);
		if (input[week] > 0)
			much += weight_of(parameter, ++ordered) * (input[week] - much);
	}
	return often * much;
}

static double
average_last(const float *input, int begin, int end, int nweeks)
{
	double sum = 0;

	begin = Max(begin, end - nweeks);
	for (int week = begin; week < end; week++)
		sum += input[week];
	return begin < end ? sum / (end - begin) : 0;
}

static double
median_of_last(const float *input, int begin, int end, int nweeks)
{
	float sorted[OM_DEMAND_MAX_WEEKS];
	int n = 0;

	for (int week = Max(begin, end - nweeks); week < end; week++)
		if (!isnan(input[week]))
			sorted[n++] = input[week];
	if (n == 0)
		return 0;
	qsort(sorted, n, sizeof(float), om_demand_compare_floats);
	return (sorted[n / 2] + sorted[(n - 1) / 2]) / 2;
}

static Estimate
smooth(const Method *method, const float *input, int begin, int end)
{
	double parameter = method->parameter;

	switch (method->smoother)
	{
		case HOLT:
			return smooth_with_trend(input, begin, end, parameter);
		case INTERMITTENT:
			return (Estimate){smooth_intermittent(input, begin, end, parameter), 0};
		case MEAN:
			return (Estimate){average_last(input, begin, end, (int) parameter), 0};
		case MEDIAN:
			return (Estimate){median_of_last(input, begin, end, (int) parameter), 0};
		default:
			return (Estimate){smooth_exponentially(input, begin, end, parameter), 0};
	}
}

void
om_demand_add_method(const OmDemandFrame *frame, const OmDemandSeries *series, int nth,
					 double weight, float *levels)
{
	const Method *method = &methods[nth];
	float input[OM_DEMAND_MAX_WEEKS];
	double scale = method->source == LINES ? series->line : 1;
	Estimate estimate;

	if (series->begin >= series->origin)
		return;
	prepare_input(frame, series, method, input);
	estimate = smooth(method, input, series->begin, series->origin);
	if (method->source == ROOT)
		estimate.level *= estimate.level;
	levels[method->path] += weight * scale * estimate.level;
	levels[OM_PATH_TREND] += weight * scale * estimate.trend;
}

double
om_demand_frequency(const OmDemandSeries *series)
{
	return average_last(series->lines, 0, series->origin, RECENT_WEEKS);
}

/* --- paths -------------------------------------------------------------------------------------------- */

/* Where the whole shop seems to be going: a damped trend of its order lines. */
static void
follow_shop(const OmDemandFrame *frame, int origin, float *path)
{
	double level = 0, trend = 0, sum = 0, damping = 1;
	int n = 0;

	for (int week = 0; week < origin; week++)
	{
		double before = level;

		if (frame->shop[week] <= 0)
			continue;
		level += TREND_DAMPING * trend;
		level += weight_of(0.4, ++n) * (frame->shop[week] - level);
		if (n > 4)
			trend = TREND_DAMPING * trend + 0.2 * (level - before - TREND_DAMPING * trend);
	}
	for (int h = 0; h < OM_DEMAND_HORIZON; h++)
	{
		damping *= TREND_DAMPING;
		sum += damping;
		path[h] = Max(level + sum * trend, 0.25 * level);
	}
}

#define YEAR_WEEKS 52

/* As it went a year ago, from the level of the last four weeks on. */
static void
follow_year(const OmDemandFrame *frame, int origin, const float *otherwise, float *path)
{
	int then = origin - YEAR_WEEKS;
	double base, level;

	memcpy(path, otherwise, sizeof(float) * OM_DEMAND_HORIZON);
	if (then < 4)
		return;
	base = average_last(frame->shop, 0, then, 4);
	level = average_last(frame->shop, 0, origin, 4);
	for (int h = 0; h < OM_DEMAND_HORIZON && base > 0; h++)
		path[h] = level * frame->shop[then + h] / base;
}

void
om_demand_look_ahead(const OmDemandFrame *frame, int origin, OmDemandOutlook *outlook)
{
	double damping = 1, sum = 0;

	follow_shop(frame, origin, outlook->path[OM_PATH_SHOP]);
	follow_year(frame, origin, outlook->path[OM_PATH_SHOP], outlook->path[OM_PATH_YEAR]);
	for (int h = 0; h < OM_DEMAND_HORIZON; h++)
	{
		damping *= TREND_DAMPING;
		sum += damping;
		outlook->path[OM_PATH_FLAT][h] = 1;
		outlook->path[OM_PATH_TREND][h] = sum;
	}
}

double
om_demand_week(const float *levels, const OmDemandOutlook *outlook, int week)
{
	double units = 0;

	week = Min(week, OM_DEMAND_HORIZON - 1);
	for (int path = 0; path < OM_DEMAND_PATHS; path++)
		units += (double) levels[path] * outlook->path[path][week];
	return Max(units, 0);
}

/* --- weekdays ----------------------------------------------------------------------------------------- */

#define PROFILE_TRUST \
	30.0 /* order lines of the whole shop that are added to those of the product */

/* How the order lines of a product are divided among weekdays, before the end. */
void
om_demand_divide_week(const OmDemandFrame *frame, const OmDemandProduct *product, int32 end,
					  float *weekday)
{
	const OmDemandHistory *history = frame->history;
	int last = om_demand_find_day(history, product, end);
	double lines = PROFILE_TRUST;

	for (int d = 0; d < WEEK; d++)
		weekday[d] = PROFILE_TRUST * frame->weekday[d];
	for (int i = om_demand_find_day(history, product, end - PROFILE_WEEKS * WEEK); i < last; i++)
	{
		const OmDemandDay *day = &history->days[product->first + i];

		weekday[om_demand_weekday(day->day)] += day->lines;
		lines += day->lines;
	}
	for (int d = 0; d < WEEK; d++)
		weekday[d] /= lines;
}

/* The last week again, day by day. */
void
om_demand_repeat_week(const OmDemandFrame *frame, const OmDemandProduct *product, float *weekday)
{
	const OmDemandHistory *history = frame->history;
	int last = om_demand_find_day(history, product, frame->end);
	double units = 0;

	for (int i = om_demand_find_day(history, product, frame->end - WEEK); i < last; i++)
		units += history->days[product->first + i].quantity;
	for (int d = 0; d < WEEK; d++)
		weekday[d] = 1.0 / WEEK;
	if (units <= 0)
		return;
	memset(weekday, 0, sizeof(float) * WEEK);
	for (int i = om_demand_find_day(history, product, frame->end - WEEK); i < last; i++)
	{
		const OmDemandDay *day = &history->days[product->first + i];

		weekday[om_demand_weekday(day->day)] += day->quantity / units;
	}
}
