/*
 * chores.c
 *		What one worker of a database looks after beside its stages.
 *
 * The upkeep of the tables, and the workers that others need: those of
 * subscriptions, of loads, of maintenance and of predictions.  Each chore is a transaction of
 * its own, and an error makes it rest without holding up any other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "chores.h"
#include "handlers.h"
#include "inbox.h"
#include "loadworker.h"
#include "maintworker.h"
#include "predictworker.h"
#include "tasks.h"
#include "upkeep.h"

#define UPKEEP_AFTER_BATCHES 5000

/* Inside the transaction of the chore; returns when to do it again at the latest, 0: when wanted. */
typedef TimestampTz (*DoChore)(OmDatabase *database);

typedef struct Chore
{
	OmTask task;
	const char *name; /* in pg_stat_activity */
	bool (*is_wanted)(OmDatabase *database);
	DoChore run;
} Chore;

static OmDatabase *database;
static uint64 batches;
static uint64 batches_at_upkeep;
static bool has_kept_up = false;

static bool
upkeep_is_wanted(OmDatabase *entry pg_attribute_unused())
{
	return !has_kept_up || batches - batches_at_upkeep >= UPKEEP_AFTER_BATCHES;
}

/* Again at midnight (UTC): there is a new day then, perhaps a new month. */
static TimestampTz
keep_up(OmDatabase *entry)
{
	TimestampTz now = GetCurrentTimestamp();

	has_kept_up = true;
	batches_at_upkeep = batches;
	(void) om_upkeep_run();
	om_maintworker_ask_daily(entry);
	return now - now % USECS_PER_DAY + USECS_PER_DAY;
}

static Chore chores[] = {
	{.name = "upkeep", .is_wanted = upkeep_is_wanted, .run = keep_up},
	{.name = "subscriptions", .is_wanted = om_handlers_need_look, .run = om_handlers_look_after},
	{.name = "loads", .is_wanted = om_loadworker_needs_look, .run = om_loadworker_look_after},
	{.name = "maintenance",
	 .is_wanted = om_maintworker_needs_look,
	 .run = om_maintworker_look_after},
	{.name = "predictions",
	 .is_wanted = om_predictworker_needs_look,
	 .run = om_predictworker_look_after}};

static bool
run_chore(OmTask *task)
{
	Chore *chore = (Chore *) task;
	TimestampTz next;

	om_bgsession_begin();
	next = chore->run(database);
	om_bgsession_commit(true /* durable */);
	task->timer = next;
	return false;
}

static bool
recover_from_error(OmTask *task)
{
	HOLD_INTERRUPTS();
	EmitErrorReport();
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(TopMemoryContext);
	om_task_back_off(task);
	RESUME_INTERRUPTS();
	return false;
}

void
om_chores_do(OmDatabase *entry, uint64 batches_done)
{
	database = entry;
	batches = batches_done;
	for (int i = 0; i < (int) lengthof(chores); i++)
	{
		Chore *chore = &chores[i];

		if (chore->is_wanted(entry) || om_task_is_due(&chore->task))
			(void) om_task_attempt(&chore->task, chore->name, run_chore, recover_from_error);
	}
}

TimestampTz
om_chores_next_due(void)
{
	TimestampTz next = 0;

	for (int i = 0; i < (int) lengthof(chores); i++)
		next = om_inbox_earlier(next, om_task_next_due(&chores[i].task));
	return next;
}
