/*
 * monthtraits.c
 *		What belongs to one partition itself.
 *
 * LIKE copies what a table has, and of its partitions nothing.  What they have
 * besides is written as statements by queries of the catalog, and run with the
 * rights of the table's owner.
 *
 * While a month is in a file, what it had stays where PostgreSQL guards it: in an
 * empty table of the same owner, made only for a partition that has anything
 * that the youngest has not.  So no statement that is run as an owner comes from a
 * file, or from a table of ours that others may be let write.  A constraint,
 * which no row can pass, names the file, so that it is found under any name.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "monthswap.h"
#include "monthtraits.h"
#include "plans.h"
#include "relations.h"
#include "textform.h"

#define KEPT_CONSTRAINT "om_cold_month"

/* ---------- statements, written by queries: $1 the partition, $2 for whom, $3 their table ---------- */

#define GRANTEE \
	"CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
#define GRANTABLE "CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END"

/* Who may read a partition by itself reads what its policies show; without them nothing. */
static const char common_sql[] =
	"SELECT format('GRANT %s ON TABLE %s TO %s%s', a.privilege_type, $2, " GRANTEE ", " GRANTABLE
	") FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = $1 AND a.grantee <> c.relowner"
	" UNION ALL SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', a.privilege_type, t.attname, $2,"
	" " GRANTEE ", " GRANTABLE ") FROM pg_attribute AS t, aclexplode(t.attacl) AS a"
	" WHERE t.attrelid = $1 AND NOT t.attisdropped"
	" UNION ALL SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', $2) FROM pg_class"
	" WHERE oid = $1 AND relrowsecurity"
	" UNION ALL SELECT format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', $2) FROM pg_class"
	" WHERE oid = $1 AND relforcerowsecurity"
	" UNION ALL SELECT format('ALTER TABLE %s REPLICA IDENTITY %s', $2, CASE relreplident"
	" WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END) FROM pg_class WHERE oid = $1"
	" AND relreplident IN ('f', 'n')"
	" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $2, attname,"
	" attstattarget) FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped"
	" AND attstattarget >= 0"
	" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET (%I = %L)', $2, t.attname,"
	" o.option_name, o.option_value) FROM pg_attribute AS t, pg_options_to_table(t.attoptions) AS o"
	" WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped"
	" AND o.option_name LIKE 'n\\_distinct%' ORDER BY 1";

/* Constraints that the table has not; of them, those that hold for all rows, or only for new ones. */
#define CONSTRAINTS(which)                                                          \
	"SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2, c.conname,"           \
	" pg_get_constraintdef(c.oid)) FROM pg_constraint AS c WHERE c.conrelid = $1"   \
	" AND c.contype = 'c' AND c.coninhcount = 0 AND c.conname <> '" KEPT_CONSTRAINT \
	"' AND NOT EXISTS (SELECT FROM pg_constraint AS p WHERE p.conrelid = $3"        \
	" AND p.conname = c.conname) AND " which " ORDER BY 1"

static const char late_sql[] = CONSTRAINTS("NOT c.convalidated");

/* Comments, defaults, NOT NULL and constraints that the table has not. */
static const char own_sql[] =
	"SELECT format('COMMENT ON TABLE %s IS %L', $2, obj_description($1, 'pg_class'))"
	" WHERE obj_description($1, 'pg_class') IS NOT NULL"
	" UNION ALL SELECT format('COMMENT ON COLUMN %s.%I IS %L', $2, t.attname,"
	" col_description($1, t.attnum)) FROM pg_attribute AS t LEFT JOIN pg_attribute AS p"
	" ON p.attrelid = $3 AND p.attname = t.attname WHERE t.attrelid = $1 AND t.attnum > 0"
	" AND NOT t.attisdropped AND col_description($1, t.attnum) IS NOT NULL"
	" AND col_description($1, t.attnum) IS DISTINCT FROM col_description($3, p.attnum)"
	" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', $2, t.attname,"
	" pg_get_expr(d.adbin, $1)) FROM pg_attribute AS t JOIN pg_attrdef AS d ON d.adrelid = $1"
	" AND d.adnum = t.attnum LEFT JOIN pg_attribute AS p ON p.attrelid = $3"
	" AND p.attname = t.attname LEFT JOIN pg_attrdef AS e ON e.adrelid = $3 AND e.adnum = p.attnum"
	" WHERE t.attrelid = $1 AND t.attgenerated = '' AND pg_get_expr(d.adbin, $1)"
	" IS DISTINCT FROM pg_get_expr(e.adbin, $3)"
	" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', $2, t.attname)"
	" FROM pg_attribute AS t LEFT JOIN pg_attribute AS p ON p.attrelid = $3"
	" AND p.attname = t.attname WHERE t.attrelid = $1 AND t.attnum > 0 AND NOT t.attisdropped"
	" AND t.attnotnull AND p.attnotnull IS NOT TRUE"
	" UNION ALL " CONSTRAINTS("c.convalidated");

/* $2: an option that is left out. */
static const char storage_sql[] =
	"SELECT o.list FROM pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid,"
	" LATERAL (SELECT string_agg(format('%I = %L', option_name, option_value), ', ')"
	" AS list FROM pg_options_to_table(c.reloptions)"
	" WHERE option_name <> $2 UNION ALL SELECT string_agg(format('toast.%I = %L', option_name,"
	" option_value), ', ') FROM pg_options_to_table(t.reloptions)) AS o"
	" WHERE c.oid = $1 AND o.list IS NOT NULL";

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* In the memory of the caller. */
static List *
write_statements(const char *query, Oid parent, Oid from, const char *to)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[3] = {OIDOID, TEXTOID, OIDOID};
	Datum args[3] = {ObjectIdGetDatum(from), CStringGetTextDatum(to), ObjectIdGetDatum(parent)};
	OmQueryScope scope;
	List *statements = NIL;
	int level;
	int result;

	om_query_begin_as_owner(&scope, parent);
	level = om_textform_begin();
	result = SPI_execute_with_args(query, lengthof(types), types, args, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", query, SPI_result_code_string(result));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *statement = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		statements = lappend(statements, pstrdup(statement));
		MemoryContextSwitchTo(spi);
	}
	om_textform_end(level);
	om_query_end(&scope);
	return statements;
}

static void
run_statements(Oid parent, List *statements)
{
	OmQueryScope scope;
	ListCell *cell;
	int level;

	om_query_begin_as_owner(&scope, parent);
	level = om_textform_begin();
	foreach(cell, statements)
		om_query_utility(lfirst(cell));
	om_textform_end(level);
	om_query_end(&scope);
	CommandCounterIncrement();
}

static void
run_statement(Oid parent, const char *statement)
{
	run_statements(parent, list_make1(unconstify(char *, statement)));
}

/* ---------- what goes over ---------- */

static char *
join(List *words)
{
	StringInfoData joined;
	ListCell *cell;

	initStringInfo(&joined);
	foreach(cell, words)
		appendStringInfo(&joined, "%s%s", joined.len == 0 ? "" : ", ", (char *) lfirst(cell));
	return joined.data;
}

char *
om_traits_storage(Oid parent, Oid from, int fillfactor)
{
	List *options = NIL;

	if (fillfactor > 0)
		options = list_make1(psprintf("fillfactor = %d", fillfactor));
	if (OidIsValid(from))
		options = list_concat(options, write_statements(storage_sql, parent, from,
														fillfactor > 0 ? "fillfactor" : ""));
	return options == NIL ? pstrdup("") : psprintf("WITH (%s)", join(options));
}

static List *
write_all(Oid parent, Oid from, const char *to, OmTraits which)
{
	List *statements = write_statements(common_sql, parent, from, to);

	if (which == OM_TRAITS_ALL)
		statements = list_concat(statements, write_statements(own_sql, parent, from, to));
	return statements;
}

void
om_traits_carry(Oid parent, Oid from, Oid to, OmTraits which)
{
	run_statements(parent, write_all(parent, from, qualified_name(to), which));
}

static bool
is_own(Oid relid, OmTraits which)
{
	Relation index = index_open(relid, AccessShareLock);
	const Form_pg_index form = index->rd_index;
	bool is_own = !index->rd_rel->relispartition && form->indisvalid &&
				  (which == OM_TRAITS_COMMON || form->indisunique || form->indisexclusion);

	index_close(index, NoLock);
	return is_own;
}

static List *
indexes_of(Oid relid)
{
	Relation rel = table_open(relid, AccessShareLock);
	List *indexes = RelationGetIndexList(rel);

	table_close(rel, NoLock);
	return indexes;
}

static List *
own_indexes(Oid relid, OmTraits which)
{
	List *own = NIL;
	ListCell *cell;

	foreach(cell, indexes_of(relid))
	{
		if (is_own(lfirst_oid(cell), which))
			own = lappend_oid(own, lfirst_oid(cell));
	}
	return own;
}

/* The index is made as the owner; its name, in the memory of the caller, is still taken. */
static OmIndexName *
copy_index(Oid parent, Oid index, Oid from, Oid to, const char *tablespace)
{
	OmIndexName *copy = palloc(sizeof(OmIndexName));
	List *before = indexes_of(to);
	OmQueryScope scope;
	int level;

	copy->name = get_rel_name(index);
	om_query_begin_as_owner(&scope, parent);
	level = om_textform_begin();
	(void) set_config_option("default_tablespace", tablespace == NULL ? "" : tablespace,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	om_month_index_make(index, from, to);
	om_textform_end(level);
	om_query_end(&scope);
	CommandCounterIncrement();
	copy->index = linitial_oid(list_difference_oid(indexes_of(to), before));
	return copy;
}

List *
om_traits_carry_late(Oid parent, Oid from, Oid to, OmTraits which, const char *tablespace)
{
	List *names = NIL;
	ListCell *cell;

	if (which == OM_TRAITS_ALL)
		run_statements(parent, write_statements(late_sql, parent, from, qualified_name(to)));
	foreach(cell, own_indexes(from, which))
		names = lappend(names, copy_index(parent, lfirst_oid(cell), from, to, tablespace));
	return names;
}

void
om_traits_name_indexes(Oid parent, List *names)
{
	List *statements = NIL;
	ListCell *cell;

	foreach(cell, names)
	{
		const OmIndexName *copy = lfirst(cell);

		if (!OidIsValid(get_relname_relid(copy->name, get_rel_namespace(copy->index))))
			statements = lappend(statements, psprintf("ALTER INDEX %s RENAME TO %s",
													  qualified_name(copy->index),
													  quote_identifier(copy->name)));
	}
	if (statements != NIL)
		run_statements(parent, statements);
}

Oid
om_traits_youngest(Oid parent, Oid but)
{
	List *leaves = om_month_leaves(parent);

	for (int i = list_length(leaves) - 1; i >= 0; i--)
	{
		if (list_nth_oid(leaves, i) != but)
			return list_nth_oid(leaves, i);
	}
	return InvalidOid;
}

/* ---------- what does not go over ---------- */

/* What a partition has that a copy would not; or what names it, and would name the copy no more. */
static OmQuery ties_query = {
	.sql =
		"SELECT what FROM pg_catalog.pg_class AS c, LATERAL (SELECT 'triggers of its own' AS what"
		" FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
		" AND t.tgparentid = 0"
		" UNION ALL SELECT 'rules of its own' FROM pg_catalog.pg_rewrite AS r"
		" WHERE r.ev_class = c.oid"
		" UNION ALL SELECT 'policies of its own' FROM pg_catalog.pg_policy AS p"
		" WHERE p.polrelid = c.oid"
		" UNION ALL SELECT 'another owner than its table' FROM pg_catalog.pg_class AS p"
		" WHERE p.oid = $2 AND p.relowner <> c.relowner"
		" UNION ALL SELECT 'a foreign key of its own' FROM pg_catalog.pg_constraint AS k"
		" WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0"
		" UNION ALL SELECT 'a foreign key that points at it' FROM pg_catalog.pg_constraint AS k"
		" WHERE k.confrelid = c.oid AND k.contype = 'f' AND k.conparentid = 0"
		/* The rows that keep the partition are those of the table's key for this partition. */
		" UNION ALL SELECT 'a foreign key that points at it through its table'"
		" FROM pg_catalog.pg_constraint AS k"
		" WHERE k.confrelid = c.oid AND k.contype = 'f' AND k.conparentid <> 0"
		" UNION ALL SELECT 'a view that reads it' FROM pg_catalog.pg_depend AS d"
		" WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
		" AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid"
		" UNION ALL SELECT 'a sequence of its own' FROM pg_catalog.pg_depend AS d"
		" JOIN pg_catalog.pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'"
		" WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid"
		" AND d.refobjid = c.oid AND d.deptype IN ('a', 'i')"
		" UNION ALL SELECT 'an index as its replica identity' WHERE c.relreplident = 'i'"
		" UNION ALL SELECT 'a place in a publication' FROM pg_catalog.pg_publication_rel AS p"
		" WHERE p.prrelid = c.oid"
		" UNION ALL SELECT 'a security label' FROM pg_catalog.pg_seclabel AS l"
		" WHERE l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND l.objoid = c.oid) AS x"
		" WHERE c.oid = $1 LIMIT 1",
	.nargs = 2,
	.types = {OIDOID, OIDOID}};

void
om_traits_require_plain(Oid parent, Oid leaf)
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
						errhint("A copy would not have it; let the table itself have it, or drop "
								"it.")));
}

/* ---------- while the month is in a file ---------- */

static bool
are_equal(List *some, List *others)
{
	ListCell *one;
	ListCell *other;

	if (list_length(some) != list_length(others))
		return false;
	forboth(one, some, other, others)
	{
		if (strcmp(lfirst(one), lfirst(other)) != 0)
			return false;
	}
	return true;
}

/* Months come back packed, so how full pages were is not asked. */
static bool
is_like_the_youngest(Oid parent, Oid leaf)
{
	Oid youngest = om_traits_youngest(parent, leaf);
	List *common = OidIsValid(youngest) ? write_statements(common_sql, parent, youngest, "") : NIL;

	return own_indexes(leaf, OM_TRAITS_ALL) == NIL &&
		   write_statements(late_sql, parent, leaf, "") == NIL &&
		   strcmp(om_traits_storage(parent, leaf, 100), om_traits_storage(parent, youngest, 100)) ==
			   0 &&
		   are_equal(write_all(parent, leaf, "", OM_TRAITS_ALL), common);
}

/* CREATE TABLE AS copies names and types of the columns, and nothing else. */
static Oid
make_kept(Oid parent, Oid leaf, const char *file)
{
	Oid schema = get_rel_namespace(parent);
	char *name =
		ChooseRelationName(get_rel_name(leaf), NULL, "cold", schema, false /* isconstraint */);
	char *qualified = quote_qualified_identifier(get_namespace_name(schema), name);

	run_statement(parent, psprintf("CREATE TABLE %s %s AS TABLE %s WITH NO DATA", qualified,
								   om_traits_storage(parent, leaf, 100), qualified_name(leaf)));
	run_statement(parent, psprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s::text IS NULL)",
								   qualified, KEPT_CONSTRAINT, quote_literal_cstr(file)));
	return get_relname_relid(name, schema);
}

List *
om_traits_keep(Oid parent, Oid leaf, const char *file)
{
	Oid kept;

	if (is_like_the_youngest(parent, leaf))
		return NIL;
	kept = make_kept(parent, leaf, file);
	om_traits_carry(parent, leaf, kept, OM_TRAITS_ALL);
	OM_FAULT_POINT("monthtraits/kept");
	return om_traits_carry_late(parent, leaf, kept, OM_TRAITS_ALL, NULL);
}

/* What is run as the owner must come from the owner's own table. */
static OmQuery kept_query = {
	.sql = "SELECT c.oid FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS c"
		   " ON c.oid = k.conrelid WHERE k.conname = '" KEPT_CONSTRAINT "' AND k.contype = 'c'"
		   " AND c.relkind = 'r' AND NOT c.relispartition AND c.relowner = $2"
		   " AND pg_catalog.strpos(pg_catalog.pg_get_constraintdef(k.oid),"
		   " pg_catalog.quote_literal($1)) > 0",
	.nargs = 2,
	.types = {TEXTOID, OIDOID}};

Oid
om_traits_kept(Oid parent, const char *file)
{
	Datum args[2] = {CStringGetTextDatum(file), ObjectIdGetDatum(om_relation_owner(parent))};
	Oid kept = InvalidOid;
	OmQueryScope scope;
	bool isnull;

	om_query_begin(&scope);
	if (om_query_run(&kept_query, args, NULL) > 0)
		kept = DatumGetObjectId(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	return kept;
}
