/*
 * nextorders.c
 *		What customers will order next, as a model says.
 *
 * Models of kind next_basket are asked directly.  Any other kind will do that
 * answers {"customer_id", "k"} with an array of {"product_id", "score"}, best
 * first; it is asked as predict() would, and so is the fallback of a model that fails.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "errors.h"
#include "jsonout.h"
#include "kindbasket.h"
#include "modelrows.h"
#include "nextorders.h"
#include "predictionlog.h"
#include "predictions.h"
#include "providers.h"
#include "scores.h"

/* With more customers than this their new orders are read by one query. */
#define FEW_CUSTOMERS 50

typedef struct Asking
{
	const char *model_name;
	const char *const *customer_ids; /* NULL: all */
	int count;
	int k;
	OmNextOrderSink sink;
	void *arg;
	OmModel *model;
	MemoryContext caller;
	const OmBaskets *new_orders; /* of all customers; NULL: each is looked up */
	int first;                   /* of the batch */
	int end;
} Asking;

/* ---------- models of kind next_basket ---------- */

static Jsonb *
make_input(const char *customer_id, int k)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "customer_id");
	om_json_string(&json, customer_id);
	om_json_key(&json, "k");
	om_json_int(&json, k);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
log_prediction(const Asking *asking, const char *customer_id, const OmNextProduct *products,
			   int count, int64 duration_us)
{
	if (om_predictionlog_wants(asking->model))
		om_predictionlog_add(asking->model, customer_id, make_input(customer_id, asking->k),
							 om_kindbasket_list(products, count), duration_us,
							 NULL /* error_code */, false /* at_commit */);
}

static void
predict_customer(const Asking *asking, const char *customer_id)
{
	OmNextProduct products[OM_NEXTORDERS_MAX_K];
	MemoryContext context;
	instr_time start;
	instr_time end;
	int count;

	INSTR_TIME_SET_CURRENT(start);
	count = om_kindbasket_predict(asking->model->state, customer_id, asking->new_orders, asking->k,
								  products);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	log_prediction(asking, customer_id, products, count, INSTR_TIME_GET_MICROSEC(end));
	context = MemoryContextSwitchTo(asking->caller);
	for (int i = 0; i < count; i++)
		asking->sink(asking->arg, customer_id, i + 1, products[i].product_id, products[i].score);
	MemoryContextSwitchTo(context);
}

static void
read_new_orders(void *arg)
{
	Asking *asking = arg;

	asking->new_orders = om_kindbasket_read_new_orders(asking->model->state);
}

static void
predict_batch(void *arg)
{
	const Asking *asking = arg;
	const OmBasketState *state = asking->model->state;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "next order", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	for (int i = asking->first; i < asking->end; i++)
	{
		CHECK_FOR_INTERRUPTS();
		predict_customer(asking, asking->customer_ids == NULL ? om_kindbasket_customer(state, i)
															  : asking->customer_ids[i]);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/* The time limit of the model is that of a batch, and so that of reading what is new. */
static ErrorData *
predict_all(Asking *asking)
{
	OmModel *model = asking->model;
	int count =
		asking->customer_ids == NULL ? om_kindbasket_ncustomers(model->state) : asking->count;
	int size = model->options.max_rows_per_batch;
	ErrorData *error = NULL;

	if (count > FEW_CUSTOMERS)
		error = om_predict_attempt(model, read_new_orders, asking);
	for (int first = 0; first < count && error == NULL; first += size)
	{
		asking->first = first;
		asking->end = first + Min(size, count - first);
		error = om_predict_attempt(model, predict_batch, asking);
	}
	return error;
}

/* ---------- models of other kinds ---------- */

static void raise_answer(const char *model) __attribute__((noreturn));

static void
raise_answer(const char *model)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("model \"%s\" does not answer with products", model),
					om_errdetail("model", model),
					errhint("It must answer {\"customer_id\", \"k\"} with an array of "
							"{\"product_id\", \"score\"}; kind next_basket does.")));
}

static void
take_product(const Asking *asking, const char *customer_id, int rank, JsonbValue *element)
{
	double score;
	Jsonb *product;
	char *product_id;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		raise_answer(asking->model_name);
	product = JsonbValueToJsonb(element);
	product_id = om_json_get_string(product, "product_id");
	if (product_id == NULL)
		raise_answer(asking->model_name);
	asking->sink(asking->arg, customer_id, rank, product_id,
				 om_score_of_output(product, "score", &score) ? score : 0);
}

static void
take_answer(const Asking *asking, const char *customer_id, Jsonb *answer)
{
	JsonbIterator *iterator = JsonbIteratorInit(&answer->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int rank = 0;

	if (!JB_ROOT_IS_ARRAY(answer) || JB_ROOT_IS_SCALAR(answer))
		raise_answer(asking->model_name);
	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
		if (token == WJB_ELEM && rank < asking->k)
			take_product(asking, customer_id, ++rank, &value);
}

/* Also the way to the fallback. */
static void
ask_in_json(const Asking *asking)
{
	int size = Min(om_predict_batch_size(asking->model_name), Max(asking->count, 1));
	Jsonb **inputs = palloc(sizeof(Jsonb *) * size);
	Jsonb **outputs = palloc(sizeof(Jsonb *) * size);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "next orders", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	for (int first = 0; first < asking->count; first += size)
	{
		int count = Min(size, asking->count - first);

		for (int i = 0; i < count; i++)
			inputs[i] = make_input(asking->customer_ids[first + i], asking->k);
		om_predict(asking->model_name, inputs, count, outputs);
		for (int i = 0; i < count; i++)
			take_answer(asking, asking->customer_ids[first + i], outputs[i]);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/* ---------- opening ---------- */

/* Nobody should have to look up how the usual model comes into being. */
static void
require_model(const char *name)
{
	if (om_modelrow_find(name) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no model \"%s\"", name),
				 om_errdetail("model", name),
				 errhint("SELECT order_mgmt.create_model('%s', 'next_basket'), then SELECT * FROM "
						 "order_mgmt.train_model('%s').",
						 name, name)));
}

static OmModel *
open_model(const char *name)
{
	OmModel *model = om_model_open_loaded(name);

	if (model != NULL)
		return model;
	require_model(name);
	return om_model_open(name, OM_VERSION_DEPLOYED);
}

static bool
is_next_basket(const OmModel *model)
{
	return strcmp(model->info.kind, OM_KINDBASKET_NAME) == 0;
}

/* What has been handed out is undone with its error: nothing is lost by raising it. */
static void
ask_directly(Asking *asking)
{
	ErrorData *error = predict_all(asking);

	if (error == NULL)
		return;
	om_model_close(asking->model);
	if (om_provider_error_is_alien(error))
		ReThrowError(error);
	om_provider_raise(error, "prediction by", asking->model_name, OM_KINDBASKET_NAME);
}

void
om_nextorders_predict(const char *model, const char *const *customer_ids, int count, int k,
					  OmNextOrderSink sink, void *arg)
{
	Asking asking = {.model_name = model,
					 .customer_ids = customer_ids,
					 .count = count,
					 .k = k,
					 .sink = sink,
					 .arg = arg,
					 .caller = CurrentMemoryContext};

	asking.model = open_model(model);
	if (is_next_basket(asking.model))
	{
		/* Who has a fallback is asked as predict() asks, which knows how to fall back. */
		if (asking.model->options.fallback == NULL || customer_ids == NULL)
			ask_directly(&asking);
		else
			ask_in_json(&asking);
	}
	else if (customer_ids != NULL)
		ask_in_json(&asking);
	else
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID),
						errmsg("model \"%s\" does not know all customers", model),
						om_errdetail("path", "customer_ids"),
						errhint("Name the customers; kind next_basket knows them.")));
	om_model_close(asking.model);
}
