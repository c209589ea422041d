/*
 * api_nextorders.c
 *		What customers will order next.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "installation.h"
#include "nextorders.h"

static int
get_k(FunctionCallInfo fcinfo, int n)
{
	int64 k;

	om_arg_require(fcinfo, n, "k");
	k = PG_GETARG_INT64(n);
	if (k < 1 || k > OM_NEXTORDERS_MAX_K)
		om_arg_raise("k", "is not from 1 to 100");
	return (int) k;
}

/* The last columns of both functions, behind so many others. */
static void
put_row(ReturnSetInfo *result, Datum *values, int first, int rank, const char *product_id,
		double score)
{
	bool isnull[4] = {false};

	values[first] = Int64GetDatum(rank);
	values[first + 1] = CStringGetTextDatum(product_id);
	values[first + 2] = Float8GetDatum(score);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	pfree(DatumGetPointer(values[first + 1]));
}

static void
put_product(void *arg, const char *customer_id pg_attribute_unused(), int rank,
			const char *product_id, double score)
{
	Datum values[3];

	put_row(arg, values, 0, rank, product_id, score);
}

static void
put_customer_product(void *arg, const char *customer_id, int rank, const char *product_id,
					 double score)
{
	Datum values[4] = {CStringGetTextDatum(customer_id)};

	put_row(arg, values, 1, rank, product_id, score);
	pfree(DatumGetPointer(values[0]));
}

/* predict_next_order(customer_id, k, model) → (rank, product_id, score) */
OM_FUNCTION(om_predict_next_order)
{
	char *customer_id = om_arg_id(fcinfo, 0, "customer_id");
	int k = get_k(fcinfo, 1);
	char *model = om_arg_required_text(fcinfo, 2, "model");

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	om_nextorders_predict(model, (const char *const *) &customer_id, 1, k, put_product,
						  fcinfo->resultinfo);
	return (Datum) 0;
}

static const char *const *
get_customers(FunctionCallInfo fcinfo, int n, int *count)
{
	Datum *elements;
	bool *isnull;
	const char **ids;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &isnull, count);
	ids = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (isnull[i])
			om_arg_raise("customer_ids", "has an element that is missing");
		ids[i] = TextDatumGetCString(elements[i]);
	}
	return ids;
}

/* predict_next_orders(customer_ids, k, model) → (customer_id, rank, product_id, score) */
OM_FUNCTION(om_predict_next_orders)
{
	int k = get_k(fcinfo, 1);
	char *model = om_arg_required_text(fcinfo, 2, "model");
	const char *const *customer_ids = NULL;
	int count = 0;

	(void) om_installation_get();
	if (!PG_ARGISNULL(0))
		customer_ids = get_customers(fcinfo, 0, &count);
	InitMaterializedSRF(fcinfo, 0);
	om_nextorders_predict(model, customer_ids, count, k, put_customer_product, fcinfo->resultinfo);
	return (Datum) 0;
}
