/*
 * archivedamounts.h
 *		What is known of a month whose rows have left the database: what
 *		balances, stock and counts of events are proven with.
 */
#ifndef OM_ARCHIVEDAMOUNTS_H
#define OM_ARCHIVEDAMOUNTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "plans.h"

/* An OM006 where the tables are missing: setup() makes them. */
extern void om_archived_amounts_require(void);

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
 * the month's events, filled, attached or not; InvalidOid where it had none.  Takes the locks of such
 * consumers and waits for their batches, so the caller must not yet hold
 * exclusive locks on the partitioned tables.
 */
extern void om_archived_amounts_remove(TimestampTz month, Oid event_leaf);

/*
 * Which months are partitions is seen in the newest catalog, whatever snapshot one
 * has; so who puts them together with what is known of the others keeps all of
 * them where they are (ACCESS SHARE to the end of the transaction), and then reads
 * that with the latest snapshot.
 */
extern void om_archived_amounts_hold_months(void);

/*
 * The whole of a statement of the account or product that is the first of the arguments.
 * The query finds rows under three names: "shown" are movements of months that are here by
 * orders that are not (event_id, at, amount, order_id); "hidden" is what else each
 * month in the archive came to (month, amount); "gone" are these months (month).
 */
extern Datum om_archived_amounts_return_set(FunctionCallInfo fcinfo, const char *kind,
											OmQuery *query, const Datum *args, const bool *isnull);

/* The event of a shipment, unless that lies in a month that is in the archive. */
#define OM_ARCHIVED_AMOUNTS_EVENT(l)                                                  \
	"CASE WHEN date_trunc('month', " l ".at, 'UTC') NOT IN (SELECT month FROM gone) " \
	"THEN " l ".event_id END AS event_id"

#endif /* OM_ARCHIVEDAMOUNTS_H */
