/*
 * seats.c
 *		The places of background workers in shared memory.
 *
 * A seat outlives the workers that sit there one after the other, so what is
 * known of those that failed outlives them.  It outlives the process, too, that
 * deals the seats: should that one end, the next finds who sits where.
 *
 * Each start has a number, which the worker brings along: one that arrives when
 * another has been started for its seat, or when the seat has been cleared,
 * leaves again before it connects to any database.  So nobody ever needs to
 * wait for a worker that is on its way.
 *
 * A seat names its process by a number, never by a latch pointer: a latch set
 * for a process that is gone wakes a stranger, who by the rules of latches
 * looks, finds nothing and sleeps again.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "faults.h"
#include "seats.h"

#define RESTART_MS 500
#define RESTART_MAX_MS 30000
#define NO_SLOT_RETRY_MS 2000
#define STARTING_CHECK_MS 200

void
om_seat_clear(OmSeat *seat)
{
	seat->state = OM_SEAT_EMPTY;
	seat->start++;
	seat->restart = 0;
	seat->pid = 0;
	seat->due = 0;
	seat->failures = 0;
	pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
}

void
om_seat_init(OmSeat *seat)
{
	seat->start = 0;
	pg_atomic_init_u32(&seat->procno, OM_NO_PROC);
	om_seat_clear(seat);
}

void
om_seat_wake_procno(pg_atomic_uint32 *procno)
{
	uint32 number = pg_atomic_read_u32(procno);

	if (number != OM_NO_PROC)
		SetLatch(&GetPGProcByNumber(number)->procLatch);
}

void
om_seat_wake(OmSeat *seat)
{
	om_seat_wake_procno(&seat->procno);
}

bool
om_seat_end(OmSeat *seat)
{
	if (seat->state == OM_SEAT_TAKEN)
		kill(seat->pid, SIGTERM);
	else if (seat->state == OM_SEAT_STARTING)
		om_seat_clear(seat);
	return seat->state == OM_SEAT_TAKEN;
}

/* ---------- looking after seats ---------- */

bool
om_seat_has_slot(BackgroundWorkerHandle *handle)
{
	pid_t pid;

	return handle != NULL && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED;
}

bool
om_seat_check_starting(OmSeat *seat, BackgroundWorkerHandle *handle)
{
	if (seat->state != OM_SEAT_STARTING || om_seat_has_slot(handle))
		return false;
	seat->state = OM_SEAT_EMPTY;
	return true;
}

void
om_seat_deal(OmSeat *seat, uint32 restart)
{
	seat->restart = restart;
	seat->start++;
	seat->state = OM_SEAT_STARTING;
}

bool
om_seat_start(OmSeat *seat, const OmSeatKind *kind, const char *name, Datum arg,
			  BackgroundWorkerHandle **handle)
{
	BackgroundWorker bgw = {.bgw_flags =
								BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							.bgw_start_time = BgWorkerStart_RecoveryFinished,
							.bgw_restart_time = BGW_NEVER_RESTART,
							.bgw_main_arg = arg,
							.bgw_notify_pid = MyProcPid};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext); /* the handle's */

	strlcpy(bgw.bgw_library_name, "order_mgmt", BGW_MAXLEN);
	strlcpy(bgw.bgw_function_name, kind->function, BGW_MAXLEN);
	strlcpy(bgw.bgw_type, kind->type, BGW_MAXLEN);
	strlcpy(bgw.bgw_name, name, BGW_MAXLEN);
	memcpy(bgw.bgw_extra, &seat->start, sizeof(seat->start));
	if (*handle != NULL)
		pfree(*handle);
	*handle = NULL;
	if (!RegisterDynamicBackgroundWorker(&bgw, handle))
		seat->state = OM_SEAT_EMPTY;
	MemoryContextSwitchTo(caller);
	return seat->state == OM_SEAT_STARTING;
}

void
om_seat_report_slots(OmSeatKind *kind, bool exhausted)
{
	if (exhausted && !kind->slots_exhausted)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("order_mgmt found no free background worker slot for %s", kind->purpose),
				 errhint("Increase max_worker_processes; what is to be done waits until then.")));
	kind->slots_exhausted = exhausted;
}

TimestampTz
om_seat_fill(OmSeat *seat, OmSeatKind *kind, const char *name, Datum arg, uint32 restart,
			 BackgroundWorkerHandle **handle)
{
	TimestampTz now = GetCurrentTimestamp();
	bool started;

	(void) om_seat_check_starting(seat, *handle);
	if (seat->state == OM_SEAT_TAKEN)
		return 0;
	if (seat->state == OM_SEAT_STARTING)
		return TimestampTzPlusMilliseconds(now, STARTING_CHECK_MS);
	if (seat->due > now)
		return seat->due;
	om_seat_deal(seat, restart);
	OM_FAULT_POINT("seats/dealt");
	started = om_seat_start(seat, kind, name, arg, handle);
	om_seat_report_slots(kind, !started);
	if (started)
		return TimestampTzPlusMilliseconds(now, STARTING_CHECK_MS);
	seat->due = TimestampTzPlusMilliseconds(now, NO_SLOT_RETRY_MS);
	return seat->due;
}

/* ---------- the worker ---------- */

bool
om_seat_take(OmSeat *seat, bool is_welcome)
{
	uint32 start;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	if (seat->state != OM_SEAT_STARTING || seat->start != start)
		return false;
	seat->state = is_welcome ? OM_SEAT_TAKEN : OM_SEAT_EMPTY;
	seat->pid = is_welcome ? MyProcPid : 0;
	pg_atomic_write_u32(&seat->procno, is_welcome ? (uint32) om_my_proc_number() : OM_NO_PROC);
	return is_welcome;
}

bool
om_seat_leave(OmSeat *seat, int pause_ms)
{
	if (seat->pid != MyProcPid)
		return false;
	seat->pid = 0;
	pg_atomic_write_u32(&seat->procno, OM_NO_PROC);
	if (seat->state == OM_SEAT_AT_REST)
		return true;
	seat->state = OM_SEAT_EMPTY;
	seat->failures = pause_ms == OM_SEAT_BACK_OFF ? seat->failures + 1 : 0;
	if (pause_ms == OM_SEAT_BACK_OFF)
		pause_ms = Min(RESTART_MS * seat->failures, RESTART_MAX_MS);
	seat->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);
	return true;
}
