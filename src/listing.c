/*
 * listing.c
 *		Lists orders, month by month.
 *
 * The months are walked one after the other, each by one index scan, until
 * there are enough orders: a page costs the same wherever it is, and however
 * many months there are.  A plan over all partitions would set up a scan of
 * each of them, and a spoilt statistic could change it.
 *
 * No index knows the status, because changes of it would then no longer be HOT
 * updates.  Who asks for a status reads the orders of other states on the way.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "nodes/primnodes.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "listing.h"
#include "orders.h"
#include "relations.h"
#include "tables.h"
#include "uuid7.h"

static const AttrNumber listed[OM_LISTING_NCOLUMNS] = {
	ORDER_ID,      ORDER_CREATED_AT, ORDER_CUSTOMER_ID, ORDER_REF,       ORDER_STATUS,
	ORDER_REASONS, ORDER_TOTAL,      ORDER_METADATA,    ORDER_UPDATED_AT};

typedef struct Kept
{
	TimestampTz created_at;
	pg_uuid_t id;
	HeapTuple row;
} Kept;

/* An index of ours that begins with what is asked for. */
typedef struct Access
{
	int ncolumns;
	AttrNumber columns[3];
	bool knows_time; /* its second column is created_at */
} Access;

static const Access by_customer = {3, {ORDER_CUSTOMER_ID, ORDER_CREATED_AT, ORDER_ID}, true};
static const Access by_reference = {1, {ORDER_REF}, false};

typedef struct Walk
{
	const OmListing *listing;
	TimestampTz first; /* created_at lies between these, both included */
	TimestampTz last;
	TimestampTz after_time;
	const Access *access; /* NULL: the index of the primary key */
	const char *key;      /* value of the first column */
	int64 found;
	List *kept; /* of Kept: those of a month that are still to be put in order */
	OmListingVisitor visit;
	void *arg;
} Walk;

static void
choose_access(Walk *walk)
{
	if (walk->listing->order_ref != NULL)
	{
		walk->access = &by_reference;
		walk->key = walk->listing->order_ref;
	}
	else if (walk->listing->customer_id != NULL)
	{
		walk->access = &by_customer;
		walk->key = walk->listing->customer_id;
	}
}

static void
choose_range(Walk *walk)
{
	const OmListing *listing = walk->listing;

	walk->first = listing->since;
	walk->last = TIMESTAMP_NOT_FINITE(listing->until) ? listing->until : listing->until - 1;
	if (listing->after == NULL)
		return;
	walk->after_time = om_uuid7_time(listing->after);
	walk->last = Min(walk->last, walk->after_time);
}

/* Every row with a value of the first column is in it. */
static bool
is_complete(Relation index)
{
	List *predicate = RelationGetIndexPredicate(index);
	NullTest *test = list_length(predicate) == 1 ? linitial(predicate) : NULL;

	return predicate == NIL ||
		   (test != NULL && IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL);
}

static bool
is_of_access(Relation index, const Access *access)
{
	const Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indnkeyatts == access->ncolumns &&
		   memcmp(form->indkey.values, access->columns, sizeof(int16) * access->ncolumns) == 0 &&
		   index->rd_rel->relam == BTREE_AM_OID && is_complete(index);
}

/* An index of a partition; NULL: somebody has dropped it. */
static Relation
open_index(Relation rel, const Access *access)
{
	List *indexes = access == NULL ? NIL : RelationGetIndexList(rel);
	Relation found = NULL;
	ListCell *cell;

	foreach(cell, indexes)
	{
		found = index_open(lfirst_oid(cell), AccessShareLock);
		if (is_of_access(found, access))
			break;
		index_close(found, NoLock);
		found = NULL;
	}
	list_free(indexes);
	return found;
}

static bool
is_text(TupleTableSlot *slot, AttrNumber column, const char *wanted)
{
	bool isnull;
	Datum value;
	text *word;

	if (wanted == NULL)
		return true;
	value = slot_getattr(slot, column, &isnull);
	if (isnull)
		return false;
	word = DatumGetTextPP(value);
	return VARSIZE_ANY_EXHDR(word) == strlen(wanted) &&
		   memcmp(VARDATA_ANY(word), wanted, VARSIZE_ANY_EXHDR(word)) == 0;
}

/* Orders of one time are listed in the order of their ids. */
static bool
comes_after(const Walk *walk, TupleTableSlot *slot)
{
	bool isnull;
	Datum id;

	if (walk->listing->after == NULL ||
		DatumGetTimestampTz(slot_getattr(slot, ORDER_CREATED_AT, &isnull)) < walk->after_time)
		return true;
	id = slot_getattr(slot, ORDER_ID, &isnull);
	return memcmp(DatumGetUUIDP(id), walk->listing->after, sizeof(pg_uuid_t)) < 0;
}

static bool
is_in_range(const Walk *walk, TupleTableSlot *slot)
{
	bool isnull;
	TimestampTz at = DatumGetTimestampTz(slot_getattr(slot, ORDER_CREATED_AT, &isnull));

	return at >= walk->first && at <= walk->last;
}

static bool
is_admitted(TupleTableSlot *slot, const OmListing *listing)
{
	bool isnull;

	return listing->admits == NULL || listing->admits(slot_getattr(slot, ORDER_STATUS, &isnull));
}

static bool
is_wanted(const Walk *walk, TupleTableSlot *slot)
{
	const OmListing *listing = walk->listing;

	return is_text(slot, ORDER_STATUS, listing->status) && is_admitted(slot, listing) &&
		   is_text(slot, ORDER_CUSTOMER_ID, listing->customer_id) &&
		   is_text(slot, ORDER_REF, listing->order_ref) && is_in_range(walk, slot) &&
		   comes_after(walk, slot);
}

static void
show(Walk *walk, TupleTableSlot *slot)
{
	Datum values[OM_LISTING_NCOLUMNS];
	bool isnull[OM_LISTING_NCOLUMNS];

	for (int i = 0; i < OM_LISTING_NCOLUMNS; i++)
		values[i] = slot_getattr(slot, listed[i], &isnull[i]);
	walk->found++;
	walk->visit(values, isnull, walk->arg);
}

/* The index of references does not know the time. */
static void
keep(Walk *walk, TupleTableSlot *slot)
{
	Kept *kept = palloc(sizeof(Kept));
	bool isnull;

	kept->created_at = DatumGetTimestampTz(slot_getattr(slot, ORDER_CREATED_AT, &isnull));
	kept->id = *DatumGetUUIDP(slot_getattr(slot, ORDER_ID, &isnull));
	kept->row = ExecCopySlotHeapTuple(slot);
	walk->kept = lappend(walk->kept, kept);
}

static int
compare_kept(const ListCell *a, const ListCell *b)
{
	const Kept *left = lfirst(a);
	const Kept *right = lfirst(b);

	if (left->created_at != right->created_at)
		return left->created_at < right->created_at ? -1 : 1;
	return memcmp(&left->id, &right->id, sizeof(pg_uuid_t));
}

static void
show_kept(Walk *walk, TupleTableSlot *slot)
{
	ListCell *cell;

	list_sort(walk->kept, compare_kept);
	foreach(cell, walk->kept)
	{
		ExecForceStoreHeapTuple(((Kept *) lfirst(cell))->row, slot, true /* shouldFree */);
		show(walk, slot);
	}
	list_free_deep(walk->kept);
	walk->kept = NIL;
}

static int
make_keys(const Walk *walk, Relation index, const Access *access, ScanKeyData *keys)
{
	int n = 0;

	if (access != NULL)
		ScanKeyEntryInitialize(&keys[n++], 0, 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[0], F_TEXTEQ, CStringGetTextDatum(walk->key));
	if (access != NULL && !access->knows_time)
		return n;
	ScanKeyInit(&keys[n], n + 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(walk->first));
	ScanKeyInit(&keys[n + 1], n + 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(walk->last));
	return n + 2;
}

static void
scan_index(Walk *walk, OmTable *table, Relation index, const Access *access)
{
	ScanKeyData keys[3];
	int nkeys = make_keys(walk, index, access, keys);
	IndexScanDesc scan = om_index_beginscan(table->rel, index, GetActiveSnapshot(), nkeys);

	index_rescan(scan, keys, nkeys, NULL, 0);
	while (walk->found < walk->listing->limit &&
		   index_getnext_slot(scan, BackwardScanDirection, table->found))
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_wanted(walk, table->found))
			continue;
		if (walk->listing->oldest_first)
			keep(walk, table->found);
		else
			show(walk, table->found);
	}
	index_endscan(scan);
	show_kept(walk, table->found);
	ExecClearTuple(table->found);
}

static void
scan_month(Walk *walk, Oid relid)
{
	OmTable *table = om_table_open(relid, AccessShareLock);
	Relation index = open_index(table->rel, walk->access);

	if (index == NULL)
		scan_index(walk, table, table->key, NULL);
	else
	{
		scan_index(walk, table, index, walk->access);
		index_close(index, NoLock);
	}
	om_table_close(table);
}

void
om_listing_walk(const OmListing *listing, OmListingVisitor visit, void *arg)
{
	Walk walk = {.listing = listing, .visit = visit, .arg = arg};
	List *months;

	choose_access(&walk);
	choose_range(&walk);
	if (walk.first > walk.last)
		return;
	months = om_month_leaves_between(om_relation_get("orders"), walk.first, walk.last);
	for (int i = 0; i < list_length(months) && walk.found < listing->limit; i++)
		scan_month(&walk,
				   list_nth_oid(months, listing->oldest_first ? i : list_length(months) - 1 - i));
	list_free(months);
}
