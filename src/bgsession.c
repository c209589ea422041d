/*
 * bgsession.c
 *		What all background workers do with their sessions.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "bgsession.h"
#include "installation.h"
#include "settings.h"

static const OmBgSetting ours[] = {
	{"search_path", ""},
	{"lock_timeout", "0"},
	{"session_replication_role", "origin"},
	{"row_security", "off"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO"},
	{"jit", "off"},
	/* In a deadlock with a client it is the worker that gives way. */
	{"deadlock_timeout", "50ms"},
};

static const OmBgSetting common[] = {
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"statement_timeout", "0"},
	{"transaction_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"synchronous_commit", "on"},
};

static void
set_all(const OmBgSetting *settings, int count)
{
	for (int i = 0; i < count; i++)
	{
		/* transaction_timeout came with PostgreSQL 17 */
		if (GetConfigOption(settings[i].name, true /* missing_ok */, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	}
}

void
om_bgsession_set(const OmBgSetting *further, int count)
{
	set_all(common, lengthof(common));
	set_all(further, count);
}

void
om_bgsession_set_ours(void)
{
	om_bgsession_set(ours, lengthof(ours));
}

void
om_bgsession_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
om_bgsession_commit(bool durable)
{
	if (!durable)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

bool
om_bgsession_obey_signals(void)
{
	CHECK_FOR_INTERRUPTS();
	if (!PostmasterIsAlive())
		proc_exit(1);
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

bool
om_bgsession_may_work(void)
{
	bool ready;

	om_bgsession_begin();
	ready = om_setting_workers && !RecoveryInProgress() &&
			OidIsValid(get_extension_oid("order_mgmt", true /* missing_ok */)) &&
			om_installation_exists() && om_installation_version() == OM_SCHEMA_VERSION &&
			!om_installation_is_foreign(om_installation_get()) && !om_installation_get()->moved;
	om_bgsession_commit(true /* durable */);
	return ready;
}
