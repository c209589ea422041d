/*
 * tasks.c
 *		What a worker does again and again, and tries again after an error.
 *
 * An error makes a task rest, and nothing else: for longer each time, until it
 * has been done once.
 */
#include "postgres.h"

#include "pgstat.h"
#include "utils/timestamp.h"

#include "inbox.h"
#include "tasks.h"

#define ERROR_RETRY_MIN_MS 100
#define ERROR_RETRY_MAX_MS 60000

bool
om_task_rests(const OmTask *task)
{
	return task->not_before != 0 && GetCurrentTimestamp() < task->not_before;
}

bool
om_task_is_due(const OmTask *task)
{
	return task->not_before != 0 || (task->timer != 0 && GetCurrentTimestamp() >= task->timer);
}

TimestampTz
om_task_next_due(const OmTask *task)
{
	return om_inbox_earlier(task->not_before, task->timer);
}

void
om_task_rest(OmTask *task, int ms)
{
	task->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

void
om_task_back_off(OmTask *task)
{
	task->retry_ms = Min(Max(task->retry_ms * 2, ERROR_RETRY_MIN_MS), ERROR_RETRY_MAX_MS);
	om_task_rest(task, task->retry_ms);
}

void
om_task_forget(OmTask *task)
{
	task->not_before = task->timer = 0;
	task->retry_ms = 0;
}

bool
om_task_attempt(OmTask *task, const char *name, bool (*run)(OmTask *task),
				bool (*recover)(OmTask *task))
{
	volatile bool more = false;

	if (om_task_rests(task))
		return false;
	task->not_before = task->timer = 0;
	pgstat_report_activity(STATE_RUNNING, name);
	PG_TRY();
	{
		more = run(task);
		task->retry_ms = 0;
	}
	PG_CATCH();
	{
		more = recover(task);
	}
	PG_END_TRY();
	return more;
}
