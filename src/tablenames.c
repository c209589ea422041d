/*
 * tablenames.c
 *		Policies and archives follow the tables of users that are renamed.
 *
 * They stand in our tables by name, because OIDs do not survive a dump.
 * "followed_tables" says which OID such a name meant when it was looked at
 * last, in this database of this cluster: rows that come from another are
 * deleted, and the name counts.
 *
 * Names may go in a circle, so all that change go out of the way first.  Where
 * the new name has archives already, of a table that has been dropped, for the
 * same months, the archives of the renamed one stay under its old name.
 *
 * One at a time: OM_LOCK_NAMES and, since it changes rows of "archives",
 * OM_LOCK_ARCHIVE, taken without waiting.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "locks.h"
#include "plans.h"
#include "relations.h"
#include "tablenames.h"

static OmQuery forget_query = {
	.sql = "DELETE FROM order_mgmt.followed_tables AS f WHERE f.system_identifier <> $1"
		   " OR f.database_oid <> $2 OR NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c"
		   " WHERE c.oid = f.relid AND c.relkind = 'p')",
	.nargs = 2,
	.types = {INT8OID, OIDOID}};

/* Last: archives of the same months stand under the new name, and not because of another rename. */
static OmQuery renamed_query = {
	.sql =
		"SELECT f.relid, f.schema_name::text, f.table_name::text, n.nspname::text, c.relname::text,"
		" EXISTS (SELECT FROM order_mgmt.archives AS a JOIN order_mgmt.archives AS o"
		"  ON o.month = a.month WHERE a.schema_name = f.schema_name AND a.table_name ="
		"  f.table_name AND o.schema_name = n.nspname::text AND o.table_name = c.relname::text"
		"  AND NOT EXISTS (SELECT FROM order_mgmt.followed_tables AS u WHERE u.relid <> f.relid"
		"   AND u.schema_name = o.schema_name AND u.table_name = o.table_name))"
		" FROM order_mgmt.followed_tables AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.relid"
		" JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
		" WHERE f.schema_name <> n.nspname::text OR f.table_name <> c.relname::text",
	.nargs = 0};

static OmQuery policy_query = {
	.sql = "UPDATE order_mgmt.partition_policies SET table_schema = $3, table_name = $4,"
		   " updated_at = pg_catalog.clock_timestamp()"
		   " WHERE table_schema = $1 AND table_name = $2 AND owner IS NOT NULL",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static OmQuery archives_query = {
	.sql = "UPDATE order_mgmt.archives SET schema_name = $3, table_name = $4"
		   " WHERE schema_name = $1 AND table_name = $2",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

/* What is left at a name is of a table that has been dropped. */
static OmQuery clear_query = {
	.sql = "DELETE FROM order_mgmt.partition_policies WHERE table_schema = $1 AND table_name = $2"
		   " AND owner IS NOT NULL",
	.nargs = 2,
	.types = {TEXTOID, TEXTOID}};

static OmQuery note_query = {
	.sql = "UPDATE order_mgmt.followed_tables SET schema_name = $2, table_name = $3"
		   " WHERE relid = $1",
	.nargs = 3,
	.types = {OIDOID, TEXTOID, TEXTOID}};

/* Partitions keep their names, but may be in another schema with it. */
static OmQuery uses_query = {
	.sql = "UPDATE order_mgmt.partition_uses AS u SET schema_name = n.nspname"
		   " FROM pg_catalog.pg_partition_tree($1) AS t"
		   " JOIN pg_catalog.pg_class AS c ON c.oid = t.relid"
		   " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
		   " WHERE t.isleaf AND u.schema_name = $2 AND u.partition_name = c.relname::text"
		   " AND n.nspname::text <> $2 AND NOT EXISTS (SELECT FROM order_mgmt.partition_uses AS o"
		   "  WHERE o.schema_name = n.nspname::text AND o.partition_name = c.relname::text)",
	.nargs = 2,
	.types = {OIDOID, TEXTOID}};

static OmQuery add_query = {
	.sql = "INSERT INTO order_mgmt.followed_tables (relid, schema_name, table_name,"
		   " system_identifier, database_oid) SELECT c.oid, n.nspname, c.relname, $1, $2"
		   " FROM (SELECT table_schema AS schema, table_name AS name"
		   "  FROM order_mgmt.partition_policies WHERE owner IS NOT NULL UNION"
		   "  SELECT schema_name, table_name FROM order_mgmt.archives"
		   "  WHERE schema_name <> 'order_mgmt') AS x"
		   " JOIN pg_catalog.pg_namespace AS n ON n.nspname = x.schema::name"
		   " JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = x.name::name"
		   " AND c.relkind = 'p' ON CONFLICT DO NOTHING",
	.nargs = 2,
	.types = {INT8OID, OIDOID}};

static OmQuery lives_query = {
	.sql = "SELECT 1 FROM order_mgmt.followed_tables AS f JOIN pg_catalog.pg_class AS c"
		   " ON c.oid = f.relid AND c.relkind = 'p' WHERE f.schema_name = $1 AND f.table_name = $2"
		   " AND f.system_identifier = $3 AND f.database_oid = $4",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, INT8OID, OIDOID}};

typedef struct Rename
{
	Oid relid;
	char *schema; /* as it was */
	char *name;
	char *new_schema;
	char *new_name;
	bool is_taken; /* by archives of another table of this name */
} Rename;

static char *
get_text(uint64 row, int column)
{
	bool isnull;

	return TextDatumGetCString(om_result_get(row, column, &isnull));
}

static List *
list_renamed(void)
{
	uint64 count = om_query_run(&renamed_query, NULL, NULL);
	List *renames = NIL;

	for (uint64 i = 0; i < count; i++)
	{
		Rename *rename = palloc(sizeof(Rename));
		bool isnull;

		rename->relid = DatumGetObjectId(om_result_get(i, 1, &isnull));
		rename->schema = get_text(i, 2);
		rename->name = get_text(i, 3);
		rename->new_schema = get_text(i, 4);
		rename->new_name = get_text(i, 5);
		rename->is_taken = DatumGetBool(om_result_get(i, 6, &isnull));
		renames = lappend(renames, rename);
	}
	return renames;
}

static void
move(const Rename *rename, const char *schema, const char *name, const char *new_schema,
	 const char *new_name)
{
	Datum args[4] = {CStringGetTextDatum(schema), CStringGetTextDatum(name),
					 CStringGetTextDatum(new_schema), CStringGetTextDatum(new_name)};

	(void) om_query_run(&policy_query, args, NULL);
	if (!rename->is_taken)
		(void) om_query_run(&archives_query, args, NULL);
}

/* No schema has this name. */
#define NOWHERE ""

static void
move_all(List *renames)
{
	ListCell *cell;

	foreach(cell, renames)
	{
		const Rename *rename = lfirst(cell);

		move(rename, rename->schema, rename->name, NOWHERE, psprintf("%u", rename->relid));
	}
	foreach(cell, renames)
	{
		const Rename *rename = lfirst(cell);
		Datum name[3] = {ObjectIdGetDatum(rename->relid), CStringGetTextDatum(rename->new_schema),
						 CStringGetTextDatum(rename->new_name)};
		Datum uses[2] = {ObjectIdGetDatum(rename->relid), CStringGetTextDatum(rename->schema)};

		(void) om_query_run(&clear_query, &name[1], NULL);
		move(rename, NOWHERE, psprintf("%u", rename->relid), rename->new_schema, rename->new_name);
		(void) om_query_run(&note_query, name, NULL);
		(void) om_query_run(&uses_query, uses, NULL);
	}
}

static List *
describe(List *renames)
{
	List *described = NIL;
	ListCell *cell;

	foreach(cell, renames)
	{
		const Rename *rename = lfirst(cell);
		OmRenamedTable *table = palloc(sizeof(OmRenamedTable));

		table->name = pstrdup(quote_qualified_identifier(rename->new_schema, rename->new_name));
		table->was = pstrdup(quote_qualified_identifier(rename->schema, rename->name));
		described = lappend(described, table);
	}
	return described;
}

List *
om_tablenames_follow(void)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum here[2] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	List *renamed = NIL;
	List *renames;
	OmQueryScope scope;

	/* Data of an earlier version have no such table until setup() is run. */
	if (!OidIsValid(om_relation_find("followed_tables")) || !om_lock_try(OM_LOCK_NAMES))
		return NIL;
	om_query_begin(&scope);
	(void) om_query_run(&forget_query, here, NULL);
	renames = list_renamed();
	if (renames != NIL && om_lock_try(OM_LOCK_ARCHIVE))
	{
		MemoryContext spi;

		move_all(renames);
		spi = MemoryContextSwitchTo(caller);
		renamed = describe(renames);
		MemoryContextSwitchTo(spi);
	}
	(void) om_query_run(&add_query, here, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	return renamed;
}

bool
om_tablenames_lives(const char *schema, const char *name)
{
	Datum args[4] = {CStringGetTextDatum(schema), CStringGetTextDatum(name),
					 Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	OmQueryScope scope;
	bool lives;

	if (!OidIsValid(om_relation_find("followed_tables")))
		return false;
	om_query_begin(&scope);
	lives = om_query_run(&lives_query, args, NULL) > 0;
	om_query_end(&scope);
	return lives;
}
