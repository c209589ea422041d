/*
 * restoring.h
 *		Months back from files.
 */
#ifndef OM_RESTORING_H
#define OM_RESTORING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/*
 * The way back from archiving.h, with the same arguments and for a transaction of
 * its own, too; a month that is there stays as it is.
 */
extern List *om_restore_month(Oid relation, TimestampTz month);

/* OM005: the archive of a table's month was written for another owner than the table has. */
extern void om_restoring_require_owner(Oid parent, TimestampTz month);

/*
 * The table that keeps what an archived month has of its own (monthtraits.h), locked in SHARE;
 * invalid: there is none.  55P03: it is being written or changed.
 */
extern Oid om_restoring_lock_kept(Oid parent, const char *file);

#endif /* OM_RESTORING_H */
