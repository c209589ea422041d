/*
 * kinddemand.c
 *		Kind "demand": how much of each product will be ordered.
 *
 * Trained from the orders of the caller's snapshot with the caller's rights.  Predictions
 * take {"product_id", "days"}; forecast_demand() asks without jsonb.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "clock.h"
#include "demandbytes.h"
#include "demandhistory.h"
#include "demandscore.h"
#include "errors.h"
#include "jsonout.h"
#include "kinddemand.h"
#include "options.h"
#include "providers.h"

static const OmPredictProvider provider;

/* --- options ---------------------------------------------------------------------------------------- */

typedef struct Options
{
	OmDemandOptions model;
	int32 history_days;
	bool from_history;
} Options;

static const char *const keys[] = {"algorithm",        "objective",    "interval",
								   "validation_weeks", "history_days", "from"};

static const char *const algorithms[] = {"auto", "seasonal_naive", "moving_average"};
static const char *const objectives[] = {"absolute", "unbiased"};
static const char *const starts[] = {"today", "history"};

#define MAX_HISTORY_DAYS (OM_DEMAND_MAX_WEEKS * OM_DEMAND_WEEK)

static Options
parse_options(Jsonb *options)
{
	return (Options){
		.model.algorithm =
			om_option_word(options, "algorithm", algorithms, lengthof(algorithms), 0),
		.model.unbiased =
			om_option_word(options, "objective", objectives, lengthof(objectives), 0) == 1,
		.model.interval = om_option_number(options, "interval", 0.5, 0.99, 0.8),
		.model.validation =
			om_option_count(options, "validation_weeks", 0, OM_DEMAND_MAX_VALIDATION, 12),
		.history_days =
			om_option_count(options, "history_days", 28, MAX_HISTORY_DAYS, MAX_HISTORY_DAYS),
		.from_history = om_option_word(options, "from", starts, lengthof(starts), 0) == 1};
}

static void
validate_options(const OmModelInfo *info)
{
	om_options_check_keys(info->options, keys, lengthof(keys), "See docs/demand.md.");
	(void) parse_options(info->options);
}

/* --- training --------------------------------------------------------------------------------------- */

static OmDemandHistory *
read_history(const Options *options)
{
	OmDemandHistory *history = om_demand_read_history(om_clock_now(), options->history_days);

	if (history == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("there are no orders from before today to learn from"),
						errhint("Load the history of the shop: "
								"load_orders_csv(..., mode => 'history').")));
	return history;
}

/* More than four decimals would be noise. */
static void
put_number(OmJson *json, const char *key, double value)
{
	JsonbValue number = {.type = jbvNumeric};

	om_json_key(json, key);
	if (!isfinite(value))
	{
		om_json_string(json, NULL);
		return;
	}
	number.val.numeric = DatumGetNumeric(
		DirectFunctionCall1(float8_numeric, Float8GetDatum(rint(value * 1e4) / 1e4)));
	om_json_jsonb(json, JsonbValueToJsonb(&number));
}

static void
put_day(OmJson *json, const char *key, int32 day)
{
	char *text = DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum(day)));

	om_json_key(json, key);
	om_json_string(json, text);
}

static Jsonb *
describe(const OmDemandModel *model)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "products");
	om_json_int(&json, model->nitems);
	put_day(&json, "first_day", model->begin);
	put_day(&json, "last_day", model->end - 1);
	put_number(&json, "validation_wape", model->wape);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	Options options = parse_options(request->model->options);
	OmDemandHistory *history = read_history(&options);
	OmDemandModel *model = om_demand_train(history, history->end, &options.model);

	result->model = om_demand_to_bytes(model);
	result->metrics = describe(model);
}

/* --- forecasts -------------------------------------------------------------------------------------- */

static void *
load(const OmModelInfo *info, OmModelBytes bytes, MemoryContext context)
{
	(void) info;
	(void) context; /* which is the current one */
	return om_demand_from_bytes(bytes.data, bytes.size);
}

static int
compare_items(const void *key, const void *item)
{
	return strcmp(key, ((const OmDemandItem *) item)->product_id);
}

const OmDemandItem *
om_kinddemand_find(const OmDemandModel *model, const char *product_id)
{
	return bsearch(product_id, model->items, model->nitems, sizeof(OmDemandItem), compare_items);
}

int32
om_kinddemand_start(const OmModelInfo *info, const OmDemandModel *model)
{
	if (parse_options(info->options).from_history)
		return model->end;
	return Max(model->end, om_demand_day_of(om_clock_now()));
}

static void
refuse_input(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_INVALID), errmsg("%s", problem), om_errdetail("path", "product_id"),
			 errhint("Ask with {\"product_id\": \"...\", \"days\": 28}.")));
}

static const char *
parse_input(Jsonb *input, int32 *ndays)
{
	char *product_id = om_json_get_string(input, "product_id");

	if (product_id == NULL)
		refuse_input("the input has no product_id");
	*ndays = om_option_count(input, "days", 1, OM_DEMAND_MAX_DAYS, 28);
	return product_id;
}

Jsonb *
om_kinddemand_input(const char *product_id, int32 ndays)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "product_id");
	om_json_string(&json, product_id);
	om_json_key(&json, "days");
	om_json_int(&json, ndays);
	om_json_close_object(&json);
	return om_json_result(&json);
}

Jsonb *
om_kinddemand_output(const OmDemandModel *model, const OmDemandItem *item, const char *product_id,
					 int32 start, int32 ndays)
{
	OmDemandRange range = {NAN, NAN, NAN};
	OmJson json = {0};

	if (item != NULL)
		range = om_demand_forecast(model, item, start, ndays);
	om_json_open_object(&json);
	om_json_key(&json, "product_id");
	om_json_string(&json, product_id);
	put_day(&json, "from", start);
	om_json_key(&json, "days");
	om_json_int(&json, ndays);
	put_number(&json, "expected", range.expected);
	put_number(&json, "low", range.low);
	put_number(&json, "high", range.high);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static int
predict_batch(const OmPredictRequest *request)
{
	const OmDemandModel *model = request->state;
	int32 start = om_kinddemand_start(request->model, model);

	for (int i = 0; i < request->count; i++)
	{
		int32 ndays;
		const char *product_id = parse_input(request->inputs[i], &ndays);

		CHECK_FOR_INTERRUPTS();
		request->outputs[i] = om_kinddemand_output(model, om_kinddemand_find(model, product_id),
												   product_id, start, ndays);
	}
	return request->count;
}

static void
raise_other_kind(const char *name, const char *kind)
{
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID),
					errmsg("model \"%s\" is of kind \"%s\", not of kind \"demand\"", name, kind),
					om_errdetail("path", "model"),
					errhint("create_model('demand', 'demand') makes one.")));
}

const OmDemandModel *
om_kinddemand_get(const OmModel *model)
{
	if (model->provider != &provider)
		raise_other_kind(model->info.name, model->info.kind);
	return model->state;
}

void
om_kinddemand_require(const char *name)
{
	OmModelRow *row = om_modelrow_find(name);

	if (row != NULL && strcmp(row->kind, provider.kind) != 0)
		raise_other_kind(name, row->kind);
}

/* --- evaluation ------------------------------------------------------------------------------------- */

#define MOST_WEEKS 52
#define LEAST_WEEKS_BEFORE 4

static const char *const evaluation_keys[] = {"weeks", "top"};

static void
report_week(const OmEvaluateRequest *request, const OmDemandEvaluation *evaluation,
			const char *name, const OmDemandScore *score, int week)
{
	char *suffix = week == 0 ? "" : psprintf("_week_%d", week + 1);
	char *infix = name == NULL ? "" : psprintf("_%s", name);

	if (evaluation->actual[week] <= 0)
		return;
	request->report(request, psprintf("wape%s%s", infix, suffix),
					score->error[week] / evaluation->actual[week]);
	request->report(request, psprintf("bias%s%s", infix, suffix),
					score->bias[week] / evaluation->actual[week]);
}

static void
report_all(const OmEvaluateRequest *request, const OmDemandEvaluation *evaluation,
		   OmDemandAlgorithm ours)
{
	for (int week = 0; week < OM_DEMAND_WEEKS_AHEAD; week++)
	{
		report_week(request, evaluation, NULL, &evaluation->score[ours], week);
		for (int algorithm = 0; algorithm < OM_DEMAND_ALGORITHMS; algorithm++)
			if (algorithm != (int) ours)
				report_week(request, evaluation, algorithms[algorithm],
							&evaluation->score[algorithm], week);
	}
	for (int span = 0; span < OM_DEMAND_SPANS; span++)
		if (evaluation->intervals[span] > 0)
			request->report(request, psprintf("coverage_%d_days", om_demand_span_days[span]),
							evaluation->covered[span] / evaluation->intervals[span]);
	request->report(request, "products", evaluation->nproducts);
	request->report(request, "weeks", evaluation->norigins);
}

static void
evaluate(const OmEvaluateRequest *request)
{
	Options options = parse_options(request->model->options);
	int32 weeks = om_option_count(request->options, "weeks", 1, MOST_WEEKS, 8);
	int32 top = om_option_count(request->options, "top", 1, 1000000, 200);
	OmDemandHistory *history;

	om_options_check_keys(request->options, evaluation_keys, lengthof(evaluation_keys),
						  "See docs/demand.md.");
	history = read_history(&options);
	if (history->end - history->begin < (weeks + LEAST_WEEKS_BEFORE) * OM_DEMAND_WEEK)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the history is too short to forecast its last %d weeks", weeks),
						errhint("It must be %d weeks longer than option weeks says.",
								LEAST_WEEKS_BEFORE)));
	report_all(request, om_demand_evaluate(history, &options.model, weeks, top),
			   options.model.algorithm);
}

/* --- the kind --------------------------------------------------------------------------------------- */

static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI,
										   .kind = "demand",
										   .validate_options = validate_options,
										   .train = train,
										   .load = load,
										   .predict_batch = predict_batch,
										   .evaluate = evaluate};

void
om_kinddemand_init(void)
{
	om_provider_register(&provider);
}
