/*
 * archivedamounts.h
 *		What is known of a month whose rows have left the database: what
 *		balances, stock and counts of events are proven with.
 */
#ifndef OM_ARCHIVEDAMOUNTS_H
#define OM_ARCHIVEDAMOUNTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Reads orders, lines and events of a month and keeps their sums.  To be called
 * before the month goes, in the same transaction, under a lock that lets nobody
 * write to its partitions (SHARE will do).  Every consumer must have read the
 * month, built-in ones from the row on at which a restart begins, and none be
 * made until the commit.
 */
extern void om_archived_amounts_add(TimestampTz month);

/*
 * Forgets them when a month comes back, and counts the events for consumers whose
 * position lies before them: these will read them.  event_leaf is the table of
 * the month's events, filled, attached or not.  Takes the locks of such
 * consumers and waits for their batches, so the caller must not yet hold
 * exclusive locks on the partitioned tables.
 */
extern void om_archived_amounts_remove(TimestampTz month, Oid event_leaf);

#endif /* OM_ARCHIVEDAMOUNTS_H */
