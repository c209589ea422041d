/*
 * tables.c
 *		Direct access to the rows of a table.
 *
 * The caller owns the snapshot and the transaction.  Rows are handed out as
 * copies in the caller's memory context, so nothing stays pinned between
 * calls.  No permission is checked here: the SQL functions above are granted
 * to roles, the tables are not.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "shared.h"
#include "tables.h"

/* Rows that wait to be written together. */
#define MAX_WAITING 256

OmTable *
om_table_open(Oid relid, LOCKMODE lockmode)
{
	OmTable *table = om_opened_take(relid, lockmode);

	table->nblocks = 0; /* it may have grown, or been cut off, since the session had it open */
	return table;
}

void
om_table_close(OmTable *table)
{
	if (table->nwaiting > 0)
		om_table_flush(table);
	om_opened_release(table);
}

/* A scan for "column = value" on the leading columns of the primary key. */
static IndexScanDesc
begin_key_scan(OmTable *table, const Datum *key, int nkeys, Snapshot snapshot)
{
	ScanKeyData scan_keys[INDEX_MAX_KEYS];
	IndexScanDesc scan;

	memcpy(scan_keys, table->scan_keys, sizeof(ScanKeyData) * nkeys);
	for (int i = 0; i < nkeys; i++)
		scan_keys[i].sk_argument = key[i];
	scan = om_index_beginscan(table->rel, table->key, snapshot, nkeys);
	index_rescan(scan, scan_keys, nkeys, NULL, 0);
	return scan;
}

void
om_table_scan(OmTable *table, const Datum *key, int nkeys, Snapshot snapshot, OmRowVisitor visit,
			  void *arg)
{
	IndexScanDesc scan = begin_key_scan(table, key, nkeys, snapshot);

	while (index_getnext_slot(scan, ForwardScanDirection, table->found))
	{
		HeapTuple row = ExecCopySlotHeapTuple(table->found);

		visit(table, row, arg);
		heap_freetuple(row);
	}
	index_endscan(scan);
	ExecClearTuple(table->found);
}

/* The first row of a scan, which ends with it. */
static HeapTuple
fetch_first(OmTable *table, IndexScanDesc scan, ScanDirection direction)
{
	HeapTuple row = NULL;

	if (index_getnext_slot(scan, direction, table->found))
		row = ExecCopySlotHeapTuple(table->found);
	index_endscan(scan);
	ExecClearTuple(table->found);
	return row;
}

HeapTuple
om_table_find(OmTable *table, const Datum *key, Snapshot snapshot)
{
	return fetch_first(table, begin_key_scan(table, key, table->nkeys, snapshot),
					   ForwardScanDirection);
}

HeapTuple
om_table_last(OmTable *table, const Datum *key, int nkeys, Snapshot snapshot)
{
	return fetch_first(table, begin_key_scan(table, key, nkeys, snapshot), BackwardScanDirection);
}

HeapTuple
om_table_last_from(OmTable *table, Datum least, Snapshot snapshot)
{
	IndexScanDesc scan = om_index_beginscan(table->rel, table->key, snapshot, 1);
	ScanKeyData from;

	om_opened_init_scan_key(table, 0, BTGreaterEqualStrategyNumber, least, &from);
	index_rescan(scan, &from, 1, NULL, 0);
	return fetch_first(table, scan, BackwardScanDirection);
}

/* VACUUM may have cut the table off before this, but does not while we have it open. */
static bool
is_inside(OmTable *table, BlockNumber block)
{
	if (table->nblocks == 0)
		table->nblocks = RelationGetNumberOfBlocks(table->rel);
	return block < table->nblocks;
}

/* An index scan does this on its way to a row. */
static void
prune_page(OmTable *table, BlockNumber block)
{
	Buffer buffer = ReadBuffer(table->rel, block);

	heap_page_prune_opt(table->rel, buffer);
	ReleaseBuffer(buffer);
}

HeapTuple
om_table_fetch(OmTable *table, ItemPointer position, Datum key, Snapshot snapshot)
{
	AttrNumber column = table->key->rd_index->indkey.values[0];
	HeapTuple row = NULL;

	if (!is_inside(table, ItemPointerGetBlockNumber(position)))
		return NULL;
	prune_page(table, ItemPointerGetBlockNumber(position));
	if (table_tuple_fetch_row_version(table->rel, position, snapshot, table->found))
	{
		FmgrInfo *compare = index_getprocinfo(table->key, 1, BTORDER_PROC);
		bool isnull;
		Datum value = slot_getattr(table->found, column, &isnull);

		if (DatumGetInt32(FunctionCall2Coll(compare, table->key->rd_indcollation[0], value, key)) ==
			0)
			row = ExecCopySlotHeapTuple(table->found);
	}
	ExecClearTuple(table->found);
	return row;
}

/* ---------- walks ---------- */

/* So many rows that nobody asked for are passed by before a new probe is cheaper. */
#define WALK_AT_MOST 32

struct OmTableWalk
{
	OmTable *table;
	IndexScanDesc scan;
	FmgrInfo compare[2]; /* of the two columns */
	AttrNumber columns[2];
	bool has_row;    /* in table->found */
	bool handed_out; /* that row */
};

OmTableWalk *
om_table_walk_begin(OmTable *table, Snapshot snapshot)
{
	OmTableWalk *walk = palloc0(sizeof(OmTableWalk));

	walk->table = table;
	walk->scan = om_index_beginscan(table->rel, table->key, snapshot, 1);
	for (int i = 0; i < 2; i++)
	{
		fmgr_info_copy(&walk->compare[i], index_getprocinfo(table->key, i + 1, BTORDER_PROC),
					   CurrentMemoryContext);
		walk->columns[i] = table->key->rd_index->indkey.values[i];
	}
	return walk;
}

static void
walk_on(OmTableWalk *walk)
{
	walk->has_row = index_getnext_slot(walk->scan, ForwardScanDirection, walk->table->found);
	walk->handed_out = false;
}

static void
walk_to(OmTableWalk *walk, const Datum *key)
{
	ScanKeyData first;

	om_opened_init_scan_key(walk->table, 0, BTGreaterEqualStrategyNumber, key[0], &first);
	index_rescan(walk->scan, &first, 1, NULL, 0);
	walk_on(walk);
}

/* A column of the row at hand beside that of a key. */
static int
compare_column(OmTableWalk *walk, int i, const Datum *key)
{
	bool isnull;
	Datum value = slot_getattr(walk->table->found, walk->columns[i], &isnull);

	return DatumGetInt32(
		FunctionCall2Coll(&walk->compare[i], walk->table->key->rd_indcollation[i], value, key[i]));
}

TupleTableSlot *
om_table_walk_next(OmTableWalk *walk, const Datum *key)
{
	int passed_by = 0;

	if (!walk->has_row)
		walk_to(walk, key);
	else if (walk->handed_out)
		walk_on(walk);
	while (walk->has_row)
	{
		int order = compare_column(walk, 0, key);

		if (order < 0 && ++passed_by == WALK_AT_MOST)
		{
			walk_to(walk, key);
			continue;
		}
		if (order == 0)
			order = compare_column(walk, 1, key);
		if (order > 0)
			return NULL;
		if (order == 0)
		{
			walk->handed_out = true;
			return walk->table->found;
		}
		walk_on(walk);
	}
	return NULL;
}

void
om_table_walk_end(OmTableWalk *walk)
{
	index_endscan(walk->scan);
	ExecClearTuple(walk->table->found);
	pfree(walk);
}

/* ---------- locks ---------- */

/*
 * A caller in REPEATABLE READ decides on what its snapshot shows; a row that
 * has changed since is its problem to retry, as with any UPDATE.
 */
static void
refuse_changed_row(OmTable *table)
{
	if (IsolationUsesXactSnapshot() &&
		!table_tuple_satisfies_snapshot(table->rel, table->found, GetTransactionSnapshot()))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent update"),
						errhint("Run the transaction again.")));
}

Snapshot
om_current_snapshot(void)
{
	CommandCounterIncrement();
	return IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot();
}

/* Position of the row that a new snapshot shows; false when there is none. */
static bool
find_position(OmTable *table, const Datum *key, ItemPointer position)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = begin_key_scan(table, key, table->nkeys, snapshot);
	bool found = index_getnext_slot(scan, ForwardScanDirection, table->found);

	if (found)
		*position = table->found->tts_tid;
	index_endscan(scan);
	ExecClearTuple(table->found);
	UnregisterSnapshot(snapshot);
	return found;
}

/* True when the lock may be free now: a worker held it, and workers do not hold locks for long. */
static bool
wait_for_worker(OmTable *table, TransactionId holder, ItemPointer position)
{
	if (!om_shared_is_worker(holder))
		return false;
	XactLockTableWait(holder, table->rel, position, XLTW_Lock);
	return true;
}

static HeapTuple
lock_row(OmTable *table, const Datum *key, LockWaitPolicy policy, bool *busy)
{
	ItemPointerData position;

	/* Two calls in one statement may change the same row one after the other. */
	CommandCounterIncrement();
	while (find_position(table, key, &position))
	{
		TM_FailureData failure;
		TM_Result result;
		HeapTuple row;

		CHECK_FOR_INTERRUPTS();
		/* Keys never change, so the last version of the row has the same. */
		result = table_tuple_lock(table->rel, &position, GetActiveSnapshot(), table->found,
								  GetCurrentCommandId(false), LockTupleNoKeyExclusive, policy,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
		if (result == TM_Deleted)
			continue; /* there may be a new row with the key */
		if (result == TM_WouldBlock)
		{
			if (wait_for_worker(table, failure.xmax, &position))
				continue;
			*busy = true;
			return NULL;
		}
		if (result != TM_Ok)
			elog(ERROR, "unexpected result %d of a row lock in \"%s\"", result,
				 RelationGetRelationName(table->rel));
		refuse_changed_row(table);
		row = ExecCopySlotHeapTuple(table->found);
		ExecClearTuple(table->found);
		return row;
	}
	return NULL;
}

OmRowLock
om_table_lock_version(OmTable *table, ItemPointer position, HeapTuple *newest)
{
	TM_FailureData failure;
	TM_Result result;
	OmRowLock lock = OM_ROW_LOCKED;

	do
	{
		ItemPointerData start = *position;

		CHECK_FOR_INTERRUPTS();
		result = table_tuple_lock(table->rel, &start, GetActiveSnapshot(), table->found,
								  GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitSkip,
								  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	} while (result == TM_WouldBlock && wait_for_worker(table, failure.xmax, position));
	if (result == TM_WouldBlock)
		return OM_ROW_BUSY;
	if (result == TM_Deleted)
		return OM_ROW_GONE;
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of a row lock in \"%s\"", result,
			 RelationGetRelationName(table->rel));
	if (!ItemPointerEquals(position, &table->found->tts_tid))
	{
		*newest = ExecCopySlotHeapTuple(table->found);
		lock = OM_ROW_CHANGED;
	}
	ExecClearTuple(table->found);
	return lock;
}

HeapTuple
om_table_lock(OmTable *table, const Datum *key)
{
	return lock_row(table, key, LockWaitBlock, NULL);
}

HeapTuple
om_table_lock_if_free(OmTable *table, const Datum *key, bool *busy)
{
	*busy = false;
	return lock_row(table, key, LockWaitSkip, busy);
}

/*
 * Constraints are checked with the rights of the owner of the table, who may
 * call the functions in them; the caller need not.
 */
typedef struct OwnerScope
{
	Oid user;
	int security_context;
} OwnerScope;

static OwnerScope
act_as_owner(const OmTable *table)
{
	OwnerScope scope;

	GetUserIdAndSecContext(&scope.user, &scope.security_context);
	SetUserIdAndSecContext(table->rel->rd_rel->relowner, scope.security_context |
															 SECURITY_LOCAL_USERID_CHANGE |
															 SECURITY_RESTRICTED_OPERATION);
	return scope;
}

static void
act_as_caller(const OwnerScope *scope)
{
	SetUserIdAndSecContext(scope->user, scope->security_context);
}

/* Puts the values into the slot "fresh". */
static void
fill_fresh(OmTable *table, const Datum *values, const bool *isnull, int ncolumns)
{
	int natts = table->desc->natts;
	TupleTableSlot *fresh = table->fresh;

	ExecClearTuple(fresh);
	if (natts < ncolumns)
		elog(ERROR, "table \"%s\" has lost columns", RelationGetRelationName(table->rel));
	memcpy(fresh->tts_values, values, sizeof(Datum) * ncolumns);
	memcpy(fresh->tts_isnull, isnull, sizeof(bool) * ncolumns);
	memset(fresh->tts_isnull + ncolumns, true, sizeof(bool) * (natts - ncolumns));
	ExecStoreVirtualTuple(fresh);
}

void
om_table_insert(OmTable *table, const Datum *values, const bool *isnull, int ncolumns)
{
	OwnerScope scope = act_as_owner(table);

	fill_fresh(table, values, isnull, ncolumns);
	ExecSimpleRelationInsert(table->info, table->estate, table->fresh);
	act_as_caller(&scope);
	ResetPerTupleExprContext(table->estate);
}

/* What the executor does with a row before it writes it. */
static void
check_fresh(OmTable *table)
{
	TupleConstr *constr = table->desc->constr;

	if (constr != NULL && constr->has_generated_stored)
		ExecComputeStoredGenerated(table->info, table->estate, table->fresh, CMD_INSERT);
	if (constr != NULL)
		ExecConstraints(table->info, table->fresh, table->estate);
	if (table->rel->rd_rel->relispartition)
		ExecPartitionCheck(table->info, table->fresh, table->estate, true /* emitError */);
}

/* Room for one more row that waits. */
static TupleTableSlot *
next_waiting(OmTable *table)
{
	MemoryContext caller = MemoryContextSwitchTo(table->context);

	if (table->waiting == NULL)
	{
		table->waiting = palloc0(sizeof(TupleTableSlot *) * MAX_WAITING);
		table->waiting_context = AllocSetContextCreate(table->context, "order_mgmt waiting rows",
													   ALLOCSET_DEFAULT_SIZES);
	}
	if (table->waiting[table->nwaiting] == NULL)
		table->waiting[table->nwaiting] = MakeSingleTupleTableSlot(table->desc, &TTSOpsHeapTuple);
	MemoryContextSwitchTo(caller);
	return table->waiting[table->nwaiting];
}

void
om_table_insert_later(OmTable *table, const Datum *values, const bool *isnull, int ncolumns)
{
	OwnerScope scope = act_as_owner(table);
	TupleTableSlot *slot = next_waiting(table);
	MemoryContext caller;

	fill_fresh(table, values, isnull, ncolumns);
	check_fresh(table);
	caller = MemoryContextSwitchTo(table->waiting_context);
	ExecStoreHeapTuple(
		heap_form_tuple(table->desc, table->fresh->tts_values, table->fresh->tts_isnull), slot,
		false /* shouldFree */);
	MemoryContextSwitchTo(caller);
	table->nwaiting++;
	act_as_caller(&scope);
	ResetPerTupleExprContext(table->estate);
	if (table->nwaiting == MAX_WAITING)
		om_table_flush(table);
}

void
om_table_flush(OmTable *table)
{
	OwnerScope scope;
	MemoryContext caller;
	int count = table->nwaiting;

	if (count == 0)
		return;
	scope = act_as_owner(table);
	caller = MemoryContextSwitchTo(table->waiting_context);
	if (count == 1)
		simple_table_tuple_insert(table->rel, table->waiting[0]);
	else
		table_multi_insert(table->rel, table->waiting, count, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < count; i++)
	{
		om_insert_index_entries(table->info, table->waiting[i], table->estate,
								false /* is_version */, false /* only_summaries */);
		ExecClearTuple(table->waiting[i]);
		ResetPerTupleExprContext(table->estate);
	}
	table->nwaiting = 0;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(table->waiting_context);
	act_as_caller(&scope);
}

bool
om_table_has_key(OmTable *table, const Datum *key, TransactionId *writer)
{
	SnapshotData dirty;
	IndexScanDesc scan;
	bool found;

	InitDirtySnapshot(dirty);
	scan = begin_key_scan(table, key, table->nkeys, &dirty);
	found = index_getnext_slot(scan, ForwardScanDirection, table->found);
	/* The snapshot says it of the row that it has shown last. */
	*writer = InvalidTransactionId;
	if (found)
		*writer = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
	index_endscan(scan);
	ExecClearTuple(table->found);
	return found;
}

/*
 * A new version has the key of the old one, which was unique and is ours: no
 * other row can have it.  So the index is not asked, which would visit each
 * older version that somebody's snapshot still needs.
 */
static void
enter_same_key(OmTable *table)
{
	IndexInfo *index = table->info->ri_IndexRelationInfo[table->key_position];
	Datum values[INDEX_MAX_KEYS];
	bool isnull[INDEX_MAX_KEYS];

	FormIndexDatum(index, table->fresh, table->estate, values, isnull);
	index_insert(table->key, values, isnull, &table->fresh->tts_tid, table->rel, UNIQUE_CHECK_NO,
				 true /* indexUnchanged */, index);
}

/* The executor does it for all indexes but that of the key. */
static void
enter_version(OmTable *table, OmVersionEntries entries)
{
	Relation *key = &table->info->ri_IndexRelationDescs[table->key_position];

	if (entries == OM_ENTRIES_ALL)
		enter_same_key(table);
	*key = NULL;
	om_insert_index_entries(table->info, table->fresh, table->estate, true /* is_version */,
							entries == OM_ENTRIES_SUMMARIES);
	*key = table->key;
}

void
om_table_update(OmTable *table, HeapTuple old, const Datum *values, const bool *isnull,
				const bool *replace, int ncolumns)
{
	TupleDesc desc = RelationGetDescr(table->rel);
	OwnerScope scope = act_as_owner(table);
	OmVersionEntries entries;

	heap_deform_tuple(old, desc, table->fresh->tts_values, table->fresh->tts_isnull);
	for (int i = 0; i < Min(desc->natts, ncolumns); i++)
	{
		if (!replace[i])
			continue;
		table->fresh->tts_values[i] = values[i];
		table->fresh->tts_isnull[i] = isnull[i];
	}
	ExecStoreVirtualTuple(table->fresh);

	CheckCmdReplicaIdentity(table->rel, CMD_UPDATE);
	check_fresh(table);
	entries = om_tuple_update(table->rel, &old->t_self, table->fresh, GetActiveSnapshot());
	if (entries != OM_ENTRIES_NONE)
		enter_version(table, entries);
	act_as_caller(&scope);
	table->written_at = table->fresh->tts_tid;
	ExecClearTuple(table->fresh);
	ResetPerTupleExprContext(table->estate);
}

Datum
om_row_get(OmTable *table, HeapTuple row, int attnum, bool *isnull)
{
	return heap_getattr(row, attnum, RelationGetDescr(table->rel), isnull);
}

Datum
om_row_get_not_null(OmTable *table, HeapTuple row, int attnum)
{
	bool isnull;
	Datum value = heap_getattr(row, attnum, RelationGetDescr(table->rel), &isnull);

	if (isnull)
		elog(ERROR, "column %d of table \"%s\" is null", attnum,
			 RelationGetRelationName(table->rel));
	return value;
}

char *
om_row_get_text(OmTable *table, HeapTuple row, int attnum)
{
	bool isnull;
	Datum value = om_row_get(table, row, attnum, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}
