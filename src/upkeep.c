/*
 * upkeep.c
 *		Regular maintenance.
 *
 * Everything here takes its locks without waiting, or, to make months, waits for a
 * moment: what cannot be had now is done next time.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "cursors.h"
#include "faults.h"
#include "locks.h"
#include "maintlog.h"
#include "months.h"
#include "plans.h"
#include "policies.h"
#include "purges.h"
#include "relations.h"
#include "rotation.h"
#include "settings.h"
#include "tables.h"
#include "ticks.h"
#include "upkeep.h"
#include "uploads.h"

/* Ticks and cursors change tables when the current one has grown to this. */
#ifdef OM_FAULT_POINTS
#define ROTATE_AT_BLOCKS 1 /* so that tests see it happen */
#else
#define ROTATE_AT_BLOCKS 2048
#endif

static void
note(List **actions, const char *action, char *object)
{
	OmUpkeepAction *entry = palloc(sizeof(OmUpkeepAction));

	OmMaintEntry logged = om_maintlog_entry(action, object);

	entry->action = action;
	entry->object = object;
	*actions = lappend(*actions, entry);
	om_maintlog_add(&logged);
}

static OmQuery consumers_query = {
	.sql = "SELECT name::text FROM order_mgmt.consumers WHERE (kind = 'external') = $1",
	.nargs = 1,
	.types = {BOOLOID}};

/* Programs outside the server may stay away for ever; the others read by ticks. */
static List *
list_consumers(bool external)
{
	Datum arg = BoolGetDatum(external);

	return om_query_list(&consumers_query, &arg, NULL, om_result_name);
}

/* A restart of some consumer would read ticks of this table, or the next one is numbered by it. */
static bool
ticks_are_needed(int slot)
{
	int64 last = om_tick_last_in(slot);
	ListCell *cell;

	if (last > 0 && last == om_tick_last())
		return true;
	foreach(cell, list_consumers(false /* external */))
	{
		if (om_cursor_load(lfirst(cell), true /* restart */, GetActiveSnapshot())->tick_id < last)
			return true;
	}
	return false;
}

/* The position of some consumer stands in this table. */
static bool
cursors_are_needed(int slot)
{
	ListCell *cell;

	foreach(cell, list_consumers(false /* external */))
	{
		if (om_cursor_is_in(lfirst(cell), slot, GetActiveSnapshot()))
			return true;
	}
	return false;
}

/* Positions of programs that have not moved for long go along. */
static void
carry_positions(int from)
{
	ListCell *cell;

	foreach(cell, list_consumers(true /* external */))
		om_cursor_carry(lfirst(cell), from, GetActiveSnapshot());
}

static bool
has_grown(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	bool grown = RelationGetNumberOfBlocks(rel) >= ROTATE_AT_BLOCKS;

	table_close(rel, NoLock);
	return grown;
}

static void
rotate_when_grown(const OmRotation *rotation, bool (*is_needed)(int slot), List **actions)
{
	int current = om_rotation_current(rotation);
	int next = (current + 1) % rotation->nslots;

	/* Looked at twice: without the lock, to take it only where it leads somewhere. */
	if (!has_grown(om_rotation_table(rotation, current)) || is_needed(next) ||
		!ConditionalLockRelationOid(om_rotation_table(rotation, next), AccessExclusiveLock))
		return;
	PushActiveSnapshot(om_current_snapshot());
	if (!is_needed(next))
	{
		if (rotation == &om_rotation_cursors)
			carry_positions(next);
		om_rotation_advance(rotation);
		note(actions, "rotate", pstrdup(rotation->name));
	}
	PopActiveSnapshot();
}

/* See keys.c for why the table that is left must be locked. */
static void
rotate_keys(List **actions)
{
	TimestampTz since = om_rotation_since(&om_rotation_keys);
	int current = om_rotation_current(&om_rotation_keys);
	int next = (current + 1) % om_rotation_keys.nslots;
	int64 turn =
		om_setting_idempotency_retention * USECS_PER_MINUTE / (om_rotation_keys.nslots - 1);

	if (GetCurrentTimestamp() - since < turn ||
		!ConditionalLockRelationOid(om_rotation_table(&om_rotation_keys, current),
									ShareRowExclusiveLock) ||
		!ConditionalLockRelationOid(om_rotation_table(&om_rotation_keys, next),
									AccessExclusiveLock))
		return;
	om_rotation_advance(&om_rotation_keys);
	note(actions, "rotate", pstrdup(om_rotation_keys.name));
}

int64
om_upkeep_purge_keys(void)
{
	List *actions = NIL;

	if (om_lock_try(OM_LOCK_UPKEEP))
		rotate_keys(&actions);
	return list_length(actions);
}

static void
note_purge(List **actions, const char *action, int64 count)
{
	if (count > 0)
		note(actions, action, psprintf(INT64_FORMAT, count));
}

/* The same month is said to be missing once. */
static void
note_busy(List **actions, char *partition)
{
	OmUpkeepAction *entry = palloc(sizeof(OmUpkeepAction));
	OmMaintEntry logged = om_maintlog_entry("make partition", partition);

	logged.sqlstate = ERRCODE_LOCK_NOT_AVAILABLE;
	logged.error = "its table is being used; the next run tries again";
	if (OidIsValid(om_relation_find("maintenance_log")))
		om_maintlog_add_news(&logged);
	entry->action = "give up";
	entry->object = psprintf("make partition %s: %s", partition, logged.error);
	*actions = lappend(*actions, entry);
}

static void
make_months(List **actions)
{
	List *busy = NIL;
	ListCell *cell;

	foreach(cell, om_months_premake_if_free(om_clock_now(), om_policy_premake_ours(), &busy))
		note(actions, "make partition", lfirst(cell));
	foreach(cell, busy)
		note_busy(actions, lfirst(cell));
}

List *
om_upkeep_run(void)
{
	List *actions = NIL;
	ListCell *cell;

	if (!om_lock_try(OM_LOCK_UPKEEP))
		return NIL; /* somebody else is at it */
	OM_FAULT_POINT("upkeep/locked");
	make_months(&actions);
	OM_FAULT_POINT("upkeep/months-made");
	rotate_when_grown(&om_rotation_ticks, ticks_are_needed, &actions);
	OM_FAULT_POINT("upkeep/ticks-rotated");
	rotate_when_grown(&om_rotation_cursors, cursors_are_needed, &actions);
	OM_FAULT_POINT("upkeep/cursors-rotated");
	rotate_keys(&actions);
	OM_FAULT_POINT("upkeep/keys-rotated");
	foreach(cell, om_upload_purge())
		note(&actions, "purge upload", lfirst(cell));
	OM_FAULT_POINT("upkeep/uploads-purged");
	note_purge(&actions, "purge loads", om_purge_loads());
	note_purge(&actions, "purge dead letters", om_purge_dead_letters());
	note_purge(&actions, "purge predictions", om_purge_prediction_log());
	return actions;
}
