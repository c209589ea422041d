/*
 * snapshots.c
 *		What the snapshots of other sessions may not see yet.
 *
 * A process shows the oldest transaction that may still run in any of its
 * snapshots (xmin).  Only that counts: a transaction that is open without a
 * snapshot, as between two statements in READ COMMITTED, sees the newest when
 * it looks.  Our own process does not count; what it has written does.
 *
 * Pages that VACUUM has found to be visible for everybody are passed by, so of an
 * old month as a rule nothing is read.  Tables of other access methods have no
 * versions that we could tell apart and are taken to be seen.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/rel.h"

#include "snapshots.h"

/* Those that read no rows of months, as when an index is made CONCURRENTLY. */
#define NO_READERS (PROC_IS_AUTOVACUUM | PROC_IN_VACUUM | PROC_IN_SAFE_IC)

/* Whether a transaction may still run in some snapshot; if it is invalid, whether there is any. */
static bool
anybody_misses(TransactionId xid)
{
	int count;
	VirtualTransactionId *holders =
		GetCurrentVirtualXIDs(xid, true /* excludeXmin0 */, false /* allDbs */, NO_READERS, &count);

	pfree(holders);
	return count > 0;
}

static void
look_at_change(TransactionId xid, TransactionId *newest)
{
	if (TransactionIdIsNormal(xid) &&
		(!TransactionIdIsValid(*newest) || TransactionIdFollows(xid, *newest)) &&
		(TransactionIdIsCurrentTransactionId(xid) || TransactionIdDidCommit(xid)))
		*newest = xid;
}

static void
look_at_row(HeapTupleHeader row, TransactionId *newest)
{
	if (!HeapTupleHeaderXminFrozen(row))
		look_at_change(HeapTupleHeaderGetRawXmin(row), newest);
	if (!(row->t_infomask & HEAP_XMAX_INVALID) && !HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask))
		look_at_change(HeapTupleHeaderGetUpdateXid(row), newest);
}

static void
look_at_page(Buffer buffer, TransactionId *newest)
{
	Page page;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	for (OffsetNumber i = FirstOffsetNumber; i <= PageGetMaxOffsetNumber(page); i++)
	{
		ItemId item = PageGetItemId(page, i);

		if (ItemIdIsNormal(item))
			look_at_row((HeapTupleHeader) PageGetItem(page, item), newest);
	}
	UnlockReleaseBuffer(buffer);
}

/* Rows that are gone from their page are gone for every snapshot. */
static TransactionId
look_at_table(Relation rel)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	TransactionId newest = InvalidTransactionId;
	Buffer map = InvalidBuffer;

	for (BlockNumber block = 0; block < nblocks; block++)
	{
		CHECK_FOR_INTERRUPTS();
		if (visibilitymap_get_status(rel, block, &map) & VISIBILITYMAP_ALL_VISIBLE)
			continue;
		look_at_page(ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL, strategy), &newest);
	}
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	FreeAccessStrategy(strategy);
	return newest;
}

TransactionId
om_snapshots_newest_change(Oid relid)
{
	TransactionId newest = InvalidTransactionId;
	Relation rel;

	if (!anybody_misses(InvalidTransactionId))
		return InvalidTransactionId; /* nobody has any snapshot */
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		return InvalidTransactionId;
	if (rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rel->relam == HEAP_TABLE_AM_OID)
		newest = look_at_table(rel);
	relation_close(rel, AccessShareLock);
	return newest;
}

bool
om_snapshots_miss(TransactionId change)
{
	return TransactionIdIsValid(change) && anybody_misses(change);
}
