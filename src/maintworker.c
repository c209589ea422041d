/*
 * maintworker.c
 *		Runs maintenance in a worker of its own.
 *
 * Copying a month may take minutes, for which no stage is to wait.  The built-in
 * worker that does the upkeep starts this one at its own start, when a day has
 * begun (UTC) and when a policy has changed, if any table has a policy that asks
 * for anything; it goes through the steps of maintenance.c, each in a
 * transaction, and ends.  Months of our own tables are made ahead by the
 * built-in worker itself: nothing of a user's can stop that.
 *
 * It holds OM_LOCK_MAINTENANCE as long as it lives.  Where a table was in use
 * for too long, it is started again after a while.
 */
#include "postgres.h"

#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "bgsession.h"
#include "clock.h"
#include "faults.h"
#include "jobseats.h"
#include "jobsession.h"
#include "locks.h"
#include "maintenance.h"
#include "maintworker.h"

/* What could not be locked is tried again then. */
#define TRY_AGAIN_MS (5 * 60 * 1000)

/* ---------- looking after the worker ---------- */

static OmJobKeeper keeper = {.job = OM_JOB_MAINTENANCE,
							 .kind = {.function = "om_maintenance_main",
									  .type = "order_mgmt maintenance",
									  .purpose = "maintenance"}};
static TimestampTz asked_on = DT_NOBEGIN;

void
om_maintworker_ask_daily(OmDatabase *entry)
{
	TimestampTz now = om_clock_now();
	TimestampTz day = now - now % USECS_PER_DAY;

	if (day == asked_on)
		return;
	asked_on = day;
	if (om_maintenance_is_wanted())
		om_jobseat_ask(entry->database, OM_JOB_MAINTENANCE);
}

bool
om_maintworker_needs_look(OmDatabase *entry)
{
	return om_jobkeeper_needs_look(&keeper, entry);
}

TimestampTz
om_maintworker_look_after(OmDatabase *entry)
{
	OmJobSeat *seat = om_jobkeeper_look(&keeper, entry);

	if (pg_atomic_read_u32(&seat->asked) == pg_atomic_read_u32(&seat->done))
		return 0;
	return om_jobkeeper_fill(&keeper, entry);
}

/* ---------- the worker ---------- */

typedef struct MaintWorker
{
	OmDatabase *database;
	MemoryContext context; /* of a run */
	bool gave_up;          /* on something that was locked */
} MaintWorker;

static MaintWorker self;

static void
do_step(void *step)
{
	List *actions = NIL;

	om_bgsession_begin();
	om_maintenance_do(step, &actions);
	OM_FAULT_POINT("maintworker/before-commit");
	om_bgsession_commit(true /* durable */);
	OM_FAULT_POINT_NOFAIL("maintworker/after-commit");
}

static void
log_failure(const OmMaintStep *step, const ErrorData *error)
{
	om_bgsession_begin();
	self.gave_up |= om_maintenance_failed(step, error);
	om_bgsession_commit(true /* durable */);
}

static void
run_steps(bool moves)
{
	List *steps;
	ListCell *cell;
	MemoryContext transaction;

	om_bgsession_begin();
	transaction = MemoryContextSwitchTo(self.context);
	steps = moves ? om_maintenance_moves() : om_maintenance_quick_steps(true /* may_sweep */);
	MemoryContextSwitchTo(transaction);
	om_bgsession_commit(true /* durable */);
	foreach(cell, steps)
	{
		ErrorData *error;
		int tries = 0;

		om_jobsession_obey_signals();
		do
			error = om_jobsession_attempt(do_step, lfirst(cell), self.context);
		while (error != NULL && om_maintenance_tries_again(lfirst(cell), error, ++tries));
		if (error != NULL)
			log_failure(lfirst(cell), error);
		else
			om_jobseat_works();
	}
}

static void
run(void)
{
	pgstat_report_activity(STATE_RUNNING, "maintenance");
	self.gave_up = false;
	run_steps(false /* moves */);
	run_steps(true /* moves */);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(self.context);
}

void
om_maintenance_main(Datum arg)
{
	OmJobSeat *seat;
	uint32 asked;

	self.database = om_jobsession_start(OM_JOB_MAINTENANCE, arg, OM_LOCK_MAINTENANCE);
	self.context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt maintenance", ALLOCSET_DEFAULT_SIZES);
	seat = &self.database->jobs[OM_JOB_MAINTENANCE];
	do
	{
		asked = pg_atomic_read_u32(&seat->asked);
		om_jobsession_obey_signals();
		run();
	} while (pg_atomic_read_u32(&seat->asked) != asked);
	if (!self.gave_up)
		pg_atomic_write_u32(&seat->done, asked);
	om_jobseat_rest(self.gave_up ? TRY_AGAIN_MS : 0);
	proc_exit(0);
}
