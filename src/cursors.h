/*
 * cursors.h
 *		Where a consumer stands in the log.
 */
#ifndef OM_CURSORS_H
#define OM_CURSORS_H

#include "postgres.h"

#include "eventlog.h"
#include "horizon.h"
#include "tables.h"

typedef struct OmCursor
{
	const char *consumer;
	int64 seq;              /* of the newest stored row */
	int64 from_seq;         /* the stored row from which the position in memory descends */
	int64 newest_processed; /* events read by the newest row, when it was loaded */
	int64 stored_tick;      /* tick_id of that row */
	int64 tick_id;          /* newest tick that base (or target) includes */
	OmHorizon *base;        /* everything it shows has been handled */
	OmHorizon *target;      /* end of the window being handled, or NULL */
	OmLogPosition position; /* how far into that window */
	int64 processed;        /* events read since the beginning */
	int64 waiting;          /* of them, read but not yet done */
	int64 restart_seq;      /* row from which a restart reads again */
	uint64 moves;           /* value of the counter when it was known to be the newest; 0: not */
	OmLogCounts passed;     /* events that lie behind it, whoever they are for; rows since stored */
} OmCursor;

/*
 * Reads a consumer's position, as the snapshot shows it, into the current
 * memory context.  A consumer that keeps state in memory begins at its restart
 * row, else at the newest.
 */
extern OmCursor *om_cursor_load(const char *consumer, bool restart, Snapshot snapshot);

/* The newest position, or NULL where the snapshot does not show any. */
extern OmCursor *om_cursor_find(const char *consumer, Snapshot snapshot);

/* These lie behind it as well: they were handled before their turn. */
extern void om_cursor_count(OmCursor *cursor, const OmLogRows *rows);

/* Moves it behind what has been read last of its window. */
extern void om_cursor_advance(OmCursor *cursor, const OmLogRows *rows);

/* True when the newest row of a consumer, or its restart row, is in this table. */
extern bool om_cursor_is_in(const char *consumer, int slot, Snapshot snapshot);

/* Copies these rows from a table that is locked to be emptied into the current one. */
extern void om_cursor_carry(const char *consumer, int from, Snapshot snapshot);

/* True while nobody else has moved the cursor. */
extern bool om_cursor_is_current(OmCursor *cursor);

/* Appends the position as a new row, in the transaction of the effects. */
extern void om_cursor_store(OmCursor *cursor, int64 restart_seq, int64 waiting);

/* The same for several, which are written together when the table is closed. */
extern OmTable *om_cursors_open(void);
extern void om_cursor_append(OmTable *table, OmCursor *cursor, int64 restart_seq, int64 waiting);

/* The window's end has been reached: it is the base of the next one. */
extern void om_cursor_finish_window(OmCursor *cursor);

/* What will have been handled when that is so: the base that the next window will have. */
extern OmHorizon *om_cursor_after_window(const OmCursor *cursor);

/* The first position of a consumer, at setup: it sees what comes after the tick. */
extern void om_cursor_create(const char *consumer, int64 tick_id, OmHorizon *base);

/* Takes the positions of a consumer away. */
extern void om_cursor_drop(const char *consumer);

#endif /* OM_CURSORS_H */
