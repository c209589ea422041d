/*
 * reader.c
 *		Where consumers meet the log.
 *
 * The caller owns the consumer by a lock to the end of its transaction; the
 * position is kept in memory from batch to batch, and read again when another
 * has moved it meanwhile.  A window in which there is nothing for the consumer
 * moves the position in memory only: an idle shop stores nothing, and what one
 * consumer writes does not make the others write as well.
 *
 * Rows come in the order (tick, lxid, event_id).  It is the same for all
 * consumers and after every restart, so "earlier" means one thing everywhere.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "installation.h"
#include "reader.h"
#include "ticks.h"

/* Store the cursor at the latest when it has moved so many ticks. */
#define STORE_AFTER_TICKS 1000

/* Or over so many rows: who counts what is pending reads on from there (census.c). */
#define STORE_AFTER_ROWS 1000

/* Windows of one batch: empty ones cost a little memory, too. */
#define MAX_WINDOWS 1000

OmReader *
om_reader_create(const char *consumer)
{
	OmReader *reader = palloc0(sizeof(OmReader));

	reader->consumer = pstrdup(consumer);
	reader->context = AllocSetContextCreate(CurrentMemoryContext, "reader", ALLOCSET_DEFAULT_SIZES);
	return reader;
}

void
om_reader_reset(OmReader *reader)
{
	MemoryContextReset(reader->context);
	reader->cursor = NULL;
}

bool
om_reader_load(OmReader *reader)
{
	MemoryContext caller;

	if (reader->cursor != NULL && om_cursor_is_current(reader->cursor))
		return false;
	om_reader_reset(reader);
	caller = MemoryContextSwitchTo(reader->context);
	reader->cursor = om_cursor_load(reader->consumer, true /* restart */, GetActiveSnapshot());
	MemoryContextSwitchTo(caller);
	return true;
}

/*
 * The horizon up to which to read next, or NULL.  A tick always goes first: in
 * that order all consumers see the same order of events.
 */
static const OmHorizon *
next_horizon(OmCursor *cursor, const OmReach *reach)
{
	OmHorizon *horizon = om_tick_find(cursor->tick_id + 1);

	if (horizon != NULL)
	{
		cursor->tick_id++;
		return horizon;
	}
	if (reach->horizon == NULL || reach->tick_id < cursor->tick_id ||
		om_horizon_equals(reach->horizon, cursor->base))
		return NULL;
	cursor->tick_id = reach->tick_id;
	return reach->horizon;
}

/* Opens the next window when none is open; false when there is none. */
static bool
open_window(OmReader *reader, const OmReach *reach)
{
	OmCursor *cursor = reader->cursor;
	const OmHorizon *horizon;
	MemoryContext caller;

	if (cursor->target != NULL)
		return true;
	horizon = next_horizon(cursor, reach);
	if (horizon == NULL)
		return false;
	/* Only the horizon itself outlives the batch. */
	caller = MemoryContextSwitchTo(reader->context);
	cursor->target = om_horizon_copy(horizon);
	MemoryContextSwitchTo(caller);
	return true;
}

static void
read_window(OmCursor *cursor, uint32 types, int max_events, OmLogRows *rows)
{
	int before = rows->count;

	om_log_read(rows, &(OmLogWindow){cursor->base, cursor->target, cursor->position}, types,
				max_events);
	for (int i = before; i < rows->count; i++)
		rows->rows[i].tick_id = cursor->tick_id;
	om_cursor_advance(cursor, rows);
}

/* A batch spans as many windows as it takes, so who was paused catches up in full batches. */
bool
om_reader_read(OmReader *reader, const OmReach *reach, uint32 types, int max_events,
			   OmLogRows *rows)
{
	int nwindows = 0;

	while (rows->nevents < max_events && nwindows < MAX_WINDOWS && open_window(reader, reach))
	{
		CHECK_FOR_INTERRUPTS();
		nwindows++;
		read_window(reader->cursor, types, max_events, rows);
		if (reader->cursor->target != NULL)
			break; /* the window has more than the batch takes */
	}
	return nwindows > 0;
}

bool
om_reader_is_behind(const OmReader *reader)
{
	return reader->cursor->processed < reader->cursor->newest_processed;
}

/*
 * Not the newest row as soon as all has been read again: who reads up to horizons of
 * his own, and not by ticks, may have met other events by then than that row had.
 */
int64
om_reader_seq(const OmReader *reader)
{
	return reader->cursor->from_seq;
}

void
om_reader_store(OmReader *reader, int64 restart_seq, int64 waiting)
{
	om_cursor_store(reader->cursor, restart_seq, waiting);
}

bool
om_reader_has_drifted(const OmReader *reader)
{
	return reader->cursor->tick_id - reader->cursor->stored_tick >= STORE_AFTER_TICKS ||
		   reader->cursor->passed.rows >= STORE_AFTER_ROWS;
}

OmHorizon *
om_reader_now(Snapshot snapshot)
{
	OmHorizon *now = om_horizon_take(snapshot, om_installation_get()->xid_base);

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		om_horizon_add_own(now, om_installation_lxid(), PG_INT64_MAX);
	return now;
}

static bool
horizons_are_equal(const OmHorizon *a, const OmHorizon *b)
{
	return a == NULL || b == NULL ? a == b : om_horizon_equals(a, b);
}

bool
om_reader_stands_with(const OmReader *reader, const OmReader *other)
{
	const OmCursor *a = reader->cursor;
	const OmCursor *b = other->cursor;

	return a->tick_id == b->tick_id && a->position.lxid == b->position.lxid &&
		   a->position.event_id == b->position.event_id && om_horizon_equals(a->base, b->base) &&
		   horizons_are_equal(a->target, b->target);
}

static void
replace_horizon(OmHorizon **horizon, const OmHorizon *other)
{
	if (horizons_are_equal(*horizon, other))
		return;
	if (*horizon != NULL)
		om_horizon_free(*horizon);
	*horizon = other == NULL ? NULL : om_horizon_copy(other);
}

void
om_reader_follow(OmReader *reader, const OmReader *other)
{
	OmCursor *cursor = reader->cursor;
	MemoryContext caller = MemoryContextSwitchTo(reader->context);

	cursor->tick_id = other->cursor->tick_id;
	cursor->passed = other->cursor->passed;
	cursor->position = other->cursor->position;
	replace_horizon(&cursor->base, other->cursor->base);
	replace_horizon(&cursor->target, other->cursor->target);
	MemoryContextSwitchTo(caller);
}
