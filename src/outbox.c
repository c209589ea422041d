/*
 * outbox.c
 *		Batches for programs outside the server.
 *
 * A batch is offered by appending a row to the positions of its consumer: the
 * end of the batch, and as restart row the one that was acknowledged last.
 * Acknowledging appends the next row.  So an offer has an odd number, which is
 * the batch_id, an acknowledged position an even one, and nothing is updated.
 * What is between the two rows is read again whenever the open batch is asked
 * for: up to the horizon at which the offer was made, so it is the same events
 * in the same order.
 *
 * Programs do not read by ticks but up to what can be seen at the moment:
 * nothing depends on a worker that makes ticks, and a program that does not come
 * keeps none.  What the own transaction has written is not offered before its
 * commit.
 *
 * Who offers, acknowledges or rejects holds the consumer's lock to the end of
 * the transaction, so another session waits until it is known what became of
 * the batch.  Who waits for events does not hold it: it sleeps until somebody
 * commits to the log.  A program may well keep its transaction open while it
 * calls others, so the locks under which tables were read are let go at once:
 * upkeep can empty those that take turns.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "cursors.h"
#include "errors.h"
#include "eventlog.h"
#include "faults.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "names.h"
#include "outbox.h"
#include "registry.h"
#include "retries.h"
#include "shared.h"
#include "tables.h"

/* Under constant traffic that is not for it, a waiting program looks so often. */
#define LOOK_EVERY_MS 10 /* at most; less at first */
#define POLL_MS 20       /* where nobody can wake it */

/* A position that has moved so far over what is not for the consumer is stored. */
#define STORE_AFTER_LXIDS 1000

/* What a program's reject_event() stands for: raise_exception. */
#define REJECTED_CODE "P0001"

/* A consumer's position, under its lock. */
typedef struct Outbox
{
	OmRegistration *consumer;
	OmCursor *start; /* behind the last acknowledged event */
	OmCursor *end;   /* of the open batch; NULL: none is open */
	OmCursor *ended; /* of one that has been rejected as a whole, and is not acknowledged */
} Outbox;

static void
require_read_committed(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("programs receive and acknowledge in READ COMMITTED"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Batches of other sessions must be seen as they are now.")));
}

/* ---------- reading ---------- */

/* A look at tables that leaves no lock on them; an error on the way cleans up as ever. */
typedef struct Glance
{
	ResourceOwner owner;
	ResourceOwner caller;
} Glance;

static Glance
begin_glance(void)
{
	Glance glance = {ResourceOwnerCreate(CurrentResourceOwner, "outbox"), CurrentResourceOwner};

	CurrentResourceOwner = glance.owner;
	PushActiveSnapshot(om_current_snapshot());
	return glance;
}

static void
end_glance(const Glance *glance)
{
	PopActiveSnapshot();
	CurrentResourceOwner = glance->caller;
	ResourceOwnerRelease(glance->owner, RESOURCE_RELEASE_BEFORE_LOCKS, true, false);
	/* As if it had not happened: at a commit the caller would inherit the locks. */
	ResourceOwnerRelease(glance->owner, RESOURCE_RELEASE_LOCKS, false, false);
	ResourceOwnerRelease(glance->owner, RESOURCE_RELEASE_AFTER_LOCKS, true, false);
	ResourceOwnerDelete(glance->owner);
}

static bool
is_open(const OmCursor *cursor)
{
	return cursor->restart_seq < cursor->seq;
}

static OmRegistration *
require_own(const char *name)
{
	OmRegistration *consumer = om_registry_require(name, OM_KIND_EXTERNAL);

	om_registry_require_owner(consumer);
	return consumer;
}

static Outbox
load(OmRegistration *consumer)
{
	Outbox outbox = {.consumer = consumer};
	const char *name = pstrdup(consumer->name);

	outbox.start = om_cursor_load(name, false /* restart */, GetActiveSnapshot());
	if (is_open(outbox.start))
	{
		outbox.end = outbox.start;
		outbox.start = om_cursor_load(name, true /* restart */, GetActiveSnapshot());
	}
	return outbox;
}

/* The next stretch of the log, up to the horizon; false when there is none. */
static bool
open_window(OmCursor *cursor, const OmHorizon *horizon)
{
	MemoryContext caller;

	if (cursor->target != NULL)
		return true;
	if (om_horizon_equals(horizon, cursor->base))
		return false;
	/* It lives as long as the cursor. */
	caller = MemoryContextSwitchTo(GetMemoryChunkContext(cursor));
	cursor->target = om_horizon_copy(horizon);
	MemoryContextSwitchTo(caller);
	return true;
}

static List *
add_events(List *events, const OmRegistration *consumer, const OmLogRows *rows)
{
	for (int i = 0; i < rows->count; i++)
	{
		const OmLogRow *row = &rows->rows[i];

		if (row->at < consumer->start_at)
			continue;
		for (int j = 0; j < Max(row->norders, 1); j++)
			events = lappend(events, om_retry_of_event(row, j));
	}
	return events;
}

/* Reads up to max events and moves the cursor behind them, or to the horizon. */
static List *
read_events(const OmRegistration *consumer, OmCursor *cursor, const OmHorizon *horizon, int64 max)
{
	List *events = NIL;

	while (list_length(events) < max && open_window(cursor, horizon))
	{
		OmLogRows *rows = om_log_rows_create();

		CHECK_FOR_INTERRUPTS();
		om_log_read(rows, &(OmLogWindow){cursor->base, cursor->target, cursor->position},
					consumer->types, (int) (max - list_length(events)));
		events = add_events(events, consumer, rows);
		om_cursor_advance(cursor, rows);
	}
	return events;
}

/* The new events of the open batch, as they were offered; moves start. */
static List *
read_offered(Outbox *outbox)
{
	const OmCursor *end = outbox->end;
	const OmHorizon *horizon = end->target != NULL ? end->target : end->base;
	int64 count = end->processed - outbox->start->processed;
	List *events = read_events(outbox->consumer, outbox->start, horizon, count);

	if (list_length(events) != count)
		elog(ERROR, "batch " INT64_FORMAT " of consumer \"%s\" cannot be read again", end->seq,
			 outbox->consumer->name);
	return events;
}

/* What was offered, less what has been rejected since. */
static OmBatch *
read_open_batch(Outbox *outbox)
{
	OmBatch *batch = palloc(sizeof(OmBatch));
	const char *name = outbox->consumer->name;
	ListCell *cell;

	batch->batch_id = outbox->end->seq;
	batch->events = om_retry_list_batch(name, batch->batch_id, GetActiveSnapshot());
	batch->nretried = list_length(batch->events);
	foreach(cell, read_offered(outbox))
	{
		OmRetry *event = lfirst(cell);

		if (!om_retry_is_set_aside(name, event->event_id))
			batch->events = lappend(batch->events, event);
	}
	return batch;
}

/*
 * What has come due first, then what is new.  Nothing is written yet.  Retries
 * take half of a batch at most, so that they keep up nothing new.
 */
static OmBatch *
read_new_batch(Outbox *outbox, int64 max_events)
{
	OmBatch *batch = palloc(sizeof(OmBatch));
	OmCursor *cursor = outbox->start;
	OmHorizon *now;
	List *events;

	batch->batch_id = cursor->seq + 1 + cursor->seq % 2;
	batch->events =
		om_retry_list_due(outbox->consumer->name, Max(max_events / 2, 1), GetActiveSnapshot());
	batch->nretried = list_length(batch->events);
	now = om_horizon_take(GetLatestSnapshot(), om_installation_get()->xid_base);
	PushActiveSnapshot(om_current_snapshot()); /* newer than the horizon */
	events = read_events(outbox->consumer, cursor, now, max_events - batch->nretried);
	PopActiveSnapshot();
	cursor->processed += list_length(events);
	batch->events = list_concat(batch->events, events);
	return batch;
}

/* ---------- writing ---------- */

static void
offer_batch(const char *name, OmCursor *cursor, const OmBatch *batch)
{
	for (int i = 0; i < batch->nretried; i++)
	{
		const OmRetry *event = list_nth(batch->events, i);

		om_retry_set_batch(name, event->event_id, batch->batch_id);
	}
	OM_FAULT_POINT("outbox/before-offer");
	om_cursor_store(cursor, cursor->seq, list_length(batch->events) - batch->nretried);
	OM_FAULT_POINT("outbox/offered");
	CommandCounterIncrement();
}

static void
close_batch(const char *name, OmCursor *end)
{
	om_retry_batch_done(name, end->seq);
	om_cursor_store(end, PG_INT64_MAX, 0);
	OM_FAULT_POINT("outbox/acknowledged");
	CommandCounterIncrement();
}

/* ---------- waiting ---------- */

typedef struct Receiver
{
	const char *name;
	int64 max_events;
	TimestampTz deadline;
	int64 looks;
	TimestampTz next_look; /* the earliest */
	TimestampTz next_due;  /* of events to be tried again; 0: none */
	OmDatabase *database;  /* NULL: nobody can wake us */
	MemoryContext context; /* of the position, from look to look */
	MemoryContext scratch; /* of one look */
	OmCursor *cursor;      /* moved over what is not for the consumer; NULL: not known */
	int64 stored_xmax;     /* of the position as it is stored */
} Receiver;

/* The position in memory is good as long as nobody has offered or acknowledged since. */
static Outbox
find_position(Receiver *receiver, OmRegistration *consumer)
{
	Outbox outbox = {.consumer = consumer, .start = receiver->cursor};
	MemoryContext caller;

	if (receiver->cursor != NULL && om_cursor_is_current(receiver->cursor))
		return outbox;
	MemoryContextReset(receiver->context);
	caller = MemoryContextSwitchTo(receiver->context);
	outbox = load(consumer);
	MemoryContextSwitchTo(caller);
	receiver->cursor = outbox.end == NULL ? outbox.start : NULL;
	receiver->stored_xmax = outbox.start->base->xmax;
	return outbox;
}

static OmCursor *
copy_cursor(const OmCursor *cursor)
{
	OmCursor *copy = palloc(sizeof(OmCursor));

	*copy = *cursor;
	copy->base = om_horizon_copy(cursor->base);
	copy->target = cursor->target == NULL ? NULL : om_horizon_copy(cursor->target);
	return copy;
}

/* A batch of which nothing is left ends when the next one begins. */
static OmBatch *
read_batch(Outbox *outbox, int64 max_events)
{
	OmBatch *batch;

	if (outbox->end == NULL)
		return read_new_batch(outbox, max_events);
	batch = read_open_batch(outbox);
	if (batch->events != NIL)
		return batch;
	outbox->ended = outbox->end;
	outbox->end = NULL;
	outbox->start = copy_cursor(outbox->ended);
	return read_new_batch(outbox, max_events);
}

static void
write_batch(const char *name, const Outbox *outbox, const OmBatch *batch)
{
	if (outbox->end != NULL)
		return; /* it stands there already */
	if (outbox->ended != NULL)
	{
		close_batch(name, outbox->ended);
		outbox->start->seq = outbox->ended->seq;
	}
	offer_batch(name, outbox->start, batch);
}

/* Looks once, and writes what follows from it; NULL when there is nothing. */
static OmBatch *
find_batch(Receiver *receiver)
{
	Glance glance = begin_glance();
	OmRegistration *consumer = require_own(receiver->name);
	OmBatch *batch = NULL;
	Outbox outbox = {0};

	if (!consumer->paused)
	{
		outbox = find_position(receiver, consumer);
		batch = read_batch(&outbox, receiver->max_events);
		receiver->next_due = om_retry_next_due(receiver->name);
	}
	end_glance(&glance);

	if (batch == NULL || batch->events == NIL)
		return NULL;
	write_batch(receiver->name, &outbox, batch);
	return batch;
}

/* The number in between is that of a batch, so it is left out. */
static bool
store_drifted(Receiver *receiver)
{
	OmCursor *cursor = receiver->cursor;

	if (cursor == NULL || cursor->base->xmax - receiver->stored_xmax < STORE_AFTER_LXIDS)
		return false;
	cursor->seq++;
	om_cursor_store(cursor, PG_INT64_MAX, 0);
	return true;
}

/* Keeps the lock only when it has found or stored something. */
static OmBatch *
look(Receiver *receiver, bool is_last)
{
	MemoryContext caller = MemoryContextSwitchTo(receiver->scratch);
	OmLock lock = om_lock_of_consumer(receiver->name);
	OmBatch *batch;

	MemoryContextReset(receiver->scratch);
	receiver->next_due = 0;
	om_lock_acquire(lock);
	batch = find_batch(receiver);
	if (batch == NULL && !(is_last && store_drifted(receiver)))
		om_lock_release(lock);
	receiver->next_look =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(receiver->looks++, LOOK_EVERY_MS));
	MemoryContextSwitchTo(caller);
	return batch;
}

static long
milliseconds_until(TimestampTz time)
{
	return Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), time), 1);
}

static void
sleep_on_latch(long milliseconds)
{
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/*
 * Sleeps until somebody commits to the log, an event is due again, or time is
 * up.  A look may sleep on other conditions, so what was committed meanwhile is
 * seen by the counter.
 */
static void
sleep_until_woken(Receiver *receiver, uint64 commits)
{
	TimestampTz until = receiver->deadline;

	if (receiver->next_due != 0)
		until = Min(until, receiver->next_due);
	if (receiver->database == NULL)
	{
		sleep_on_latch(Min(milliseconds_until(until), POLL_MS));
		return;
	}
	ConditionVariablePrepareToSleep(&receiver->database->appended);
	if (pg_atomic_read_u64(&receiver->database->commits) == commits)
		(void) ConditionVariableTimedSleep(&receiver->database->appended, milliseconds_until(until),
										   PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
	while (GetCurrentTimestamp() < receiver->next_look)
		sleep_on_latch(milliseconds_until(receiver->next_look));
}

static OmBatch *
wait_for_batch(Receiver *receiver)
{
	for (;;)
	{
		uint64 commits = 0;
		bool is_last = GetCurrentTimestamp() >= receiver->deadline;
		OmBatch *batch;

		CHECK_FOR_INTERRUPTS();
		if (receiver->database != NULL)
			commits = pg_atomic_read_u64(&receiver->database->commits);
		batch = look(receiver, is_last);
		if (batch != NULL || is_last)
			return batch;
		sleep_until_woken(receiver, commits);
	}
}

OmBatch *
om_outbox_receive(const char *name, int64 max_events, int64 wait_ms)
{
	Receiver receiver = {
		.name = name,
		.max_events = max_events,
		.deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms),
		.context = AllocSetContextCreate(CurrentMemoryContext, "receiver", ALLOCSET_DEFAULT_SIZES),
		.scratch = AllocSetContextCreate(CurrentMemoryContext, "look", ALLOCSET_DEFAULT_SIZES)};

	require_read_committed();
	(void) om_installation_require_home();
	if (om_shared != NULL)
		receiver.database = om_shared_database(MyDatabaseId, true /* create */);
	return wait_for_batch(&receiver);
}

/* ---------- answers ---------- */

/* Takes the consumer's lock and reads its position. */
static Outbox
enter(const char *name)
{
	Glance glance;
	Outbox outbox;

	require_read_committed();
	om_lock_acquire(om_lock_of_consumer(name));
	glance = begin_glance();
	outbox = load(require_own(name));
	end_glance(&glance);
	return outbox;
}

bool
om_outbox_acknowledge(const char *name, int64 batch_id)
{
	Outbox outbox = enter(name);
	int64 newest = outbox.end != NULL ? outbox.end->seq : outbox.start->seq;

	if (batch_id < 1 || batch_id > newest || batch_id % 2 == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND),
				 errmsg("consumer \"%s\" has never had a batch " INT64_FORMAT, name, batch_id),
				 om_errdetail("batch_id", psprintf(INT64_FORMAT, batch_id)),
				 errhint("Acknowledge the batch_id that receive_events() returned.")));
	if (outbox.end == NULL || batch_id != newest)
		return false;
	close_batch(name, outbox.end);
	return true;
}

static OmRetry *
find_in(List *events, int64 event_id)
{
	ListCell *cell;

	foreach(cell, events)
	{
		OmRetry *event = lfirst(cell);

		if (event->event_id == event_id)
			return event;
	}
	return NULL;
}

/* An event of the open batch that has not been rejected yet, or NULL. */
static OmRetry *
find_event(Outbox *outbox, int64 event_id)
{
	Glance glance = begin_glance();
	const char *name = outbox->consumer->name;
	OmRetry *event = NULL;

	if (outbox->end != NULL)
		event = find_in(om_retry_list_batch(name, outbox->end->seq, GetActiveSnapshot()), event_id);
	if (outbox->end != NULL && event == NULL && !om_retry_is_set_aside(name, event_id))
		event = find_in(read_offered(outbox), event_id);
	end_glance(&glance);
	return event;
}

bool
om_outbox_reject(const char *name, int64 event_id, const char *message)
{
	Outbox outbox = enter(name);
	OmRetry *event = find_event(&outbox, event_id);
	bool given_up;

	if (event == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND),
				 errmsg("event " INT64_FORMAT " is not in an open batch of consumer \"%s\"",
						event_id, name),
				 om_errdetail("event_id", psprintf(INT64_FORMAT, event_id)),
				 errhint("Reject events between receive_events() and acknowledge_batch(), once.")));
	given_up = om_retry_fail(name, event, REJECTED_CODE, message);
	CommandCounterIncrement();
	return !given_up;
}

/* ---------- watching ---------- */

static void
count_event(OmQueueState *state, TimestampTz at)
{
	state->pending++;
	if (state->oldest == 0 || at < state->oldest)
		state->oldest = at;
}

/* New events only: those that wait to be tried again are counted elsewhere. */
static void
count_open_batch(OmQueueState *state, Outbox *outbox)
{
	OmBatch *batch = read_open_batch(outbox);

	for (int i = batch->nretried; i < list_length(batch->events); i++)
		count_event(state, ((OmRetry *) list_nth(batch->events, i))->at);
}

OmQueueState
om_outbox_queue(OmRegistration *consumer, const OmCensus *census)
{
	Outbox outbox = load(consumer);
	OmCursor *newest = outbox.end != NULL ? outbox.end : outbox.start;
	OmQueueState state = {0};

	if (outbox.end != NULL)
		count_open_batch(&state, &outbox);
	state.read = newest->processed - state.pending;
	om_census_add_unread(census, newest, consumer->types, consumer->start_at, &state);
	return state;
}
