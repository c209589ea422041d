/*
 * opened.h
 *		Opened tables, with what it takes to read and write their rows.
 */
#ifndef OM_OPENED_H
#define OM_OPENED_H

#include "postgres.h"

#include "access/skey.h"
#include "nodes/execnodes.h"
#include "storage/lock.h"
#include "utils/rel.h"

typedef struct OmTable
{
	Relation rel;
	Relation key; /* the index of the primary key */
	int nkeys;
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *found;
	TupleTableSlot *fresh;      /* row to be written */
	ItemPointerData written_at; /* by the last update */
	BlockNumber nblocks;        /* 0: not asked for since om_table_open() */

	/* The rest belongs to opened.c, and the rows that wait to tables.c. */
	TupleDesc desc;                /* a copy, which outlives the relation's */
	struct ScanKeyData *scan_keys; /* for the columns of the primary key, without values */
	Oid key_oid;
	int key_position; /* among the indexes of info, or -1 */
	Oid *index_oids;
	TupleTableSlot **waiting; /* rows that om_table_flush() will write */
	int nwaiting;
	MemoryContext waiting_context;
	MemoryContext context; /* holds all this */
	bool kept;             /* for the next call that opens this table */
	bool outdated;         /* the definition has changed */
	bool in_use;
	LocalTransactionId user; /* who has it in use */
	SubTransactionId user_part;
} OmTable;

/* To be called when the library is loaded. */
extern void om_opened_init(void);

/* Opens a table, as the session has kept it or anew. */
extern OmTable *om_opened_take(Oid relid, LOCKMODE lockmode);

/* Gives it back.  Its locks are kept to the end of the transaction, as a statement keeps them. */
extern void om_opened_release(OmTable *table);

/* A condition on a column of the primary key. */
extern void om_opened_init_scan_key(const OmTable *table, int column, StrategyNumber strategy,
									Datum value, ScanKey key);

#endif /* OM_OPENED_H */
