/*
 * relations.c
 *		Names to OIDs.
 *
 * Everything is looked up in PostgreSQL's own caches (syscache, relcache), so
 * there is nothing of ours to invalidate.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "errors.h"
#include "jsonout.h"
#include "names.h"
#include "relations.h"

Oid
om_relation_find(const char *name)
{
	Oid schema = get_namespace_oid(OM_SCHEMA, true /* missing_ok */);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
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

static int
find_bound(PartitionKey key, PartitionDesc desc, TimestampTz at)
{
	Datum value = TimestampTzGetDatum(at);
	bool is_equal = false;

	return partition_range_datum_bsearch(key->partsupfunc, key->partcollation, desc->boundinfo, 1,
										 &value, &is_equal);
}

Oid
om_month_leaf(Oid parent, TimestampTz at)
{
	Relation rel = table_open(parent, AccessShareLock);
	PartitionKey key = RelationGetPartitionKey(rel);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);
	Oid leaf = InvalidOid;

	if (desc->nparts > 0)
	{
		int index = desc->boundinfo->indexes[find_bound(key, desc, at) + 1];

		if (index >= 0)
			leaf = desc->oids[index];
	}
	table_close(rel, NoLock);
	return leaf;
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
