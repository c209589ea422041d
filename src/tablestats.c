/*
 * tablestats.c
 *		ANALYZE for tables that autovacuum leaves alone.
 *
 * Autovacuum looks after partitions, not after the tables that they belong to.
 * ANALYZE of such a table takes SHARE UPDATE EXCLUSIVE to the end of the
 * transaction: captures go on, a month that moves waits for its next turn.
 */
#include "postgres.h"

#include "storage/lmgr.h"

#include "faults.h"
#include "locks.h"
#include "names.h"
#include "plans.h"
#include "relations.h"
#include "tablestats.h"

static void
analyze(const char *table)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_utility(psprintf("ANALYZE (SKIP_LOCKED) %s.%s", OM_SCHEMA, table));
	om_query_end(&scope);
	OM_FAULT_POINT("tablestats/analyzed");
}

int64
om_tablestats_refresh(void)
{
	int64 count = 0;

	if (!om_lock_try(OM_LOCK_STATISTICS))
		return 0; /* somebody else is at it */
	for (int i = 0; i < OM_MONTHLY_COUNT; i++)
	{
		if (!ConditionalLockRelationOid(om_relation_get(om_monthly_names[i]),
										ShareUpdateExclusiveLock))
			continue;
		analyze(om_monthly_names[i]);
		count++;
	}
	return count;
}
