/*
 * shared.h
 *		Shared memory: which databases there are, who works in them, and how
 *		they are woken.
 */
#ifndef OM_SHARED_H
#define OM_SHARED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "names.h"
#include "seats.h"

#define OM_MAX_DATABASES 64
#define OM_MAX_SEATS OM_STAGE_COUNT

/* The place of a worker that runs stages; the launcher looks after it. */
typedef struct OmStageSeat
{
	OmSeat base;
	bool works;              /* has found that there is work for it here; shared->lock */
	pg_atomic_uint32 stages; /* OM_STAGE_BITs it is to run; the launcher writes */
} OmStageSeat;

/* Among the stages: its worker is to leave when it has finished its batch. */
#define OM_SEAT_DISMISSED ((uint32) 1 << 31)

/* Subscriptions of all databases that can have a worker at the same time. */
#define OM_MAX_HANDLERS 64

/* Names of consumers have up to 64 characters. */
#define OM_CONSUMER_NAME_SIZE (64 * 4 + 1)

/* The place of a subscription's worker; module handlerseats looks after them. */
typedef struct OmHandlerSeat
{
	OmSeat base;
	Oid database; /* InvalidOid: free; this and all below: shared->lock */
	char consumer[OM_CONSUMER_NAME_SIZE];
	Oid role;      /* as which the worker connects */
	int64 running; /* event whose handler runs; 0: none */
	int64 suspect; /* event whose handler ended a worker */
	int deaths;    /* how many, in a row */
} OmHandlerSeat;

/* What a worker is started for when there is something to do, and ends when it is done. */
typedef enum OmJob
{
	OM_JOB_LOADS,
	OM_JOB_MAINTENANCE,
	OM_JOB_PREDICTIONS
} OmJob;

#define OM_JOB_COUNT 3

/* The place of its worker; module jobseats looks after it. */
typedef struct OmJobSeat
{
	OmSeat base;
	pg_atomic_uint32 changes; /* grows when the job or its worker changes */
	pg_atomic_uint32 asked;   /* grows when the job is asked for, where no table says it */
	pg_atomic_uint32 done;    /* value of asked when what was asked for had been begun last */
} OmJobSeat;

#define OM_MOVE_COUNTERS 16

typedef struct OmDatabase
{
	Oid database; /* InvalidOid: free; shared->lock */
	int quiesced; /* > 0: start nothing here; shared->lock */
	bool retired; /* gone, or takes no connections: start nothing here; shared->lock */
	OmStageSeat seats[OM_MAX_SEATS];
	pg_atomic_uint64 commits;  /* transactions that wrote to the log */
	pg_atomic_uint64 ticked;   /* value of commits that the newest tick covers */
	pg_atomic_uint32 restart;  /* workers end and come back with new settings */
	pg_atomic_uint32 handlers; /* grows when subscriptions or their workers change */
	OmJobSeat jobs[OM_JOB_COUNT];
	pg_atomic_uint64 moves[OM_MOVE_COUNTERS]; /* of cursors, shared out among them by name */
	ConditionVariable progress;               /* broadcast when a worker has committed */
	ConditionVariable appended;               /* broadcast when anybody has committed to the log */
	ConditionVariable loaded;                 /* broadcast when "loads" grows */
} OmDatabase;

typedef struct OmShared
{
	LWLock *lock;
	pg_atomic_uint32 launcher_procno;
	bool rescan; /* list of databases has changed; lock */
	OmDatabase databases[OM_MAX_DATABASES];
	OmHandlerSeat handlers[OM_MAX_HANDLERS];
} OmShared;

/* NULL where the library is not in shared_preload_libraries. */
extern OmShared *om_shared;

extern void om_shared_init(void);

/* This database's entry, made on demand; NULL when not preloaded or all are taken. */
extern OmDatabase *om_shared_database(Oid database, bool create);

/* That of the database we are connected to. */
extern OmDatabase *om_shared_my_database(void);

/* Call with shared->lock held. */
extern OmDatabase *om_shared_database_locked(Oid database, bool create);

extern void om_shared_wake_workers(OmDatabase *entry);
extern void om_shared_wake_handlers(Oid database);
extern void om_shared_wake_launcher(void);

/* Makes the launcher look at a database again: it was set up, changed or restored. */
extern void om_shared_knock(Oid database);

/* True when a transaction is that of one of this database's workers. */
extern bool om_shared_is_worker(TransactionId xid);

/* PID of the live worker of a stage, or 0. */
extern pid_t om_shared_stage_worker(OmStage stage);

#endif /* OM_SHARED_H */
