/*
 * eventlog.h
 *		The append-only event log: queue, audit trail, outbox and trace in one.
 */
#ifndef OM_EVENTLOG_H
#define OM_EVENTLOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "horizon.h"
#include "jsonout.h"
#include "names.h"
#include "tables.h"

/*
 * A stored row holds up to this many orders with the same event.  Event ids
 * step by OM_EVENT_ID_STEP per row, so each order's event has an id of its own.
 * The row stays below the size at which PostgreSQL would move it out of line.
 */
#define OM_ORDERS_PER_ROW 112
#define OM_EVENT_ID_STEP 128

/* One stored row, or the part of it that has not been read before. */
typedef struct OmLogRow
{
	int64 tick_id; /* filled in by the reader */
	int64 lxid;
	int64 event_id; /* of the first event; those of the further orders follow */
	TimestampTz at;
	OmEventType type;
	int norders; /* 0: about the account or product below */
	pg_uuid_t *orders;
	char *customer_id; /* or NULL */
	char *product_id;  /* or NULL */
	Jsonb *detail;     /* or NULL */
} OmLogRow;

typedef struct OmLogPosition
{
	int64 lxid;
	int64 event_id;
} OmLogPosition;

/* All that "to" shows and "from" does not, in the order (lxid, event_id), from "after" on. */
typedef struct OmLogWindow
{
	const OmHorizon *from;
	const OmHorizon *to;
	OmLogPosition after;
} OmLogWindow;

/* What a reader has passed, wanted or not. */
typedef struct OmLogCounts
{
	int64 events[OM_EVENT_COUNT]; /* by type; one per order, or one for a row that is about none */
	int64 rows;
} OmLogCounts;

typedef struct OmLogRows
{
	int count;
	int capacity;
	int norders;
	int nevents;           /* orders, and rows that are about none */
	OmLogRow *rows;        /* of the types asked for */
	OmLogPosition reached; /* everything up to here has been looked at */
	bool exhausted;        /* there is nothing more in the window */
	OmLogCounts passed;    /* by the last reading */
} OmLogRows;

typedef struct OmLogWriter
{
	OmTable *table;
	TimestampTz at;
	int64 lxid;
	TimestampTz month_end;
	OmLogRows *happened; /* gets what is appended; or NULL */
} OmLogWriter;

extern OmLogWriter *om_log_begin(void);
/* Its events are not older than this: ids that are made at once run ahead of the clock. */
extern OmLogWriter *om_log_begin_from(TimestampTz earliest);
/* Further events happen now, and no more when they began. */
extern void om_log_go_on(OmLogWriter *writer);

/* Events may wait in memory to be written together: until the end, or a flush before they are read. */
extern void om_log_flush(OmLogWriter *writer);
extern void om_log_end(OmLogWriter *writer);

/* The member "round" of a detail; the first round goes without saying. */
extern void om_log_add_round(OmJson *json, int round);

/* {"round": n} for orders that were taken up again; NULL for all others. */
extern Jsonb *om_log_round_detail(int round);

/* The round that a detail names; 0 when it names none. */
extern int om_log_round(Jsonb *detail);

/* One event about each of these orders; detail (may be NULL) is that of all of them. */
extern int64 om_log_orders(OmLogWriter *writer, OmEventType type, const pg_uuid_t *orders,
						   int norders, Jsonb *detail);

/* An event about an account or a product. */
extern int64 om_log_change(OmLogWriter *writer, OmEventType type, Datum customer_or_product,
						   Jsonb *detail);

/* Id of the last event that a transaction, the current one, has written; 0: none. */
extern int64 om_log_last_event_id(int64 lxid);

extern OmLogRows *om_log_rows_create(void);

/*
 * Adds the rows of a window, until there are max_events events (0: no limit);
 * the last row may be cut for that.  The caller's active snapshot must be
 * newer than window->to.
 */
extern void om_log_read(OmLogRows *rows, const OmLogWindow *window, uint32 types, int max_events);

/* The same, but it looks at max_rows stored rows at most (0: no limit). */
extern void om_log_look(OmLogRows *rows, const OmLogWindow *window, uint32 types, int max_events,
						int64 max_rows);

/*
 * The events of these types of one order, given the transactions that wrote them and the time
 * in which they lie, as a list of OmLogRow in the order of time; event_id is
 * that of the order's own event.
 */
extern List *om_log_of_order(const pg_uuid_t *order, uint32 types, const int64 *lxids, int nlxids,
							 TimestampTz from, TimestampTz until);

#endif /* OM_EVENTLOG_H */
