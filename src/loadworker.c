/*
 * loadworker.c
 *		Runs loads in a worker of their own, one after the other.
 *
 * A load may take hours, so no built-in worker waits for one.  The one that
 * does the upkeep of the database starts this worker when a load has been asked
 * for, and again while one is unfinished and nobody is at it; it ends when none
 * is left.  It works with the rights of the server, as the built-in workers do:
 * who may load what was settled when the load was asked for.
 *
 * It holds OM_LOCK_LOADER as long as it lives, which makes it the only one.
 * Every batch is a transaction of its own that also says how far the load is:
 * whoever comes next goes on from there.
 *
 * An error ends the load, and the next one has its turn.  Errors that pass are
 * tried again from where the load was committed last: serialization failures
 * and deadlocks, locks that could not be had, and want of disk space, memory or
 * connections.  A load that ends the process, as by a crash, is tried again as
 * well, but ten times at the same place are enough (inflight.c counts).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "errors.h"
#include "faults.h"
#include "inflight.h"
#include "jobseats.h"
#include "jobsession.h"
#include "loader.h"
#include "loadrequests.h"
#include "loads.h"
#include "loadworker.h"
#include "locks.h"

#define CRASHES_TO_GIVE_UP 10
#define RETRIES_TO_GIVE_UP 6
#define RETRY_MIN_MS 250 /* doubles: 16 seconds for all of them */

/* By which crashes of loads are counted; no consumer may have this name. */
#define INFLIGHT_NAME "*"

/* ---------- looking after the worker ---------- */

static OmJobKeeper keeper = {
	.job = OM_JOB_LOADS,
	.kind = {.function = "om_loader_main", .type = "order_mgmt loader", .purpose = "loads"}};

bool
om_loadworker_needs_look(OmDatabase *entry)
{
	return om_jobkeeper_needs_look(&keeper, entry);
}

TimestampTz
om_loadworker_look_after(OmDatabase *entry)
{
	(void) om_jobkeeper_look(&keeper, entry);
	return om_load_is_waiting() ? om_jobkeeper_fill(&keeper, entry) : 0;
}

/* ---------- the worker ---------- */

typedef struct LoadWorker
{
	OmDatabase *database;
	MemoryContext context; /* of one load */
	OmInflight *slot;
	int64 place;            /* in flight; 0: nothing is */
	int64 failed_place;     /* where the last error was that may pass */
	int retries;            /* so many in a row there */
	TimestampTz not_before; /* rests until then; 0: does not */
} LoadWorker;

static LoadWorker self;

/* What a load does from one commit of its position to the next counts as one event. */
static int64
place_of(const OmLoad *load)
{
	uint64 hash = hash_combine64(load->load_id, load->status);

	hash = hash_combine64(hash_combine64(hash, load->done_records), load->done_sorted);
	hash = hash_combine64(hash_combine64(hash, load->rows_read), load->bytes_read);
	return (int64) (hash >> 1) + 1;
}

static void
note_place(OmLoad *load)
{
	int64 place = place_of(load);

	if (place == self.place)
		return;
	if (self.place != 0)
		om_inflight_end(self.slot);
	om_inflight_begin(self.slot, 1, place);
	self.place = place;
}

/* After each commit of a load that runs. */
static void
pause_between(OmLoad *load)
{
	om_jobseat_works();
	note_place(load);
	om_jobsession_obey_signals();
}

/* Raises an error where the load has ended the process too often. */
static void
review_crashes(OmLoad *load)
{
	OmSuspicion suspicion = om_inflight_review(self.slot);

	if (suspicion.event_id != place_of(load) || suspicion.crashes < CRASHES_TO_GIVE_UP)
		return;
	om_inflight_forget(self.slot);
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("load " INT64_FORMAT " has ended its process %d times at the same place",
					load->load_id, suspicion.crashes),
			 errdetail("It had done " INT64_FORMAT " records.", load->done_records),
			 errhint("The log of the server says how. What had been loaded before stays; the same "
					 "load, asked for again, goes on after it.")));
}

static OmLoad *
find_load(void)
{
	MemoryContext transaction;
	OmLoad *load;

	om_bgsession_begin();
	om_loadrequest_cancel_others(0);
	transaction = MemoryContextSwitchTo(self.context);
	load = om_load_next();
	MemoryContextSwitchTo(transaction);
	om_bgsession_commit(true /* durable */);
	return load;
}

static void
run_load(void *arg)
{
	OmLoad *load = arg;

	load->between = pause_between;
	om_bgsession_begin();
	MemoryContextSwitchTo(load->context);
	review_crashes(load);
	note_place(load);
	om_load_begin(load);
	om_loader_run(load);
	om_load_finish(load);
	OM_FAULT_POINT("loadworker/before-done");
	om_bgsession_commit(true /* durable */);
	OM_FAULT_POINT_NOFAIL("loadworker/done");
	om_inflight_end(self.slot);
	self.place = 0;
}

static bool
may_pass(int sqlstate)
{
	return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		   sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED || sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INSUFFICIENT_RESOURCES;
}

/* True when the load is to be tried again, after a rest, from where it was committed last. */
static bool
is_to_be_retried(const ErrorData *error, int64 place)
{
	if (!may_pass(error->sqlerrcode))
		return false;
	if (place != self.failed_place)
		self.retries = 0;
	self.failed_place = place;
	if (++self.retries > RETRIES_TO_GIVE_UP)
		return false;
	self.not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  (int64) RETRY_MIN_MS << (self.retries - 1));
	return true;
}

static void
end_load(int64 load_id, const ErrorData *error)
{
	OmLoadStatus status =
		error->sqlerrcode == ERRCODE_QUERY_CANCELED ? OM_LOAD_CANCELLED : OM_LOAD_FAILED;

	om_bgsession_begin();
	om_load_fail(load_id, status, error);
	OM_FAULT_POINT("loadworker/before-failed");
	om_bgsession_commit(true /* durable */);
	self.retries = 0;
}

static void
attempt(OmLoad *load)
{
	ErrorData *error;

	self.not_before = 0;
	error = om_jobsession_attempt(run_load, load, self.context);
	if (error != NULL)
		om_inflight_abort(self.slot);
	if (error != NULL && !is_to_be_retried(error, self.place))
		end_load(load->load_id, error);
	if (error == NULL)
		self.retries = 0;
	self.place = 0;
}

/* Rests after an error that may pass; somebody may cancel the load meanwhile. */
static void
rest(void)
{
	pgstat_report_activity(STATE_IDLE, NULL);
	while (self.not_before != 0)
	{
		uint32 requests = pg_atomic_read_u32(&self.database->jobs[OM_JOB_LOADS].changes);
		long timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), self.not_before);

		if (timeout > 0)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
							 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		om_jobsession_obey_signals();
		if (timeout <= 0)
			self.not_before = 0;
		else if (pg_atomic_read_u32(&self.database->jobs[OM_JOB_LOADS].changes) != requests)
			return;
	}
}

/* The oldest load that there is, unless it rests; false when there is none. */
static bool
run_next(void)
{
	OmLoad *load = find_load();

	if (load == NULL)
		return false;
	if (self.not_before == 0 || place_of(load) != self.failed_place)
		attempt(load);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(self.context);
	return true;
}

void
om_loader_main(Datum arg)
{
	self.database = om_jobsession_start(OM_JOB_LOADS, arg, OM_LOCK_LOADER);
	self.context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt loads", ALLOCSET_DEFAULT_SIZES);
	self.slot = om_inflight_attach(INFLIGHT_NAME);
	do
	{
		rest();
		om_jobsession_obey_signals();
	} while (run_next());
	om_jobseat_rest(0 /* ms */);
	proc_exit(0);
}
