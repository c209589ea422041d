/*
 * relations.c
 *		Names to OIDs.
 *
 * What was looked up is remembered until PostgreSQL says that a relation, its
 * name or its partitions have changed.  Such messages are read whenever a lock
 * is taken: a remembered leaf is believed only once its parent is locked, and
 * an OID that is out of date does no more harm than one that was looked up a
 * moment before the table was dropped.
 *
 * PostgreSQL has room for ten callbacks of this kind among all libraries, so
 * other modules are told from here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "errors.h"
#include "jsonout.h"
#include "names.h"
#include "relations.h"

#define MAX_WATCHERS 8
#define MAX_NAMES 64
#define MAX_LEAVES 16

typedef struct KnownName
{
	NameData name;
	Oid relid;
} KnownName;

typedef struct KnownLeaf
{
	Oid parent;
	Oid leaf;
	TimestampTz begin;
	TimestampTz end;
} KnownLeaf;

static OmRelationWatcher watchers[MAX_WATCHERS];
static int nwatchers = 0;
static KnownName names[MAX_NAMES];
static int nnames = 0;
static KnownLeaf leaves[MAX_LEAVES];
static int nleaves = 0;
static uint64 nchanges = 1;

static void
forget_names(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(),
			 uint32 hash pg_attribute_unused())
{
	nnames = 0;
}

static bool
concerns_a_leaf(Oid relid)
{
	for (int i = 0; i < nleaves; i++)
	{
		if (leaves[i].parent == relid || leaves[i].leaf == relid)
			return true;
	}
	return relid == InvalidOid;
}

static void
relation_changed(Datum arg pg_attribute_unused(), Oid relid)
{
	nchanges++;
	if (concerns_a_leaf(relid))
		nleaves = 0;
	for (int i = 0; i < nwatchers; i++)
		watchers[i](relid);
}

void
om_relations_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(RELNAMENSP, forget_names, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACENAME, forget_names, (Datum) 0);
}

void
om_relations_watch(OmRelationWatcher watcher)
{
	Assert(nwatchers < MAX_WATCHERS);
	watchers[nwatchers++] = watcher;
}

uint64
om_relations_changes(void)
{
	AcceptInvalidationMessages();
	return nchanges;
}

static Oid
look_up_name(const char *name)
{
	Oid schema = get_namespace_oid(OM_SCHEMA, true /* missing_ok */);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

Oid
om_relation_find(const char *name)
{
	Oid relid;

	for (int i = 0; i < nnames; i++)
	{
		if (strcmp(NameStr(names[i].name), name) == 0)
			return names[i].relid;
	}
	/* A change that arrives during the look-up empties the list before we add to it. */
	relid = look_up_name(name);
	if (OidIsValid(relid) && nnames < MAX_NAMES)
	{
		strlcpy(NameStr(names[nnames].name), name, NAMEDATALEN);
		names[nnames++].relid = relid;
	}
	return relid;
}

Oid
om_relation_get(const char *name)
{
	Oid relid = om_relation_find(name);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_READY),
				 errmsg("table \"%s.%s\" is missing", OM_SCHEMA, name), om_errdetail("table", name),
				 errhint("Run SELECT order_mgmt.setup(); it makes what is missing.")));
	return relid;
}

Oid
om_owner_role(void)
{
	return get_role_oid(OM_OWNER_ROLE, false /* missing_ok */);
}

Oid
om_relation_owner(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static int
find_bound(PartitionKey key, PartitionDesc desc, TimestampTz at)
{
	Datum value = TimestampTzGetDatum(at);
	bool is_equal = false;

	return partition_range_datum_bsearch(key->partsupfunc, key->partcollation, desc->boundinfo, 1,
										 &value, &is_equal);
}

static Oid
known_leaf(Oid parent, TimestampTz at)
{
	for (int i = 0; i < nleaves; i++)
	{
		const KnownLeaf *known = &leaves[i];

		if (known->parent == parent && at >= known->begin && at < known->end)
			return known->leaf;
	}
	return InvalidOid;
}

/* The partition lies between bounds number "bound" and the next. */
static void
remember_leaf(Oid parent, const PartitionDesc desc, int bound, Oid leaf)
{
	const PartitionBoundInfo bounds = desc->boundinfo;
	KnownLeaf known = {.parent = parent, .leaf = leaf};

	if (desc->detached_exist || bound < 0 || bound + 1 >= bounds->ndatums ||
		bounds->kind[bound][0] != PARTITION_RANGE_DATUM_VALUE ||
		bounds->kind[bound + 1][0] != PARTITION_RANGE_DATUM_VALUE)
		return;
	known.begin = DatumGetTimestampTz(bounds->datums[bound][0]);
	known.end = DatumGetTimestampTz(bounds->datums[bound + 1][0]);
	if (nleaves == MAX_LEAVES)
		nleaves = 0;
	leaves[nleaves++] = known;
}

static Oid
look_up_leaf(Oid parent, TimestampTz at)
{
	Relation rel = table_open(parent, NoLock);
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);
	Oid leaf = InvalidOid;

	if (desc->nparts > 0)
	{
		int bound = find_bound(key, desc, at);
		int index = desc->boundinfo->indexes[bound + 1];

		if (index >= 0)
		{
			leaf = desc->oids[index];
			remember_leaf(parent, desc, bound, leaf);
		}
	}
	table_close(rel, NoLock);
	return leaf;
}

Oid
om_month_leaf(Oid parent, TimestampTz at)
{
	Oid leaf;

	LockRelationOid(parent, AccessShareLock);
	leaf = known_leaf(parent, at);
	return OidIsValid(leaf) ? leaf : look_up_leaf(parent, at);
}

List *
om_month_leaves(Oid parent)
{
	Relation rel = table_open(parent, AccessShareLock);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);
	List *leaves = NIL;

	for (int i = 0; i < desc->nparts; i++)
		leaves = lappend_oid(leaves, desc->oids[i]);
	table_close(rel, NoLock);
	return leaves;
}

List *
om_month_leaves_between(Oid parent, TimestampTz first, TimestampTz last)
{
	Relation rel = table_open(parent, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);
	List *leaves = NIL;

	if (desc->nparts > 0)
	{
		int end = find_bound(key, desc, last) + 1;

		for (int i = find_bound(key, desc, first) + 1; i <= end; i++)
		{
			int index = desc->boundinfo->indexes[i];

			if (index >= 0)
				leaves = lappend_oid(leaves, desc->oids[index]);
		}
	}
	table_close(rel, NoLock);
	return leaves;
}
