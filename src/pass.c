/*
 * pass.c
 *		All stages together.
 *
 * One process (a worker, or run_pipeline()) that has all stages need not hand orders on through the log: the
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
 * whose event is looked for batch by batch.
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
#include "pass.h"
#include "reader.h"
#include "settings.h"
#include "ticks.h"
#include "work.h"

/* Positions are not made longer than that; a window with more passes ends stage by stage. */
#define MAX_AHEAD 4000

/* After so many passes in one window batches grow, up to four times. */
#define GROW_AFTER 128
#define GROW_AT_MOST 4

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
		if (!om_consumer_begin_step(pass->consumers[stage], &pass->reach, max_events))
			return false;
	}
	return true;
}

/*
 * A client may have written before it came here.  Of its transaction a position
 * can say only up to where it has been seen, so what comes before the events of a
 * pass must have been.
 */
static bool
has_own_unread(const OmPass *pass, const OmHorizon *base)
{
	const OmHorizon *reach = pass->reach.horizon;

	return reach != NULL && reach->own_event_id > 0 &&
		   !om_horizon_shows(base, reach->own_lxid, reach->own_event_id);
}

/* Whether a transaction has written nothing to the log after what the horizon shows of it. */
static bool
is_all_of_own(const OmHorizon *horizon)
{
	OmHorizon *whole = om_horizon_copy(horizon);
	OmLogRows *rows = om_log_rows_create();

	om_horizon_add_own(whole, horizon->own_lxid, PG_INT64_MAX);
	om_log_look(rows, &(OmLogWindow){horizon, whole, {0, 0}}, OM_EVENTS_ALL, 1, 1);
	return rows->passed.rows == 0;
}

/*
 * A position can tell of one transaction only up to where it has been seen.  That of
 * an earlier client has ended meanwhile; where all of it has been seen, and whatever
 * is still to be read shows that it has ended, it becomes one like all others and
 * makes room for ours.
 */
static bool
make_room_for_own(OmCursor *cursor, int64 lxid)
{
	int64 other = cursor->base->own_lxid;
	OmHorizon *next;

	if (cursor->target != NULL && cursor->target->own_lxid != 0 && cursor->target->own_lxid != lxid)
		return false;
	if (other == 0 || other == lxid || om_horizon_shows_all(cursor->base, other))
		return true;
	next = om_tick_find(cursor->tick_id + 1);
	if ((cursor->target != NULL && !om_horizon_shows_all(cursor->target, other)) ||
		(next != NULL && !om_horizon_shows_all(next, other)) || !is_all_of_own(cursor->base))
		return false;
	om_horizon_complete_own(cursor->base);
	return true;
}

static bool
has_room_for_own(OmPass *pass)
{
	bool has_room = true;
	int64 lxid;

	if (pass->reach.horizon == NULL)
		return true;
	lxid = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? om_installation_lxid() : 0;
	for (int stage = 0; stage < OM_STAGE_COUNT && has_room; stage++)
		has_room = make_room_for_own(reader_of(pass, stage)->cursor, lxid);
	return has_room;
}

static bool
is_in_step(OmPass *pass)
{
	const OmReader *first = reader_of(pass, 0);

	if (om_horizon_count_ahead(first->cursor->base) >= MAX_AHEAD ||
		has_own_unread(pass, first->cursor->base))
		return false;
	for (int stage = 1; stage < OM_STAGE_COUNT; stage++)
	{
		if (!om_reader_stands_with(reader_of(pass, stage), first))
			return false;
	}
	return has_room_for_own(pass);
}

/* Who is far behind takes more at a time: rows that change often are then written less often. */
static int
batch_size(OmPass *pass, int max_events)
{
	const OmCursor *cursor = reader_of(pass, 0)->cursor;
	int growth = cursor == NULL ? 1 : 1 + om_horizon_count_ahead(cursor->base) / GROW_AFTER;

	return Min(max_events, PG_INT32_MAX / GROW_AT_MOST) * Min(growth, GROW_AT_MOST);
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
	if (!om_reader_read(reader_of(pass, 0), &pass->reach, types, max_events, rows))
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

/* Of a client's transaction only the events so far have been seen. */
static void
mark_seen(OmPass *pass, int64 lxid, const OmLogRows *happened)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		OmCursor *cursor = reader_of(pass, stage)->cursor;

		om_cursor_count(cursor, happened);
		if (pass->reach.horizon == NULL)
			om_horizon_add_seen(cursor->base, lxid);
		else
			om_horizon_add_own(cursor->base, lxid, om_log_last_event_id(lxid));
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
	for (int stage = 0; has_done && stage < OM_STAGE_COUNT; stage++)
		om_consumer_store(pass->consumers[stage]);
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

OmPassResult
om_pass_run(OmPass *pass, OmPassTick tick, int max_events, int64 *events)
{
	OmPassResult result;
	bool is_all = true;

	pass->stage = -1;
	pass->has_ticked = false;
	if (!is_possible(pass))
		return OM_PASS_REFUSED;
	max_events = batch_size(pass, max_events);
	if (tick != OM_PASS_NO_TICK && tick_is_of_use(pass))
	{
		is_all = om_tick_make(om_installation_get()->xid_base,
							  tick == OM_PASS_TICK_PART ? max_events : 0);
		pass->has_ticked = is_all;
	}
	/* Taken under the locks, it shows all that their last owners have committed. */
	PushActiveSnapshot(om_current_snapshot());
	result = run(pass, max_events, events);
	PopActiveSnapshot();
	return result == OM_PASS_IDLE && !is_all ? OM_PASS_DONE : result;
}
