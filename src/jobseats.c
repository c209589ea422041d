/*
 * jobseats.c
 *		The places of workers that are started for a job.
 *
 * The built-in worker that looks after them deals the seats; should that one
 * end, the next finds who sits there.  Each start has a number: a worker that
 * arrives when another has been started leaves again.
 *
 * Everything is guarded by shared->lock, except the number of the process and
 * the counter of changes.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "faults.h"
#include "jobseats.h"

#define RESTART_MS 500
#define RESTART_MAX_MS 30000
#define NO_SLOT_RETRY_MS 2000
#define STARTING_CHECK_MS 200

static OmDatabase *my_entry = NULL;
static OmJobSeat *my_seat = NULL;
static bool is_resting = false;
static int rests_for = 0; /* milliseconds */

void
om_jobseat_changed(Oid database, OmJob job)
{
	OmDatabase *entry = om_shared_database(database, false /* create */);

	if (entry == NULL)
		return;
	pg_atomic_fetch_add_u32(&entry->jobs[job].changes, 1);
	om_shared_wake_workers(entry);
	om_shared_wake_procno(&entry->jobs[job].procno);
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
	entry->jobs[job].due = 0;
	LWLockRelease(om_shared->lock);
	om_jobseat_changed(database, job);
}

int
om_jobseat_end_locked(OmDatabase *entry)
{
	int running = 0;

	for (int job = 0; job < OM_JOB_COUNT; job++)
	{
		OmJobSeat *seat = &entry->jobs[job];

		if (seat->state == OM_SEAT_TAKEN)
		{
			kill(seat->pid, SIGTERM);
			running++;
			continue;
		}
		seat->state = OM_SEAT_EMPTY;
		seat->start++; /* who is on his way finds himself replaced */
		seat->due = 0;
	}
	return running;
}

/* ---------- looking after a worker ---------- */

/* A worker that was registered but never arrived must not block its seat. */
static void
check_starting(OmJobKeeper *keeper, OmJobSeat *seat)
{
	pid_t pid;

	if (seat->state == OM_SEAT_STARTING &&
		(keeper->handle == NULL || GetBackgroundWorkerPid(keeper->handle, &pid) == BGWH_STOPPED))
		seat->state = OM_SEAT_EMPTY;
}

static bool
register_worker(OmJobKeeper *keeper, const OmDatabase *entry)
{
	BackgroundWorker bgw = {.bgw_flags =
								BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							.bgw_start_time = BgWorkerStart_RecoveryFinished,
							.bgw_restart_time = BGW_NEVER_RESTART,
							.bgw_main_arg = Int32GetDatum(entry - om_shared->databases),
							.bgw_notify_pid = MyProcPid};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext); /* the handle's */
	const OmJobSeat *seat = &entry->jobs[keeper->job];
	bool registered;

	strlcpy(bgw.bgw_library_name, "order_mgmt", BGW_MAXLEN);
	strlcpy(bgw.bgw_function_name, keeper->function, BGW_MAXLEN);
	strlcpy(bgw.bgw_type, keeper->what, BGW_MAXLEN);
	snprintf(bgw.bgw_name, BGW_MAXLEN, "%s of database %u", keeper->what, entry->database);
	memcpy(bgw.bgw_extra, &seat->start, sizeof(seat->start));
	if (keeper->handle != NULL)
		pfree(keeper->handle);
	keeper->handle = NULL;
	registered = RegisterDynamicBackgroundWorker(&bgw, &keeper->handle);
	MemoryContextSwitchTo(caller);
	return registered;
}

static void
report_slots(OmJobKeeper *keeper, bool exhausted)
{
	if (exhausted && !keeper->slots_exhausted)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("order_mgmt found no free background worker slot for %s", keeper->purpose),
				 errhint("Increase max_worker_processes; until one is free %s waits.",
						 keeper->purpose)));
	keeper->slots_exhausted = exhausted;
}

static TimestampTz
start_worker(OmJobKeeper *keeper, OmDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	OmJobSeat *seat = &entry->jobs[keeper->job];

	seat->restart = pg_atomic_read_u32(&entry->restart);
	seat->start++;
	seat->state = OM_SEAT_STARTING;
	OM_FAULT_POINT("jobseats/seat-dealt");
	if (register_worker(keeper, entry))
	{
		report_slots(keeper, false);
		return TimestampTzPlusMilliseconds(now, STARTING_CHECK_MS);
	}
	report_slots(keeper, true);
	seat->state = OM_SEAT_EMPTY;
	seat->due = TimestampTzPlusMilliseconds(now, NO_SLOT_RETRY_MS);
	return seat->due;
}

static TimestampTz
fill_seat(OmJobKeeper *keeper, OmDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	OmJobSeat *seat = &entry->jobs[keeper->job];

	check_starting(keeper, seat);
	if (seat->state == OM_SEAT_TAKEN || entry->quiesced > 0)
		return 0;
	if (seat->state == OM_SEAT_STARTING)
		return TimestampTzPlusMilliseconds(now, STARTING_CHECK_MS);
	return seat->due > now ? seat->due : start_worker(keeper, entry);
}

TimestampTz
om_jobkeeper_fill(OmJobKeeper *keeper, OmDatabase *entry)
{
	TimestampTz next;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	next = fill_seat(keeper, entry);
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
	if (my_seat->pid == MyProcPid)
	{
		database = my_entry->database;
		my_seat->pid = 0;
		my_seat->state = OM_SEAT_EMPTY;
		my_seat->failures = is_resting ? 0 : my_seat->failures + 1;
		my_seat->due = TimestampTzPlusMilliseconds(
			GetCurrentTimestamp(),
			is_resting ? rests_for : Min(RESTART_MS * my_seat->failures, RESTART_MAX_MS));
		pg_atomic_write_u32(&my_seat->procno, OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	if (OidIsValid(database))
		om_jobseat_changed(database, (OmJob) (my_seat - my_entry->jobs));
	om_shared_wake_launcher();
}

OmDatabase *
om_jobseat_take(OmJob job, Datum arg)
{
	OmDatabase *entry = &om_shared->databases[DatumGetInt32(arg)];
	OmJobSeat *seat = &entry->jobs[job];
	bool taken = false;
	uint32 start;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
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
	my_seat = seat;
	before_shmem_exit(leave, (Datum) 0);
	return entry;
}

bool
om_jobseat_must_leave(void)
{
	return pg_atomic_read_u32(&my_entry->restart) != my_seat->restart;
}

void
om_jobseat_works(void)
{
	if (my_seat->failures == 0)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	my_seat->failures = 0;
	LWLockRelease(om_shared->lock);
}

void
om_jobseat_rest(int ms)
{
	is_resting = true;
	rests_for = ms;
}
