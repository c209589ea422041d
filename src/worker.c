/*
 * worker.c
 *		The process that runs the stages of a database, or a share of them.
 *
 * A worker takes the seat that the launcher prepared, looks whether there is
 * anything to do here, and then works in rounds (stages.c) until nothing is left;
 * then it sleeps on its latch, without a transaction, until a commit sets it.
 * One worker of the database, that of the first stage, looks after the rest, too
 * (chores.c).
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "chores.h"
#include "inbox.h"
#include "inflight.h"
#include "installation.h"
#include "settings.h"
#include "shared.h"
#include "stages.h"
#include "worker.h"

typedef struct Worker
{
	OmDatabase *database;
	Oid oid;
	OmStageSeat *seat;
	uint32 stages;
	uint32 restart; /* value of database->restart at the start */
} Worker;

static Worker worker;

/* Leaves the seat; the launcher decides what comes next. */
static void
leave_seat(int code, Datum arg pg_attribute_unused())
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (om_seat_leave(&worker.seat->base, code == 0 ? 0 : OM_SEAT_BACK_OFF))
		worker.seat->works = false;
	LWLockRelease(om_shared->lock);
	ConditionVariableBroadcast(&worker.database->progress);
	om_shared_wake_launcher();
}

static void
take_seat(Datum arg)
{
	bool taken;

	worker.database = &om_shared->databases[OM_WORKER_ARG_ENTRY(arg)];
	worker.seat = &worker.database->seats[OM_WORKER_ARG_SEAT(arg)];
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	worker.oid = worker.database->database;
	taken =
		om_seat_take(&worker.seat->base, OidIsValid(worker.oid) && worker.database->quiesced == 0);
	worker.stages = pg_atomic_read_u32(&worker.seat->stages);
	worker.restart = worker.seat->base.restart;
	LWLockRelease(om_shared->lock);
	if (!taken)
	{
		om_shared_wake_launcher();
		proc_exit(0);
	}
	before_shmem_exit(leave_seat, (Datum) 0);
}

/* Nothing to do here until somebody knocks. */
static void
rest(void)
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&worker.database->restart) == worker.restart)
		worker.seat->base.state = OM_SEAT_AT_REST;
	LWLockRelease(om_shared->lock);
	proc_exit(0);
}

/* Somebody knocked: come back as a new worker. */
static void
come_back(void)
{
	proc_exit(0);
}

static bool
may_work(void)
{
	const OmInstallation *installation;

	if (!om_setting_workers || RecoveryInProgress() ||
		!OidIsValid(get_extension_oid("order_mgmt", true /* missing_ok */)) ||
		!om_installation_exists() || om_installation_version() != OM_SCHEMA_VERSION)
		return false;
	installation = om_installation_get();
	if (om_installation_is_foreign(installation))
		(void) om_installation_lxid(); /* takes it over, which makes it rest */
	return !om_installation_get()->moved;
}

static void
look_around(void)
{
	bool ready;

	om_bgsession_begin();
	ready = may_work();
	om_bgsession_commit(true /* durable */);
	if (!ready)
		rest();
}

/* The launcher shares the stages out anew when workers come and go, and may send one away. */
static void
take_stages(void)
{
	uint32 stages = pg_atomic_read_u32(&worker.seat->stages);

	if (stages == worker.stages)
		return;
	if (stages & OM_SEAT_DISMISSED)
		proc_exit(0);
	worker.stages = stages;
	om_stages_assign(stages);
}

static void
obey_signals(void)
{
	if (om_bgsession_obey_signals())
	{
		om_stages_hurry(); /* what waited may go on now */
		if (!om_setting_workers)
			rest();
	}
	if (pg_atomic_read_u32(&worker.database->restart) != worker.restart)
		come_back();
	take_stages();
}

static bool
has_chores(void)
{
	return (worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) != 0;
}

static void
work_until_idle(void)
{
	do
	{
		obey_signals();
		if (has_chores())
			om_chores_do(worker.database, om_stages_batches());
	} while (om_stages_work());
}

/* Milliseconds until a timer is due; -1 when there is none. */
static long
time_to_sleep(void)
{
	TimestampTz next = om_stages_next_due();

	/* Who has them no more must not be woken by what was due. */
	if (has_chores())
		next = om_inbox_earlier(next, om_chores_next_due());
	if (next == 0)
		return -1;
	return Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), 1);
}

static void
sleep_on_latch(void)
{
	long timeout = time_to_sleep();

	pgstat_report_activity(STATE_IDLE, NULL);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
					 timeout, PG_WAIT_EXTENSION);
}

static void
set_up(void)
{
	om_stages_init(worker.database, worker.restart);
	om_stages_assign(worker.stages);
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	worker.seat->base.failures = 0;
	worker.seat->works = true;
	LWLockRelease(om_shared->lock);
	om_shared_wake_launcher();
}

void
om_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGQUIT, om_inflight_sigquit);
	BackgroundWorkerUnblockSignals();

	take_seat(arg);
	BackgroundWorkerInitializeConnectionByOid(worker.oid, InvalidOid, 0);
	om_bgsession_set_ours();
	look_around();
	set_up();
	for (;;)
	{
		uint64 commits;

		ResetLatch(MyLatch);
		commits = pg_atomic_read_u64(&worker.database->commits);
		work_until_idle();
		if (pg_atomic_read_u64(&worker.database->commits) == commits)
			sleep_on_latch();
	}
}
