/*
 * api_demand.c
 *		What will be ordered, and what to reorder.
 */
#include "postgres.h"

#include <math.h>

#include "funcapi.h"
#include "miscadmin.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "installation.h"
#include "kinddemand.h"
#include "plans.h"

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

/* Of a product without history nothing is known: item is NULL. */
static void
put_days(ReturnSetInfo *result, const OmDemandModel *model, const OmDemandItem *item,
		 const char *product_id, int32 start, int32 ndays)
{
	Datum values[5] = {CStringGetTextDatum(product_id)};
	bool isnull[5] = {false, false, item == NULL, item == NULL, item == NULL};

	for (int32 day = start; day < start + ndays; day++)
	{
		values[1] = DateADTGetDatum(day);
		if (item != NULL)
		{
			OmDemandRange range = om_demand_forecast(model, item, day, 1);

			values[2] = Float8GetDatum(range.expected);
			values[3] = Float8GetDatum(range.low);
			values[4] = Float8GetDatum(range.high);
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
}

/* forecast_demand(product_id, days, model) → (product_id, day, expected, low, high) */
OM_FUNCTION(om_forecast_demand)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char *product_id = om_arg_text(fcinfo, 0);
	int32 ndays = get_days(fcinfo, 1);
	char *name = om_arg_required_text(fcinfo, 2, "model");
	const OmDemandModel *learnt;
	OmModel *model;
	int32 start;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	model = om_model_open(name, OM_VERSION_DEPLOYED);
	learnt = om_kinddemand_get(model);
	start = om_kinddemand_start(&model->info, learnt);
	if (product_id != NULL)
	{
		const OmDemandItem *item = om_kinddemand_find(learnt, product_id);

		if (item != NULL || is_product(product_id))
			put_days(result, learnt, item, product_id, start, ndays);
	}
	for (int32 i = 0; product_id == NULL && i < learnt->nitems; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_days(result, learnt, &learnt->items[i], learnt->items[i].product_id, start, ndays);
	}
	om_model_close(model);
	return (Datum) 0;
}

/* ---------- suggest_reorder ---------- */

static OmQuery stock_query = {.sql = "SELECT product_id::text, on_hand, reserved"
									 " FROM order_mgmt.stock ORDER BY product_id"};

/* What is missing, if as much is ordered as is likely at most. */
static int64
missing_units(double most, int64 available)
{
	double missing = ceil(most - available);

	return missing <= 0 ? 0 : missing >= (double) PG_INT64_MAX ? PG_INT64_MAX : (int64) missing;
}

static void
put_product(ReturnSetInfo *result, uint64 row, const OmDemandModel *model, int32 start, int32 ndays)
{
	Datum values[5];
	bool isnull[5] = {false};
	const OmDemandItem *item;
	OmDemandRange range = {0, 0, 0};

	for (int i = 0; i < 3; i++)
		values[i] = om_result_get(row, i + 1, &isnull[i]);
	item = om_kinddemand_find(model, TextDatumGetCString(values[0]));
	if (item != NULL)
		range = om_demand_forecast(model, item, start, ndays);
	values[3] = Float8GetDatum(range.expected);
	isnull[3] = item == NULL;
	values[4] = Int64GetDatum(
		missing_units(range.high, DatumGetInt64(values[1]) - DatumGetInt64(values[2])));
	if (item == NULL)
		values[4] = Int64GetDatum(0);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* suggest_reorder(days, model) → (product_id, on_hand, reserved, expected, reorder) */
OM_FUNCTION(om_suggest_reorder)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32 ndays = get_days(fcinfo, 0);
	char *name = om_arg_required_text(fcinfo, 1, "model");
	const OmDemandModel *learnt;
	OmQueryScope scope;
	OmModel *model;
	uint64 count;
	int32 start;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	model = om_model_open(name, OM_VERSION_DEPLOYED);
	learnt = om_kinddemand_get(model);
	start = om_kinddemand_start(&model->info, learnt);
	om_query_begin(&scope);
	count = om_query_read(&stock_query, NULL, NULL);
	for (uint64 row = 0; row < count; row++)
		put_product(result, row, learnt, start, ndays);
	om_query_end(&scope);
	om_model_close(model);
	return (Datum) 0;
}
