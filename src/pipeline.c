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
#include "utils/snapmgr.h"

#include "consumer.h"
#include "cursors.h"
#include "errors.h"
#include "eventlog.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "pipeline.h"
#include "settings.h"
#include "shared.h"
#include "subscribers.h"
#include "ticks.h"

typedef struct Run
{
	OmConsumer *consumers[OM_STAGE_COUNT]; /* NULL: not ours */
	bool is_alone;                         /* nobody else works as any consumer */
	int64 max_events;
	int64 events;
	MemoryContext step_context;
} Run;

static const OmInstallation *
require_home(void)
{
	const OmInstallation *installation = om_installation_get();

	if (om_installation_is_foreign(installation) || installation->moved)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the data has been restored or copied from elsewhere and rests"),
						om_errdetail("data", "moved"),
						errhint("Run SELECT order_mgmt.post_restore() to go on here.")));
	return installation;
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
			run->consumers[stage] = om_consumer_create(stage);
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

static void
run_stage_to_end(Run *run, OmConsumer *consumer, const OmReach *reach)
{
	OmStepResult result = OM_STEP_DONE;

	while (result == OM_STEP_DONE && !is_enough(run))
	{
		MemoryContext caller = MemoryContextSwitchTo(run->step_context);
		int64 room = run->max_events > 0 ? run->max_events - run->events : PG_INT32_MAX;

		CHECK_FOR_INTERRUPTS();
		result =
			om_consumer_step(consumer, reach, (int) Min(room, om_setting_batch_size), &run->events);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(run->step_context);
	}
}

int64
om_pipeline_run(int64 max_events)
{
	const OmInstallation *installation = require_home();
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
	CommandCounterIncrement();
	return run.events;
}

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

List *
om_pipeline_rows(OmStage stage, Snapshot snapshot, int64 *processed)
{
	static const OmLogPosition beginning = {0, 0};
	List *rows = NIL;
	OmCursor *cursor;
	const OmHorizon *handled;
	OmHorizon *now;

	PushActiveSnapshot(snapshot);
	cursor = om_cursor_load(om_stage_names[stage], false /* restart */, snapshot);
	now = om_horizon_take(snapshot, om_installation_get()->xid_base);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		om_horizon_add_own(now, om_installation_lxid(), PG_INT64_MAX);
	*processed = cursor->processed;
	handled = cursor->base;
	if (cursor->target != NULL)
	{
		rows = add_window(rows, cursor->base, cursor->target, cursor->position, stage);
		handled = cursor->target;
	}
	rows = add_window(rows, handled, now, beginning, stage);
	PopActiveSnapshot();
	return rows;
}

OmQueueState
om_pipeline_queue(OmStage stage, Snapshot snapshot)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "queue", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmQueueState state = {0};
	ListCell *cell;

	foreach(cell, om_pipeline_rows(stage, snapshot, &state.processed))
	{
		const OmLogRow *row = lfirst(cell);

		state.pending += row->norders;
		if (state.oldest == 0 || row->at < state.oldest)
			state.oldest = row->at;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return state;
}

bool
om_pipeline_is_idle(void)
{
	bool idle = true;
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());

	for (int stage = 0; stage < OM_STAGE_COUNT && idle; stage++)
	{
		if (om_consumer_is_paused(stage) || (stage == OM_STAGE_SHIPPER && !om_setting_auto_ship))
			continue;
		idle = om_pipeline_queue(stage, snapshot).pending == 0;
	}
	UnregisterSnapshot(snapshot);
	return idle;
}
