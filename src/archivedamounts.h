/*
 * archivedamounts.h
 *		What is known of a month whose rows have left the database: what
 *		balances, stock and counts of events are proven with.
 */
#ifndef OM_ARCHIVEDAMOUNTS_H
#define OM_ARCHIVEDAMOUNTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

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

/* The event of a shipment, unless that lies in a month that is in the archive. */
#define OM_ARCHIVED_AMOUNTS_EVENT(l)                                    \
	"CASE WHEN NOT EXISTS (SELECT FROM order_mgmt.archived_months AS m" \
	"  WHERE m.month = date_trunc('month', " l ".at, 'UTC')) THEN " l ".event_id END AS event_id"

/*
 * For the statement of account or product $1: "shown" are its movements of months
 * that are here by orders that are not; "hidden" is what else each month in the
 * archive came to.
 */
#define OM_ARCHIVED_AMOUNTS_OF(kind_of)                                                     \
	"shown AS MATERIALIZED (SELECT s.month, s.event_id, s.at, s.amount, s.order_id"         \
	"  FROM order_mgmt.archived_movements AS s WHERE s.kind = '" kind_of "' AND s.key = $1" \
	"  AND NOT EXISTS (SELECT FROM order_mgmt.archived_months AS m"                         \
	"   WHERE m.month = date_trunc('month', s.at, 'UTC'))),"                                \
	" hidden AS MATERIALIZED (SELECT a.month, a.amount - coalesce((SELECT sum(s.amount)"    \
	"   FROM shown AS s WHERE s.month = a.month), 0) AS amount"                             \
	"  FROM order_mgmt.archived_amounts AS a WHERE a.kind = '" kind_of "' AND a.key = $1)"

#endif /* OM_ARCHIVEDAMOUNTS_H */
