/*
 * months.h
 *		Monthly partitions of the data tables, bounded in UTC.
 */
#ifndef OM_MONTHS_H
#define OM_MONTHS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* The partition for a time, made on the spot when it is missing. */
extern Oid om_months_leaf(const char *table, TimestampTz at);

/* Makes the current and the next months of every monthly table; names of what was made. */
extern List *om_months_premake(TimestampTz now, int months_ahead);

/* First instant (UTC) of the month of a time, and of the one after it. */
extern TimestampTz om_months_begin(TimestampTz at);
extern TimestampTz om_months_next(TimestampTz at);

#endif /* OM_MONTHS_H */
