/*
 * tasks.h
 *		What a worker does again and again, and tries again after an error.
 */
#ifndef OM_TASKS_H
#define OM_TASKS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct OmTask
{
	TimestampTz not_before; /* rests until then, after an error; 0: does not */
	TimestampTz timer;      /* looks again then, without being woken; 0: does not */
	int retry_ms;           /* back-off after errors */
} OmTask;

/* It rests after an error; it is to be done because of a time or an error. */
extern bool om_task_rests(const OmTask *task);
extern bool om_task_is_due(const OmTask *task);

/* When it is to be done at the latest; 0: when something happens. */
extern TimestampTz om_task_next_due(const OmTask *task);

/* Rests so long; or so long as errors in a row ask for. */
extern void om_task_rest(OmTask *task, int ms);
extern void om_task_back_off(OmTask *task);

/* Nothing is known of it: neither errors nor times. */
extern void om_task_forget(OmTask *task);

/*
 * Does it, unless it rests; true when there may be more to do.  On an error,
 * recover() ends the transaction and says when it goes on.
 */
extern bool om_task_attempt(OmTask *task, const char *name, bool (*run)(OmTask *task),
							bool (*recover)(OmTask *task));

#endif /* OM_TASKS_H */
