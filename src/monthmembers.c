/*
 * monthmembers.c
 *		What there is of a month: partitions and archives, in one table or several.
 *
 * The three tables of orders move together; a table that is partitioned by list
 * and month has a member for each partitioned partition.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "archivepaths.h"
#include "archives.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "monthmembers.h"
#include "monthswap.h"
#include "monthtraits.h"
#include "names.h"
#include "plans.h"
#include "relations.h"

bool
om_members_are_ours(Oid relation)
{
	for (int i = 0; i < OM_MONTHLY_COUNT; i++)
	{
		if (om_relation_find(om_monthly_names[i]) == relation)
			return true;
	}
	return !OidIsValid(relation);
}

/* The partition in which the middle of a month lies; texts of dates sort as dates do. */
static Oid
leaf_of_month(Oid parent, DateADT month)
{
	char *middle = psprintf("%s-15", om_archives_month_text(month));
	ListCell *cell;

	foreach(cell, om_month_leaves(parent))
	{
		OmMonthBounds bounds = om_month_bounds(lfirst_oid(cell));

		if (bounds.from != NULL && bounds.to != NULL && strcmp(bounds.from, middle) < 0 &&
			strcmp(bounds.to, middle) > 0)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

OmMonthMember *
om_member_find(Oid parent, DateADT month)
{
	OmMonthMember *member = palloc0(sizeof(OmMonthMember));

	member->parent = parent;
	member->schema_name = get_namespace_name(get_rel_namespace(parent));
	member->table_name = get_rel_name(parent);
	LockRelationOid(parent, AccessShareLock);
	member->leaf = leaf_of_month(parent, month);
	member->archive = om_archives_find(member->schema_name, member->table_name, month);
	return member;
}

static bool
is_by_time(Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1 &&
		   key->partattrs[0] != InvalidAttrNumber &&
		   (key->parttypid[0] == DATEOID || key->parttypid[0] == TIMESTAMPOID ||
			key->parttypid[0] == TIMESTAMPTZOID);
}

/* Tables below this one that are partitioned by time; it may be one itself. */
static void
add_parents(Oid relid, List **parents)
{
	Relation rel = table_open(relid, AccessShareLock);

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && is_by_time(rel))
		*parents = lappend_oid(*parents, relid);
	else if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);

		for (int i = 0; i < desc->nparts; i++)
			add_parents(desc->oids[i], parents);
	}
	table_close(rel, NoLock);
}

static List *
list_members(Oid relation, DateADT month)
{
	List *parents = NIL;
	List *members = NIL;
	ListCell *cell;

	if (om_members_are_ours(relation))
	{
		for (int i = 0; i < OM_MONTHLY_COUNT; i++)
			parents = lappend_oid(parents, om_relation_get(om_monthly_names[i]));
	}
	else
	{
		add_parents(relation, &parents);
		list_sort(parents, list_oid_cmp);
	}
	if (parents == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OM_INVALID),
				 errmsg("table \"%s\" is not partitioned by time", get_rel_name(relation)),
				 om_errdetail("path", "relation"),
				 errhint("It must be partitioned by range on one column of type date, timestamp "
						 "or timestamptz.")));
	foreach(cell, parents)
		members = lappend(members, om_member_find(lfirst_oid(cell), month));
	return members;
}

static void
require_any(List *members, DateADT month)
{
	ListCell *cell;
	char *text = om_archives_month_text(month);

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);

		if (OidIsValid(member->leaf) || member->archive != NULL)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no month %s", text),
					om_errdetail("month", text),
					errhint("SELECT * FROM order_mgmt.partitions lists those that are there, and "
							"order_mgmt.archives those that have been archived.")));
}

static void
require_tables(void)
{
	(void) om_installation_get();
	(void) om_relation_get("archives");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ it is not seen what a month is needed for"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Move months in READ COMMITTED.")));
}

List *
om_members_begin(Oid relation, DateADT month)
{
	List *members;

	require_tables();
	om_lock_acquire(OM_LOCK_ARCHIVE);
	members = list_members(relation, month);
	require_any(members, month);
	return members;
}

List *
om_members_leaves(List *members)
{
	List *leaves = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);

		if (OidIsValid(member->leaf))
			leaves = lappend_oid(leaves, member->leaf);
	}
	return leaves;
}

List *
om_members_describe(List *members)
{
	List *result = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);
		OmArchived *archived;

		if (member->archive == NULL)
			continue;
		archived = palloc0(sizeof(OmArchived));
		archived->relid = member->parent;
		archived->rows = member->archive->rows;
		archived->bytes = member->archive->bytes_packed;
		archived->file = psprintf("%s%s", member->archive->file, OM_ARCHIVE_DATA);
		result = lappend(result, archived);
	}
	return result;
}

/* What the file has, and nothing else has, would be lost with it, or come twice. */
void
om_member_require_free(const OmMonthMember *member)
{
	if (OidIsValid(member->leaf) && member->archive != NULL && member->archive->cold)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("table \"%s\" has a partition for the month, and an archive of it",
							   member->table_name),
						om_errdetail("table", get_rel_name(member->leaf)),
						errhint("Detach the partition that is there and restore the month; then "
								"its rows can be added to the month.")));
}

void
om_member_begin_as_owner(OmQueryScope *scope, Oid parent)
{
	MemoryContext caller = CurrentMemoryContext;

	om_query_begin_as_owner(scope, parent);
	MemoryContextSwitchTo(caller);
}

void
om_members_swap(List *members)
{
	List *moves = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);
		OmMonthMove *move;

		if (!OidIsValid(member->leaf) && !OidIsValid(member->twin))
			continue;
		move = palloc0(sizeof(OmMonthMove));
		move->parent = member->parent;
		move->old = member->leaf;
		move->fresh = member->twin;
		move->kept = member->kept;
		move->name = member->archive->partition_name;
		move->bounds = (OmMonthBounds){member->archive->lower_bound, member->archive->upper_bound};
		moves = lappend(moves, move);
	}
	om_month_swap(moves);
	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);

		om_traits_name_indexes(member->parent, member->names);
	}
}
