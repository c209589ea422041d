/*
 * reader.h
 *		Reads the log for a consumer, batch by batch, in the common order.
 */
#ifndef OM_READER_H
#define OM_READER_H

#include "postgres.h"

#include "cursors.h"
#include "eventlog.h"
#include "horizon.h"

typedef struct OmReader
{
	const char *consumer;
	MemoryContext context; /* of the cursor, and of what its owner remembers with it */
	OmCursor *cursor;      /* NULL until loaded */
} OmReader;

/* How far a batch may read beyond the ticks that have been made. */
typedef struct OmReach
{
	OmHorizon *horizon; /* NULL: not at all */
	int64 tick_id;      /* the newest tick that it includes */
} OmReach;

/* Lives in the current memory context. */
extern OmReader *om_reader_create(const char *consumer);

/* Forgets what is in memory, after an abort. */
extern void om_reader_reset(OmReader *reader);

/*
 * Finds the position again when it is not known, or when somebody else has
 * moved it: then true is returned, reader->context has been emptied, and
 * reading begins at the restart row.  Needs an active snapshot that is newer
 * than the lock by which the caller owns the consumer.
 */
extern bool om_reader_load(OmReader *reader);

/* True when the position is known and nobody else has moved it. */
extern bool om_reader_is_current(OmReader *reader);

/*
 * Adds rows until there are max_events events, and moves the position behind
 * them, in memory; false when there is nothing to look at.
 */
extern bool om_reader_read(OmReader *reader, const OmReach *reach, uint32 types, int max_events,
						   OmLogRows *rows);

/* True while it reads what had been read before the position was lost. */
extern bool om_reader_is_behind(const OmReader *reader);

/* The stored row from which a restart would read again what is read now. */
extern int64 om_reader_seq(const OmReader *reader);

/*
 * Stores the position, in the transaction of the effects.  restart_seq: the
 * oldest cursor row that is still needed (PG_INT64_MAX: none); waiting: events
 * that have been read and are not done.
 */
extern void om_reader_store(OmReader *reader, int64 restart_seq, int64 waiting);

/* True when the position has moved so far that it should be stored even if nothing was done. */
extern bool om_reader_has_drifted(const OmReader *reader);

/* All that can be seen now, own events included. */
extern OmHorizon *om_reader_now(Snapshot snapshot);

/* True when two readers would read the same next. */
extern bool om_reader_stands_with(const OmReader *reader, const OmReader *other);

/* Takes over the place to which another has read. */
extern void om_reader_follow(OmReader *reader, const OmReader *other);

#endif /* OM_READER_H */
