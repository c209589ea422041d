/*
 * jobsession.c
 *		What the workers that load and those that move months do alike.
 */
#include "postgres.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"

#include "bgsession.h"
#include "inflight.h"
#include "jobseats.h"
#include "jobsession.h"
#include "settings.h"

/* False where another is at work still, or a client that has not committed. */
static bool
lock_out_others(OmLock lock)
{
	bool locked;

	om_bgsession_begin();
	locked = om_lock_try_for_good(lock);
	om_bgsession_commit(true /* durable */);
	return locked;
}

OmDatabase *
om_jobsession_start(OmJob job, Datum arg, OmLock lock)
{
	OmDatabase *database;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGQUIT, om_inflight_sigquit);
	BackgroundWorkerUnblockSignals();
	database = om_jobseat_take(job, arg);
	if (database == NULL)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database->database, InvalidOid, 0);
	om_bgsession_set_ours();
	if (!om_bgsession_may_work() || !lock_out_others(lock))
		proc_exit(0);
	return database;
}

void
om_jobsession_obey_signals(void)
{
	(void) om_bgsession_obey_signals();
	if (!om_setting_workers || om_jobseat_must_leave())
		proc_exit(0);
}

/* Ends the transaction that has failed; the error outlives it. */
static ErrorData *
catch_error(MemoryContext context)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	/* Whoever has cancelled it knows. */
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(context);
	RESUME_INTERRUPTS();
	return error;
}

ErrorData *
om_jobsession_attempt(void (*work)(void *arg), void *arg, MemoryContext context)
{
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		work(arg);
	}
	PG_CATCH();
	{
		error = catch_error(context);
	}
	PG_END_TRY();
	return error;
}
