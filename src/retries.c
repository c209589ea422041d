/*
 * retries.c
 *		Tables retries and dead_letters.
 *
 * An event that failed leaves its batch in the same transaction that moves the
 * cursor past it: what is stored is a copy, so neither the cursor nor the
 * month of the event is held back by it.
 *
 * The wait doubles from attempt to attempt up to a cap, and a quarter of it is
 * left to chance, so that what failed together is not tried again together.
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "faults.h"
#include "jsonout.h"
#include "plans.h"
#include "relations.h"
#include "retries.h"
#include "tables.h"

/* Columns of table retries */
enum
{
	RETRY_CONSUMER = 1,
	RETRY_EVENT_ID,
	RETRY_TICK_ID,
	RETRY_LXID,
	RETRY_AT,
	RETRY_EVENT_TYPE,
	RETRY_ORDER_ID,
	RETRY_CUSTOMER_ID,
	RETRY_PRODUCT_ID,
	RETRY_DETAIL,
	RETRY_ATTEMPTS,
	RETRY_FIRST_FAILED_AT,
	RETRY_LAST_FAILED_AT,
	RETRY_DUE,
	RETRY_ERROR_CODE,
	RETRY_MESSAGE,
	RETRY_BATCH_ID,
	RETRY_NCOLUMNS = RETRY_BATCH_ID
};

/* Columns of table dead_letters */
enum
{
	LETTER_ID = 1,
	LETTER_CONSUMER,
	LETTER_EVENT_ID,
	LETTER_ORDER_ID,
	LETTER_ATTEMPTS,
	LETTER_FIRST_FAILED_AT,
	LETTER_LAST_FAILED_AT,
	LETTER_ERROR_CODE,
	LETTER_MESSAGE,
	LETTER_PAYLOAD,
	LETTER_TICK_ID,
	LETTER_LXID,
	LETTER_NCOLUMNS = LETTER_LXID
};

/* When to try again, and when no more. */
typedef struct Policy
{
	int64 max_attempts;
	int64 base_ms;
	int64 cap_ms;
} Policy;

static OmQuery policy_query = {
	.sql = "SELECT max_attempts, (extract(epoch FROM backoff_base) * 1000)::bigint,"
		   " (extract(epoch FROM backoff_cap) * 1000)::bigint"
		   " FROM order_mgmt.consumers WHERE name = $1",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery done_query = {
	.sql = "DELETE FROM order_mgmt.retries WHERE consumer = $1 AND event_id = $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery batch_query = {.sql = "UPDATE order_mgmt.retries SET batch_id = nullif($3, 0)"
									 " WHERE consumer = $1 AND event_id = $2",
							  .nargs = 3,
							  .types = {TEXTOID, INT8OID, INT8OID}};

static OmQuery count_query = {
	.sql = "SELECT r.n, d.n, r.failed + d.failed"
		   " FROM (SELECT count(*) AS n, coalesce(sum(attempts), 0)::bigint AS failed"
		   "  FROM order_mgmt.retries WHERE consumer = $1) AS r,"
		   " (SELECT count(*) AS n, coalesce(sum(attempts), 0)::bigint AS failed"
		   "  FROM order_mgmt.dead_letters WHERE consumer = $1) AS d",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery due_query = {
	.sql = "SELECT event_id FROM order_mgmt.retries WHERE consumer = $1 AND batch_id IS NULL"
		   " AND due <= pg_catalog.clock_timestamp() ORDER BY due LIMIT $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery in_batch_query = {
	.sql = "SELECT event_id FROM order_mgmt.retries WHERE consumer = $1 AND batch_id = $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery batch_done_query = {
	.sql = "DELETE FROM order_mgmt.retries WHERE consumer = $1 AND batch_id = $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery next_due_query = {
	.sql = "SELECT min(due) FROM order_mgmt.retries WHERE consumer = $1 AND batch_id IS NULL",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery set_aside_query = {
	.sql = "SELECT FROM order_mgmt.retries WHERE consumer = $1 AND event_id = $2"
		   " UNION ALL SELECT FROM order_mgmt.dead_letters WHERE consumer = $1 AND event_id = $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

OmRetry *
om_retry_of_event(const OmLogRow *row, int ordinal)
{
	OmRetry *retry = palloc0(sizeof(OmRetry));

	retry->event_id = row->event_id + ordinal;
	retry->tick_id = row->tick_id;
	retry->lxid = row->lxid;
	retry->at = row->at;
	retry->type = row->type;
	retry->has_order = row->norders > 0;
	if (retry->has_order)
		retry->order_id = row->orders[ordinal];
	retry->customer_id = row->customer_id;
	retry->product_id = row->product_id;
	retry->detail = row->detail;
	return retry;
}

static Policy
find_policy(const char *consumer)
{
	OmQueryScope scope;
	Datum name = CStringGetTextDatum(consumer);
	Policy policy = {1, 1000, 1000}; /* of a consumer that has just been taken away */

	om_query_begin(&scope);
	if (om_query_run(&policy_query, &name, NULL) > 0)
		policy = (Policy){om_result_int64(0, 1), om_result_int64(0, 2), om_result_int64(0, 3)};
	om_query_end(&scope);
	return policy;
}

static TimestampTz
next_attempt(const Policy *policy, int64 attempts, TimestampTz now)
{
	double wait = (double) policy->base_ms * pow(2.0, (double) Min(attempts - 1, 60));

	wait = Min(wait, (double) policy->cap_ms);
	wait *= 0.75 + 0.25 * pg_prng_double(&pg_global_prng_state);
	return now + (int64) (wait * 1000.0);
}

static void
put_text(Datum *values, bool *isnull, int column, const char *text)
{
	isnull[column - 1] = text == NULL;
	values[column - 1] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_retry(const char *consumer, const OmRetry *retry, Datum *values, bool *isnull)
{
	memset(isnull, false, sizeof(bool) * RETRY_NCOLUMNS);
	put_text(values, isnull, RETRY_CONSUMER, consumer);
	values[RETRY_EVENT_ID - 1] = Int64GetDatum(retry->event_id);
	values[RETRY_TICK_ID - 1] = Int64GetDatum(retry->tick_id);
	values[RETRY_LXID - 1] = Int64GetDatum(retry->lxid);
	values[RETRY_AT - 1] = TimestampTzGetDatum(retry->at);
	put_text(values, isnull, RETRY_EVENT_TYPE, om_event_names[retry->type]);
	values[RETRY_ORDER_ID - 1] = UUIDPGetDatum(&retry->order_id);
	isnull[RETRY_ORDER_ID - 1] = !retry->has_order;
	put_text(values, isnull, RETRY_CUSTOMER_ID, retry->customer_id);
	put_text(values, isnull, RETRY_PRODUCT_ID, retry->product_id);
	values[RETRY_DETAIL - 1] = JsonbPGetDatum(retry->detail);
	isnull[RETRY_DETAIL - 1] = retry->detail == NULL;
	values[RETRY_ATTEMPTS - 1] = Int64GetDatum(retry->attempts);
	values[RETRY_FIRST_FAILED_AT - 1] = TimestampTzGetDatum(retry->first_failed_at);
	values[RETRY_LAST_FAILED_AT - 1] = TimestampTzGetDatum(retry->last_failed_at);
	values[RETRY_DUE - 1] = TimestampTzGetDatum(retry->due);
	put_text(values, isnull, RETRY_ERROR_CODE, retry->error_code);
	put_text(values, isnull, RETRY_MESSAGE, retry->message);
	values[RETRY_BATCH_ID - 1] = Int64GetDatum(retry->batch_id);
	isnull[RETRY_BATCH_ID - 1] = retry->batch_id == 0;
}

/* Stores the row, in place of the one that may be there. */
static void
store_retry(const char *consumer, const OmRetry *retry)
{
	OmTable *table = om_table_open(om_relation_get("retries"), RowExclusiveLock);
	Datum key[2] = {CStringGetTextDatum(consumer), Int64GetDatum(retry->event_id)};
	HeapTuple old = om_table_lock(table, key);
	Datum values[RETRY_NCOLUMNS];
	bool isnull[RETRY_NCOLUMNS];
	bool replace[RETRY_NCOLUMNS];

	put_retry(consumer, retry, values, isnull);
	OM_FAULT_POINT("retries/before-store");
	memset(replace, true, sizeof(replace));
	if (old == NULL)
		om_table_insert(table, values, isnull, RETRY_NCOLUMNS);
	else
		om_table_update(table, old, values, isnull, replace, RETRY_NCOLUMNS);
	om_table_close(table);
	OM_FAULT_POINT("retries/stored");
	CommandCounterIncrement();
}

Jsonb *
om_retry_payload(const OmRetry *retry)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "event_id");
	om_json_int(&json, retry->event_id);
	om_json_key(&json, "at");
	om_json_time(&json, retry->at);
	om_json_key(&json, "event_type");
	om_json_string(&json, om_event_names[retry->type]);
	om_json_key(&json, "order_id");
	om_json_string(&json, !retry->has_order ? NULL
											: DatumGetCString(DirectFunctionCall1(
												  uuid_out, UUIDPGetDatum(&retry->order_id))));
	om_json_key(&json, "customer_id");
	om_json_string(&json, retry->customer_id);
	om_json_key(&json, "product_id");
	om_json_string(&json, retry->product_id);
	om_json_key(&json, "detail");
	om_json_jsonb(&json, retry->detail == NULL ? DatumGetJsonbP(om_json_empty()) : retry->detail);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
store_dead_letter(const char *consumer, const OmRetry *retry)
{
	OmTable *table = om_table_open(om_relation_get("dead_letters"), RowExclusiveLock);
	Datum values[LETTER_NCOLUMNS];
	bool isnull[LETTER_NCOLUMNS] = {false};

	values[LETTER_ID - 1] =
		Int64GetDatum(nextval_internal(om_relation_get("dead_letter_ids"), false));
	put_text(values, isnull, LETTER_CONSUMER, consumer);
	values[LETTER_EVENT_ID - 1] = Int64GetDatum(retry->event_id);
	values[LETTER_ORDER_ID - 1] = UUIDPGetDatum(&retry->order_id);
	isnull[LETTER_ORDER_ID - 1] = !retry->has_order;
	values[LETTER_ATTEMPTS - 1] = Int64GetDatum(retry->attempts);
	values[LETTER_FIRST_FAILED_AT - 1] = TimestampTzGetDatum(retry->first_failed_at);
	values[LETTER_LAST_FAILED_AT - 1] = TimestampTzGetDatum(retry->last_failed_at);
	put_text(values, isnull, LETTER_ERROR_CODE, retry->error_code);
	put_text(values, isnull, LETTER_MESSAGE, retry->message);
	values[LETTER_PAYLOAD - 1] = JsonbPGetDatum(om_retry_payload(retry));
	values[LETTER_TICK_ID - 1] = Int64GetDatum(retry->tick_id);
	values[LETTER_LXID - 1] = Int64GetDatum(retry->lxid);
	om_table_insert(table, values, isnull, LETTER_NCOLUMNS);
	om_table_close(table);
}

static void
note_failure(OmRetry *retry, const char *error_code, const char *message)
{
	retry->last_failed_at = GetCurrentTimestamp();
	if (retry->attempts == 0)
		retry->first_failed_at = retry->last_failed_at;
	retry->attempts++;
	retry->error_code = pstrdup(error_code);
	retry->message = pstrdup(message);
	retry->batch_id = 0;
}

void
om_retry_give_up(const char *consumer, OmRetry *retry, const char *error_code, const char *message)
{
	note_failure(retry, error_code, message);
	OM_FAULT_POINT("retries/giving-up");
	store_dead_letter(consumer, retry);
	OM_FAULT_POINT("retries/dead-letter-stored");
	om_retry_done(consumer, retry->event_id);
}

bool
om_retry_is_last(const char *consumer, const OmRetry *retry)
{
	return retry->attempts + 1 >= find_policy(consumer).max_attempts;
}

bool
om_retry_fail(const char *consumer, OmRetry *retry, const char *error_code, const char *message)
{
	Policy policy = find_policy(consumer);

	if (retry->attempts + 1 >= policy.max_attempts)
	{
		om_retry_give_up(consumer, retry, error_code, message);
		return true;
	}
	note_failure(retry, error_code, message);
	retry->due = next_attempt(&policy, retry->attempts, retry->last_failed_at);
	store_retry(consumer, retry);
	return false;
}

void
om_retry_again(const char *consumer, OmRetry *retry)
{
	retry->attempts = 0;
	retry->batch_id = 0;
	retry->due = GetCurrentTimestamp();
	store_retry(consumer, retry);
}

static void
run_on_event(OmQuery *query, const char *consumer, int64 event_id, int64 batch_id)
{
	OmQueryScope scope;
	Datum args[3] = {CStringGetTextDatum(consumer), Int64GetDatum(event_id),
					 Int64GetDatum(batch_id)};

	om_query_begin(&scope);
	om_query_run(query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
}

void
om_retry_done(const char *consumer, int64 event_id)
{
	run_on_event(&done_query, consumer, event_id, 0);
}

void
om_retry_set_batch(const char *consumer, int64 event_id, int64 batch_id)
{
	run_on_event(&batch_query, consumer, event_id, batch_id);
}

void
om_retry_batch_done(const char *consumer, int64 batch_id)
{
	run_on_event(&batch_done_query, consumer, batch_id, 0);
}

static int64
get_int64(OmTable *table, HeapTuple row, int column)
{
	return DatumGetInt64(om_row_get_not_null(table, row, column));
}

static OmRetry *
read_retry(OmTable *table, HeapTuple row)
{
	OmRetry *retry = palloc0(sizeof(OmRetry));
	char *type = om_row_get_text(table, row, RETRY_EVENT_TYPE);
	bool isnull;
	Datum value;

	retry->event_id = get_int64(table, row, RETRY_EVENT_ID);
	retry->tick_id = get_int64(table, row, RETRY_TICK_ID);
	retry->lxid = get_int64(table, row, RETRY_LXID);
	retry->at = DatumGetTimestampTz(om_row_get_not_null(table, row, RETRY_AT));
	retry->type =
		(OmEventType) Max(om_names_find(om_event_names, OM_EVENT_COUNT, type, strlen(type)), 0);
	value = om_row_get(table, row, RETRY_ORDER_ID, &isnull);
	retry->has_order = !isnull;
	if (!isnull)
		retry->order_id = *DatumGetUUIDP(value);
	retry->customer_id = om_row_get_text(table, row, RETRY_CUSTOMER_ID);
	retry->product_id = om_row_get_text(table, row, RETRY_PRODUCT_ID);
	value = om_row_get(table, row, RETRY_DETAIL, &isnull);
	retry->detail = isnull ? NULL : DatumGetJsonbPCopy(value);
	retry->attempts = get_int64(table, row, RETRY_ATTEMPTS);
	retry->first_failed_at =
		DatumGetTimestampTz(om_row_get_not_null(table, row, RETRY_FIRST_FAILED_AT));
	retry->last_failed_at =
		DatumGetTimestampTz(om_row_get_not_null(table, row, RETRY_LAST_FAILED_AT));
	retry->due = DatumGetTimestampTz(om_row_get_not_null(table, row, RETRY_DUE));
	retry->error_code = om_row_get_text(table, row, RETRY_ERROR_CODE);
	retry->message = om_row_get_text(table, row, RETRY_MESSAGE);
	value = om_row_get(table, row, RETRY_BATCH_ID, &isnull);
	retry->batch_id = isnull ? 0 : DatumGetInt64(value);
	return retry;
}

static void
add_retry(OmTable *table, HeapTuple row, void *arg)
{
	List **list = arg;

	*list = lappend(*list, read_retry(table, row));
}

int
om_retry_compare(const OmRetry *a, const OmRetry *b)
{
	if (a->tick_id != b->tick_id)
		return a->tick_id < b->tick_id ? -1 : 1;
	if (a->lxid != b->lxid)
		return a->lxid < b->lxid ? -1 : 1;
	return (a->event_id > b->event_id) - (a->event_id < b->event_id);
}

static int
compare_retries(const ListCell *a, const ListCell *b)
{
	return om_retry_compare(lfirst(a), lfirst(b));
}

List *
om_retry_list(const char *consumer, Snapshot snapshot)
{
	OmTable *table = om_table_open(om_relation_get("retries"), AccessShareLock);
	Datum key = CStringGetTextDatum(consumer);
	List *list = NIL;

	om_table_scan(table, &key, 1, snapshot, add_retry, &list);
	om_table_close(table);
	list_sort(list, compare_retries);
	return list;
}

/* Rows by the ids that a query has found, copied out of it before they are read. */
static List *
list_found(const char *consumer, uint64 count, const int64 *ids, Snapshot snapshot)
{
	OmTable *table = om_table_open(om_relation_get("retries"), AccessShareLock);
	List *list = NIL;

	for (uint64 i = 0; i < count; i++)
	{
		Datum key[2] = {CStringGetTextDatum(consumer), Int64GetDatum(ids[i])};
		HeapTuple row = om_table_find(table, key, snapshot);

		if (row != NULL)
			list = lappend(list, read_retry(table, row));
	}
	om_table_close(table);
	list_sort(list, compare_retries);
	return list;
}

static List *
list_selected(OmQuery *query, const char *consumer, int64 argument, Snapshot snapshot)
{
	MemoryContext caller = CurrentMemoryContext;
	OmQueryScope scope;
	Datum args[2] = {CStringGetTextDatum(consumer), Int64GetDatum(argument)};
	int64 *ids;
	uint64 count;

	om_query_begin(&scope);
	count = om_query_run(query, args, NULL);
	ids = MemoryContextAlloc(caller, sizeof(int64) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
		ids[i] = om_result_int64(i, 1);
	om_query_end(&scope);
	return list_found(consumer, count, ids, snapshot);
}

List *
om_retry_list_due(const char *consumer, int64 max, Snapshot snapshot)
{
	return list_selected(&due_query, consumer, max, snapshot);
}

List *
om_retry_list_batch(const char *consumer, int64 batch_id, Snapshot snapshot)
{
	return list_selected(&in_batch_query, consumer, batch_id, snapshot);
}

TimestampTz
om_retry_next_due(const char *consumer)
{
	Datum name = CStringGetTextDatum(consumer);

	return om_query_number(&next_due_query, &name);
}

bool
om_retry_is_set_aside(const char *consumer, int64 event_id)
{
	OmQueryScope scope;
	Datum args[2] = {CStringGetTextDatum(consumer), Int64GetDatum(event_id)};
	bool found;

	om_query_begin(&scope);
	found = om_query_run(&set_aside_query, args, NULL) > 0;
	om_query_end(&scope);
	return found;
}

OmRetryCounts
om_retry_count(const char *consumer)
{
	OmQueryScope scope;
	Datum name = CStringGetTextDatum(consumer);
	OmRetryCounts counts;

	om_query_begin(&scope);
	om_query_read(&count_query, &name, NULL);
	counts = (OmRetryCounts){om_result_int64(0, 1), om_result_int64(0, 2), om_result_int64(0, 3)};
	om_query_end(&scope);
	return counts;
}
