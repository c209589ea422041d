/*
 * archiving.h
 *		Months into files.
 */
#ifndef OM_ARCHIVING_H
#define OM_ARCHIVING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/*
 * Writes the month in which a time lies to files and drops its partitions: those
 * of the three tables of orders together (relation invalid, or one of them), or of
 * a table of the user's own, with all its partitioned partitions.  A month that
 * is in files already stays as it is.  Returns a list of OmArchived (monthmembers.h).
 *
 * It is for a transaction of its own: what it locks stays locked to its end, and
 * the exchange of the partitions is the last thing it does.
 *
 * OM004: there is no such month; OM005: something still needs it; 55P03: it is
 * being read; 53100, 58xxx: the file cannot be written.
 */
extern List *om_archive_month(Oid relation, TimestampTz month);

#endif /* OM_ARCHIVING_H */
