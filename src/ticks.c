/*
 * ticks.c
 *		Ticks: stored horizons, numbered without gaps.
 *
 * A tick is made on demand by the worker that finds none after the newest
 * commit.  All of it happens under one lock, so a tick with a higher number
 * shows at least what a lower one shows, and numbers have no gaps: a tick that
 * is rolled back gives its number to the next.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "eventlog.h"
#include "faults.h"
#include "locks.h"
#include "rotation.h"
#include "tables.h"
#include "ticks.h"

/* Columns of tables ticks_N */
enum
{
	COLUMN_TICK_ID = 1,
	COLUMN_HORIZON,
	COLUMN_AT,
	NCOLUMNS = COLUMN_AT
};

/* The tick that a transaction has made: the newest, as it keeps the lock under which they are made. */
typedef struct MadeTick
{
	int64 tick_id;
	OmHorizon *horizon;
	LocalTransactionId maker;
	SubTransactionId part;
} MadeTick;

static MadeTick made;

static bool
is_made_here(void)
{
	return made.maker == om_local_transaction() && SubTransactionIsActive(made.part);
}

OmHorizon *
om_tick_find(int64 tick_id)
{
	OmHorizon *horizon = NULL;
	Datum key = Int64GetDatum(tick_id);

	if (is_made_here() && tick_id >= made.tick_id)
		return tick_id == made.tick_id ? om_horizon_copy(made.horizon) : NULL;
	for (int slot = 0; slot < om_rotation_ticks.nslots && horizon == NULL; slot++)
	{
		OmTable *table =
			om_table_open(om_rotation_table(&om_rotation_ticks, slot), AccessShareLock);
		HeapTuple row = om_table_find(table, &key, GetActiveSnapshot());

		if (row != NULL)
			horizon = om_horizon_from_array(
				DatumGetArrayTypeP(om_row_get_not_null(table, row, COLUMN_HORIZON)));
		om_table_close(table);
	}
	return horizon;
}

static int64
last_in(int slot, int64 least)
{
	OmTable *table = om_table_open(om_rotation_table(&om_rotation_ticks, slot), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	HeapTuple row = om_table_last_from(table, Int64GetDatum(least), snapshot);
	int64 last = row == NULL ? 0 : DatumGetInt64(om_row_get_not_null(table, row, COLUMN_TICK_ID));

	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return last;
}

int64
om_tick_last_in(int slot)
{
	return last_in(slot, PG_INT64_MIN);
}

static int64
look_for_last(void)
{
	int64 last = 0;

	for (int slot = 0; slot < om_rotation_ticks.nslots; slot++)
	{
		int64 here = om_tick_last_in(slot);

		last = Max(last, here);
	}
	return last;
}

int64
om_tick_last(void)
{
	/* The newest when we looked last; it may not have been committed, or be in the other table. */
	static int64 seen = 0;
	int64 last = seen == 0 ? 0 : last_in(om_rotation_current(&om_rotation_ticks), seen);

	seen = last > 0 ? last : look_for_last();
	return seen;
}

/* Cuts a horizon behind the first events that it shows and an earlier one does not. */
static bool
cut_horizon(OmHorizon *horizon, int64 earlier_tick, int max_events)
{
	OmLogRows *rows = om_log_rows_create();
	OmHorizon *earlier = om_tick_find(earlier_tick);

	if (earlier == NULL)
		return true; /* the first one */
	om_log_read(rows, &(OmLogWindow){earlier, horizon, {0, 0}}, OM_EVENTS_ALL, max_events);
	if (!rows->exhausted)
		om_horizon_cut(horizon, Max(earlier->xmax, rows->reached.lxid + 1));
	return rows->exhausted;
}

static void
store_tick(int64 tick_id, const OmHorizon *horizon)
{
	Datum values[NCOLUMNS];
	bool isnull[NCOLUMNS] = {false};
	OmTable *table = om_table_open(
		om_rotation_table(&om_rotation_ticks, om_rotation_current(&om_rotation_ticks)),
		RowExclusiveLock);

	values[COLUMN_TICK_ID - 1] = Int64GetDatum(tick_id);
	values[COLUMN_HORIZON - 1] = PointerGetDatum(om_horizon_to_array(horizon));
	values[COLUMN_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	om_table_insert(table, values, isnull, NCOLUMNS);
	om_table_close(table);
}

static void
remember_tick(int64 tick_id, const OmHorizon *horizon)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	made = (MadeTick){tick_id, om_horizon_copy(horizon), om_local_transaction(),
					  GetCurrentSubTransactionId()};
	MemoryContextSwitchTo(caller);
}

/*
 * A window as large as a batch leaves nobody in the middle of it for long, so
 * consumers that have lost step find each other again.
 */
bool
om_tick_make(int64 xid_base, int max_events)
{
	bool is_all = true;
	int64 last;
	Snapshot snapshot;
	OmHorizon *horizon;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		elog(ERROR, "a tick must be made by a transaction that has not written yet");
	om_lock_acquire(OM_LOCK_TICK);
	OM_FAULT_POINT("ticks/locked");
	last = om_tick_last();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	horizon = om_horizon_take(snapshot, xid_base);
	if (max_events > 0)
	{
		PushActiveSnapshot(snapshot);
		is_all = cut_horizon(horizon, last, max_events);
		PopActiveSnapshot();
	}
	UnregisterSnapshot(snapshot);
	OM_FAULT_POINT("ticks/taken");
	store_tick(last + 1, horizon);
	remember_tick(last + 1, horizon);
	OM_FAULT_POINT("ticks/stored");
	return is_all;
}

OmHorizon *
om_tick_private(int64 xid_base, int64 *tick_id)
{
	OmHorizon *horizon;

	om_lock_acquire(OM_LOCK_TICK);
	OM_FAULT_POINT("ticks/private-locked");
	*tick_id = om_tick_last();
	horizon = om_horizon_take(GetLatestSnapshot(), xid_base);
	om_lock_release(OM_LOCK_TICK);
	return horizon;
}
