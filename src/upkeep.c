/*
 * upkeep.c
 *		Regular maintenance.
 *
 * Everything here takes its locks without waiting: what cannot be had now is
 * done next time.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "locks.h"
#include "months.h"
#include "plans.h"
#include "rotation.h"
#include "settings.h"
#include "upkeep.h"

/* Ticks and cursors change tables when the current one has grown to this. */
#define ROTATE_AT_BLOCKS 2048

static void
note(List **actions, const char *action, char *object)
{
	OmUpkeepAction *entry = palloc(sizeof(OmUpkeepAction));

	entry->action = action;
	entry->object = object;
	*actions = lappend(*actions, entry);
}

/* Rows that are still needed in the table that would be emptied next. */
static OmQuery needed_ticks_query = {
	.sql = "SELECT 1 FROM order_mgmt.consumers AS c CROSS JOIN LATERAL (SELECT tick_id FROM"
		   " (SELECT seq, tick_id FROM order_mgmt.cursor_log_0 WHERE consumer = c.name"
		   "  UNION ALL SELECT seq, tick_id FROM order_mgmt.cursor_log_1"
		   "  WHERE consumer = c.name) AS l"
		   " WHERE l.seq >= (SELECT restart_seq FROM (SELECT seq, restart_seq FROM"
		   "  order_mgmt.cursor_log_0 WHERE consumer = c.name UNION ALL SELECT seq, restart_seq"
		   "  FROM order_mgmt.cursor_log_1 WHERE consumer = c.name) AS n ORDER BY seq DESC LIMIT 1)"
		   " ORDER BY l.seq LIMIT 1) AS position"
		   " WHERE position.tick_id < (SELECT max(tick_id) FROM (SELECT tick_id FROM"
		   "  order_mgmt.ticks_0 WHERE $1 = 0 UNION ALL SELECT tick_id FROM order_mgmt.ticks_1"
		   "  WHERE $1 = 1) AS t) LIMIT 1",
	.nargs = 1,
	.types = {INT4OID}};

static OmQuery needed_cursors_query = {
	.sql =
		"SELECT 1 FROM order_mgmt.consumers AS c CROSS JOIN LATERAL (SELECT slot FROM"
		" (SELECT 0 AS slot, seq FROM order_mgmt.cursor_log_0 WHERE consumer = c.name"
		"  UNION ALL SELECT 1, seq FROM order_mgmt.cursor_log_1 WHERE consumer = c.name) AS l"
		" WHERE l.seq >= (SELECT restart_seq FROM (SELECT seq, restart_seq FROM"
		"  order_mgmt.cursor_log_0 WHERE consumer = c.name UNION ALL SELECT seq, restart_seq"
		"  FROM order_mgmt.cursor_log_1 WHERE consumer = c.name) AS n ORDER BY seq DESC LIMIT 1))"
		" AS needed WHERE needed.slot = $1 LIMIT 1",
	.nargs = 1,
	.types = {INT4OID}};

static bool
is_needed(OmQuery *query, int slot)
{
	OmQueryScope scope;
	Datum arg = Int32GetDatum(slot);
	bool needed;

	om_query_begin(&scope);
	needed = om_query_run(query, &arg, NULL) > 0;
	om_query_end(&scope);
	return needed;
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
rotate_when_grown(const OmRotation *rotation, OmQuery *needed_query, List **actions)
{
	int current = om_rotation_current(rotation, NULL);
	int next = (current + 1) % rotation->nslots;

	/* Looked at twice: without the lock, to take it only where it leads somewhere. */
	if (!has_grown(om_rotation_table(rotation, current)) || is_needed(needed_query, next) ||
		!ConditionalLockRelationOid(om_rotation_table(rotation, next), AccessExclusiveLock) ||
		is_needed(needed_query, next))
		return;
	om_rotation_advance(rotation);
	note(actions, "rotate", pstrdup(rotation->name));
}

/* See keys.c for why the table that is left must be locked. */
static void
rotate_keys(List **actions)
{
	TimestampTz since;
	int current = om_rotation_current(&om_rotation_keys, &since);
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

List *
om_upkeep_run(void)
{
	List *actions = NIL;
	List *months;
	ListCell *cell;

	if (!om_lock_try(OM_LOCK_UPKEEP))
		return NIL; /* somebody else is at it */
	months = om_months_premake(GetCurrentTimestamp(), om_setting_premake_months);
	foreach(cell, months)
		note(&actions, "make partition", lfirst(cell));
	rotate_when_grown(&om_rotation_ticks, &needed_ticks_query, &actions);
	rotate_when_grown(&om_rotation_cursors, &needed_cursors_query, &actions);
	rotate_keys(&actions);
	return actions;
}
