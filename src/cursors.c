/*
 * cursors.c
 *		Append-only cursors.
 *
 * Each batch appends one row to cursor_log, so a cursor leaves no dead version
 * of itself behind whatever snapshots are open; the newest row counts.  The
 * primary key (consumer, seq) fences: of two processes that both believe to
 * own a consumer, one fails at its insert.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arrays.h"
#include "cursors.h"
#include "faults.h"
#include "plans.h"
#include "rotation.h"
#include "shared.h"
#include "tables.h"

/* Columns of tables cursor_log_N */
enum
{
	COLUMN_CONSUMER = 1,
	COLUMN_SEQ,
	COLUMN_TICK_ID,
	COLUMN_BASE,
	COLUMN_TARGET,
	COLUMN_LXID,
	COLUMN_EVENT_ID,
	COLUMN_PROCESSED,
	COLUMN_RESTART_SEQ,
	COLUMN_WAITING,
	COLUMN_AT,
	COLUMN_PASSED,
	NCOLUMNS = COLUMN_PASSED
};

static OmQuery drop_queries[] = {
	{.sql = "DELETE FROM order_mgmt.cursor_log_0 WHERE consumer = $1",
	 .nargs = 1,
	 .types = {TEXTOID}},
	{.sql = "DELETE FROM order_mgmt.cursor_log_1 WHERE consumer = $1",
	 .nargs = 1,
	 .types = {TEXTOID}},
};

static OmTable *
open_slot(int slot)
{
	return om_table_open(om_rotation_table(&om_rotation_cursors, slot), AccessShareLock);
}

static int64
newest_seq(const char *consumer, Snapshot snapshot)
{
	Datum key = CStringGetTextDatum(consumer);
	int64 newest = 0;

	for (int slot = 0; slot < om_rotation_cursors.nslots; slot++)
	{
		OmTable *table = open_slot(slot);
		HeapTuple row = om_table_last(table, &key, 1, snapshot);

		if (row != NULL)
			newest = Max(newest, DatumGetInt64(om_row_get_not_null(table, row, COLUMN_SEQ)));
		om_table_close(table);
	}
	return newest;
}

static OmHorizon *
get_horizon(OmTable *table, HeapTuple row, int column)
{
	bool isnull;
	Datum value = om_row_get(table, row, column, &isnull);

	return isnull ? NULL : om_horizon_from_array(DatumGetArrayTypeP(value));
}

static int64
get_int64(OmTable *table, HeapTuple row, int column)
{
	return DatumGetInt64(om_row_get_not_null(table, row, column));
}

/* The types in the order of OmEventType; what has come to these later has not been passed. */
static void
read_passed(OmLogCounts *passed, ArrayType *array)
{
	int length = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (length > OM_EVENT_COUNT || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID)
		elog(ERROR, "stored counts of events are malformed");
	*passed = (OmLogCounts){0};
	memcpy(passed->events, ARR_DATA_PTR(array), sizeof(int64) * length);
}

static bool
read_row(OmCursor *cursor, int64 seq, Snapshot snapshot)
{
	Datum key[2] = {CStringGetTextDatum(cursor->consumer), Int64GetDatum(seq)};
	bool found = false;

	for (int slot = 0; slot < om_rotation_cursors.nslots && !found; slot++)
	{
		OmTable *table = open_slot(slot);
		HeapTuple row = om_table_find(table, key, snapshot);

		found = row != NULL;
		if (found)
		{
			cursor->tick_id = get_int64(table, row, COLUMN_TICK_ID);
			cursor->base = get_horizon(table, row, COLUMN_BASE);
			cursor->target = get_horizon(table, row, COLUMN_TARGET);
			cursor->position.lxid = get_int64(table, row, COLUMN_LXID);
			cursor->position.event_id = get_int64(table, row, COLUMN_EVENT_ID);
			cursor->processed = get_int64(table, row, COLUMN_PROCESSED);
			cursor->restart_seq = get_int64(table, row, COLUMN_RESTART_SEQ);
			cursor->waiting = get_int64(table, row, COLUMN_WAITING);
			read_passed(&cursor->passed,
						DatumGetArrayTypeP(om_row_get_not_null(table, row, COLUMN_PASSED)));
		}
		om_table_close(table);
	}
	return found;
}

OmCursor *
om_cursor_load(const char *consumer, bool restart, Snapshot snapshot)
{
	OmCursor *cursor = palloc0(sizeof(OmCursor));
	int64 newest_waiting;

	cursor->consumer = consumer;
	cursor->seq = newest_seq(consumer, snapshot);
	if (!read_row(cursor, cursor->seq, snapshot))
		elog(ERROR, "consumer \"%s\" has no position in the log", consumer);
	OM_FAULT_POINT("cursors/read");
	cursor->stored_tick = cursor->tick_id;
	cursor->newest_processed = cursor->processed;
	newest_waiting = cursor->waiting;
	cursor->from_seq = restart ? Min(cursor->restart_seq, cursor->seq) : cursor->seq;
	if (restart && cursor->restart_seq < cursor->seq &&
		!read_row(cursor, cursor->restart_seq, snapshot))
		elog(ERROR, "consumer \"%s\" has lost row " INT64_FORMAT " of its positions", consumer,
			 cursor->restart_seq);
	cursor->waiting = newest_waiting;
	return cursor;
}

OmCursor *
om_cursor_find(const char *consumer, Snapshot snapshot)
{
	return newest_seq(consumer, snapshot) == 0
			 ? NULL
			 : om_cursor_load(consumer, false /* restart */, snapshot);
}

/* A row of a consumer in one of the tables, or NULL. */
static HeapTuple
find_row(const char *consumer, int64 seq, int slot, Snapshot snapshot)
{
	OmTable *table = open_slot(slot);
	Datum key[2] = {CStringGetTextDatum(consumer), Int64GetDatum(seq)};
	HeapTuple row = om_table_find(table, key, snapshot);

	om_table_close(table);
	return row;
}

bool
om_cursor_is_in(const char *consumer, int slot, Snapshot snapshot)
{
	OmCursor *cursor = om_cursor_load(consumer, false /* restart */, snapshot);

	return find_row(consumer, cursor->seq, slot, snapshot) != NULL ||
		   find_row(consumer, cursor->restart_seq, slot, snapshot) != NULL;
}

static void
copy_row(const char *consumer, int64 seq, int from, Snapshot snapshot)
{
	int slot = om_rotation_current(&om_rotation_cursors);
	HeapTuple row = find_row(consumer, seq, from, snapshot);
	OmTable *table;
	Datum values[NCOLUMNS];
	bool isnull[NCOLUMNS];

	if (row == NULL || find_row(consumer, seq, slot, snapshot) != NULL)
		return;
	table = om_table_open(om_rotation_table(&om_rotation_cursors, slot), RowExclusiveLock);
	for (int i = 0; i < NCOLUMNS; i++)
		values[i] = om_row_get(table, row, i + 1, &isnull[i]);
	om_table_insert(table, values, isnull, NCOLUMNS);
	om_table_close(table);
}

void
om_cursor_carry(const char *consumer, int from, Snapshot snapshot)
{
	OmCursor *cursor = om_cursor_load(consumer, false /* restart */, snapshot);

	copy_row(consumer, cursor->seq, from, snapshot);
	if (cursor->restart_seq != cursor->seq)
		copy_row(consumer, cursor->restart_seq, from, snapshot);
}

/*
 * Counts each move of a cursor, of others too: as long as it stands still, so do
 * they.  NULL where there is no shared memory.
 */
static pg_atomic_uint64 *
move_counter(const OmCursor *cursor)
{
	OmDatabase *database = om_shared_my_database();
	uint32 hash = hash_bytes((const unsigned char *) cursor->consumer, strlen(cursor->consumer));

	return database == NULL ? NULL : &database->moves[hash % OM_MOVE_COUNTERS];
}

/* Who asks owns the consumer, so nobody moves the cursor meanwhile. */
bool
om_cursor_is_current(OmCursor *cursor)
{
	pg_atomic_uint64 *counter = move_counter(cursor);
	uint64 moves = counter == NULL ? 0 : pg_atomic_read_u64(counter);
	Snapshot snapshot;
	bool is_current;

	if (moves != 0 && moves == cursor->moves)
		return true;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	is_current = newest_seq(cursor->consumer, snapshot) == cursor->seq;
	UnregisterSnapshot(snapshot);
	cursor->moves = is_current ? moves : 0;
	return is_current;
}

static void
note_move(OmCursor *cursor)
{
	pg_atomic_uint64 *counter = move_counter(cursor);

	cursor->moves = counter == NULL ? 0 : pg_atomic_add_fetch_u64(counter, 1);
}

OmTable *
om_cursors_open(void)
{
	int slot = om_rotation_current(&om_rotation_cursors);

	return om_table_open(om_rotation_table(&om_rotation_cursors, slot), RowExclusiveLock);
}

void
om_cursor_append(OmTable *table, OmCursor *cursor, int64 restart_seq, int64 waiting)
{
	Datum values[NCOLUMNS];
	bool isnull[NCOLUMNS] = {false};

	OM_FAULT_POINT("cursors/before-store");
	cursor->seq++;
	cursor->from_seq = cursor->seq;
	cursor->stored_tick = cursor->tick_id;
	cursor->restart_seq = Min(restart_seq, cursor->seq);
	cursor->waiting = waiting;
	cursor->passed.rows = 0;
	values[COLUMN_CONSUMER - 1] = CStringGetTextDatum(cursor->consumer);
	values[COLUMN_SEQ - 1] = Int64GetDatum(cursor->seq);
	values[COLUMN_TICK_ID - 1] = Int64GetDatum(cursor->tick_id);
	values[COLUMN_BASE - 1] = PointerGetDatum(om_horizon_to_array(cursor->base));
	isnull[COLUMN_TARGET - 1] = cursor->target == NULL;
	values[COLUMN_TARGET - 1] =
		cursor->target == NULL ? (Datum) 0 : PointerGetDatum(om_horizon_to_array(cursor->target));
	values[COLUMN_LXID - 1] = Int64GetDatum(cursor->position.lxid);
	values[COLUMN_EVENT_ID - 1] = Int64GetDatum(cursor->position.event_id);
	values[COLUMN_PROCESSED - 1] = Int64GetDatum(cursor->processed);
	values[COLUMN_RESTART_SEQ - 1] = Int64GetDatum(cursor->restart_seq);
	values[COLUMN_WAITING - 1] = Int64GetDatum(cursor->waiting);
	values[COLUMN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COLUMN_PASSED - 1] =
		PointerGetDatum(om_int8_array(cursor->passed.events, OM_EVENT_COUNT));
	om_table_insert_later(table, values, isnull, NCOLUMNS);
	note_move(cursor);
	OM_FAULT_POINT("cursors/stored");
}

void
om_cursor_store(OmCursor *cursor, int64 restart_seq, int64 waiting)
{
	OmTable *table = om_cursors_open();

	om_cursor_append(table, cursor, restart_seq, waiting);
	om_table_close(table);
}

/*
 * A transaction whose events have been handled before their turn stays marked
 * until a horizon shows it as a whole: the next tick may have been made before
 * it, or while it was still running.
 */
static void
keep_marks(OmHorizon *reached, const OmHorizon *base)
{
	int nahead = om_horizon_count_ahead(base);

	for (int i = base->nexceptions - nahead; i < base->nexceptions; i++)
		om_horizon_add_seen(reached, base->exceptions[i]);
	if (base->own_lxid != 0 && !om_horizon_shows(reached, base->own_lxid, base->own_event_id))
		om_horizon_add_own(reached, base->own_lxid, base->own_event_id);
}

/* Of what was still running for the base, a tick behind it may show the end. */
static void
add_ended(OmHorizon *base, const OmHorizon *reached)
{
	for (int i = base->nexceptions - 1; i >= 0; i--)
	{
		if (om_horizon_shows_all(reached, base->exceptions[i]))
			om_horizon_add_seen(base, base->exceptions[i]);
	}
}

/* Who has read up to a horizon of its own may be ahead of ticks that show a part. */
void
om_cursor_finish_window(OmCursor *cursor)
{
	if (cursor->target->xmax >= cursor->base->xmax)
	{
		keep_marks(cursor->target, cursor->base);
		om_horizon_free(cursor->base);
		cursor->base = cursor->target;
	}
	else
	{
		add_ended(cursor->base, cursor->target);
		om_horizon_free(cursor->target);
	}
	cursor->target = NULL;
	cursor->position = (OmLogPosition){0, 0};
}

OmHorizon *
om_cursor_after_window(const OmCursor *cursor)
{
	OmCursor copy = *cursor;

	copy.base = om_horizon_copy(cursor->base);
	if (cursor->target != NULL)
	{
		copy.target = om_horizon_copy(cursor->target);
		om_cursor_finish_window(&copy);
	}
	return copy.base;
}

void
om_cursor_count(OmCursor *cursor, const OmLogRows *rows)
{
	for (int i = 0; i < rows->count; i++)
	{
		const OmLogRow *row = &rows->rows[i];

		cursor->passed.events[row->type] += Max(row->norders, 1);
	}
	cursor->passed.rows += rows->count;
}

void
om_cursor_advance(OmCursor *cursor, const OmLogRows *rows)
{
	for (int type = 0; type < OM_EVENT_COUNT; type++)
		cursor->passed.events[type] += rows->passed.events[type];
	cursor->passed.rows += rows->passed.rows;
	cursor->position = rows->reached;
	if (rows->exhausted)
		om_cursor_finish_window(cursor);
}

void
om_cursor_create(const char *consumer, int64 tick_id, OmHorizon *base)
{
	OmCursor cursor = {.consumer = consumer, .tick_id = tick_id, .base = base};

	om_cursor_store(&cursor, 1, 0);
}

void
om_cursor_drop(const char *consumer)
{
	OmQueryScope scope;
	Datum name = CStringGetTextDatum(consumer);

	om_query_begin(&scope);
	for (int slot = 0; slot < om_rotation_cursors.nslots; slot++)
		om_query_run(&drop_queries[slot], &name, NULL);
	om_query_end(&scope);
}
