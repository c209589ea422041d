/*
 * subscribers.c
 *		One batch of one subscription.
 *
 * The handler runs once per event, each time in a subtransaction of its own.
 * What it did, the events that failed (copied to retries) and the new cursor
 * are one transaction, so inside the database each event has its effects
 * exactly once.  A batch is short, 50 events or 100 ms: more subtransactions
 * would overflow what snapshots can hold of them.
 *
 * The handler is code of the user's.  It never runs as anybody else: whoever
 * calls this module is the subscribing role by session, not only for the
 * moment, because triggers deferred to the commit run as the session's role
 * whatever the role was when they were queued.  What a handler sets is undone
 * after each event.
 *
 * An error that comes at the commit names no event.  The batch is then done
 * again, one event per transaction, and the one that fails so is to blame.
 *
 * Handlers may act outside the database, where nothing can be undone, so all
 * that a batch read is flushed to disk before the first of them runs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "faults.h"
#include "handlerseats.h"
#include "inflight.h"
#include "jsonout.h"
#include "locks.h"
#include "names.h"
#include "orders.h"
#include "registry.h"
#include "relations.h"
#include "retries.h"
#include "settings.h"
#include "signatures.h"
#include "subscribers.h"

#define BATCH_EVENTS 50
#define BATCH_MS 100

/* An event whose handler has ended so many processes in a row is given up. */
#define MAX_DEATHS 3

/* Retries take half of a batch at most, so that they hold up nothing new. */
#define BATCH_RETRIES (BATCH_EVENTS / 2)

struct OmSubscriber
{
	char *name;
	bool in_worker;
	MemoryContext context; /* of this struct */
	OmReader *reader;
	OmInflight *inflight;       /* of a worker */
	OmSuspicion suspicion;      /* of what crashed the server before we came */
	OmOrderTables *orders;      /* of the current batch */
	OmRegistration *definition; /* of the current batch */
	char *prepared;             /* handler for which the plan was made, or NULL */
	SPIPlanPtr plan;
	TimestampTz next_due; /* of the retries, once known; 0: none */
	bool due_known;
	TimestampTz deadline; /* of the current batch */
	bool retries_turn;    /* whether retries go first in the next batch */
	bool committing;
	int handled;        /* events of the current batch */
	int64 last_event;   /* the last of them */
	int alone;          /* so many events are to be handled one per transaction */
	int64 blamed_event; /* made its transaction fail at the commit; 0: none did */
	char blamed_code[6];
	char *blamed_message;
};

/* A handler that runs the pipeline must not be called from there. */
static bool handler_runs = false;

/* --- may it run? ------------------------------------------------------------------------------ */

/*
 * What a subscription needs may have been dropped or revoked since; then it
 * waits, and loses nothing.  A client's run of the pipeline goes on without it.
 */
static bool
may_run(const OmSubscriber *subscriber)
{
	int level = subscriber->in_worker ? ERROR : WARNING;
	const char *handler = subscriber->definition->handler;
	Oid function = om_signature_find(handler);

	if (OidIsValid(function) && om_may_execute(function) &&
		om_may_select(om_relation_get("events")))
		return true;
	ereport(level,
			(errcode(OidIsValid(function) ? ERRCODE_INSUFFICIENT_PRIVILEGE
										  : ERRCODE_UNDEFINED_FUNCTION),
			 OidIsValid(function) ? errmsg("role \"%s\" may no longer run subscription \"%s\"",
										   subscriber->definition->owner, subscriber->name)
								  : errmsg("handler %s of subscription \"%s\" does not exist",
										   handler, subscriber->name),
			 errhint("Its events wait. It needs function %s, the right to execute it, and that to "
					 "read order_mgmt.events.",
					 handler)));
	return false;
}

/* --- one event -------------------------------------------------------------------------------- */

static TimeoutId
hard_timeout(void)
{
	static TimeoutId id = MAX_TIMEOUTS;

	if (id == MAX_TIMEOUTS)
		id = RegisterTimeout(USER_TIMEOUT, om_handlerseat_end_self);
	return id;
}

/* A handler that catches the first timeout and goes on is ended with its process by the second. */
static void
start_timers(const OmSubscriber *subscriber)
{
	if (!subscriber->in_worker)
		return;
	enable_timeout_after(STATEMENT_TIMEOUT, om_setting_handler_timeout);
	enable_timeout_after(hard_timeout(), 2 * om_setting_handler_timeout);
}

/* A cancellation that came too late must not hit the next one. */
static void
stop_timers(const OmSubscriber *subscriber)
{
	if (!subscriber->in_worker)
		return;
	disable_timeout(STATEMENT_TIMEOUT, false);
	disable_timeout(hard_timeout(), false);
	QueryCancelPending = false;
}

static void
prepare(OmSubscriber *subscriber)
{
	const char *handler = subscriber->definition->handler;
	Oid jsonb = JSONBOID;
	SPIPlanPtr plan;

	if (subscriber->plan != NULL && strcmp(subscriber->prepared, handler) == 0)
		return;
	if (subscriber->plan != NULL)
		SPI_freeplan(subscriber->plan);
	subscriber->plan = NULL;
	plan = SPI_prepare(psprintf("SELECT %s($1)", om_signature_name(handler)), 1, &jsonb);
	if (plan == NULL)
		elog(ERROR, "could not prepare a call of %s", handler);
	SPI_keepplan(plan);
	subscriber->plan = plan;
	subscriber->prepared = MemoryContextStrdup(subscriber->context, handler);
}

static void
call_handler(OmSubscriber *subscriber, Datum event)
{
	int level = NewGUCNestLevel();
	Oid user;
	int security_context;

	GetUserIdAndSecContext(&user, &security_context);
	SPI_connect();
	prepare(subscriber);
	if (SPI_execute_plan(subscriber->plan, &event, NULL, false /* read_only */, 0) < 0)
		elog(ERROR, "could not call %s", subscriber->definition->handler);
	SPI_finish();
	AtEOXact_GUC(false /* undo */, level);
	SetUserIdAndSecContext(user, security_context);
}

/* Runs the handler in a subtransaction; returns NULL, or why it failed. */
static ErrorData *
run_handler(OmSubscriber *subscriber, Datum event)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		handler_runs = true;
		start_timers(subscriber);
		call_handler(subscriber, event);
		stop_timers(subscriber);
		handler_runs = false;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		stop_timers(subscriber);
		handler_runs = false;
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	/* A client that is cancelled, or whose own timeout strikes, wants to stop. */
	if (error != NULL && !subscriber->in_worker && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

static TimestampTz
earlier(TimestampTz a, TimestampTz b)
{
	return a == 0 || b == 0 ? Max(a, b) : Min(a, b);
}

static void
note_failure(OmSubscriber *subscriber, OmRetry *retry, const char *code, const char *message)
{
	if (!om_retry_fail(subscriber->name, retry, code, message))
		subscriber->next_due = earlier(subscriber->next_due, retry->due);
}

/* Events on which nobody needs to try the handler; true when this is one. */
static bool
is_condemned(OmSubscriber *subscriber, OmRetry *retry)
{
	int crashes =
		subscriber->suspicion.event_id == retry->event_id ? subscriber->suspicion.crashes : 0;

	if (Max(crashes, om_handlerseat_deaths(retry->event_id)) >= MAX_DEATHS)
	{
		om_retry_give_up(subscriber->name, retry, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN),
						 psprintf("the handler ended its process %d times in a row", MAX_DEATHS));
		return true;
	}
	if (subscriber->blamed_event == retry->event_id)
	{
		note_failure(subscriber, retry, subscriber->blamed_code, subscriber->blamed_message);
		return true;
	}
	return false;
}

/* Events about orders do not name the customer; the order does. */
static char *
customer_of(OmSubscriber *subscriber, const pg_uuid_t *order_id)
{
	OmOrder *order = om_order_find(subscriber->orders, order_id, GetActiveSnapshot());

	return order == NULL ? NULL : order->customer_id;
}

/* stored: it comes from table retries. */
static void
handle(OmSubscriber *subscriber, OmRetry *retry, bool stored)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "event", ALLOCSET_DEFAULT_SIZES);
	ErrorData *error = NULL;

	if (retry->has_order && retry->customer_id == NULL)
		retry->customer_id = customer_of(subscriber, &retry->order_id);
	MemoryContextSwitchTo(context);
	subscriber->handled++;
	subscriber->last_event = retry->event_id;
	om_handlerseat_begin_event(retry->event_id);
	om_inflight_begin(subscriber->inflight, subscriber->handled, retry->event_id);
	if (!is_condemned(subscriber, retry))
	{
		error = run_handler(subscriber, JsonbPGetDatum(om_retry_payload(retry)));
		if (error != NULL)
			note_failure(subscriber, retry, unpack_sql_state(error->sqlerrcode),
						 error->message != NULL ? error->message : "");
		else if (stored)
			om_retry_done(subscriber->name, retry->event_id);
	}
	om_handlerseat_end_event();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* --- a batch ---------------------------------------------------------------------------------- */

/* The position behind which nothing has been written lies behind a page header sometimes. */
static void
flush_what_was_read(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	XLogFlush(end);
}

static void
find_next_due(OmSubscriber *subscriber)
{
	subscriber->next_due = om_retry_next_due(subscriber->name);
	subscriber->due_known = true;
}

static bool
is_full(const OmSubscriber *subscriber, int max_events)
{
	return subscriber->handled >= max_events ||
		   (subscriber->handled > 0 && GetCurrentTimestamp() >= subscriber->deadline);
}

static void
run_retries(OmSubscriber *subscriber, int max_events)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell *cell;

	if (!subscriber->due_known)
		find_next_due(subscriber);
	if (subscriber->next_due == 0 || subscriber->next_due > now)
		return;
	flush_what_was_read();
	foreach(cell, om_retry_list(subscriber->name, GetActiveSnapshot()))
	{
		OmRetry *retry = lfirst(cell);

		if (retry->due > now || retry->batch_id != 0)
			continue;
		if (is_full(subscriber, max_events))
			break;
		handle(subscriber, retry, true /* stored */);
	}
	find_next_due(subscriber);
}

/*
 * Goes back to where the batch began, and forward again over the events that
 * have been handled.  The position in memory is thrown away for that; between
 * it and the stored one lies nothing but windows without events for us.
 */
static void
cut_batch(OmSubscriber *subscriber, const OmReach *reach, int nevents)
{
	OmLogRows *again = om_log_rows_create();

	om_reader_reset(subscriber->reader);
	(void) om_reader_load(subscriber->reader);
	while (again->nevents < nevents)
	{
		if (!om_reader_read(subscriber->reader, reach, subscriber->definition->types, nevents,
							again))
			elog(ERROR, "subscription \"%s\" does not find its events again", subscriber->name);
	}
}

/* Hands over the events of one row; returns how many of them are done. */
static int
run_row(OmSubscriber *subscriber, const OmLogRow *row, int max_events)
{
	int nevents = Max(row->norders, 1);

	if (row->at < subscriber->definition->start_at)
		return nevents;
	for (int i = 0; i < nevents; i++)
	{
		if (is_full(subscriber, max_events))
			return i;
		handle(subscriber, om_retry_of_event(row, i), false /* stored */);
	}
	return nevents;
}

/* False when there is nothing to read. */
static bool
run_new(OmSubscriber *subscriber, const OmReach *reach, int max_events)
{
	OmReader *reader = subscriber->reader;
	OmLogRows *rows = om_log_rows_create();
	int before = subscriber->handled;
	int done = 0;

	if (is_full(subscriber, max_events))
		return true;
	if (!om_reader_read(reader, reach, subscriber->definition->types, max_events - before, rows))
		return false;
	if (rows->nevents > 0)
		flush_what_was_read();
	for (int i = 0; i < rows->count; i++)
	{
		int nevents = run_row(subscriber, &rows->rows[i], max_events);

		done += nevents;
		if (nevents < Max(rows->rows[i].norders, 1))
			break;
	}
	if (done < rows->nevents)
		cut_batch(subscriber, reach, done);
	reader->cursor->processed += subscriber->handled - before;
	if (done > 0 || om_reader_has_drifted(reader))
	{
		OM_FAULT_POINT("subscribers/before-store");
		om_reader_store(reader, PG_INT64_MAX, 0);
		OM_FAULT_POINT("subscribers/stored");
	}
	return true;
}

/* What it is now; false when it is not for us to run. */
static bool
load(OmSubscriber *subscriber)
{
	OmRegistration *definition = om_registry_find(subscriber->name);

	subscriber->definition = definition;
	return definition != NULL && definition->kind == OM_KIND_HANDLER && !definition->paused &&
		   definition->owner != NULL &&
		   get_role_oid(definition->owner, true /* missing_ok */) == GetUserId();
}

static void
begin_batch(OmSubscriber *subscriber)
{
	subscriber->handled = 0;
	subscriber->last_event = 0;
	subscriber->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BATCH_MS);
	if (subscriber->alone == 0 && om_handlerseat_suspect() != 0)
		subscriber->alone = BATCH_EVENTS;
}

static OmSubscriberResult
run_batch(OmSubscriber *subscriber, const OmReach *reach, int max_events)
{
	bool turn = subscriber->retries_turn;
	bool more;
	int room;

	begin_batch(subscriber);
	room = Min(max_events, subscriber->alone > 0 ? 1 : BATCH_EVENTS);
	if (!load(subscriber) || !may_run(subscriber))
		return OM_SUBSCRIBER_ENDED;
	(void) om_reader_load(subscriber->reader);
	subscriber->orders = om_orders_open(AccessShareLock);
	/* Slow ones may fill a batch, so they must not go first every time. */
	if (turn)
		run_retries(subscriber, Min(room, BATCH_RETRIES));
	more = run_new(subscriber, reach, room);
	if (!turn)
		run_retries(subscriber, room);
	om_orders_close(subscriber->orders);
	subscriber->retries_turn = !turn;
	return more || subscriber->handled > 0 ? OM_SUBSCRIBER_DONE : OM_SUBSCRIBER_IDLE;
}

OmSubscriberResult
om_subscriber_step(OmSubscriber *subscriber, const OmReach *reach, int max_events, int64 *events)
{
	OmSubscriberResult result;

	if (!om_lock_try(om_lock_of_consumer(subscriber->name)))
		return OM_SUBSCRIBER_BUSY;
	/* Taken under the lock, it shows all that the last owner has committed. */
	PushActiveSnapshot(om_current_snapshot());
	result = run_batch(subscriber, reach, max_events);
	PopActiveSnapshot();
	*events += subscriber->handled;
	return result;
}

/* --- what the owner of the transaction tells ------------------------------------------------ */

OmSubscriber *
om_subscriber_create(const char *name, bool in_worker)
{
	OmSubscriber *subscriber = palloc0(sizeof(OmSubscriber));

	subscriber->name = pstrdup(name);
	subscriber->in_worker = in_worker;
	subscriber->context = CurrentMemoryContext;
	subscriber->reader = om_reader_create(name);
	subscriber->inflight = in_worker ? om_inflight_attach(name) : NULL;
	subscriber->suspicion = om_inflight_review(subscriber->inflight);
	subscriber->alone = subscriber->suspicion.nevents;
	return subscriber;
}

TimestampTz
om_subscriber_next_due(const OmSubscriber *subscriber)
{
	return subscriber->next_due;
}

void
om_subscriber_look_again(OmSubscriber *subscriber)
{
	subscriber->due_known = false;
}

void
om_subscriber_begin_commit(OmSubscriber *subscriber)
{
	if (subscriber->handled == 0)
		return;
	subscriber->committing = true;
	om_handlerseat_begin_event(subscriber->last_event);
	start_timers(subscriber);
}

void
om_subscriber_end_commit(OmSubscriber *subscriber)
{
	if (subscriber->handled == 0)
		return;
	stop_timers(subscriber);
	om_handlerseat_end_event();
	om_inflight_end(subscriber->inflight);
	subscriber->committing = false;
	subscriber->blamed_event = 0;
	subscriber->alone = Max(subscriber->alone - subscriber->handled, 0);
	subscriber->handled = 0;
}

void
om_subscriber_failed(OmSubscriber *subscriber, const ErrorData *error)
{
	stop_timers(subscriber);
	if (subscriber->committing && subscriber->handled > 1)
		subscriber->alone = subscriber->handled;
	else if (subscriber->committing && subscriber->handled == 1)
	{
		subscriber->blamed_event = subscriber->last_event;
		strlcpy(subscriber->blamed_code, unpack_sql_state(error->sqlerrcode),
				sizeof(subscriber->blamed_code));
		subscriber->blamed_message =
			MemoryContextStrdup(subscriber->context, error->message != NULL ? error->message : "");
	}
	om_handlerseat_end_event();
	om_inflight_abort(subscriber->inflight);
	subscriber->committing = false;
	subscriber->handled = 0;
	subscriber->due_known = false;
	om_reader_reset(subscriber->reader);
}

OmQueueState
om_subscriber_queue(const OmRegistration *definition, const OmCensus *census)
{
	OmCursor *cursor = om_cursor_load(definition->name, false /* restart */, GetActiveSnapshot());
	OmQueueState state = {.read = cursor->processed};

	om_census_add_unread(census, cursor, definition->types, definition->start_at, &state);
	return state;
}

/* --- in a client's session ---------------------------------------------------------------------- */

/*
 * Only where session and current user are the same, and nothing has switched
 * users for the moment: else a handler could become somebody else, by RESET
 * ROLE or by a trigger that runs at the commit.
 */
static bool
is_plain_session(void)
{
	return GetUserId() == GetSessionUserId() && !InLocalUserIdChange() &&
		   !InSecurityRestrictedOperation();
}

int64
om_subscribers_run(const OmReach *reach, int64 max_events)
{
	int64 events = 0;
	ListCell *cell;

	if (handler_runs || !is_plain_session())
		return 0;
	foreach(cell, om_registry_list(OM_KIND_HANDLER))
	{
		OmRegistration *definition = lfirst(cell);
		OmSubscriber *subscriber;
		OmSubscriberResult result = OM_SUBSCRIBER_DONE;

		if (definition->paused || definition->owner == NULL ||
			get_role_oid(definition->owner, true /* missing_ok */) != GetUserId() ||
			om_handlerseat_pid(definition->name) != 0)
			continue;
		subscriber = om_subscriber_create(definition->name, false /* in_worker */);
		while (result == OM_SUBSCRIBER_DONE && (max_events == 0 || events < max_events))
		{
			int64 room = max_events == 0 ? BATCH_EVENTS : max_events - events;

			CHECK_FOR_INTERRUPTS();
			result = om_subscriber_step(subscriber, reach, (int) Min(room, BATCH_EVENTS), &events);
		}
		om_reader_reset(subscriber->reader);
		if (subscriber->plan != NULL)
			SPI_freeplan(subscriber->plan);
	}
	return events;
}
