/*
 * jobseats.c
 *		The places of workers that are started for a job.
 *
 * The built-in worker that looks after them deals the seats.  Everything is
 * guarded by shared->lock, except the counters of changes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "jobseats.h"

static OmDatabase *my_entry = NULL;
static OmJobSeat *my_seat = NULL;
static int pause_ms = OM_SEAT_BACK_OFF; /* before the next one comes */

void
om_jobseat_changed(Oid database, OmJob job)
{
	OmDatabase *entry = om_shared_database(database, false /* create */);

	if (entry == NULL)
		return;
	pg_atomic_fetch_add_u32(&entry->jobs[job].changes, 1);
	om_shared_wake_workers(entry);
	om_seat_wake(&entry->jobs[job].base);
	if (job == OM_JOB_LOADS)
		ConditionVariableBroadcast(&entry->loaded);
}

void
om_jobseat_ask(Oid database, OmJob job)
{
	OmDatabase *entry = om_shared_database(database, false /* create */);

	if (entry == NULL)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	pg_atomic_fetch_add_u32(&entry->jobs[job].asked, 1);
	entry->jobs[job].base.due = 0;
	LWLockRelease(om_shared->lock);
	om_jobseat_changed(database, job);
}

int
om_jobseat_end_locked(OmDatabase *entry)
{
	int running = 0;

	for (int job = 0; job < OM_JOB_COUNT; job++)
		running += om_seat_end(&entry->jobs[job].base);
	return running;
}

/* ---------- looking after a worker ---------- */

bool
om_jobkeeper_needs_look(OmJobKeeper *keeper, OmDatabase *entry)
{
	return !keeper->has_looked ||
		   pg_atomic_read_u32(&entry->jobs[keeper->job].changes) != keeper->looked_at;
}

OmJobSeat *
om_jobkeeper_look(OmJobKeeper *keeper, OmDatabase *entry)
{
	OmJobSeat *seat = &entry->jobs[keeper->job];

	keeper->looked_at = pg_atomic_read_u32(&seat->changes);
	keeper->has_looked = true;
	return seat;
}

TimestampTz
om_jobkeeper_fill(OmJobKeeper *keeper, OmDatabase *entry)
{
	char *name = psprintf("%s of database %u", keeper->kind.type, entry->database);
	TimestampTz next = 0;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (entry->quiesced == 0)
		next = om_seat_fill(&entry->jobs[keeper->job].base, &keeper->kind, name,
							Int32GetDatum(entry - om_shared->databases),
							pg_atomic_read_u32(&entry->restart), &keeper->handle);
	LWLockRelease(om_shared->lock);
	return next;
}

/* ---------- the worker ---------- */

/* However it ended, the next one comes after a moment, unless there was nothing left to do. */
static void
leave(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	Oid database = InvalidOid;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (om_seat_leave(&my_seat->base, pause_ms))
		database = my_entry->database;
	LWLockRelease(om_shared->lock);
	if (OidIsValid(database))
		om_jobseat_changed(database, (OmJob) (my_seat - my_entry->jobs));
	om_shared_wake_launcher();
}

OmDatabase *
om_jobseat_take(OmJob job, Datum arg)
{
	OmDatabase *entry = &om_shared->databases[DatumGetInt32(arg)];
	bool taken;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	taken =
		om_seat_take(&entry->jobs[job].base, OidIsValid(entry->database) && entry->quiesced == 0);
	LWLockRelease(om_shared->lock);
	if (!taken)
		return NULL;
	my_entry = entry;
	my_seat = &entry->jobs[job];
	before_shmem_exit(leave, (Datum) 0);
	return entry;
}

bool
om_jobseat_must_leave(void)
{
	return pg_atomic_read_u32(&my_entry->restart) != my_seat->base.restart;
}

void
om_jobseat_works(void)
{
	if (my_seat->base.failures == 0)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	my_seat->base.failures = 0;
	LWLockRelease(om_shared->lock);
}

void
om_jobseat_rest(int ms)
{
	pause_ms = ms;
}
