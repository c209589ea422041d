/*
 * archiving.h
 *		Months into files, and back.
 *
 * Both are for a transaction of their own: what they lock stays locked to its
 * end, and the exchange of the partitions is the last thing they do.
 */
#ifndef OM_ARCHIVING_H
#define OM_ARCHIVING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct OmArchived
{
	Oid relid; /* parent of the partition */
	int64 rows;
	int64 bytes; /* of the file */
	char *file;  /* below order_mgmt.archive_directory; NULL: there is none (restore) */
} OmArchived;

/*
 * Writes the month in which a time lies to files and drops its partitions: those
 * of the three tables of orders together (relation invalid, or one of them), or of
 * a table of the user's own, with all its partitioned partitions.  A month that
 * is in files already stays as it is.  Returns a list of OmArchived.
 *
 * OM004: there is no such month; OM005: something still needs it; 55P03: it is
 * being read; 53100, 58xxx: the file cannot be written.
 */
extern List *om_archive_month(Oid relation, TimestampTz month);

/* The way back, with the same arguments; a month that is there stays as it is. */
extern List *om_restore_month(Oid relation, TimestampTz month);

/* OM005: the archive of a table's month was written for another owner than the table has. */
extern void om_archiving_require_owner(Oid parent, TimestampTz month);

/*
 * The table that keeps what an archived month has of its own (monthtraits.h), locked in SHARE;
 * invalid: there is none.  55P03: it is being written or changed.
 */
extern Oid om_archiving_lock_kept(Oid parent, const char *file);

/* Whether a relation is one of the three tables of orders. */
extern bool om_archiving_is_ours(Oid relation);

#endif /* OM_ARCHIVING_H */
