/*
 * census.h
 *		How many events the log has, and how many of them a consumer has before
 *		it, without reading all of them.
 */
#ifndef OM_CENSUS_H
#define OM_CENSUS_H

#include "postgres.h"

#include "cursors.h"
#include "eventlog.h"

/* Of what no consumer has passed, so many rows are counted; what lies behind them is estimated. */
#define OM_CENSUS_MAX_ROWS 3000

/* The events that a snapshot shows, by type. */
typedef struct OmCensus
{
	OmLogCounts counts;
	bool is_exact;
} OmCensus;

/* What a consumer has before it, as a snapshot shows it. */
typedef struct OmQueueState
{
	int64 pending;      /* events not handled yet, those in retry apart */
	int64 waiting;      /* of them, read already */
	TimestampTz oldest; /* time of the first pending event; 0: none */
	int64 read;         /* events read since the beginning */
} OmQueueState;

/*
 * Looks at max_rows rows at most that no consumer has passed (0: at all of
 * them).  Events of the current transaction count.
 */
extern OmCensus om_census_take(Snapshot snapshot, int64 max_rows);

/* Events of these types that lie before a position. */
extern int64 om_census_unread(const OmCensus *census, const OmCursor *cursor, uint32 types);

/*
 * Adds to a queue what its consumer has not read: how many events of these
 * types, and the time of the first of them.  What was written before start_at
 * is not for it.
 */
extern void om_census_add_unread(const OmCensus *census, const OmCursor *cursor, uint32 types,
								 TimestampTz start_at, OmQueueState *state);

/*
 * The time of the first event of these types past a position, or that of the
 * first event of all when there are too many others before it; 0: there is none.
 */
extern TimestampTz om_census_first(const OmCursor *cursor, uint32 types);

/* Whether there is an event of these types past a position; never an estimate. */
extern bool om_census_is_anything_unread(const OmCensus *census, const OmCursor *cursor,
										 uint32 types);

/* The same as a whole, told from the position of one consumer, by reading all that lies before it. */
extern OmLogCounts om_census_told_by(const OmCursor *cursor);

/*
 * Fills in what lies behind a new position, whose base has just been taken or
 * lies in the past.  Reads all that no consumer has passed, and all that lies
 * before the position.
 */
extern void om_census_init(OmCursor *cursor);

#endif /* OM_CENSUS_H */
