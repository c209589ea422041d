/*
 * deadletters.c
 *		Replays and discards dead letters.
 *
 * A failed order is captured anew, in its next round, for both checks: verdicts
 * of different rounds never mix.  An event of a consumer of the user's own goes
 * back to table retries, with all its attempts before it.
 *
 * Rows of dead_letters are locked before orders; nobody locks them otherwise.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arrays.h"
#include "deadletters.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "lifecycle.h"
#include "orders.h"
#include "plans.h"
#include "retries.h"
#include "wakeup.h"

typedef struct DeadLetter
{
	int64 id;
	char *consumer;
	char *kind; /* of the consumer; NULL: it is no more */
	OmRetry event;
} DeadLetter;

/* Who replays the same at the same time waits here, and then finds nothing. */
static OmQuery letters_query = {
	.sql = "SELECT d.dead_letter_id, d.consumer::text, c.kind, d.event_id, d.order_id, d.tick_id,"
		   " d.lxid, (d.payload->>'at')::timestamptz, d.payload->>'event_type',"
		   " d.payload->>'customer_id', d.payload->>'product_id', d.payload->'detail',"
		   " d.first_failed_at, d.last_failed_at, d.error_code, d.message"
		   " FROM order_mgmt.dead_letters AS d"
		   " LEFT JOIN order_mgmt.consumers AS c ON c.name = d.consumer"
		   " WHERE ($1 IS NULL OR d.consumer = $1)"
		   " AND ($2 IS NULL OR d.dead_letter_id = ANY ($2))"
		   " ORDER BY d.dead_letter_id FOR UPDATE OF d",
	.nargs = 2,
	.types = {TEXTOID, INT8ARRAYOID}};

static OmQuery delete_query = {.sql =
								   "DELETE FROM order_mgmt.dead_letters WHERE dead_letter_id = $1",
							   .nargs = 1,
							   .types = {INT8OID}};

/* All letters about an order from built-in consumers belong to its one failure. */
static OmQuery delete_order_query = {
	.sql = "DELETE FROM order_mgmt.dead_letters AS d USING order_mgmt.consumers AS c"
		   " WHERE d.order_id = $1 AND c.name = d.consumer AND c.kind = 'built-in'",
	.nargs = 1,
	.types = {UUIDOID}};

/* Letters that people have made may have no word, or another; the order tells what is to be done. */
static OmEventType
type_of(const char *word)
{
	int type =
		word == NULL ? -1 : om_names_find(om_event_names, OM_EVENT_COUNT, word, strlen(word));

	return (OmEventType) Max(type, 0);
}

static void *
read_letter(uint64 row)
{
	DeadLetter *letter = palloc0(sizeof(DeadLetter));
	OmRetry *event = &letter->event;
	bool isnull;
	Datum order_id = om_result_get(row, 5, &isnull);
	Datum detail;

	letter->id = om_result_int64(row, 1);
	letter->consumer = om_result_text(row, 2);
	letter->kind = om_result_text(row, 3);
	event->event_id = om_result_int64(row, 4);
	event->has_order = !isnull;
	if (!isnull)
		event->order_id = *DatumGetUUIDP(order_id);
	event->tick_id = om_result_int64(row, 6);
	event->lxid = om_result_int64(row, 7);
	event->at = om_result_int64(row, 8);
	event->type = type_of(om_result_text(row, 9));
	event->customer_id = om_result_text(row, 10);
	event->product_id = om_result_text(row, 11);
	detail = om_result_get(row, 12, &isnull);
	event->detail = isnull ? NULL : DatumGetJsonbPCopy(detail);
	event->first_failed_at = om_result_int64(row, 13);
	event->last_failed_at = om_result_int64(row, 14);
	event->error_code = om_result_text(row, 15);
	event->message = om_result_text(row, 16);
	return letter;
}

static List *
find_letters(const char *consumer, ArrayType *ids)
{
	Datum args[2] = {consumer == NULL ? (Datum) 0 : CStringGetTextDatum(consumer),
					 PointerGetDatum(ids)};
	bool isnull[2] = {consumer == NULL, ids == NULL};

	return om_query_list(&letters_query, args, isnull, read_letter);
}

static void
run_on(OmQuery *query, Datum arg)
{
	(void) om_query_change(query, &arg);
}

static OmTakeUp
replay(DeadLetter *letter)
{
	OmTakeUp result = OM_TAKEN_UP;

	if (letter->kind == NULL)
		return OM_NO_ORDER;
	if (strcmp(letter->kind, "built-in") != 0)
	{
		om_retry_again(letter->consumer, &letter->event);
		run_on(&delete_query, Int64GetDatum(letter->id));
		om_wakeup_at_commit();
		return result;
	}
	result = om_lifecycle_take_up(&letter->event.order_id);
	OM_FAULT_POINT("deadletters/taken-up");
	if (result == OM_TAKEN_UP || result == OM_NOT_FAILED)
		run_on(&delete_order_query, UUIDPGetDatum(&letter->event.order_id));
	return result;
}

int64
om_dead_letters_replay(const char *consumer, ArrayType *ids)
{
	int64 count = 0;
	ListCell *cell;

	foreach(cell, find_letters(consumer, ids))
		count += replay(lfirst(cell)) == OM_TAKEN_UP;
	return count;
}

bool
om_dead_letter_replay(int64 id)
{
	List *letters = find_letters(NULL, om_int8_array(&id, 1));
	char *name = psprintf(INT64_FORMAT, id);
	OmTakeUp result;

	if (letters == NIL)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no dead letter %s", name),
						om_errdetail("dead_letter_id", name),
						errhint("SELECT * FROM order_mgmt.dead_letters lists them.")));
	result = replay(linitial(letters));
	if (result == OM_NOT_SETTLED)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the other check of the order is still under way"),
						om_errdetail("dead_letter_id", name),
						errhint("Replay it again when that check is done; order_mgmt.queues shows "
								"what is pending.")));
	if (result == OM_NO_ORDER)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the consumer or the order of the dead letter is no more"),
						om_errdetail("dead_letter_id", name),
						errhint("Discard it with order_mgmt.discard_dead_letters().")));
	return result == OM_TAKEN_UP;
}

static bool
order_exists(const pg_uuid_t *id)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	bool exists = om_order_find(tables, id, GetActiveSnapshot()) != NULL;

	om_orders_close(tables);
	return exists;
}

/* The order's trail says what became of its event; other letters leave a line in the log. */
static void
leave_note(const DeadLetter *letter, const char *reason)
{
	char *note = psprintf("dead letter " INT64_FORMAT " of %s discarded: %s", letter->id,
						  letter->consumer, reason);

	if (letter->event.has_order && order_exists(&letter->event.order_id))
		(void) om_lifecycle_note(&letter->event.order_id, note, NULL);
	else
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION), errmsg("order_mgmt: %s", note)));
}

int64
om_dead_letters_discard(ArrayType *ids, const char *reason)
{
	int64 count = 0;
	ListCell *cell;

	foreach(cell, find_letters(NULL, ids))
	{
		DeadLetter *letter = lfirst(cell);

		leave_note(letter, reason);
		run_on(&delete_query, Int64GetDatum(letter->id));
		count++;
	}
	return count;
}
