/*
 * loaderseat.h
 *		The place of the worker that runs the loads of a database, in shared memory.
 */
#ifndef OM_LOADERSEAT_H
#define OM_LOADERSEAT_H

#include "postgres.h"

#include "shared.h"

/* Loads or their worker have changed: whoever waits for that, or looks after it, is to look. */
extern void om_loaderseat_changed(Oid database);

/* Ends the worker of a database; returns how many have not left yet.  shared->lock is held. */
extern int om_loaderseat_end_locked(OmDatabase *entry);

/*
 * For the worker itself: sits down (NULL: another has been started since, or
 * nobody is to run now) until the process ends.
 */
extern OmDatabase *om_loaderseat_take(int entry_index, uint32 start);

/* The worker works: earlier failures no longer count. */
extern void om_loaderseat_works(void);

/* It is going to end because nothing is left to do: the next may come at once. */
extern void om_loaderseat_rest(void);

#endif /* OM_LOADERSEAT_H */
