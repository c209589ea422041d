/*
 * demandmodel.c
 *		Forecasts of demand: many simple methods, blended as the last weeks advise.
 *
 * How much each method counts is found by forecasting the last weeks of the
 * history from what was before them, apart for products that are ordered every
 * day, every week and rarely.  Equal shares are dealt one by one, each to the method
 * with which the blend of all so far errs least (Caruana and others, "Ensemble
 * selection from libraries of models", 2004).  The errors that the blend made
 * there are the width of the intervals.
 *
 * Nothing depends on chance or on time.  Memory is the caller's: 64 bytes per
 * product, and up to 60 MB while a model is made.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"

#include "demandmodel.h"

#define WEEK OM_DEMAND_WEEK
#define WEEKS_AHEAD 4   /* that are forecast to choose methods */
#define LEAST_WEEKS 8   /* of history before the first week by which methods are chosen */
#define MAX_SAMPLE 3000 /* products by which methods are chosen: those ordered most */
#define ROUNDS 20       /* shares that are dealt to methods */
#define CLASSES 3
#define UNBIASED_WEIGHT 0.5 /* of the error of the sum, for unbiased forecasts */

const int om_demand_span_days[OM_DEMAND_SPANS] = {1, 7, 14, 28};

/* A product as it was at an origin, and what came then. */
typedef struct Case
{
	int32 product;
	int origin;
	int class;
	int nweeks; /* of which it is known what came */
	float line;
	float actual[WEEKS_AHEAD];
	float expected[WEEKS_AHEAD]; /* by the blend; while shares are dealt, their sum */
	float forecast[OM_DEMAND_METHODS][WEEKS_AHEAD];
} Case;

typedef struct Trial
{
	OmDemandFrame *frame;
	OmDemandOutlook *outlooks; /* by origin */
	int norigins;
	Case *cases;
	int ncases;
	double bias_weight; /* of the sum of all errors beside their absolute values */
	double weight[CLASSES][OM_DEMAND_METHODS];
} Trial;

/* --- cases -------------------------------------------------------------------------------------------- */

/* 0: ordered rarely, 1: every week, 2: every day. */
static int
class_of(const OmDemandSeries *series)
{
	double lines = om_demand_frequency(series);

	return lines < 1 ? 0 : lines < WEEK ? 1 : 2;
}

static void
fill_case(const Trial *trial, const OmDemandSeries *series, Case *new)
{
	const OmDemandOutlook *outlook = &trial->outlooks[series->origin];

	new->origin = series->origin;
	new->class = class_of(series);
	new->line = series->line;
	new->nweeks = Min(WEEKS_AHEAD, trial->frame->nweeks - series->origin);
	for (int week = 0; week < new->nweeks; week++)
		new->actual[week] = series->quantity[series->origin + week];
	for (int method = 0; method < OM_DEMAND_METHODS; method++)
	{
		float levels[OM_DEMAND_PATHS] = {0};

		om_demand_add_method(trial->frame, series, method, 1, levels);
		for (int week = 0; week < WEEKS_AHEAD; week++)
			new->forecast[method][week] = om_demand_week(levels, outlook, week);
	}
}

static void
add_cases(Trial *trial, int32 product, OmDemandSeries *series)
{
	const OmDemandFrame *frame = trial->frame;

	om_demand_fill_weeks(frame, &frame->history->products[product], series);
	for (int origin = frame->nweeks - trial->norigins; origin < frame->nweeks; origin++)
	{
		Case *new = &trial->cases[trial->ncases];

		if (series->begin >= origin)
			continue;
		om_demand_set_origin(frame, series, origin);
		memset(new, 0, sizeof(Case));
		new->product = product;
		fill_case(trial, series, new);
		trial->ncases++;
	}
}

#define SAMPLE_WEEKS 26

static void
collect_cases(Trial *trial)
{
	const OmDemandFrame *frame = trial->frame;
	int nproducts = Min(MAX_SAMPLE, frame->history->nproducts);
	OmDemandVolume *ranked =
		om_demand_rank(frame->history, frame->end - SAMPLE_WEEKS * WEEK, frame->end);
	OmDemandSeries *series = palloc(sizeof(OmDemandSeries));

	trial->cases = MemoryContextAllocHuge(
		CurrentMemoryContext, sizeof(Case) * (Size) Max(1, nproducts * trial->norigins));
	for (int i = 0; i < nproducts; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_cases(trial, ranked[i].product, series);
	}
	pfree(ranked);
	pfree(series);
}

/* --- the choice of methods ---------------------------------------------------------------------------- */

/* The next week counts as much as the three after it together. */
static const float week_weight[WEEKS_AHEAD] = {3, 1, 1, 1};

/* How much a class errs if a method gets the share of a round. */
static double
try_method(const Trial *trial, int class, int method, int round)
{
	double sum = 0, bias = 0;

	for (int i = 0; i < trial->ncases; i++)
	{
		const Case *one = &trial->cases[i];

		if (one->class != class)
			continue;
		for (int week = 0; week < one->nweeks; week++)
		{
			double expected = (one->expected[week] + one->forecast[method][week]) / round;

			sum += week_weight[week] * fabs(expected - one->actual[week]);
			bias += week_weight[week] * (expected - one->actual[week]);
		}
	}
	return sum + trial->bias_weight * fabs(bias);
}

/* Of methods that are equally good the first one is taken. */
static int
best_method(const Trial *trial, int class, int round)
{
	double least = INFINITY;
	int best = OM_METHOD_DEFAULT;

	for (int method = 0; method < OM_DEMAND_METHODS; method++)
	{
		double sum = try_method(trial, class, method, round);

		if (sum < least)
		{
			least = sum;
			best = method;
		}
	}
	return best;
}

static void
deal_share(Trial *trial, int class, int method)
{
	trial->weight[class][method] += 1.0 / ROUNDS;
	for (int i = 0; i < trial->ncases; i++)
		for (int week = 0; trial->cases[i].class == class && week < WEEKS_AHEAD; week++)
			trial->cases[i].expected[week] += trial->cases[i].forecast[method][week];
}

static void
blend_methods(Trial *trial)
{
	for (int class = 0; class < CLASSES; class ++)
		for (int round = 1; round <= ROUNDS; round++)
		{
			CHECK_FOR_INTERRUPTS();
			deal_share(trial, class, best_method(trial, class, round));
		}
	for (int i = 0; i < trial->ncases; i++)
		for (int week = 0; week < WEEKS_AHEAD; week++)
			trial->cases[i].expected[week] /= ROUNDS;
}

static void
use_single_method(Trial *trial, int method)
{
	for (int class = 0; class < CLASSES; class ++)
		trial->weight[class][method] = 1;
	for (int i = 0; i < trial->ncases; i++)
		memcpy(trial->cases[i].expected, trial->cases[i].forecast[method],
			   sizeof(trial->cases[i].expected));
}

/* What the blend errs in the next week, by the units ordered in it. */
static double
measure_error(const Trial *trial)
{
	double error = 0, actual = 0;

	for (int i = 0; i < trial->ncases; i++)
	{
		error += fabs(trial->cases[i].expected[0] - trial->cases[i].actual[0]);
		actual += trial->cases[i].actual[0];
	}
	return actual > 0 ? error / actual : NAN;
}

/* Without weeks to try them on, methods are equally good. */
static void
choose_methods(Trial *trial, const OmDemandOptions *options)
{
	int nweeks = trial->frame->nweeks;

	trial->bias_weight = options->unbiased ? UNBIASED_WEIGHT : 0;
	trial->norigins = Max(0, Min(options->validation, nweeks - LEAST_WEEKS));
	trial->outlooks = palloc0(sizeof(OmDemandOutlook) * (nweeks + 1));
	for (int origin = nweeks - trial->norigins; origin <= nweeks; origin++)
		om_demand_look_ahead(trial->frame, origin, &trial->outlooks[origin]);
	collect_cases(trial);
	if (options->algorithm == OM_DEMAND_MOVING_AVERAGE)
		use_single_method(trial, OM_METHOD_AVERAGE);
	else if (options->algorithm == OM_DEMAND_SEASONAL_NAIVE)
		use_single_method(trial, OM_METHOD_LAST_WEEK);
	else
		blend_methods(trial);
}

/* --- intervals ---------------------------------------------------------------------------------------- */

#define LEAST_BIN (-5)    /* 1/32 order line expected, and less */
#define SPREAD_TRUST 20.0 /* errors as theory has them that are added to those that were made */

/* What really came divided by what was expected, for similar cases. */
typedef struct Ratios
{
	float *values;
	int count;
	int room;
} Ratios;

/* Order lines decide how far chance may go: many small orders are sure, few large ones are not. */
static int
bin_of(double expected, double line)
{
	double lines = expected / Max(line, FLT_MIN);
	int bin = lines > 0 ? (int) floor(log2(lines)) - LEAST_BIN : 0;

	return Max(0, Min(OM_DEMAND_BINS - 1, bin));
}

static void
add_ratio(Ratios *bins, double expected, double line, double actual)
{
	Ratios *bin = &bins[bin_of(expected, line)];

	if (expected <= 0)
		return;
	if (bin->count == bin->room)
	{
		bin->room = Max(256, bin->room * 2);
		bin->values = bin->values == NULL
						? MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * bin->room)
						: repalloc_huge(bin->values, sizeof(float) * bin->room);
	}
	bin->values[bin->count++] = actual / expected;
}

static void
add_days(const Trial *trial, const Case *one, Ratios *bins)
{
	const OmDemandHistory *history = trial->frame->history;
	const OmDemandProduct *product = &history->products[one->product];
	int32 start = trial->frame->end - WEEK * (trial->frame->nweeks - one->origin);
	int at = om_demand_find_day(history, product, start);
	float weekday[WEEK];

	om_demand_divide_week(trial->frame, product, start, weekday);
	for (int32 day = start; day < start + WEEK * one->nweeks; day++)
	{
		double actual = 0;

		if (at < product->ndays && history->days[product->first + at].day == day)
			actual = history->days[product->first + at++].quantity;
		add_ratio(bins, one->expected[(day - start) / WEEK] * weekday[om_demand_weekday(day)],
				  one->line, actual);
	}
}

static void
add_weeks(const Case *one, int nweeks, Ratios *bins)
{
	double expected = 0, actual = 0;

	if (one->nweeks < nweeks)
		return;
	for (int h = 0; h < nweeks; h++)
	{
		expected += one->expected[h];
		actual += one->actual[h];
	}
	add_ratio(bins, expected, one->line, actual);
}

/* The number below which a normally distributed one stays with this probability (by bisection). */
static double
normal_quantile(double probability)
{
	double low = -8, high = 8;

	for (int i = 0; i < 60; i++)
	{
		double middle = (low + high) / 2;

		if (erfc(-middle / M_SQRT2) / 2 < probability)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/*
 * A quantile of the ratios.  Theory, which stands in where there are few: a
 * number of lines with the variance of a Poisson distribution, each of a size
 * that varies as much as its mean.
 */
static float
find_quantile(const Ratios *bin, int nth, double probability)
{
	double lines = exp2(nth + LEAST_BIN + 0.5);
	double theory = Max(0, 1 + normal_quantile(probability) * sqrt(2 / lines));
	int at = (int) (probability * (bin->count - 1) + 0.5);

	if (bin->count == 0)
		return theory;
	return (bin->count * bin->values[at] + SPREAD_TRUST * theory) / (bin->count + SPREAD_TRUST);
}

static void
measure_spread(const Trial *trial, double interval, OmDemandSpread *spread)
{
	for (int span = 0; span < OM_DEMAND_SPANS; span++)
	{
		Ratios bins[OM_DEMAND_BINS] = {0};

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < trial->ncases; i++)
		{
			if (span == 0)
				add_days(trial, &trial->cases[i], bins);
			else
				add_weeks(&trial->cases[i], om_demand_span_days[span] / WEEK, bins);
		}
		for (int nth = 0; nth < OM_DEMAND_BINS; nth++)
		{
			if (bins[nth].count > 0)
				qsort(bins[nth].values, bins[nth].count, sizeof(float), om_demand_compare_floats);
			spread->low[span][nth] = Min(1, find_quantile(&bins[nth], nth, (1 - interval) / 2));
			spread->high[span][nth] = Max(1, find_quantile(&bins[nth], nth, (1 + interval) / 2));
			if (bins[nth].values != NULL)
				pfree(bins[nth].values);
		}
	}
}

/* --- the model ---------------------------------------------------------------------------------------- */

static void
fill_item(const Trial *trial, const OmDemandProduct *product, OmDemandSeries *series,
		  OmDemandItem *item)
{
	const double *weight;

	item->product_id = product->product_id;
	om_demand_fill_weeks(trial->frame, product, series);
	om_demand_set_origin(trial->frame, series, trial->frame->nweeks);
	item->line = series->line;
	weight = trial->weight[class_of(series)];
	for (int method = 0; method < OM_DEMAND_METHODS; method++)
		if (weight[method] > 0)
			om_demand_add_method(trial->frame, series, method, weight[method], item->level);
}

static void
fill_items(const Trial *trial, OmDemandAlgorithm algorithm, OmDemandModel *model)
{
	const OmDemandFrame *frame = trial->frame;
	OmDemandSeries *series = palloc(sizeof(OmDemandSeries));

	for (int i = 0; i < model->nitems; i++)
	{
		const OmDemandProduct *product = &frame->history->products[i];
		OmDemandItem *item = &model->items[i];

		CHECK_FOR_INTERRUPTS();
		fill_item(trial, product, series, item);
		if (algorithm == OM_DEMAND_SEASONAL_NAIVE)
			om_demand_repeat_week(frame, product, item->weekday);
		else
			om_demand_divide_week(frame, product, frame->end, item->weekday);
	}
	pfree(series);
}

OmDemandModel *
om_demand_train(const OmDemandHistory *history, int32 end, const OmDemandOptions *options)
{
	OmDemandModel *model = palloc0(sizeof(OmDemandModel));
	Trial trial = {.frame = om_demand_make_frame(history, end)};

	choose_methods(&trial, options);
	model->begin = history->begin;
	model->end = end;
	model->interval = options->interval;
	model->outlook = trial.outlooks[trial.frame->nweeks];
	model->wape = measure_error(&trial);
	measure_spread(&trial, options->interval, &model->spread);
	model->nitems = history->nproducts;
	model->items = MemoryContextAllocExtended(CurrentMemoryContext,
											  sizeof(OmDemandItem) * (Size) Max(1, model->nitems),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	fill_items(&trial, options->algorithm, model);
	pfree(trial.cases);
	pfree(trial.outlooks);
	pfree(trial.frame);
	return model;
}

/* --- forecasts ---------------------------------------------------------------------------------------- */

/* Between the spans that have been measured it goes by the logarithm. */
static double
find_factor(const float factors[OM_DEMAND_SPANS][OM_DEMAND_BINS], int bin, int32 ndays)
{
	const int *days = om_demand_span_days;
	int span = OM_DEMAND_SPANS - 1;
	double part;

	if (ndays >= days[span])
		return factors[span][bin];
	while (days[span] > ndays)
		span--;
	part = log((double) ndays / days[span]) / log((double) days[span + 1] / days[span]);
	return (1 - part) * factors[span][bin] + part * factors[span + 1][bin];
}

OmDemandRange
om_demand_forecast(const OmDemandModel *model, const OmDemandItem *item, int32 from, int32 ndays)
{
	OmDemandRange range = {0, 0, 0};
	int bin;

	for (int32 day = from; day < from + ndays; day++)
		range.expected += om_demand_week(item->level, &model->outlook, (day - model->end) / WEEK) *
						  item->weekday[om_demand_weekday(day)];
	bin = bin_of(range.expected, item->line);
	range.low = range.expected * find_factor(model->spread.low, bin, ndays);
	range.high = range.expected * find_factor(model->spread.high, bin, ndays);
	return range;
}
