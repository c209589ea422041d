/*
 * api_loads.c
 *		Loads of CSV files: asked for, waited for, ended, tried again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/large_object.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "loader.h"
#include "loadoptions.h"
#include "loadprofiles.h"
#include "loadrequests.h"
#include "loads.h"
#include "plans.h"
#include "relations.h"
#include "shared.h"
#include "staging.h"
#include "uploads.h"

#define POLL_MS 20 /* where nobody can wake who waits */
#define CHECK_MS 1000
#define ROWS_AT_A_TIME 1000

/* Set up, and by a version that knows loads; else OM006. */
static void
require_tables(void)
{
	(void) om_installation_get();
	(void) om_relation_get("loads");
}

static void
begin_write(const char *function)
{
	om_api_begin_write(function);
	require_tables();
}

/* ---------- asking for a load ---------- */

/* The loader may read any.  One that is not there is for the engine to find. */
static void
require_read_large_object(Oid id)
{
	if (lo_compat_privileges || !LargeObjectExists(id) ||
		pg_largeobject_aclcheck_snapshot(id, GetUserId(), ACL_SELECT, NULL) == ACLCHECK_OK)
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for large object %u", id),
					errhint("Its owner can GRANT SELECT ON LARGE OBJECT %u.", id)));
}

/* What the engine finds there is for the engine to say. */
static void
check_source(const char *source)
{
	const char *rest;

	if (source[0] == '/')
		om_arg_require_server_files("load");
	else if ((rest = om_arg_behind(source, "lo:")) != NULL)
		require_read_large_object(om_arg_large_object_id(rest));
	else if (om_arg_behind(source, "retry:") != NULL)
		om_arg_raise("source", "is a retry, which retry_load() begins");
	else if (strcmp(source, "staged") != 0)
		om_arg_raise("source", "is none: give a path that begins with /, upload:UUID, lo:OID or "
							   "staged");
}

/* An upload says itself how it is to be loaded. */
static int64
load_upload(OmLoadKind kind, OmLoadMode mode, const pg_uuid_t *upload_id, Jsonb *options)
{
	OmUpload *upload = om_upload_lock(upload_id);

	if (upload->kind != kind)
		om_arg_raise("source", psprintf("is an upload of %s", om_load_kind_names[upload->kind]));
	if (kind == OM_LOAD_ORDERS && upload->mode != mode)
		om_arg_raise("mode", psprintf("is not that of the upload, which is %s",
									  om_load_mode_names[upload->mode]));
	if (JB_ROOT_COUNT(options) > 0)
		om_arg_raise("options", "of an upload are those given to create_upload()");
	if (om_upload_load(upload))
		om_loader_run_without_worker(upload->load_id);
	return upload->load_id;
}

static int64
load_staged(OmLoadKind kind, OmLoadMode mode, Jsonb *options)
{
	int64 load_id = om_loadrequest_new_id();

	if (kind != OM_LOAD_ORDERS)
		om_arg_raise("source", "is staged, which is for orders only");
	om_loadrequest_add(load_id, kind, mode, "staged", om_staging_options(options));
	if (om_staging_take(load_id) == 0)
		ereport(NOTICE,
				(errcode(ERRCODE_NO_DATA),
				 errmsg("role \"%s\" has staged no rows", GetUserNameFromId(GetUserId(), false)),
				 errhint("COPY order_mgmt.order_staging FROM STDIN as the same role.")));
	return load_id;
}

static int64
load_source(OmLoadKind kind, OmLoadMode mode, const char *source, Jsonb *options)
{
	int64 load_id;

	check_source(source);
	if (strcmp(source, "staged") == 0)
		return load_staged(kind, mode, options);
	load_id = om_loadrequest_new_id();
	om_loadrequest_add(load_id, kind, mode, source, options);
	return load_id;
}

static int64
ask_for_load(FunctionCallInfo fcinfo, OmLoadKind kind, OmLoadMode mode, int options_at)
{
	char *source = om_arg_required_text(fcinfo, 0, "source");
	Jsonb *options = om_arg_object(fcinfo, options_at, "options");
	const char *upload_id = om_arg_behind(source, "upload:");
	OmLoadOptions parsed;
	int64 load_id;

	om_arg_require(fcinfo, options_at, "options");
	begin_write(psprintf("load_%s_csv()", om_load_kind_names[kind]));
	if (upload_id != NULL)
		return load_upload(kind, mode, om_arg_upload_id(upload_id), options);
	options = om_load_profile_apply(options);
	om_load_options_parse(&parsed, kind, mode, options);
	load_id = load_source(kind, mode, source, options);
	om_loader_run_without_worker(load_id);
	return load_id;
}

/* load_orders_csv(source, mode, options) → bigint */
OM_FUNCTION(om_load_orders_csv)
{
	char *word = om_arg_required_text(fcinfo, 1, "mode");
	int mode = om_names_find(om_load_mode_names, OM_LOAD_MODE_COUNT, word, strlen(word));

	if (mode < 0)
		om_arg_raise("mode", "is neither capture nor history");
	PG_RETURN_INT64(ask_for_load(fcinfo, OM_LOAD_ORDERS, mode, 2));
}

/* load_accounts_csv(source, options) → bigint */
OM_FUNCTION(om_load_accounts_csv)
{
	PG_RETURN_INT64(ask_for_load(fcinfo, OM_LOAD_ACCOUNTS, OM_LOAD_CAPTURE, 1));
}

/* load_products_csv(source, options) → bigint */
OM_FUNCTION(om_load_products_csv)
{
	PG_RETURN_INT64(ask_for_load(fcinfo, OM_LOAD_PRODUCTS, OM_LOAD_CAPTURE, 1));
}

/* load_stock_csv(source, options) → bigint */
OM_FUNCTION(om_load_stock_csv)
{
	PG_RETURN_INT64(ask_for_load(fcinfo, OM_LOAD_STOCK, OM_LOAD_CAPTURE, 1));
}

/* ---------- waiting ---------- */

static OmQuery row_query = {
	.sql = "SELECT"
		   " load_id, kind, mode, source, options, started_by, status, bytes_total,"
		   " bytes_read, rows_read, rows_loaded, rows_rejected, rows_skipped,"
		   " orders_loaded, orders_skipped, errors, sha256, retry_of, created_at,"
		   " started_at, updated_at, finished_at, rows_per_second, estimated_end,"
		   " error_code, error"
		   " FROM order_mgmt.loads WHERE load_id = $1",
	.nargs = 1,
	.types = {INT8OID}};

typedef struct Glance
{
	bool has_ended;
	bool is_own; /* of this transaction, which has not committed */
} Glance;

static OmQuery glance_query = {.sql = "SELECT status IN ('done', 'failed', 'cancelled'), xmin"
									  " FROM order_mgmt.loads WHERE load_id = $1",
							   .nargs = 1,
							   .types = {INT8OID}};

static Glance
glance_at(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	Glance glance;
	OmQueryScope scope;
	bool isnull;

	om_query_begin(&scope);
	if (om_query_run(&glance_query, &arg, NULL) == 0)
		om_loadrequest_raise_not_found(load_id);
	glance.has_ended = DatumGetBool(om_result_get(0, 1, &isnull));
	glance.is_own =
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(om_result_get(0, 2, &isnull)));
	om_query_end(&scope);
	return glance;
}

static void
refuse_hopeless_wait(Glance glance)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ a load is never seen to change"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Wait in READ COMMITTED, or in a transaction of its own.")));
	if (glance.is_own)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the load belongs to this transaction, which has not committed"),
						om_errdetail("transaction", "open"),
						errhint("Commit first; nobody else can see the load before.")));
}

static void
sleep_until_changed(OmDatabase *database, long timeout)
{
	if (database != NULL)
	{
		(void) ConditionVariableTimedSleep(&database->loaded, Min(timeout, CHECK_MS),
										   PG_WAIT_EXTENSION);
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(timeout, POLL_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* Looking at the row may itself sleep on other conditions; so each sleep is prepared anew. */
static void
wait_for_end(int64 load_id, TimestampTz deadline)
{
	OmDatabase *database = om_shared_my_database();

	for (;;)
	{
		uint32 changes =
			database == NULL ? 0 : pg_atomic_read_u32(&database->jobs[OM_JOB_LOADS].changes);
		Glance glance = glance_at(load_id);
		TimestampTz now = GetCurrentTimestamp();

		if (glance.has_ended || now >= deadline)
			return;
		refuse_hopeless_wait(glance);
		CHECK_FOR_INTERRUPTS();
		if (database != NULL)
			ConditionVariablePrepareToSleep(&database->loaded);
		if (database == NULL ||
			pg_atomic_read_u32(&database->jobs[OM_JOB_LOADS].changes) == changes)
			sleep_until_changed(database, TimestampDifferenceMilliseconds(now, deadline) + 1);
		ConditionVariableCancelSleep();
	}
}

/* wait_for_load(load_id, timeout) → load */
OM_FUNCTION(om_wait_for_load)
{
	int64 timeout = om_arg_milliseconds(fcinfo, 1, "timeout");
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	Datum load_id;

	om_arg_require(fcinfo, 0, "load_id");
	load_id = PG_GETARG_DATUM(0);
	require_tables();
	wait_for_end(DatumGetInt64(load_id), deadline);
	return om_query_return_row(fcinfo, &row_query, &load_id, NULL);
}

/* ---------- afterwards ---------- */

/* cancel_load(load_id) → boolean */
OM_FUNCTION(om_cancel_load)
{
	om_arg_require(fcinfo, 0, "load_id");
	begin_write("cancel_load()");
	PG_RETURN_BOOL(om_loadrequest_cancel(PG_GETARG_INT64(0)));
}

/* retry_load(load_id, csv) → bigint */
OM_FUNCTION(om_retry_load)
{
	char *csv = om_arg_text(fcinfo, 1);
	int64 load_id;

	om_arg_require(fcinfo, 0, "load_id");
	begin_write("retry_load()");
	if (csv != NULL && *csv == '\0')
		om_arg_raise("csv", "is empty");
	load_id = om_loadrequest_retry(PG_GETARG_INT64(0), csv);
	om_loader_run_without_worker(load_id);
	PG_RETURN_INT64(load_id);
}

/* The header, which is not there where the file has none, and each row once. */
static const char *const rejected_sql =
	"SELECT line, is_exact FROM (SELECT 0::bigint, header, true FROM order_mgmt.loads"
	" WHERE load_id = $1 AND header IS NOT NULL UNION ALL (SELECT DISTINCT ON (row_no) row_no, raw,"
	" raw_is_exact FROM order_mgmt.load_errors WHERE load_id = $1 AND raw IS NOT NULL"
	" ORDER BY row_no, error_no)) AS r (row_no, line, is_exact) ORDER BY row_no";

/* Puts a portion of the rows into the result; returns how many of them are not exact. */
static int64
put_rows(ReturnSetInfo *result)
{
	int64 inexact = 0;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Datum line = om_result_get(i, 1, &isnull);

		inexact += !DatumGetBool(om_result_get(i, 2, &isnull));
		isnull = false;
		tuplestore_putvalues(result->setResult, result->setDesc, &line, &isnull);
	}
	return inexact;
}

/* Portion by portion: a file may have been refused as a whole. */
static int64
put_rejected(ReturnSetInfo *result, Datum load_id)
{
	Oid type = INT8OID;
	int64 inexact = 0;
	OmQueryScope scope;
	Portal cursor;

	om_query_begin(&scope);
	cursor = SPI_cursor_open_with_args(NULL, rejected_sql, 1, &type, &load_id, NULL,
									   true /* read_only */, 0);
	do
	{
		SPI_cursor_fetch(cursor, true /* forward */, ROWS_AT_A_TIME);
		inexact += put_rows(result);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(cursor);
	om_query_end(&scope);
	return inexact;
}

/* rejected_csv(load_id) → SETOF text */
OM_FUNCTION(om_rejected_csv)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 inexact;

	om_arg_require(fcinfo, 0, "load_id");
	require_tables();
	(void) glance_at(PG_GETARG_INT64(0));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	inexact = put_rejected(result, PG_GETARG_DATUM(0));
	if (inexact > 0)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("rows are not given as the file had them: " INT64_FORMAT, inexact),
				 errdetail("They were longer than %d bytes, or not valid in their encoding.",
						   OM_LOAD_RAW_MAX)));
	return (Datum) 0;
}
