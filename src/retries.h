/*
 * retries.h
 *		Events that a consumer failed to handle: tried again, then kept as dead
 *		letters.
 */
#ifndef OM_RETRIES_H
#define OM_RETRIES_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "eventlog.h"
#include "names.h"

/* A copy of one event, and what became of it. */
typedef struct OmRetry
{
	int64 event_id;
	int64 tick_id;
	int64 lxid;
	TimestampTz at;
	OmEventType type;
	bool has_order;
	pg_uuid_t order_id;
	char *customer_id; /* or NULL */
	char *product_id;  /* or NULL */
	Jsonb *detail;     /* or NULL */
	int64 attempts;    /* that failed; 0: none yet, and no row is stored */
	TimestampTz first_failed_at;
	TimestampTz last_failed_at;
	TimestampTz due;
	char *error_code;
	char *message;
	int64 batch_id; /* of a program that has it now; 0: none */
} OmRetry;

/* The event of a row of the log that is the ordinal'th of its orders (0 for those about none). */
extern OmRetry *om_retry_of_event(const OmLogRow *row, int ordinal);

/* By the order in which all consumers read the log. */
extern int om_retry_compare(const OmRetry *a, const OmRetry *b);

/*
 * Notes a failed attempt, in the current transaction: the event is due again
 * after a back-off, or, when that was its last attempt, becomes a dead letter.
 * Returns true in that case.
 */
extern bool om_retry_fail(const char *consumer, OmRetry *retry, const char *error_code,
						  const char *message);

/* True when one more failure of the event makes it a dead letter. */
extern bool om_retry_is_last(const char *consumer, const OmRetry *retry);

/* The same, but gives up at once. */
extern void om_retry_give_up(const char *consumer, OmRetry *retry, const char *error_code,
							 const char *message);

/* It has been handled: the stored row goes. */
extern void om_retry_done(const char *consumer, int64 event_id);

/* An event that is to be handled (again) at once, with all its attempts before it. */
extern void om_retry_again(const char *consumer, OmRetry *retry);

/* The program that has these events now: batch_id 0 takes it away again. */
extern void om_retry_set_batch(const char *consumer, int64 event_id, int64 batch_id);

/* All events that a program had in a batch have been handled. */
extern void om_retry_batch_done(const char *consumer, int64 batch_id);

/* The stored events of a consumer, in the order in which it read them: a list of OmRetry. */
extern List *om_retry_list(const char *consumer, Snapshot snapshot);

/* Of those that are due and that no program has, the first ones: at most max. */
extern List *om_retry_list_due(const char *consumer, int64 max, Snapshot snapshot);

/* Those that a program has in a batch, in the order in which they were read. */
extern List *om_retry_list_batch(const char *consumer, int64 batch_id, Snapshot snapshot);

/* When the next one that no program has is due; 0: there is none. */
extern TimestampTz om_retry_next_due(const char *consumer);

/* True when the event waits to be tried again, or has been given up. */
extern bool om_retry_is_set_aside(const char *consumer, int64 event_id);

/* How many there are, of retries and dead letters, and how many attempts at these failed. */
typedef struct OmRetryCounts
{
	int64 retrying;
	int64 dead;
	int64 failed;
} OmRetryCounts;

extern OmRetryCounts om_retry_count(const char *consumer);

/* The event as handlers get it, as a JSON object. */
extern Jsonb *om_retry_payload(const OmRetry *retry);

#endif /* OM_RETRIES_H */
