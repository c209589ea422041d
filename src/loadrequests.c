/*
 * loadrequests.c
 *		What clients ask for: loads, retries of refused rows, cancellations.
 *
 * A load is asked for by a row of "loads" that is queued.  All that a client does
 * to a load under way is to leave a row in "load_cancels", and to say so at its
 * commit: the worker then looks at the next commit of its own.  Rows of "loads"
 * are changed by who holds OM_LOCK_LOADER (loads.c), which a client takes only
 * where there is no worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "loadparts.h"
#include "loadrequests.h"
#include "locks.h"
#include "plans.h"
#include "settings.h"
#include "shared.h"
#include "wakeup.h"

/* ---------- new ones ---------- */

static OmQuery create_query = {
	.sql = "INSERT INTO order_mgmt.loads SELECT $6, $1, $2,"
		   " $3, $4, $5, 'queued', 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL,"
		   " pg_catalog.clock_timestamp(), NULL, pg_catalog.clock_timestamp()",
	.nargs = 6,
	.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID}};

static OmQuery new_id_query = {.sql = "SELECT pg_catalog.nextval('order_mgmt.load_ids')"};

static Datum
my_name(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
}

int64
om_loadrequest_new_id(void)
{
	return om_query_number(&new_id_query, NULL);
}

void
om_loadrequest_add(int64 load_id, OmLoadKind kind, OmLoadMode mode, const char *source,
				   Jsonb *options)
{
	Datum args[6] = {CStringGetTextDatum(om_load_kind_names[kind]),
					 CStringGetTextDatum(om_load_mode_names[mode]),
					 CStringGetTextDatum(source),
					 JsonbPGetDatum(options),
					 my_name(),
					 Int64GetDatum(load_id)};
	bool isnull[6] = {[1] = kind != OM_LOAD_ORDERS};
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(&create_query, args, isnull);
	om_query_end(&scope);
	om_wakeup_loads_at_commit();
	CommandCounterIncrement();
}

void
om_loadrequest_raise_not_found(int64 load_id)
{
	char *name = psprintf(INT64_FORMAT, load_id);

	ereport(ERROR,
			(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no load %s", name),
			 om_errdetail("load_id", name), errhint("SELECT * FROM order_mgmt.loads lists them.")));
}

/* ---------- cancellations ---------- */

static OmQuery find_query = {.sql = "SELECT status FROM order_mgmt.loads WHERE load_id = $1",
							 .nargs = 1,
							 .types = {INT8OID}};

static OmQuery cancel_query = {
	.sql = "INSERT INTO order_mgmt.load_cancels VALUES ($1, $2, pg_catalog.clock_timestamp())"
		   " ON CONFLICT DO NOTHING",
	.nargs = 2,
	.types = {INT8OID, TEXTOID}};

static OmQuery is_cancelled_query = {
	.sql = "SELECT load_id FROM order_mgmt.load_cancels WHERE load_id = $1",
	.nargs = 1,
	.types = {INT8OID}};

/* Those that wait for their turn, or were left by a worker that is no more. */
static OmQuery cancel_others_query = {
	.sql = "UPDATE order_mgmt.loads AS l SET status = 'cancelled', error_code = '57014',"
		   " error = 'cancelled by ' || c.requested_by,"
		   " updated_at = pg_catalog.clock_timestamp(),"
		   " finished_at = pg_catalog.clock_timestamp(), estimated_end = NULL"
		   " FROM order_mgmt.load_cancels AS c WHERE c.load_id = l.load_id AND l.load_id <> $1"
		   " AND l.status IN ('queued', 'reading', 'writing')",
	.nargs = 1,
	.types = {INT8OID}};

static OmQuery forget_cancels_query = {
	.sql = "DELETE FROM order_mgmt.load_cancels AS c USING order_mgmt.loads AS l"
		   " WHERE l.load_id = c.load_id AND l.status NOT IN ('queued', 'reading', 'writing')"};

void
om_loadrequest_cancel_others(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	OmQueryScope scope;

	om_query_begin(&scope);
	if (om_query_run(&cancel_others_query, &arg, NULL) > 0)
		om_wakeup_loads_at_commit();
	om_query_run(&forget_cancels_query, NULL, NULL);
	om_query_end(&scope);
}

bool
om_loadrequest_is_cancelled(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);

	return om_query_number(&is_cancelled_query, &arg) != 0;
}

/* The status that a client sees; NULL: there is no such load. */
static char *
find_status(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	char *status = NULL;
	OmQueryScope scope;

	om_query_begin(&scope);
	if (om_query_run(&find_query, &arg, NULL) > 0)
		status = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (status != NULL)
		status = strcpy(SPI_palloc(strlen(status) + 1), status);
	om_query_end(&scope);
	return status;
}

static bool
is_under_way(int64 load_id)
{
	char *status = find_status(load_id);

	if (status == NULL)
		om_loadrequest_raise_not_found(load_id);
	return !OM_LOAD_HAS_ENDED(
		om_names_find(om_load_status_names, OM_LOAD_STATUS_COUNT, status, strlen(status)));
}

bool
om_loadrequest_has_worker(void)
{
	return om_setting_workers && om_shared_my_database() != NULL;
}

/*
 * Where no worker is to do it the client does it, for itself.  Elsewhere it keeps
 * off the lock, which would keep the worker from starting until the client commits.
 */
bool
om_loadrequest_cancel(int64 load_id)
{
	Datum args[2] = {Int64GetDatum(load_id), my_name()};
	OmQueryScope scope;

	if (!is_under_way(load_id))
		return false;
	om_query_begin(&scope);
	om_query_run(&cancel_query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("loadrequests/cancel-asked");
	if (!om_loadrequest_has_worker() && om_lock_try(OM_LOCK_LOADER))
		om_loadrequest_cancel_others(0);
	om_wakeup_loads_at_commit();
	return true;
}

/* ---------- retries ---------- */

/*
 * The text of refused rows is in the encoding of the database and begins with
 * the header, whatever surrounded it in the file.  Where one row has several
 * errors it stands in the first.
 */
static OmQuery create_retry_query = {
	.sql = "INSERT INTO order_mgmt.loads SELECT n.id, l.kind, l.mode, 'retry:' || n.id,"
		   " l.options - 'dry_run' - 'max_errors' || pg_catalog.jsonb_build_object('skip_lines', "
		   "0, 'header', CASE WHEN"
		   "  l.header IS NULL THEN 0 ELSE 1 END, 'encoding', pg_catalog.getdatabaseencoding()), "
		   "$2, 'queued', 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0,"
		   " 0, l.load_id, pg_catalog.clock_timestamp(), NULL, pg_catalog.clock_timestamp()"
		   " FROM order_mgmt.loads AS l,"
		   " (SELECT pg_catalog.nextval('order_mgmt.load_ids') AS id) AS n"
		   " WHERE l.load_id = $1 RETURNING load_id",
	.nargs = 2,
	.types = {INT8OID, TEXTOID}};

static OmQuery keep_rows_query = {
	.sql = "INSERT INTO order_mgmt.load_parts SELECT $1, $3 + pg_catalog.sum("
		   "pg_catalog.octet_length(content)) OVER (ORDER BY part) - pg_catalog.octet_length("
		   "content), content FROM (SELECT part, pg_catalog.convert_to(pg_catalog.string_agg("
		   "raw || E'\\n', '' ORDER BY n), pg_catalog.getdatabaseencoding()) AS content FROM ("
		   "SELECT raw, n, (n - 1) / 500 AS part FROM ("
		   "SELECT raw, pg_catalog.row_number() OVER (ORDER BY row_no) AS n FROM ("
		   "SELECT DISTINCT ON (row_no) row_no, raw FROM order_mgmt.load_errors WHERE load_id = $2"
		   " AND raw IS NOT NULL ORDER BY row_no, error_no) AS e) AS r) AS g GROUP BY part) AS c",
	.nargs = 3,
	.types = {INT8OID, INT8OID, INT8OID}};

static OmQuery keep_header_query = {
	.sql = "INSERT INTO order_mgmt.load_parts SELECT $1, 0, pg_catalog.convert_to(header || E'\\n',"
		   " pg_catalog.getdatabaseencoding()) FROM order_mgmt.loads WHERE load_id = $2"
		   " AND header IS NOT NULL",
	.nargs = 2,
	.types = {INT8OID, INT8OID}};

static OmQuery inexact_query = {
	.sql = "SELECT count(*) FROM order_mgmt.load_errors WHERE load_id = $1 AND raw IS NOT NULL"
		   " AND NOT raw_is_exact",
	.nargs = 1,
	.types = {INT8OID}};

static void
refuse_retry(int64 load_id, const char *message, const char *hint)
{
	char *name = psprintf(INT64_FORMAT, load_id);

	ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg(message, name), om_errdetail("load_id", name),
					errhint("%s", hint)));
}

/* The refused rows as the file had them. */
static void
keep_rows(int64 load_id, int64 retry_of)
{
	Datum args[3] = {Int64GetDatum(load_id), Int64GetDatum(retry_of)};
	OmQueryScope scope;
	uint64 count;

	if (om_query_number(&inexact_query, &args[1]) > 0)
		refuse_retry(retry_of, "load %s has refused rows that are not kept as the file had them",
					 "Give the rows as csv: rejected_csv() shows them.");
	om_query_begin(&scope);
	om_query_run(&keep_header_query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	args[2] = Int64GetDatum(om_parts_size(load_id));
	om_query_begin(&scope);
	count = om_query_run(&keep_rows_query, args, NULL);
	om_query_end(&scope);
	if (count == 0)
		refuse_retry(retry_of, "load %s has refused no rows", "There is nothing to try again.");
}

int64
om_loadrequest_retry(int64 load_id, const char *csv)
{
	Datum args[2] = {Int64GetDatum(load_id), my_name()};
	int64 retry_id;

	if (is_under_way(load_id))
		refuse_retry(load_id, "load %s has not ended", "Wait for it with wait_for_load().");
	retry_id = om_query_number(&create_retry_query, args);
	if (csv != NULL)
		om_parts_append(retry_id, 0, csv, strlen(csv));
	else
		keep_rows(retry_id, load_id);
	om_wakeup_loads_at_commit();
	CommandCounterIncrement();
	return retry_id;
}
