/*
 * handlers.c
 *		Runs subscriptions in workers of their own.
 *
 * A handler may sleep, loop, or end its process; so each subscription has a
 * worker to itself, and the built-in workers never wait for one.  The worker
 * connects as the subscribing role, so that there is no more powerful identity
 * in the process to be had.
 *
 * One built-in worker of the database looks after the others: it starts one for
 * each subscription that is to run, and again when one has ended.  A worker
 * ends by itself when its subscription is paused or gone, and when the workers
 * of the database are to rest; DROP DATABASE and its like end it as they end
 * the built-in ones.
 *
 * Each batch is a transaction of its own, and durable.  Between batches the
 * session is made as good as new.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "compat.h"
#include "faults.h"
#include "handlers.h"
#include "handlerseats.h"
#include "inbox.h"
#include "inflight.h"
#include "registry.h"
#include "settings.h"
#include "subscribers.h"

#define BUSY_RETRY_MS 100
#define ERROR_RETRY_MIN_MS 500
#define ERROR_RETRY_MAX_MS 60000

/* --- looking after the workers -------------------------------------------------------------- */

static OmSeatKind kind = {
	.function = "om_handler_main", .type = "order_mgmt handler", .purpose = "subscriptions"};
static BackgroundWorkerHandle *handles[OM_MAX_HANDLERS];
static uint32 looked_at;
static bool has_looked = false;

bool
om_handlers_need_look(OmDatabase *entry)
{
	return !has_looked || pg_atomic_read_u32(&entry->handlers) != looked_at;
}

static bool
is_wanted(const List *wanted, const OmHandlerSeat *seat)
{
	ListCell *cell;

	foreach(cell, wanted)
	{
		if (strcmp(((OmRegistration *) lfirst(cell))->name, seat->consumer) == 0)
			return true;
	}
	return false;
}

/* Seats of subscriptions that are gone or paused; who still sits there is woken to see it. */
static void
clear_seats(const List *wanted)
{
	for (int i = 0; i < OM_MAX_HANDLERS; i++)
	{
		OmHandlerSeat *seat = &om_shared->handlers[i];

		if (seat->database != MyDatabaseId || is_wanted(wanted, seat))
			continue;
		if (seat->base.state == OM_SEAT_TAKEN)
			om_seat_wake(&seat->base);
		else
			om_handlerseat_free_locked(seat);
	}
}

/* Once, and again when some could be started meanwhile. */
static void
report_full(void)
{
	if (!kind.slots_exhausted)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("order_mgmt runs as many subscriptions as it can"),
				 errdetail("There are %d places; events of the others wait.", OM_MAX_HANDLERS)));
	kind.slots_exhausted = true;
}

/* Returns when to look again at the latest; 0: when something changes. */
static TimestampTz
seat_worker(OmDatabase *entry, const char *consumer, Oid role)
{
	OmHandlerSeat *seat = om_handlerseat_find_locked(consumer, true /* create */);
	int index = seat - om_shared->handlers;
	char name[BGW_MAXLEN];

	if (seat == NULL)
	{
		report_full();
		return 0;
	}
	snprintf(name, sizeof(name), "order_mgmt handler %s", consumer);
	if (seat->base.state == OM_SEAT_EMPTY)
		seat->role = role;
	return om_seat_fill(&seat->base, &kind, name, Int32GetDatum(index),
						pg_atomic_read_u32(&entry->restart), &handles[index]);
}

/* The subscriptions that are to run, and the roles as which they do. */
static List *
list_wanted(List **roles)
{
	List *wanted = NIL;
	ListCell *cell;

	foreach(cell, om_registry_list(OM_KIND_HANDLER))
	{
		OmRegistration *subscription = lfirst(cell);
		Oid role = subscription->owner == NULL
					 ? InvalidOid
					 : get_role_oid(subscription->owner, true /* missing_ok */);

		/* Whose role is gone waits for somebody to unsubscribe it. */
		if (subscription->paused || !OidIsValid(role))
			continue;
		wanted = lappend(wanted, subscription);
		*roles = lappend_oid(*roles, role);
	}
	return wanted;
}

TimestampTz
om_handlers_look_after(OmDatabase *entry)
{
	TimestampTz next = 0;
	List *roles = NIL;
	List *wanted;

	looked_at = pg_atomic_read_u32(&entry->handlers);
	has_looked = true;
	PushActiveSnapshot(GetLatestSnapshot());
	wanted = list_wanted(&roles);
	PopActiveSnapshot();
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	clear_seats(wanted);
	for (int i = 0; i < list_length(wanted) && entry->quiesced == 0; i++)
	{
		OmRegistration *subscription = list_nth(wanted, i);

		next =
			om_inbox_earlier(next, seat_worker(entry, subscription->name, list_nth_oid(roles, i)));
	}
	LWLockRelease(om_shared->lock);
	return next;
}

/* --- the worker ------------------------------------------------------------------------------- */

typedef struct Handler
{
	OmHandlerSeat *seat;
	OmDatabase *database;
	OmSubscriber *subscriber;
	MemoryContext batch_context;
	int retry_ms;           /* back-off after errors */
	TimestampTz not_before; /* rests until then; 0: does not */
} Handler;

static Handler self;

/* All else that a database or a role may have set is the role's own. */
static const OmBgSetting session_settings[] = {
	{"role", "none"},
};

static void
end_by_signal(int signo, siginfo_t *info, void *context pg_attribute_unused())
{
	om_handlerseat_note_sender(info->si_pid);
	die(signo);
}

/* Like pqsignal(), but it tells who has sent the signal. */
static void
catch_end(void)
{
	struct sigaction action = {.sa_sigaction = end_by_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
}

static void
drop_temporary_tables(void)
{
	Oid tables;
	Oid toast;

	GetTempNamespaceState(&tables, &toast);
	if (!OidIsValid(tables))
		return;
	om_bgsession_begin();
	ResetTempTableNamespace();
	om_bgsession_commit(true /* durable */);
}

/* As DISCARD ALL does, but plans are kept. */
static void
clean_session(void)
{
	PortalHashTableDeleteAll();
	DropAllPreparedStatements();
	LockReleaseAll(USER_LOCKMETHOD, true);
	drop_temporary_tables();
}

/* True when there may be more to do. */
static bool
run_batch(void)
{
	static const OmReach ticks_only = {NULL, 0};
	OmSubscriberResult result;
	MemoryContext caller;
	int64 events = 0;

	om_bgsession_begin();
	caller = MemoryContextSwitchTo(self.batch_context);
	result = om_subscriber_step(self.subscriber, &ticks_only, PG_INT32_MAX, &events);
	MemoryContextSwitchTo(caller);
	OM_FAULT_POINT("handlers/before-commit");
	om_subscriber_begin_commit(self.subscriber);
	om_bgsession_commit(true /* durable */);
	om_subscriber_end_commit(self.subscriber);
	OM_FAULT_POINT("handlers/after-commit");
	MemoryContextReset(self.batch_context);
	if (result == OM_SUBSCRIBER_ENDED)
		proc_exit(0);
	if (result == OM_SUBSCRIBER_BUSY)
		self.not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_RETRY_MS);
	if (events > 0)
	{
		clean_session();
		ConditionVariableBroadcast(&self.database->progress);
	}
	return result == OM_SUBSCRIBER_DONE;
}

static void
recover_from_error(void)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(self.batch_context);
	error = CopyErrorData();
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	om_subscriber_failed(self.subscriber, error);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(self.batch_context);
	LockReleaseAll(USER_LOCKMETHOD, true);
	self.retry_ms = Min(Max(self.retry_ms * 2, ERROR_RETRY_MIN_MS), ERROR_RETRY_MAX_MS);
	self.not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), self.retry_ms);
	RESUME_INTERRUPTS();
}

/* Runs a batch unless an error makes us rest; true when there may be more to do. */
static bool
attempt(void)
{
	volatile bool more = false;

	if (self.not_before != 0 && GetCurrentTimestamp() < self.not_before)
		return false;
	self.not_before = 0;
	PG_TRY();
	{
		more = run_batch();
		self.retry_ms = 0;
		om_handlerseat_works();
	}
	PG_CATCH();
	{
		recover_from_error();
	}
	PG_END_TRY();
	return more;
}

static void
obey_signals(void)
{
	(void) om_bgsession_obey_signals();
	if (!om_setting_workers ||
		pg_atomic_read_u32(&self.database->restart) != self.seat->base.restart)
		proc_exit(0);
}

static void
work_until_idle(void)
{
	bool more;

	pgstat_report_activity(STATE_RUNNING, self.seat->consumer);
	om_subscriber_look_again(self.subscriber);
	do
	{
		obey_signals();
		more = attempt();
	} while (more);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
sleep_on_latch(void)
{
	TimestampTz due = om_subscriber_next_due(self.subscriber);
	long timeout = -1;

	if (self.not_before != 0)
		due = self.not_before;
	if (due != 0)
		timeout = Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due), 1);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
					 timeout, PG_WAIT_EXTENSION);
}

void
om_handler_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGQUIT, om_inflight_sigquit);
	catch_end();
	BackgroundWorkerUnblockSignals();
	self.seat = om_handlerseat_take(DatumGetInt32(arg));
	if (self.seat == NULL)
		proc_exit(0);
	self.database = om_shared_database(self.seat->database, false /* create */);
	BackgroundWorkerInitializeConnectionByOid(self.seat->database, self.seat->role, 0);
	om_bgsession_set(session_settings, lengthof(session_settings));
	if (!om_bgsession_may_work())
		proc_exit(0);
	MemoryContextSwitchTo(TopMemoryContext);
	self.batch_context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt batch", ALLOCSET_DEFAULT_SIZES);
	self.subscriber = om_subscriber_create(self.seat->consumer, true /* in_worker */);
	for (;;)
	{
		ResetLatch(MyLatch);
		work_until_idle();
		sleep_on_latch();
	}
}
