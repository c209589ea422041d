/*
 * monthswap.c
 *		The two halves of every move of a month: copy, then swap.
 *
 * While a partition is copied it is locked in SHARE: it may be read, not
 * written.  The swap wants ACCESS EXCLUSIVE on parents and partitions.  Whoever
 * waits for such a lock holds up all that come later, captures too, so each try
 * waits 100 ms altogether at most, and lets everything go before the next.
 * A writer that waits for our SHARE has locked the parent before, so while it
 * waits the swap cannot succeed: then it is given up at once.
 *
 * A twin is made, filled and attached in one transaction, whose end makes
 * all of it happen or nothing.  Its rows are frozen from the beginning: a
 * snapshot older than the move sees in the twin what it saw in the
 * partition that went.  That is so if nothing has changed there since the oldest
 * snapshot that anybody has; while something has, the month stays where it is
 * (om_month_require_seen()).  Nobody else sees them before the commit, because nobody
 * else sees the table.  They are no changes, so logical decoding is not told.
 *
 * All statements run as the owner of the tables, in a session that can plant
 * nothing.  The caller commits.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/heapam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "lockwaits.h"
#include "monthswap.h"
#include "plans.h"
#include "relations.h"
#include "snapshots.h"
#include "textform.h"

/* How often it is tried to lock for the swap, and the pauses between. */
#define SWAP_TRIES 12
#define PAUSE_MS 50
#define LONGEST_PAUSE_MS 800

/* Writers of an old month are rare and short; autovacuum gives way when it has been noticed. */
#define COPY_LOCK_MS 2000

/* So are snapshots that are older than the last change of an old month. */
#define SNAPSHOT_PAUSE_MS 10

#define BOUNDS_CONSTRAINT "om_moving_bounds"

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* ---------- locks ---------- */

static void
raise_busy(Oid relid)
{
	char *name = get_rel_name(relid);

	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("the month could not be moved: table \"%s\" is being used", name),
					om_errdetail("table", name),
					errhint("Try again when no transaction has read or written it for long; "
							"pg_locks shows who does. Nothing has changed.")));
}

void
om_month_lock_to_copy(List *leaves)
{
	if (!om_lockwait_lock(leaves, ShareLock, COPY_LOCK_MS))
		raise_busy(linitial_oid(leaves));
}

/* What keeps a month where it is, in words for an error and for view partitions. */
#define MISSED "a transaction that is open sees it as it was before its last change"

char *
om_month_missed(Oid leaf)
{
	return om_snapshots_miss(om_snapshots_newest_change(leaf)) ? pstrdup(MISSED) : NULL;
}

/* Statements end soon, and with them most snapshots. */
static bool
wait_until_seen(Oid leaf, TimestampTz deadline)
{
	TransactionId change = om_snapshots_newest_change(leaf);

	while (om_snapshots_miss(change))
	{
		if (GetCurrentTimestamp() >= deadline)
			return false;
		om_lockwait_pause(SNAPSHOT_PAUSE_MS);
	}
	return true;
}

void
om_month_require_seen(List *leaves)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COPY_LOCK_MS);
	ListCell *cell;

	foreach(cell, leaves)
	{
		char *name = get_rel_name(lfirst_oid(cell));

		if (wait_until_seen(lfirst_oid(cell), deadline))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partition \"%s\" could not be moved: " MISSED, name),
				 om_errdetail("table", name),
				 errhint("Try again when that transaction has ended: in pg_stat_activity it is "
						 "one that has a backend_xmin. Nothing has changed.")));
	}
}

/* Somebody waits to write a partition that is being copied. */
static bool
holds_up_a_writer(List *moves)
{
	ListCell *cell;

	foreach(cell, moves)
	{
		const OmMonthMove *move = lfirst(cell);
		Relation rel;
		bool waits;

		if (!OidIsValid(move->old))
			continue;
		rel = table_open(move->old, NoLock);
		waits = CheckRelationLockedByMe(rel, ShareLock, false /* orstronger */) &&
				LockHasWaitersRelation(rel, ShareLock);
		table_close(rel, NoLock);
		if (waits)
			return true;
	}
	return false;
}

/* Parents first, as whoever reads a partition does. */
static List *
relations_to_lock(List *moves)
{
	List *relids = NIL;
	ListCell *cell;

	foreach(cell, moves)
		relids = list_append_unique_oid(relids, ((OmMonthMove *) lfirst(cell))->parent);
	foreach(cell, moves)
	{
		const OmMonthMove *move = lfirst(cell);

		if (OidIsValid(move->old))
			relids = lappend_oid(relids, move->old);
		if (OidIsValid(move->kept))
			relids = lappend_oid(relids, move->kept);
	}
	return relids;
}

static bool
lock_for_swap(List *moves)
{
	List *relids = relations_to_lock(moves);
	int pause = PAUSE_MS;

	for (int i = 0; i < SWAP_TRIES; i++)
	{
		if (i > 0)
		{
			om_lockwait_pause(pause);
			pause = Min(pause * 2, LONGEST_PAUSE_MS);
		}
		if (om_lockwait_lock(relids, AccessExclusiveLock, OM_LOCKWAIT_MS))
			return true;
		if (holds_up_a_writer(moves))
			return false;
	}
	return false;
}

/* ---------- twins ---------- */

static char *
bound_text(List *datums)
{
	PartitionRangeDatum *datum = list_length(datums) == 1 ? linitial(datums) : NULL;
	Const *value;
	Oid output;
	bool is_varlena;

	if (datum == NULL || datum->kind != PARTITION_RANGE_DATUM_VALUE)
		return NULL;
	value = castNode(Const, datum->value);
	getTypeOutputInfo(value->consttype, &output, &is_varlena);
	return OidOutputFunctionCall(output, value->constvalue);
}

OmMonthBounds
om_month_bounds(Oid leaf)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(leaf));
	OmMonthBounds bounds;
	PartitionBoundSpec *spec;
	Datum bound;
	bool isnull = true;
	int level;

	bound = HeapTupleIsValid(tuple)
			  ? SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull)
			  : (Datum) 0;
	if (isnull)
		elog(ERROR, "relation %u is not a partition", leaf);
	spec = stringToNode(TextDatumGetCString(bound));
	ReleaseSysCache(tuple);
	level = om_textform_begin();
	if (spec->strategy != PARTITION_STRATEGY_RANGE || spec->is_default)
		spec->lowerdatums = spec->upperdatums = NIL;
	bounds.from = bound_text(spec->lowerdatums);
	bounds.to = bound_text(spec->upperdatums);
	om_textform_end(level);
	return bounds;
}

/* What attaching will ask of the rows; the parent may be a partition itself. */
static char *
bounds_check(Oid parent, const OmMonthBounds *bounds, const char *twin)
{
	Relation rel = table_open(parent, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(rel);
	AttrNumber column = key->partattrs[0];
	StringInfoData check;
	const char *name;
	const char *type;

	if (key->partnatts != 1 || column == InvalidAttrNumber)
		elog(ERROR, "table \"%s\" is not partitioned by one column", RelationGetRelationName(rel));
	name = quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), column - 1)->attname));
	type = format_type_be_qualified(key->parttypid[0]);
	initStringInfo(&check);
	appendStringInfo(&check, "%s IS NOT NULL AND %s >= %s::%s AND %s < %s::%s", name, name,
					 quote_literal_cstr(bounds->from), type, name, quote_literal_cstr(bounds->to),
					 type);
	if (rel->rd_rel->relispartition)
		appendStringInfo(&check, " AND %s",
						 pg_get_partconstrdef_string(parent, unconstify(char *, twin)));
	table_close(rel, NoLock);
	return check.data;
}

/* Runs what a query of catalogs writes: one text, or NULL. */
static void
run_written(const char *query)
{
	char *statement;

	om_query_utility(query);
	statement = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (statement != NULL)
		om_query_utility(statement);
}

/*
 * LIKE copies constraints that hold for new rows only as if they held for all, and
 * the planner would believe it.
 */
static void
drop_unproven(Oid parent, const char *twin)
{
	run_written(psprintf("SELECT format('ALTER TABLE %%s %%s', %s, string_agg(format("
						 "'DROP CONSTRAINT %%I', conname), ', ')) FROM pg_constraint"
						 " WHERE conrelid = %u AND contype = 'c' AND NOT convalidated"
						 " HAVING count(*) > 0 UNION ALL SELECT NULL",
						 quote_literal_cstr(twin), parent));
}

/* When the rows are there; ATTACH asks for them. */
static void
add_unproven(Oid parent, Oid twin)
{
	run_written(psprintf("SELECT format('ALTER TABLE %%s %%s', %s, string_agg(format("
						 "'ADD CONSTRAINT %%I %%s', conname, pg_get_constraintdef(oid)), ', '))"
						 " FROM pg_constraint AS p WHERE conrelid = %u AND contype = 'c'"
						 " AND NOT EXISTS (SELECT FROM pg_constraint AS t WHERE t.conrelid = %u"
						 " AND t.conname = p.conname) HAVING count(*) > 0 UNION ALL SELECT NULL",
						 quote_literal_cstr(qualified_name(twin)), parent, twin));
}

Oid
om_month_twin_make(Oid parent, const OmMonthBounds *bounds, const char *storage)
{
	char *name = psprintf("om_moving_%u_%d", parent, MyProcPid);
	Oid schema = get_rel_namespace(parent);
	char *qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	OmQueryScope scope;
	int level;

	om_query_begin_as_owner(&scope, parent);
	level = om_textform_begin();
	om_query_utility(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES"
							  " EXCLUDING IDENTITY, CONSTRAINT %s CHECK (%s)) %s",
							  qualified, qualified_name(parent), BOUNDS_CONSTRAINT,
							  bounds_check(parent, bounds, name), storage));
	drop_unproven(parent, qualified);
	om_textform_end(level);
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("monthswap/twin-made");
	return get_relname_relid(name, schema);
}

struct OmMonthFill
{
	Relation rel;
	BulkInsertState bulk;
	CommandId command;
	MemoryContext context; /* of what a write leaves behind */
	EState *estate;        /* of what is asked of rows from elsewhere; NULL: of none */
	ResultRelInfo *info;   /* with that */
	TupleTableSlot **slots;
	int nwaiting;
	Size bytes;
	int64 nrows;
};

/* As much as COPY writes at a time. */
#define FILL_ROWS 1000
#define FILL_BYTES 65535

OmMonthFill *
om_month_fill_begin(Oid twin, bool is_foreign)
{
	OmMonthFill *fill = palloc0(sizeof(OmMonthFill));

	fill->rel = table_open(twin, AccessExclusiveLock);
	fill->bulk = GetBulkInsertState();
	fill->command = GetCurrentCommandId(true);
	fill->context = AllocSetContextCreate(CurrentMemoryContext, "month", ALLOCSET_DEFAULT_SIZES);
	fill->slots = palloc0(sizeof(TupleTableSlot *) * FILL_ROWS);
	if (is_foreign)
	{
		fill->estate = CreateExecutorState();
		fill->info = makeNode(ResultRelInfo);
		InitResultRelInfo(fill->info, fill->rel, 0, NULL, 0);
	}
	return fill;
}

static void
write_waiting(OmMonthFill *fill)
{
	MemoryContext caller = MemoryContextSwitchTo(fill->context);

	if (fill->nwaiting > 0)
		table_multi_insert(fill->rel, fill->slots, fill->nwaiting, fill->command,
						   TABLE_INSERT_SKIP_FSM | TABLE_INSERT_FROZEN | TABLE_INSERT_NO_LOGICAL,
						   fill->bulk);
	for (int i = 0; i < fill->nwaiting; i++)
		ExecClearTuple(fill->slots[i]);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(fill->context);
	fill->nwaiting = 0;
	fill->bytes = 0;
	CHECK_FOR_INTERRUPTS();
}

/* What the executor does with a row before it writes it. */
static void
check_row(OmMonthFill *fill, TupleTableSlot *slot)
{
	TupleConstr *constr = RelationGetDescr(fill->rel)->constr;

	slot->tts_tableOid = RelationGetRelid(fill->rel);
	if (constr != NULL && constr->has_generated_stored)
		ExecComputeStoredGenerated(fill->info, fill->estate, slot, CMD_INSERT);
	if (constr != NULL)
		ExecConstraints(fill->info, slot, fill->estate);
	ResetPerTupleExprContext(fill->estate);
}

void
om_month_fill_row(OmMonthFill *fill, const Datum *values, const bool *isnull)
{
	TupleDesc desc = RelationGetDescr(fill->rel);
	HeapTuple row = heap_form_tuple(desc, unconstify(Datum *, values), unconstify(bool *, isnull));

	if (fill->slots[fill->nwaiting] == NULL)
		fill->slots[fill->nwaiting] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	fill->bytes += row->t_len;
	ExecStoreHeapTuple(row, fill->slots[fill->nwaiting], true /* shouldFree */);
	if (fill->estate != NULL)
		check_row(fill, fill->slots[fill->nwaiting]);
	fill->nwaiting++;
	fill->nrows++;
	if (fill->nwaiting == FILL_ROWS || fill->bytes >= FILL_BYTES)
		write_waiting(fill);
}

int64
om_month_fill_end(OmMonthFill *fill)
{
	int64 nrows = fill->nrows;

	write_waiting(fill);
	for (int i = 0; i < FILL_ROWS && fill->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(fill->slots[i]);
	if (fill->estate != NULL)
		FreeExecutorState(fill->estate);
	FreeBulkInsertState(fill->bulk);
	table_finish_bulk_insert(fill->rel, 0);
	table_close(fill->rel, NoLock);
	MemoryContextDelete(fill->context);
	pfree(fill);
	CommandCounterIncrement();
	return nrows;
}

/* The place of each column of the one table in the other; -1: it is a dropped column. */
static int *
match_columns(TupleDesc to, TupleDesc from)
{
	int *places = palloc(sizeof(int) * to->natts);

	for (int i = 0; i < to->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(to, i);

		places[i] = -1;
		for (int j = 0; j < from->natts && !column->attisdropped; j++)
		{
			Form_pg_attribute other = TupleDescAttr(from, j);

			if (!other->attisdropped && namestrcmp(&column->attname, NameStr(other->attname)) == 0)
				places[i] = j;
		}
	}
	return places;
}

static void
fill_from_slot(OmMonthFill *fill, TupleTableSlot *slot, const int *places, Datum *values,
			   bool *isnull)
{
	int natts = RelationGetDescr(fill->rel)->natts;

	slot_getallattrs(slot);
	for (int i = 0; i < natts; i++)
	{
		isnull[i] = places[i] < 0 || slot->tts_isnull[places[i]];
		values[i] = isnull[i] ? (Datum) 0 : slot->tts_values[places[i]];
	}
	om_month_fill_row(fill, values, isnull);
}

int64
om_month_twin_copy(Oid twin, Oid leaf)
{
	Relation from = table_open(leaf, AccessShareLock);
	OmMonthFill *fill = om_month_fill_begin(twin, false /* is_foreign */);
	TupleDesc desc = RelationGetDescr(fill->rel);
	int *places = match_columns(desc, RelationGetDescr(from));
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *isnull = palloc(sizeof(bool) * desc->natts);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(from, NULL);
	TableScanDesc scan = table_beginscan(from, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		fill_from_slot(fill, slot, places, values, isnull);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(from, NoLock);
	return om_month_fill_end(fill);
}

/* ---------- indexes ---------- */

/* What follows the table's name in the definition of an index. */
static const char *
index_definition(Oid index, Oid table)
{
	char *definition =
		TextDatumGetCString(OidFunctionCall1(F_PG_GET_INDEXDEF_OID, ObjectIdGetDatum(index)));
	char *name = qualified_name(table);
	char *found = strstr(definition, psprintf(" %s USING ", name));

	if (found == NULL)
		elog(ERROR, "could not make out the definition of index %u", index);
	return found + strlen(name) + 1;
}

void
om_month_index_make(Oid index, Oid parent, Oid twin)
{
	Oid constraint = get_index_constraint(index);
	char *name = qualified_name(twin);

	if (OidIsValid(constraint))
		om_query_utility(psprintf("ALTER TABLE %s ADD %s", name,
								  TextDatumGetCString(OidFunctionCall1(
									  F_PG_GET_CONSTRAINTDEF_OID, ObjectIdGetDatum(constraint)))));
	else
	{
		Relation rel = index_open(index, AccessShareLock);
		bool is_unique = rel->rd_index->indisunique;

		index_close(rel, NoLock);
		om_query_utility(psprintf("CREATE %sINDEX ON %s%s", is_unique ? "UNIQUE " : "", name,
								  index_definition(index, parent)));
	}
}

static List *
indexes_of(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);

	table_close(rel, NoLock);
	return indexes;
}

void
om_month_twin_finish(Oid twin, Oid parent, const char *tablespace)
{
	OmQueryScope scope;
	ListCell *cell;
	int level;

	om_query_begin_as_owner(&scope, parent);
	level = om_textform_begin();
	(void) set_config_option("default_tablespace", tablespace == NULL ? "" : tablespace,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	foreach(cell, indexes_of(parent))
		om_month_index_make(lfirst_oid(cell), parent, twin);
	add_unproven(parent, twin);
	om_query_utility(psprintf("ANALYZE %s", qualified_name(twin)));
	om_textform_end(level);
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("monthswap/twin-finished");
}

/* ---------- the swap ---------- */

/* The index of a partition that belongs to one of its parent; invalid: there is none. */
static Oid
index_of_partition(Oid leaf, Oid parent_index)
{
	Relation rel = table_open(leaf, AccessShareLock);
	Oid index = index_get_partition(rel, parent_index);

	table_close(rel, NoLock);
	return index;
}

/* Names of the partition's indexes, one for each of the parent's; or NULL. */
static List *
index_names(Oid leaf, List *parent_indexes)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, parent_indexes)
	{
		Oid index = OidIsValid(leaf) ? index_of_partition(leaf, lfirst_oid(cell)) : InvalidOid;

		names = lappend(names, OidIsValid(index) ? get_rel_name(index) : NULL);
	}
	return names;
}

/* As PostgreSQL would name it: what follows the table's name in that of the index stays. */
static char *
usual_name(const char *index, const char *twin, const char *name)
{
	size_t length = strlen(twin);

	if (strncmp(index, twin, length) != 0 || strlen(index) - length + strlen(name) >= NAMEDATALEN)
		return NULL;
	return psprintf("%s%s", name, index + length);
}

static void
rename_indexes(const OmMonthMove *move, List *parent_indexes, List *names, const char *twin)
{
	Oid schema = get_rel_namespace(move->parent);
	ListCell *index_cell;
	ListCell *name_cell;

	forboth(index_cell, parent_indexes, name_cell, names)
	{
		Oid index = index_of_partition(move->fresh, lfirst_oid(index_cell));
		char *name = lfirst(name_cell);

		if (!OidIsValid(index))
			continue;
		if (name == NULL)
			name = usual_name(get_rel_name(index), twin, move->name);
		if (name != NULL && !OidIsValid(get_relname_relid(name, schema)))
			om_query_utility(psprintf("ALTER INDEX %s RENAME TO %s", qualified_name(index),
									  quote_identifier(name)));
	}
}

static void
attach_fresh(const OmMonthMove *move)
{
	om_query_utility(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)",
							  qualified_name(move->parent), qualified_name(move->fresh),
							  quote_literal_cstr(move->bounds.from),
							  quote_literal_cstr(move->bounds.to)));
	om_query_utility(psprintf("ALTER TABLE %s DROP CONSTRAINT %s", qualified_name(move->fresh),
							  BOUNDS_CONSTRAINT));
	om_query_utility(psprintf("ALTER TABLE %s RENAME TO %s", qualified_name(move->fresh),
							  quote_identifier(move->name)));
}

static void
swap_one(const OmMonthMove *move)
{
	List *indexes = indexes_of(move->parent);
	List *names = index_names(move->old, indexes);
	char *twin = OidIsValid(move->fresh) ? get_rel_name(move->fresh) : NULL;
	OmQueryScope scope;
	int level;

	om_query_begin_as_owner(&scope, move->parent);
	level = om_textform_begin();
	if (OidIsValid(move->old))
		om_query_utility(psprintf("DROP TABLE %s", qualified_name(move->old)));
	if (OidIsValid(move->kept))
		om_query_utility(psprintf("DROP TABLE %s", qualified_name(move->kept)));
	OM_FAULT_POINT("monthswap/dropped");
	if (OidIsValid(move->fresh))
	{
		attach_fresh(move);
		OM_FAULT_POINT("monthswap/attached");
		rename_indexes(move, indexes, names, twin);
	}
	om_textform_end(level);
	om_query_end(&scope);
	CommandCounterIncrement();
}

/* Somebody may have dropped it before it was locked. */
static void
require_there(const OmMonthMove *move)
{
	if (!OidIsValid(move->old) ||
		(get_rel_relispartition(move->old) &&
		 get_partition_parent(move->old, false /* even_if_detached */) == move->parent))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("table \"%s\" has lost a partition meanwhile", get_rel_name(move->parent)),
			 om_errdetail("table", get_rel_name(move->parent)),
			 errhint("SELECT * FROM order_mgmt.partitions shows those that are there.")));
}

static void
swap_all(List *moves)
{
	int level = NewGUCNestLevel();
	ListCell *cell;

	/* Attaching locks tables to which foreign keys lead. */
	om_lockwait_limit(OM_LOCKWAIT_MS);
	foreach(cell, moves)
		require_there(lfirst(cell));
	foreach(cell, moves)
		swap_one(lfirst(cell));
	AtEOXact_GUC(true, level);
}

void
om_month_swap(List *moves)
{
	OM_FAULT_POINT("monthswap/before-locks");
	if (!lock_for_swap(moves))
		raise_busy(((OmMonthMove *) linitial(moves))->parent);
	OM_FAULT_POINT("monthswap/locked");
	swap_all(moves);
	OM_FAULT_POINT("monthswap/swapped");
}
