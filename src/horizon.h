/*
 * horizon.h
 *		Which transactions of the log can be seen: a snapshot in lxids.
 */
#ifndef OM_HORIZON_H
#define OM_HORIZON_H

#include "postgres.h"

#include "utils/array.h"
#include "utils/snapshot.h"

typedef struct OmHorizon
{
	int64 xmin;         /* every lxid below has ended */
	int64 xmax;         /* lxids from here on cannot be seen */
	int64 own_lxid;     /* save that of this one (0: none) ... */
	int64 own_event_id; /* ... the events up to here can be seen */
	int nexceptions;
	int64 *exceptions; /* sorted: below xmax but not yet ended; from xmax on, but seen as a whole */
} OmHorizon;

/*
 * What a snapshot shows.  The current transaction itself counts as running,
 * whatever PostgreSQL says of it.
 */
extern OmHorizon *om_horizon_take(Snapshot snapshot, int64 xid_base);

/* Adds what the current transaction has written to the log so far. */
extern void om_horizon_add_own(OmHorizon *horizon, int64 lxid, int64 last_event_id);

/* From now on it shows this transaction as a whole, too. */
extern void om_horizon_add_seen(OmHorizon *horizon, int64 lxid);

/* From now on it shows nothing from here on. */
extern void om_horizon_cut(OmHorizon *horizon, int64 xmax);

/* How many transactions from xmax on it shows. */
extern int om_horizon_count_ahead(const OmHorizon *horizon);

extern bool om_horizon_shows(const OmHorizon *horizon, int64 lxid, int64 event_id);

/* Whether a transaction as a whole can be seen. */
extern bool om_horizon_shows_all(const OmHorizon *horizon, int64 lxid);

/* The stored form: bigint[] {xmin, xmax, own_lxid, own_event_id, exceptions …}. */
extern ArrayType *om_horizon_to_array(const OmHorizon *horizon);
extern OmHorizon *om_horizon_from_array(ArrayType *array);

extern OmHorizon *om_horizon_copy(const OmHorizon *horizon);
extern void om_horizon_free(OmHorizon *horizon);
extern bool om_horizon_equals(const OmHorizon *a, const OmHorizon *b);

#endif /* OM_HORIZON_H */
