/*
 * maintenance.c
 *		What is done with the months of managed tables.
 *
 * A run is a list of steps; each does one thing for one table or one month, and
 * what it does is in maintenance_log.  A step that fails is undone and logged,
 * and the others go on.  A worker makes each step a transaction of its own
 * (maintworker.c).  run_maintenance() has one transaction for all: there each
 * step is a subtransaction, and one month is moved at the end, because a month
 * that has been moved leaves its table locked until the commit; and none where
 * tables have just taken turns, which are locked as well.  archive_due() moves
 * months only, and commits after each.
 *
 * One run at a time: OM_LOCK_MAINTENANCE, taken without waiting.  Each step
 * decides by what it finds itself, not by what the list was made from.  To look
 * at a table locks it; such locks are let go at once, so that a transaction that
 * has run maintenance is in nobody's way unless it has changed something.
 *
 * No wait for a lock takes longer than the policy says, or 100 ms.  Who gives up
 * for that says so in the log, and the next run tries again.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "archivesweep.h"
#include "attempt.h"
#include "clock.h"
#include "errors.h"
#include "faults.h"
#include "locks.h"
#include "lockwaits.h"
#include "maintenance.h"
#include "maintlog.h"
#include "monthtables.h"
#include "moving.h"
#include "names.h"
#include "plans.h"
#include "policies.h"
#include "relations.h"
#include "tablenames.h"
#include "tiers.h"
#include "upkeep.h"

/* How often a step that is no move is tried when a table is locked. */
#define STEP_TRIES 5
#define STEP_PAUSE_MS 50

/* Of months of a table that cannot be moved so many are enough for one call of run_maintenance(). */
#define FAILURES_AT_MOST 3

typedef enum StepKind
{
	STEP_SWEEP,
	STEP_PREMAKE,
	STEP_LOOK_AT_USE,
	STEP_MOVE,
	STEP_SAY_LOCKED,
	STEP_TIDY
} StepKind;

struct OmMaintStep
{
	StepKind kind;
	const OmPolicy *policy; /* not of STEP_TIDY */
	Oid parent;             /* of STEP_MOVE, and the next three */
	TimestampTz month;
	OmMove move;
	const char *object; /* what it is about, for the log */
};

static OmMaintStep *
new_step(StepKind kind, const OmPolicy *policy)
{
	OmMaintStep *step = palloc0(sizeof(OmMaintStep));

	step->kind = kind;
	step->policy = policy;
	if (policy != NULL)
		step->object = quote_qualified_identifier(policy->schema, policy->name);
	return step;
}

static const char *
action_of(const OmMaintStep *step)
{
	static const char *const names[] = {"remove file", "make partition", "look at use",
										NULL,          "look at months", "tidy"};

	return step->kind == STEP_MOVE ? om_move_names[step->move] : names[step->kind];
}

static void
note(List **actions, const char *action, const char *object)
{
	OmUpkeepAction *entry = palloc(sizeof(OmUpkeepAction));

	entry->action = action;
	entry->object = pstrdup(object);
	*actions = lappend(*actions, entry);
}

/* ---------- premake, use, tidying up ---------- */

/* OM001, OM005: the table is none that can be looked after (any more). */
static List *
tables_of(const OmPolicy *policy)
{
	Oid relid = om_tiers_relation(policy);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OM_STATE),
				 errmsg("table %s does not belong to role \"%s\" any more",
						quote_qualified_identifier(policy->schema, policy->name), policy->owner),
				 errhint("Its owner can call manage_table() again.")));
	return om_monthtables_of(relid, policy->time_column);
}

static bool
name_exists(const OmPolicy *policy)
{
	Oid schema = get_namespace_oid(policy->schema, true /* missing_ok */);

	return OidIsValid(schema) && OidIsValid(get_relname_relid(policy->name, schema));
}

/* Of a table that has been dropped; one that has another name now is waited for. */
static bool
forget_dropped(const OmPolicy *policy, List **actions)
{
	const char *name = quote_qualified_identifier(policy->schema, policy->name);
	OmMaintEntry entry = om_maintlog_entry("forget table", name);

	if (name_exists(policy))
		return false;
	if (om_tablenames_now(policy->schema, policy->name) != NULL)
		return true;
	(void) om_policy_remove(policy->schema, policy->name);
	entry.error = "there is no table of this name any more";
	om_maintlog_add(&entry);
	note(actions, entry.action, name);
	return true;
}

static void
premake(const OmPolicy *policy, List **actions)
{
	ListCell *cell;

	if (forget_dropped(policy, actions))
		return;
	foreach(cell, tables_of(policy))
	{
		ListCell *name;

		foreach(name,
				om_monthtables_premake(lfirst(cell), om_clock_now(), om_policy_premake(policy)))
		{
			OmMaintEntry entry = om_maintlog_entry("make partition", lfirst(name));

			om_maintlog_add(&entry);
			note(actions, "make partition", lfirst(name));
		}
	}
}

/* Leaves no locks behind. */
static void
look(void (*work)(void *arg), void *arg)
{
	ErrorData *error = om_attempt(work, arg, false /* keep */);

	if (error != NULL)
		ReThrowError(error);
}

typedef struct TablesLook
{
	const OmPolicy *policy;
	List *tables;
} TablesLook;

static void
look_for_tables(void *arg)
{
	TablesLook *found = arg;

	found->tables = tables_of(found->policy);
}

static void
look_at_use(const OmPolicy *policy)
{
	TablesLook found = {policy, NIL};
	ListCell *cell;

	if (om_policy_find(policy->schema, policy->name) == NULL || !name_exists(policy))
		return; /* forgotten just now, or it has another name */
	look(look_for_tables, &found);
	foreach(cell, found.tables)
		om_tiers_look_at_use(lfirst(cell), om_clock_now());
}

/* Files that no row of archives names: of a move that was ended half-way, of months deleted. */
static void
sweep(List **actions)
{
	ListCell *cell;

	foreach(cell, om_archive_sweep())
	{
		OmMaintEntry entry = om_maintlog_entry("remove file", lfirst(cell));

		om_maintlog_add(&entry);
		note(actions, "remove file", lfirst(cell));
	}
}

/* Whoever has renamed a table is told what stays behind; once, as all that does not change. */
static void
note_lost_names(void)
{
	ListCell *cell;

	foreach(cell, om_tablenames_lost())
	{
		const OmLostName *lost = lfirst(cell);
		OmMaintEntry entry = om_maintlog_entry("find table", lost->name);

		entry.error = lost->reason;
		om_maintlog_add_news(&entry);
	}
}

static void
tidy(void)
{
	om_tablenames_note_managed();
	note_lost_names();
	om_tiers_forget_gone();
	(void) om_maintlog_purge();
}

/* ---------- moves ---------- */

/* The month of a step as it is now; NULL: nothing is due any more. */
static OmMonth *
find_due(const OmMaintStep *step, const OmPolicy *policy, TimestampTz now)
{
	ListCell *cell;

	foreach(cell, om_tiers_of(policy, now))
	{
		OmMonth *month = lfirst(cell);

		if (month->parent == step->parent && month->begin == step->month &&
			month->next == step->move && month->next_at <= now)
			return month;
	}
	return NULL;
}

static void
log_waiting(const OmMaintStep *step, const char *reason)
{
	OmMaintEntry entry = om_maintlog_entry(action_of(step), step->object);

	entry.month = step->month;
	entry.error = reason;
	om_maintlog_add_news(&entry);
}

/*
 * Before the table is looked at: who archives it by hand could not lock it for the swap
 * while we wait for them.  And what has been seen then is still so when the month is moved.
 */
static void
lock_archives(void)
{
	if (!om_lock_try(OM_LOCK_ARCHIVE))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("another session archives or restores a month"),
						errhint("The next run tries again.")));
}

typedef struct MonthLook
{
	const OmMaintStep *step;
	const OmPolicy *policy;
	OmMonth *month;
	char *reason;
} MonthLook;

static void
look_at_month(void *arg)
{
	MonthLook *found = arg;

	/* It may be gone; but one that somebody else has locked is an error, and not nothing to do. */
	LockRelationOid(found->step->parent, AccessShareLock);
	found->month = find_due(found->step, found->policy, om_clock_now());
	if (found->month != NULL)
		found->reason = om_tiers_obstacle(found->month, found->policy);
}

static void
move_month(const OmMaintStep *step, List **actions)
{
	/* It may have been changed since the list was made. */
	const OmPolicy *policy = om_policy_find(step->policy->schema, step->policy->name);
	TimestampTz begin = GetCurrentTimestamp();
	OmMaintEntry entry = om_maintlog_entry(action_of(step), step->object);
	MonthLook found = {.step = step, .policy = policy};

	lock_archives();
	if (policy != NULL)
		look(look_at_month, &found);
	if (found.month == NULL || found.reason != NULL)
	{
		om_lock_release(OM_LOCK_ARCHIVE);
		if (found.reason != NULL)
			log_waiting(step, found.reason);
		return;
	}
	OM_FAULT_POINT("maintenance/before-move");
	entry.month = step->month;
	om_moving_run(found.month, policy, &entry);
	entry.duration = GetCurrentTimestamp() - begin;
	om_maintlog_add(&entry);
	note(actions, action_of(step), step->object);
	OM_FAULT_POINT("maintenance/moved");
}

/* ---------- lists of steps ---------- */

List *
om_maintenance_quick_steps(bool may_sweep)
{
	List *steps = may_sweep ? list_make1(new_step(STEP_SWEEP, NULL)) : NIL;
	ListCell *cell;

	foreach(cell, om_policy_list())
	{
		const OmPolicy *policy = lfirst(cell);

		if (policy->owner != NULL)
			steps = lappend(steps, new_step(STEP_PREMAKE, policy));
		steps = lappend(steps, new_step(STEP_LOOK_AT_USE, policy));
	}
	return lappend(steps, new_step(STEP_TIDY, NULL));
}

/* The three tables of orders are archived together; "orders" stands for them. */
static bool
stands_for_itself(const OmMonth *month, const OmPolicy *policy)
{
	return policy->owner != NULL || strcmp(policy->name, "orders") == 0 ||
		   month->next == OM_MOVE_WARM;
}

static char *
object_of(const OmMonth *month)
{
	return quote_qualified_identifier(month->schema, month->partition_name);
}

typedef struct Listing
{
	const OmPolicy *policy;
	List *steps;
} Listing;

static void
list_moves(void *arg)
{
	Listing *listing = arg;
	TimestampTz now = om_clock_now();
	ListCell *cell;

	foreach(cell, om_tiers_of(listing->policy, now))
	{
		const OmMonth *month = lfirst(cell);
		OmMaintStep *step;

		if (month->next_at > now || !stands_for_itself(month, listing->policy))
			continue;
		step = new_step(STEP_MOVE, listing->policy);
		step->parent = month->parent;
		step->month = month->begin;
		step->move = month->next;
		step->object = object_of(month);
		listing->steps = lappend(listing->steps, step);
	}
}

/* Somebody has locked the table, or one of its months, for long. */
static void
say_locked(const char *table)
{
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("table %s or one of its months is being used", table),
					errhint("pg_locks shows who has locked it; the next run tries again.")));
}

/*
 * Of a table that is locked, a step that says so comes in place of its months: who made the step
 * try again, once the lock has gone, would find nothing to do and say nothing.
 */
List *
om_maintenance_moves(void)
{
	List *steps = NIL;
	ListCell *cell;

	foreach(cell, om_policy_list())
	{
		Listing listing = {lfirst(cell), NIL};

		if (!om_lockwait_run(list_moves, &listing, OM_LOCKWAIT_MS, false /* keep */))
			listing.steps = list_make1(new_step(STEP_SAY_LOCKED, listing.policy));
		steps = list_concat(steps, listing.steps);
	}
	return steps;
}

static OmQuery wanted_query = {
	.sql =
		"SELECT 1 WHERE EXISTS (SELECT FROM order_mgmt.partition_policies WHERE owner IS NOT NULL"
		" OR warm_after IS NOT NULL OR cold_after IS NOT NULL OR drop_after IS NOT NULL)"
		" OR EXISTS (SELECT FROM order_mgmt.archives)"};

bool
om_maintenance_is_wanted(void)
{
	OmQueryScope scope;
	bool wanted;

	if (!OidIsValid(om_relation_find("partition_policies")) ||
		!OidIsValid(om_relation_find("archives")))
		return false;
	om_query_begin(&scope);
	wanted = om_query_run(&wanted_query, NULL, NULL) > 0;
	om_query_end(&scope);
	return wanted;
}

/* ---------- doing them ---------- */

void
om_maintenance_do(const OmMaintStep *step, List **actions)
{
	int level = NewGUCNestLevel();

	om_lockwait_limit(step->policy == NULL ? OM_LOCKWAIT_MS : step->policy->lock_timeout);
	switch (step->kind)
	{
		case STEP_SWEEP:
			sweep(actions);
			break;
		case STEP_PREMAKE:
			premake(step->policy, actions);
			break;
		case STEP_LOOK_AT_USE:
			look_at_use(step->policy);
			break;
		case STEP_MOVE:
			move_month(step, actions);
			break;
		case STEP_SAY_LOCKED:
			say_locked(step->object);
			break;
		case STEP_TIDY:
			tidy();
			break;
	}
	AtEOXact_GUC(true, level);
}

/* A swap has tried often enough itself, and what is said is not tried. */
bool
om_maintenance_tries_again(const OmMaintStep *step, const ErrorData *error, int tries)
{
	if (step->kind == STEP_MOVE || step->kind == STEP_SAY_LOCKED ||
		error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE || tries >= STEP_TRIES)
		return false;
	om_lockwait_pause(STEP_PAUSE_MS * tries);
	return true;
}

bool
om_maintenance_failed(const OmMaintStep *step, const ErrorData *error)
{
	OmMaintEntry entry = om_maintlog_entry(action_of(step), step->object);

	/* That a table cannot be looked after is said once, by the first step about it. */
	if (step->kind == STEP_LOOK_AT_USE && step->policy->owner != NULL)
		return false;
	if (step->kind == STEP_MOVE)
		entry.month = step->month;
	entry.sqlstate = error->sqlerrcode;
	entry.error = error->message;
	if (entry.relation == NULL)
		entry.relation = OM_SCHEMA;
	om_maintlog_add_news(&entry);
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* ---------- all in one transaction ---------- */

/* What ends the session or the statement is no failure of a step. */
static bool
is_about_us(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_ADMIN_SHUTDOWN ||
		   sqlstate == ERRCODE_CRASH_SHUTDOWN;
}

typedef struct Trial
{
	const OmMaintStep *step;
	List *actions;
} Trial;

/* What has only been looked at stays locked no longer. */
static bool
do_step(void *arg)
{
	Trial *trial = arg;

	om_maintenance_do(trial->step, &trial->actions);
	return trial->step->kind != STEP_PREMAKE || trial->actions != NIL;
}

/* What a step raises is returned. */
static ErrorData *
attempt(const OmMaintStep *step, List **actions)
{
	Trial trial = {.step = step};
	ErrorData *error = om_attempt_any(do_step, &trial);

	if (error == NULL)
		*actions = list_concat(*actions, trial.actions);
	else if (is_about_us(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* False: it has failed. */
static bool
attempt_and_log(const OmMaintStep *step, List **actions)
{
	ErrorData *error;
	int tries = 0;

	do
		error = attempt(step, actions);
	while (error != NULL && om_maintenance_tries_again(step, error, ++tries));
	if (error == NULL)
		return true;
	(void) om_maintenance_failed(step, error);
	note(actions, error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? "give up" : "fail",
		 psprintf("%s %s: %s", action_of(step), step->object == NULL ? "" : step->object,
				  error->message));
	return false;
}

/* What goes wrong with one table is to leave the others their turn. */
static bool
has_failed_often(List *failed, const OmPolicy *policy)
{
	int failures = 0;
	ListCell *cell;

	foreach(cell, failed)
		failures += ((const OmMaintStep *) lfirst(cell))->policy == policy;
	return failures >= FAILURES_AT_MOST;
}

/* At most one month; what waits for something is passed by. */
static void
move_one(List **actions, bool may_move)
{
	int before = list_length(*actions);
	List *failed = NIL;
	int waiting = 0;
	ListCell *cell;

	foreach(cell, om_maintenance_moves())
	{
		OmMaintStep *step = lfirst(cell);

		if (has_failed_often(failed, step->policy))
			continue; /* so would it the next time */
		if (!may_move || list_length(*actions) > before + list_length(failed))
			waiting++;
		else if (!attempt_and_log(step, actions))
			failed = lappend(failed, step);
	}
	if (waiting > 0)
		note(actions, "more to do",
			 psprintf("months that wait for a run of their own: %d", waiting));
}

List *
om_maintenance_run(void)
{
	/* What it has written may be undone, and then the files are named again. */
	bool has_written = TransactionIdIsValid(GetTopTransactionIdIfAny());
	List *actions = om_upkeep_run();
	/* It may have locked what captures need, for which no month is to be copied meanwhile. */
	bool may_move = actions == NIL;
	ListCell *cell;

	/* Data of an earlier version have no policies until setup() is run. */
	if (!OidIsValid(om_relation_find("partition_policies")))
		return actions;
	if (!om_lock_try(OM_LOCK_MAINTENANCE))
	{
		note(&actions, "busy", "maintenance is under way in another session");
		return actions;
	}
	foreach(cell, om_maintenance_quick_steps(!has_written))
		(void) attempt_and_log(lfirst(cell), &actions);
	move_one(&actions, may_move);
	return actions;
}

/* ---------- a transaction per month ---------- */

int64
om_maintenance_move_due(int64 at_most, TimestampTz deadline, void (*commit)(void))
{
	List *moves;
	ListCell *cell;
	int64 moved = 0;

	if (!OidIsValid(om_relation_find("partition_policies")) || !om_lock_try(OM_LOCK_MAINTENANCE))
		return 0;
	moves = om_maintenance_moves();
	commit();
	foreach(cell, moves)
	{
		List *actions = NIL;

		/* The commit has let the lock go, and somebody else may be at it now. */
		if (moved >= at_most || GetCurrentTimestamp() >= deadline ||
			!om_lock_try(OM_LOCK_MAINTENANCE))
			break;
		if (attempt_and_log(lfirst(cell), &actions))
			moved += list_length(actions);
		commit();
	}
	return moved;
}
