/*
 * consumer.c
 *		One batch of one stage.
 *
 * Effects, resulting events and the new cursor commit together, so a batch
 * happens once or not at all.  What has been read but cannot be handled yet
 * stays in the inbox, in memory; the cursor remembers from where a restart must
 * read again to find it.
 *
 * An error is traced to the event that causes it: the batch is tried again in
 * halves down to a single event, which goes to table retries in the same
 * transaction that moves on, and in the end becomes a dead letter.  Then its
 * order is failed, and what it held is released.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "checkers.h"
#include "consumer.h"
#include "cursors.h"
#include "eventlog.h"
#include "faults.h"
#include "inbox.h"
#include "lifecycle.h"
#include "locks.h"
#include "ordercheck.h"
#include "relations.h"
#include "retries.h"
#include "settings.h"
#include "shipper.h"
#include "tables.h"
#include "updater.h"

/* Columns of table consumers */
#define CONSUMER_PAUSED 9

/* Nothing more is read while so many events wait. */
#define MAX_WAITING 200000

/* How soon to try again to give up on an order that a client has locked. */
#define GIVE_UP_RETRY_MS 1000

/* The event that made a batch of one fail. */
typedef struct Culprit
{
	int64 event_id; /* 0: none */
	bool give_up;   /* at once */
	char error_code[6];
	char message[1024];
} Culprit;

struct OmConsumer
{
	OmStage stage;
	OmReader *reader;
	OmInbox *inbox;
	OmChecker *checker;   /* of a checker */
	OmUpdater *updater;   /* of the order updater */
	int64 counted;        /* events that have been reported as handled */
	bool must_flush;      /* the last step wrote an answer */
	int limit;            /* size of a batch while a culprit is looked for; 0: as asked */
	int nsuspects;        /* so many events are taken one by one */
	int64 suspects_begin; /* both count from this event on; 0: from the next one on */
	int64 done_before;    /* the step */
	int retrying_before;  /* the same */
	int ntaken;           /* size of the last batch */
	int64 first_event_id; /* of that batch; 0: it has gone with what was rolled back */
	bool looked;          /* it had some that were ready: there may be more, and more to read */
	Culprit culprit;
	const OmConsumerWatch *watch; /* or NULL */
};

typedef struct StageTraits
{
	uint32 types; /* that it is there for, and counts */
	bool durable;
} StageTraits;

static const StageTraits stage_traits[OM_STAGE_COUNT] = {
	[OM_STAGE_BALANCE_CHECKER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CAPTURED), false},
	[OM_STAGE_STOCK_CHECKER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CAPTURED), false},
	[OM_STAGE_ORDER_UPDATER] = {OM_EVENT_BIT(OM_EVENT_BALANCE_HELD) |
									OM_EVENT_BIT(OM_EVENT_BALANCE_REFUSED) |
									OM_EVENT_BIT(OM_EVENT_STOCK_HELD) |
									OM_EVENT_BIT(OM_EVENT_STOCK_REFUSED) |
									OM_EVENT_BIT(OM_EVENT_ORDER_CANCELLED) |
									OM_EVENT_BIT(OM_EVENT_ORDER_FAILED),
								true},
	[OM_STAGE_SHIPPER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CONFIRMED), true},
};

uint32
om_consumer_types(OmStage stage)
{
	return stage_traits[stage].types;
}

bool
om_consumer_must_flush(const OmConsumer *consumer)
{
	return stage_traits[consumer->stage].durable || consumer->must_flush;
}

OmConsumer *
om_consumer_create(OmStage stage)
{
	OmConsumer *consumer = palloc0(sizeof(OmConsumer));

	consumer->stage = stage;
	consumer->reader = om_reader_create(om_stage_names[stage]);
	return consumer;
}

void
om_consumer_watch(OmConsumer *consumer, const OmConsumerWatch *watch)
{
	consumer->watch = watch;
}

void
om_consumer_forget(OmConsumer *consumer)
{
	om_reader_reset(consumer->reader);
	consumer->inbox = NULL;
	consumer->checker = NULL;
	consumer->updater = NULL;
}

void
om_consumer_hurry(OmConsumer *consumer)
{
	if (consumer->inbox != NULL)
		om_inbox_wake_all(consumer->inbox);
}

TimestampTz
om_consumer_next_due(const OmConsumer *consumer)
{
	TimestampTz inbox_due = consumer->inbox == NULL ? 0 : om_inbox_next_due(consumer->inbox);
	TimestampTz checker_due =
		consumer->checker == NULL ? 0 : om_checker_next_due(consumer->checker);

	return om_inbox_earlier(inbox_due, checker_due);
}

static bool
find_pause(OmStage first, OmStage last)
{
	OmTable *table = om_table_open(om_relation_get("consumers"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool paused = false;

	for (OmStage stage = first; stage <= last && !paused; stage++)
	{
		Datum key = CStringGetTextDatum(om_stage_names[stage]);
		HeapTuple row = om_table_find(table, &key, snapshot);

		paused = row != NULL && DatumGetBool(om_row_get_not_null(table, row, CONSUMER_PAUSED));
	}
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return paused;
}

bool
om_consumer_is_paused(OmStage stage)
{
	return find_pause(stage, stage);
}

/*
 * Who pauses a stage says that the table has changed, so that none is paused may be
 * remembered.  A pause may not: who ends it wakes us before it says so.
 */
bool
om_consumer_is_any_paused(void)
{
	static uint64 none_paused_at = 0;
	uint64 changes = om_relations_changes();

	if (none_paused_at == changes)
		return false;
	if (find_pause(OM_STAGE_BALANCE_CHECKER, OM_STAGE_SHIPPER))
		return true;
	none_paused_at = changes;
	return false;
}

/* ---------- reading ---------- */

static bool
is_checker(const OmConsumer *consumer)
{
	return consumer->stage == OM_STAGE_BALANCE_CHECKER || consumer->stage == OM_STAGE_STOCK_CHECKER;
}

static OmLedgerKind
ledger_kind(const OmConsumer *consumer)
{
	return consumer->stage == OM_STAGE_BALANCE_CHECKER ? OM_LEDGER_ACCOUNTS : OM_LEDGER_STOCK;
}

uint32
om_consumer_types_read(const OmConsumer *consumer)
{
	uint32 types = stage_traits[consumer->stage].types;

	return is_checker(consumer) ? types | om_checker_types(ledger_kind(consumer)) : types;
}

OmReader *
om_consumer_reader(OmConsumer *consumer)
{
	return consumer->reader;
}

void
om_consumer_take_in(OmConsumer *consumer, const OmLogRow *row)
{
	int64 seq = om_reader_seq(consumer->reader);

	if ((om_consumer_types_read(consumer) & OM_EVENT_BIT(row->type)) == 0)
		return;
	if (stage_traits[consumer->stage].types & OM_EVENT_BIT(row->type))
		consumer->reader->cursor->processed += row->norders;
	if (consumer->checker != NULL)
		om_checker_note(consumer->checker, row, seq);
	else if (consumer->updater != NULL)
		om_updater_note(consumer->updater, row, seq);
	else
	{
		for (int i = 0; i < row->norders; i++)
		{
			if (om_inbox_find_retry(consumer->inbox, &row->orders[i], om_log_round(row->detail)) ==
				NULL)
				(void) om_inbox_add(consumer->inbox, row, i, seq);
		}
	}
}

/* False when there was nothing to look at. */
static bool
read_some(OmConsumer *consumer, const OmReach *reach, int max_events)
{
	OmLogRows *rows = om_log_rows_create();

	if (!om_reader_read(consumer->reader, reach, om_consumer_types_read(consumer), max_events,
						rows))
		return false;
	for (int i = 0; i < rows->count; i++)
		om_consumer_take_in(consumer, &rows->rows[i]);
	return true;
}

static bool
ships_by_hand(const OmConsumer *consumer)
{
	return consumer->stage == OM_STAGE_SHIPPER && !om_setting_auto_ship;
}

/* People who ship by hand are shown a few orders at a time; who is far ahead waits. */
bool
om_consumer_may_read(OmConsumer *consumer, int max_events)
{
	if (ships_by_hand(consumer))
		return consumer->inbox->count == 0;
	if (consumer->inbox->nready >= max_events)
		return false;
	return consumer->checker == NULL ? consumer->inbox->count < MAX_WAITING
									 : !om_checker_is_full(consumer->checker);
}

static void
create_state(OmConsumer *consumer)
{
	MemoryContext caller = MemoryContextSwitchTo(consumer->reader->context);
	OmCursor *cursor = consumer->reader->cursor;
	ListCell *cell;

	consumer->inbox = om_inbox_create();
	consumer->checker = is_checker(consumer) ? om_checker_create(ledger_kind(consumer),
																 consumer->inbox, consumer->reader)
											 : NULL;
	consumer->updater =
		consumer->stage == OM_STAGE_ORDER_UPDATER ? om_updater_create(consumer->inbox) : NULL;
	foreach(cell, om_retry_list(consumer->reader->consumer, GetActiveSnapshot()))
		(void) om_inbox_add_retry(consumer->inbox, lfirst(cell));
	consumer->counted = cursor->newest_processed - cursor->waiting - consumer->inbox->nretrying;
	MemoryContextSwitchTo(caller);
}

/*
 * Finds the position, and what was in the inbox, again when they are not known.
 * Nothing may be handled before that is complete: a later order would overtake
 * an earlier one.  False: the tick that shows the rest has not been made yet.
 */
static bool
load(OmConsumer *consumer, const OmReach *reach, int max_events)
{
	if (om_reader_load(consumer->reader) || consumer->inbox == NULL)
	{
		create_state(consumer);
		if (consumer->watch != NULL)
			consumer->watch->has_taken_over(consumer->stage);
	}
	while (om_reader_is_behind(consumer->reader))
	{
		if (!read_some(consumer, reach, max_events))
			return false;
	}
	if (consumer->checker != NULL)
		om_checker_caught_up(consumer->checker, om_reader_seq(consumer->reader));
	return true;
}

/* ---------- failures ---------- */

/* Nobody in particular is to blame: out of resources, told to stop, broken disk. */
static bool
is_general(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_INSUFFICIENT_RESOURCES ||
		   category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_SYSTEM_ERROR;
}

OmStepFailure
om_consumer_failed(OmConsumer *consumer, const ErrorData *error)
{
	om_consumer_forget(consumer);
	if (error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		error->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
		return OM_FAILURE_CONFLICT;
	consumer->culprit.event_id = 0;
	if (is_general(error->sqlerrcode) || consumer->ntaken == 0)
		return OM_FAILURE_GENERAL; /* perhaps not even setting the culprit aside has worked */
	consumer->limit = Max(consumer->ntaken / 2, 1);
	consumer->suspects_begin = consumer->first_event_id;
	if (consumer->ntaken == 1 && consumer->first_event_id != 0)
	{
		Culprit *culprit = &consumer->culprit;

		culprit->event_id = consumer->first_event_id;
		culprit->give_up = false;
		strlcpy(culprit->error_code, unpack_sql_state(error->sqlerrcode),
				sizeof(culprit->error_code));
		strlcpy(culprit->message, error->message, sizeof(culprit->message));
	}
	return OM_FAILURE_ISOLATED;
}

void
om_consumer_crashed(OmConsumer *consumer, int nsuspects, int64 suspects_begin, int64 event_id,
					bool give_up)
{
	Culprit *culprit = &consumer->culprit;

	consumer->nsuspects = nsuspects;
	consumer->suspects_begin = suspects_begin;
	if (event_id == 0)
		return;
	culprit->event_id = event_id;
	culprit->give_up = give_up;
	strlcpy(culprit->error_code, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN),
			sizeof(culprit->error_code));
	strlcpy(culprit->message, "the server process died while it handled this event",
			sizeof(culprit->message));
}

/* Its check, decision or shipment will not come: the order has failed.  False: not now. */
static bool
fail_order(OmConsumer *consumer, OmItem *item)
{
	const Culprit *culprit = &consumer->culprit;

	if (!om_lifecycle_fail(&item->event.order_id, item->round, consumer->reader->consumer,
						   culprit->error_code, culprit->message))
		return false;
	if (consumer->checker != NULL)
		om_checker_give_up(consumer->checker, item);
	else if (consumer->updater != NULL)
		om_updater_give_up(consumer->updater, item);
	else
		om_inbox_remove(consumer->inbox, item, false /* keep_backlog */);
	consumer->must_flush = true;
	return true;
}

static void
set_aside(OmConsumer *consumer, OmItem *item)
{
	Culprit *culprit = &consumer->culprit;
	OmRetry event = item->event;
	const char *name = consumer->reader->consumer;

	if (culprit->give_up || om_retry_is_last(name, &event))
	{
		if (fail_order(consumer, item))
			om_retry_give_up(name, &event, culprit->error_code, culprit->message);
		else
			om_inbox_sleep(consumer->inbox, item,
						   TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GIVE_UP_RETRY_MS));
		return;
	}
	(void) om_retry_fail(name, &event, culprit->error_code, culprit->message);
	om_inbox_set_retrying(consumer->inbox, item, &event);
	if (consumer->checker != NULL)
		om_checker_pass_over(consumer->checker, item);
}

/*
 * True when there was a culprit and it is out of the way.  It may have to be read
 * again first, however many events wait before it.
 */
static bool
set_culprit_aside(OmConsumer *consumer, const OmReach *reach, int max_events)
{
	int64 event_id = consumer->culprit.event_id;
	OmItem *item;

	if (event_id == 0)
		return false;
	while ((item = om_inbox_find(consumer->inbox, event_id)) == NULL &&
		   consumer->inbox->count < MAX_WAITING && read_some(consumer, reach, max_events))
		;
	if (item != NULL)
		set_aside(consumer, item);
	consumer->culprit.event_id = consumer->suspects_begin = 0;
	return item != NULL;
}

/* ---------- handling ---------- */

static void
run_stage(OmConsumer *consumer, OmWork *work, OmItem **items, int count)
{
	int64 seq = om_reader_seq(consumer->reader);

	if (consumer->checker != NULL)
		om_checker_run(consumer->checker, work, items, count, seq);
	else if (consumer->updater != NULL)
		om_updater_run(consumer->updater, work, items, count, seq);
	else
		om_shipper_run(consumer->inbox, work, items, count);
}

/*
 * A model that checks orders is asked before anything is locked.  What it refuses
 * is for each item the detail of the refusal or NULL; NULL: nobody asks.
 */
static Jsonb **
ask_model(const OmConsumer *consumer, OmItem **items, int count)
{
	return consumer->stage == OM_STAGE_BALANCE_CHECKER && om_ordercheck_is_on()
			 ? om_ordercheck_ask(items, count)
			 : NULL;
}

/* Returns how many items are left; they close up. */
static int
refuse(OmConsumer *consumer, OmWork *work, OmItem **items, int count, Jsonb **refusals)
{
	int left = 0;

	for (int i = 0; i < count; i++)
	{
		if (refusals[i] == NULL)
			items[left++] = items[i];
		else
			om_checker_refuse(consumer->checker, work, items[i], refusals[i]);
	}
	return left;
}

/* Once a culprit is out of the way, batches grow again. */
static int
batch_size(const OmConsumer *consumer, int max_events)
{
	if (consumer->nsuspects > 0)
		return 1;
	return consumer->limit == 0 ? max_events : Min(consumer->limit, max_events);
}

/*
 * What waited before the failure has been read again and comes first: it is no
 * suspect, and must not use up the small batches.
 */
static int
count_unsuspected(OmConsumer *consumer, OmItem **items, int count)
{
	int first = 0;

	if (consumer->suspects_begin == 0 || count == 0)
		return 0;
	while (first < count && items[first]->event.event_id != consumer->suspects_begin)
		first++;
	if (first == 0)
		consumer->suspects_begin = 0;
	return first;
}

/* What has failed before is tried by itself, so that it takes nobody with it. */
static int
take(OmConsumer *consumer, OmItem **items, int max_events)
{
	int count = om_inbox_take(consumer->inbox, items, max_events);
	int unsuspected = count_unsuspected(consumer, items, count);

	count = unsuspected > 0 ? unsuspected : Min(count, batch_size(consumer, max_events));
	for (int i = 0; i < count; i++)
	{
		if (items[i]->seq == PG_INT64_MAX)
			return Max(i, 1);
	}
	return count;
}

/* What has happened in the same transaction will be another event when it happens again. */
static bool
is_in_log(const OmWork *work, const OmItem *item)
{
	return work == NULL || work->log == NULL || item->event.lxid != work->log->lxid;
}

void
om_consumer_handle(OmConsumer *consumer, OmWork **work, int max_events)
{
	OmItem **items = palloc(sizeof(OmItem *) * max_events);
	int count = take(consumer, items, max_events);
	Jsonb **refusals;
	int64 retried;

	if (count == 0)
		return;
	retried = items[0]->seq == PG_INT64_MAX ? items[0]->event.event_id : 0;
	consumer->ntaken = count;
	consumer->first_event_id = is_in_log(*work, items[0]) ? items[0]->event.event_id : 0;
	for (int i = 0; i < count && !ships_by_hand(consumer); i++)
		consumer->looked |= items[i]->ready;
	if (consumer->watch != NULL)
		consumer->watch->will_handle(consumer->stage, count, consumer->first_event_id);
	OM_FAULT_POINT("consumer/batch-taken");
	refusals = ask_model(consumer, items, count);
	if (*work == NULL)
		*work = om_work_begin(OM_LEDGER_SKIP, count);
	if (refusals != NULL)
		count = refuse(consumer, *work, items, count, refusals);
	if (count > 0)
		run_stage(consumer, *work, items, count);
	OM_FAULT_POINT("consumer/batch-handled");
	/* The stored copy of what has been handled at last */
	if (retried != 0 && om_inbox_find(consumer->inbox, retried) == NULL)
		om_retry_done(consumer->reader->consumer, retried);
}

static void
relax_limit(OmConsumer *consumer, int max_events)
{
	/* A step that took nothing has cleared nobody. */
	if (consumer->suspects_begin != 0 || consumer->ntaken == 0)
		return;
	consumer->nsuspects = Max(consumer->nsuspects - consumer->ntaken, 0);
	if (consumer->limit == 0)
		return;
	consumer->limit *= 2;
	if (consumer->limit >= max_events)
		consumer->limit = 0;
}

static int64
count_waiting(const OmConsumer *consumer)
{
	return consumer->inbox->count - consumer->inbox->nretrying;
}

/* What waits for its next attempt is not done either. */
static int64
count_done(const OmConsumer *consumer)
{
	return consumer->reader->cursor->processed - consumer->inbox->count;
}

/* How many more than have been reported. */
static int64
count_handled(OmConsumer *consumer)
{
	int64 more = Max(count_done(consumer) - consumer->counted, 0);

	consumer->counted += more;
	return more;
}

bool
om_consumer_is_sound(const OmConsumer *consumer)
{
	return consumer->culprit.event_id == 0 && consumer->limit == 0 && consumer->nsuspects == 0;
}

bool
om_consumer_begin_step(OmConsumer *consumer, const OmReach *reach, int max_events)
{
	consumer->must_flush = consumer->looked = false;
	consumer->ntaken = 0;
	if (!load(consumer, reach, max_events))
		return false;
	consumer->done_before = count_done(consumer);
	consumer->retrying_before = consumer->inbox->nretrying;
	return true;
}

bool
om_consumer_has_done(const OmConsumer *consumer)
{
	return count_done(consumer) != consumer->done_before ||
		   consumer->inbox->nretrying != consumer->retrying_before ||
		   om_reader_has_drifted(consumer->reader);
}

bool
om_consumer_has_ready(const OmConsumer *consumer)
{
	return consumer->inbox->nready > 0;
}

void
om_consumers_store(OmConsumer **consumers, int count)
{
	OmTable *table = om_cursors_open();

	for (int i = 0; i < count; i++)
		om_cursor_append(table, consumers[i]->reader->cursor,
						 om_backlog_first(consumers[i]->inbox->backlog),
						 count_waiting(consumers[i]));
	om_table_close(table);
}

bool
om_consumer_needs_less(const OmConsumer *consumer)
{
	return consumer->inbox != NULL && !om_reader_is_behind(consumer->reader) &&
		   om_backlog_first(consumer->inbox->backlog) > consumer->reader->cursor->restart_seq &&
		   consumer->reader->cursor->restart_seq < consumer->reader->cursor->seq;
}

bool
om_consumer_end_step(OmConsumer *consumer, int max_events, int64 *events)
{
	*events += count_handled(consumer);
	relax_limit(consumer, max_events);
	return consumer->looked;
}

/* True when there may be more to do. */
static bool
step(OmConsumer *consumer, const OmReach *reach, int max_events, int64 *events)
{
	OmWork *work = NULL;
	bool has_read = false;
	bool has_done;

	if (!om_consumer_begin_step(consumer, reach, max_events))
		return false;
	if (!set_culprit_aside(consumer, reach, max_events))
	{
		has_read = om_consumer_may_read(consumer, batch_size(consumer, max_events)) &&
				   read_some(consumer, reach, max_events);
		om_consumer_handle(consumer, &work, max_events);
		if (work != NULL)
			om_work_end(work);
	}
	has_done = om_consumer_has_done(consumer);
	if (has_done)
		om_consumers_store(&consumer, 1);
	return om_consumer_end_step(consumer, max_events, events) || has_read || has_done;
}

OmStepResult
om_consumer_step(OmConsumer *consumer, const OmReach *reach, int max_events, int64 *events)
{
	bool more;

	if (!om_lock_try((OmLock) consumer->stage))
		return OM_STEP_BUSY;
	/* Taken under the lock, it shows all that the last owner has committed. */
	PushActiveSnapshot(om_current_snapshot());
	more = step(consumer, reach, max_events, events);
	PopActiveSnapshot();
	return more ? OM_STEP_DONE : OM_STEP_IDLE;
}
