/*
 * kindbasket.c
 *		Kind "next_basket": what a customer will order next.
 *
 * A model's bytes are the parameters that training has chosen and the baskets of
 * all customers; the rest is made of them when a session loads the model.  A
 * prediction takes the
 * customer's baskets from before the horizon from the model, and those since from
 * the tables, so it knows what he has ordered a moment ago.  Neighbours and
 * popularity are those of the training.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "basketbytes.h"
#include "basketoptions.h"
#include "basketscores.h"
#include "basketupdate.h"
#include "errors.h"
#include "jsonout.h"
#include "kindbasket.h"
#include "options.h"
#include "order_mgmt.h"
#include "providers.h"

#define DEFAULT_K 10

struct OmBasketState
{
	OmBasketPeriod period;
	OmBaskets *baskets;
	OmBasketModel *model;
	OmBasketWork *work;
};

/* ---------- loading ---------- */

static void *
load(const OmModelInfo *info pg_attribute_unused(), OmModelBytes bytes, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmBasketState *state = palloc0(sizeof(OmBasketState));
	OmBasketVersion *version = om_basketbytes_unpack(bytes);

	state->period = version->period;
	state->baskets = version->baskets;
	state->model = om_basketmodel_build(state->baskets, &version->parameters);
	state->work = om_basketscores_begin(state->model);
	pfree(version);
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
	if (!om_basket_is_tifu(parameters->algorithm) && parameters->algorithm != OM_BASKET_BLEND)
		return;
	add_count(json, "neighbours", parameters->neighbours);
	add_count(json, "groups", parameters->groups);
	add_number(json, "within_decay", parameters->within_decay);
	add_number(json, "group_decay", parameters->group_decay);
	if (om_basket_is_tifu(parameters->algorithm))
		add_number(json, "alpha", parameters->alpha);
}

/* What the blend has chosen, and which groups of features it uses. */
static void
add_learnt(OmJson *json, const OmBasketLearnt *learnt)
{
	if (learnt->learnt_from == 0)
		return;
	add_count(json, "learnt_from", learnt->learnt_from);
	add_count(json, "chosen_by", learnt->chosen_by);
	add_number(json, "strength", learnt->strength);
	om_json_key(json, "features");
	om_json_open_array(json);
	for (int i = 0; i < OM_BASKET_FEATURE_GROUPS; i++)
		if ((learnt->left_out & (1u << i)) == 0)
			om_json_string(json, om_basket_feature_group_names[i]);
	om_json_close_array(json);
	if (learnt->chosen_by > 0)
		add_number(json, "loss", learnt->loss);
}

static void
add_result(OmJson *json, const OmBaskets *baskets, const OmBasketResult *result)
{
	add_chosen(json, &result->parameters);
	add_count(json, "customers", baskets->ncustomers);
	add_count(json, "orders", baskets->nbaskets);
	add_count(json, "products", baskets->nproducts);
	add_learnt(json, &result->learnt);
	add_count(json, "validated_on", result->nvalidation);
	if (result->nvalidation == 0)
		return;
	add_number(json, "recall@10", result->validation.recall);
	add_number(json, "ndcg@10", result->validation.ndcg);
}

typedef struct Training
{
	const OmTrainRequest *request;
	OmBasketPlan plan;
	OmBasketVersion version; /* that is being made */
	OmBasketResult result;
	const char *obstacle; /* why an update has become a full training */
	bool is_update;
	int64 nread; /* orders that an update has read */
} Training;

static Jsonb *
describe(const Training *training)
{
	OmJson json = {0};

	om_json_open_object(&json);
	add_result(&json, training->version.baskets, &training->result);
	if (training->is_update)
	{
		add_count(&json, "update_of", training->request->previous_version);
		add_count(&json, "orders_read", training->nread);
	}
	else if (training->obstacle != NULL)
	{
		om_json_key(&json, "anew_because_of");
		om_json_string(&json, training->obstacle);
	}
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
train_anew(Training *training)
{
	OmBasketVersion *version = &training->version;

	version->baskets = om_baskethistory_read(&training->plan.period);
	training->result = om_baskettraining_train(version->baskets, &training->plan.options->task);
	version->parameters = training->result.parameters;
	version->full_at = GetCurrentTransactionStartTimestamp();
	version->full_orders = version->baskets->nbaskets;
}

/* Parameters stay what they are; it is measured how good they still are. */
static void
go_on_from(Training *training, const OmBasketVersion *previous)
{
	OmBasketVersion *version = &training->version;
	OmBasketModel *shorter;

	training->is_update = true;
	version->baskets = om_basketupdate_read(previous, &training->plan.period, &training->nread);
	version->parameters = training->result.parameters = previous->parameters;
	version->full_at = previous->full_at;
	version->full_orders = previous->full_orders;
	shorter = om_basketmodel_build(om_baskets_without_last(version->baskets), &version->parameters);
	om_baskettraining_validate(shorter, version->baskets, &training->result);
	om_basketmodel_free(shorter);
}

static void
make_plan(Training *training, const OmBasketOptions *options)
{
	OmBasketPlan *plan = &training->plan;
	Jsonb *written = training->request->model->options;

	plan->options = options;
	plan->period = options->period;
	plan->period.horizon = Min(om_baskethistory_horizon(), plan->period.until);
	plan->options_hash =
		hash_bytes((unsigned char *) VARDATA(written), VARSIZE(written) - VARHDRSZ);
	plan->imported = om_baskethistory_count_imported();
	training->version.period = plan->period;
	training->version.options = plan->options_hash;
	training->version.imported = plan->imported;
}

static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	OmBasketOptions options = om_basketoptions_parse(request->model->options);
	Training training = {.request = request};
	OmBasketVersion *previous = NULL;

	make_plan(&training, &options);
	if (request->update)
	{
		if (!om_basketbytes_are_current(request->previous))
			training.obstacle = "version";
		else
		{
			previous = om_basketbytes_unpack(request->previous);
			training.obstacle = om_basketupdate_obstacle(previous, &training.plan);
		}
	}
	if (previous != NULL && training.obstacle == NULL)
		go_on_from(&training, previous);
	else
		train_anew(&training);
	result->model = om_basketbytes_pack(&training.version);
	result->metrics = describe(&training);
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
	char *customer_id = om_json_get_string(input, "customer_id");
	int k;

	if (customer_id == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("the input has no customer_id"),
						om_errdetail("path", "customer_id"),
						errhint("Ask with {\"customer_id\": \"...\", \"k\": 10}.")));
	k = om_option_count(input, "k", 1, OM_BASKET_MAX_K, DEFAULT_K);
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

/* How the training that preceded the evaluation judged itself, without the orders that are held back. */
static void
report_training(const OmEvaluateRequest *request, const OmBasketResult *trained)
{
	request->report(request, "validation_customers", trained->nvalidation);
	if (trained->nvalidation > 0)
	{
		request->report(request, "validation_recall@10", trained->validation.recall);
		request->report(request, "validation_ndcg@10", trained->validation.ndcg);
	}
	if (trained->learnt.chosen_by == 0)
		return;
	request->report(request, "validation_loss", trained->learnt.loss);
	request->report(request, "chosen_strength", trained->learnt.strength);
	for (int i = 0; i < OM_BASKET_FEATURE_GROUPS; i++)
		request->report(request, psprintf("chosen_%s", om_basket_feature_group_names[i]),
						(trained->learnt.left_out & (1u << i)) == 0);
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
	OmBasketResult trained = om_baskettraining_train(shorter, &options.task);
	OmBasketMeasure measure = {.whole = state->baskets,
							   .nks = evaluation.nks,
							   .ks = evaluation.ks,
							   .nfolds = evaluation.nfolds,
							   .whom = OM_BASKET_ALL};
	int customers = 0;

	measure.model = om_basketmodel_build(shorter, &trained.parameters);
	om_baskettraining_measure(&measure, results, counts);
	for (int i = 0; i < evaluation.nfolds; i++)
		customers += counts[i];
	request->report(request, "customers", customers);
	for (int k = 0; k < evaluation.nks; k++)
		for (int which = 0; which < 3; which++)
			report_metric(request, &evaluation, results, k, which);
	report_training(request, &trained);
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
