/*
 * opened.c
 *		Keeps opened tables from call to call.
 *
 * What opening a table takes beyond its locks (slots, compiled constraints,
 * what is known of its indexes) is kept for the session's next call, until
 * PostgreSQL says that the table, one of its indexes or any function has
 * changed.  Relations themselves are opened and locked anew each time.  Whoever
 * fails leaves an opened table behind, marked as in use by a transaction, or
 * part of one, that is no more: it is thrown away, not used again.
 *
 * Code of others must never run on the paths that use these tables, so a table
 * with triggers, rules or row security is refused.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "compat.h"
#include "errors.h"
#include "jsonout.h"
#include "opened.h"
#include "relations.h"

static void
refuse_foreign_code(Relation rel)
{
	if (rel->trigdesc == NULL && rel->rd_rules == NULL && !rel->rd_rel->relrowsecurity)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("table \"%s\" has triggers, rules or row security of its own",
					RelationGetRelationName(rel)),
			 om_errdetail("table", RelationGetRelationName(rel)),
			 errhint("Remove them; use order_mgmt.events to follow what happens to orders.")));
}

static EState *
create_estate(Relation rel, LOCKMODE lockmode)
{
	EState *estate = CreateExecutorState();
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = lockmode;
	om_init_range_table(estate, rte);
	return estate;
}

/* Tables that a session keeps ready: those of a dozen years, of which one looks for orders. */
#define MAX_KEPT 512

typedef struct KeptTable
{
	Oid relid;
	bool writable;
	OmTable *table;
} KeptTable;

static KeptTable kept[MAX_KEPT];
static int nkept = 0;

/* Where a table was found last; it may have moved since, so it is a hint. */
static uint16 places[MAX_KEPT];

/* Counts messages, so that one which arrives while a table is being opened is not lost. */
static uint64 nchanges = 0;

static bool
has_index(const OmTable *table, Oid relid)
{
	if (table->key_oid == relid)
		return true;
	for (int i = 0; table->info != NULL && i < table->info->ri_NumIndices; i++)
	{
		if (table->index_oids[i] == relid)
			return true;
	}
	return false;
}

static void
relation_changed(Oid relid)
{
	nchanges++;
	for (int i = 0; i < nkept; i++)
	{
		if (!OidIsValid(relid) || kept[i].relid == relid || has_index(kept[i].table, relid))
			kept[i].table->outdated = true;
	}
}

/* A function may have been compiled into the constraints of any table. */
static void
function_changed(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(),
				 uint32 hash pg_attribute_unused())
{
	relation_changed(InvalidOid);
}

void
om_opened_init(void)
{
	om_relations_watch(relation_changed);
	CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
}

static bool
is_in_use(const OmTable *table)
{
	return table->in_use && table->user == om_local_transaction() &&
		   SubTransactionIsActive(table->user_part);
}

static void
take(OmTable *table)
{
	table->in_use = true;
	table->user = om_local_transaction();
	table->user_part = GetCurrentSubTransactionId();
}

/* Forgets number n, which is not in use. */
static void
drop_kept(int n)
{
	MemoryContext context = kept[n].table->context;

	kept[n] = kept[--nkept];
	MemoryContextDelete(context);
}

static bool
is_kept_at(int n, Oid relid, bool writable)
{
	return n < nkept && kept[n].relid == relid && kept[n].writable == writable;
}

static int
find_kept(Oid relid, bool writable)
{
	uint16 *place = &places[(relid * 2 + writable) % MAX_KEPT];

	if (is_kept_at(*place, relid, writable))
		return *place;
	for (int i = 0; i < nkept; i++)
	{
		if (is_kept_at(i, relid, writable))
		{
			*place = i;
			return i;
		}
	}
	return -1;
}

/* Keeps a table for later, unless the same is being kept for the caller's own caller. */
static bool
may_keep(Oid relid, bool writable)
{
	static int victim = 0;

	if (find_kept(relid, writable) >= 0)
		return false;
	for (int tries = 0; nkept == MAX_KEPT && tries < MAX_KEPT; tries++)
	{
		victim = (victim + 1) % MAX_KEPT;
		if (!is_in_use(kept[victim].table))
			drop_kept(victim);
	}
	return nkept < MAX_KEPT;
}

void
om_opened_init_scan_key(const OmTable *table, int column, StrategyNumber strategy, Datum value,
						ScanKey key)
{
	Oid family = table->key->rd_opfamily[column];
	Oid type = table->key->rd_opcintype[column];
	Oid operator= get_opfamily_member(family, type, type, strategy);

	ScanKeyEntryInitialize(key, 0, column + 1, strategy, type, table->key->rd_indcollation[column],
						   get_opcode(operator), value);
}

static ScanKeyData *
make_scan_keys(const OmTable *table)
{
	ScanKeyData *keys = palloc0(sizeof(ScanKeyData) * table->nkeys);

	for (int i = 0; i < table->nkeys; i++)
		om_opened_init_scan_key(table, i, BTEqualStrategyNumber, (Datum) 0, &keys[i]);
	return keys;
}

static void
prepare_writing(OmTable *table, LOCKMODE lockmode)
{
	table->estate = create_estate(table->rel, lockmode);
	table->info = makeNode(ResultRelInfo);
	InitResultRelInfo(table->info, table->rel, 1, NULL, 0);
	ExecOpenIndices(table->info, false /* speculative */);
	table->index_oids = palloc(sizeof(Oid) * Max(table->info->ri_NumIndices, 1));
	for (int i = 0; i < table->info->ri_NumIndices; i++)
	{
		table->index_oids[i] = RelationGetRelid(table->info->ri_IndexRelationDescs[i]);
		if (table->index_oids[i] == table->key_oid)
			table->key_position = i;
	}
	table->fresh = MakeSingleTupleTableSlot(table->desc, &TTSOpsVirtual);
}

/* The primary key is one of the indexes that a writer has open anyway. */
static void
open_key(OmTable *table)
{
	if (table->key_position >= 0)
		table->key = table->info->ri_IndexRelationDescs[table->key_position];
	else
		table->key = index_open(table->key_oid, AccessShareLock);
}

/* In a context of its own below the parent's. */
static OmTable *
open_anew(Relation rel, LOCKMODE lockmode, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "order_mgmt table", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmTable *table = palloc0(sizeof(OmTable));

	table->context = context;
	table->rel = rel;
	table->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	table->key_oid = om_primary_key(rel);
	table->key_position = -1;
	table->found = MakeSingleTupleTableSlot(table->desc, table_slot_callbacks(rel));
	if (lockmode != AccessShareLock)
		prepare_writing(table, lockmode);
	open_key(table);
	table->nkeys = IndexRelationGetNumberOfKeyAttributes(table->key);
	table->scan_keys = make_scan_keys(table);
	MemoryContextSwitchTo(caller);
	return table;
}

/* Opens what belongs to a kept table; its definition has been found unchanged. */
static void
open_again(OmTable *table, Relation rel)
{
	ResultRelInfo *info = table->info;

	table->rel = rel;
	if (info != NULL)
	{
		info->ri_RelationDesc = rel;
		for (int i = 0; i < info->ri_NumIndices; i++)
			info->ri_IndexRelationDescs[i] = index_open(table->index_oids[i], RowExclusiveLock);
	}
	open_key(table);
}

/* Locks are kept to the end of the transaction; to let them go one by one takes longer. */
static void
close_relations(OmTable *table)
{
	if (table->key_position < 0)
		index_close(table->key, NoLock);
	for (int i = 0; table->info != NULL && i < table->info->ri_NumIndices; i++)
	{
		om_index_insert_done(table->info, i);
		index_close(table->info->ri_IndexRelationDescs[i], NoLock);
	}
	table_close(table->rel, NoLock);
}

/* The table as it was kept; NULL when it has to be opened anew. */
static OmTable *
use_kept(Relation rel, bool writable)
{
	int n = find_kept(RelationGetRelid(rel), writable);
	OmTable *table = n < 0 ? NULL : kept[n].table;

	if (table == NULL || is_in_use(table))
		return NULL;
	if (table->outdated || table->in_use)
	{
		drop_kept(n);
		return NULL;
	}
	take(table);
	open_again(table, rel);
	return table;
}

OmTable *
om_opened_take(Oid relid, LOCKMODE lockmode)
{
	bool writable = lockmode != AccessShareLock;
	Relation rel = table_open(relid, lockmode);
	uint64 before = nchanges;
	OmTable *table;

	refuse_foreign_code(rel);
	table = use_kept(rel, writable);
	if (table != NULL && !table->outdated)
		return table;
	if (table != NULL)
	{
		/* It has changed while locks on its indexes were being taken. */
		om_opened_release(table);
		return om_opened_take(relid, lockmode);
	}
	if (!may_keep(relid, writable))
		return open_anew(rel, lockmode, CurrentMemoryContext);
	table = open_anew(rel, lockmode, CacheMemoryContext);
	table->kept = true;
	table->outdated = nchanges != before;
	take(table);
	kept[nkept++] = (KeptTable){relid, writable, table};
	return table;
}

void
om_opened_release(OmTable *table)
{
	close_relations(table);
	if (!table->kept)
	{
		MemoryContextDelete(table->context);
		return;
	}
	ExecClearTuple(table->found);
	if (table->info != NULL)
		ExecClearTuple(table->fresh);
	table->in_use = false;
}
