/*
 * api_invocations.c
 *		Asking models the way users of Amazon's functions know.
 *
 * What they name is a model that an administrator has made: nobody else decides
 * what is called.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "installation.h"
#include "predictions.h"

/* The elements of an array, none of them null. */
static Jsonb **
get_inputs(FunctionCallInfo fcinfo, int n, int *count)
{
	Datum *elements;
	bool *nulls;
	Jsonb **inputs;

	om_arg_require(fcinfo, n, "inputs");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), JSONBOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, count);
	inputs = palloc((*count + 1) * sizeof(Jsonb *));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			om_arg_raise(psprintf("inputs[%d]", i), "is NULL");
		inputs[i] = DatumGetJsonbP(elements[i]);
	}
	return inputs;
}

/* At most what the model takes at a time, and what the caller wants. */
static int
get_batch_size(FunctionCallInfo fcinfo, int n, const char *model)
{
	int size = om_predict_batch_size(model);

	if (PG_ARGISNULL(n))
		return size;
	if (PG_GETARG_INT64(n) < 1)
		om_arg_raise("max_rows_per_batch", "is not positive");
	return (int) Min(PG_GETARG_INT64(n), size);
}

static void
put_outputs(ReturnSetInfo *result, int64 first, Jsonb **outputs, int count)
{
	for (int i = 0; i < count; i++)
	{
		Datum values[2] = {Int64GetDatum(first + i + 1), JsonbPGetDatum(outputs[i])};
		bool isnull[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
}

/* invoke_endpoint(endpoint, max_rows_per_batch, VARIADIC inputs) → (ordinal, output) */
OM_FUNCTION(om_invoke_endpoint)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *model = om_arg_required_text(fcinfo, 0, "endpoint");
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext batch;
	Jsonb **inputs;
	int count;
	int size;

	inputs = get_inputs(fcinfo, 2, &count);
	(void) om_installation_get();
	size = get_batch_size(fcinfo, 1, model);
	InitMaterializedSRF(fcinfo, 0);
	batch = AllocSetContextCreate(CurrentMemoryContext, "batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(batch);
	for (int done = 0; done < count; done += size)
	{
		int n = Min(size, count - done);
		Jsonb **outputs = palloc(n * sizeof(Jsonb *));

		om_predict(model, inputs + done, n, outputs);
		put_outputs(result, done, outputs, n);
		MemoryContextReset(batch);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(batch);
	return (Datum) 0;
}

/* invoke_bedrock(model_id, input) → jsonb */
OM_FUNCTION(om_invoke_bedrock)
{
	char *model = om_arg_required_text(fcinfo, 0, "model_id");
	Jsonb *input = om_arg_jsonb(fcinfo, 1);
	Jsonb *output;

	om_arg_require(fcinfo, 1, "input");
	(void) om_installation_get();
	om_predict(model, &input, 1, &output);
	PG_RETURN_JSONB_P(output);
}
