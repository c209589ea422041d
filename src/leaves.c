/*
 * leaves.c
 *		Leaves out months of the event log in which there is nothing to read.
 *
 * Transactions are numbered across months, so a reader does not know in which
 * ones its window lies; to look into all of them would make every batch dearer
 * by each month of history.  What is written now goes into the month of now.  So
 * one that ended more than a day ago does not change any more, and each backend
 * remembers the first and the last transaction in it.
 *
 * Rows in an index count whatever became of them: a transaction that has written
 * long ago may commit tomorrow.  Rows that are put into old months from outside,
 * by a restore or by replication, come before post_restore(), which gives the
 * installation another xid_base; then everything is looked up again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"
#include "installation.h"
#include "leaves.h"
#include "relations.h"

/* Clocks that step back do so by less. */
#define CLOSED_AFTER USECS_PER_DAY

#define COLUMN_LXID 2 /* of table event_log */

typedef struct ClosedLeaf
{
	Oid relid; /* hash key */
	int64 first;
	int64 last;       /* less than first: there is nothing in it */
	TimestampTz seen; /* when that was looked up */
} ClosedLeaf;

static HTAB *closed_leaves = NULL;
static Oid closed_parent; /* what closed_leaves is about */
static int64 closed_xid_base;
static uint64 closed_clock;

static HTAB *
get_closed_leaves(Oid parent)
{
	int64 xid_base = om_installation_get()->xid_base;
	HASHCTL control = {.keysize = sizeof(Oid), .entrysize = sizeof(ClosedLeaf)};

	if (closed_leaves != NULL && closed_parent == parent && closed_xid_base == xid_base &&
		closed_clock == om_clock_changes())
		return closed_leaves;
	if (closed_leaves != NULL)
		hash_destroy(closed_leaves);
	control.hcxt = TopMemoryContext;
	closed_leaves =
		hash_create("closed months", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	closed_parent = parent;
	closed_xid_base = xid_base;
	closed_clock = om_clock_changes();
	return closed_leaves;
}

/* The transaction at one end of a partition; false when it is empty. */
static bool
find_end(Relation heap, Relation index, ScanDirection direction, int64 *lxid)
{
	TupleTableSlot *slot = table_slot_create(heap, NULL);
	IndexScanDesc scan = om_index_beginscan(heap, index, SnapshotAny, 0);
	bool found;
	bool isnull;

	index_rescan(scan, NULL, 0, NULL, 0);
	found = index_getnext_slot(scan, direction, slot);
	if (found)
		*lxid = DatumGetInt64(slot_getattr(slot, COLUMN_LXID, &isnull));
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

static ClosedLeaf
look_up(Oid relid)
{
	ClosedLeaf leaf = {.relid = relid, .first = 0, .last = -1, .seen = GetCurrentTimestamp()};
	Relation heap = table_open(relid, AccessShareLock);
	Relation index = index_open(om_primary_key(heap), AccessShareLock);

	if (find_end(heap, index, ForwardScanDirection, &leaf.first))
		(void) find_end(heap, index, BackwardScanDirection, &leaf.last);
	index_close(index, AccessShareLock);
	table_close(heap, AccessShareLock);
	return leaf;
}

/* What was looked up when the clock was ahead may not have been closed then. */
static const ClosedLeaf *
get_closed_leaf(HTAB *leaves, Oid relid, TimestampTz now)
{
	ClosedLeaf *leaf = hash_search(leaves, &relid, HASH_FIND, NULL);
	ClosedLeaf fresh;

	if (leaf != NULL && leaf->seen <= now)
		return leaf;
	fresh = look_up(relid); /* may fail: only then it is entered */
	leaf = hash_search(leaves, &relid, HASH_ENTER, NULL);
	*leaf = fresh;
	return leaf;
}

List *
om_leaves_of_lxids(int64 first, int64 last)
{
	Oid parent = om_relation_get("event_log");
	HTAB *closed = get_closed_leaves(parent);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz first_time = om_clock_is_set() ? DT_NOBEGIN : now - CLOSED_AFTER;
	List *open = om_month_leaves_between(parent, first_time, DT_NOEND);
	Oid first_open = open == NIL ? InvalidOid : linitial_oid(open);
	List *leaves = NIL;
	ListCell *cell;

	foreach(cell, om_month_leaves(parent))
	{
		const ClosedLeaf *leaf;

		if (lfirst_oid(cell) == first_open)
			break;
		leaf = get_closed_leaf(closed, lfirst_oid(cell), now);
		if (leaf->first <= last && leaf->last >= first)
			leaves = lappend_oid(leaves, leaf->relid);
	}
	return list_concat(leaves, open);
}
