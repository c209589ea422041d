/*
 * stages.c
 *		Runs the stages of a database in the worker that has them.
 *
 * A round makes a tick if there were commits, and lets each stage handle a
 * batch.
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
 *
 * What is captured after ALTER DATABASE … SET has returned is not decided by the
 * settings before: a batch that ends after that command is rolled back, with the
 * process, and its successor handles it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "consumer.h"
#include "faults.h"
#include "handlerseats.h"
#include "inbox.h"
#include "inflight.h"
#include "installation.h"
#include "pass.h"
#include "settings.h"
#include "stages.h"
#include "tasks.h"
#include "ticks.h"
#include "wakeup.h"

#define BUSY_RETRY_MS 20

/* So many rounds go stage by stage before all stages are tried together again. */
#define ROUNDS_APART 16

/* Of one stage. */
typedef struct Runner
{
	OmTask task;
	OmConsumer *consumer;
	OmInflight *slot; /* see inflight.c */
	bool in_flight;   /* the slot says so */
	bool gives_up;    /* on the event that crashed the server */
	bool is_reviewed; /* what was in flight before us has been looked at */
} Runner;

typedef struct Stages
{
	OmDatabase *database;
	Oid oid;
	uint32 restart; /* value of database->restart that our settings are not older than */
	uint32 bits;    /* of those that are ours */
	bool first_pass;
	Runner runners[OM_STAGE_COUNT];
	OmTask together; /* all stages in one transaction */
	OmPass pass;
	int rounds_apart; /* still to come */
	bool more;        /* the last round has left something to do */
	uint64 batches;
	MemoryContext batch_context;
} Stages;

static Stages self;

/* False while all stages of this worker are paused: nobody would read a tick. */
static bool
has_reader(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if ((self.bits & OM_STAGE_BIT(stage)) && !om_consumer_is_paused(stage))
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
	uint64 ticked = pg_atomic_read_u64(&self.database->ticked);

	if (self.first_pass || commits > ticked + MANY_COMMITS)
		return OM_PASS_TICK_PART;
	return commits > ticked ? OM_PASS_TICK : OM_PASS_NO_TICK;
}

/* True when there is more than it shows. */
static bool
make_tick_when_needed(void)
{
	uint64 commits = pg_atomic_read_u64(&self.database->commits);
	OmPassTick tick = needed_tick(commits);
	bool is_all;

	if (tick == OM_PASS_NO_TICK)
		return false;
	pgstat_report_activity(STATE_RUNNING, "tick");
	om_bgsession_begin();
	if (!has_reader())
	{
		om_bgsession_commit(true /* durable */);
		return false;
	}
	is_all = om_tick_make(om_installation_get()->xid_base,
						  tick == OM_PASS_TICK_PART ? om_setting_batch_size : 0);
	om_bgsession_commit(false /* durable */);
	om_handlerseat_wake(self.oid);
	if (is_all)
	{
		pg_atomic_write_u64(&self.database->ticked, commits);
		self.first_pass = false;
	}
	ConditionVariableBroadcast(&self.database->progress);
	return !is_all;
}

/* The event that crashes the server so often in a row is given up. */
#define CRASHES_TO_GIVE_UP 3

static void
note_landed(Runner *runner)
{
	if (runner->in_flight)
		om_inflight_end(runner->slot);
	runner->in_flight = false;
	if (runner->gives_up)
		om_inflight_forget(runner->slot);
	runner->gives_up = false;
}

static void
note_all_landed(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (self.runners[stage].in_flight)
			note_landed(&self.runners[stage]);
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
	Runner *runner = &self.runners[stage];

	note_all_landed();
	om_inflight_begin(runner->slot, nevents, event_id);
	runner->in_flight = true;
}

/* Whoever had this stage before us may have crashed with it. */
static void
review_crash(OmStage stage)
{
	Runner *runner = &self.runners[stage];
	OmSuspicion suspicion;

	if (runner->is_reviewed)
		return;
	runner->is_reviewed = true;
	runner->slot = om_inflight_attach(om_stage_names[stage]);
	suspicion = om_inflight_review(runner->slot);
	runner->gives_up = suspicion.crashes >= CRASHES_TO_GIVE_UP;
	if (suspicion.nevents > 0 || suspicion.event_id != 0)
		om_consumer_crashed(runner->consumer, suspicion.nevents, suspicion.begin,
							suspicion.event_id, runner->gives_up);
}

static const OmConsumerWatch watch = {review_crash, note_in_flight};

/* The caller's memory context is returned. */
static MemoryContext
begin_batch(void)
{
	om_bgsession_begin();
	OM_FAULT_POINT("stages/begun");
	return MemoryContextSwitchTo(self.batch_context);
}

/* See above.  What this batch has seen was there before the look, if nobody has knocked. */
static void
end_if_outdated(void)
{
	if (pg_atomic_read_u32(&self.database->restart) != self.restart)
		proc_exit(0);
}

static OmStepResult
handle_batch(OmStage stage, int64 *events, TimestampTz *timer)
{
	static const OmReach ticks_only = {NULL, 0};
	OmStepResult result = OM_STEP_IDLE;
	OmConsumer *consumer = self.runners[stage].consumer;
	MemoryContext caller;

	caller = begin_batch();
	if (!om_consumer_is_paused(stage))
	{
		result = om_consumer_step(consumer, &ticks_only, om_setting_batch_size, events);
		*timer = om_consumer_next_due(consumer);
	}
	MemoryContextSwitchTo(caller);
	end_if_outdated();
	OM_FAULT_POINT("stages/before-commit");
	om_bgsession_commit(om_consumer_must_flush(consumer));
	OM_FAULT_POINT("stages/after-commit");
	note_landed(&self.runners[stage]);
	MemoryContextReset(self.batch_context);
	return result;
}

/* True when there may be more to do for the stage. */
static bool
run_stage(OmTask *task)
{
	Runner *runner = (Runner *) task;
	int64 events = 0;
	OmStepResult result = handle_batch(runner - self.runners, &events, &task->timer);

	if (result == OM_STEP_BUSY)
		task->timer = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_RETRY_MS);
	if (events > 0 && om_consumer_must_flush(runner->consumer))
		ConditionVariableBroadcast(&self.database->progress);
	self.batches += events > 0;
	return result == OM_STEP_DONE;
}

/*
 * Our own commit is no news for our own stages; it counts as ticked unless
 * somebody else has committed, too, or reads by ticks.
 */
static void
note_ticked(uint64 commits, bool has_logged)
{
	if (self.pass.has_ticked)
	{
		self.first_pass = false;
		if (has_logged && !om_handlerseat_any() &&
			pg_atomic_read_u64(&self.database->commits) == commits + 1)
			commits++;
		pg_atomic_write_u64(&self.database->ticked, commits);
	}
	om_handlerseat_wake(self.oid);
	ConditionVariableBroadcast(&self.database->progress);
}

static void
set_timers(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		Runner *runner = &self.runners[stage];

		om_task_forget(&runner->task);
		runner->task.timer = om_consumer_next_due(runner->consumer);
	}
}

/* All stages in one transaction; true when there may be more to do. */
static bool
run_together(OmTask *task pg_attribute_unused())
{
	uint64 commits = pg_atomic_read_u64(&self.database->commits);
	bool has_logged;
	int64 events = 0;
	OmPassResult result;
	MemoryContext caller;

	caller = begin_batch();
	result = om_pass_run(&self.pass, needed_tick(commits), om_setting_batch_size, &events);
	if (result != OM_PASS_REFUSED)
		set_timers();
	MemoryContextSwitchTo(caller);
	end_if_outdated();
	OM_FAULT_POINT("stages/before-commit-together");
	has_logged = om_wakeup_is_pending();
	om_bgsession_commit(has_logged);
	OM_FAULT_POINT("stages/after-commit-together");
	note_all_landed();
	note_ticked(commits, has_logged);
	MemoryContextReset(self.batch_context);
	self.batches += events > 0;
	if (result == OM_PASS_REFUSED)
		self.rounds_apart = ROUNDS_APART;
	return result == OM_PASS_DONE;
}

/*
 * The stage that has failed; NULL: none of them has.  Of all stages together it is
 * the one that was at work, and the others must forget, too.
 */
static Runner *
find_failed(OmTask *task)
{
	if (task != &self.together)
		return (Runner *) task;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (stage != self.pass.stage)
			om_consumer_forget(self.runners[stage].consumer);
	}
	self.rounds_apart = ROUNDS_APART;
	return self.pass.stage < 0 ? NULL : &self.runners[self.pass.stage];
}

static void
abort_flights(void)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (self.runners[stage].in_flight)
			om_inflight_abort(self.runners[stage].slot);
		self.runners[stage].in_flight = false;
	}
}

static void
rest_after(OmTask *task, OmStepFailure failure)
{
	if (failure == OM_FAILURE_GENERAL)
		om_task_back_off(task);
	else if (failure == OM_FAILURE_CONFLICT)
		om_task_rest(task, BUSY_RETRY_MS);
}

/* True when it is to be tried again at once. */
static bool
recover_from_error(OmTask *task)
{
	OmStepFailure failure = OM_FAILURE_GENERAL;
	Runner *failed;
	ErrorData *error;

	HOLD_INTERRUPTS();
	failed = find_failed(task);
	MemoryContextSwitchTo(self.batch_context);
	error = CopyErrorData();
	if (failed != NULL)
		failure = om_consumer_failed(failed->consumer, error);
	abort_flights();
	if (failure != OM_FAILURE_CONFLICT)
		EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	/* What was seen ahead of the last tick is read again, for which there must be a newer one. */
	self.first_pass = true;
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(self.batch_context);
	rest_after(failed != NULL ? &failed->task : task, failure);
	RESUME_INTERRUPTS();
	return failure == OM_FAILURE_ISOLATED;
}

/* One batch of each stage, in transactions of their own; true when there may be more to do. */
static bool
work_apart(void)
{
	bool more = make_tick_when_needed();

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if (self.bits & OM_STAGE_BIT(stage))
			more |= om_task_attempt(&self.runners[stage].task, om_stage_names[stage], run_stage,
									recover_from_error);
	}
	if (self.rounds_apart > 0)
		self.rounds_apart = more ? self.rounds_apart - 1 : 0;
	return more;
}

/* No stage rests after an error. */
static bool
may_work_together(void)
{
	bool any_rests = om_task_rests(&self.together);

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		any_rests |= om_task_rests(&self.runners[stage].task);
	return self.bits == OM_STAGES_ALL && self.rounds_apart == 0 && !any_rests;
}

static bool
has_something_to_do(void)
{
	bool due = self.more || om_task_is_due(&self.together) ||
			   needed_tick(pg_atomic_read_u64(&self.database->commits)) != OM_PASS_NO_TICK;

	for (int stage = 0; stage < OM_STAGE_COUNT && !due; stage++)
		due = om_task_is_due(&self.runners[stage].task);
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
		more = om_task_attempt(&self.together, "all stages", run_together, recover_from_error);
		if (self.rounds_apart == 0)
			return more;
	}
	return work_apart() || more;
}

void
om_stages_init(OmDatabase *database, uint32 restart)
{
	self.database = database;
	self.restart = restart;
	self.oid = database->database;
	self.first_pass = true;
	self.batch_context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(TopMemoryContext);
	/* Any of the stages may become ours later on. */
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		self.runners[stage].consumer = om_consumer_create(stage);
		om_consumer_watch(self.runners[stage].consumer, &watch);
		self.pass.consumers[stage] = self.runners[stage].consumer;
	}
}

void
om_stages_assign(uint32 stages)
{
	/* What waited with the one who had a stage before needs no commit to go on. */
	if ((stages & ~self.bits) != 0)
		self.more = true;
	self.bits = stages;
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		if ((stages & OM_STAGE_BIT(stage)) == 0)
			om_task_forget(&self.runners[stage].task);
	}
}

void
om_stages_hurry(void)
{
	self.more = true;
}

bool
om_stages_work(void)
{
	self.more = work_once();
	return self.more;
}

TimestampTz
om_stages_next_due(void)
{
	TimestampTz next = self.together.not_before;

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		next = om_inbox_earlier(next, om_task_next_due(&self.runners[stage].task));
	return next;
}

uint64
om_stages_batches(void)
{
	return self.batches;
}
