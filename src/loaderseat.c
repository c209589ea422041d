/*
 * loaderseat.c
 *		The place of the worker that runs the loads of a database.
 *
 * The built-in worker that looks after it (loadworker.c) deals the seat; should
 * that one end, the next finds who sits there.  Each start has a number: a
 * worker that arrives when another has been started leaves again.
 *
 * Everything is guarded by shared->lock, except the number of the process.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "loaderseat.h"

#define RESTART_MS 500
#define RESTART_MAX_MS 30000

static OmDatabase *my_entry = NULL;
static bool is_resting = false;

void
om_loaderseat_changed(Oid database)
{
	OmDatabase *entry = om_shared_database(database, false /* create */);

	if (entry == NULL)
		return;
	pg_atomic_fetch_add_u32(&entry->loads, 1);
	om_shared_wake_workers(entry);
	om_shared_wake_procno(&entry->loader.procno);
	ConditionVariableBroadcast(&entry->loaded);
}

int
om_loaderseat_end_locked(OmDatabase *entry)
{
	OmLoaderSeat *seat = &entry->loader;

	if (seat->state == OM_SEAT_TAKEN)
	{
		kill(seat->pid, SIGTERM);
		return 1;
	}
	seat->state = OM_SEAT_EMPTY;
	seat->start++; /* who is on his way finds himself replaced */
	seat->due = 0;
	return 0;
}

/* However it ended, the next one comes after a moment, unless there was nothing left to do. */
static void
leave(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	OmLoaderSeat *seat = &my_entry->loader;
	Oid database = InvalidOid;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (seat->pid == MyProcPid)
	{
		database = my_entry->database;
		seat->pid = 0;
		seat->state = OM_SEAT_EMPTY;
		seat->failures = is_resting ? 0 : seat->failures + 1;
		seat->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												Min(RESTART_MS * seat->failures, RESTART_MAX_MS));
		pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	if (OidIsValid(database))
		om_loaderseat_changed(database);
	om_shared_wake_launcher();
}

OmDatabase *
om_loaderseat_take(int entry_index, uint32 start)
{
	OmDatabase *entry = &om_shared->databases[entry_index];
	OmLoaderSeat *seat = &entry->loader;
	bool taken = false;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (OidIsValid(entry->database) && seat->state == OM_SEAT_STARTING && seat->start == start)
	{
		taken = entry->quiesced == 0;
		seat->state = taken ? OM_SEAT_TAKEN : OM_SEAT_EMPTY;
		seat->pid = taken ? MyProcPid : 0;
		pg_atomic_write_u32(&seat->procno, taken ? (uint32) om_my_proc_number() : OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	if (!taken)
		return NULL;
	my_entry = entry;
	before_shmem_exit(leave, (Datum) 0);
	return entry;
}

void
om_loaderseat_works(void)
{
	if (my_entry->loader.failures == 0)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	my_entry->loader.failures = 0;
	LWLockRelease(om_shared->lock);
}

void
om_loaderseat_rest(void)
{
	is_resting = true;
}
