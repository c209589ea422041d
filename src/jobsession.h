/*
 * jobsession.h
 *		The session of a worker that has been started for a job.
 */
#ifndef OM_JOBSESSION_H
#define OM_JOBSESSION_H

#include "postgres.h"

#include "utils/elog.h"

#include "locks.h"
#include "shared.h"

/*
 * Takes the seat of the job, connects to its database and takes the lock that
 * lets one process do the job there.  Ends the process where it is not wanted.
 */
extern OmDatabase *om_jobsession_start(OmJob job, Datum arg, OmLock lock);

/* Between two transactions; ends the process where it is to leave. */
extern void om_jobsession_obey_signals(void);

/*
 * Does work that is made of transactions.  An error ends the one that has
 * failed; it goes to the log and is returned, in the context given, which is then
 * the current one.
 */
extern ErrorData *om_jobsession_attempt(void (*work)(void *arg), void *arg, MemoryContext context);

#endif /* OM_JOBSESSION_H */
