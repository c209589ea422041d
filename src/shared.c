/*
 * shared.c
 *		The shared memory segment.
 *
 * Locking: om_shared->lock guards the list of databases and the seats.  The
 * atomics are read and written without it, so that a committing client only
 * adds to a counter and sets latches.  Entries never move; an entry is freed
 * only when its database is gone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "shared.h"

OmShared *om_shared = NULL;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(OmShared)));
	RequestNamedLWLockTranche("order_mgmt", 1);
}

static void
clear_job(OmJobSeat *seat)
{
	om_seat_clear(&seat->base);
	pg_atomic_write_u32(&seat->changes, 0);
	pg_atomic_write_u32(&seat->asked, 0);
	pg_atomic_write_u32(&seat->done, 0);
}

static void
clear_database(OmDatabase *entry)
{
	entry->database = InvalidOid;
	entry->quiesced = 0;
	entry->retired = false;
	pg_atomic_write_u64(&entry->commits, 0);
	pg_atomic_write_u64(&entry->ticked, 0);
	pg_atomic_write_u32(&entry->restart, 0);
	pg_atomic_write_u32(&entry->handlers, 0);
	for (int job = 0; job < OM_JOB_COUNT; job++)
		clear_job(&entry->jobs[job]);
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		OmStageSeat *seat = &entry->seats[i];

		om_seat_clear(&seat->base);
		seat->works = false;
		pg_atomic_write_u32(&seat->stages, 0);
	}
}

static void
initialize_database(OmDatabase *entry)
{
	pg_atomic_init_u64(&entry->commits, 0);
	pg_atomic_init_u64(&entry->ticked, 0);
	pg_atomic_init_u32(&entry->restart, 0);
	pg_atomic_init_u32(&entry->handlers, 0);
	for (int job = 0; job < OM_JOB_COUNT; job++)
	{
		om_seat_init(&entry->jobs[job].base);
		pg_atomic_init_u32(&entry->jobs[job].changes, 0);
		pg_atomic_init_u32(&entry->jobs[job].asked, 0);
		pg_atomic_init_u32(&entry->jobs[job].done, 0);
	}
	for (int counter = 0; counter < OM_MOVE_COUNTERS; counter++)
		pg_atomic_init_u64(&entry->moves[counter], 0);
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		om_seat_init(&entry->seats[i].base);
		pg_atomic_init_u32(&entry->seats[i].stages, 0);
	}
	clear_database(entry);
	ConditionVariableInit(&entry->progress);
	ConditionVariableInit(&entry->appended);
	ConditionVariableInit(&entry->loaded);
}

static void
initialize_memory(void)
{
	om_shared->lock = &(GetNamedLWLockTranche("order_mgmt")->lock);
	om_shared->rescan = true;
	pg_atomic_init_u32(&om_shared->launcher_procno, OM_NO_PROC);
	for (int i = 0; i < OM_MAX_DATABASES; i++)
		initialize_database(&om_shared->databases[i]);
	memset(om_shared->handlers, 0, sizeof(om_shared->handlers));
	for (int i = 0; i < OM_MAX_HANDLERS; i++)
		om_seat_init(&om_shared->handlers[i].base);
}

static void
attach_memory(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	om_shared = ShmemInitStruct("order_mgmt", sizeof(OmShared), &found);
	if (!found)
		initialize_memory();
	LWLockRelease(AddinShmemInitLock);
}

void
om_shared_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = attach_memory;
}

OmDatabase *
om_shared_database_locked(Oid database, bool create)
{
	OmDatabase *unused = NULL;

	for (int i = 0; i < OM_MAX_DATABASES; i++)
	{
		OmDatabase *entry = &om_shared->databases[i];

		if (entry->database == database)
			return entry;
		if (unused == NULL && !OidIsValid(entry->database))
			unused = entry;
	}
	if (!create || unused == NULL)
		return NULL;
	clear_database(unused);
	unused->database = database;
	return unused;
}

OmDatabase *
om_shared_database(Oid database, bool create)
{
	OmDatabase *entry;

	if (om_shared == NULL)
		return NULL;
	LWLockAcquire(om_shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	entry = om_shared_database_locked(database, create);
	LWLockRelease(om_shared->lock);
	return entry;
}

OmDatabase *
om_shared_my_database(void)
{
	static OmDatabase *entry = NULL;

	if (om_shared == NULL)
		return NULL;
	/* Entries do not move, and ours stays ours while we are connected. */
	if (entry == NULL || entry->database != MyDatabaseId)
		entry = om_shared_database(MyDatabaseId, true /* create */);
	return entry;
}

void
om_shared_wake_workers(OmDatabase *entry)
{
	for (int i = 0; i < OM_MAX_SEATS; i++)
		om_seat_wake(&entry->seats[i].base);
}

void
om_shared_wake_handlers(Oid database)
{
	LWLockAcquire(om_shared->lock, LW_SHARED);
	for (int i = 0; i < OM_MAX_HANDLERS; i++)
	{
		if (om_shared->handlers[i].database == database)
			om_seat_wake(&om_shared->handlers[i].base);
	}
	LWLockRelease(om_shared->lock);
}

void
om_shared_wake_launcher(void)
{
	om_seat_wake_procno(&om_shared->launcher_procno);
}

void
om_shared_knock(Oid database)
{
	OmDatabase *entry;

	if (om_shared == NULL)
		return;
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	entry = om_shared_database_locked(database, true /* create */);
	om_shared->rescan = true;
	if (entry != NULL)
	{
		for (int i = 0; i < OM_MAX_SEATS; i++)
		{
			OmSeat *seat = &entry->seats[i].base;

			if (seat->state == OM_SEAT_AT_REST)
				seat->state = OM_SEAT_EMPTY;
			seat->due = 0;
			seat->failures = 0;
		}
		pg_atomic_fetch_add_u32(&entry->restart, 1);
	}
	LWLockRelease(om_shared->lock);
	if (entry != NULL)
	{
		om_shared_wake_workers(entry);
		om_shared_wake_handlers(database);
		for (int job = 0; job < OM_JOB_COUNT; job++)
			om_seat_wake(&entry->jobs[job].base);
	}
	om_shared_wake_launcher();
}

pid_t
om_shared_stage_worker(OmStage stage)
{
	OmDatabase *entry = om_shared_database(MyDatabaseId, false /* create */);
	pid_t pid = 0;

	if (entry == NULL)
		return 0;
	LWLockAcquire(om_shared->lock, LW_SHARED);
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		OmStageSeat *seat = &entry->seats[i];

		if (seat->base.state == OM_SEAT_TAKEN && seat->works &&
			(pg_atomic_read_u32(&seat->stages) & OM_STAGE_BIT(stage)))
			pid = seat->base.pid;
	}
	LWLockRelease(om_shared->lock);
	return pid;
}

bool
om_shared_is_worker(TransactionId xid)
{
	OmDatabase *entry = om_shared_database(MyDatabaseId, false /* create */);

	if (entry == NULL || !TransactionIdIsValid(xid))
		return false;
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		uint32 number = pg_atomic_read_u32(&entry->seats[i].base.procno);

		/* A worker that has just left, or whose number is another's now, only costs a wait. */
		if (number != OM_NO_PROC && GetPGProcByNumber(number)->xid == xid)
			return true;
	}
	return false;
}
