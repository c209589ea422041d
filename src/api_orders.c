/*
 * api_orders.c
 *		Orders out: read, wait, cancel, ship, note.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "checkers.h"
#include "errors.h"
#include "eventlog.h"
#include "installation.h"
#include "jsonout.h"
#include "lifecycle.h"
#include "listing.h"
#include "orders.h"
#include "settings.h"
#include "shared.h"

/* Without shared memory nobody tells that an order has moved on. */
#define POLL_MS 10

static void
put_listed(Datum *values, bool *isnull, void *arg)
{
	ReturnSetInfo *result = arg;

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* The listed orders are the result; the function's columns must be those of a listing. */
static Datum
return_listing(FunctionCallInfo fcinfo, const OmListing *listing)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->natts != OM_LISTING_NCOLUMNS)
		elog(ERROR, "a list of orders has %d columns", OM_LISTING_NCOLUMNS);
	om_listing_walk(listing, put_listed, result);
	return (Datum) 0;
}

/* find_orders(order_ref, customer_id) → orders */
OM_FUNCTION(om_find_orders)
{
	OmListing listing = {.order_ref = om_arg_text(fcinfo, 0),
						 .customer_id = om_arg_text(fcinfo, 1),
						 .since = DT_NOBEGIN,
						 .until = DT_NOEND,
						 .oldest_first = true,
						 .limit = PG_INT64_MAX};

	om_arg_require(fcinfo, 0, "order_ref");
	return return_listing(fcinfo, &listing);
}

/* list_orders(customer_id, status, since, until, after, page_size) → orders */
OM_FUNCTION(om_list_orders)
{
	OmListing listing = {.customer_id = om_arg_text(fcinfo, 0),
						 .status = om_arg_text(fcinfo, 1),
						 .since = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2),
						 .until = PG_ARGISNULL(3) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(3),
						 .after = PG_ARGISNULL(4) ? NULL : PG_GETARG_UUID_P(4),
						 .limit = om_arg_page_size(fcinfo, 5)};

	if (listing.status != NULL &&
		om_names_find(om_status_names, OM_STATUS_COUNT, listing.status, strlen(listing.status)) < 0)
		om_arg_raise("status", "is not the status of an order");
	return return_listing(fcinfo, &listing);
}

/* Months that are no partitions any more may be in an archive. */
static OmOrder *
find_anywhere(OmOrderTables *tables, const pg_uuid_t *id, Snapshot snapshot)
{
	OmOrder *order = om_order_find(tables, id, snapshot);

	return order != NULL ? order : om_order_find_cold(id);
}

/* The order as it is now, or NULL; closed tables keep what was read. */
static OmOrder *
find_order(const pg_uuid_t *id)
{
	Snapshot snapshot = RegisterSnapshot(om_current_snapshot());
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmOrder *order = find_anywhere(tables, id, snapshot);

	om_orders_close(tables);
	UnregisterSnapshot(snapshot);
	return order;
}

static void
add_lines(OmJson *json, OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	ListCell *cell;

	om_json_open_array(json);
	foreach(cell, om_order_lines(tables, order, snapshot))
	{
		OmLine *line = lfirst(cell);

		om_json_open_object(json);
		om_json_key(json, "line_no");
		om_json_int(json, line->line_no);
		om_json_key(json, "product_id");
		om_json_string(json, line->product_id);
		om_json_key(json, "quantity");
		om_json_int(json, line->quantity);
		om_json_key(json, "unit_price");
		om_json_money(json, line->unit_price);
		om_json_close_object(json);
	}
	om_json_close_array(json);
}

static List *
events_of(OmOrder *order)
{
	/* The clocks of capture and log differ by the time that a statement takes. */
	return om_log_of_order(&order->id, OM_EVENTS_ALL, order->trail, order->ntrail,
						   order->created_at - USECS_PER_DAY, order->updated_at + USECS_PER_DAY);
}

static void
add_events(OmJson *json, OmOrder *order)
{
	ListCell *cell;

	om_json_open_array(json);
	foreach(cell, events_of(order))
	{
		OmLogRow *event = lfirst(cell);

		om_json_open_object(json);
		om_json_key(json, "event_id");
		om_json_int(json, event->event_id);
		om_json_key(json, "at");
		om_json_time(json, event->at);
		om_json_key(json, "event_type");
		om_json_string(json, om_event_names[event->type]);
		om_json_key(json, "detail");
		om_json_jsonb(json,
					  event->detail != NULL ? event->detail : DatumGetJsonbP(om_json_empty()));
		om_json_close_object(json);
	}
	om_json_close_array(json);
}

static Jsonb *
describe_order(OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	OmJson json = {0};
	pg_uuid_t id = order->id;

	om_json_open_object(&json);
	om_json_key(&json, "order_id");
	om_json_string(&json, DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id))));
	om_json_key(&json, "order_ref");
	om_json_string(&json, om_order_ref(order));
	om_json_key(&json, "customer_id");
	om_json_string(&json, order->customer_id);
	om_json_key(&json, "status");
	om_json_string(&json, om_status_names[order->status]);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, om_checkers_reasons_array(order->reasons));
	om_json_key(&json, "total");
	om_json_money(&json, order->total);
	om_json_key(&json, "metadata");
	om_json_jsonb(&json, om_order_metadata(order));
	om_json_key(&json, "created_at");
	om_json_time(&json, order->created_at);
	om_json_key(&json, "updated_at");
	om_json_time(&json, order->updated_at);
	om_json_key(&json, "lines");
	add_lines(&json, tables, order, snapshot);
	om_json_key(&json, "events");
	add_events(&json, order);
	om_json_close_object(&json);
	return om_json_result(&json);
}

/* get_order(order_id) → jsonb */
OM_FUNCTION(om_get_order)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	OmOrderTables *tables;
	OmOrder *order;
	Snapshot snapshot;
	Jsonb *result = NULL;

	(void) om_installation_get();
	snapshot = RegisterSnapshot(om_current_snapshot());
	PushActiveSnapshot(snapshot);
	tables = om_orders_open(AccessShareLock);
	order = find_anywhere(tables, id, snapshot);
	if (order != NULL)
		result = describe_order(tables, order, snapshot);
	om_orders_close(tables);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}

/* get_order_status(order_id) → text */
OM_FUNCTION(om_get_order_status)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	OmOrder *order;

	(void) om_installation_get();
	order = find_order(id);
	if (order == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(om_status_names[order->status]));
}

/*
 * shipment_of(order_id, trail, created_at, updated_at) → (event_id, at): the event of the
 * shipment, for statements.  It was written by the last transaction of the trail, or nearly so.
 */
OM_FUNCTION(om_shipment_of)
{
	ArrayType *trail = PG_GETARG_ARRAYTYPE_P(1);
	int64 *lxids = (int64 *) ARR_DATA_PTR(trail);
	TupleDesc desc;
	List *events = NIL;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	for (int i = ArrayGetNItems(ARR_NDIM(trail), ARR_DIMS(trail)) - 1; i >= 0 && events == NIL; i--)
		events = om_log_of_order(PG_GETARG_UUID_P(0), OM_EVENT_BIT(OM_EVENT_ORDER_SHIPPED),
								 &lxids[i], 1, PG_GETARG_TIMESTAMPTZ(2) - USECS_PER_DAY,
								 PG_GETARG_TIMESTAMPTZ(3) + USECS_PER_DAY);
	if (events == NIL)
		PG_RETURN_NULL();
	else
	{
		OmLogRow *event = linitial(events);
		Datum values[2] = {Int64GetDatum(event->event_id), TimestampTzGetDatum(event->at)};
		bool isnull[2] = {false, false};

		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
	}
}

/* track_order(order_id) → (at, event_type, since_previous, detail) */
OM_FUNCTION(om_track_order)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OmOrder *order;
	TimestampTz previous = 0;
	List *events;
	ListCell *cell;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	order = find_order(id);
	if (order == NULL)
		return (Datum) 0;
	PushActiveSnapshot(om_current_snapshot());
	events = events_of(order);
	PopActiveSnapshot();
	foreach(cell, events)
	{
		OmLogRow *event = lfirst(cell);
		bool is_first = previous == 0;
		Datum values[4] = {TimestampTzGetDatum(event->at),
						   CStringGetTextDatum(om_event_names[event->type])};
		bool isnull[4] = {false, false, is_first, false};

		if (!is_first)
			values[2] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(event->at),
											TimestampTzGetDatum(previous));
		values[3] = event->detail != NULL ? JsonbPGetDatum(event->detail) : om_json_empty();
		previous = event->at;
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* Nothing more happens to the order by itself. */
static bool
has_arrived(const OmOrder *order)
{
	return OM_STATUS_IS_FINAL(order->status) ||
		   (order->status == OM_STATUS_CONFIRMED && !om_setting_auto_ship);
}

static void
refuse_hopeless_wait(const OmOrder *order)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ an order is never seen to change"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Wait in READ COMMITTED, or in a transaction of its own.")));
	if (om_order_is_own(order))
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the order belongs to this transaction, which has not committed"),
						om_errdetail("transaction", "open"),
						errhint("Commit first; nobody else can see the order before.")));
}

static void
sleep_until_progress(OmDatabase *database, long timeout)
{
	if (database != NULL)
	{
		(void) ConditionVariableTimedSleep(&database->progress, timeout, PG_WAIT_EXTENSION);
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(timeout, POLL_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* wait_for_order(order_id, timeout) → text */
OM_FUNCTION(om_wait_for_order)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	int64 timeout = om_arg_milliseconds(fcinfo, 1, "timeout");
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	OmDatabase *database = om_shared_database(MyDatabaseId, false /* create */);
	OmOrder *order;

	(void) om_installation_get();
	if (database != NULL)
		ConditionVariablePrepareToSleep(&database->progress);
	for (;;)
	{
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		order = find_order(id);
		if (order == NULL)
			om_lifecycle_raise_not_found(id);
		now = GetCurrentTimestamp();
		if (has_arrived(order) || now >= deadline)
			break;
		refuse_hopeless_wait(order);
		sleep_until_progress(database,
							 Min(TimestampDifferenceMilliseconds(now, deadline) + 1, 1000));
	}
	ConditionVariableCancelSleep();
	PG_RETURN_TEXT_P(cstring_to_text(om_status_names[order->status]));
}

/* cancel_order(order_id, reason) → text */
OM_FUNCTION(om_cancel_order)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");

	om_api_begin_write("cancel_order()");
	PG_RETURN_TEXT_P(
		cstring_to_text(om_status_names[om_lifecycle_cancel(id, om_arg_text(fcinfo, 1), NULL)]));
}

/* ship_order(order_id, detail) → text */
OM_FUNCTION(om_ship_order)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	Jsonb *detail = om_arg_object(fcinfo, 1, "detail");

	om_api_begin_write("ship_order()");
	PG_RETURN_TEXT_P(cstring_to_text(om_status_names[om_lifecycle_ship(id, detail)]));
}

/* add_order_note(order_id, note, detail) → bigint */
OM_FUNCTION(om_add_order_note)
{
	pg_uuid_t *id = om_arg_uuid(fcinfo, 0, "order_id");
	Jsonb *detail = om_arg_object(fcinfo, 2, "detail");

	char *note = om_arg_text(fcinfo, 1);

	if (note == NULL || *note == '\0')
		om_arg_raise("note", "is missing");
	om_api_begin_write("add_order_note()");
	PG_RETURN_INT64(om_lifecycle_note(id, note, detail));
}
