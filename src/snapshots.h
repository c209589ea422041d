/*
 * snapshots.h
 *		What the snapshots of other sessions may not see yet.
 */
#ifndef OM_SNAPSHOTS_H
#define OM_SNAPSHOTS_H

#include "postgres.h"

/*
 * The newest transaction by which rows of a table are as they are; invalid: nobody can
 * see them otherwise.
 */
extern TransactionId om_snapshots_newest_change(Oid relid);

/*
 * Whether some other process of this database holds a snapshot in which that
 * transaction may still run, so that it sees what was before.  Once it is over, as
 * that of a table's newest change is under SHARE, new snapshots see it; so what is
 * false stays false.
 */
extern bool om_snapshots_miss(TransactionId change);

#endif /* OM_SNAPSHOTS_H */
