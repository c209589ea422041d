/*
 * upkeep.h
 *		What must be done from time to time: months ahead, tables that take turns.
 */
#ifndef OM_UPKEEP_H
#define OM_UPKEEP_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct OmUpkeepAction
{
	const char *action;
	char *object;
} OmUpkeepAction;

/* Does what is due, and returns a list of OmUpkeepAction; waits for nobody. */
extern List *om_upkeep_run(void);

/* Of that, only the idempotency keys: how many tables of keys it has emptied. */
extern int64 om_upkeep_purge_keys(void);

#endif /* OM_UPKEEP_H */
