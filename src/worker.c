/*
 * worker.c
 *		Runs the stages of one database.
 *
 * A worker takes the seat that the launcher prepared, looks whether there is
 * anything to do here, and then works in rounds: make a tick if there were
 * commits, let each of its stages handle a batch, until nothing is left; then
 * it sleeps on its latch, without a transaction, until a commit sets it.
 *
 * Who has all stages takes a batch through all of them in one transaction, tick
 * included (pass.c).  Where that cannot be, each batch of a stage is a
 * transaction of its own.  Checkers and ticks then commit asynchronously: what a
 * crash takes from them is a suffix of the WAL and is done again as a whole,
 * before anybody has seen it as an answer.
 *
 * An error is traced to the event that causes it, which is set aside; one that
 * no event is to blame for makes only that stage rest for a moment.  Deadlocks
 * and serialization failures are tried again at once.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "compat.h"
#include "consumer.h"
#include "faults.h"
#include "handlers.h"
#include "handlerseats.h"
#include "inbox.h"
#include "inflight.h"
#include "installation.h"
#include "loadworker.h"
#include "maintworker.h"
#include "predictworker.h"
#include "months.h"
#include "pass.h"
#include "settings.h"
#include "shared.h"
#include "ticks.h"
#include "upkeep.h"
#include "wakeup.h"
#include "worker.h"

#define BUSY_RETRY_MS 20
#define ERROR_RETRY_MIN_MS 100
#define ERROR_RETRY_MAX_MS 60000
#define UPKEEP_AFTER_BATCHES 5000

/* So many rounds go stage by stage before all stages are tried together again. */
#define ROUNDS_APART 16

/* What is tried again by itself after an error: a stage, or the upkeep. */
typedef struct Task
{
	OmConsumer *consumer;   /* of a stage */
	TimestampTz not_before; /* rests until then, after an error; 0: does not */
	TimestampTz timer;      /* looks again then, without being woken; 0: does not */
	int retry_ms;           /* back-off after errors */
	OmInflight *slot;       /* of a stage; see inflight.c */
	bool in_flight;         /* the slot says so */
	bool gives_up;          /* on the event that crashed the server */
	bool is_reviewed;       /* what was in flight before us has been looked at */
} Task;

typedef struct Worker
{
	OmDatabase *database;
	Oid oid;
	OmSeat *seat;
	uint32 stages;
	uint32 restart; /* value of database->restart at the start */
	bool first_pass;
	bool first_upkeep;
	Task upkeep;
	Task handlers;    /* looking after the workers of subscriptions */
	Task loader;      /* looking after that of loads */
	Task maintenance; /* and after that of maintenance */
	Task predictor;   /* and after that of predictions */
	int batches;      /* since the last upkeep */
	Task tasks[OM_STAGE_COUNT];
	Task together; /* all stages in one transaction */
	OmPass pass;
	int rounds_apart; /* still to come */
	bool more;        /* the last round has left something to do */
	MemoryContext batch_context;
} Worker;

static Worker worker;

/* Leaves the seat; the launcher decides what comes next. */
static void
leave_seat(int code, Datum arg pg_attribute_unused())
{
	OmSeat *seat = worker.seat;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (seat->pid == MyProcPid)
	{
		seat->pid = 0;
		seat->works = false;
		if (seat->state == OM_SEAT_TAKEN)
		{
			seat->state = OM_SEAT_EMPTY;
			seat->failures++;
			seat->not_before = code == 0
								 ? 0
								 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
															   Min(500 * seat->failures, 30000));
		}
		pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	ConditionVariableBroadcast(&worker.database->progress);
	om_shared_wake_launcher();
}

static void
take_seat(Datum arg)
{
	worker.database = &om_shared->databases[OM_WORKER_ARG_ENTRY(arg)];
	worker.seat = &worker.database->seats[OM_WORKER_ARG_SEAT(arg)];
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	worker.oid = worker.database->database;
	if (worker.seat->state != OM_SEAT_STARTING || worker.database->quiesced > 0 ||
		!OidIsValid(worker.oid))
	{
		if (worker.seat->state == OM_SEAT_STARTING)
			worker.seat->state = OM_SEAT_EMPTY;
		LWLockRelease(om_shared->lock);
		om_shared_wake_launcher();
		proc_exit(0);
	}
	worker.seat->state = OM_SEAT_TAKEN;
	worker.seat->pid = MyProcPid;
	worker.stages = pg_atomic_read_u32(&worker.seat->stages);
	worker.restart = worker.seat->restart;
	pg_atomic_write_u32(&worker.seat->procno, om_my_proc_number());
	LWLockRelease(om_shared->lock);
	before_shmem_exit(leave_seat, (Datum) 0);
}

/* Nothing to do here until somebody knocks. */
static void
rest(void)
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&worker.database->restart) == worker.restart)
		worker.seat->state = OM_SEAT_AT_REST;
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

static void
report_stage(const char *name)
{
	pgstat_report_activity(STATE_RUNNING, name);
}

/* False while all stages of this worker are paused: nobody would read a tick. */
static bool
has_reader(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if ((worker.stages & OM_STAGE_BIT(stage)) && !om_consumer_is_paused(stage))
			return true;
	}
	return om_handlerseat_any();
}

/* After so many commits there may be more to read than a batch takes. */
#define MANY_COMMITS 64

/* What kind of a tick the commits so far ask for. */
static OmPassTick
needed_tick(uint64 commits)
{
	uint64 ticked = pg_atomic_read_u64(&worker.database->ticked);

	if (worker.first_pass || commits > ticked + MANY_COMMITS)
		return OM_PASS_TICK_PART;
	return commits > ticked ? OM_PASS_TICK : OM_PASS_NO_TICK;
}

/* True when there is more than it shows. */
static bool
make_tick_when_needed(void)
{
	uint64 commits = pg_atomic_read_u64(&worker.database->commits);
	OmPassTick tick = needed_tick(commits);
	bool is_all;

	if (tick == OM_PASS_NO_TICK)
		return false;
	report_stage("tick");
	om_bgsession_begin();
	if (!has_reader())
	{
		om_bgsession_commit(true /* durable */);
		return false;
	}
	is_all = om_tick_make(om_installation_get()->xid_base,
						  tick == OM_PASS_TICK_PART ? om_setting_batch_size : 0);
	om_bgsession_commit(false /* durable */);
	om_handlerseat_wake(worker.oid);
	if (is_all)
	{
		pg_atomic_write_u64(&worker.database->ticked, commits);
		worker.first_pass = false;
	}
	ConditionVariableBroadcast(&worker.database->progress);
	return !is_all;
}

/* The event that crashes the server so often in a row is given up. */
#define CRASHES_TO_GIVE_UP 3

static void
note_landed(Task *task)
{
	if (task->in_flight)
		om_inflight_end(task->slot);
	task->in_flight = false;
	if (task->gives_up)
		om_inflight_forget(task->slot);
	task->gives_up = false;
}

static void
note_all_landed(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (worker.tasks[stage].in_flight)
			note_landed(&worker.tasks[stage]);
	}
}

/*
 * Of stages together the one that is at work is in flight.  The last of them stays
 * so while all is written: a crash then makes the stages go one by one, too, and
 * it will be seen whose it is.
 */
static void
note_in_flight(OmStage stage, int nevents, int64 event_id)
{
	Task *task = &worker.tasks[stage];

	note_all_landed();
	om_inflight_begin(task->slot, nevents, event_id);
	task->in_flight = true;
}

/* Whoever had this stage before us may have crashed with it. */
static void
review_crash(OmStage stage)
{
	Task *task = &worker.tasks[stage];
	OmSuspicion suspicion;

	if (task->is_reviewed)
		return;
	task->is_reviewed = true;
	task->slot = om_inflight_attach(om_stage_names[stage]);
	suspicion = om_inflight_review(task->slot);
	task->gives_up = suspicion.crashes >= CRASHES_TO_GIVE_UP;
	if (suspicion.nevents > 0 || suspicion.event_id != 0)
		om_consumer_crashed(task->consumer, suspicion.nevents, suspicion.begin, suspicion.event_id,
							task->gives_up);
}

static const OmConsumerWatch watch = {review_crash, note_in_flight};

static OmStepResult
handle_batch(OmStage stage, int64 *events, TimestampTz *timer)
{
	static const OmReach ticks_only = {NULL, 0};
	OmStepResult result = OM_STEP_IDLE;
	OmConsumer *consumer = worker.tasks[stage].consumer;
	MemoryContext caller;

	om_bgsession_begin();
	caller = MemoryContextSwitchTo(worker.batch_context);
	if (!om_consumer_is_paused(stage))
	{
		result = om_consumer_step(consumer, &ticks_only, om_setting_batch_size, events);
		*timer = om_consumer_next_due(consumer);
	}
	MemoryContextSwitchTo(caller);
	OM_FAULT_POINT("worker/before-commit");
	om_bgsession_commit(om_consumer_must_flush(consumer));
	OM_FAULT_POINT("worker/after-commit");
	note_landed(&worker.tasks[stage]);
	MemoryContextReset(worker.batch_context);
	return result;
}

/* True when there may be more to do for the stage. */
static bool
run_stage(Task *task)
{
	OmStage stage = task - worker.tasks;
	int64 events = 0;
	OmStepResult result = handle_batch(stage, &events, &task->timer);

	if (result == OM_STEP_BUSY)
		task->timer = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_RETRY_MS);
	if (events > 0 && om_consumer_must_flush(task->consumer))
		ConditionVariableBroadcast(&worker.database->progress);
	worker.batches += events > 0;
	return result == OM_STEP_DONE;
}

/*
 * Our own commit is no news for our own stages; it counts as ticked unless
 * somebody else has committed, too, or reads by ticks.
 */
static void
note_ticked(uint64 commits, bool has_logged)
{
	if (worker.pass.has_ticked)
	{
		worker.first_pass = false;
		if (has_logged && !om_handlerseat_any() &&
			pg_atomic_read_u64(&worker.database->commits) == commits + 1)
			commits++;
		pg_atomic_write_u64(&worker.database->ticked, commits);
	}
	om_handlerseat_wake(worker.oid);
	ConditionVariableBroadcast(&worker.database->progress);
}

static void
set_timers(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		Task *task = &worker.tasks[stage];

		task->not_before = 0;
		task->retry_ms = 0;
		task->timer = om_consumer_next_due(task->consumer);
	}
}

/* All stages in one transaction; true when there may be more to do. */
static bool
run_together(Task *task pg_attribute_unused())
{
	uint64 commits = pg_atomic_read_u64(&worker.database->commits);
	bool has_logged;
	int64 events = 0;
	OmPassResult result;
	MemoryContext caller;

	om_bgsession_begin();
	caller = MemoryContextSwitchTo(worker.batch_context);
	result = om_pass_run(&worker.pass, needed_tick(commits), om_setting_batch_size, &events);
	if (result != OM_PASS_REFUSED)
		set_timers();
	MemoryContextSwitchTo(caller);
	OM_FAULT_POINT("worker/before-commit-together");
	has_logged = om_wakeup_is_pending();
	om_bgsession_commit(has_logged);
	OM_FAULT_POINT("worker/after-commit-together");
	note_all_landed();
	note_ticked(commits, has_logged);
	MemoryContextReset(worker.batch_context);
	worker.batches += events > 0;
	if (result == OM_PASS_REFUSED)
		worker.rounds_apart = ROUNDS_APART;
	return result == OM_PASS_DONE;
}

static bool
run_upkeep(Task *task)
{
	TimestampTz now = GetCurrentTimestamp();

	om_bgsession_begin();
	(void) om_upkeep_run();
	om_maintworker_ask_daily(worker.database);
	om_bgsession_commit(true /* durable */);
	worker.batches = 0;
	/* At midnight (UTC) there is a new day, perhaps a new month. */
	task->timer = now - now % USECS_PER_DAY + USECS_PER_DAY;
	return false;
}

/* Of all stages together the one that was at work has failed; the others must forget, too. */
static Task *
find_failed(Task *task)
{
	if (task != &worker.together)
		return task;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (stage != worker.pass.stage)
			om_consumer_forget(worker.tasks[stage].consumer);
	}
	worker.rounds_apart = ROUNDS_APART;
	return worker.pass.stage < 0 ? task : &worker.tasks[worker.pass.stage];
}

static void
abort_flights(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (worker.tasks[stage].in_flight)
			om_inflight_abort(worker.tasks[stage].slot);
		worker.tasks[stage].in_flight = false;
	}
}

/* True when it is to be tried again at once. */
static bool
recover_from_error(Task *task)
{
	ErrorData *error;
	OmStepFailure failure = OM_FAILURE_GENERAL;

	HOLD_INTERRUPTS();
	task = find_failed(task);
	MemoryContextSwitchTo(worker.batch_context);
	error = CopyErrorData();
	if (task->consumer != NULL)
		failure = om_consumer_failed(task->consumer, error);
	abort_flights();
	if (failure != OM_FAILURE_CONFLICT)
		EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	/* What was seen ahead of the last tick is read again, for which there must be a newer one. */
	worker.first_pass = true;
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(worker.batch_context);
	if (failure == OM_FAILURE_GENERAL)
		task->retry_ms = Min(Max(task->retry_ms * 2, ERROR_RETRY_MIN_MS), ERROR_RETRY_MAX_MS);
	if (failure != OM_FAILURE_ISOLATED)
		task->not_before = TimestampTzPlusMilliseconds(
			GetCurrentTimestamp(), failure == OM_FAILURE_CONFLICT ? BUSY_RETRY_MS : task->retry_ms);
	RESUME_INTERRUPTS();
	return failure == OM_FAILURE_ISOLATED;
}

/* An error makes the task rest, and nothing else; true when there may be more to do. */
static bool
attempt(Task *task, bool (*run)(Task *), const char *name)
{
	volatile bool more = false;

	if (task->not_before != 0 && GetCurrentTimestamp() < task->not_before)
		return false;
	task->not_before = task->timer = 0;
	report_stage(name);
	PG_TRY();
	{
		more = run(task);
		task->retry_ms = 0;
	}
	PG_CATCH();
	{
		more = recover_from_error(task);
	}
	PG_END_TRY();
	return more;
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
	/* What waited with the one who had a stage before needs no commit to go on. */
	if ((stages & ~worker.stages) != 0)
		worker.more = true;
	worker.stages = stages;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if ((stages & OM_STAGE_BIT(stage)) == 0)
			worker.tasks[stage].not_before = worker.tasks[stage].timer = 0;
	}
}

static void
obey_signals(void)
{
	if (om_bgsession_obey_signals())
	{
		worker.more = true; /* what waited may go on now */
		if (!om_setting_workers)
			rest();
	}
	if (pg_atomic_read_u32(&worker.database->restart) != worker.restart)
		come_back();
	take_stages();
}

/* One worker of the database, that of the first stage, does the upkeep. */
static void
do_upkeep_when_due(void)
{
	bool due = worker.first_upkeep || worker.batches >= UPKEEP_AFTER_BATCHES ||
			   (worker.upkeep.timer != 0 && GetCurrentTimestamp() >= worker.upkeep.timer) ||
			   worker.upkeep.not_before != 0;

	if ((worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) == 0 || !due)
		return;
	worker.first_upkeep = false;
	(void) attempt(&worker.upkeep, run_upkeep, "upkeep");
}

static bool
look_after_handlers(Task *task)
{
	om_bgsession_begin();
	task->timer = om_handlers_look_after(worker.database);
	om_bgsession_commit(true /* durable */);
	return false;
}

/* So does it look after the workers of subscriptions. */
static void
look_after_handlers_when_due(void)
{
	bool due = om_handlers_need_look(worker.database) || worker.handlers.not_before != 0 ||
			   (worker.handlers.timer != 0 && GetCurrentTimestamp() >= worker.handlers.timer);

	if ((worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) != 0 && due)
		(void) attempt(&worker.handlers, look_after_handlers, "subscriptions");
}

static bool
look_after_loader(Task *task)
{
	om_bgsession_begin();
	task->timer = om_loadworker_look_after(worker.database);
	om_bgsession_commit(true /* durable */);
	return false;
}

/* And after the worker of loads. */
static void
look_after_loader_when_due(void)
{
	bool due = om_loadworker_needs_look(worker.database) || worker.loader.not_before != 0 ||
			   (worker.loader.timer != 0 && GetCurrentTimestamp() >= worker.loader.timer);

	if ((worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) != 0 && due)
		(void) attempt(&worker.loader, look_after_loader, "loads");
}

static bool
look_after_maintenance(Task *task)
{
	om_bgsession_begin();
	task->timer = om_maintworker_look_after(worker.database);
	om_bgsession_commit(true /* durable */);
	return false;
}

static void
look_after_maintenance_when_due(void)
{
	bool due = om_maintworker_needs_look(worker.database) || worker.maintenance.not_before != 0 ||
			   (worker.maintenance.timer != 0 && GetCurrentTimestamp() >= worker.maintenance.timer);

	if ((worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) != 0 && due)
		(void) attempt(&worker.maintenance, look_after_maintenance, "maintenance");
}

static bool
look_after_predictor(Task *task)
{
	om_bgsession_begin();
	task->timer = om_predictworker_look_after(worker.database);
	om_bgsession_commit(true /* durable */);
	return false;
}

static void
look_after_predictor_when_due(void)
{
	bool due = om_predictworker_needs_look(worker.database) || worker.predictor.not_before != 0 ||
			   (worker.predictor.timer != 0 && GetCurrentTimestamp() >= worker.predictor.timer);

	if ((worker.stages & OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER)) != 0 && due)
		(void) attempt(&worker.predictor, look_after_predictor, "predictions");
}

/* One batch of each stage, in transactions of their own; true when there may be more to do. */
static bool
work_apart(void)
{
	bool more = make_tick_when_needed();

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (worker.stages & OM_STAGE_BIT(stage))
			more |= attempt(&worker.tasks[stage], run_stage, om_stage_names[stage]);
	}
	if (worker.rounds_apart > 0)
		worker.rounds_apart = more ? worker.rounds_apart - 1 : 0;
	return more;
}

static bool
is_due(TimestampTz time)
{
	return time != 0 && time <= GetCurrentTimestamp();
}

/* No stage rests after an error. */
static bool
may_work_together(void)
{
	if (worker.stages != OM_STAGES_ALL || worker.rounds_apart > 0 ||
		(worker.together.not_before != 0 && !is_due(worker.together.not_before)))
		return false;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		const Task *task = &worker.tasks[stage];

		if (task->not_before != 0 && !is_due(task->not_before))
			return false;
	}
	return true;
}

static bool
has_something_to_do(void)
{
	bool due = worker.more || worker.together.not_before != 0 ||
			   needed_tick(pg_atomic_read_u64(&worker.database->commits)) != OM_PASS_NO_TICK;

	for (int stage = 0; stage < OM_STAGE_COUNT && !due; stage++)
		due = is_due(worker.tasks[stage].timer) || worker.tasks[stage].not_before != 0;
	return due;
}

/* True when there may be more to do. */
static bool
work_once(void)
{
	bool more = false;

	if (may_work_together())
	{
		if (!has_something_to_do())
			return false;
		more = attempt(&worker.together, run_together, "all stages");
		if (worker.rounds_apart == 0)
			return more;
	}
	return work_apart() || more;
}

static void
work_until_idle(void)
{
	do
	{
		obey_signals();
		do_upkeep_when_due();
		look_after_handlers_when_due();
		look_after_loader_when_due();
		look_after_maintenance_when_due();
		look_after_predictor_when_due();
		worker.more = work_once();
	} while (worker.more);
}

/* Milliseconds until a timer is due; -1 when there is none. */
static long
time_to_sleep(void)
{
	TimestampTz next = om_inbox_earlier(worker.upkeep.not_before, worker.upkeep.timer);

	next =
		om_inbox_earlier(next, om_inbox_earlier(worker.handlers.not_before, worker.handlers.timer));
	next = om_inbox_earlier(next, om_inbox_earlier(worker.loader.not_before, worker.loader.timer));
	next = om_inbox_earlier(
		next, om_inbox_earlier(worker.maintenance.not_before, worker.maintenance.timer));
	next = om_inbox_earlier(next,
							om_inbox_earlier(worker.predictor.not_before, worker.predictor.timer));
	next = om_inbox_earlier(next, worker.together.not_before);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		next = om_inbox_earlier(next, worker.tasks[stage].not_before);
		next = om_inbox_earlier(next, worker.tasks[stage].timer);
	}
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
	worker.first_pass = worker.first_upkeep = true;
	worker.batch_context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(TopMemoryContext);
	/* Any of the stages may become ours later on. */
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		worker.tasks[stage].consumer = om_consumer_create(stage);
		om_consumer_watch(worker.tasks[stage].consumer, &watch);
		worker.pass.consumers[stage] = worker.tasks[stage].consumer;
	}
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	worker.seat->failures = 0;
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
