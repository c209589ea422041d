/*
 * api_demand.c
 *		What will be ordered, and what to reorder.
 *
 * Both functions go through products, max_rows_per_batch of them at a time: that
 * is what the time limit of the model counts for, and what predict() would be
 * asked about.  The log shows it as predict()'s.  A fallback begins anew.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "installation.h"
#include "kinddemand.h"
#include "plans.h"
#include "predictionlog.h"
#include "predictions.h"

static int32
get_days(FunctionCallInfo fcinfo, int n)
{
	int64 days;

	om_arg_require(fcinfo, n, "days");
	days = PG_GETARG_INT64(n);
	if (days < 1 || days > OM_DEMAND_MAX_DAYS)
		om_arg_raise("days", psprintf("is not from 1 to %d", OM_DEMAND_MAX_DAYS));
	return (int32) days;
}

/* A product that is asked about; without history (item is NULL) nothing is known. */
typedef struct Product
{
	const char *product_id;
	const OmDemandItem *item;
	int64 on_hand;
	int64 reserved;
} Product;

typedef struct Asking
{
	ReturnSetInfo *result;
	int32 ndays;
	/* Puts what is known of a product into the result. */
	void (*put)(const struct Asking *asking, const Product *product);
	const Product *products; /* NULL: all that the model knows */
	int nproducts;
	/* Of the model that is being asked */
	OmModel *model;
	const OmDemandModel *learnt;
	int32 start;
	int first; /* of the batch */
	int end;
} Asking;

/* ---------- asking models ---------- */

static void
begin(void *arg)
{
	Asking *asking = arg;

	asking->learnt = om_kinddemand_get(asking->model);
	asking->start = om_kinddemand_start(&asking->model->info, asking->learnt);
}

static void
log_product(const Asking *asking, const Product *product)
{
	if (om_predictionlog_wants(asking->model))
		om_predictionlog_add(
			asking->model, NULL, om_kinddemand_input(product->product_id, asking->ndays),
			om_kinddemand_output(asking->learnt, product->item, product->product_id, asking->start,
								 asking->ndays),
			0 /* duration_us */, NULL /* error_code */, false /* at_commit */);
}

static Product
find_product(const Asking *asking, int n)
{
	const OmDemandItem *item;
	Product product;

	if (asking->products == NULL)
	{
		item = &asking->learnt->items[n];
		return (Product){.product_id = item->product_id, .item = item};
	}
	product = asking->products[n];
	product.item = om_kinddemand_find(asking->learnt, product.product_id);
	return product;
}

static void
answer_batch(void *arg)
{
	Asking *asking = arg;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "demand", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);

	for (int i = asking->first; i < asking->end; i++)
	{
		Product product = find_product(asking, i);

		CHECK_FOR_INTERRUPTS();
		asking->put(asking, &product);
		log_product(asking, &product);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
}

/* What a model has said that failed then, or was not asked to the end, is taken back. */
static ErrorData *
ask(OmModel *model, void *arg)
{
	Asking *asking = arg;
	int size = model->options.max_rows_per_batch;
	ErrorData *error;
	int count;

	asking->model = model;
	tuplestore_clear(asking->result->setResult);
	error = om_predict_attempt(model, begin, asking);
	if (error != NULL)
		return error;
	count = asking->products == NULL ? asking->learnt->nitems : asking->nproducts;
	for (int first = 0; first < count && error == NULL; first += size)
	{
		asking->first = first;
		asking->end = first + Min(size, count - first);
		error = om_predict_attempt(model, answer_batch, asking);
	}
	return error;
}

/* Answers have been logged already, product by product. */
static void
log_failure(const OmModel *model, void *arg, int64 duration_us, const ErrorData *error,
			bool at_commit)
{
	const Asking *asking = arg;
	bool is_one = asking->products != NULL && asking->nproducts == 1;

	if (error != NULL && om_predictionlog_wants(model))
		om_predictionlog_add(
			model, NULL,
			om_kinddemand_input(is_one ? asking->products->product_id : NULL, asking->ndays),
			NULL /* output */, duration_us, unpack_sql_state(error->sqlerrcode), at_commit);
}

static void
predict(Asking *asking, const char *model)
{
	OmWay way = {.ask = ask, .log = log_failure, .arg = asking};

	om_kinddemand_require(model);
	om_predict_by_way(model, &way);
}

/* ---------- forecast_demand ---------- */

static OmQuery product_query = {
	.sql = "SELECT FROM order_mgmt.products WHERE product_id = $1", .nargs = 1, .types = {TEXTOID}};

static bool
is_product(const char *product_id)
{
	Datum key = CStringGetTextDatum(product_id);
	OmQueryScope scope;
	bool found;

	om_query_begin(&scope);
	found = om_query_read(&product_query, &key, NULL) > 0;
	om_query_end(&scope);
	return found;
}

static void
put_days(const Asking *asking, const Product *product)
{
	const OmDemandItem *item = product->item;
	Datum values[5] = {CStringGetTextDatum(product->product_id)};
	bool isnull[5] = {false, false, item == NULL, item == NULL, item == NULL};

	if (item == NULL && !is_product(product->product_id))
		return;
	for (int32 day = asking->start; day < asking->start + asking->ndays; day++)
	{
		values[1] = DateADTGetDatum(day);
		if (item != NULL)
		{
			OmDemandRange range = om_demand_forecast(asking->learnt, item, day, 1);

			values[2] = Float8GetDatum(range.expected);
			values[3] = Float8GetDatum(range.low);
			values[4] = Float8GetDatum(range.high);
		}
		tuplestore_putvalues(asking->result->setResult, asking->result->setDesc, values, isnull);
	}
}

/* forecast_demand(product_id, days, model) → (product_id, day, expected, low, high) */
OM_FUNCTION(om_forecast_demand)
{
	Product product = {.product_id = om_arg_text(fcinfo, 0)};
	Asking asking = {.result = (ReturnSetInfo *) fcinfo->resultinfo,
					 .ndays = get_days(fcinfo, 1),
					 .put = put_days};
	char *model = om_arg_required_text(fcinfo, 2, "model");

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	if (product.product_id != NULL)
	{
		asking.products = &product;
		asking.nproducts = 1;
	}
	predict(&asking, model);
	return (Datum) 0;
}

/* ---------- suggest_reorder ---------- */

static OmQuery stock_query = {.sql = "SELECT product_id::text, on_hand, reserved"
									 " FROM order_mgmt.stock ORDER BY product_id"};

static void
read_stock(Asking *asking)
{
	MemoryContext caller = CurrentMemoryContext;
	Product *products;
	OmQueryScope scope;
	bool isnull;

	om_query_begin(&scope);
	asking->nproducts = (int) om_query_read(&stock_query, NULL, NULL);
	MemoryContextSwitchTo(caller);
	products = MemoryContextAllocHuge(caller, sizeof(Product) * Max(1, asking->nproducts));
	for (int i = 0; i < asking->nproducts; i++)
		products[i] = (Product){.product_id = TextDatumGetCString(om_result_get(i, 1, &isnull)),
								.on_hand = DatumGetInt64(om_result_get(i, 2, &isnull)),
								.reserved = DatumGetInt64(om_result_get(i, 3, &isnull))};
	om_query_end(&scope);
	asking->products = products;
}

/* What is missing, if as much is ordered as is likely at most. */
static int64
missing_units(double most, int64 available)
{
	double missing = ceil(most - available);

	return missing <= 0 ? 0 : missing >= (double) PG_INT64_MAX ? PG_INT64_MAX : (int64) missing;
}

static void
put_reorder(const Asking *asking, const Product *product)
{
	const OmDemandItem *item = product->item;
	OmDemandRange range = {0, 0, 0};
	Datum values[5] = {CStringGetTextDatum(product->product_id), Int64GetDatum(product->on_hand),
					   Int64GetDatum(product->reserved)};
	bool isnull[5] = {false, false, false, item == NULL, false};
	int64 missing = 0;

	if (item != NULL)
	{
		range = om_demand_forecast(asking->learnt, item, asking->start, asking->ndays);
		missing = missing_units(range.high, product->on_hand - product->reserved);
	}
	values[3] = Float8GetDatum(range.expected);
	values[4] = Int64GetDatum(missing);
	tuplestore_putvalues(asking->result->setResult, asking->result->setDesc, values, isnull);
}

/* suggest_reorder(days, model) → (product_id, on_hand, reserved, expected, reorder) */
OM_FUNCTION(om_suggest_reorder)
{
	Asking asking = {.result = (ReturnSetInfo *) fcinfo->resultinfo,
					 .ndays = get_days(fcinfo, 0),
					 .put = put_reorder};
	char *model = om_arg_required_text(fcinfo, 1, "model");

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	read_stock(&asking);
	predict(&asking, model);
	return (Datum) 0;
}
