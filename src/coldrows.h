/*
 * coldrows.h
 *		Rows of a month of ours that is in a file only.
 *
 * The parent table is locked to the end of the transaction, so the month stays
 * where it is while it is read.
 */
#ifndef OM_COLDROWS_H
#define OM_COLDROWS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct OmColdScan OmColdScan;

/* The month of a table of ours in which a time lies; NULL: it is not in a file only. */
extern OmColdScan *om_cold_open(const char *table, TimestampTz at);

/* From now on only rows whose first key columns have these values, from the first one on. */
extern void om_cold_seek(OmColdScan *scan, const Datum *key, int nkeys);

/* The same with all rows beside it: those of the frames in which it can be. */
extern void om_cold_seek_around(OmColdScan *scan, const Datum *key, int nkeys);

/* And only those in which a column of type text has this value. */
extern void om_cold_where(OmColdScan *scan, const char *column, const char *text);

/*
 * The next row, with the columns of the table; false: there is no more.  Values live in the current memory
 * context, the arrays in the scan.
 */
extern bool om_cold_next(OmColdScan *scan, Datum **values, bool **isnull);
extern void om_cold_close(OmColdScan *scan);

#endif /* OM_COLDROWS_H */
