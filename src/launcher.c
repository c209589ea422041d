/*
 * launcher.c
 *		Keeps a worker on every seat.
 *
 * The launcher is connected to no database, so it is in nobody's way.  Only a
 * process inside a database can tell whether order_mgmt is set up there: a
 * worker is started in each, and one that finds nothing to do leaves its seat
 * "at rest" until somebody knocks (setup(), post_restore(), ALTER DATABASE …).
 * Few are started at a time, so a cluster of many databases is looked through
 * without taking all worker slots.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "faults.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "handlerseats.h"
#include "launcher.h"
#include "settings.h"
#include "shared.h"
#include "worker.h"

#define MAX_STARTING 2
#define NO_SLOT_RETRY_MS 2000
#define STARTING_CHECK_MS 100

static BackgroundWorkerHandle *handles[OM_MAX_DATABASES][OM_MAX_SEATS];
static bool slots_exhausted = false;

static void
init_worker_struct(BackgroundWorker *bgw, const char *type, const char *function)
{
	memset(bgw, 0, sizeof(*bgw));
	bgw->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw->bgw_start_time = BgWorkerStart_RecoveryFinished;
	strlcpy(bgw->bgw_library_name, "order_mgmt", BGW_MAXLEN);
	strlcpy(bgw->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(bgw->bgw_type, type, BGW_MAXLEN);
	strlcpy(bgw->bgw_name, type, BGW_MAXLEN);
}

void
om_launcher_register(void)
{
	BackgroundWorker bgw;

	/* pg_upgrade runs servers of its own; nothing may move in them. */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	init_worker_struct(&bgw, "order_mgmt launcher", "om_launcher_main");
	bgw.bgw_restart_time = 1;
	RegisterBackgroundWorker(&bgw);
}

/* How the stages are shared out among one to four workers. */
static uint32
seat_stages(int nseats, int seat)
{
	static const uint32 balance = OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER);
	static const uint32 stock = OM_STAGE_BIT(OM_STAGE_STOCK_CHECKER);
	static const uint32 update = OM_STAGE_BIT(OM_STAGE_ORDER_UPDATER);
	static const uint32 ship = OM_STAGE_BIT(OM_STAGE_SHIPPER);

	switch (nseats)
	{
		case 1:
			return OM_STAGES_ALL;
		case 2:
			return seat == 0 ? balance | stock : update | ship;
		case 3:
			return seat == 0 ? balance : seat == 1 ? stock : update | ship;
		default:
			return OM_STAGE_BIT(seat);
	}
}

/* OIDs of the databases that take connections and are no templates. */
static List *
list_databases(void)
{
	List *databases = NIL;
	MemoryContext caller = CurrentMemoryContext;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext transaction;

		if (!form->datallowconn || form->datistemplate)
			continue;
		transaction = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(transaction);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/*
 * A database that is gone, or takes no connections any more: its entry is free
 * for another when the last worker has left.
 */
static void
retire_database(OmDatabase *entry)
{
	bool occupied = false;

	entry->nseats = 0;
	for (int s = 0; s < OM_MAX_SEATS; s++)
	{
		OmSeat *seat = &entry->seats[s];

		if (seat->state == OM_SEAT_TAKEN && seat->pid != 0)
			kill(seat->pid, SIGTERM);
		occupied |= seat->state == OM_SEAT_TAKEN || seat->state == OM_SEAT_STARTING;
	}
	occupied |= om_handlerseat_end_all_locked(entry->database) > 0;
	if (occupied)
		om_shared->rescan = true; /* a worker that leaves wakes us */
	else
		entry->database = InvalidOid;
}

static void
update_databases(void)
{
	List *databases;
	ListCell *cell;
	int nleft_out = 0;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	om_shared->rescan = false;
	LWLockRelease(om_shared->lock);
	OM_FAULT_POINT("launcher/before-list");
	databases = list_databases();
	OM_FAULT_POINT("launcher/listed");

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < OM_MAX_DATABASES; i++)
	{
		OmDatabase *entry = &om_shared->databases[i];

		if (OidIsValid(entry->database) && entry->quiesced == 0 &&
			!list_member_oid(databases, entry->database))
			retire_database(entry);
	}
	foreach(cell, databases)
		nleft_out += om_shared_database_locked(lfirst_oid(cell), true /* create */) == NULL;
	LWLockRelease(om_shared->lock);
	if (nleft_out > 0)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("order_mgmt looks after %d databases; %d are left out",
							 OM_MAX_DATABASES, nleft_out)));
	list_free(databases);
}

/* A worker that was registered but never reached its seat must not block it. */
static void
check_starting(int entry_index, int seat_index)
{
	OmSeat *seat = &om_shared->databases[entry_index].seats[seat_index];
	BackgroundWorkerHandle *handle = handles[entry_index][seat_index];
	pid_t pid;

	if (seat->state != OM_SEAT_STARTING)
		return;
	if (handle != NULL && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		return;
	seat->state = OM_SEAT_EMPTY;
	seat->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_SLOT_RETRY_MS);
}

static bool
start_worker(int entry_index, int seat_index)
{
	OmDatabase *entry = &om_shared->databases[entry_index];
	BackgroundWorker bgw;
	BackgroundWorkerHandle **handle = &handles[entry_index][seat_index];

	init_worker_struct(&bgw, "order_mgmt worker", "om_worker_main");
	snprintf(bgw.bgw_name, BGW_MAXLEN, "order_mgmt worker %d of database %u", seat_index + 1,
			 entry->database);
	bgw.bgw_restart_time = BGW_NEVER_RESTART;
	bgw.bgw_main_arg = OM_WORKER_ARG(entry_index, seat_index);
	bgw.bgw_notify_pid = MyProcPid;
	if (*handle != NULL)
		pfree(*handle);
	*handle = NULL;
	return RegisterDynamicBackgroundWorker(&bgw, handle);
}

static void
report_slots(bool exhausted)
{
	if (exhausted && !slots_exhausted)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("order_mgmt found no free background worker slot"),
					  errhint("Increase max_worker_processes; until then orders wait.")));
	slots_exhausted = exhausted;
}

/* The earliest of the times at which something is to be looked at again. */
static void
remember_due(TimestampTz *next, TimestampTz due)
{
	*next = *next == 0 ? due : Min(*next, due);
}

static int
count_seats(const OmDatabase *entry, OmSeatState state)
{
	int count = 0;

	for (int s = 0; s < OM_MAX_SEATS; s++)
		count += entry->seats[s].state == state;
	return count;
}

/* Workers on their way; those that will never arrive no longer count. */
static int
count_starting(void)
{
	int count = 0;

	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		if (!OidIsValid(om_shared->databases[e].database))
			continue;
		for (int s = 0; s < OM_MAX_SEATS; s++)
			check_starting(e, s);
		count += count_seats(&om_shared->databases[e], OM_SEAT_STARTING);
	}
	return count;
}

static void
fill_seat(int entry_index, int seat_index, TimestampTz now, int *nstarting, TimestampTz *next)
{
	OmDatabase *entry = &om_shared->databases[entry_index];
	OmSeat *seat = &entry->seats[seat_index];

	if (seat->state != OM_SEAT_EMPTY)
		return;
	if (seat->not_before > now)
	{
		remember_due(next, seat->not_before);
		return;
	}
	if (*nstarting >= MAX_STARTING)
		return; /* there is a look at those that start anyway */
	seat->stages = seat_stages(entry->nseats, seat_index);
	seat->restart = pg_atomic_read_u32(&entry->restart);
	seat->state = OM_SEAT_STARTING;
	OM_FAULT_POINT("launcher/seat-dealt");
	if (start_worker(entry_index, seat_index))
	{
		(*nstarting)++;
		OM_FAULT_POINT("launcher/worker-started");
		report_slots(false);
		return;
	}
	report_slots(true);
	seat->state = OM_SEAT_EMPTY;
	seat->not_before = TimestampTzPlusMilliseconds(now, NO_SLOT_RETRY_MS);
	remember_due(next, seat->not_before);
}

/* Fills the empty seats whose time has come; returns when to look again (0: when woken). */
static TimestampTz
fill_seats(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	int nstarting;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	nstarting = count_starting();
	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		OmDatabase *entry = &om_shared->databases[e];

		if (!OidIsValid(entry->database) || entry->quiesced > 0)
			continue;
		/* Stages are dealt anew only when nobody sits any more. */
		if (count_seats(entry, OM_SEAT_TAKEN) + count_seats(entry, OM_SEAT_STARTING) == 0)
			entry->nseats = om_setting_workers_per_database;
		for (int s = 0; s < entry->nseats; s++)
			fill_seat(e, s, now, &nstarting, &next);
	}
	LWLockRelease(om_shared->lock);
	if (nstarting > 0)
		remember_due(&next, TimestampTzPlusMilliseconds(now, STARTING_CHECK_MS));
	return next;
}

/* All workers come back with the new number of seats. */
static void
reload(void)
{
	int before = om_setting_workers_per_database;

	ProcessConfigFile(PGC_SIGHUP);
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		OmDatabase *entry = &om_shared->databases[e];

		for (int s = 0; s < OM_MAX_SEATS; s++)
		{
			if (entry->seats[s].state == OM_SEAT_AT_REST)
				entry->seats[s].state = OM_SEAT_EMPTY;
		}
		if (OidIsValid(entry->database) && before != om_setting_workers_per_database)
		{
			entry->nseats = 0; /* dealt anew when all have left */
			pg_atomic_fetch_add_u32(&entry->restart, 1);
			om_shared_wake_workers(entry);
		}
	}
	LWLockRelease(om_shared->lock);
}

static void
sit_down(void)
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	om_shared->rescan = true;
	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		for (int s = 0; s < OM_MAX_SEATS; s++)
		{
			OmSeat *seat = &om_shared->databases[e].seats[s];

			/* Left over from a launcher that died. */
			if (seat->state == OM_SEAT_STARTING ||
				(seat->state == OM_SEAT_TAKEN && BackendPidGetProc(seat->pid) == NULL))
				seat->state = OM_SEAT_EMPTY;
		}
	}
	pg_atomic_write_u32(&om_shared->launcher_procno, om_my_proc_number());
	LWLockRelease(om_shared->lock);
}

static void
stand_up(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	pg_atomic_write_u32(&om_shared->launcher_procno, OM_NO_PROC);
}

void
om_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	sit_down();
	before_shmem_exit(stand_up, (Datum) 0);
	OM_FAULT_POINT("launcher/ready");

	for (;;)
	{
		TimestampTz next;
		long timeout = -1;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload();
		}
		if (om_shared->rescan)
			update_databases();
		next = fill_seats();
		if (next != 0)
			timeout = Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), 1);
		OM_FAULT_POINT("launcher/before-sleep");
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
	}
}
