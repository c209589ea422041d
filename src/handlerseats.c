/*
 * handlerseats.c
 *		The places of the workers that run subscriptions.
 *
 * A seat belongs to a subscription as long as that is to run, so what is known
 * of workers that failed outlives them.  It is dealt by the built-in worker
 * that looks after the subscriptions of its database (handlers.c); should that
 * one end, the next finds who sits where.  Each start has a number: a worker
 * that arrives when another has been started for its seat leaves again.
 *
 * A handler that ends its own process (pg_terminate_backend() on itself, or an
 * error of level FATAL) would be run again and again.  So a seat notes which
 * event is being handled; a worker that ends meanwhile, and was not told to by
 * another process, leaves the event under suspicion.
 *
 * Everything is guarded by shared->lock, except the numbers of processes.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "handlerseats.h"

#define RESTART_MS 500
#define RESTART_MAX_MS 30000

static OmHandlerSeat *my_seat = NULL;

/* Who sent the signal to end; 0: nobody. */
static volatile sig_atomic_t end_sender = 0;

OmHandlerSeat *
om_handlerseat_find_locked(const char *consumer, bool create)
{
	OmHandlerSeat *unused = NULL;

	for (int i = 0; i < OM_MAX_HANDLERS; i++)
	{
		OmHandlerSeat *seat = &om_shared->handlers[i];

		if (seat->database == MyDatabaseId && strcmp(seat->consumer, consumer) == 0)
			return seat;
		if (unused == NULL && !OidIsValid(seat->database))
			unused = seat;
	}
	if (!create || unused == NULL)
		return NULL;
	unused->database = MyDatabaseId;
	strlcpy(unused->consumer, consumer, sizeof(unused->consumer));
	return unused;
}

/* The number of starts stays: a worker may still be on its way. */
void
om_handlerseat_free_locked(OmHandlerSeat *seat)
{
	seat->database = InvalidOid;
	seat->consumer[0] = '\0';
	seat->state = OM_SEAT_EMPTY;
	seat->start++;
	seat->pid = 0;
	seat->due = 0;
	seat->failures = 0;
	seat->running = seat->suspect = 0;
	seat->deaths = 0;
	pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
}

int
om_handlerseat_end_all_locked(Oid database)
{
	int running = 0;

	for (int i = 0; i < OM_MAX_HANDLERS; i++)
	{
		OmHandlerSeat *seat = &om_shared->handlers[i];

		if (!OidIsValid(database) || seat->database != database)
			continue;
		if (seat->state == OM_SEAT_TAKEN)
		{
			kill(seat->pid, SIGTERM);
			running++;
		}
		else
			om_handlerseat_free_locked(seat); /* who is on his way finds himself replaced */
	}
	return running;
}

void
om_handlerseat_end_all(void)
{
	if (om_shared == NULL)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	(void) om_handlerseat_end_all_locked(MyDatabaseId);
	LWLockRelease(om_shared->lock);
}

void
om_handlerseat_end(const char *consumer)
{
	OmHandlerSeat *seat;

	if (om_shared == NULL)
		return;
	LWLockAcquire(om_shared->lock, LW_SHARED);
	seat = om_handlerseat_find_locked(consumer, false /* create */);
	/* A handler that ends its own subscription may finish. */
	if (seat != NULL && seat->state == OM_SEAT_TAKEN && seat->pid != MyProcPid)
		kill(seat->pid, SIGTERM);
	LWLockRelease(om_shared->lock);
}

void
om_handlerseat_wake(Oid database)
{
	if (om_shared != NULL)
		om_shared_wake_handlers(database);
}

void
om_handlerseat_changed(Oid database)
{
	OmDatabase *entry = om_shared_database(database, false /* create */);

	if (entry == NULL)
		return;
	pg_atomic_fetch_add_u32(&entry->handlers, 1);
	om_shared_wake_workers(entry);
}

bool
om_handlerseat_any(void)
{
	bool any = false;

	if (om_shared == NULL)
		return false;
	LWLockAcquire(om_shared->lock, LW_SHARED);
	for (int i = 0; i < OM_MAX_HANDLERS; i++)
		any |= om_shared->handlers[i].database == MyDatabaseId;
	LWLockRelease(om_shared->lock);
	return any;
}

pid_t
om_handlerseat_pid(const char *consumer)
{
	OmHandlerSeat *seat;
	pid_t pid = 0;

	if (om_shared == NULL)
		return 0;
	LWLockAcquire(om_shared->lock, LW_SHARED);
	seat = om_handlerseat_find_locked(consumer, false /* create */);
	if (seat != NULL && seat->state == OM_SEAT_TAKEN)
		pid = seat->pid;
	LWLockRelease(om_shared->lock);
	return pid;
}

/* The event whose handler has ended this process, if it has, is under suspicion. */
static void
note_death(OmHandlerSeat *seat)
{
	bool told_by_another = end_sender != 0 && end_sender != MyProcPid;

	if (seat->running != 0 && !told_by_another)
	{
		seat->deaths = seat->suspect == seat->running ? seat->deaths + 1 : 1;
		seat->suspect = seat->running;
	}
	seat->running = 0;
}

/* However it ended, the next one comes after a moment; works() makes that a short one. */
static void
leave(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	OmHandlerSeat *seat = my_seat;
	Oid database = InvalidOid;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (seat->pid == MyProcPid)
	{
		database = seat->database;
		note_death(seat);
		seat->pid = 0;
		seat->state = OM_SEAT_EMPTY;
		seat->failures++;
		seat->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												Min(RESTART_MS * seat->failures, RESTART_MAX_MS));
		pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	my_seat = NULL;
	if (OidIsValid(database))
		om_handlerseat_changed(database);
	om_shared_wake_launcher();
}

OmHandlerSeat *
om_handlerseat_take(int index, uint32 start)
{
	OmHandlerSeat *seat = &om_shared->handlers[index];
	OmDatabase *entry;
	bool taken = false;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (OidIsValid(seat->database) && seat->state == OM_SEAT_STARTING && seat->start == start)
	{
		entry = om_shared_database_locked(seat->database, false /* create */);
		taken = entry != NULL && entry->quiesced == 0;
		seat->state = taken ? OM_SEAT_TAKEN : OM_SEAT_EMPTY;
		seat->pid = taken ? MyProcPid : 0;
		pg_atomic_write_u32(&seat->procno, taken ? (uint32) om_my_proc_number() : OM_NO_PROC);
	}
	LWLockRelease(om_shared->lock);
	if (!taken)
		return NULL;
	my_seat = seat;
	before_shmem_exit(leave, (Datum) 0);
	return seat;
}

void
om_handlerseat_works(void)
{
	if (my_seat->failures == 0)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	my_seat->failures = 0;
	LWLockRelease(om_shared->lock);
}

void
om_handlerseat_note_sender(pid_t sender)
{
	end_sender = sender;
}

void
om_handlerseat_end_self(void)
{
	kill(MyProcPid, SIGTERM);
}

/* These fields are ours while we sit here, so no lock is taken per event. */
void
om_handlerseat_begin_event(int64 event_id)
{
	if (my_seat != NULL)
		my_seat->running = event_id;
}

void
om_handlerseat_end_event(void)
{
	if (my_seat == NULL)
		return;
	if (my_seat->suspect == my_seat->running)
		my_seat->suspect = my_seat->deaths = 0;
	my_seat->running = 0;
}

int
om_handlerseat_deaths(int64 event_id)
{
	return my_seat != NULL && my_seat->suspect == event_id ? my_seat->deaths : 0;
}

int64
om_handlerseat_suspect(void)
{
	return my_seat != NULL ? my_seat->suspect : 0;
}
