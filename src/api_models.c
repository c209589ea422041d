/*
 * api_models.c
 *		Models: made, trained, deployed, asked and measured.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "errors.h"
#include "evaluation.h"
#include "inputrows.h"
#include "installation.h"
#include "jsonout.h"
#include "plans.h"
#include "predictionlog.h"
#include "predictionrequests.h"
#include "predictions.h"
#include "purges.h"
#include "training.h"

/* ---------- making models ---------- */

static Jsonb *
get_options(FunctionCallInfo fcinfo, int n)
{
	om_arg_require(fcinfo, n, "options");
	return om_arg_object(fcinfo, n, "options");
}

/* create_model(name, kind, options) → boolean */
OM_FUNCTION(om_create_model)
{
	char *name = om_arg_id(fcinfo, 0, "name");
	char *kind = om_arg_required_text(fcinfo, 1, "kind");
	Jsonb *options = get_options(fcinfo, 2);

	om_api_begin_write("create_model()");
	PG_RETURN_BOOL(om_model_create(name, kind, options));
}

/* set_model_options(name, options) → boolean */
OM_FUNCTION(om_set_model_options)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");
	Jsonb *options = get_options(fcinfo, 1);

	om_api_begin_write("set_model_options()");
	PG_RETURN_BOOL(om_model_set_options(name, options));
}

static OmQuery row_query = {.sql = "SELECT name, kind, version, deployed, options, trained_at,"
								   " metrics FROM order_mgmt.models"
								   " WHERE name = $1 AND version = $2",
							.nargs = 2,
							.types = {TEXTOID, INT8OID}};

static Datum
train(FunctionCallInfo fcinfo, const char *what, bool update)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");
	Datum args[2] = {CStringGetTextDatum(name), (Datum) 0};

	om_api_begin_write(what);
	args[1] = Int64GetDatum(om_model_train(name, update));
	return om_query_return_row(fcinfo, &row_query, args, NULL);
}

/* train_model(name) → model */
OM_FUNCTION(om_train_model)
{
	return train(fcinfo, "train_model()", false /* update */);
}

/* update_model(name) → model */
OM_FUNCTION(om_update_model)
{
	return train(fcinfo, "update_model()", true /* update */);
}

/* deploy_model(name, version) → boolean */
OM_FUNCTION(om_deploy_model)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");

	om_arg_require(fcinfo, 1, "version");
	om_api_begin_write("deploy_model()");
	PG_RETURN_BOOL(om_model_deploy(name, PG_GETARG_INT64(1)));
}

/* drop_model(name) → boolean */
OM_FUNCTION(om_drop_model)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");

	om_api_begin_write("drop_model()");
	om_model_drop(name);
	PG_RETURN_BOOL(true);
}

/* ---------- asking them ---------- */

/* predict(model, input) → jsonb */
OM_FUNCTION(om_predict_sql)
{
	char *model = om_arg_required_text(fcinfo, 0, "model");
	Jsonb *input = om_arg_jsonb(fcinfo, 1);
	Jsonb *output;

	om_arg_require(fcinfo, 1, "input");
	(void) om_installation_get();
	om_predict(model, &input, 1, &output);
	PG_RETURN_JSONB_P(output);
}

/* Reads elements of an array, up to so many; 0: there are no more. */
static int
read_elements(JsonbIterator **iterator, Jsonb **inputs, int count)
{
	int n = 0;
	JsonbValue value;

	while (n < count && *iterator != NULL)
	{
		JsonbIteratorToken token = JsonbIteratorNext(iterator, &value, true /* skipNested */);

		if (token == WJB_DONE)
			break;
		if (token == WJB_ELEM)
			inputs[n++] = JsonbValueToJsonb(&value);
	}
	return n;
}

static void
put_output(ReturnSetInfo *result, int64 ordinal, Jsonb *output)
{
	Datum values[2] = {Int64GetDatum(ordinal), JsonbPGetDatum(output)};
	bool isnull[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* predict_batch(model, inputs) → (ordinal, output) */
OM_FUNCTION(om_predict_batch_sql)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *model = om_arg_required_text(fcinfo, 0, "model");
	Jsonb *given = om_arg_jsonb(fcinfo, 1);
	MemoryContext batch;
	JsonbIterator *iterator;
	int64 done = 0;
	int size;
	int count;

	om_arg_require(fcinfo, 1, "inputs");
	if (!JB_ROOT_IS_ARRAY(given) || JB_ROOT_IS_SCALAR(given))
		om_arg_raise("inputs", "is not a JSON array");
	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	size = om_predict_batch_size(model);
	iterator = JsonbIteratorInit(&given->root);
	batch = AllocSetContextCreate(CurrentMemoryContext, "batch", ALLOCSET_DEFAULT_SIZES);
	do
	{
		MemoryContext caller = MemoryContextSwitchTo(batch);
		Jsonb **inputs = palloc(sizeof(Jsonb *) * size * 2);
		Jsonb **outputs = inputs + size;

		MemoryContextSwitchTo(caller); /* of the iterator, which lives on */
		count = read_elements(&iterator, inputs, size);
		MemoryContextSwitchTo(batch);
		om_predict(model, inputs, count, outputs);
		for (int i = 0; i < count; i++)
			put_output(result, ++done, outputs[i]);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch);
	} while (count > 0);
	return (Datum) 0;
}

static void
put_prediction(ReturnSetInfo *result, int64 ordinal, Jsonb *input, Jsonb *output)
{
	Datum values[3] = {Int64GetDatum(ordinal), JsonbPGetDatum(input), JsonbPGetDatum(output)};
	bool isnull[3] = {false, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* predict_query(model, query) → (ordinal, input, output) */
OM_FUNCTION(om_predict_query)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *model = om_arg_required_text(fcinfo, 0, "model");
	char *query = om_arg_required_text(fcinfo, 1, "query");
	MemoryContext batch;
	OmInputRows rows;
	int size;
	int count;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	size = om_predict_batch_size(model);
	batch = AllocSetContextCreate(CurrentMemoryContext, "batch", ALLOCSET_DEFAULT_SIZES);
	om_inputrows_open(&rows, query, NULL, "query");
	do
	{
		MemoryContext caller = MemoryContextSwitchTo(batch);
		Jsonb **inputs = palloc(sizeof(Jsonb *) * size * 2);
		Jsonb **outputs = inputs + size;
		int64 before = rows.count;

		CHECK_FOR_INTERRUPTS();
		count = om_inputrows_fetch(&rows, size, inputs, NULL);
		om_predict(model, inputs, count, outputs);
		for (int i = 0; i < count; i++)
			put_prediction(result, before + i + 1, inputs[i], outputs[i]);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch);
	} while (count > 0);
	om_inputrows_close(&rows);
	return (Datum) 0;
}

/* ---------- measuring them ---------- */

static void
put_metric(void *arg, const char *metric, double value)
{
	ReturnSetInfo *result = arg;
	Datum values[2] = {CStringGetTextDatum(metric), Float8GetDatum(value)};
	bool isnull[2] = {false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* evaluate_model(name, options) → (metric, value) */
OM_FUNCTION(om_evaluate_model)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");
	Jsonb *options = get_options(fcinfo, 1);

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	om_model_evaluate(name, options, put_metric, fcinfo->resultinfo);
	return (Datum) 0;
}

/* purge_predictions(older) → bigint */
OM_FUNCTION(om_purge_predictions)
{
	int64 older = PG_ARGISNULL(0) ? -1 : om_arg_milliseconds(fcinfo, 0, "older");

	om_api_begin_write("purge_predictions()");
	PG_RETURN_INT64(older < 0 ? om_purge_prediction_log()
							  : om_predictionlog_purge(older) + om_predictionrequests_purge(older));
}

/* retrain_models(older) → bigint */
OM_FUNCTION(om_retrain_models)
{
	int64 older = om_arg_milliseconds(fcinfo, 0, "older");

	om_api_begin_write("retrain_models()");
	PG_RETURN_INT64(om_models_retrain(older));
}
