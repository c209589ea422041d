/*
 * loads.c
 *		The rows of "loads", and of the tables about them.
 *
 * Rows of "loads" are changed by whoever holds OM_LOCK_LOADER: the worker that
 * runs loads holds it as long as it lives, a client that runs or cancels one
 * while there is no such worker, to the end of its transaction.  What clients
 * ask for meanwhile (loadrequests.c) is looked at after each commit.
 *
 * The row of a load that runs is written with every batch, in the transaction
 * of that batch: it tells how far the load is, and from where it goes on.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "faults.h"
#include "loadparts.h"
#include "loadrequests.h"
#include "loads.h"
#include "plans.h"
#include "relations.h"
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

/* ---------- reading ---------- */

/* Not by id: an upload has that of its load long before it is asked for. */
static OmQuery next_query = {
	.sql = "SELECT load_id FROM order_mgmt.loads WHERE status IN ('queued', 'reading', 'writing')"
		   " ORDER BY created_at, load_id LIMIT 1"};

static OmTable *
open_loads(LOCKMODE lockmode)
{
	return om_table_open(om_relation_get("loads"), lockmode);
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
	char *word = om_row_get_text(table, row, column + 1);

	return word == NULL ? 0 : Max(om_names_find(words, count, word, strlen(word)), 0);
}

static void
read_request(OmLoad *load, OmTable *table, HeapTuple row)
{
	load->load_id = get_int64(table, row, LOAD_ID);
	load->kind = get_word(table, row, LOAD_KIND, om_load_kind_names, OM_LOAD_KIND_COUNT);
	load->mode = get_word(table, row, LOAD_MODE, om_load_mode_names, OM_LOAD_MODE_COUNT);
	load->source = om_row_get_text(table, row, LOAD_SOURCE + 1);
	load->options = DatumGetJsonbPCopy(om_row_get_not_null(table, row, LOAD_OPTIONS + 1));
	load->started_by = om_row_get_text(table, row, LOAD_STARTED_BY + 1);
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
	load->header = om_row_get_text(table, row, LOAD_HEADER + 1);
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
	int64 load_id = om_query_number(&next_query, NULL);

	return load_id == 0 ? NULL : om_load_get(load_id);
}

bool
om_load_is_waiting(void)
{
	return OidIsValid(om_relation_find("loads")) && om_query_number(&next_query, NULL) != 0;
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
		om_loadrequest_raise_not_found(load->load_id);
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

/* ---------- running ---------- */

/* Somebody may have asked since the last look. */
static void
obey_requests(OmLoad *load)
{
	OmDatabase *entry = om_shared_my_database();
	uint32 requests;

	if (entry == NULL || load->in_caller)
		return;
	requests = pg_atomic_read_u32(&entry->jobs[OM_JOB_LOADS].changes);
	if (requests == load->seen_requests)
		return;
	load->seen_requests = requests;
	om_loadrequest_cancel_others(load->load_id);
	if (om_loadrequest_is_cancelled(load->load_id))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("load " INT64_FORMAT " is cancelled by a user's request", load->load_id)));
}

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
	om_loadrequest_cancel_others(0); /* who asked for an end came too late */
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
	om_loadrequest_cancel_others(0);
	om_wakeup_loads_at_commit();
	MemoryContextDelete(load->context);
}
