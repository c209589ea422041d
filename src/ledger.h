/*
 * ledger.h
 *		Two-phase holds on accounts (credit) and on stock (units).
 *
 *		hold     reserved += x             where x <= total - reserved
 *		post     total -= x, reserved -= x
 *		release  reserved -= x
 *
 * A batch locks all rows that it may touch in the order of their keys, works
 * on the amounts in memory, and writes each changed row once.
 */
#ifndef OM_LEDGER_H
#define OM_LEDGER_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "tables.h"

typedef enum OmLedgerKind
{
	OM_LEDGER_ACCOUNTS, /* total = balance, in minor units */
	OM_LEDGER_STOCK     /* total = on_hand */
} OmLedgerKind;

typedef struct OmLedgerEntry
{
	char *key; /* customer_id or product_id */
	bool exists;
	bool busy; /* somebody else has locked the row; the rest is not known */
	bool changed;
	int64 total;
	int64 reserved;
	HeapTuple row;
	struct OmLedger *ledger;
} OmLedgerEntry;

/*
 * A client waits for rows that are locked; the pipeline leaves them out as busy.
 */
typedef enum OmLedgerWait
{
	OM_LEDGER_WAIT,
	OM_LEDGER_SKIP
} OmLedgerWait;

typedef struct OmLedger
{
	OmLedgerKind kind;
	OmLedgerWait wait;
	OmTable *table;
	struct entries_hash *entries; /* by key */
	List *changed;
} OmLedger;

/* Locks the rows of these keys (duplicates and missing ones allowed). */
extern OmLedger *om_ledger_lock(OmLedgerKind kind, char **keys, int nkeys, OmLedgerWait wait);

/* The same for further keys; those that are locked already are left as they are. */
extern void om_ledger_lock_more(OmLedger *ledger, char **keys, int nkeys);

/* Reads them without a lock, to answer "would it pass?". */
extern OmLedger *om_ledger_read(OmLedgerKind kind, char **keys, int nkeys);

/* The entry of a key that was asked for. */
extern OmLedgerEntry *om_ledger_entry(OmLedger *ledger, const char *key);

/* What can still be held. */
extern int64 om_ledger_available(const OmLedgerEntry *entry);

extern void om_ledger_hold(OmLedgerEntry *entry, int64 amount);
extern void om_ledger_release(OmLedgerEntry *entry, int64 amount);
extern void om_ledger_post(OmLedgerEntry *entry, int64 amount);

/* Changes the total from outside; false when that goes below what is held or out of range. */
extern bool om_ledger_adjust(OmLedgerEntry *entry, OmLedgerKind kind, int64 delta);

/* Writes the changed rows and closes the table. */
extern void om_ledger_write(OmLedger *ledger);

#endif /* OM_LEDGER_H */
