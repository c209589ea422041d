/*
 * lockwaits.c
 *		Waits for locks that end.
 *
 * Who waits for a strong lock holds up all that come later, so maintenance waits
 * a moment, lets everything go, and tries again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "lockwaits.h"

/* This is also the time after which a vacuum that stands in the way is asked to leave. */
#define DEADLOCK_MS 50

static bool
is_about_locks(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED;
}

static void
set_timeout(const char *name, int64 ms)
{
	(void) set_config_option(name, psprintf(INT64_FORMAT, Max(ms, 1)), PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

void
om_lockwait_limit(int ms)
{
	if (LockTimeout == 0 || LockTimeout > ms)
		set_timeout("lock_timeout", ms);
}

void
om_lockwait_pause(int ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

typedef struct Bounded
{
	void (*work)(void *arg);
	void *arg;
	int ms;
	bool keep;
} Bounded;

static bool
work_within(void *arg)
{
	const Bounded *bounded = arg;
	int level = NewGUCNestLevel();

	set_timeout("deadlock_timeout", DEADLOCK_MS);
	set_timeout("lock_timeout", bounded->ms);
	bounded->work(bounded->arg);
	AtEOXact_GUC(true, level);
	return bounded->keep;
}

bool
om_lockwait_run(void (*work)(void *arg), void *arg, int ms, bool keep)
{
	Bounded bounded = {work, arg, ms, keep};
	ErrorData *error = om_attempt_any(work_within, &bounded);

	if (error == NULL)
		return true;
	if (!is_about_locks(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* ---------- many locks ---------- */

typedef struct Wanted
{
	List *relids;
	LOCKMODE mode;
	int ms;
} Wanted;

static void
lock_all(void *arg)
{
	const Wanted *wanted = arg;
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wanted->ms);
	ListCell *cell;

	foreach(cell, wanted->relids)
	{
		set_timeout("lock_timeout",
					TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline));
		LockRelationOid(lfirst_oid(cell), wanted->mode);
	}
}

bool
om_lockwait_lock(List *relids, LOCKMODE mode, int ms)
{
	Wanted wanted = {relids, mode, ms};

	return om_lockwait_run(lock_all, &wanted, ms, true /* keep */);
}
