/*
 * jobseats.h
 *		The places of workers that are started for a job and end when it is done:
 *		loads, maintenance, predictions.
 */
#ifndef OM_JOBSEATS_H
#define OM_JOBSEATS_H

#include "postgres.h"

#include "shared.h"

/* A job or its worker have changed: whoever waits for that, or looks after it, is to look. */
extern void om_jobseat_changed(Oid database, OmJob job);

/* There is something to do of a job that no table tells of. */
extern void om_jobseat_ask(Oid database, OmJob job);

/* Ends the workers of a database; returns how many have not left yet.  shared->lock is held. */
extern int om_jobseat_end_locked(OmDatabase *entry);

/*
 * For the built-in worker that looks after a job: what it knows of the worker
 * that it has started.  To be kept for as long as the process lives.
 */
typedef struct OmJobKeeper
{
	OmJob job;
	OmSeatKind kind;
	BackgroundWorkerHandle *handle;
	uint32 looked_at; /* value of the counter of changes at the last look */
	bool has_looked;
} OmJobKeeper;

/* True when the job or its worker may have changed since the last look; the next begins one. */
extern bool om_jobkeeper_needs_look(OmJobKeeper *keeper, OmDatabase *entry);
extern OmJobSeat *om_jobkeeper_look(OmJobKeeper *keeper, OmDatabase *entry);

/*
 * There is something to do: starts the worker, unless it runs.  Returns when to
 * look again at the latest; 0: when the job has changed.
 */
extern TimestampTz om_jobkeeper_fill(OmJobKeeper *keeper, OmDatabase *entry);

/*
 * For the worker itself: sits down (NULL: another has been started since, or
 * nobody is to run now) until the process ends.
 */
extern OmDatabase *om_jobseat_take(OmJob job, Datum arg);

/* To be asked between two transactions: it is to end, with the other workers of the database. */
extern bool om_jobseat_must_leave(void);

/* The worker works: earlier failures no longer count. */
extern void om_jobseat_works(void);

/*
 * It is going to end because nothing is left to do: the next may come at once,
 * or after so long where nobody asks before.
 */
extern void om_jobseat_rest(int ms);

#endif /* OM_JOBSEATS_H */
