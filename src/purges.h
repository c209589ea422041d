/*
 * purges.h
 *		Deletes what has been kept for long enough.
 */
#ifndef OM_PURGES_H
#define OM_PURGES_H

#include "postgres.h"

/*
 * Each returns how many rows it has deleted, waits for nobody, and leaves what
 * somebody else has locked, or is purging, to the next time.  Nothing is old
 * where its retention is 0.
 */

/* Loads that have ended with all that belongs to them, and rows that were staged and never loaded. */
extern int64 om_purge_loads(void);

/* Dead letters whose last failure is old, as if somebody had discarded them. */
extern int64 om_purge_dead_letters(void);

/* Rows of prediction_log, and of prediction_requests that have been answered. */
extern int64 om_purge_prediction_log(void);

#endif /* OM_PURGES_H */
