/*
 * months.h
 *		Monthly partitions of the data tables, bounded in UTC.
 */
#ifndef OM_MONTHS_H
#define OM_MONTHS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A table with a partition per month: one of ours, or a user's that is managed. */
typedef struct OmMonthly
{
	Oid relid;
	const char *schema;
	const char *name;
	Oid type; /* of its time column: date, timestamp or timestamptz */
} OmMonthly;

/* The partition for a time, made on the spot when it is missing. */
extern Oid om_months_leaf(const char *table, TimestampTz at);

/* Makes the current and the next months of every monthly table; names of what was made. */
extern List *om_months_premake(TimestampTz now, int months_ahead);

/*
 * The same, but nobody is waited for for long: of a table that is being used, the name of the first
 * partition that is missing goes into the list "busy".  Where nothing is missing nothing stays locked.
 */
extern List *om_months_premake_if_free(TimestampTz now, int months_ahead, List **busy);

/*
 * Makes the partition of a month that has none, with the rights of the owner.
 * The parent is locked (SHARE UPDATE EXCLUSIVE); storage is what follows the
 * list of columns.
 */
extern void om_months_create(const OmMonthly *table, const char *name, TimestampTz begin,
							 const char *storage);

/* The name of a table's partition: <table>_YYYY_MM, of a long name what fits and a hash of it. */
extern char *om_months_name(const char *table, TimestampTz month);

/* First instant (UTC) of the month of a time, and of the one after it. */
extern TimestampTz om_months_begin(TimestampTz at);
extern TimestampTz om_months_next(TimestampTz at);

#endif /* OM_MONTHS_H */
