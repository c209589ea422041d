/*
 * pipeline.c
 *		The workers' work, done by a client.
 *
 * A client may read beyond the ticks, up to a horizon of its own that includes
 * what its transaction has itself captured, if nobody else works as any of the
 * consumers: then both checkers see the same order of events.  If live workers
 * own some stages, it reads as far as the common ticks go.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "checkers.h"
#include "consumer.h"
#include "cursors.h"
#include "errors.h"
#include "eventlog.h"
#include "handlerseats.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "pipeline.h"
#include "reader.h"
#include "registry.h"
#include "relations.h"
#include "retries.h"
#include "settings.h"
#include "shared.h"
#include "subscribers.h"
#include "ticks.h"

/* Up to so many events are read to find the oldest that waits. */
#define OLDEST_MAX_EVENTS 2000

typedef struct Run
{
	OmConsumer *consumers[OM_STAGE_COUNT]; /* NULL: not ours */
	bool is_alone;                         /* nobody else works as any consumer */
	int64 max_events;
	int64 events;
	MemoryContext step_context;
} Run;

/*
 * What the session remembers of each stage from call to call, as a worker does
 * from batch to batch: who calls run_pipeline() in a loop would else read again
 * in each call what is undecided.
 */
static OmConsumer *session_consumers[OM_STAGE_COUNT];
static Oid session_relid; /* of the tables that it is about */

static void
forget_session(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (session_consumers[stage] != NULL)
			om_consumer_forget(session_consumers[stage]);
	}
}

/*
 * Nesting level of the step that runs; 0: none.  What fails further inside, a model
 * that is asked for instance, undoes nothing that the step has done.
 */
static int step_level = 0;

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		step_level = 0;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_session();
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine pg_attribute_unused(),
						 SubTransactionId parent pg_attribute_unused(),
						 void *arg pg_attribute_unused())
{
	if (event == SUBXACT_EVENT_ABORT_SUB &&
		(step_level == 0 || GetCurrentTransactionNestLevel() <= step_level))
		forget_session();
}

void
om_pipeline_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_subtransaction, NULL);
}

static OmConsumer *
session_consumer(OmStage stage)
{
	Oid relid = om_relation_get("consumers");

	if (relid != session_relid)
		forget_session();
	session_relid = relid;
	if (session_consumers[stage] == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		session_consumers[stage] = om_consumer_create(stage);
		MemoryContextSwitchTo(caller);
	}
	om_consumer_hurry(session_consumers[stage]);
	return session_consumers[stage];
}

/*
 * A pause stops whoever works as the consumer by itself: a worker, whose place
 * the caller may then take step by step, or, where there is none, ourselves.
 */
static void
take_stages(Run *run)
{
	run->is_alone = true;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		bool has_worker = om_shared_stage_worker(stage) != 0;
		bool paused = om_consumer_is_paused(stage);

		if (paused && !has_worker)
			continue;
		if (paused == has_worker && om_lock_try((OmLock) stage))
			run->consumers[stage] = session_consumer(stage);
		else
			run->is_alone = false;
	}
}

static OmReach
look_around(const Run *run, const OmInstallation *installation)
{
	OmReach reach = {NULL, 0};

	if (!run->is_alone)
		return reach;
	reach.horizon = om_tick_private(installation->xid_base, &reach.tick_id);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
	{
		int64 lxid = om_installation_lxid();

		om_horizon_add_own(reach.horizon, lxid, om_log_last_event_id(lxid));
	}
	return reach;
}

static bool
is_enough(const Run *run)
{
	return run->max_events > 0 && run->events >= run->max_events;
}

/* A step in a subtransaction of its own; true when there may be more to do. */
static bool
attempt_step(Run *run, OmConsumer *consumer, const OmReach *reach, int max_events)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool more = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run->step_context);
	PG_TRY();
	{
		step_level = GetCurrentTransactionNestLevel();
		more = om_consumer_step(consumer, reach, max_events, &run->events) == OM_STEP_DONE;
		step_level = 0;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		step_level = 0;

		MemoryContextSwitchTo(run->step_context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (om_consumer_failed(consumer, error) != OM_FAILURE_ISOLATED)
			ReThrowError(error);
		more = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return more;
}

static void
run_stage_to_end(Run *run, OmConsumer *consumer, const OmReach *reach)
{
	bool more = true;

	while (more && !is_enough(run))
	{
		int64 room = run->max_events > 0 ? run->max_events - run->events : PG_INT32_MAX;

		CHECK_FOR_INTERRUPTS();
		more = attempt_step(run, consumer, reach, (int) Min(room, om_setting_batch_size));
		MemoryContextReset(run->step_context);
	}
}

/*
 * What was undecided may have been decided since its position was stored.  The next
 * session need not read that again.
 */
static void
store_less(const Run *run)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		OmConsumer *consumer = run->consumers[stage];

		if (consumer != NULL && om_consumer_needs_less(consumer))
			om_consumers_store(&consumer, 1);
	}
}

int64
om_pipeline_run(int64 max_events)
{
	const OmInstallation *installation = om_installation_require_home();
	Run run = {.max_events = max_events};
	int64 before;

	PreventCommandIfReadOnly("run_pipeline()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg("run_pipeline() needs READ COMMITTED"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Its stages must see what each other has just written.")));
	run.step_context =
		AllocSetContextCreate(CurrentMemoryContext, "pipeline step", ALLOCSET_DEFAULT_SIZES);
	take_stages(&run);
	do
	{
		OmReach reach;

		before = run.events;
		PushActiveSnapshot(om_current_snapshot());
		reach = look_around(&run, installation);
		PopActiveSnapshot();
		for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		{
			if (run.consumers[stage] != NULL)
				run_stage_to_end(&run, run.consumers[stage], &reach);
		}
		if (!is_enough(&run))
			run.events += om_subscribers_run(&reach, max_events > 0 ? max_events - run.events : 0);
	} while (run.events > before && !is_enough(&run));
	if (!is_enough(&run))
		store_less(&run);
	CommandCounterIncrement();
	return run.events;
}

static const OmLogPosition beginning = {0, 0};

static List *
add_window(List *list, const OmHorizon *from, const OmHorizon *to, OmLogPosition after,
		   OmStage stage)
{
	OmLogRows *rows = om_log_rows_create();

	om_log_read(rows, &(OmLogWindow){from, to, after}, om_consumer_types(stage), 0);
	for (int i = 0; i < rows->count; i++)
		list = lappend(list, &rows->rows[i]);
	return list;
}

/* What lies past a cursor.  Needs an active snapshot. */
static List *
rows_past(OmStage stage, const OmCursor *cursor)
{
	OmHorizon *now = om_reader_now(GetActiveSnapshot());
	List *rows = NIL;

	if (cursor->target != NULL)
		rows = add_window(rows, cursor->base, cursor->target, cursor->position, stage);
	return add_window(rows, om_cursor_after_window(cursor), now, beginning, stage);
}

/* One event of a row, by itself. */
static OmLogRow *
single_event(const OmLogRow *row, int ordinal)
{
	OmLogRow *single = palloc(sizeof(OmLogRow));

	*single = *row;
	single->event_id += ordinal;
	single->norders = 1;
	single->orders = row->orders + ordinal;
	return single;
}

static bool
is_retrying(List *retries, const OmLogRow *event)
{
	ListCell *cell;

	foreach(cell, retries)
	{
		if (((OmRetry *) lfirst(cell))->event_id == event->event_id)
			return true;
	}
	return false;
}

/* The captures on which a checker has given no verdict. */
static List *
unchecked(OmStage stage, const OmCursor *restart)
{
	OmLedgerKind kind = stage == OM_STAGE_BALANCE_CHECKER ? OM_LEDGER_ACCOUNTS : OM_LEDGER_STOCK;
	OmHorizon *now = om_reader_now(GetActiveSnapshot());
	HTAB *given = om_checker_given(kind, restart->base, now);
	List *retries = om_retry_list(om_stage_names[stage], GetActiveSnapshot());
	List *events = NIL;
	ListCell *cell;

	foreach(cell, add_window(NIL, restart->base, now, beginning, stage))
	{
		const OmLogRow *row = lfirst(cell);

		for (int i = 0; i < row->norders; i++)
		{
			OmGiven *verdict = hash_search(given, &row->orders[i], HASH_FIND, NULL);
			OmLogRow *event = single_event(row, i);

			if ((verdict == NULL || verdict->round < om_log_round(row->detail)) &&
				!is_retrying(retries, event))
				events = lappend(events, event);
		}
	}
	return events;
}

List *
om_pipeline_rows(OmStage stage, Snapshot snapshot)
{
	OmCursor *cursor;
	List *rows;

	PushActiveSnapshot(snapshot);
	cursor = om_cursor_load(om_stage_names[stage], true /* restart */, snapshot);
	if (cursor->waiting == 0)
		rows = rows_past(stage, om_cursor_load(om_stage_names[stage], false, snapshot));
	else if (stage == OM_STAGE_ORDER_UPDATER || stage == OM_STAGE_SHIPPER)
		rows = add_window(NIL, cursor->base, om_reader_now(snapshot), beginning, stage);
	else
		rows = unchecked(stage, cursor);
	PopActiveSnapshot();
	return rows;
}

static OmQueueState
read_counters(const OmCursor *cursor)
{
	return (OmQueueState){
		.pending = cursor->waiting, .waiting = cursor->waiting, .read = cursor->processed};
}

OmQueueState
om_pipeline_read_queue(OmStage stage)
{
	OmCursor *cursor =
		om_cursor_load(om_stage_names[stage], false /* restart */, GetActiveSnapshot());
	OmQueueState state = read_counters(cursor);
	ListCell *cell;

	foreach(cell, rows_past(stage, cursor))
		state.pending += ((OmLogRow *) lfirst(cell))->norders;
	return state;
}

static TimestampTz
first_time(List *rows)
{
	TimestampTz first = 0;
	ListCell *cell;

	foreach(cell, rows)
	{
		TimestampTz at = ((OmLogRow *) lfirst(cell))->at;

		first = first == 0 ? at : Min(first, at);
	}
	return first;
}

/*
 * Of what has been read and not handled.  Among many events the first one past
 * the restart row must do, whether it has been handled or not.
 */
static TimestampTz
oldest_waiting(OmStage stage, const OmCensus *census)
{
	const OmCursor *restart =
		om_cursor_load(om_stage_names[stage], true /* restart */, GetActiveSnapshot());

	if (om_census_unread(census, restart, OM_EVENTS_ALL) <= OLDEST_MAX_EVENTS)
		return first_time(om_pipeline_rows(stage, GetActiveSnapshot()));
	return om_census_first(restart, om_consumer_types(stage));
}

OmQueueState
om_pipeline_queue(OmStage stage, const OmCensus *census)
{
	OmCursor *cursor =
		om_cursor_load(om_stage_names[stage], false /* restart */, GetActiveSnapshot());
	OmQueueState state = read_counters(cursor);

	if (state.waiting > 0)
		state.oldest = oldest_waiting(stage, census);
	om_census_add_unread(census, cursor, om_consumer_types(stage), DT_NOBEGIN, &state);
	return state;
}

/* Events that wait for their next attempt are still to be done. */
static bool
is_done(const char *consumer, uint32 types, const OmCensus *census)
{
	Snapshot snapshot = GetActiveSnapshot();
	OmCursor *cursor = om_cursor_load(consumer, false /* restart */, snapshot);

	return cursor->waiting == 0 && !om_census_is_anything_unread(census, cursor, types) &&
		   om_retry_list(consumer, snapshot) == NIL;
}

static bool
stage_is_idle(OmStage stage, const OmCensus *census)
{
	if (om_consumer_is_paused(stage) || (stage == OM_STAGE_SHIPPER && !om_setting_auto_ship))
		return true;
	return is_done(om_stage_names[stage], om_consumer_types(stage), census);
}

/* Whose handler nobody runs at present is not waited for. */
static bool
subscription_is_idle(const OmRegistration *subscription, const OmCensus *census)
{
	if (subscription->paused || om_handlerseat_pid(subscription->name) == 0)
		return true;
	return is_done(subscription->name, subscription->types, census);
}

static bool
is_idle(Snapshot snapshot)
{
	OmCensus census = om_census_take(snapshot, OM_CENSUS_MAX_ROWS);
	bool idle = true;
	ListCell *cell;

	for (int stage = 0; stage < OM_STAGE_COUNT && idle; stage++)
		idle = stage_is_idle(stage, &census);
	foreach(cell, om_registry_list(OM_KIND_HANDLER))
		idle = idle && subscription_is_idle(lfirst(cell), &census);
	return idle;
}

/* Called again and again while somebody waits. */
bool
om_pipeline_is_idle(void)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "idle", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool idle;

	PushActiveSnapshot(snapshot);
	idle = is_idle(snapshot);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return idle;
}
