/*
 * pass.c
 *		All stages together.
 *
 * One worker that has all stages need not hand orders on through the log: the
 * stages stand at the same place, read the same events once, and are told in
 * memory what the ones before them have just done.  Rows are locked and written
 * once, and the whole commits once.  The log is what it would be otherwise, and
 * so is the order of decisions.
 *
 * The events of a pass come before their turn: they lie behind the horizon up to
 * which the stages read.  So each position remembers the transaction of the pass
 * as seen ahead, until a horizon shows it.
 *
 * Everything out of the ordinary is left to the stages one by one: pauses, people
 * who ship, stages that stand at different places after a restart, and errors,
 * whose event is looked for batch by batch.  So is run_pipeline(): of its caller's
 * transaction, which goes on, only the events so far could be said to be seen.
 *
 * A model that checks orders is asked by who has written nothing yet, nor locked
 * anything.  So where there is one, a tick is a transaction of its own, and the pass
 * the next.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

#include "cursors.h"
#include "eventlog.h"
#include "faults.h"
#include "handlerseats.h"
#include "horizon.h"
#include "installation.h"
#include "locks.h"
#include "ordercheck.h"
#include "pass.h"
#include "reader.h"
#include "settings.h"
#include "ticks.h"
#include "work.h"

/* Positions are not made longer than that; a window with more passes ends stage by stage. */
#define MAX_AHEAD 4000

/* After so many passes in one window batches double, and so on. */
#define DOUBLE_AFTER 4
#define DOUBLE_AT_MOST 3

static const OmReach ticks_only = {NULL, 0};

static OmReader *
reader_of(OmPass *pass, int stage)
{
	return om_consumer_reader(pass->consumers[stage]);
}

static bool
are_sound(const OmPass *pass)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_consumer_is_sound(pass->consumers[stage]))
			return false;
	}
	return true;
}

static bool
is_possible(const OmPass *pass)
{
	if (!om_setting_auto_ship || !are_sound(pass))
		return false;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_lock_try((OmLock) stage))
			return false;
	}
	return !om_consumer_is_any_paused();
}

/* In the middle of a window a tick would not be read yet. */
static bool
tick_is_of_use(OmPass *pass)
{
	const OmCursor *cursor = reader_of(pass, 0)->cursor;

	return cursor == NULL || cursor->target == NULL || om_handlerseat_any();
}

static bool
begin_steps(OmPass *pass, int max_events)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_consumer_begin_step(pass->consumers[stage], &ticks_only, max_events))
			return false;
	}
	return true;
}

static bool
is_in_step(OmPass *pass)
{
	const OmReader *first = reader_of(pass, 0);

	if (om_horizon_count_ahead(first->cursor->base) >= MAX_AHEAD)
		return false;
	for (int stage = 1; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_reader_stands_with(reader_of(pass, stage), first))
			return false;
	}
	return true;
}

/* Who is far behind takes more at a time: rows that change often are then written less often. */
static int
batch_size(OmPass *pass, int max_events)
{
	const OmCursor *cursor = reader_of(pass, 0)->cursor;
	int doubled = cursor == NULL ? 0 : om_horizon_count_ahead(cursor->base) / DOUBLE_AFTER;

	return Min(max_events, PG_INT32_MAX >> DOUBLE_AT_MOST) << Min(doubled, DOUBLE_AT_MOST);
}

static void
tell_all(OmPass *pass, const OmLogRow *row)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		om_consumer_take_in(pass->consumers[stage], row);
}

/* The first reads for all; true when it has left something. */
static bool
read_once(OmPass *pass, int max_events)
{
	OmLogRows *rows = om_log_rows_create();
	uint32 types = 0;

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_consumer_may_read(pass->consumers[stage], max_events))
			return false;
		types |= om_consumer_types_read(pass->consumers[stage]);
	}
	if (!om_reader_read(reader_of(pass, 0), &ticks_only, types, max_events, rows))
		return false;
	for (int i = 0; i < rows->count; i++)
		tell_all(pass, &rows->rows[i]);
	for (int stage = 1; stage < OM_STAGE_COUNT; stage++)
		om_reader_follow(reader_of(pass, stage), reader_of(pass, 0));
	return rows->nevents >= max_events || reader_of(pass, 0)->cursor->target != NULL;
}

/* What has happened in this transaction is read by all others in the next tick. */
static void
tell_what_happened(OmPass *pass, const OmWork *work, int *told)
{
	for (; work != NULL && *told < work->happened->count; (*told)++)
	{
		OmLogRow row = work->happened->rows[*told];

		row.tick_id = reader_of(pass, 0)->cursor->tick_id + 1;
		tell_all(pass, &row);
	}
}

static OmWork *
run_stages(OmPass *pass, int max_events)
{
	OmWork *work = NULL;
	int told = 0;

	for (pass->stage = 0; pass->stage < OM_STAGE_COUNT; pass->stage++)
	{
		om_consumer_handle(pass->consumers[pass->stage], &work, max_events);
		tell_what_happened(pass, work, &told);
	}
	pass->stage = -1;
	return work;
}

static void
mark_seen(OmPass *pass, int64 lxid, const OmLogRows *happened)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		OmCursor *cursor = reader_of(pass, stage)->cursor;

		om_cursor_count(cursor, happened);
		om_horizon_add_seen(cursor->base, lxid);
	}
}

static void
end_work(OmPass *pass, OmWork *work)
{
	int64 lxid = work->log == NULL ? 0 : work->log->lxid;
	const OmLogRows *happened = work->happened;

	om_work_end(work);
	if (lxid != 0)
		mark_seen(pass, lxid, happened);
}

static void
store_positions(OmPass *pass)
{
	bool has_done = false;

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		has_done |= om_consumer_has_done(pass->consumers[stage]);
	if (has_done)
		om_consumers_store(pass->consumers, OM_STAGE_COUNT);
}

static OmPassResult
run(OmPass *pass, int max_events, int64 *events)
{
	bool more;
	OmWork *work;

	/* Who takes over from somebody who crashed learns of it at the beginning of the step. */
	if (!begin_steps(pass, max_events) || !are_sound(pass) || !is_in_step(pass))
		return OM_PASS_REFUSED;
	more = read_once(pass, max_events);
	OM_FAULT_POINT("pass/read");
	work = run_stages(pass, max_events);
	OM_FAULT_POINT("pass/handled");
	if (work != NULL)
		end_work(pass, work);
	store_positions(pass);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		(void) om_consumer_end_step(pass->consumers[stage], max_events, events);
		more |= om_consumer_has_ready(pass->consumers[stage]);
	}
	return more ? OM_PASS_DONE : OM_PASS_IDLE;
}

/* True when it is to be committed first. */
static bool
make_tick(OmPass *pass, int max_events)
{
	pass->tick_is_part = !om_tick_make(om_installation_get()->xid_base, max_events);
	pass->has_ticked = !pass->tick_is_part;
	return om_ordercheck_is_on() && TransactionIdIsValid(GetTopTransactionIdIfAny());
}

OmPassResult
om_pass_run(OmPass *pass, OmPassTick tick, int max_events, int64 *events)
{
	bool has_tick = pass->tick_waits;
	OmPassResult result;

	pass->stage = -1;
	pass->has_ticked = pass->tick_waits = false;
	if (!is_possible(pass))
		return OM_PASS_REFUSED;
	max_events = batch_size(pass, max_events);
	if (!has_tick)
	{
		pass->tick_is_part = false;
		if (tick != OM_PASS_NO_TICK && tick_is_of_use(pass))
			pass->tick_waits = make_tick(pass, tick == OM_PASS_TICK_PART ? max_events : 0);
		if (pass->tick_waits)
			return OM_PASS_DONE;
	}
	/* Taken under the locks, it shows all that their last owners have committed. */
	PushActiveSnapshot(om_current_snapshot());
	result = run(pass, max_events, events);
	PopActiveSnapshot();
	return result == OM_PASS_IDLE && pass->tick_is_part ? OM_PASS_DONE : result;
}
