/*
 * tablenames.c
 *		Tables of users that have got another name.
 *
 * Policies and archives stand in our tables by name, because OIDs do not survive
 * a dump.  When a table is renamed they stay where they are, and maintenance and
 * view "partitions" say so, until rename_managed_table() moves them: who may make
 * tables could otherwise lead what belongs to others away.
 *
 * "known_tables" says which OID a name meant when the table was last managed or
 * archived, and whose it was, in this database of this cluster.  It is read for
 * messages only, and to tell a table that is renamed from one that is dropped.
 *
 * Rows of "archives" are changed under OM_LOCK_ARCHIVE.  The caller commits.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"

#include "archivereader.h"
#include "archives.h"
#include "errors.h"
#include "jsonout.h"
#include "names.h"
#include "plans.h"
#include "relations.h"
#include "tablenames.h"

/* The partitioned table c that row k knows. */
#define KNOWN                                                                       \
	"order_mgmt.known_tables AS k JOIN pg_catalog.pg_class AS c ON c.oid = k.relid" \
	" AND c.relkind = 'p' AND pg_catalog.pg_get_userbyid(c.relowner) = k.owner"     \
	" JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"

static OmQuery now_query = {
	.sql = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM " KNOWN
		   " WHERE k.schema_name = $1 AND k.table_name = $2 AND k.system_identifier = $3"
		   " AND k.database_oid = $4",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, INT8OID, OIDOID}};

/* Where a table of another role has the name, it is lost if the own one is known to be elsewhere. */
static OmQuery lost_query = {
	.sql =
		"SELECT DISTINCT pg_catalog.format('%I.%I', x.schema, x.name), t.now FROM"
		" (SELECT table_schema AS schema, table_name AS name, owner"
		"  FROM order_mgmt.partition_policies WHERE owner IS NOT NULL UNION ALL"
		"  SELECT DISTINCT schema_name, table_name, NULL FROM order_mgmt.archives"
		"  WHERE schema_name <> 'order_mgmt') AS x"
		" LEFT JOIN LATERAL (SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS now,"
		"  k.owner FROM " KNOWN " WHERE k.schema_name = x.schema AND k.table_name = x.name"
		"  AND k.owner = coalesce(x.owner, k.owner) AND k.system_identifier = $1"
		"  AND k.database_oid = $2) AS t ON true"
		" WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
		"  ON n.oid = c.relnamespace WHERE n.nspname::text = x.schema AND c.relname::text = x.name"
		"  AND c.relkind = 'p'"
		"  AND coalesce(pg_catalog.pg_get_userbyid(c.relowner)::text = t.owner, true))"
		" ORDER BY 1",
	.nargs = 2,
	.types = {INT8OID, OIDOID}};

#define NOTE_COLUMNS "schema_name, table_name, relid, owner, system_identifier, database_oid"

/* A row that is as it should be is not touched, so that nobody waits for it. */
#define NOTE(source)                                                                           \
	"INSERT INTO order_mgmt.known_tables AS k (" NOTE_COLUMNS ") SELECT n.nspname, c.relname," \
	" c.oid, pg_catalog.pg_get_userbyid(c.relowner), $1, $2 FROM " source                      \
	" AND c.relkind = 'p' AND NOT EXISTS (SELECT FROM order_mgmt.known_tables AS o"            \
	"  WHERE o.schema_name = n.nspname::text AND o.table_name = c.relname::text"               \
	"  AND o.relid = c.oid AND o.owner = pg_catalog.pg_get_userbyid(c.relowner)::text"         \
	"  AND o.system_identifier = $1 AND o.database_oid = $2)"                                  \
	" ON CONFLICT (schema_name, table_name) DO UPDATE SET (relid, owner, system_identifier,"   \
	" database_oid) = (excluded.relid, excluded.owner, $1, $2)"

static OmQuery note_query = {.sql = NOTE("pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace"
										 " AS n ON n.oid = c.relnamespace WHERE c.oid = $3"),
							 .nargs = 3,
							 .types = {INT8OID, OIDOID, OIDOID}};

static OmQuery note_managed_query = {
	.sql = NOTE("order_mgmt.partition_policies AS p JOIN pg_catalog.pg_namespace AS n"
				" ON n.nspname = p.table_schema::name JOIN pg_catalog.pg_class AS c"
				" ON c.relnamespace = n.oid AND c.relname = p.table_name::name"
				" WHERE p.owner = pg_catalog.pg_get_userbyid(c.relowner)::text"),
	.nargs = 2,
	.types = {INT8OID, OIDOID}};

static OmQuery forget_query = {
	.sql = "DELETE FROM order_mgmt.known_tables AS k WHERE NOT EXISTS (SELECT FROM"
		   " order_mgmt.partition_policies AS p WHERE p.table_schema = k.schema_name"
		   " AND p.table_name = k.table_name) AND NOT EXISTS (SELECT FROM order_mgmt.archives AS a"
		   " WHERE a.schema_name = k.schema_name AND a.table_name = k.table_name)",
	.nargs = 0};

static OmQuery months_query = {.sql = "SELECT month FROM order_mgmt.archives"
									  " WHERE schema_name = $1 AND table_name = $2 ORDER BY month",
							   .nargs = 2,
							   .types = {TEXTOID, TEXTOID}};

static OmQuery archives_query = {
	.sql = "UPDATE order_mgmt.archives SET schema_name = $3, table_name = $4"
		   " WHERE schema_name = $1 AND table_name = $2 AND month = ANY ($5)",
	.nargs = 5,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, DATEARRAYOID}};

/* The table's own policy is what its owner has said last. */
static OmQuery policy_query = {
	.sql = "UPDATE order_mgmt.partition_policies SET table_schema = $3, table_name = $4,"
		   " updated_at = pg_catalog.clock_timestamp() WHERE table_schema = $1 AND table_name = $2"
		   " AND owner = pg_catalog.pg_get_userbyid($5)::text"
		   " AND NOT EXISTS (SELECT FROM order_mgmt.partition_policies AS o"
		   "  WHERE o.table_schema = $3 AND o.table_name = $4)",
	.nargs = 5,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, OIDOID}};

static OmQuery drop_policy_query = {
	.sql = "DELETE FROM order_mgmt.partition_policies WHERE table_schema = $1 AND table_name = $2"
		   " AND owner = pg_catalog.pg_get_userbyid($3)::text",
	.nargs = 3,
	.types = {TEXTOID, TEXTOID, OIDOID}};

static OmQuery others_policy_query = {
	.sql = "SELECT pg_catalog.count(*) FROM order_mgmt.partition_policies"
		   " WHERE table_schema = $1 AND table_name = $2",
	.nargs = 2,
	.types = {TEXTOID, TEXTOID}};

/* Partitions keep their names, but may be in another schema with it. */
static OmQuery uses_query = {
	.sql = "WITH RECURSIVE tree AS (SELECT $1 AS relid UNION ALL SELECT i.inhrelid FROM tree"
		   " JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.relid)"
		   " UPDATE order_mgmt.partition_uses AS u SET schema_name = n.nspname FROM tree AS t"
		   " JOIN pg_catalog.pg_class AS c ON c.oid = t.relid"
		   " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
		   " WHERE u.schema_name = $2 AND u.partition_name = c.relname::text"
		   " AND n.nspname::text <> $2 AND NOT EXISTS (SELECT FROM order_mgmt.partition_uses AS o"
		   "  WHERE o.schema_name = n.nspname::text AND o.partition_name = c.relname::text)",
	.nargs = 2,
	.types = {OIDOID, TEXTOID}};

/* ---------- which table a name means ---------- */

/* Data of an earlier version have no such table until setup() is run. */
static bool
has_known_tables(void)
{
	return OidIsValid(om_relation_find("known_tables"));
}

#define HERE Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)

void
om_tablenames_note(Oid relid)
{
	Datum args[3] = {HERE, ObjectIdGetDatum(relid)};

	if (has_known_tables())
		(void) om_query_change(&note_query, args);
}

void
om_tablenames_note_managed(void)
{
	Datum args[2] = {HERE};

	if (!has_known_tables())
		return;
	(void) om_query_change(&note_managed_query, args);
	(void) om_query_change(&forget_query, NULL);
}

char *
om_tablenames_now(const char *schema, const char *name)
{
	Datum args[4] = {CStringGetTextDatum(schema), CStringGetTextDatum(name), HERE};

	return has_known_tables() ? om_query_first(&now_query, args, om_result_name) : NULL;
}

static void *
read_lost(uint64 row)
{
	OmLostName *lost = palloc(sizeof(OmLostName));
	char *now = om_result_text(row, 2);

	lost->name = om_result_text(row, 1);
	lost->reason = now == NULL ? pstrdup("there is no table of this name any more")
							   : psprintf("the table is called %s now: rename_managed_table() "
										  "moves policy and archives there",
										  now);
	return lost;
}

List *
om_tablenames_lost(void)
{
	Datum args[2] = {HERE};

	return has_known_tables() ? om_query_list(&lost_query, args, NULL, read_lost) : NIL;
}

/* ---------- moving what stands under a name ---------- */

typedef struct Move
{
	const char *schema;
	const char *name;
	char *new_schema;
	char *new_name;
	Oid owner;
	bool is_admin;
	int64 strangers; /* what stands there and is somebody else's */
} Move;

static List *
list_months(const char *schema, const char *name)
{
	Datum args[2] = {CStringGetTextDatum(schema), CStringGetTextDatum(name)};
	MemoryContext caller = CurrentMemoryContext;
	List *months = NIL;
	OmQueryScope scope;
	uint64 count;

	om_query_begin(&scope);
	count = om_query_run(&months_query, args, NULL);
	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;
		MemoryContext spi = MemoryContextSwitchTo(caller);

		months = lappend_int(months, DatumGetDateADT(om_result_get(i, 1, &isnull)));
		MemoryContextSwitchTo(spi);
	}
	om_query_end(&scope);
	return months;
}

/* As for a month that is to come back; where it was not written down whose it is, admins know. */
static bool
is_owners(const Move *move, DateADT month)
{
	const OmArchive *archive = om_archives_find(move->schema, move->name, month);
	const char *owner = om_archive_read_manifest(archive->file, archive->manifest_sha256)->owner;
	Oid role;

	if (owner == NULL)
		return move->is_admin;
	role = get_role_oid(owner, true /* missing_ok */);
	return OidIsValid(role) && has_privs_of_role(move->owner, role);
}

static void
require_free(const Move *move, DateADT month)
{
	char *text = om_archives_month_text(month);

	if (om_archives_find(move->new_schema, move->new_name, month) == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("there are archives of month %s under both names, %s and %s", text,
					quote_qualified_identifier(move->schema, move->name),
					quote_qualified_identifier(move->new_schema, move->new_name)),
			 om_errdetail("month", text),
			 errhint("Move those of the second to another table by rename_managed_table(), or "
					 "rename the table to a name that has none.")));
}

static List *
months_to_move(Move *move)
{
	List *months = NIL;
	ListCell *cell;

	foreach(cell, list_months(move->schema, move->name))
	{
		if (is_owners(move, lfirst_int(cell)))
			months = lappend_int(months, lfirst_int(cell));
		else
			move->strangers++;
	}
	foreach(cell, months)
		require_free(move, lfirst_int(cell));
	return months;
}

static Datum
dates_of(List *months)
{
	Datum *dates = palloc(sizeof(Datum) * Max(list_length(months), 1));

	for (int i = 0; i < list_length(months); i++)
		dates[i] = DateADTGetDatum(list_nth_int(months, i));
	return PointerGetDatum(construct_array(dates, list_length(months), DATEOID, sizeof(DateADT),
										   true /* by value */, TYPALIGN_INT));
}

/* True: there was one, and it is the owner's. */
static bool
move_policy(Move *move, const Datum *names)
{
	Datum to[5] = {names[0], names[1], names[2], names[3], ObjectIdGetDatum(move->owner)};
	Datum old[3] = {names[0], names[1], ObjectIdGetDatum(move->owner)};

	if (om_query_change(&policy_query, to) > 0 || om_query_change(&drop_policy_query, old) > 0)
		return true;
	move->strangers += om_query_number(&others_policy_query, names);
	return false;
}

static void
raise_nothing(const Move *move)
{
	char *name = quote_qualified_identifier(move->schema, move->name);

	if (move->strangers == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND),
						errmsg("no policy and no archive stands under the name %s", name),
						om_errdetail("old_name", name),
						errhint("SELECT DISTINCT schema_name, table_name FROM "
								"order_mgmt.archives shows which names there are.")));
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("what stands under the name %s does not belong to the owner of table %s",
						   name, quote_qualified_identifier(move->new_schema, move->new_name)),
					errhint("The owner of the table must be who owned it when its months were "
							"archived, or a member of that role.")));
}

int64
om_tablenames_move(const char *schema, const char *name, Oid relid, bool is_admin)
{
	Move move = {.schema = schema, .name = name};
	Datum names[5];
	Datum uses[2] = {ObjectIdGetDatum(relid), CStringGetTextDatum(schema)};
	List *months;
	bool has_policy;

	move.is_admin = is_admin;
	move.owner = om_relation_owner(relid);
	move.new_schema = get_namespace_name(get_rel_namespace(relid));
	move.new_name = get_rel_name(relid);
	names[0] = CStringGetTextDatum(schema);
	names[1] = CStringGetTextDatum(name);
	names[2] = CStringGetTextDatum(move.new_schema);
	names[3] = CStringGetTextDatum(move.new_name);
	has_policy = move_policy(&move, names);
	months = months_to_move(&move);
	if (!has_policy && months == NIL)
		raise_nothing(&move);
	names[4] = dates_of(months);
	(void) om_query_change(&archives_query, names);
	(void) om_query_change(&uses_query, uses);
	om_tablenames_note(relid);
	return list_length(months);
}
