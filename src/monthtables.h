/*
 * monthtables.h
 *		Tables that have a partition per month: ours, and those of users.
 */
#ifndef OM_MONTHTABLES_H
#define OM_MONTHTABLES_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "months.h"

typedef struct OmMonthLeaf
{
	Oid relid;
	TimestampTz begin;
} OmMonthLeaf;

typedef struct OmMonthTable
{
	OmMonthly table;
	OmMonthLeaf *leaves; /* by month */
	int nleaves;
} OmMonthTable;

/*
 * The tables with a partition per month that a managed one is made of: itself
 * where it is partitioned by range of the column, its partitions where it is
 * partitioned by list and they are.  OM001 where it is anything else, with the
 * path of the argument of manage_table() that is wrong.  The table and those
 * partitions are locked (ACCESS SHARE).
 */
extern List *om_monthtables_of(Oid relid, const char *time_column);

/*
 * Makes what is missing of a user's table: the month of a time and so many after
 * it, and those between the newest that there is and that month.  Names of what
 * was made, with schema.
 */
extern List *om_monthtables_premake(const OmMonthTable *table, TimestampTz now, int months_ahead);

#endif /* OM_MONTHTABLES_H */
