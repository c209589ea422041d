/*
 * compat.h
 *		What differs between PostgreSQL 15, 16, 17 and 18, in one place.
 *
 * No other file looks at PG_VERSION_NUM.
 */
#ifndef OM_COMPAT_H
#define OM_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_tablespace.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/datetime.h"
#include "utils/formatting.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "parser/parse_relation.h"
#endif
#if PG_VERSION_NUM < 170000
#include "storage/sinvaladt.h"
#endif

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "order_mgmt supports PostgreSQL 15 to 18"
#endif

/* PostgreSQL 18 spells it otherwise in its own headers. */
#define OM_NORETURN __attribute__((noreturn))

/* A range table of the one relation that a table is opened for. */
static inline void
om_init_range_table(EState *estate, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	List *perminfos = NIL;

	addRTEPermissionInfo(&perminfos, rte);
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, list_make1(rte), perminfos, bms_make_singleton(1));
#else
	ExecInitRangeTable(estate, list_make1(rte), perminfos);
#endif
#else
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

/* The number by which other backends find this process's latch. */
static inline int
om_my_proc_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* Tells the transactions of one session apart. */
static inline LocalTransactionId
om_local_transaction(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* Which indexes need an entry for the new version of a row. */
typedef enum OmVersionEntries
{
	OM_ENTRIES_NONE,
	OM_ENTRIES_SUMMARIES, /* those that keep no positions, since 16 */
	OM_ENTRIES_ALL
} OmVersionEntries;

static inline OmVersionEntries
om_tuple_update(Relation rel, ItemPointer old, TupleTableSlot *slot, Snapshot snapshot)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes entries;

	simple_table_tuple_update(rel, old, slot, snapshot, &entries);
	return entries == TU_None        ? OM_ENTRIES_NONE
		 : entries == TU_Summarizing ? OM_ENTRIES_SUMMARIES
									 : OM_ENTRIES_ALL;
#else
	bool entries;

	simple_table_tuple_update(rel, old, slot, snapshot, &entries);
	return entries ? OM_ENTRIES_ALL : OM_ENTRIES_NONE;
#endif
}

/* Enters a row that has just been written, or a new version of one, into the indexes of its table. */
static inline void
om_insert_index_entries(ResultRelInfo *info, TupleTableSlot *slot, EState *estate, bool is_version,
						bool only_summaries pg_attribute_unused())
{
	List *rechecks;

	if (info->ri_NumIndices == 0)
		return;
#if PG_VERSION_NUM >= 160000
	rechecks =
		ExecInsertIndexTuples(info, slot, estate, is_version, false, NULL, NIL, only_summaries);
#else
	rechecks = ExecInsertIndexTuples(info, slot, estate, is_version, false, NULL, NIL);
#endif
	list_free(rechecks);
}

/* Some kinds of index keep things from one insertion to the next, since 17. */
static inline void
om_index_insert_done(ResultRelInfo *info pg_attribute_unused(), int index pg_attribute_unused())
{
#if PG_VERSION_NUM >= 170000
	index_insert_cleanup(info->ri_IndexRelationDescs[index], info->ri_IndexRelationInfo[index]);
#endif
}

/* A live process by its number, from 0 to MaxBackends - 1; NULL where there is none. */
static inline PGPROC *
om_live_process(int number)
{
#if PG_VERSION_NUM >= 170000
	return ProcNumberGetProc(number);
#else
	return BackendIdGetProc(number + 1);
#endif
}

/* A client's session, or autovacuum. */
static inline bool
om_is_no_background_worker(const PGPROC *proc)
{
#if PG_VERSION_NUM >= 180000
	return proc->isRegularBackend;
#else
	return !proc->isBackgroundWorker;
#endif
}

/* The index of the primary key; ours are never deferrable. */
static inline Oid
om_primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(rel, false);
#else
	return RelationGetPrimaryKeyIndex(rel);
#endif
}

/* What ParseDateTime() has taken apart; 0: it is a time. */
static inline int
om_decode_date_time(char **fields, int *types, int count, int *kind, struct pg_tm *tm, fsec_t *fsec,
					int *tz)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(fields, types, count, kind, tm, fsec, tz, &extra);
#else
	return DecodeDateTime(fields, types, count, kind, tm, fsec, tz);
#endif
}

/* Memory that a check hook leaves for its assign hook; NULL: there is none. */
static inline void *
om_setting_extra(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

/* A text by a format of to_timestamp(); false when it does not fit. */
static inline bool
om_parse_datetime(text *value, text *format, Datum *result, Oid *type)
{
	int32 typmod = -1;
	int tz = 0;
#if PG_VERSION_NUM >= 160000
	ErrorSaveContext failure = {.type = T_ErrorSaveContext};

	*result = parse_datetime(value, format, DEFAULT_COLLATION_OID, true /* strict */, type, &typmod,
							 &tz, (Node *) &failure);
	return !failure.error_occurred;
#else
	bool failed = false;

	*result = parse_datetime(value, format, DEFAULT_COLLATION_OID, true /* strict */, type, &typmod,
							 &tz, &failed);
	return !failed;
#endif
}

static inline bool
om_owns_database(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, GetUserId());
#else
	return pg_database_ownercheck(database, GetUserId());
#endif
}

static inline bool
om_may_connect(Oid database)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, database, GetUserId(), ACL_CONNECT) == ACLCHECK_OK;
#else
	return pg_database_aclcheck(database, GetUserId(), ACL_CONNECT) == ACLCHECK_OK;
#endif
}

static inline bool
om_owns_relation(Oid relation)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relation, GetUserId());
#else
	return pg_class_ownercheck(relation, GetUserId());
#endif
}

static inline bool
om_may_create_in_tablespace(Oid tablespace, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(TableSpaceRelationId, tablespace, role, ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_tablespace_aclcheck(tablespace, role, ACL_CREATE) == ACLCHECK_OK;
#endif
}

/* What the current user may do with a function, and with a relation. */
static inline bool
om_may_execute(Oid function)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static inline bool
om_may_select(Oid relation)
{
	return pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/* Index scans take a place for instrumentation since 18. */
#if PG_VERSION_NUM >= 180000
#define om_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define om_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

#endif /* OM_COMPAT_H */
