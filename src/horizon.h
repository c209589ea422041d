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
	int64 xmax;         /* no lxid from here on can be seen */
	int64 own_lxid;     /* save that of this one (0: none) ... */
	int64 own_event_id; /* ... the events up to here can be seen */
	int nrunning;
	int64 *running; /* sorted: in between, but not yet ended */
} OmHorizon;

/*
 * What a snapshot shows.  The current transaction itself counts as running,
 * whatever PostgreSQL says of it.
 */
extern OmHorizon *om_horizon_take(Snapshot snapshot, int64 xid_base);

/* Adds what the current transaction has written to the log so far. */
extern void om_horizon_add_own(OmHorizon *horizon, int64 lxid, int64 last_event_id);

extern bool om_horizon_shows(const OmHorizon *horizon, int64 lxid, int64 event_id);

/* Whether a transaction as a whole can be seen. */
extern bool om_horizon_shows_all(const OmHorizon *horizon, int64 lxid);

/* The stored form: bigint[] {xmin, xmax, own_lxid, own_event_id, running …}. */
extern ArrayType *om_horizon_to_array(const OmHorizon *horizon);
extern OmHorizon *om_horizon_from_array(ArrayType *array);

extern OmHorizon *om_horizon_copy(const OmHorizon *horizon);
extern void om_horizon_free(OmHorizon *horizon);
extern bool om_horizon_equals(const OmHorizon *a, const OmHorizon *b);

#endif /* OM_HORIZON_H */
