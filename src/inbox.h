/*
 * inbox.h
 *		The events that a built-in consumer has read and not yet handled.
 *
 * Most leave it in the batch in which they came.  Some stay: they wait for a
 * row that a client has locked, for the decision on an earlier order, or for
 * their next attempt after a failure.
 */
#ifndef OM_INBOX_H
#define OM_INBOX_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "backlog.h"
#include "eventlog.h"
#include "retries.h"

/* How soon to look again whether a row that a client has locked is free. */
#define OM_INBOX_LOCK_RETRY_MS 25

struct OmClaim;

typedef struct OmItem
{
	OmRetry event; /* about an order */
	int round;
	int64 seq; /* cursor row from which it is read again; PG_INT64_MAX: it is stored in retries */
	bool ready;
	TimestampTz due;       /* looked at then without being woken; 0: not */
	struct OmClaim *claim; /* of a checker */
	dlist_node node;
} OmItem;

typedef struct OmInbox
{
	MemoryContext context;
	OmBacklog *backlog;
	dlist_head items; /* in the order of the log */
	int count;
	int nready;
	int nretrying;
	int ndue; /* that have a time */
} OmInbox;

/* Lives in the current memory context. */
extern OmInbox *om_inbox_create(void);

/* An event that has just been read (the ordinal'th of the row's orders), ready. */
extern OmItem *om_inbox_add(OmInbox *inbox, const OmLogRow *row, int ordinal, int64 seq);

/* An event whose next attempt is stored. */
extern OmItem *om_inbox_add_retry(OmInbox *inbox, const OmRetry *retry);

/* The item of an order that waits for its next attempt, or NULL. */
extern OmItem *om_inbox_find_retry(OmInbox *inbox, const pg_uuid_t *order_id, int round);

/* The item of an event, or NULL. */
extern OmItem *om_inbox_find(OmInbox *inbox, int64 event_id);

/* Up to limit items that are ready or due, in the order of the log. */
extern int om_inbox_take(OmInbox *inbox, OmItem **items, int limit);

extern void om_inbox_wake(OmInbox *inbox, OmItem *item);

/* Whatever waits for a lock is looked at again at once. */
extern void om_inbox_wake_all(OmInbox *inbox);

/* Not again before a time, or (0) before it is woken. */
extern void om_inbox_sleep(OmInbox *inbox, OmItem *item, TimestampTz due);

/* The same, for a row that somebody has locked. */
extern void om_inbox_sleep_on_lock(OmInbox *inbox, OmItem *item);

/* It stays as it is, but is due then (0: at no time) even if nothing else happens. */
extern void om_inbox_set_due(OmInbox *inbox, OmItem *item, TimestampTz due);

/* It is stored in retries now, so a restart need not read it again. */
extern void om_inbox_set_retrying(OmInbox *inbox, OmItem *item, const OmRetry *stored);

/* It has been handled.  Its place in the backlog goes with it, unless that is kept. */
extern void om_inbox_remove(OmInbox *inbox, OmItem *item, bool keep_backlog);

/* The earlier of two times at which something is due; 0: nothing is. */
extern TimestampTz om_inbox_earlier(TimestampTz a, TimestampTz b);

/* When something is due by itself; 0: nothing. */
extern TimestampTz om_inbox_next_due(OmInbox *inbox);

#endif /* OM_INBOX_H */
