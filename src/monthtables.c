/*
 * monthtables.c
 *		Tables that have a partition per month.
 *
 * Whatever is done to a user's table is done with the rights of its owner, in a
 * security-restricted operation and with a safe search_path, as VACUUM does
 * it: what functions in indexes or constraints do, their owner does.
 *
 * A month is made as in months.c.  It gets storage parameters, grants and row
 * security of the youngest partition there is, because LIKE copies none of them.
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
#include "plans.h"

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

/* As WITH and TABLESPACE take them. */
static char *
read_storage(Oid parent, Oid sibling)
{
	StringInfoData sql;
	char *storage = "";
	Oid tablespace = get_rel_tablespace(parent);

	if (OidIsValid(sibling))
	{
		initStringInfo(&sql);
		appendStringInfo(
			&sql,
			"SELECT 'WITH (' || string_agg(format('%%I = %%L', option_name,"
			" option_value), ', ') || ')' FROM pg_class, pg_options_to_table(reloptions)"
			" WHERE oid = %u",
			sibling);
		om_query_utility(sql.data);
		storage = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	}
	return psprintf(
		"%s%s%s", storage == NULL ? "" : storage, OidIsValid(tablespace) ? " TABLESPACE " : "",
		OidIsValid(tablespace) ? quote_identifier(get_tablespace_name(tablespace)) : "");
}

static void
run_statements(const char *query)
{
	uint64 count;
	SPITupleTable *rows;

	om_query_utility(query);
	count = SPI_processed;
	rows = SPI_tuptable;
	for (uint64 i = 0; i < count; i++)
	{
		char *statement = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);

		if (statement != NULL)
			om_query_utility(statement);
	}
}

void
om_monthtables_run(Oid parent, const char *query)
{
	OmQueryScope scope;

	om_query_begin_as_owner(&scope, parent);
	run_statements(query);
	om_query_end(&scope);
	CommandCounterIncrement();
}

#define GRANTEE \
	"CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
#define GRANTABLE "CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END"

void
om_monthtables_carry(Oid parent, Oid from, const char *schema, const char *name)
{
	char *to = quote_literal_cstr(quote_qualified_identifier(schema, name));

	om_monthtables_run(
		parent,
		psprintf(
			"SELECT format('GRANT %%s ON TABLE %%s TO %%s%%s', a.privilege_type, %s, " GRANTEE
			", " GRANTABLE ") FROM pg_class AS c, aclexplode(c.relacl) AS a"
			" WHERE c.oid = %u AND a.grantee <> c.relowner"
			" UNION ALL SELECT format('GRANT %%s (%%I) ON TABLE %%s TO %%s%%s', a.privilege_type,"
			" t.attname, %s, " GRANTEE ", " GRANTABLE ") FROM pg_attribute AS t,"
			" aclexplode(t.attacl) AS a WHERE t.attrelid = %u AND NOT t.attisdropped"
			/* Who may read a partition by itself reads what its policies show; without them nothing. */
			" UNION ALL SELECT format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', %s) FROM "
			"pg_class"
			" WHERE oid = %u AND relrowsecurity"
			" UNION ALL SELECT format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', %s) FROM pg_class"
			" WHERE oid = %u AND relforcerowsecurity"
			" UNION ALL SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STATISTICS %%s', %s, "
			"attname,"
			" attstattarget) FROM pg_attribute WHERE attrelid = %u AND attnum > 0 AND NOT "
			"attisdropped"
			" AND attstattarget >= 0",
			to, from, to, from, to, from, to, from, to, from));
}

/* What a partition has that a copy would not. */
static OmQuery ties_query = {
	.sql =
		"SELECT what FROM pg_catalog.pg_class AS c, LATERAL (SELECT 'triggers of its own' AS what"
		" FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
		" AND t.tgparentid = 0"
		" UNION ALL SELECT 'rules of its own' FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = "
		"c.oid"
		" UNION ALL SELECT 'policies of its own' FROM pg_catalog.pg_policy AS p WHERE"
		" p.polrelid = c.oid UNION ALL SELECT 'another owner than its table' FROM"
		" pg_catalog.pg_class AS p WHERE p.oid = $2 AND p.relowner <> c.relowner) AS x"
		" WHERE c.oid = $1 LIMIT 1",
	.nargs = 2,
	.types = {OIDOID, OIDOID}};

void
om_monthtables_require_plain(Oid parent, Oid leaf)
{
	Datum args[2] = {ObjectIdGetDatum(leaf), ObjectIdGetDatum(parent)};
	char *name = get_rel_name(leaf);
	char *what = NULL;
	OmQueryScope scope;

	om_query_begin(&scope);
	if (om_query_run(&ties_query, args, NULL) > 0)
	{
		what = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		what = strcpy(SPI_palloc(strlen(what) + 1), what);
	}
	om_query_end(&scope);
	if (what != NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg("partition \"%s\" has %s", name, what),
						om_errdetail("partition", name),
						errhint("A copy would not have them; move them to the table itself.")));
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
	OmQueryScope scope;
	char *storage;

	LockRelationOid(parent, ShareUpdateExclusiveLock);
	if (has_partition(parent, month, table->table.type))
		return NULL;
	OM_FAULT_POINT("monthtables/locked");
	om_query_begin_as_owner(&scope, parent);
	storage = read_storage(parent, sibling);
	storage = strcpy(SPI_palloc(strlen(storage) + 1), storage);
	om_query_end(&scope);
	om_months_create(&table->table, name, month, storage);
	if (OidIsValid(sibling))
		om_monthtables_carry(parent, sibling, table->table.schema, name);
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
