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
 *
 * Workers are dealt fairly: no database gets a second one before each has its
 * first.  The stages of a database are shared out among the workers that are
 * there, again whenever one comes or goes, so each stage is always somebody's.
 * Where the slots of max_worker_processes do not suffice, a database with
 * several workers gives one to a database without any; where every one has one
 * at most, databases take turns.
 */
#include "postgres.h"

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
#include "jobseats.h"
#include "settings.h"
#include "seats.h"
#include "shared.h"
#include "worker.h"

#define MAX_STARTING 2
#define NO_SLOT_RETRY_MS 2000
#define STARTING_CHECK_MS 100

/* Where there are fewer slots than databases, a worker stays so long at least. */
#define TURN_MS 1000

static const OmSeatKind kind = {.function = "om_worker_main", .type = "order_mgmt worker"};

/* What the launcher alone needs to know of a seat, or of a database. */
static BackgroundWorkerHandle *handles[OM_MAX_DATABASES][OM_MAX_SEATS];
static TimestampTz served[OM_MAX_DATABASES]; /* when a first worker was last started */
static bool slots_exhausted = false;

/* One look at all seats. */
typedef struct Look
{
	TimestampTz now;
	TimestampTz next; /* when to look again; 0: when woken */
	int nstarting;
	bool throttled; /* more are to be started as soon as those have arrived */
	bool no_slot;
} Look;

void
om_launcher_register(void)
{
	BackgroundWorker bgw = {.bgw_name = "order_mgmt launcher",
							.bgw_type = "order_mgmt launcher",
							.bgw_flags =
								BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							.bgw_start_time = BgWorkerStart_RecoveryFinished,
							.bgw_restart_time = 1,
							.bgw_library_name = "order_mgmt",
							.bgw_function_name = "om_launcher_main"};

	/* pg_upgrade runs servers of its own; nothing may move in them. */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
		RegisterBackgroundWorker(&bgw);
}

/* How the stages are shared out among one to four workers. */
static uint32
share_of_stages(int nworkers, int worker)
{
	static const uint32 balance = OM_STAGE_BIT(OM_STAGE_BALANCE_CHECKER);
	static const uint32 stock = OM_STAGE_BIT(OM_STAGE_STOCK_CHECKER);
	static const uint32 update = OM_STAGE_BIT(OM_STAGE_ORDER_UPDATER);
	static const uint32 ship = OM_STAGE_BIT(OM_STAGE_SHIPPER);

	switch (nworkers)
	{
		case 1:
			return OM_STAGES_ALL;
		case 2:
			return worker == 0 ? balance | stock : update | ship;
		case 3:
			return worker == 0 ? balance : worker == 1 ? stock : update | ship;
		default:
			return OM_STAGE_BIT(worker);
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

	for (int s = 0; s < OM_MAX_SEATS; s++)
		occupied |= om_seat_end(&entry->seats[s].base);
	occupied |= om_handlerseat_end_all_locked(entry->database) > 0;
	occupied |= om_jobseat_end_locked(entry) > 0;
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

		entry->retired = OidIsValid(entry->database) && entry->quiesced == 0 &&
						 !list_member_oid(databases, entry->database);
		if (entry->retired)
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

/* A worker that has ended, as far as its seat says, may keep its slot for a moment. */
static bool
has_slot(int entry_index, int seat_index)
{
	return om_seat_has_slot(handles[entry_index][seat_index]);
}

static void
check_starting(int entry_index, int seat_index, TimestampTz now)
{
	OmSeat *seat = &om_shared->databases[entry_index].seats[seat_index].base;

	if (om_seat_check_starting(seat, handles[entry_index][seat_index]))
		seat->due = TimestampTzPlusMilliseconds(now, NO_SLOT_RETRY_MS);
}

static bool
start_worker(int entry_index, int seat_index)
{
	OmDatabase *entry = &om_shared->databases[entry_index];
	char name[BGW_MAXLEN];

	snprintf(name, sizeof(name), "order_mgmt worker %d of database %u", seat_index + 1,
			 entry->database);
	return om_seat_start(&entry->seats[seat_index].base, &kind, name,
						 OM_WORKER_ARG(entry_index, seat_index), &handles[entry_index][seat_index]);
}

/* The earliest of the times at which something is to be looked at again. */
static void
remember_due(Look *look, TimestampTz due)
{
	look->next = look->next == 0 ? due : Min(look->next, due);
}

static bool
is_dismissed(OmStageSeat *seat)
{
	return (pg_atomic_read_u32(&seat->stages) & OM_SEAT_DISMISSED) != 0;
}

/* A worker is there or on its way, and is to stay. */
static bool
is_occupied(OmStageSeat *seat)
{
	return seat->base.state == OM_SEAT_STARTING ||
		   (seat->base.state == OM_SEAT_TAKEN && !is_dismissed(seat));
}

static int
count_occupied(OmDatabase *entry)
{
	int count = 0;

	for (int s = 0; s < OM_MAX_SEATS; s++)
		count += is_occupied(&entry->seats[s]);
	return count;
}

/* Entries at which workers may be started. */
static bool
is_open(const OmDatabase *entry)
{
	return OidIsValid(entry->database) && entry->quiesced == 0 && !entry->retired;
}

/*
 * How many workers a database should have.  Until its first has found that there
 * is work, nobody knows whether there is; and where one rests, none is added.
 */
static int
count_wanted(OmDatabase *entry)
{
	int occupied = count_occupied(entry);
	bool works = false;
	bool rests = false;

	if (!is_open(entry))
		return 0;
	for (int s = 0; s < OM_MAX_SEATS; s++)
	{
		works |= entry->seats[s].works;
		rests |= entry->seats[s].base.state == OM_SEAT_AT_REST;
	}
	if (rests)
		return Min(occupied, om_setting_workers_per_database);
	return works ? om_setting_workers_per_database : 1;
}

/* Workers on their way; those that will never arrive no longer count. */
static int
count_starting(TimestampTz now)
{
	int count = 0;

	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		for (int s = 0; s < OM_MAX_SEATS; s++)
		{
			check_starting(e, s, now);
			count += om_shared->databases[e].seats[s].base.state == OM_SEAT_STARTING;
		}
	}
	return count;
}

static void
give_stages(OmStageSeat *seat, uint32 stages)
{
	if (pg_atomic_exchange_u32(&seat->stages, stages) != stages)
		om_seat_wake(&seat->base);
}

/* Shares the stages out among the workers that are at work. */
static void
deal_stages(OmDatabase *entry)
{
	OmStageSeat *working[OM_MAX_SEATS];
	int nworking = 0;

	for (int s = 0; s < OM_MAX_SEATS; s++)
	{
		OmStageSeat *seat = &entry->seats[s];

		if (seat->works && !is_dismissed(seat))
			working[nworking++] = seat;
	}
	for (int i = 0; i < nworking; i++)
		give_stages(working[i], share_of_stages(nworking, i));
}

/* Asks the last worker of a database to leave when it has finished its batch. */
static void
dismiss_one(OmDatabase *entry)
{
	for (int s = OM_MAX_SEATS - 1; s >= 0; s--)
	{
		if (entry->seats[s].base.state == OM_SEAT_TAKEN && !is_dismissed(&entry->seats[s]))
		{
			give_stages(&entry->seats[s], OM_SEAT_DISMISSED);
			return;
		}
	}
}

/* The seat for the next worker: always the first empty one, so that its back-off is heeded. */
static int
find_empty_seat(const OmDatabase *entry)
{
	for (int s = 0; s < OM_MAX_SEATS; s++)
	{
		if (entry->seats[s].base.state == OM_SEAT_EMPTY)
			return s;
	}
	return -1;
}

/* One more worker, if it is time for it and there is a slot. */
static void
add_worker(int entry_index, Look *look)
{
	OmDatabase *entry = &om_shared->databases[entry_index];
	int seat_index = find_empty_seat(entry);
	OmStageSeat *seat = &entry->seats[Max(seat_index, 0)];
	bool is_first = count_occupied(entry) == 0;

	if (seat_index < 0 || has_slot(entry_index, seat_index))
		return; /* we are woken when the old worker's slot is free */
	if (seat->base.due > look->now)
	{
		remember_due(look, seat->base.due);
		return;
	}
	look->throttled = look->nstarting >= MAX_STARTING;
	if (look->throttled)
		return;
	/* Who comes to others gets his share of the stages when he has arrived. */
	pg_atomic_write_u32(&seat->stages, is_first ? OM_STAGES_ALL : 0);
	om_seat_deal(&seat->base, pg_atomic_read_u32(&entry->restart));
	OM_FAULT_POINT("launcher/seat-dealt");
	look->no_slot = !start_worker(entry_index, seat_index);
	if (look->no_slot)
		return;
	OM_FAULT_POINT("launcher/worker-started");
	look->nstarting++;
	if (is_first)
		served[entry_index] = look->now;
}

/* A database that wants a worker and has none; of several, the one that was served longest ago. */
static int
find_unserved(const Look *look, const bool *seen)
{
	int found = -1;

	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		OmDatabase *entry = &om_shared->databases[e];
		int seat = find_empty_seat(entry);

		if (seen[e] || seat < 0 || entry->seats[seat].base.due > look->now ||
			count_wanted(entry) == 0 || count_occupied(entry) > 0)
			continue;
		if (found < 0 || served[e] < served[found])
			found = e;
	}
	return found;
}

/* The first round: a worker for each, and those that waited longest go first. */
static void
serve_unserved(Look *look)
{
	bool seen[OM_MAX_DATABASES] = {false};
	int e;

	while (!look->throttled && !look->no_slot && (e = find_unserved(look, seen)) >= 0)
	{
		seen[e] = true;
		add_worker(e, look);
	}
}

/* Further rounds: a second worker for each that wants one, then a third … */
static void
add_others(Look *look)
{
	for (int round = 0; round < OM_MAX_SEATS; round++)
	{
		for (int e = 0; e < OM_MAX_DATABASES && !look->throttled && !look->no_slot; e++)
		{
			OmDatabase *entry = &om_shared->databases[e];

			if (count_occupied(entry) == round && count_wanted(entry) > round)
				add_worker(e, look);
		}
	}
}

/* Workers on their way out: each leaves a slot. */
static int
count_leaving(void)
{
	int count = 0;

	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		for (int s = 0; s < OM_MAX_SEATS; s++)
			count += has_slot(e, s) && !is_occupied(&om_shared->databases[e].seats[s]);
	}
	return count;
}

/* The database with most workers; of several with one, the one that was served longest ago. */
static int
find_richest(void)
{
	int found = -1;
	int most = 0;

	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		int occupied = count_occupied(&om_shared->databases[e]);

		if (occupied > most || (occupied == most && occupied > 0 && served[e] < served[found]))
		{
			found = e;
			most = occupied;
		}
	}
	return found;
}

/* Somebody has no worker, and there is no slot for one: another has to give one up. */
static void
make_room(Look *look)
{
	static const bool none_seen[OM_MAX_DATABASES] = {false};
	int richest = find_richest();
	TimestampTz end_of_turn;

	if (richest < 0 || find_unserved(look, none_seen) < 0)
		return;
	end_of_turn = TimestampTzPlusMilliseconds(served[richest], TURN_MS);
	if (count_occupied(&om_shared->databases[richest]) > 1 || end_of_turn <= look->now)
		dismiss_one(&om_shared->databases[richest]);
	else
		remember_due(look, end_of_turn);
}

/* Once when slots run out, and once when there are enough again. */
static void
report_slots(bool exhausted)
{
	if (exhausted && !slots_exhausted)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("order_mgmt found no free background worker slot"),
					  errdetail("Databases share the workers that there are; nothing is lost."),
					  errhint("Increase max_worker_processes.")));
	if (!exhausted && slots_exhausted)
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					  errmsg("order_mgmt has all the workers that it wants again")));
	slots_exhausted = exhausted;
}

static void
handle_shortage(Look *look)
{
	int nleaving = count_leaving();

	if (look->no_slot)
		remember_due(look, TimestampTzPlusMilliseconds(look->now, NO_SLOT_RETRY_MS));
	if (look->no_slot && nleaving == 0)
	{
		report_slots(true);
		make_room(look);
	}
	else if (!look->no_slot && nleaving == 0 && look->nstarting == 0)
		report_slots(false);
}

/* Brings every database to the workers it should have; returns when to look again (0: when woken). */
static TimestampTz
fill_seats(void)
{
	Look look = {.now = GetCurrentTimestamp()};

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	look.nstarting = count_starting(look.now);
	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		OmDatabase *entry = &om_shared->databases[e];

		if (is_open(entry) && count_occupied(entry) > Max(count_wanted(entry), 1))
			dismiss_one(entry);
	}
	serve_unserved(&look);
	add_others(&look);
	for (int e = 0; e < OM_MAX_DATABASES; e++)
		deal_stages(&om_shared->databases[e]);
	handle_shortage(&look);
	LWLockRelease(om_shared->lock);
	if (look.nstarting > 0)
		remember_due(&look, TimestampTzPlusMilliseconds(look.now, STARTING_CHECK_MS));
	return look.next;
}

/* Who rests may find something to do under the new settings. */
static void
reload(void)
{
	ProcessConfigFile(PGC_SIGHUP);
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	for (int e = 0; e < OM_MAX_DATABASES; e++)
	{
		for (int s = 0; s < OM_MAX_SEATS; s++)
		{
			OmSeat *seat = &om_shared->databases[e].seats[s].base;

			if (seat->state == OM_SEAT_AT_REST)
				seat->state = OM_SEAT_EMPTY;
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
			OmSeat *seat = &om_shared->databases[e].seats[s].base;

			/* Left over from a launcher that died. */
			if (seat->state == OM_SEAT_STARTING ||
				(seat->state == OM_SEAT_TAKEN && BackendPidGetProc(seat->pid) == NULL))
				om_seat_clear(seat);
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
