/*
 * utility_hook.c
 *		The ProcessUtility hook.
 *
 * DROP DATABASE, CREATE DATABASE … TEMPLATE, RENAME and SET TABLESPACE need a
 * database to themselves, and nobody ends background workers for them.  While
 * such a command runs, its database is "quiesced": the workers are ended, none
 * is started, and after the end of the transaction, whatever became of the
 * command, they come back.  Clients, too, are in the way of such a command;
 * while any is there no worker is ended, and after a few seconds the command is
 * refused, so that a shop stays open that is not going to be dropped anyway.
 *
 * DROP EXTENSION without CASCADE would lock every data table, only to find
 * that constraints depend on it; it is refused before it locks anything.  With
 * CASCADE, and in ALTER EXTENSION UPDATE, it waits for the transactions that
 * use what it locks, and everybody else waits behind it: not for ever.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "errors.h"
#include "faults.h"
#include "handlerseats.h"
#include "installation.h"
#include "jobseats.h"
#include "schema.h"
#include "shared.h"
#include "utility_hook.h"
#include "wakeup.h"

/* So long for clients, and then for workers.  PostgreSQL itself waits for 5 s; a refusal is to come sooner. */
#define QUIESCE_TIMEOUT_MS 3000
#define QUIESCE_CHECK_MS 5

/* How long a worker may take over its batch before it is terminated. */
#define POLITE_MS 500

/* What changes the extension waits so long for a lock, unless the session says otherwise. */
#define EXTENSION_LOCK_TIMEOUT "3s"

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
	return name == NULL ? InvalidOid : get_database_oid(name, true /* missing_ok */);
}

/* The command will check for itself; where it will be refused it must not stop workers either. */
static bool
may_quiesce(Oid database)
{
	return !XactReadOnly && (superuser() || om_owns_database(database));
}

/* How many workers there still are; those that were asked to leave in vain are made to. */
static int
count_workers(OmDatabase *entry, bool terminate)
{
	int running = 0;

	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < OM_MAX_SEATS; i++)
	{
		OmSeat *seat = &entry->seats[i].base;

		/* Who is on his way leaves when he arrives, before he connects. */
		if (terminate || seat->state == OM_SEAT_STARTING)
			running += om_seat_end(seat);
		else
			running += seat->state == OM_SEAT_TAKEN;
	}
	running += om_handlerseat_end_all_locked(entry->database);
	running += om_jobseat_end_locked(entry);
	LWLockRelease(om_shared->lock);
	return running;
}

/* Sessions of clients, other than our own; autovacuum gives way by itself. */
static int
count_clients(Oid database)
{
	int count = 0;

	for (int i = 0; i < MaxBackends; i++)
	{
		const PGPROC *proc = om_live_process(i);

		count += proc != NULL && proc != MyProc && proc->databaseId == database &&
				 om_is_no_background_worker(proc) && (proc->statusFlags & PROC_IS_AUTOVACUUM) == 0;
	}
	return count;
}

static void
refuse_in_use(Oid database, int nsessions)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_IN_USE),
		 errmsg("database \"%s\" is being accessed by other users", get_database_name(database)),
		 errdetail_plural("There is %d other session using the database.",
						  "There are %d other sessions using the database.", nsessions, nsessions),
		 errhint("End the sessions, or use DROP DATABASE ... WITH (FORCE).")));
}

static void
nap(void)
{
	CHECK_FOR_INTERRUPTS();
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, QUIESCE_CHECK_MS,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

static TimestampTz
patience(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), QUIESCE_TIMEOUT_MS);
}

/* Nobody can connect any more: the command's own lock has been taken. */
static void
wait_for_clients(Oid database)
{
	TimestampTz deadline = patience();
	int nclients;

	while ((nclients = count_clients(database)) > 0)
	{
		if (GetCurrentTimestamp() >= deadline)
			refuse_in_use(database, nclients);
		nap();
	}
}

/* Returns how many have not left. */
static int
wait_for_workers(OmDatabase *entry)
{
	TimestampTz deadline = patience();
	TimestampTz polite = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), POLITE_MS);
	int nworkers;

	while ((nworkers = count_workers(entry, GetCurrentTimestamp() >= polite)) > 0 &&
		   GetCurrentTimestamp() < deadline)
		nap();
	return nworkers;
}

static void
change_quiesced(OmDatabase *entry, int change)
{
	LWLockAcquire(om_shared->lock, LW_EXCLUSIVE);
	entry->quiesced += change;
	om_shared->rescan = true;
	for (int i = 0; i < OM_MAX_SEATS; i++)
		entry->seats[i].base.due = 0;
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

/* Workers leave after their batch and do not come back; returns how many have not left. */
static int
quiesce(OmDatabase *entry)
{
	if (nquiesced == MAX_QUIESCED)
		return 0;
	change_quiesced(entry, 1);
	quiesced[nquiesced++] = entry;
	pg_atomic_fetch_add_u32(&entry->restart, 1);
	om_shared_wake_workers(entry);
	return wait_for_workers(entry);
}

void
om_quiesce_here(void)
{
	OmDatabase *entry = om_shared_database(MyDatabaseId, true /* create */);

	if (entry != NULL)
		(void) quiesce(entry);
}

static bool
drops_by_force(Node *command)
{
	ListCell *cell;

	if (!IsA(command, DropdbStmt))
		return false;
	foreach(cell, ((DropdbStmt *) command)->options)
	{
		if (strcmp(((DefElem *) lfirst(cell))->defname, "force") == 0)
			return true;
	}
	return false;
}

/*
 * Sees to it that nobody is in a database, or refuses; workers are ended last.
 * Whether any has been started there is asked behind the lock: later ones, should
 * the launcher only now come to know of the database, wait for it outside.
 */
static void
make_way(Node *command, Oid database, bool is_top_level)
{
	OmDatabase *entry;
	int nworkers;

	if (!IsA(command, RenameStmt))
		PreventInTransactionBlock(is_top_level, CreateCommandName(command));
	OM_FAULT_POINT("utility_hook/before-lock");
	/* The lock that the command is going to take: it keeps newcomers out. */
	LockSharedObject(DatabaseRelationId, database, 0,
					 IsA(command, CreatedbStmt) ? ShareLock : AccessExclusiveLock);
	entry = om_shared_database(database, false /* create */);
	if (entry == NULL)
		return;
	if (!drops_by_force(command))
		wait_for_clients(database);
	nworkers = quiesce(entry);
	if (nworkers > 0)
		refuse_in_use(database, nworkers);
}

/* DROP EXTENSION, or of the schema of that name, which takes the extension with it. */
static bool
drops_extension(Node *command, DropBehavior behavior)
{
	DropStmt *drop = (DropStmt *) command;
	ListCell *cell;

	if (!IsA(command, DropStmt) || drop->behavior != behavior ||
		(drop->removeType != OBJECT_EXTENSION && drop->removeType != OBJECT_SCHEMA))
		return false;
	foreach(cell, drop->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "order_mgmt") == 0)
			return true;
	}
	return false;
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
		for (int job = 0; job < OM_JOB_COUNT; job++)
			om_jobseat_changed(MyDatabaseId, job);
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
	if (((DropStmt *) command)->removeType == OBJECT_SCHEMA)
		ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
						errmsg("cannot drop schema order_mgmt because data tables are in it"),
						errhint("Use DROP SCHEMA ... CASCADE to drop all code and all data.")));
	ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					errmsg("cannot drop extension order_mgmt because its data tables still exist"),
					errhint("Use DROP EXTENSION ... CASCADE to drop the code and keep the data, or "
							"order_mgmt.teardown() to drop the data first.")));
}

static bool
changes_extension(Node *command)
{
	if (IsA(command, AlterExtensionStmt))
		return strcmp(((AlterExtensionStmt *) command)->extname, "order_mgmt") == 0;
	return drops_extension(command, DROP_CASCADE);
}

/* Until the returned level of settings is closed, by us or by an error. */
static int
limit_lock_waits(void)
{
	int nest_level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", EXTENSION_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

/*
 * DROP EXTENSION … CASCADE, or DROP SCHEMA, locks tables in the order in which it meets what
 * depends on it.  Taken beforehand, in the order of a capture, they deadlock
 * with no capture.
 */
static void
clear_the_tables(void)
{
	om_quiesce_here();
	om_schema_lock();
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
	int nest_level = 0;

	refuse_drop(command);
	if (OidIsValid(database) && may_quiesce(database))
		make_way(command, database, context == PROCESS_UTILITY_TOPLEVEL);
	if (LockTimeout == 0 && changes_extension(command))
		nest_level = limit_lock_waits();
	if (drops_extension(command, DROP_CASCADE) && om_installation_exists() &&
		may_quiesce(MyDatabaseId))
		clear_the_tables();
	run_command(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	if (nest_level > 0)
		AtEOXact_GUC(true, nest_level);
	announce(&news);
}

void
om_utility_hook_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(end_quiescence, NULL);
}
