/*
 * modelrows.c
 *		Tables "model_definitions" and "model_versions".
 *
 * They are read by the latest snapshot, never by that of the caller: what a
 * session has loaded is used by its later transactions too.  Writers send a
 * message that "model_definitions" has changed; who has read it believes what he
 * has read until that arrives.  It also arrives when the writer's transaction
 * or savepoint is rolled back, for the writer alone.
 *
 * Who changes a model locks its row in "model_definitions", so that changes
 * come one after the other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

#include "dialect.h"
#include "errors.h"
#include "jsonout.h"
#include "modelrows.h"
#include "plans.h"
#include "relations.h"
#include "request.h"
#include "tables.h"

#define DEFAULT_ROWS_PER_BATCH 1000
#define MAX_ROWS_PER_BATCH 1000000
#define DEFAULT_KEEP_VERSIONS 5
#define MAX_KEEP_VERSIONS 10000

/* Columns of table model_definitions */
enum
{
	COLUMN_NAME = 1,
	COLUMN_KIND,
	COLUMN_OPTIONS,
	COLUMN_DEPLOYED,
	COLUMN_CREATED_AT,
	COLUMN_CREATED_BY,
	COLUMN_CHANGED_AT
};

/* Columns of table model_versions */
enum
{
	COLUMN_VERSION = 2,
	COLUMN_VERSION_TRAINED_AT,
	COLUMN_VERSION_MODEL = 7
};

static OmQuery insert_query = {
	.sql = "INSERT INTO order_mgmt.model_definitions (name, kind, options, deployed, created_at,"
		   " created_by, changed_at) SELECT $1, $2, $3, $4, t.now, $5, t.now"
		   " FROM (SELECT pg_catalog.clock_timestamp() AS now) AS t ON CONFLICT DO NOTHING",
	.nargs = 5,
	.types = {TEXTOID, TEXTOID, JSONBOID, INT8OID, TEXTOID}};

static OmQuery lock_query = {
	.sql = "SELECT FROM order_mgmt.model_definitions WHERE name = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery options_query = {.sql = "UPDATE order_mgmt.model_definitions SET options = $2,"
									   " changed_at = pg_catalog.clock_timestamp()"
									   " WHERE name = $1",
								.nargs = 2,
								.types = {TEXTOID, JSONBOID}};

/* Not where the model has been dropped meanwhile, and perhaps made anew. */
static OmQuery version_query = {
	.sql = "WITH locked AS (SELECT d.name FROM order_mgmt.model_definitions AS d WHERE d.name = $1"
		   " AND d.created_at = $6 FOR UPDATE)"
		   " INSERT INTO order_mgmt.model_versions (name, version, trained_at, trained_by, options,"
		   " metrics, model) SELECT l.name, $2, pg_catalog.clock_timestamp(), $3, $4, $5, $7"
		   " FROM locked AS l",
	.nargs = 7,
	.types = {TEXTOID, INT8OID, TEXTOID, JSONBOID, JSONBOID, TIMESTAMPTZOID, BYTEAOID}};

static OmQuery old_query = {.sql =
								"SELECT v.name::text FROM order_mgmt.model_versions AS v GROUP BY 1"
								" HAVING max(v.trained_at) <= $1 ORDER BY 1",
							.nargs = 1,
							.types = {TIMESTAMPTZOID}};

static OmQuery deploy_query = {
	.sql = "UPDATE order_mgmt.model_definitions SET deployed = $2 WHERE name = $1",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery prune_query = {
	.sql = "DELETE FROM order_mgmt.model_versions AS v USING order_mgmt.model_definitions AS d"
		   " WHERE v.name = $1 AND d.name = $1 AND v.version IS DISTINCT FROM d.deployed"
		   " AND v.version < (SELECT max(n.version) FROM order_mgmt.model_versions AS n"
		   "  WHERE n.name = $1) - $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery delete_queries[] = {
	{.sql = "DELETE FROM order_mgmt.model_definitions WHERE name = $1",
	 .nargs = 1,
	 .types = {TEXTOID}},
	{.sql = "DELETE FROM order_mgmt.model_versions WHERE name = $1",
	 .nargs = 1,
	 .types = {TEXTOID}},
};

/* --- options -------------------------------------------------------------------------------------- */

static bool
get_value(Jsonb *options, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&options->root, key, strlen(key), value) != NULL &&
		   value->type != jbvNull;
}

static double
get_number(Jsonb *options, const char *key, double least, double most, double otherwise)
{
	JsonbValue value;
	double number;

	if (!get_value(options, key, &value))
		return otherwise;
	if (value.type == jbvNumeric)
	{
		number =
			DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
		if (number >= least && number <= most)
			return number;
	}
	om_dialect_raise(key, "is not a number in its range",
					 psprintf("From %.0f to %.0f.", least, most));
}

static int
get_count(Jsonb *options, const char *key, int least, int most, int otherwise)
{
	double number = get_number(options, key, least, most, otherwise);

	if (number != (int) number)
		om_dialect_raise(key, "is not a whole number", psprintf("From %d to %d.", least, most));
	return (int) number;
}

static bool
get_bool(Jsonb *options, const char *key, bool otherwise)
{
	JsonbValue value;

	if (!get_value(options, key, &value))
		return otherwise;
	if (value.type != jbvBool)
		om_dialect_raise(key, "is neither true nor false", "Write true or false.");
	return value.val.boolean;
}

static char *
get_model_name(Jsonb *options, const char *key)
{
	JsonbValue value;
	OmProblem problem;
	char *name;

	if (!get_value(options, key, &value))
		return NULL;
	if (value.type != jbvString)
		om_dialect_raise(key, "is not a string", "Write the name of a model.");
	name = pnstrdup(value.val.string.val, value.val.string.len);
	if (!om_request_check_id(key, name, OM_ID_MAX_CHARS, &problem))
		om_dialect_raise(key, "is not the name of a model", "Names have 1 to 64 characters.");
	return name;
}

void
om_model_options_parse(Jsonb *options, OmModelOptions *parsed)
{
	parsed->fallback = get_model_name(options, "fallback");
	parsed->log_sample = get_number(options, "log_sample", 0, 1, 0);
	parsed->max_rows_per_batch =
		get_count(options, "max_rows_per_batch", 1, MAX_ROWS_PER_BATCH, DEFAULT_ROWS_PER_BATCH);
	parsed->timeout_ms = get_count(options, "timeout_ms", 0, INT_MAX / 2, -1);
	parsed->auto_deploy = get_bool(options, "auto_deploy", true);
	parsed->keep_versions =
		get_count(options, "keep_versions", 0, MAX_KEEP_VERSIONS, DEFAULT_KEEP_VERSIONS);
}

/* What every model has; no kind gets to see it. */
static const char *const common_options[] = {"auto_deploy", "fallback",           "keep_versions",
											 "log_sample",  "max_rows_per_batch", "timeout_ms"};

Jsonb *
om_model_options_of_kind(Jsonb *options)
{
	Datum names[lengthof(common_options)];
	ArrayType *array;

	for (int i = 0; i < (int) lengthof(common_options); i++)
		names[i] = CStringGetTextDatum(common_options[i]);
	array = construct_array(names, lengthof(names), TEXTOID, -1, false, TYPALIGN_INT);
	return DatumGetJsonbP(
		DirectFunctionCall2(jsonb_delete_array, JsonbPGetDatum(options), PointerGetDatum(array)));
}

/* --- reading -------------------------------------------------------------------------------------- */

static HeapTuple
find_row(OmTable *table, const Datum *key)
{
	Snapshot snapshot;
	HeapTuple row;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	row = om_table_find(table, key, snapshot);
	UnregisterSnapshot(snapshot);
	return row;
}

static char *
get_text(OmTable *table, HeapTuple row, int column)
{
	return TextDatumGetCString(om_row_get_not_null(table, row, column));
}

OmModelRow *
om_modelrow_find(const char *name)
{
	OmTable *table = om_table_open(om_relation_get("model_definitions"), AccessShareLock);
	Datum key = CStringGetTextDatum(name);
	HeapTuple tuple = find_row(table, &key);
	OmModelRow *row = NULL;

	if (tuple != NULL)
	{
		bool isnull;
		Datum deployed = om_row_get(table, tuple, COLUMN_DEPLOYED, &isnull);

		row = palloc0(sizeof(OmModelRow));
		row->name = get_text(table, tuple, COLUMN_NAME);
		row->kind = get_text(table, tuple, COLUMN_KIND);
		row->options = DatumGetJsonbPCopy(om_row_get_not_null(table, tuple, COLUMN_OPTIONS));
		row->deployed = isnull ? OM_NOT_DEPLOYED : DatumGetInt64(deployed);
		row->created_at = DatumGetTimestampTz(om_row_get_not_null(table, tuple, COLUMN_CREATED_AT));
		row->changed_at = DatumGetTimestampTz(om_row_get_not_null(table, tuple, COLUMN_CHANGED_AT));
	}
	om_table_close(table);
	return row;
}

OmModelRow *
om_modelrow_require(const char *name)
{
	OmModelRow *row = om_modelrow_find(name);

	if (row == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no model \"%s\"", name),
						om_errdetail("model", name),
						errhint("SELECT name FROM order_mgmt.models lists them.")));
	return row;
}

OmModelRow *
om_modelrow_lock(const char *name)
{
	Datum arg = CStringGetTextDatum(name);
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(&lock_query, &arg, NULL);
	om_query_end(&scope);
	return om_modelrow_require(name);
}

bool
om_modelrow_find_version(const char *name, int64 version, TimestampTz *trained_at, bytea **model)
{
	OmTable *table = om_table_open(om_relation_get("model_versions"), AccessShareLock);
	Datum key[2] = {CStringGetTextDatum(name), Int64GetDatum(version)};
	HeapTuple row = find_row(table, key);

	if (row != NULL)
	{
		*trained_at =
			DatumGetTimestampTz(om_row_get_not_null(table, row, COLUMN_VERSION_TRAINED_AT));
		if (model != NULL)
			*model = DatumGetByteaPCopy(om_row_get_not_null(table, row, COLUMN_VERSION_MODEL));
	}
	om_table_close(table);
	return row != NULL;
}

List *
om_modelrow_list_old(int64 older_ms)
{
	Datum arg = TimestampTzGetDatum(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -older_ms));

	return om_query_list(&old_query, &arg, NULL, om_result_name);
}

int64
om_modelrow_newest(const char *name)
{
	OmTable *table = om_table_open(om_relation_get("model_versions"), AccessShareLock);
	Datum key = CStringGetTextDatum(name);
	Snapshot snapshot;
	HeapTuple row;
	int64 newest = 0;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	row = om_table_last(table, &key, 1, snapshot);
	if (row != NULL)
		newest = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_VERSION));
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return newest;
}

/* --- writing -------------------------------------------------------------------------------------- */

/* Runs a statement that changes models; returns the number of rows. */
static uint64
change(OmQuery *query, const Datum *args, const bool *isnull)
{
	Oid relid = om_relation_get("model_definitions");
	OmQueryScope scope;
	uint64 count;

	om_query_begin(&scope);
	count = om_query_run(query, args, isnull);
	om_query_end(&scope);
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
	return count;
}

static Datum
current_role(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
}

bool
om_modelrow_insert(const char *name, const char *kind, Jsonb *options, int64 deployed)
{
	Datum args[5] = {CStringGetTextDatum(name), CStringGetTextDatum(kind), JsonbPGetDatum(options),
					 Int64GetDatum(deployed), current_role()};
	bool isnull[5] = {false, false, false, deployed == OM_NOT_DEPLOYED, false};

	return change(&insert_query, args, isnull) > 0;
}

void
om_modelrow_set_options(const char *name, Jsonb *options)
{
	Datum args[2] = {CStringGetTextDatum(name), JsonbPGetDatum(options)};

	(void) change(&options_query, args, NULL);
}

void
om_modelrow_insert_version(const OmModelRow *row, int64 version, bytea *model, Jsonb *metrics)
{
	Datum args[7] = {CStringGetTextDatum(row->name),
					 Int64GetDatum(version),
					 current_role(),
					 JsonbPGetDatum(row->options),
					 metrics == NULL ? om_json_empty() : JsonbPGetDatum(metrics),
					 TimestampTzGetDatum(row->created_at),
					 PointerGetDatum(model)};

	if (change(&version_query, args, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND),
				 errmsg("model \"%s\" has been dropped while it was trained", row->name),
				 om_errdetail("model", row->name), errhint("Create it again, then train it.")));
}

void
om_modelrow_deploy(const char *name, int64 version)
{
	Datum args[2] = {CStringGetTextDatum(name), Int64GetDatum(version)};

	(void) change(&deploy_query, args, NULL);
}

void
om_modelrow_prune(const char *name, int keep)
{
	Datum args[2] = {CStringGetTextDatum(name), Int64GetDatum(keep)};

	(void) change(&prune_query, args, NULL);
}

bool
om_modelrow_delete(const char *name)
{
	Datum arg = CStringGetTextDatum(name);
	bool deleted = change(&delete_queries[0], &arg, NULL) > 0;

	(void) change(&delete_queries[1], &arg, NULL);
	return deleted;
}
