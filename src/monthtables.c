/*
 * monthtables.c
 *		Tables that have a partition per month.
 *
 * Whatever is done to a user's table is done with the rights of its owner, in a
 * security-restricted operation and with a safe search_path, as VACUUM does
 * it: what functions in indexes or constraints do, their owner does.
 *
 * A month is made as in months.c.  It gets what months have in common of the
 * youngest partition there is, its indexes too (monthtraits.c), because LIKE
 * copies none of that.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "monthtables.h"
#include "monthtraits.h"

/* A table that has not been looked after for longer gets no month for all that time. */
#define MAX_MISSED_MONTHS 120

static void refuse(const char *path, const char *message, const char *hint) OM_NORETURN;

static void
refuse(const char *path, const char *message, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg_internal("%s", message),
					om_errdetail("path", path), errhint("%s", hint)));
}

static const char *
quoted(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/* ---------- bounds ---------- */

#define HINT_MONTHS "Each partition must hold one month: of a timestamptz column, a month in UTC."

/* False: it is no point in time, but MINVALUE, MAXVALUE or infinity. */
static bool
read_bound(const PartitionBoundInfo bounds, int number, Oid type, TimestampTz *at)
{
	Datum value = bounds->datums[number][0];

	if (bounds->kind[number][0] != PARTITION_RANGE_DATUM_VALUE)
		return false;
	if (type == DATEOID)
	{
		if (DATE_NOT_FINITE(DatumGetDateADT(value)))
			return false;
		*at = DatumGetDateADT(value) * USECS_PER_DAY;
		return true;
	}
	*at = DatumGetTimestampTz(value);
	return !TIMESTAMP_NOT_FINITE(*at);
}

static TimestampTz
read_month(Relation rel, const PartitionDesc desc, int bound, Oid leaf, Oid type)
{
	TimestampTz begin = 0;
	TimestampTz end = 0;

	if (!read_bound(desc->boundinfo, bound, type, &begin) ||
		!read_bound(desc->boundinfo, bound + 1, type, &end) || begin != om_months_begin(begin) ||
		end != om_months_next(begin))
		refuse("relation",
			   psprintf("partition %s of table %s does not hold a month",
						quote_identifier(get_rel_name(leaf)), quoted(rel)),
			   HINT_MONTHS);
	return begin;
}

static void
read_leaves(Relation rel, OmMonthTable *table)
{
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);

	table->leaves = palloc(sizeof(OmMonthLeaf) * Max(desc->nparts, 1));
	if (desc->nparts == 0)
		return;
	if (partition_bound_has_default(desc->boundinfo))
		refuse("relation", psprintf("table %s has a DEFAULT partition", quoted(rel)),
			   "A partition for a month that has rows in there could not be attached. Move its "
			   "rows, and drop it.");
	for (int bound = 0; bound < desc->boundinfo->ndatums; bound++)
	{
		int index = desc->boundinfo->indexes[bound + 1];
		OmMonthLeaf *leaf = &table->leaves[table->nleaves];

		if (index < 0)
			continue;
		leaf->relid = desc->oids[index];
		if (get_rel_relkind(leaf->relid) != RELKIND_RELATION)
			refuse("relation",
				   psprintf("partition %s of table %s is no plain table",
							quote_identifier(get_rel_name(leaf->relid)), quoted(rel)),
				   "A month must be a table by itself, neither partitioned nor foreign.");
		leaf->begin = read_month(rel, desc, bound, leaf->relid, table->table.type);
		table->nleaves++;
	}
}

/* ---------- what a table is made of ---------- */

static OmMonthTable *
read_monthly(Relation rel, const char *time_column)
{
	PartitionKey key = RelationGetPartitionKey(rel);
	OmMonthTable *table = palloc0(sizeof(OmMonthTable));

	if (key->partnatts != 1 || key->partattrs[0] == 0 ||
		strcmp(get_attname(RelationGetRelid(rel), key->partattrs[0], false), time_column) != 0)
		refuse("time_column",
			   psprintf("table %s is not partitioned by column \"%s\" alone", quoted(rel),
						time_column),
			   "Name the column that is its partition key.");
	table->table = (OmMonthly){RelationGetRelid(rel), get_namespace_name(RelationGetNamespace(rel)),
							   pstrdup(RelationGetRelationName(rel)), key->parttypid[0]};
	if (table->table.type != DATEOID && table->table.type != TIMESTAMPOID &&
		table->table.type != TIMESTAMPTZOID)
		refuse("time_column",
			   psprintf("column \"%s\" of table %s is of type %s", time_column, quoted(rel),
						format_type_be(table->table.type)),
			   "It must be a date, timestamp or timestamptz.");
	read_leaves(rel, table);
	return table;
}

static Relation
open_partitioned(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse("relation", psprintf("table %s is not partitioned", quoted(rel)),
			   "Make a table with PARTITION BY RANGE on a date or time, and move the rows there.");
	return rel;
}

static OmMonthTable *
read_partition(Oid relid, const char *time_column)
{
	Relation rel = open_partitioned(relid);
	OmMonthTable *table;

	if (RelationGetPartitionKey(rel)->strategy != PARTITION_STRATEGY_RANGE)
		refuse("relation", psprintf("table %s is not partitioned by range", quoted(rel)),
			   "Partitions of a table that is partitioned by list must be partitioned by range.");
	table = read_monthly(rel, time_column);
	table_close(rel, NoLock);
	return table;
}

static List *
read_list(Relation rel, const char *time_column)
{
	PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);
	List *tables = NIL;

	for (int i = 0; i < desc->nparts; i++)
		tables = lappend(tables, read_partition(desc->oids[i], time_column));
	return tables;
}

List *
om_monthtables_of(Oid relid, const char *time_column)
{
	Relation rel = open_partitioned(relid);
	char strategy = RelationGetPartitionKey(rel)->strategy;
	List *tables = NIL;

	if (strategy == PARTITION_STRATEGY_RANGE)
		tables = list_make1(read_monthly(rel, time_column));
	else if (strategy == PARTITION_STRATEGY_LIST)
		tables = read_list(rel, time_column);
	else
		refuse("relation", psprintf("table %s is partitioned by hash", quoted(rel)),
			   "It must be partitioned by range of a date or time, or by list and those partitions "
			   "by range.");
	table_close(rel, NoLock);
	return tables;
}

/* ---------- what a new month takes over ---------- */

/* What follows the list of columns. */
static char *
read_storage(Oid parent, Oid sibling)
{
	Oid tablespace = get_rel_tablespace(parent);

	return psprintf("%s%s%s", om_traits_storage(parent, sibling, 0 /* fillfactor */),
					OidIsValid(tablespace) ? " TABLESPACE " : "",
					OidIsValid(tablespace) ? quote_identifier(get_tablespace_name(tablespace))
										   : "");
}

static void
take_over(Oid parent, Oid sibling, const char *name)
{
	Oid leaf = get_relname_relid(name, get_rel_namespace(parent));
	Oid tablespace = get_rel_tablespace(parent);

	om_traits_carry(parent, sibling, leaf, OM_TRAITS_COMMON);
	(void) om_traits_carry_late(parent, sibling, leaf, OM_TRAITS_COMMON,
								OidIsValid(tablespace) ? get_tablespace_name(tablespace) : NULL);
}

/* ---------- making months ahead ---------- */

static const OmMonthLeaf *
find_leaf(const OmMonthTable *table, TimestampTz month)
{
	for (int i = 0; i < table->nleaves; i++)
	{
		if (table->leaves[i].begin == month)
			return &table->leaves[i];
	}
	return NULL;
}

/* After the newest there is, where nobody has looked after the table for a while. */
static TimestampTz
first_missing(const OmMonthTable *table, TimestampTz now)
{
	TimestampTz current = om_months_begin(now);
	TimestampTz month = current;
	int missed = 0;

	for (int i = 0; i < table->nleaves; i++)
	{
		if (i == 0 || table->leaves[i].begin > month)
			month = table->leaves[i].begin;
	}
	if (month >= current)
		return current;
	for (TimestampTz m = month; m < current && missed <= MAX_MISSED_MONTHS; missed++)
		m = om_months_next(m);
	return missed > MAX_MISSED_MONTHS ? current : om_months_next(month);
}

static bool
has_partition(Oid parent, TimestampTz month, Oid type)
{
	Relation rel = table_open(parent, NoLock);
	OmMonthTable now = {.table = {.relid = parent, .type = type}};

	read_leaves(rel, &now);
	table_close(rel, NoLock);
	return find_leaf(&now, month) != NULL;
}

/* Returns the name, or NULL when somebody else has just made it. */
static char *
make_month(const OmMonthTable *table, TimestampTz month)
{
	Oid parent = table->table.relid;
	Oid sibling = table->nleaves == 0 ? InvalidOid : table->leaves[table->nleaves - 1].relid;
	char *name = om_months_name(table->table.name, month);

	LockRelationOid(parent, ShareUpdateExclusiveLock);
	if (has_partition(parent, month, table->table.type))
		return NULL;
	OM_FAULT_POINT("monthtables/locked");
	om_months_create(&table->table, name, month, read_storage(parent, sibling));
	if (OidIsValid(sibling))
		take_over(parent, sibling, name);
	return quote_qualified_identifier(table->table.schema, name);
}

List *
om_monthtables_premake(const OmMonthTable *table, TimestampTz now, int months_ahead)
{
	TimestampTz month = first_missing(table, now);
	TimestampTz last = om_months_begin(now);
	List *made = NIL;

	for (int i = 0; i < months_ahead; i++)
		last = om_months_next(last);
	for (; month <= last; month = om_months_next(month))
	{
		char *name = find_leaf(table, month) == NULL ? make_month(table, month) : NULL;

		if (name != NULL)
			made = lappend(made, name);
	}
	return made;
}
