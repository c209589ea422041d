/*
 * rotation.c
 *		Which of several tables is being written.
 *
 * Table "rotations" has one row per family of tables.  What may be emptied,
 * and which locks that takes, is known by the owner of the family (upkeep.c).
 * A change of the table is announced as one of its definition, so that what a
 * session remembers of it can be as old as its newest lock, and not older.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "faults.h"
#include "plans.h"
#include "relations.h"
#include "rotation.h"
#include "tables.h"

const OmRotation om_rotation_ticks = {"ticks", 2};
const OmRotation om_rotation_cursors = {"cursor_log", 2};
const OmRotation om_rotation_keys = {"idempotency_keys", 4};

int
om_rotation_current(const OmRotation *rotation, TimestampTz *since)
{
	OmTable *table = om_table_open(om_relation_get("rotations"), AccessShareLock);
	Datum key = CStringGetTextDatum(rotation->name);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	HeapTuple row = om_table_find(table, &key, snapshot);
	int slot;

	UnregisterSnapshot(snapshot);
	if (row == NULL)
		elog(ERROR, "no rotation named \"%s\"", rotation->name);
	slot = DatumGetInt32(om_row_get_not_null(table, row, 2));
	if (since != NULL)
		*since = DatumGetTimestampTz(om_row_get_not_null(table, row, 3));
	om_table_close(table);
	return slot;
}

Oid
om_rotation_table(const OmRotation *rotation, int slot)
{
	return om_relation_get(psprintf("%s_%d", rotation->name, slot));
}

static OmQuery advance_query = {
	.sql = "UPDATE order_mgmt.rotations SET slot = $2, since = pg_catalog.clock_timestamp()"
		   " WHERE name = $1",
	.nargs = 2,
	.types = {TEXTOID, INT4OID}};

void
om_rotation_advance(const OmRotation *rotation)
{
	OmQueryScope scope;
	int next = (om_rotation_current(rotation, NULL) + 1) % rotation->nslots;
	Datum args[2] = {CStringGetTextDatum(rotation->name), Int32GetDatum(next)};

	om_query_begin(&scope);
	OM_FAULT_POINT("rotation/before-truncate");
	om_query_utility(psprintf("TRUNCATE order_mgmt.%s_%d", rotation->name, next));
	OM_FAULT_POINT("rotation/truncated");
	om_query_run(&advance_query, args, NULL);
	om_query_end(&scope);
	/* Sessions may remember which table is current. */
	CacheInvalidateRelcacheByRelid(om_relation_get("rotations"));
	CommandCounterIncrement();
	OM_FAULT_POINT("rotation/advanced");
}
