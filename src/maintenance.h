/*
 * maintenance.h
 *		What is done with the months of managed tables, step by step.
 */
#ifndef OM_MAINTENANCE_H
#define OM_MAINTENANCE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/elog.h"

typedef struct OmMaintStep OmMaintStep;

/* All in the current transaction, as run_maintenance() does; a list of OmUpkeepAction. */
extern List *om_maintenance_run(void);

/* Whether a worker would find anything to do, now or by and by. */
extern bool om_maintenance_is_wanted(void);

/*
 * For a worker that makes each step a transaction of its own.  First the steps
 * that take no time, then, in the order in which they are to be done, those
 * that move a month.  Steps and what they point to live in the current context.
 */
extern List *om_maintenance_quick_steps(bool may_sweep);
extern List *om_maintenance_moves(void);

/* After an error: false where it is not to be tried again; else it has waited a moment. */
extern bool om_maintenance_tries_again(const OmMaintStep *step, const ErrorData *error, int tries);

/* Does a step; actions that it has done are added to the list. */
extern void om_maintenance_do(const OmMaintStep *step, List **actions);

/* Notes, in a transaction of its own, that it has failed; true when it gave up because of locks. */
extern bool om_maintenance_failed(const OmMaintStep *step, const ErrorData *error);

/*
 * Moves what is due, as many months as that (what has failed is logged, and not
 * counted) and until then; commit() is called after each, and must leave an
 * active snapshot.  Returns how many; another session that is at it ends this
 * one.
 */
extern int64 om_maintenance_move_due(int64 at_most, TimestampTz deadline, void (*commit)(void));

#endif /* OM_MAINTENANCE_H */
