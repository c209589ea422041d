/*
 * monthswap.h
 *		Exchanges partitions: the copy beside the live one, and the swap at the end.
 *
 * A move goes, in one transaction (decision 16):
 *
 *		om_month_lock_to_copy(leaves)                  the old partitions are read, not written
 *		om_month_require_seen(leaves)                  and everybody sees them alike
 *		twin = om_month_twin_make(parent, &bounds, …)  an empty table beside each (not for cold)
 *		om_month_twin_copy(twin, leaf)                 or fill_begin/fill_row/fill_end from a file
 *		om_month_twin_finish(twin, parent)             its indexes and statistics
 *		om_month_swap(moves)                           as the very last thing; then commit
 */
#ifndef OM_MONTHSWAP_H
#define OM_MONTHSWAP_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/pg_list.h"

/* Bounds of a partition as literals of the type of its column, without quotes; "to" is exclusive. */
typedef struct OmMonthBounds
{
	char *from;
	char *to;
} OmMonthBounds;

/* One partition that is exchanged, or goes, or comes. */
typedef struct OmMonthMove
{
	Oid parent;
	Oid old;              /* partition that is dropped; invalid: there is none */
	Oid fresh;            /* table that is attached in its place; invalid: none */
	Oid kept;             /* table that is dropped with it (monthtraits.h); invalid: none */
	const char *name;     /* that the fresh one gets */
	OmMonthBounds bounds; /* of the fresh one */
} OmMonthMove;

/*
 * The bounds of a partition by range on one column of type date, timestamp or
 * timestamptz; NULL where it has none.
 */
extern OmMonthBounds om_month_bounds(Oid leaf);

/*
 * SHARE on partitions, which must be given in the order in which captures lock
 * them (event_log, orders, order_lines; others by OID).  Waits for open writers
 * for a moment.  55P03: they are still there.
 */
extern void om_month_lock_to_copy(List *leaves);

/*
 * Snapshots that others have must see the partitions as the latest does, because
 * they will see copies, or sums, of that.  To be called under SHARE; waits for
 * short readers for a moment.  55P03: some transaction goes on with an older one.
 */
extern void om_month_require_seen(List *leaves);

/* That in words for view partitions, without a lock and without waiting; NULL: nothing is missed. */
extern char *om_month_missed(Oid leaf);

/*
 * An empty table like the parent, in the parent's schema and of the parent's
 * owner, without indexes, with a CHECK of the bounds, so that attaching it reads
 * nothing.  It has a name of its own until the swap.  storage: what follows
 * the column list, as "WITH (fillfactor = 100) TABLESPACE slow"; or "".
 */
extern Oid om_month_twin_make(Oid parent, const OmMonthBounds *bounds, const char *storage);

/*
 * Rows of a twin are written frozen: every snapshot sees them, also one older
 * than the move, which must go on seeing what stood in the old partition.
 */
typedef struct OmMonthFill OmMonthFill;

/*
 * Rows that do not come from a partition of the table (is_foreign) get their generated columns,
 * and are checked: NOT NULL, CHECK constraints, bounds.
 */
extern OmMonthFill *om_month_fill_begin(Oid twin, bool is_foreign);

/* Values and nulls have one entry per column of the table; they need not outlive the call. */
extern void om_month_fill_row(OmMonthFill *fill, const Datum *values, const bool *isnull);

/* Writes what waits and closes the table; returns the number of rows. */
extern int64 om_month_fill_end(OmMonthFill *fill);

/* All rows of a partition, by physical order; columns are matched by name. */
extern int64 om_month_twin_copy(Oid twin, Oid leaf);

/*
 * Makes the indexes and the primary key that the parent has, and analyzes the
 * table.  What a parent's index asks for, attaching would make otherwise, under
 * its locks.  tablespace: of the indexes, or NULL.
 */
extern void om_month_twin_finish(Oid twin, Oid parent, const char *tablespace);

/* Makes an index that one table has on another, in the caller's scope, under a name that is free. */
extern void om_month_index_make(Oid index, Oid from, Oid twin);

/*
 * Locks all that the moves name exclusively, all or none, each time for 100 ms
 * altogether at most, and tries again after pauses; then drops the old partitions
 * and attaches the fresh ones under their names.  The moves must be in the
 * order in which captures lock the tables.  55P03: the locks could not be had,
 * because somebody reads for long.
 */
extern void om_month_swap(List *moves);

#endif /* OM_MONTHSWAP_H */
