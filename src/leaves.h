/*
 * leaves.h
 *		Which partitions of the event log a range of transactions can be in.
 */
#ifndef OM_LEAVES_H
#define OM_LEAVES_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* OIDs, in the order of the months. */
extern List *om_leaves_of_lxids(int64 first, int64 last);

#endif /* OM_LEAVES_H */
