/*
 * ledger.c
 *		Holds on accounts and stock.
 *
 * Lock order: accounts before stock before orders; within a ledger by key,
 * bytewise, which is the order of COLLATE "C".
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "faults.h"
#include "ledger.h"
#include "money.h"
#include "relations.h"

#define LEDGER_MAX_COLUMNS 8

typedef struct LedgerLayout
{
	const char *table;
	int total;
	int reserved;
	int updated_at;
	int64 max_total;
} LedgerLayout;

static const LedgerLayout layouts[] = {
	[OM_LEDGER_ACCOUNTS] = {"accounts", 5, 6, 8, OM_MONEY_MAX},
	[OM_LEDGER_STOCK] = {"stock", 2, 3, 4, PG_INT64_MAX},
};

/* ---------- entries by key ---------- */

typedef struct Entry
{
	const char *key;
	OmLedgerEntry *entry;
	uint32 hash;
	char status; /* of the entry in the hash table */
} Entry;

static inline uint32
hash_key(const char *key)
{
	return hash_bytes((const unsigned char *) key, strlen(key));
}

#define SH_PREFIX entries
#define SH_ELEMENT_TYPE Entry
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_key(key)
#define SH_EQUAL(table, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* ---------- where rows were written last ---------- */

/*
 * While somebody holds an old snapshot, a row that changes often has many
 * versions, all of which a probe of the index walks along.  Who has written the
 * newest one knows where it is.  The pipeline remembers that for as long as its
 * process lives; whether the place is right is seen when it is looked at.
 */
typedef struct Place
{
	const char *key;
	ItemPointerData position;
	uint32 hash;
	char status; /* of the entry in the hash table */
} Place;

#define SH_PREFIX places
#define SH_ELEMENT_TYPE Place
#define SH_KEY_TYPE const char *
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_key(key)
#define SH_EQUAL(table, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* When there are more, all are forgotten. */
#define MAX_PLACES 100000

typedef struct Places
{
	MemoryContext context; /* NULL: none yet */
	Oid relid;
	places_hash *by_key;
} Places;

static Places known_places[2]; /* by OmLedgerKind */

static Places *
get_places(const OmLedger *ledger)
{
	Places *places = &known_places[ledger->kind];
	Oid relid = RelationGetRelid(ledger->table->rel);

	if (places->context == NULL)
		places->context = AllocSetContextCreate(TopMemoryContext, "places of ledger rows",
												ALLOCSET_DEFAULT_SIZES);
	if (places->by_key == NULL || places->relid != relid || places->by_key->members > MAX_PLACES)
	{
		MemoryContextReset(places->context);
		places->by_key = places_create(places->context, 1024, NULL);
		places->relid = relid;
	}
	return places;
}

static void
remember_place(const OmLedgerEntry *entry)
{
	Places *places = get_places(entry->ledger);
	bool found;
	Place *place = places_insert(places->by_key, entry->key, &found);

	if (!found)
		place->key = MemoryContextStrdup(places->context, entry->key);
	place->position = entry->ledger->table->written_at;
}

/* The row as it was left, locked; NULL when it is not there any more, or not free. */
static HeapTuple
lock_where_left(OmLedger *ledger, const OmLedgerEntry *entry, Datum key)
{
	Place *place = places_lookup(get_places(ledger)->by_key, entry->key);
	HeapTuple row = place == NULL
					  ? NULL
					  : om_table_fetch(ledger->table, &place->position, key, GetActiveSnapshot());

	if (row == NULL || om_table_lock_version(ledger->table, &row->t_self, &row) > OM_ROW_CHANGED)
		return NULL;
	return row;
}

/* ---------- rows ---------- */

static int
compare_entries(const ListCell *a, const ListCell *b)
{
	return strcmp(((const OmLedgerEntry *) lfirst(a))->key,
				  ((const OmLedgerEntry *) lfirst(b))->key);
}

static int64
get_amount(const OmLedger *ledger, HeapTuple row, int column)
{
	Datum value = om_row_get_not_null(ledger->table, row, column);

	return ledger->kind == OM_LEDGER_ACCOUNTS ? om_money_from_datum(value) : DatumGetInt64(value);
}

static Datum
amount_datum(const OmLedger *ledger, int64 amount)
{
	return ledger->kind == OM_LEDGER_ACCOUNTS ? NumericGetDatum(om_money_to_numeric(amount))
											  : Int64GetDatum(amount);
}

static void
fill_entry(const OmLedger *ledger, OmLedgerEntry *entry, HeapTuple row)
{
	const LedgerLayout *layout = &layouts[ledger->kind];

	entry->exists = row != NULL;
	entry->row = row;
	if (row == NULL)
		return;
	entry->total = get_amount(ledger, row, layout->total);
	entry->reserved = get_amount(ledger, row, layout->reserved);
}

static OmLedger *
open_ledger(OmLedgerKind kind, int nkeys, OmLedgerWait wait, LOCKMODE lockmode)
{
	OmLedger *ledger = palloc0(sizeof(OmLedger));

	ledger->kind = kind;
	ledger->wait = wait;
	ledger->entries = entries_create(CurrentMemoryContext, nkeys, NULL);
	ledger->table = om_table_open(om_relation_get(layouts[kind].table), lockmode);
	return ledger;
}

/* Entries for those of the keys that have none yet, in the order of keys. */
static List *
add_entries(OmLedger *ledger, char **keys, int nkeys)
{
	List *added = NIL;

	for (int i = 0; i < nkeys; i++)
	{
		bool found;
		Entry *place = entries_insert(ledger->entries, keys[i], &found);

		if (found)
			continue;
		place->entry = palloc0(sizeof(OmLedgerEntry));
		place->entry->key = keys[i];
		place->entry->ledger = ledger;
		added = lappend(added, place->entry);
	}
	list_sort(added, compare_entries);
	return added;
}

static HeapTuple
lock_row(OmLedger *ledger, OmLedgerEntry *entry)
{
	Datum key = CStringGetTextDatum(entry->key);
	HeapTuple row;

	if (ledger->wait == OM_LEDGER_WAIT)
		return om_table_lock(ledger->table, &key);
	row = lock_where_left(ledger, entry, key);
	return row != NULL ? row : om_table_lock_if_free(ledger->table, &key, &entry->busy);
}

void
om_ledger_lock_more(OmLedger *ledger, char **keys, int nkeys)
{
	ListCell *cell;

	foreach(cell, add_entries(ledger, keys, nkeys))
	{
		OmLedgerEntry *entry = lfirst(cell);

		fill_entry(ledger, entry, lock_row(ledger, entry));
		OM_FAULT_POINT("ledger/row-locked");
	}
	OM_FAULT_POINT("ledger/locked");
}

OmLedger *
om_ledger_lock(OmLedgerKind kind, char **keys, int nkeys, OmLedgerWait wait)
{
	OmLedger *ledger = open_ledger(kind, nkeys, wait, RowExclusiveLock);

	om_ledger_lock_more(ledger, keys, nkeys);
	return ledger;
}

OmLedger *
om_ledger_read(OmLedgerKind kind, char **keys, int nkeys)
{
	OmLedger *ledger = open_ledger(kind, nkeys, OM_LEDGER_WAIT, AccessShareLock);
	ListCell *cell;

	foreach(cell, add_entries(ledger, keys, nkeys))
	{
		OmLedgerEntry *entry = lfirst(cell);
		Datum key = CStringGetTextDatum(entry->key);

		fill_entry(ledger, entry, om_table_find(ledger->table, &key, GetActiveSnapshot()));
	}
	return ledger;
}

OmLedgerEntry *
om_ledger_entry(OmLedger *ledger, const char *key)
{
	Entry *place = entries_lookup(ledger->entries, key);

	if (place == NULL)
		elog(ERROR, "\"%s\" is not among the locked rows", key);
	return place->entry;
}

int64
om_ledger_available(const OmLedgerEntry *entry)
{
	return entry->total - entry->reserved;
}

static void
note_change(OmLedgerEntry *entry, int64 amount)
{
	if (amount == 0 || entry->changed)
		return;
	entry->changed = true;
	entry->ledger->changed = lappend(entry->ledger->changed, entry);
}

void
om_ledger_hold(OmLedgerEntry *entry, int64 amount)
{
	Assert(entry->exists && amount <= om_ledger_available(entry));
	entry->reserved += amount;
	note_change(entry, amount);
}

void
om_ledger_release(OmLedgerEntry *entry, int64 amount)
{
	if (!entry->exists || amount > entry->reserved)
		elog(ERROR, "release of more than is held for \"%s\"", entry->key);
	entry->reserved -= amount;
	note_change(entry, amount);
}

void
om_ledger_post(OmLedgerEntry *entry, int64 amount)
{
	om_ledger_release(entry, amount);
	entry->total -= amount;
}

bool
om_ledger_adjust(OmLedgerEntry *entry, OmLedgerKind kind, int64 delta)
{
	int64 total;

	if (pg_add_s64_overflow(entry->total, delta, &total) || total < entry->reserved ||
		total > layouts[kind].max_total)
		return false;
	entry->total = total;
	note_change(entry, delta);
	return true;
}

void
om_ledger_write(OmLedger *ledger)
{
	const LedgerLayout *layout = &layouts[ledger->kind];
	Datum values[LEDGER_MAX_COLUMNS] = {0};
	bool isnull[LEDGER_MAX_COLUMNS] = {false};
	bool replace[LEDGER_MAX_COLUMNS] = {false};
	ListCell *cell;

	replace[layout->total - 1] = replace[layout->reserved - 1] = replace[layout->updated_at - 1] =
		true;
	values[layout->updated_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	OM_FAULT_POINT("ledger/before-write");
	foreach(cell, ledger->changed)
	{
		OmLedgerEntry *entry = lfirst(cell);

		values[layout->total - 1] = amount_datum(ledger, entry->total);
		values[layout->reserved - 1] = amount_datum(ledger, entry->reserved);
		om_table_update(ledger->table, entry->row, values, isnull, replace, LEDGER_MAX_COLUMNS);
		if (ledger->wait == OM_LEDGER_SKIP)
			remember_place(entry);
		OM_FAULT_POINT("ledger/row-written");
	}
	OM_FAULT_POINT("ledger/written");
	om_table_close(ledger->table);
}
