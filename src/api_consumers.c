/*
 * api_consumers.c
 *		Consumers of the user's own: programs outside the server, and the retry
 *		policy of all kinds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "errors.h"
#include "jsonout.h"
#include "names.h"
#include "orders.h"
#include "outbox.h"
#include "plans.h"
#include "registry.h"
#include "retries.h"
#include "wakeup.h"

#define MAX_BATCH 10000

static int64
required_int64(FunctionCallInfo fcinfo, int n, const char *name)
{
	om_arg_require(fcinfo, n, name);
	return PG_GETARG_INT64(n);
}

/* create_consumer(name, event_types, start_at) → boolean */
OM_FUNCTION(om_create_consumer)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");
	ArrayType *event_types = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	TimestampTz start_at = PG_ARGISNULL(2) ? 0 : PG_GETARG_TIMESTAMPTZ(2);

	om_api_begin_write("create_consumer()");
	PG_RETURN_BOOL(om_registry_add(name, OM_KIND_EXTERNAL, NULL, event_types, 0,
								   PG_ARGISNULL(2) ? NULL : &start_at));
}

/* drop_consumer(name) → boolean */
OM_FUNCTION(om_drop_consumer)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");

	om_api_begin_write("drop_consumer()");
	om_registry_drop(name, OM_KIND_EXTERNAL);
	om_wakeup_at_commit(); /* who waits for its events shall hear that it is gone */
	PG_RETURN_BOOL(true);
}

/* Events about orders do not name the customer; the order does. */
static char *
customer_of(const OmRetry *event, OmOrderTables *orders)
{
	OmOrder *order;

	if (event->customer_id != NULL || !event->has_order)
		return event->customer_id;
	order = om_order_find(orders, &event->order_id, GetActiveSnapshot());
	return order == NULL ? NULL : order->customer_id;
}

static void
put_text(Datum *values, bool *isnull, int column, const char *text)
{
	isnull[column] = text == NULL;
	values[column] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_event(ReturnSetInfo *result, int64 batch_id, const OmRetry *event, OmOrderTables *orders)
{
	Datum values[9] = {
		Int64GetDatum(batch_id), Int64GetDatum(event->event_id), TimestampTzGetDatum(event->at),
		CStringGetTextDatum(om_event_names[event->type]), UUIDPGetDatum(&event->order_id)};
	bool isnull[9] = {false};

	isnull[4] = !event->has_order;
	values[5] = event->detail == NULL ? om_json_empty() : JsonbPGetDatum(event->detail);
	put_text(values, isnull, 6, customer_of(event, orders));
	put_text(values, isnull, 7, event->product_id);
	values[8] = Int64GetDatum(event->attempts);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

static void
put_batch(ReturnSetInfo *result, const OmBatch *batch)
{
	OmOrderTables *orders = om_orders_open(AccessShareLock);
	ListCell *cell;

	/* The orders of the events may be newer than the calling statement. */
	PushActiveSnapshot(GetLatestSnapshot());
	foreach(cell, batch->events)
		put_event(result, batch->batch_id, lfirst(cell), orders);
	PopActiveSnapshot();
	om_orders_close(orders);
}

/* receive_events(consumer, max_events, wait) → the events of a batch */
OM_FUNCTION(om_receive_events)
{
	char *consumer = om_arg_required_text(fcinfo, 0, "consumer");
	int64 max_events = required_int64(fcinfo, 1, "max_events");
	int64 wait = om_arg_milliseconds(fcinfo, 2, "wait");
	OmBatch *batch;

	if (max_events < 1 || max_events > MAX_BATCH)
		om_arg_raise("max_events", "is not from 1 to 10000");
	om_api_begin_write("receive_events()");
	InitMaterializedSRF(fcinfo, 0);
	batch = om_outbox_receive(consumer, max_events, wait);
	if (batch != NULL)
		put_batch((ReturnSetInfo *) fcinfo->resultinfo, batch);
	return (Datum) 0;
}

/* acknowledge_batch(consumer, batch_id) → boolean */
OM_FUNCTION(om_acknowledge_batch)
{
	char *consumer = om_arg_required_text(fcinfo, 0, "consumer");
	int64 batch_id = required_int64(fcinfo, 1, "batch_id");

	om_api_begin_write("acknowledge_batch()");
	PG_RETURN_BOOL(om_outbox_acknowledge(consumer, batch_id));
}

/* reject_event(consumer, event_id, message) → boolean */
OM_FUNCTION(om_reject_event)
{
	char *consumer = om_arg_required_text(fcinfo, 0, "consumer");
	int64 event_id = required_int64(fcinfo, 1, "event_id");
	char *message = om_arg_required_text(fcinfo, 2, "message");

	om_api_begin_write("reject_event()");
	PG_RETURN_BOOL(om_outbox_reject(consumer, event_id, message));
}

/* What the policy would be, and what is wrong with it. */
static OmQuery check_policy_query = {
	.sql = "SELECT coalesce($2, backoff_base) > '0', coalesce($3, backoff_cap) >="
		   " coalesce($2, backoff_base) FROM order_mgmt.consumers WHERE name = $1 FOR UPDATE",
	.nargs = 3,
	.types = {TEXTOID, INTERVALOID, INTERVALOID}};

static OmQuery set_policy_query = {
	.sql = "UPDATE order_mgmt.consumers SET max_attempts = coalesce($4, max_attempts),"
		   " backoff_base = coalesce($2, backoff_base), backoff_cap = coalesce($3, backoff_cap)"
		   " WHERE name = $1 AND (max_attempts, backoff_base, backoff_cap) IS DISTINCT FROM"
		   " (coalesce($4, max_attempts), coalesce($2, backoff_base), coalesce($3, backoff_cap))",
	.nargs = 4,
	.types = {TEXTOID, INTERVALOID, INTERVALOID, INT8OID}};

static void
check_policy(const char *consumer, const Datum *args, const bool *isnull)
{
	bool unknown;

	if (om_query_run(&check_policy_query, args, isnull) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no consumer \"%s\"", consumer),
				 om_errdetail("consumer", consumer),
				 errhint("SELECT name FROM order_mgmt.consumers lists them.")));
	if (!DatumGetBool(om_result_get(0, 1, &unknown)))
		om_arg_raise("backoff_base", "is not positive");
	if (!DatumGetBool(om_result_get(0, 2, &unknown)))
		om_arg_raise("backoff_cap", "is less than backoff_base");
}

/* set_retry_policy(consumer, max_attempts, backoff_base, backoff_cap) → boolean */
OM_FUNCTION(om_set_retry_policy)
{
	char *consumer = om_arg_required_text(fcinfo, 0, "consumer");
	Datum args[4] = {CStringGetTextDatum(consumer), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
					 PG_GETARG_DATUM(1)};
	bool isnull[4] = {false, PG_ARGISNULL(2), PG_ARGISNULL(3), PG_ARGISNULL(1)};
	OmQueryScope scope;
	bool changed;

	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 1)
		om_arg_raise("max_attempts", "is not positive");
	if (!PG_ARGISNULL(2))
		(void) om_arg_milliseconds(fcinfo, 2, "backoff_base");
	if (!PG_ARGISNULL(3))
		(void) om_arg_milliseconds(fcinfo, 3, "backoff_cap");
	om_api_begin_write("set_retry_policy()");
	om_query_begin(&scope);
	check_policy(consumer, args, isnull);
	changed = om_query_run(&set_policy_query, args, isnull) > 0;
	om_query_end(&scope);
	PG_RETURN_BOOL(changed);
}
