/*
 * handlerseats.c
 *		The places of the workers that run subscriptions.
 *
 * A seat belongs to a subscription as long as that is to run.  It is dealt by the
 * built-in worker that looks after the subscriptions of its database (handlers.c).
 *
 * A handler that ends its own process (pg_terminate_backend() on itself, or an
 * error of level FATAL) would be run again and again.  So a seat notes which
 * event is being handled; a worker that ends meanwhile, and was not told to by
 * another process, leaves the event under suspicion.
 *
 * Everything is guarded by shared->lock.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/ipc.h"

#include "handlerseats.h"

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

void
om_handlerseat_free_locked(OmHandlerSeat *seat)
{
	om_seat_clear(&seat->base);
	seat->database = InvalidOid;
	seat->consumer[0] = '\0';
	seat->running = seat->suspect = 0;
	seat->deaths = 0;
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
		if (om_seat_end(&seat->base))
			running++;
		else
			om_handlerseat_free_locked(seat);
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
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	seat = om_handlerseat_find_locked(consumer, false /* create */);
	/* A handler that ends its own subscription may finish. */
	if (seat != NULL && seat->base.state == OM_SEAT_TAKEN && seat->base.pid != MyProcPid)
		(void) om_seat_end(&seat->base);
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
	if (seat != NULL && seat->base.state == OM_SEAT_TAKEN)
		pid = seat->base.pid;
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
	Oid database = InvalidOid;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (om_seat_leave(&my_seat->base, OM_SEAT_BACK_OFF))
	{
		database = my_seat->database;
		note_death(my_seat);
	}
	LWLockRelease(om_shared->lock);
	my_seat = NULL;
	if (OidIsValid(database))
		om_handlerseat_changed(database);
	om_shared_wake_launcher();
}

OmHandlerSeat *
om_handlerseat_take(int index)
{
	OmHandlerSeat *seat = &om_shared->handlers[index];
	OmDatabase *entry = NULL;
	bool taken;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	if (OidIsValid(seat->database))
		entry = om_shared_database_locked(seat->database, false /* create */);
	taken = om_seat_take(&seat->base, entry != NULL && entry->quiesced == 0);
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
	if (my_seat->base.failures == 0)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	my_seat->base.failures = 0;
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
