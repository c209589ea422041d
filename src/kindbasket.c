/*
 * kindbasket.c
 *		Kind "next_basket": what a customer will order next.
 *
 * A model's bytes are the parameters that training has chosen, the time up to
 * which orders were settled then (the horizon), and the baskets of all customers;
 * the rest is made of them when a session loads the model.  A prediction takes the
 * customer's baskets from before the horizon from the model, and those since from
 * the tables, so it knows what he has ordered a moment ago.  Neighbours and
 * popularity are those of the training.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "baskethistory.h"
#include "basketlearning.h"
#include "basketoptions.h"
#include "basketscores.h"
#include "baskettraining.h"
#include "dialect.h"
#include "jsonout.h"
#include "kindbasket.h"
#include "order_mgmt.h"
#include "providers.h"

/* "OMNB", and the version of what follows. */
#define MAGIC 0x4F4D4E42
#define FORMAT 1

/* No weight that is learnt comes near. */
#define MOST_WEIGHT 1e9

#define DEFAULT_K 10

struct OmBasketState
{
	OmBasketPeriod period;
	OmBaskets *baskets;
	OmBasketModel *model;
	OmBasketWork *work;
};

/* ---------- as bytes ---------- */

static void
write_double(StringInfo buffer, double value)
{
	uint64 bits;

	memcpy(&bits, &value, sizeof(bits));
	om_baskets_write_number(buffer, bits);
}

static double
read_double(const char **position, const char *end)
{
	uint64 bits = om_baskets_read_number(position, end);
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void
write_parameters(StringInfo buffer, const OmBasketParameters *parameters)
{
	om_baskets_write_number(buffer, parameters->algorithm);
	om_baskets_write_number(buffer, parameters->neighbours);
	om_baskets_write_number(buffer, parameters->groups);
	write_double(buffer, parameters->within_decay);
	write_double(buffer, parameters->group_decay);
	write_double(buffer, parameters->alpha);
	om_baskets_write_number(buffer, parameters->recency);
	write_double(buffer, parameters->asymmetry);
	write_double(buffer, parameters->locality);
	for (int i = 0; i < OM_BASKET_OWNED_FEATURES; i++)
		write_double(buffer, parameters->owned_weights[i]);
	for (int i = 0; i < OM_BASKET_OTHER_FEATURES; i++)
		write_double(buffer, parameters->other_weights[i]);
}

static void refuse_bytes(void) __attribute__((noreturn));

static void
refuse_bytes(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("these are not the bytes of a model of next baskets"),
					errhint("Train the model again.")));
}

/* What follows computes with these numbers, and finds its places in memory by them. */
static int
read_count(const char **position, const char *end, int least, int most)
{
	uint64 count = om_baskets_read_number(position, end);

	if (count < (uint64) least || count > (uint64) most)
		refuse_bytes();
	return (int) count;
}

static double
read_part(const char **position, const char *end, double least, double most)
{
	double value = read_double(position, end);

	if (!(value >= least && value <= most)) /* NaN is neither */
		refuse_bytes();
	return value;
}

static void
read_parameters(const char **position, const char *end, OmBasketParameters *parameters)
{
	parameters->algorithm = read_count(position, end, 0, OM_BASKET_ALGORITHM_COUNT - 1);
	parameters->neighbours = read_count(position, end, 1, OM_BASKET_MAX_NEIGHBOURS);
	parameters->groups = read_count(position, end, 1, OM_BASKET_MAX_GROUPS);
	parameters->within_decay = read_part(position, end, OM_BASKET_LEAST_DECAY, 1);
	parameters->group_decay = read_part(position, end, OM_BASKET_LEAST_DECAY, 1);
	parameters->alpha = read_part(position, end, 0, 1);
	parameters->recency = read_count(position, end, 1, OM_BASKET_MAX_HISTORY);
	parameters->asymmetry = read_part(position, end, 0, 1);
	parameters->locality = read_part(position, end, 0, OM_BASKET_MAX_LOCALITY);
	for (int i = 0; i < OM_BASKET_OWNED_FEATURES; i++)
		parameters->owned_weights[i] = read_part(position, end, -MOST_WEIGHT, MOST_WEIGHT);
	for (int i = 0; i < OM_BASKET_OTHER_FEATURES; i++)
		parameters->other_weights[i] = read_part(position, end, -MOST_WEIGHT, MOST_WEIGHT);
}

static void
write_period(StringInfo buffer, const OmBasketPeriod *period)
{
	om_baskets_write_number(buffer, period->since);
	om_baskets_write_number(buffer, period->until);
	om_baskets_write_number(buffer, period->most);
	om_baskets_write_number(buffer, period->horizon);
}

static void
read_period(const char **position, const char *end, OmBasketPeriod *period)
{
	period->since = om_baskets_read_number(position, end);
	period->until = om_baskets_read_number(position, end);
	period->most = read_count(position, end, 1, OM_BASKET_MAX_HISTORY);
	period->horizon = om_baskets_read_number(position, end);
}

static bytea *
pack(const OmBasketParameters *parameters, const OmBasketPeriod *period, const OmBaskets *baskets)
{
	StringInfoData buffer;

	initStringInfo(&buffer);
	appendStringInfoSpaces(&buffer, VARHDRSZ);
	om_baskets_write_number(&buffer, MAGIC);
	om_baskets_write_number(&buffer, FORMAT);
	write_parameters(&buffer, parameters);
	write_period(&buffer, period);
	om_baskets_write(baskets, &buffer);
	SET_VARSIZE(buffer.data, buffer.len);
	return (bytea *) buffer.data;
}

static void *
load(const OmModelInfo *info pg_attribute_unused(), OmModelBytes bytes, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmBasketState *state = palloc0(sizeof(OmBasketState));
	const char *position = bytes.data;
	const char *end = bytes.data + bytes.size;
	OmBasketParameters parameters;

	if (om_baskets_read_number(&position, end) != MAGIC ||
		om_baskets_read_number(&position, end) != FORMAT)
		refuse_bytes();
	read_parameters(&position, end, &parameters);
	read_period(&position, end, &state->period);
	state->baskets = om_baskets_read(&position, end);
	state->model = om_basketmodel_build(state->baskets, &parameters);
	state->work = om_basketscores_begin(state->model);
	MemoryContextSwitchTo(caller);
	return state;
}

/* ---------- training ---------- */

static void
add_number(OmJson *json, const char *key, double value)
{
	om_json_key(json, key);
	om_json_jsonb(json, DatumGetJsonbP(DirectFunctionCall1(
							jsonb_in, CStringGetDatum(psprintf("%.6g", value)))));
}

static void
add_count(OmJson *json, const char *key, int64 value)
{
	om_json_key(json, key);
	om_json_int(json, value);
}

static void
add_chosen(OmJson *json, const OmBasketParameters *parameters)
{
	om_json_key(json, "algorithm");
	om_json_string(json, om_basket_algorithm_names[parameters->algorithm]);
	if (parameters->algorithm == OM_BASKET_UP_CF)
	{
		add_count(json, "recency", parameters->recency);
		add_number(json, "asymmetry", parameters->asymmetry);
		add_number(json, "locality", parameters->locality);
	}
	if (parameters->algorithm != OM_BASKET_TIFU_KNN && parameters->algorithm != OM_BASKET_BLEND)
		return;
	add_count(json, "neighbours", parameters->neighbours);
	add_count(json, "groups", parameters->groups);
	add_number(json, "within_decay", parameters->within_decay);
	add_number(json, "group_decay", parameters->group_decay);
	if (parameters->algorithm == OM_BASKET_TIFU_KNN)
		add_number(json, "alpha", parameters->alpha);
}

static Jsonb *
describe(const OmBaskets *baskets, const OmBasketParameters *parameters,
		 const OmBasketMetrics *validation, int nvalidation)
{
	OmJson json = {0};

	om_json_open_object(&json);
	add_chosen(&json, parameters);
	add_count(&json, "customers", baskets->ncustomers);
	add_count(&json, "orders", baskets->nbaskets);
	add_count(&json, "products", baskets->nproducts);
	add_count(&json, "validated_on", nvalidation);
	if (nvalidation > 0)
	{
		add_number(&json, "recall@10", validation->recall);
		add_number(&json, "ndcg@10", validation->ndcg);
	}
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	OmBasketOptions options = om_basketoptions_parse(request->model->options);
	OmBasketParameters chosen;
	OmBasketMetrics validation;
	OmBaskets *baskets;
	int nvalidation;

	options.period.horizon = Min(om_baskethistory_horizon(), options.period.until);
	baskets = om_baskethistory_read(&options.period);
	chosen = om_baskettraining_train(baskets, &options.parameters, options.is_fixed, &validation,
									 &nvalidation);
	result->model = pack(&chosen, &options.period, baskets);
	result->metrics = describe(baskets, &chosen, &validation, nvalidation);
}

static void
validate_options(const OmModelInfo *info)
{
	(void) om_basketoptions_parse(info->options);
}

/* ---------- predictions ---------- */

int
om_kindbasket_ncustomers(const OmBasketState *state)
{
	return state->baskets->ncustomers;
}

const char *
om_kindbasket_customer(const OmBasketState *state, int customer)
{
	return state->baskets->customer_ids[customer];
}

OmBaskets *
om_kindbasket_read_new_orders(const OmBasketState *state)
{
	OmBasketPeriod period = state->period;

	period.since = Max(period.since, period.horizon);
	period.horizon = DT_NOBEGIN;
	period.least = 0;
	return om_baskethistory_read(&period);
}

/* Of somebody whom the model does not know everything is new. */
static OmBaskets *
read_own(const OmBasketState *state, const char *customer_id, int customer)
{
	OmBasketPeriod period = state->period;

	if (customer >= 0)
		period.since = Max(period.since, period.horizon);
	period.horizon = DT_NOBEGIN;
	return om_baskethistory_read_customer(&period, customer_id);
}

/* The model's number of each product of the new orders; those it has not are strangers. */
static int32 *
number_products(OmBasketState *state, const OmBaskets *new_orders, int basket, int end)
{
	int first = new_orders->first_item[basket];
	int count = new_orders->first_item[end] - first;
	int32 *numbers = palloc(sizeof(int32) * Max(count, 1));
	OmBasketWork *work = state->work;

	work->nstrangers = 0;
	work->stranger_ids = palloc(sizeof(char *) * OM_BASKET_MAX_STRANGERS);
	for (int i = 0; i < count; i++)
	{
		char *id = new_orders->product_ids[new_orders->items[first + i]];
		int stranger = 0;

		numbers[i] = om_baskets_find_product(state->baskets, id);
		if (numbers[i] >= 0)
			continue;
		while (stranger < work->nstrangers && strcmp(work->stranger_ids[stranger], id) != 0)
			stranger++;
		if (stranger == OM_BASKET_MAX_STRANGERS)
			stranger--;
		else if (stranger == work->nstrangers)
			work->stranger_ids[work->nstrangers++] = id;
		numbers[i] = work->nproducts + stranger;
	}
	return numbers;
}

/* Of what is put behind what the model knows the newest count. */
static void
add_new_orders(OmBasketState *state, OmBasketRun *run, const OmBaskets *new_orders, int customer)
{
	int first = new_orders->first_basket[customer];
	int end = new_orders->first_basket[customer + 1];
	int32 *numbers = number_products(state, new_orders, first, end);
	int excess;

	for (int b = first; b < end; b++)
	{
		run->items[run->nbaskets] =
			numbers + new_orders->first_item[b] - new_orders->first_item[first];
		run->nitems[run->nbaskets++] = om_baskets_nitems(new_orders, b);
	}
	excess = run->nbaskets - state->period.most;
	if (excess <= 0)
		return;
	run->items += excess;
	run->nitems += excess;
	run->nbaskets -= excess;
}

int
om_kindbasket_predict(OmBasketState *state, const char *customer_id, const OmBaskets *new_orders,
					  int k, OmNextProduct *products)
{
	int customer = om_baskets_find_customer(state->baskets, customer_id);
	const OmBaskets *own =
		new_orders != NULL && customer >= 0 ? new_orders : read_own(state, customer_id, customer);
	int new_customer = om_baskets_find_customer(own, customer_id);
	int count = new_customer < 0 ? 0 : om_baskets_of(own, new_customer);
	OmBasketRun run = om_baskets_run(state->baskets, customer,
									 customer < 0 ? 0 : state->baskets->nsettled[customer], count);
	OmBasketChoice *choice = palloc(sizeof(OmBasketChoice) * k);
	int found;

	if (count > 0)
		add_new_orders(state, &run, own, new_customer);
	found = om_basketscores_choose(state->model, state->work, &run, customer, k, choice);
	for (int i = 0; i < found; i++)
	{
		int stranger = choice[i].product - state->baskets->nproducts;

		products[i].product_id = stranger < 0 ? state->baskets->product_ids[choice[i].product]
											  : state->work->stranger_ids[stranger];
		products[i].score = choice[i].score;
	}
	return found;
}

/* ---------- predictions in JSON ---------- */

Jsonb *
om_kindbasket_list(const OmNextProduct *products, int count)
{
	OmJson json = {0};

	om_json_open_array(&json);
	for (int i = 0; i < count; i++)
	{
		om_json_open_object(&json);
		om_json_key(&json, "product_id");
		om_json_string(&json, products[i].product_id);
		add_number(&json, "score", products[i].score);
		om_json_close_object(&json);
	}
	om_json_close_array(&json);
	return om_json_result(&json);
}

static Jsonb *
predict_one(OmBasketState *state, Jsonb *input)
{
	OmNextProduct products[OM_BASKET_MAX_K];
	char *customer_id;
	int k;

	if (!JB_ROOT_IS_OBJECT(input))
		om_dialect_raise("input", "is not an object",
						 "Like {\"customer_id\": \"ann\", \"k\": 10}.");
	customer_id = om_json_get_string(input, "customer_id");
	if (customer_id == NULL)
		om_dialect_raise("customer_id", "is missing",
						 "Like {\"customer_id\": \"ann\", \"k\": 10}.");
	k = om_basketoptions_get_count(input, "k", 1, OM_BASKET_MAX_K, DEFAULT_K);
	return om_kindbasket_list(
		products, om_kindbasket_predict(state, customer_id, NULL /* new_orders */, k, products));
}

static int
predict_batch(const OmPredictRequest *request)
{
	for (int i = 0; i < request->count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		request->outputs[i] = predict_one(request->state, request->inputs[i]);
	}
	return request->count;
}

/* ---------- evaluation ---------- */

static double
metric_of(const OmBasketMetrics *metrics, int which)
{
	return which == 0 ? metrics->recall : which == 1 ? metrics->ndcg : metrics->ndcg_min;
}

/* The mean over the folds, and how far they scatter about it. */
static void
report_metric(const OmEvaluateRequest *request, const OmBasketEvaluation *evaluation,
			  const OmBasketMetrics *results, int k, int which)
{
	static const char *const names[] = {"recall", "ndcg", "ndcg_min"};
	char *name = psprintf("%s@%d", names[which], evaluation->ks[k]);
	double values[OM_BASKET_MAX_FOLDS];
	double sum = 0;
	double squares = 0;

	for (int i = 0; i < evaluation->nfolds; i++)
	{
		values[i] = metric_of(&results[i * evaluation->nks + k], which);
		sum += values[i];
	}
	sum /= evaluation->nfolds;
	for (int i = 0; i < evaluation->nfolds; i++)
		squares += pow(values[i] - sum, 2);
	request->report(request, name, sum);
	if (evaluation->nfolds > 1)
		request->report(request, psprintf("%s_sd", name), sqrt(squares / (evaluation->nfolds - 1)));
	for (int i = 0; i < evaluation->nfolds && evaluation->each_fold; i++)
		request->report(request, psprintf("%s_fold_%d", name, i + 1), values[i]);
}

/*
 * Holds back each customer's last order, trains anew on those before, with the
 * options of the model, and predicts what was held back.
 */
static void
evaluate(const OmEvaluateRequest *request)
{
	OmBasketEvaluation evaluation = om_basketoptions_parse_evaluation(request->options);
	OmBasketState *state = request->state;
	OmBasketOptions options = om_basketoptions_parse(request->model->options);
	OmBaskets *shorter = om_baskets_without_last(state->baskets);
	OmBasketMetrics *results = palloc(sizeof(OmBasketMetrics) * OM_BASKET_MAX_FOLDS * 8);
	int counts[OM_BASKET_MAX_FOLDS];
	OmBasketParameters chosen;
	OmBasketMetrics validation;
	OmBasketMeasure measure = {.whole = state->baskets,
							   .nks = evaluation.nks,
							   .ks = evaluation.ks,
							   .nfolds = evaluation.nfolds,
							   .stride = 1};
	int customers = 0;
	int nvalidation;

	chosen = om_baskettraining_train(shorter, &options.parameters, options.is_fixed, &validation,
									 &nvalidation);
	measure.model = om_basketmodel_build(shorter, &chosen);
	om_baskettraining_measure(&measure, results, counts);
	for (int i = 0; i < evaluation.nfolds; i++)
		customers += counts[i];
	request->report(request, "customers", customers);
	for (int k = 0; k < evaluation.nks; k++)
		for (int which = 0; which < 3; which++)
			report_metric(request, &evaluation, results, k, which);
}

static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI,
										   .kind = OM_KINDBASKET_NAME,
										   .validate_options = validate_options,
										   .train = train,
										   .load = load,
										   .predict_batch = predict_batch,
										   .evaluate = evaluate};

void
om_kindbasket_init(void)
{
	om_provider_register(&provider);
}
