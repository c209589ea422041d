/*
 * wakeup.c
 *		Wakes workers when, and only when, a transaction has committed.
 *
 * The callback runs after the transaction has left the list of running ones,
 * so a snapshot taken after the wake-up shows its rows.  A rollback to a
 * savepoint may leave a wake-up without an event behind: the worker looks,
 * finds nothing and sleeps.  A prepared transaction drops its request; COMMIT
 * PREPARED, which has no callback of its own, wakes from the utility hook.
 */
#include "postgres.h"

#include "access/xact.h"
#include "faults.h"
#include "miscadmin.h"

#include "handlerseats.h"
#include "jobseats.h"
#include "shared.h"
#include "wakeup.h"

static bool wake_workers = false;
static bool change_handlers = false;
static bool change_loads = false;
static bool ask_for_maintenance = false;
static bool ask_for_predictions = false;

/* Databases to knock at; who changes more in one transaction reloads the server. */
#define MAX_KNOCKS 8
static Oid knocks[MAX_KNOCKS];
static int nknocks = 0;

void
om_wakeup_at_commit(void)
{
	wake_workers = true;
}

void
om_wakeup_handlers_at_commit(void)
{
	change_handlers = true;
}

void
om_wakeup_loads_at_commit(void)
{
	change_loads = true;
}

void
om_wakeup_maintenance_at_commit(void)
{
	ask_for_maintenance = true;
}

void
om_wakeup_predictions_at_commit(void)
{
	ask_for_predictions = true;
}

bool
om_wakeup_is_pending(void)
{
	return wake_workers;
}

void
om_wakeup_knock_at_commit(Oid database)
{
	if (nknocks < MAX_KNOCKS)
		knocks[nknocks++] = database;
}

void
om_wakeup_now(void)
{
	OmDatabase *entry = om_shared_my_database();

	if (entry == NULL)
		return;
	pg_atomic_fetch_add_u64(&entry->commits, 1);
	om_shared_wake_workers(entry);
	ConditionVariableBroadcast(&entry->appended);
}

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (wake_workers)
			{
				OM_FAULT_POINT_NOFAIL("wakeup/committed");
				om_wakeup_now();
				OM_FAULT_POINT_NOFAIL("wakeup/woken");
			}
			if (change_handlers)
				om_handlerseat_changed(MyDatabaseId);
			if (change_loads)
			{
				OM_FAULT_POINT_NOFAIL("wakeup/loads-changed");
				om_jobseat_changed(MyDatabaseId, OM_JOB_LOADS);
			}
			if (ask_for_maintenance)
			{
				OM_FAULT_POINT_NOFAIL("wakeup/maintenance-asked");
				om_jobseat_ask(MyDatabaseId, OM_JOB_MAINTENANCE);
			}
			if (ask_for_predictions)
				om_jobseat_changed(MyDatabaseId, OM_JOB_PREDICTIONS);
			for (int i = 0; i < nknocks; i++)
			{
				OM_FAULT_POINT_NOFAIL("wakeup/before-knock");
				om_shared_knock(knocks[i]);
			}
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	wake_workers = change_handlers = change_loads = ask_for_maintenance = false;
	ask_for_predictions = false;
	nknocks = 0;
}

void
om_wakeup_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}
