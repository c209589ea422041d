/*
 * api_pipeline.c
 *		Running, watching and proving the pipeline.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "census.h"
#include "clock.h"
#include "consumer.h"
#include "errors.h"
#include "eventlog.h"
#include "handlerseats.h"
#include "installation.h"
#include "invariants.h"
#include "jsonout.h"
#include "orders.h"
#include "outbox.h"
#include "pipeline.h"
#include "plans.h"
#include "registry.h"
#include "relations.h"
#include "repair.h"
#include "retries.h"
#include "shared.h"
#include "subscribers.h"
#include "wakeup.h"

#define IDLE_CHECK_MS 20

/* run_pipeline(max_events) → bigint */
OM_FUNCTION(om_run_pipeline)
{
	int64 max_events = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);

	if (!PG_ARGISNULL(0) && max_events < 1)
		om_arg_raise("max_events", "is not positive");
	PG_RETURN_INT64(om_pipeline_run(max_events));
}

/* wait_until_idle(timeout) → boolean */
OM_FUNCTION(om_wait_until_idle)
{
	int64 timeout = om_arg_milliseconds(fcinfo, 0, "timeout");
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);

	(void) om_installation_get();
	while (!om_pipeline_is_idle())
	{
		if (om_wakeup_is_pending())
			ereport(ERROR,
					(errcode(ERRCODE_OM_STATE),
					 errmsg("this transaction has written events that nobody else can see yet"),
					 om_errdetail("transaction", "open"),
					 errhint("Commit first, or use order_mgmt.run_pipeline().")));
		if (GetCurrentTimestamp() >= deadline)
			PG_RETURN_BOOL(false);
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, IDLE_CHECK_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	PG_RETURN_BOOL(true);
}

static OmQuery pause_query = {
	.sql = "UPDATE order_mgmt.consumers SET paused = $2 WHERE name = $1 AND paused <> $2",
	.nargs = 2,
	.types = {TEXTOID, BOOLOID}};

static OmQuery known_query = {
	.sql = "SELECT 1 FROM order_mgmt.consumers WHERE name = $1", .nargs = 1, .types = {TEXTOID}};

/* True when that changed anything. */
static bool
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	char *name = om_arg_text(fcinfo, 0);
	Datum args[2];
	OmQueryScope scope;
	bool changed;

	om_arg_require(fcinfo, 0, "name");
	om_api_begin_write(paused ? "pause_consumer()" : "resume_consumer()");
	args[0] = CStringGetTextDatum(name);
	args[1] = BoolGetDatum(paused);
	om_query_begin(&scope);
	if (om_query_run(&known_query, args, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no consumer \"%s\"", name),
						om_errdetail("consumer", name),
						errhint("SELECT name FROM order_mgmt.consumers lists them.")));
	/* Workers remember that nobody is paused; first, so that we forget it as soon as the row is there. */
	CacheInvalidateRelcacheByRelid(om_relation_get("consumers"));
	changed = om_query_run(&pause_query, args, NULL) > 0;
	om_query_end(&scope);
	om_wakeup_at_commit();
	om_wakeup_handlers_at_commit();
	return changed;
}

/* pause_consumer(name) → boolean */
OM_FUNCTION(om_pause_consumer)
{
	PG_RETURN_BOOL(set_paused(fcinfo, true));
}

/* resume_consumer(name) → boolean */
OM_FUNCTION(om_resume_consumer)
{
	PG_RETURN_BOOL(set_paused(fcinfo, false));
}

/* What a consumer has done and has before it: read = done + waiting + retrying + dead. */
static void
put_queue(ReturnSetInfo *result, const char *name, OmQueueState queue, pid_t worker, bool paused)
{
	OmRetryCounts counts = om_retry_count(name);
	int64 processed = queue.read - queue.waiting - counts.retrying - counts.dead;
	Datum values[9] = {
		CStringGetTextDatum(name),      Int64GetDatum(queue.pending), (Datum) 0,
		Int64GetDatum(counts.retrying), Int64GetDatum(counts.dead),   Int64GetDatum(processed),
		Int64GetDatum(counts.failed),   Int32GetDatum(worker),        BoolGetDatum(paused)};
	bool isnull[9] = {false};

	isnull[2] = queue.oldest == 0;
	isnull[7] = worker == 0;
	if (queue.oldest != 0)
		values[2] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(om_clock_now()),
										TimestampTzGetDatum(queue.oldest));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

static void
put_stage(ReturnSetInfo *result, OmStage stage, const OmCensus *census)
{
	put_queue(result, om_stage_names[stage], om_pipeline_queue(stage, census),
			  om_shared_stage_worker(stage), om_consumer_is_paused(stage));
}

static void
put_subscription(ReturnSetInfo *result, const OmRegistration *consumer, const OmCensus *census)
{
	put_queue(result, consumer->name, om_subscriber_queue(consumer, census),
			  om_handlerseat_pid(consumer->name), consumer->paused);
}

/* A program outside has no worker. */
static void
put_program(ReturnSetInfo *result, OmRegistration *consumer, const OmCensus *census)
{
	put_queue(result, consumer->name, om_outbox_queue(consumer, census), 0, consumer->paused);
}

/* queues_state() → the rows of view queues */
OM_FUNCTION(om_queues_state)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OmCensus census;
	ListCell *cell;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	census = om_census_take(GetActiveSnapshot(), OM_CENSUS_MAX_ROWS);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		put_stage(result, stage, &census);
	foreach(cell, om_registry_list(OM_KIND_HANDLER))
		put_subscription(result, lfirst(cell), &census);
	foreach(cell, om_registry_list(OM_KIND_EXTERNAL))
		put_program(result, lfirst(cell), &census);
	return (Datum) 0;
}

static void
put_event(ReturnSetInfo *result, const OmLogRow *row, int ordinal)
{
	Datum values[5] = {Int64GetDatum(row->event_id + ordinal), TimestampTzGetDatum(row->at),
					   CStringGetTextDatum(om_event_names[row->type]),
					   UUIDPGetDatum(&row->orders[ordinal]),
					   row->detail == NULL ? om_json_empty() : JsonbPGetDatum(row->detail)};
	bool isnull[5] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* Of what the pipeline lists, some may have been handled, or have been shipped by hand. */
static bool
is_pending(OmStage stage, OmOrderTables *tables, const pg_uuid_t *id)
{
	OmOrder *order;

	if (stage == OM_STAGE_BALANCE_CHECKER || stage == OM_STAGE_STOCK_CHECKER)
		return true;
	order = om_order_find(tables, id, GetActiveSnapshot());
	if (order == NULL)
		return false;
	if (stage == OM_STAGE_SHIPPER)
		return order->status == OM_STATUS_CONFIRMED;
	return order->settled != OM_VERDICTS_BOTH && order->status != OM_STATUS_CONFIRMED;
}

/* queue_contents(consumer) → the rows of the views named after the queues */
OM_FUNCTION(om_queue_contents)
{
	char *name = om_arg_text(fcinfo, 0);
	int stage =
		name == NULL ? -1 : om_names_find(om_stage_names, OM_STAGE_COUNT, name, strlen(name));
	OmOrderTables *tables;
	ListCell *cell;

	if (stage < 0)
		om_arg_raise("consumer", "is not a built-in consumer");
	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	tables = om_orders_open(AccessShareLock);
	foreach(cell, om_pipeline_rows(stage, GetActiveSnapshot()))
	{
		OmLogRow *row = lfirst(cell);

		for (int i = 0; i < row->norders; i++)
		{
			if (is_pending(stage, tables, &row->orders[i]))
				put_event((ReturnSetInfo *) fcinfo->resultinfo, row, i);
		}
	}
	om_orders_close(tables);
	return (Datum) 0;
}

/* check_invariants(full) → (invariant, subject, expected, actual) */
OM_FUNCTION(om_check_invariants)
{
	return om_invariants_check(fcinfo);
}

/* list_invariants() → (invariant, per, meaning, mended) */
OM_FUNCTION(om_list_invariants)
{
	return om_invariants_list(fcinfo);
}

/* repair_invariants(dry_run) → (invariant, subject, expected, actual) */
OM_FUNCTION(om_repair_invariants)
{
	om_arg_require(fcinfo, 0, "dry_run");
	om_api_begin_write("repair_invariants()");
	return om_repair_run(fcinfo, PG_GETARG_BOOL(0));
}
