/*
 * loads.c
 *		The rows of "loads", and of the tables about them.
 *
 * Rows of "loads" are written by whoever holds OM_LOCK_LOADER: the worker that
 * runs loads holds it as long as it lives, a client that runs or cancels one
 * while there is no such worker, to the end of its transaction.  All that a
 * client does to a load under way is to leave a row in "load_cancels", and to
 * say so at its commit: the worker then looks at the next commit of its own.
 *
 * The row of a load that runs is written with every batch, in the transaction
 * of that batch: it tells how far the load is, and from where it goes on.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "loadparts.h"
#include "loads.h"
#include "locks.h"
#include "plans.h"
#include "relations.h"
#include "settings.h"
#include "shared.h"
#include "tables.h"
#include "wakeup.h"

/* The columns of "loads", in their order. */
typedef enum LoadColumn
{
	LOAD_ID,
	LOAD_KIND,
	LOAD_MODE,
	LOAD_SOURCE,
	LOAD_OPTIONS,
	LOAD_STARTED_BY,
	LOAD_STATUS,
	LOAD_BYTES_TOTAL,
	LOAD_BYTES_READ,
	LOAD_ROWS_READ,
	LOAD_ROWS_LOADED,
	LOAD_ROWS_REJECTED,
	LOAD_ROWS_SKIPPED,
	LOAD_ORDERS_LOADED,
	LOAD_ORDERS_SKIPPED,
	LOAD_ERRORS,
	LOAD_SHA256,
	LOAD_DONE_RECORDS,
	LOAD_DONE_SORTED,
	LOAD_RETRY_OF,
	LOAD_CREATED_AT,
	LOAD_STARTED_AT,
	LOAD_UPDATED_AT,
	LOAD_FINISHED_AT,
	LOAD_ROWS_PER_SECOND,
	LOAD_ESTIMATED_END,
	LOAD_ERROR_CODE,
	LOAD_ERROR,
	LOAD_HEADER
} LoadColumn;

#define LOAD_COLUMNS (LOAD_HEADER + 1)
#define ERROR_COLUMNS 9

/* ---------- adding and reading ---------- */

static OmQuery create_query = {
	.sql = "INSERT INTO order_mgmt.loads SELECT $6, $1, $2,"
		   " $3, $4, $5, 'queued', 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL,"
		   " pg_catalog.clock_timestamp(), NULL, pg_catalog.clock_timestamp()",
	.nargs = 6,
	.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID}};

static OmQuery new_id_query = {.sql = "SELECT pg_catalog.nextval('order_mgmt.load_ids')"};

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

/* Not by id: an upload has that of its load long before it is asked for. */
static OmQuery next_query = {
	.sql = "SELECT load_id FROM order_mgmt.loads WHERE status IN ('queued', 'reading', 'writing')"
		   " ORDER BY created_at, load_id LIMIT 1"};

/* The number in the first column of the only row of a result; 0: there is none. */
static int64
ask_for_number(OmQuery *query, const Datum *args, const bool *isnull)
{
	OmQueryScope scope;
	bool is_missing = true;
	Datum value = (Datum) 0;

	om_query_begin(&scope);
	if (om_query_run(query, args, isnull) > 0)
		value = om_result_get(0, 1, &is_missing);
	om_query_end(&scope);
	return is_missing ? 0 : DatumGetInt64(value);
}

static Datum
my_name(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
}

int64
om_load_new_id(void)
{
	return ask_for_number(&new_id_query, NULL, NULL);
}

void
om_load_create(int64 load_id, OmLoadKind kind, OmLoadMode mode, const char *source, Jsonb *options)
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
om_load_raise_not_found(int64 load_id)
{
	char *name = psprintf(INT64_FORMAT, load_id);

	ereport(ERROR,
			(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no load %s", name),
			 om_errdetail("load_id", name), errhint("SELECT * FROM order_mgmt.loads lists them.")));
}

static OmTable *
open_loads(LOCKMODE lockmode)
{
	return om_table_open(om_relation_get("loads"), lockmode);
}

static char *
get_text(OmTable *table, HeapTuple row, LoadColumn column)
{
	bool isnull;
	Datum value = om_row_get(table, row, column + 1, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

/* 0 stands for NULL. */
static int64
get_int64(OmTable *table, HeapTuple row, LoadColumn column)
{
	bool isnull;
	Datum value = om_row_get(table, row, column + 1, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

static int
get_word(OmTable *table, HeapTuple row, LoadColumn column, const char *const *words, int count)
{
	char *word = get_text(table, row, column);

	return word == NULL ? 0 : Max(om_names_find(words, count, word, strlen(word)), 0);
}

static void
read_request(OmLoad *load, OmTable *table, HeapTuple row)
{
	load->load_id = get_int64(table, row, LOAD_ID);
	load->kind = get_word(table, row, LOAD_KIND, om_load_kind_names, OM_LOAD_KIND_COUNT);
	load->mode = get_word(table, row, LOAD_MODE, om_load_mode_names, OM_LOAD_MODE_COUNT);
	load->source = get_text(table, row, LOAD_SOURCE);
	load->options = DatumGetJsonbPCopy(om_row_get_not_null(table, row, LOAD_OPTIONS + 1));
	load->started_by = get_text(table, row, LOAD_STARTED_BY);
	load->retry_of = get_int64(table, row, LOAD_RETRY_OF);
	load->created_at = get_int64(table, row, LOAD_CREATED_AT);
}

static void
read_sha256(OmLoad *load, OmTable *table, HeapTuple row)
{
	bool isnull;
	Datum value = om_row_get(table, row, LOAD_SHA256 + 1, &isnull);
	bytea *sha256 = isnull ? NULL : DatumGetByteaPP(value);

	load->has_sha256 = sha256 != NULL && VARSIZE_ANY_EXHDR(sha256) == OM_SHA256_SIZE;
	if (load->has_sha256)
		memcpy(load->sha256, VARDATA_ANY(sha256), OM_SHA256_SIZE);
}

static void
read_progress(OmLoad *load, OmTable *table, HeapTuple row)
{
	load->status = get_word(table, row, LOAD_STATUS, om_load_status_names, OM_LOAD_STATUS_COUNT);
	load->bytes_total = get_int64(table, row, LOAD_BYTES_TOTAL);
	load->bytes_read = get_int64(table, row, LOAD_BYTES_READ);
	load->rows_read = get_int64(table, row, LOAD_ROWS_READ);
	load->rows_loaded = get_int64(table, row, LOAD_ROWS_LOADED);
	load->rows_rejected = get_int64(table, row, LOAD_ROWS_REJECTED);
	load->rows_skipped = get_int64(table, row, LOAD_ROWS_SKIPPED);
	load->orders_loaded = get_int64(table, row, LOAD_ORDERS_LOADED);
	load->orders_skipped = get_int64(table, row, LOAD_ORDERS_SKIPPED);
	load->errors = get_int64(table, row, LOAD_ERRORS);
	load->done_records = get_int64(table, row, LOAD_DONE_RECORDS);
	load->done_sorted = get_int64(table, row, LOAD_DONE_SORTED);
	load->started_at = get_int64(table, row, LOAD_STARTED_AT);
	load->updated_at = get_int64(table, row, LOAD_UPDATED_AT);
	load->finished_at = get_int64(table, row, LOAD_FINISHED_AT);
	load->header = get_text(table, row, LOAD_HEADER);
	load->header_saved = load->header != NULL;
	load->progress = -1;
}

OmLoad *
om_load_get(int64 load_id)
{
	OmTable *table = open_loads(AccessShareLock);
	Datum key = Int64GetDatum(load_id);
	HeapTuple row = om_table_find(table, &key, om_current_snapshot());
	OmLoad *load = NULL;

	if (row != NULL)
	{
		MemoryContext context =
			AllocSetContextCreate(CurrentMemoryContext, "order_mgmt load", ALLOCSET_DEFAULT_SIZES);
		MemoryContext caller = MemoryContextSwitchTo(context);

		load = palloc0(sizeof(OmLoad));
		load->context = context;
		read_request(load, table, row);
		read_progress(load, table, row);
		read_sha256(load, table, row);
		MemoryContextSwitchTo(caller);
		heap_freetuple(row);
	}
	om_table_close(table);
	return load;
}

OmLoad *
om_load_next(void)
{
	int64 load_id = ask_for_number(&next_query, NULL, NULL);

	return load_id == 0 ? NULL : om_load_get(load_id);
}

bool
om_load_is_waiting(void)
{
	return OidIsValid(om_relation_find("loads")) && ask_for_number(&next_query, NULL, NULL) != 0;
}

/* ---------- refused rows ---------- */

/* Bytes that are none of the encoding become question marks; true when there were any. */
static bool
mend_encoding(char *text, Size size)
{
	int encoding = GetDatabaseEncoding();
	bool mended = false;
	Size valid = 0;

	for (;;)
	{
		valid += pg_encoding_verifymbstr(encoding, text + valid, (int) (size - valid));
		if (valid >= size)
			return mended;
		text[valid++] = '?';
		mended = true;
	}
}

/* What is kept of a record; *exact: that is all of it. */
static Datum
make_raw(const char *raw, Size size, bool *exact)
{
	Size kept = Min(size, OM_LOAD_RAW_MAX);
	char *copy = pnstrdup(raw, 0);
	text *result;

	copy = repalloc(copy, kept + 1);
	memcpy(copy, raw, kept);
	copy[kept] = '\0';
	/* Mended before it is cut between characters: the bytes in front of the cut may be anything. */
	*exact = !mend_encoding(copy, kept) && kept == size;
	result = cstring_to_text_with_len(copy, kept);
	pfree(copy);
	return PointerGetDatum(result);
}

void
om_load_error(OmLoad *load, int64 row_no, int64 line_no, const char *column, int sqlstate,
			  const char *message, OmLoadRaw raw)
{
	Datum values[ERROR_COLUMNS];
	bool isnull[ERROR_COLUMNS] = {false, false, row_no == 0,      line_no == 0, column == NULL,
								  false, false, raw.text == NULL, false};
	bool exact = false;

	if (load->error_table == NULL)
		load->error_table = om_table_open(om_relation_get("load_errors"), RowExclusiveLock);
	values[0] = Int64GetDatum(load->load_id);
	values[1] = Int64GetDatum(++load->errors);
	values[2] = Int64GetDatum(row_no);
	values[3] = Int64GetDatum(line_no);
	values[4] = column == NULL ? (Datum) 0 : CStringGetTextDatum(column);
	values[5] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[6] = CStringGetTextDatum(message);
	values[7] = raw.text == NULL ? (Datum) 0 : make_raw(raw.text, raw.size, &exact);
	values[8] = BoolGetDatum(exact && raw.is_exact);
	om_table_insert_later(load->error_table, values, isnull, ERROR_COLUMNS);
	for (int i = 4; i <= 7; i++)
	{
		if (!isnull[i])
			pfree(DatumGetPointer(values[i]));
	}
}

static void
flush_errors(OmLoad *load)
{
	if (load->error_table == NULL)
		return;
	om_table_close(load->error_table);
	load->error_table = NULL;
}

/* ---------- how far it is ---------- */

int64
om_load_rows_done(const OmLoad *load)
{
	return load->rows_loaded + load->rows_rejected + load->rows_skipped;
}

static double
seconds_since(TimestampTz since, TimestampTz now)
{
	return Max(now - since, 1) / (double) USECS_PER_SEC;
}

/* Of the present status; below 0: not known. */
static double
share_done(const OmLoad *load)
{
	if (load->progress >= 0)
		return Min(load->progress, 1);
	if (load->status == OM_LOAD_READING && load->bytes_total > 0)
		return Min((double) load->bytes_read / load->bytes_total, 1);
	return -1;
}

static void
estimate_end(OmLoad *load, double share, TimestampTz now)
{
	double remaining;

	if (load->stage != load->status || share < load->stage_progress)
	{
		load->stage = load->status;
		load->stage_since = now;
		load->stage_progress = Max(share, 0);
	}
	load->estimated_end = 0;
	if (share <= load->stage_progress || OM_LOAD_HAS_ENDED(load->status))
		return;
	remaining =
		(1 - share) / (share - load->stage_progress) * seconds_since(load->stage_since, now);
	if (remaining < SECS_PER_YEAR)
		load->estimated_end = now + (TimestampTz) (remaining * USECS_PER_SEC);
}

static void
measure(OmLoad *load, TimestampTz now)
{
	bool has_ended = OM_LOAD_HAS_ENDED(load->status);
	TimestampTz since = has_ended ? load->started_at : load->run_since;
	int64 rows = om_load_rows_done(load) - (has_ended ? 0 : load->run_rows);

	load->rows_per_second = rows > 0 && since != 0 ? rows / seconds_since(since, now) : 0;
	estimate_end(load, share_done(load), now);
}

/* To those who look at pg_stat_activity; a client keeps its statement there. */
static void
tell(const OmLoad *load)
{
	double share = share_done(load);
	char text[128];
	int length;

	if (load->in_caller)
		return;
	length = snprintf(text, sizeof(text), "load " INT64_FORMAT ": %s, " INT64_FORMAT " rows",
					  load->load_id, om_load_status_names[load->status],
					  load->status == OM_LOAD_READING ? load->rows_read : om_load_rows_done(load));
	if (share >= 0)
		snprintf(text + length, sizeof(text) - length, ", %d %%", (int) (share * 100));
	pgstat_report_activity(STATE_RUNNING, text);
}

/* One column of the row that om_load_save() writes. */
typedef struct LoadRow
{
	Datum values[LOAD_COLUMNS];
	bool isnull[LOAD_COLUMNS];
	bool replace[LOAD_COLUMNS];
} LoadRow;

static void
set_column(LoadRow *row, LoadColumn column, Datum value, bool isnull)
{
	row->values[column] = value;
	row->isnull[column] = isnull;
	row->replace[column] = true;
}

static void
set_count(LoadRow *row, LoadColumn column, int64 value)
{
	set_column(row, column, Int64GetDatum(value), false);
}

static void
set_time(LoadRow *row, LoadColumn column, TimestampTz at)
{
	set_column(row, column, TimestampTzGetDatum(at), at == 0);
}

static void
set_text(LoadRow *row, LoadColumn column, const char *text)
{
	set_column(row, column, text == NULL ? (Datum) 0 : CStringGetTextDatum(text), text == NULL);
}

static void
set_sha256(LoadRow *row, const OmLoad *load)
{
	bytea *sha256 = palloc(VARHDRSZ + OM_SHA256_SIZE);

	SET_VARSIZE(sha256, VARHDRSZ + OM_SHA256_SIZE);
	memcpy(VARDATA(sha256), load->sha256, OM_SHA256_SIZE);
	set_column(row, LOAD_SHA256, PointerGetDatum(sha256), !load->has_sha256);
}

static void
fill_row(LoadRow *row, const OmLoad *load)
{
	set_text(row, LOAD_STATUS, om_load_status_names[load->status]);
	set_count(row, LOAD_BYTES_TOTAL, load->bytes_total);
	set_count(row, LOAD_BYTES_READ, load->bytes_read);
	set_count(row, LOAD_ROWS_READ, load->rows_read);
	set_count(row, LOAD_ROWS_LOADED, load->rows_loaded);
	set_count(row, LOAD_ROWS_REJECTED, load->rows_rejected);
	set_count(row, LOAD_ROWS_SKIPPED, load->rows_skipped);
	set_count(row, LOAD_ORDERS_LOADED, load->orders_loaded);
	set_count(row, LOAD_ORDERS_SKIPPED, load->orders_skipped);
	set_count(row, LOAD_ERRORS, load->errors);
	set_count(row, LOAD_DONE_RECORDS, load->done_records);
	set_count(row, LOAD_DONE_SORTED, load->done_sorted);
	set_sha256(row, load);
	set_time(row, LOAD_STARTED_AT, load->started_at);
	set_time(row, LOAD_UPDATED_AT, load->updated_at);
	set_time(row, LOAD_FINISHED_AT, load->finished_at);
	set_time(row, LOAD_ESTIMATED_END, load->estimated_end);
	set_column(row, LOAD_ROWS_PER_SECOND, Float8GetDatum(load->rows_per_second),
			   load->rows_per_second == 0);
	/* It may be long, and never changes. */
	if (load->header != NULL && !load->header_saved)
		set_text(row, LOAD_HEADER, load->header);
}

static void
write_row(const OmLoad *load, const ErrorData *error)
{
	MemoryContext scratch =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt load row", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	OmTable *table = open_loads(RowExclusiveLock);
	Datum key = Int64GetDatum(load->load_id);
	HeapTuple old = om_table_lock(table, &key);
	LoadRow row = {0};

	if (old == NULL)
		om_load_raise_not_found(load->load_id);
	fill_row(&row, load);
	if (error != NULL)
	{
		set_text(&row, LOAD_ERROR_CODE, unpack_sql_state(error->sqlerrcode));
		set_text(&row, LOAD_ERROR,
				 error->hint == NULL ? error->message
									 : psprintf("%s\nHINT: %s", error->message, error->hint));
	}
	om_table_update(table, old, row.values, row.isnull, row.replace, LOAD_COLUMNS);
	om_table_close(table);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

static void
save(OmLoad *load, const ErrorData *error)
{
	load->updated_at = GetCurrentTimestamp();
	if (OM_LOAD_HAS_ENDED(load->status))
		load->finished_at = load->updated_at;
	measure(load, load->updated_at);
	write_row(load, error);
	load->header_saved = load->header != NULL;
	tell(load);
}

void
om_load_save(OmLoad *load)
{
	save(load, NULL);
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

/* All requests but those for one load, which runs. */
static void
cancel_others(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	OmQueryScope scope;

	om_query_begin(&scope);
	if (om_query_run(&cancel_others_query, &arg, NULL) > 0)
		om_wakeup_loads_at_commit();
	om_query_run(&forget_cancels_query, NULL, NULL);
	om_query_end(&scope);
}

void
om_load_cancel_requested(void)
{
	cancel_others(0);
}

/* Somebody may have asked since the last look. */
static void
obey_requests(OmLoad *load)
{
	OmDatabase *entry = om_shared_my_database();
	Datum arg = Int64GetDatum(load->load_id);
	uint32 requests;

	if (entry == NULL || load->in_caller)
		return;
	requests = pg_atomic_read_u32(&entry->jobs[OM_JOB_LOADS].changes);
	if (requests == load->seen_requests)
		return;
	load->seen_requests = requests;
	cancel_others(load->load_id);
	if (ask_for_number(&is_cancelled_query, &arg, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("load " INT64_FORMAT " is cancelled by a user's request", load->load_id)));
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
		om_load_raise_not_found(load_id);
	return !OM_LOAD_HAS_ENDED(
		om_names_find(om_load_status_names, OM_LOAD_STATUS_COUNT, status, strlen(status)));
}

bool
om_load_has_worker(void)
{
	return om_setting_workers && om_shared_my_database() != NULL;
}

/*
 * Where no worker is to do it the client does it, for itself.  Elsewhere it keeps
 * off the lock, which would keep the worker from starting until the client commits.
 */
bool
om_load_cancel(int64 load_id)
{
	Datum args[2] = {Int64GetDatum(load_id), my_name()};
	OmQueryScope scope;

	if (!is_under_way(load_id))
		return false;
	om_query_begin(&scope);
	om_query_run(&cancel_query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("loads/cancel-asked");
	if (!om_load_has_worker() && om_lock_try(OM_LOCK_LOADER))
		cancel_others(0);
	om_wakeup_loads_at_commit();
	return true;
}

/* ---------- running ---------- */

void
om_load_commit(OmLoad *load)
{
	MemoryContext caller = CurrentMemoryContext;

	flush_errors(load);
	om_load_save(load);
	if (!load->in_caller)
	{
		OM_FAULT_POINT("loads/before-commit");
		om_bgsession_commit(true /* durable */);
		OM_FAULT_POINT("loads/after-commit");
		load->between(load);
		om_bgsession_begin();
		MemoryContextSwitchTo(caller);
	}
	CHECK_FOR_INTERRUPTS();
	obey_requests(load);
}

void
om_load_begin(OmLoad *load)
{
	OmDatabase *entry = om_shared_my_database();

	load->run_since = load->stage_since = GetCurrentTimestamp();
	load->run_rows = om_load_rows_done(load);
	load->stage = load->status;
	if (load->started_at == 0)
		load->started_at = load->run_since;
	if (load->status == OM_LOAD_QUEUED)
		load->status = OM_LOAD_READING;
	if (entry != NULL)
		load->seen_requests =
			pg_atomic_read_u32(&entry->jobs[OM_JOB_LOADS].changes) - 1; /* to look first of all */
	om_load_commit(load);
}

void
om_load_finish(OmLoad *load)
{
	flush_errors(load);
	load->status = OM_LOAD_DONE;
	om_load_save(load);
	om_parts_forget(load->load_id);
	cancel_others(0); /* who asked for an end came too late */
	om_wakeup_loads_at_commit();
}

void
om_load_fail(int64 load_id, OmLoadStatus status, const ErrorData *error)
{
	OmLoad *load = om_load_get(load_id);

	if (load == NULL)
		return; /* teardown() */
	load->status = status;
	save(load, error);
	if (load->retry_of != 0)
		om_parts_forget(load_id); /* the refused rows are those of the other load */
	cancel_others(0);
	om_wakeup_loads_at_commit();
	MemoryContextDelete(load->context);
}

/* ---------- retries ---------- */

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

	if (ask_for_number(&inexact_query, &args[1], NULL) > 0)
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
om_load_create_retry(int64 load_id, const char *csv)
{
	Datum args[2] = {Int64GetDatum(load_id), my_name()};
	int64 retry_id;

	if (is_under_way(load_id))
		refuse_retry(load_id, "load %s has not ended", "Wait for it with wait_for_load().");
	retry_id = ask_for_number(&create_retry_query, args, NULL);
	if (csv != NULL)
		om_parts_append(retry_id, 0, csv, strlen(csv));
	else
		keep_rows(retry_id, load_id);
	om_wakeup_loads_at_commit();
	CommandCounterIncrement();
	return retry_id;
}
