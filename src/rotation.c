/*
 * rotation.c
 *		Which of several tables is being written.
 *
 * Table "rotations" has one row per family of tables.  What may be emptied,
 * and which locks that takes, is known by the owner of the family (upkeep.c).
 * A change of the table is announced as one of its definition, which ends what
 * sessions remember of it.  The message is sent before the lock on the table that
 * has been emptied is let go: who finds a row in that table has got it.
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

typedef struct OmRotationState
{
	uint64 read_at; /* value of om_relations_changes(); 0: not read yet */
	int slot;
} OmRotationState;

static OmRotationState states[3];

const OmRotation om_rotation_ticks = {"ticks", 2, {"ticks_0", "ticks_1"}, &states[0]};
const OmRotation om_rotation_cursors = {
	"cursor_log", 2, {"cursor_log_0", "cursor_log_1"}, &states[1]};
const OmRotation om_rotation_keys = {
	"idempotency_keys",
	4,
	{"idempotency_keys_0", "idempotency_keys_1", "idempotency_keys_2", "idempotency_keys_3"},
	&states[2]};

static int
read_row(const OmRotation *rotation, TimestampTz *since)
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
	*since = DatumGetTimestampTz(om_row_get_not_null(table, row, 3));
	om_table_close(table);
	return slot;
}

int
om_rotation_current(const OmRotation *rotation)
{
	OmRotationState *state = rotation->state;
	uint64 changes = om_relations_changes();
	TimestampTz since;

	if (state->read_at != changes)
	{
		state->slot = read_row(rotation, &since);
		state->read_at = changes;
	}
	return state->slot;
}

TimestampTz
om_rotation_since(const OmRotation *rotation)
{
	TimestampTz since;

	(void) read_row(rotation, &since);
	return since;
}

Oid
om_rotation_table(const OmRotation *rotation, int slot)
{
	return om_relation_get(rotation->tables[slot]);
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
	int next = (om_rotation_current(rotation) + 1) % rotation->nslots;
	Datum args[2] = {CStringGetTextDatum(rotation->name), Int32GetDatum(next)};

	om_query_begin(&scope);
	OM_FAULT_POINT("rotation/before-truncate");
	om_query_utility(psprintf("TRUNCATE order_mgmt.%s", rotation->tables[next]));
	OM_FAULT_POINT("rotation/truncated");
	/* First, so that it comes into force here as soon as the row does. */
	CacheInvalidateRelcacheByRelid(om_relation_get("rotations"));
	om_query_run(&advance_query, args, NULL);
	om_query_end(&scope);
	OM_FAULT_POINT("rotation/advanced");
}
