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
#include "common/int.h"
#include "utils/builtins.h"
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

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
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
open_ledger(OmLedgerKind kind, char **keys, int nkeys, LOCKMODE lockmode)
{
	OmLedger *ledger = palloc0(sizeof(OmLedger));
	char **sorted = palloc(sizeof(char *) * Max(nkeys, 1));

	memcpy(sorted, keys, sizeof(char *) * nkeys);
	qsort(sorted, nkeys, sizeof(char *), compare_keys);
	ledger->kind = kind;
	ledger->entries = palloc0(sizeof(OmLedgerEntry) * Max(nkeys, 1));
	for (int i = 0; i < nkeys; i++)
	{
		if (i > 0 && strcmp(sorted[i], sorted[i - 1]) == 0)
			continue;
		ledger->entries[ledger->count++].key = sorted[i];
	}
	ledger->table = om_table_open(om_relation_get(layouts[kind].table), lockmode);
	return ledger;
}

OmLedger *
om_ledger_lock(OmLedgerKind kind, char **keys, int nkeys, OmLedgerWait wait)
{
	OmLedger *ledger = open_ledger(kind, keys, nkeys, RowExclusiveLock);

	for (int i = 0; i < ledger->count; i++)
	{
		OmLedgerEntry *entry = &ledger->entries[i];
		Datum key = CStringGetTextDatum(entry->key);

		fill_entry(ledger, entry,
				   wait == OM_LEDGER_WAIT
					   ? om_table_lock(ledger->table, &key)
					   : om_table_lock_if_free(ledger->table, &key, &entry->busy));
		OM_FAULT_POINT("ledger/row-locked");
	}
	OM_FAULT_POINT("ledger/locked");
	return ledger;
}

OmLedger *
om_ledger_read(OmLedgerKind kind, char **keys, int nkeys)
{
	OmLedger *ledger = open_ledger(kind, keys, nkeys, AccessShareLock);

	for (int i = 0; i < ledger->count; i++)
	{
		Datum key = CStringGetTextDatum(ledger->entries[i].key);

		fill_entry(ledger, &ledger->entries[i],
				   om_table_find(ledger->table, &key, GetActiveSnapshot()));
	}
	return ledger;
}

OmLedgerEntry *
om_ledger_entry(OmLedger *ledger, const char *key)
{
	int low = 0;
	int high = ledger->count - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		int order = strcmp(key, ledger->entries[middle].key);

		if (order == 0)
			return &ledger->entries[middle];
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	elog(ERROR, "\"%s\" is not among the locked rows", key);
}

int64
om_ledger_available(const OmLedgerEntry *entry)
{
	return entry->total - entry->reserved;
}

void
om_ledger_hold(OmLedgerEntry *entry, int64 amount)
{
	Assert(entry->exists && amount <= om_ledger_available(entry));
	entry->reserved += amount;
	entry->changed |= amount != 0;
}

void
om_ledger_release(OmLedgerEntry *entry, int64 amount)
{
	if (!entry->exists || amount > entry->reserved)
		elog(ERROR, "release of more than is held for \"%s\"", entry->key);
	entry->reserved -= amount;
	entry->changed |= amount != 0;
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
	entry->changed |= delta != 0;
	return true;
}

void
om_ledger_write(OmLedger *ledger)
{
	const LedgerLayout *layout = &layouts[ledger->kind];
	Datum values[LEDGER_MAX_COLUMNS] = {0};
	bool isnull[LEDGER_MAX_COLUMNS] = {false};
	bool replace[LEDGER_MAX_COLUMNS] = {false};

	replace[layout->total - 1] = replace[layout->reserved - 1] = replace[layout->updated_at - 1] =
		true;
	values[layout->updated_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	OM_FAULT_POINT("ledger/before-write");
	for (int i = 0; i < ledger->count; i++)
	{
		OmLedgerEntry *entry = &ledger->entries[i];

		if (!entry->changed)
			continue;
		values[layout->total - 1] = amount_datum(ledger, entry->total);
		values[layout->reserved - 1] = amount_datum(ledger, entry->reserved);
		om_table_update(ledger->table, entry->row, values, isnull, replace, LEDGER_MAX_COLUMNS);
		entry->changed = false;
		OM_FAULT_POINT("ledger/row-written");
	}
	OM_FAULT_POINT("ledger/written");
	om_table_close(ledger->table);
}
