/*
 * lockwaits.h
 *		Waits for locks that end.
 */
#ifndef OM_LOCKWAITS_H
#define OM_LOCKWAITS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* What is done with tables of others waits so long for each lock, unless it says otherwise. */
#define OM_LOCKWAIT_MS 100

/*
 * Calls work(arg) in a subtransaction in which each wait for a lock may take so
 * long.  False: it took longer, or would have been a deadlock; then nothing has
 * changed and nothing is locked.  Other errors go on their way.  What is not to be
 * kept is undone in any case, so a look leaves no lock behind.
 */
extern bool om_lockwait_run(void (*work)(void *arg), void *arg, int ms, bool keep);

/* Locks all of the relations or none; all of them together may take so long. */
extern bool om_lockwait_lock(List *relids, LOCKMODE mode, int ms);

/* Bounds each wait for a lock until the settings are set back; a bound that is lower stays. */
extern void om_lockwait_limit(int ms);

/* Between two tries. */
extern void om_lockwait_pause(int ms);

#endif /* OM_LOCKWAITS_H */
