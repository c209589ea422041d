/*
 * tables.h
 *		Rows of one plain table by primary key: find, lock, insert, update.
 *
 * This is how the hot path reaches its rows: one fixed access path, no plan
 * that a stale statistic could spoil.  Constraints and indexes are kept by
 * the executor's own routines, as logical replication uses them.
 */
#ifndef OM_TABLES_H
#define OM_TABLES_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/snapshot.h"

#include "opened.h"

extern OmTable *om_table_open(Oid relid, LOCKMODE lockmode);
extern void om_table_close(OmTable *table);

/*
 * The row with this primary key, copied into the current memory context, or
 * NULL.  "find" reads what the snapshot shows; "lock" takes the newest version
 * and locks it FOR NO KEY UPDATE, waiting for whoever holds it.
 */
extern HeapTuple om_table_find(OmTable *table, const Datum *key, Snapshot snapshot);
extern HeapTuple om_table_lock(OmTable *table, const Datum *key);

/* The same, but it waits for workers only; NULL and *busy when anybody else holds the row. */
extern HeapTuple om_table_lock_if_free(OmTable *table, const Datum *key, bool *busy);

/*
 * Locks the newest version of a row of which a version is at hand, waiting for
 * workers only.  *newest becomes a copy of it when it is another one.
 */
typedef enum OmRowLock
{
	OM_ROW_LOCKED, /* it is the newest */
	OM_ROW_CHANGED,
	OM_ROW_BUSY,
	OM_ROW_GONE
} OmRowLock;

extern OmRowLock om_table_lock_version(OmTable *table, ItemPointer position, HeapTuple *newest);

/* The version at a position, if the snapshot shows it and it has this key; else NULL. */
extern HeapTuple om_table_fetch(OmTable *table, ItemPointer position, Datum key, Snapshot snapshot);

/*
 * Visits rows by ascending keys (of two columns).  Rows that lie close to each
 * other are reached by going on from one to the next instead of by new probes.
 */
typedef struct OmTableWalk OmTableWalk;

extern OmTableWalk *om_table_walk_begin(OmTable *table, Snapshot snapshot);

/* The next row with this key, valid until the next call; NULL: there is none (more). */
extern TupleTableSlot *om_table_walk_next(OmTableWalk *walk, const Datum *key);
extern void om_table_walk_end(OmTableWalk *walk);

/* What a new statement of the transaction would see, own changes included. */
extern Snapshot om_current_snapshot(void);

/* Calls visit for each row whose key begins with these columns, in key order. */
typedef void (*OmRowVisitor)(OmTable *table, HeapTuple row, void *arg);
extern void om_table_scan(OmTable *table, const Datum *key, int nkeys, Snapshot snapshot,
						  OmRowVisitor visit, void *arg);

/* The row with the largest key, optionally among those that begin with key[0..nkeys-1]. */
extern HeapTuple om_table_last(OmTable *table, const Datum *key, int nkeys, Snapshot snapshot);

/* The same of a key of one column, if it is not less than a given one: that is found sooner. */
extern HeapTuple om_table_last_from(OmTable *table, Datum least, Snapshot snapshot);

/*
 * The arrays have ncolumns entries.  Columns that somebody has added behind
 * ours are null in new rows, and keep their values in new versions of a row.
 */
extern void om_table_insert(OmTable *table, const Datum *values, const bool *isnull, int ncolumns);

/*
 * The same, but the row may wait in memory, checked already, for others to be
 * written with it: until om_table_flush() at the latest, which om_table_close()
 * calls.  The values need not outlive the call.
 */
extern void om_table_insert_later(OmTable *table, const Datum *values, const bool *isnull,
								  int ncolumns);
extern void om_table_flush(OmTable *table);

/*
 * Is there a row with this primary key that has been committed, or written by
 * the caller?  *writer is the transaction that is just writing one, or invalid.
 */
extern bool om_table_has_key(OmTable *table, const Datum *key, TransactionId *writer);

/* Writes a new version of a locked row; replace[] says which columns change. */
extern void om_table_update(OmTable *table, HeapTuple old, const Datum *values, const bool *isnull,
							const bool *replace, int ncolumns);

/* Column of a row; attnum counts from 1. */
extern Datum om_row_get(OmTable *table, HeapTuple row, int attnum, bool *isnull);
extern Datum om_row_get_not_null(OmTable *table, HeapTuple row, int attnum);

/* The same of a text; NULL where it is null. */
extern char *om_row_get_text(OmTable *table, HeapTuple row, int attnum);

#endif /* OM_TABLES_H */
