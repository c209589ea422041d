/*
 * sample_provider.c
 *		A kind of model from outside: the mean of a query's column, times an input.
 *
 * It needs nothing of order_mgmt but the header that is installed with it.  As
 * order_mgmt_sample.so on dynamic_library_path it is used by
 *
 *		SET order_mgmt.predict_providers = 'sample';
 *		SELECT order_mgmt.create_model('m', 'sample', '{"query": "SELECT total FROM order_mgmt.orders"}');
 *		SELECT * FROM order_mgmt.train_model('m');
 *		SELECT order_mgmt.predict('m', '{"times": 2}');
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "extension/order_mgmt/order_mgmt.h"

PG_MODULE_MAGIC;

static JsonbValue *
find(Jsonb *object, const char *key, JsonbValue *value)
{
	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), value);
}

static void
validate_options(const OmModelInfo *model)
{
	JsonbValue value;

	if (find(model->options, "query", &value) == NULL || value.type != jbvString)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('O', 'M', '0', '0', '1')), errmsg("options.query is missing")));
}

/* The query runs as whoever trains; a result of the call is palloc'ed in the caller's context. */
static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	JsonbValue query;
	double sum = 0;

	find(request->model->options, "query", &query);
	SPI_connect();
	if (SPI_execute(pnstrdup(query.val.string.val, query.val.string.len), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "options.query is no query");
	for (uint64 i = 0; i < SPI_processed; i++)
		sum += strtod(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), NULL);
	sum /= Max(SPI_processed, 1);
	result->model = MemoryContextAlloc(caller, VARHDRSZ + sizeof(sum));
	SET_VARSIZE(result->model, VARHDRSZ + sizeof(sum));
	memcpy(VARDATA(result->model), &sum, sizeof(sum));
	SPI_finish();
}

static void *
load(const OmModelInfo *model, OmModelBytes bytes, MemoryContext context)
{
	double *mean = MemoryContextAlloc(context, sizeof(double));

	if (bytes.size != sizeof(double))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the model is no number")));
	memcpy(mean, bytes.data, sizeof(double));
	return mean;
}

static int
predict_batch(const OmPredictRequest *request)
{
	for (int i = 0; i < request->count; i++)
	{
		double answer = *(double *) request->state;
		JsonbValue value;

		if (find(request->inputs[i], "times", &value) != NULL && value.type == jbvNumeric)
			answer *= DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
		value.type = jbvNumeric;
		value.val.numeric = DatumGetNumeric(DirectFunctionCall1(float8_numeric, Float8GetDatum(answer)));
		request->outputs[i] = JsonbValueToJsonb(&value);
	}
	return request->count;
}

PGDLLEXPORT const OmPredictProvider *order_mgmt_provider_init(int abi);

const OmPredictProvider *
order_mgmt_provider_init(int abi)
{
	static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI, .kind = "sample",
		.validate_options = validate_options, .train = train, .load = load, .predict_batch = predict_batch};

	return abi == OM_PROVIDER_ABI ? &provider : NULL;
}
