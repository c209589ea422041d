/*
 * locks.h
 *		The heavyweight locks of the pipeline, one set per database, held to the
 *		end of the (sub)transaction, or of the process.
 */
#ifndef OM_LOCKS_H
#define OM_LOCKS_H

#include "postgres.h"

#include "names.h"

/* Lock numbers: the stages first, so that a stage's lock is its number. */
typedef enum OmLock
{
	OM_LOCK_STAGE_FIRST = 0,
	OM_LOCK_TICK = OM_STAGE_COUNT,
	OM_LOCK_UPKEEP,
	OM_LOCK_LOADER,                     /* who changes rows of "loads" */
	OM_LOCK_STATISTICS,                 /* who has them refreshed */
	OM_LOCK_ARCHIVE,                    /* who changes rows of "archives", and its files */
	OM_LOCK_MAINTENANCE,                /* who moves months by policy */
	OM_LOCK_PREDICTOR,                  /* who asks models outside for others */
	OM_LOCK_KEY_FIRST = 0x20000000,     /* and 65,535 more, by hash */
	OM_LOCK_MODEL_FIRST = 0x30000000,   /* and 65,535 more, by name: who trains it */
	OM_LOCK_CONSUMER_FIRST = 0x40000000 /* and upwards, by name */
} OmLock;

/* The lock by which a consumer that is not built in is owned. */
extern OmLock om_lock_of_consumer(const char *name);

/* The lock of whoever trains a model. */
extern OmLock om_lock_of_model(const char *name);

extern void om_lock_acquire(OmLock lock);

/* False, at once, when somebody else holds it. */
extern bool om_lock_try(OmLock lock);

/* The same, but it is held to the end of the process. */
extern bool om_lock_try_for_good(OmLock lock);

/* Lets a lock go before the end of the transaction. */
extern void om_lock_release(OmLock lock);

#endif /* OM_LOCKS_H */
