/*
 * utility_hook.c
 *		The ProcessUtility hook.
 *
 * DROP DATABASE, CREATE DATABASE … TEMPLATE, RENAME and SET TABLESPACE need a
 * database to themselves, and nobody ends background workers for them.  While
 * such a command runs, its database is "quiesced": the workers are ended, none
 * is started, and after the end of the transaction, whatever became of the
 * command, they come back.
 *
 * So it is for DROP EXTENSION … CASCADE: the workers of subscriptions hold locks
 * while a handler runs.
 *
 * DROP EXTENSION without CASCADE would lock every data table, only to find
 * that constraints depend on it; it is refused before it locks anything.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "handlerseats.h"
#include "installation.h"
#include "shared.h"
#include "utility_hook.h"
#include "wakeup.h"

#define QUIESCE_TIMEOUT_MS 10000
#define QUIESCE_CHECK_MS 5

/* More than one only where a transaction renames several databases. */
#define MAX_QUIESCED 8

static ProcessUtility_hook_type previous_hook = NULL;

/* The databases that this transaction keeps quiesced. */
static OmDatabase *quiesced[MAX_QUIESCED];
static int nquiesced = 0;

static const char *
string_option(List *options, const char *name, const char *fallback)
{
	ListCell *cell;

	foreach(cell, options)
	{
		DefElem *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return fallback;
}

static bool
drops_extension(Node *command, DropBehavior behavior)
{
	DropStmt *drop = (DropStmt *) command;
	ListCell *cell;

	if (!IsA(command, DropStmt) || drop->removeType != OBJECT_EXTENSION ||
		drop->behavior != behavior)
		return false;
	foreach(cell, drop->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "order_mgmt") == 0)
			return true;
	}
	return false;
}

/* The database that a command needs for itself; InvalidOid for other commands. */
static Oid
exclusive_database(Node *command)
{
	const char *name = NULL;

	if (IsA(command, DropdbStmt))
		name = ((DropdbStmt *) command)->dbname;
	else if (IsA(command, CreatedbStmt))
		name = string_option(((CreatedbStmt *) command)->options, "template", "template1");
	else if (IsA(command, RenameStmt) && ((RenameStmt *) command)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) command)->subname;
	else if (IsA(command, AlterDatabaseStmt) &&
			 string_option(((AlterDatabaseStmt *) command)->options, "tablespace", NULL) != NULL)
		name = ((AlterDatabaseStmt *) command)->dbname;
	else if (drops_extension(command, DROP_CASCADE))
		return MyDatabaseId; /* a handler may hold locks as long as it likes */
	return name == NULL ? InvalidOid : get_database_oid(name, true /* missing_ok */);
}

/* The command will check for itself; who may not run it must not stop workers either. */
static bool
may_quiesce(Oid database)
{
	return superuser() || om_owns_database(database);
}

static int
signal_workers(OmDatabase *entry)
{
	int running = 0;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		OmSeat *seat = &entry->seats[i];

		if (seat->state == OM_SEAT_TAKEN && seat->pid != 0)
			kill(seat->pid, SIGTERM);
		running += seat->state == OM_SEAT_TAKEN || seat->state == OM_SEAT_STARTING;
	}
	running += om_handlerseat_end_all_locked(entry->database);
	LWLockRelease(om_shared->lock);
	return running;
}

static void
wait_for_workers(OmDatabase *entry)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), QUIESCE_TIMEOUT_MS);

	while (signal_workers(entry) > 0 && GetCurrentTimestamp() < deadline)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, QUIESCE_CHECK_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

static void
change_quiesced(OmDatabase *entry, int change)
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	entry->quiesced += change;
	om_shared->rescan = true;
	for (int i = 0; i < OM_MAX_SEATS; i++)
		entry->seats[i].not_before = 0;
	LWLockRelease(om_shared->lock);
	om_shared_wake_launcher();
}

/* Whether or not the command has succeeded, only now can others see what became of it. */
static void
end_quiescence(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	while (nquiesced > 0)
		change_quiesced(quiesced[--nquiesced], -1);
}

static void
quiesce(OmDatabase *entry)
{
	if (nquiesced == MAX_QUIESCED)
		return;
	change_quiesced(entry, 1);
	quiesced[nquiesced++] = entry;
	wait_for_workers(entry);
}

/* What is to be told once a command has been run, and by then its parse tree may be gone. */
typedef struct Announcement
{
	bool commit_prepared;
	char *database; /* made or changed */
	bool extension; /* made or dropped here */
} Announcement;

static Announcement
read_announcement(Node *command)
{
	Announcement news = {0};

	if (IsA(command, AlterDatabaseSetStmt))
		news.database = pstrdup(((AlterDatabaseSetStmt *) command)->dbname);
	else if (IsA(command, AlterDatabaseStmt))
		news.database = pstrdup(((AlterDatabaseStmt *) command)->dbname);
	else if (IsA(command, CreatedbStmt))
		news.database = pstrdup(((CreatedbStmt *) command)->dbname);
	else if (IsA(command, CreateExtensionStmt))
		news.extension = strcmp(((CreateExtensionStmt *) command)->extname, "order_mgmt") == 0;
	else if (IsA(command, TransactionStmt))
		news.commit_prepared = ((TransactionStmt *) command)->kind == TRANS_STMT_COMMIT_PREPARED;
	else
		news.extension = drops_extension(command, DROP_CASCADE);
	return news;
}

static void
announce(const Announcement *news)
{
	if (news->commit_prepared)
	{
		om_wakeup_now();
		om_handlerseat_changed(MyDatabaseId);
	}
	if (news->extension)
		om_wakeup_knock_at_commit(MyDatabaseId);
	if (news->database != NULL)
	{
		Oid database = get_database_oid(news->database, true /* missing_ok */);

		if (OidIsValid(database))
			om_wakeup_knock_at_commit(database);
	}
}

static void
refuse_drop(Node *command)
{
	if (!drops_extension(command, DROP_RESTRICT) || !om_installation_exists())
		return;
	ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot drop extension order_mgmt because its data tables still exist"),
					errhint("Use DROP EXTENSION ... CASCADE to drop the code and keep the data, or "
							"order_mgmt.teardown() to drop the data first.")));
}

static void
run_command(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	(previous_hook != NULL ? previous_hook : standard_ProcessUtility)(
		pstmt, query, read_only_tree, context, params, environment, dest, completion);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *dest, QueryCompletion *completion)
{
	Node *command = pstmt->utilityStmt;
	Oid database = om_shared == NULL ? InvalidOid : exclusive_database(command);
	Announcement news = read_announcement(command);
	OmDatabase *entry = NULL;

	refuse_drop(command);
	if (OidIsValid(database) && may_quiesce(database))
		entry = om_shared_database(database, false /* create */);
	if (entry != NULL)
		quiesce(entry);
	run_command(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	announce(&news);
}

void
om_utility_hook_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(end_quiescence, NULL);
}
