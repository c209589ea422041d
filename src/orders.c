/*
 * orders.c
 *		Reads and writes orders by id.
 *
 * The month of an order is in its id, so one leaf is opened and one index
 * probed however many months there are.  Customer, lines and total of an order
 * never change; only its state does, by HOT updates.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "arrays.h"
#include "coldrows.h"
#include "clock.h"
#include "money.h"
#include "months.h"
#include "orders.h"
#include "relations.h"
#include "uuid7.h"

/* Columns of table order_lines */
enum
{
	LINE_ORDER_ID = 1,
	LINE_CREATED_AT,
	LINE_NO,
	LINE_PRODUCT_ID,
	LINE_QUANTITY,
	LINE_UNIT_PRICE,
	LINE_NCOLUMNS = LINE_UNIT_PRICE
};

/* One month of orders and order_lines. */
typedef struct OmOrderLeaf
{
	OmOrderTables *tables;
	TimestampTz begin;
	OmTable *orders;
	OmTable *lines; /* opened when first needed */
} OmOrderLeaf;

typedef struct Known
{
	pg_uuid_t id;
	OmOrder *order;
	char status; /* of the entry in the hash table */
} Known;

/* Most of an id is random. */
static inline uint32
hash_id(const pg_uuid_t *id)
{
	uint32 tail;

	memcpy(&tail, id->data + sizeof(pg_uuid_t) - sizeof(tail), sizeof(tail));
	return tail;
}

static inline bool
ids_are_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t)) == 0;
}

#define SH_PREFIX known
#define SH_ELEMENT_TYPE Known
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(table, key) hash_id(&(key))
#define SH_EQUAL(table, a, b) ids_are_equal(&(a), &(b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

int
om_order_compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t));
}

OmOrderTables *
om_orders_open(LOCKMODE lockmode)
{
	OmOrderTables *tables = palloc0(sizeof(OmOrderTables));

	tables->lockmode = lockmode;
	return tables;
}

OmOrderTables *
om_orders_open_batch(int expected)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);

	tables->known = known_create(CurrentMemoryContext, expected, NULL);
	return tables;
}

void
om_orders_close(OmOrderTables *tables)
{
	ListCell *cell;

	Assert(tables->changed == NIL);
	foreach(cell, tables->leaves)
	{
		OmOrderLeaf *leaf = lfirst(cell);

		om_table_close(leaf->orders);
		if (leaf->lines != NULL)
			om_table_close(leaf->lines);
	}
	list_free_deep(tables->leaves);
	if (tables->known != NULL)
		known_destroy(tables->known);
	pfree(tables);
}

/* With make, a missing month is made; without, it means that there is nothing. */
static OmOrderLeaf *
get_leaf(OmOrderTables *tables, TimestampTz at, bool make)
{
	TimestampTz begin = om_months_begin(at);
	OmOrderLeaf *leaf;
	ListCell *cell;
	Oid relid;

	foreach(cell, tables->leaves)
	{
		leaf = lfirst(cell);
		if (leaf->begin == begin)
			return leaf;
	}
	relid = make ? om_months_leaf("orders", at) : om_month_leaf(om_relation_get("orders"), at);
	if (!OidIsValid(relid))
		return NULL;
	leaf = palloc0(sizeof(OmOrderLeaf));
	leaf->tables = tables;
	leaf->begin = begin;
	leaf->orders = om_table_open(relid, tables->lockmode);
	tables->leaves = lappend(tables->leaves, leaf);
	return leaf;
}

static OmTable *
get_lines(OmOrderTables *tables, OmOrderLeaf *leaf)
{
	if (leaf->lines == NULL)
		leaf->lines = om_table_open(om_months_leaf("order_lines", leaf->begin), tables->lockmode);
	return leaf->lines;
}

static void
insert_lines(OmTable *lines, const OmNewOrder *order, TimestampTz created_at)
{
	Datum values[LINE_NCOLUMNS];
	bool isnull[LINE_NCOLUMNS] = {false};

	values[LINE_ORDER_ID - 1] = UUIDPGetDatum(&order->id);
	values[LINE_CREATED_AT - 1] = TimestampTzGetDatum(created_at);
	for (int i = 0; i < order->nlines; i++)
	{
		const OmNewLine *line = &order->lines[i];

		values[LINE_NO - 1] = Int32GetDatum(i + 1);
		values[LINE_PRODUCT_ID - 1] = line->product_id;
		values[LINE_QUANTITY - 1] = Int32GetDatum(line->quantity);
		values[LINE_UNIT_PRICE - 1] = NumericGetDatum(om_money_to_numeric(line->unit_price));
		om_table_insert_later(lines, values, isnull, LINE_NCOLUMNS);
	}
}

void
om_order_insert(OmOrderTables *tables, const OmNewOrder *order, int64 lxid)
{
	TimestampTz created_at = om_uuid7_time(&order->id);
	OmOrderLeaf *leaf = get_leaf(tables, created_at, true /* make */);
	Datum values[ORDER_NCOLUMNS];
	bool isnull[ORDER_NCOLUMNS] = {false};

	values[ORDER_ID - 1] = UUIDPGetDatum(&order->id);
	values[ORDER_CREATED_AT - 1] = TimestampTzGetDatum(created_at);
	values[ORDER_CUSTOMER_ID - 1] = order->customer_id;
	values[ORDER_REF - 1] = order->order_ref;
	isnull[ORDER_REF - 1] = order->order_ref == (Datum) 0;
	values[ORDER_STATUS - 1] = CStringGetTextDatum(
		om_status_names[order->imported ? OM_STATUS_SHIPPED : OM_STATUS_CAPTURED]);
	values[ORDER_SETTLED - 1] = Int16GetDatum(order->imported ? OM_VERDICTS_OF_IMPORT : 0);
	values[ORDER_ROUND - 1] = Int16GetDatum(0);
	values[ORDER_REASONS - 1] = PointerGetDatum(construct_empty_array(TEXTOID));
	values[ORDER_TOTAL - 1] = NumericGetDatum(om_money_to_numeric(order->total));
	values[ORDER_METADATA - 1] = JsonbPGetDatum(order->metadata);
	values[ORDER_TRAIL - 1] = PointerGetDatum(om_int8_array(&lxid, 1));
	values[ORDER_UPDATED_AT - 1] =
		TimestampTzGetDatum(order->imported ? om_clock_now() : created_at);
	om_table_insert_later(leaf->orders, values, isnull, ORDER_NCOLUMNS);
	insert_lines(get_lines(tables, leaf), order, created_at);
}

static uint32
reasons_from_array(ArrayType *array)
{
	Datum *words;
	int count;
	uint32 reasons = 0;

	if (ARR_NDIM(array) == 0)
		return 0;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &words, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		text *word = DatumGetTextPP(words[i]);
		int reason = om_names_find(om_reason_names, OM_REASON_COUNT, VARDATA_ANY(word),
								   VARSIZE_ANY_EXHDR(word));

		if (reason >= 0)
			reasons |= 1u << reason;
	}
	return reasons;
}

static ArrayType *
reasons_to_array(uint32 reasons)
{
	Datum words[OM_REASON_COUNT];
	int count = 0;

	for (int reason = 0; reason < OM_REASON_COUNT; reason++)
	{
		if (reasons & (1u << reason))
			words[count++] = CStringGetTextDatum(om_reason_names[reason]);
	}
	return construct_array(words, count, TEXTOID, -1, false, TYPALIGN_INT);
}

static void
read_state(OmOrder *order, HeapTuple row, const Datum *values)
{
	ArrayType *trail = DatumGetArrayTypeP(values[ORDER_TRAIL - 1]);
	text *word = DatumGetTextPP(values[ORDER_STATUS - 1]);
	int status =
		om_names_find(om_status_names, OM_STATUS_COUNT, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));

	if (status < 0)
		elog(ERROR, "an order has an unknown status");
	order->row = row;
	order->status = (OmStatus) status;
	order->settled = DatumGetInt16(values[ORDER_SETTLED - 1]);
	order->round = DatumGetInt16(values[ORDER_ROUND - 1]);
	order->reasons = reasons_from_array(DatumGetArrayTypeP(values[ORDER_REASONS - 1]));
	order->ntrail = ArrayGetNItems(ARR_NDIM(trail), ARR_DIMS(trail));
	order->trail = palloc(sizeof(int64) * (order->ntrail + 1));
	memcpy(order->trail, ARR_DATA_PTR(trail), sizeof(int64) * order->ntrail);
	order->updated_at = DatumGetTimestampTz(values[ORDER_UPDATED_AT - 1]);
}

/* The columns of a row, which must not be null where ours are not. */
static Datum *
deform(const OmOrderLeaf *leaf, HeapTuple row)
{
	TupleDesc desc = RelationGetDescr(leaf->orders->rel);
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *isnull = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(row, desc, values, isnull);
	for (int i = 0; i < ORDER_NCOLUMNS; i++)
	{
		if (isnull[i] && i != ORDER_REF - 1)
			elog(ERROR, "column %d of an order is null", i + 1);
	}
	pfree(isnull);
	return values;
}

static void
read_head(OmOrder *order, const Datum *values)
{
	order->id = *DatumGetUUIDP(values[ORDER_ID - 1]);
	order->created_at = DatumGetTimestampTz(values[ORDER_CREATED_AT - 1]);
	order->customer_id = TextDatumGetCString(values[ORDER_CUSTOMER_ID - 1]);
	order->total = om_money_from_datum(values[ORDER_TOTAL - 1]);
}

static OmOrder *
read_order(OmOrderLeaf *leaf, HeapTuple row)
{
	OmOrder *order = palloc0(sizeof(OmOrder));
	Datum *values = deform(leaf, row);

	order->leaf = leaf;
	read_head(order, values);
	read_state(order, row, values);
	pfree(values);
	return order;
}

static void
read_state_again(OmOrder *order, HeapTuple row)
{
	Datum *values = deform(order->leaf, row);

	read_state(order, row, values);
	pfree(values);
}

static OmOrder *
find_known(const OmOrderTables *tables, const pg_uuid_t *id)
{
	Known *entry = tables->known == NULL ? NULL : known_lookup(tables->known, *id);

	return entry == NULL ? NULL : entry->order;
}

static void
remember(OmOrderTables *tables, OmOrder *order)
{
	bool found;

	if (tables->known != NULL)
		known_insert(tables->known, order->id, &found)->order = order;
}

OmOrder *
om_order_find(OmOrderTables *tables, const pg_uuid_t *id, Snapshot snapshot)
{
	TimestampTz created_at = om_uuid7_time(id);
	OmOrder *order = find_known(tables, id);
	OmOrderLeaf *leaf = order != NULL ? NULL : get_leaf(tables, created_at, false /* make */);
	Datum key[2] = {TimestampTzGetDatum(created_at), UUIDPGetDatum(id)};
	HeapTuple row = leaf == NULL ? NULL : om_table_find(leaf->orders, key, snapshot);

	if (row != NULL)
	{
		order = read_order(leaf, row);
		remember(tables, order);
	}
	return order;
}

OmOrder *
om_order_find_cold(const pg_uuid_t *id)
{
	TimestampTz created_at = om_uuid7_time(id);
	Datum key[2] = {TimestampTzGetDatum(created_at), UUIDPGetDatum(id)};
	OmColdScan *scan = om_cold_open("orders", created_at);
	OmOrder *order = NULL;
	Datum *values;
	bool *isnull;

	if (scan == NULL)
		return NULL;
	om_cold_seek(scan, key, 2);
	if (om_cold_next(scan, &values, &isnull))
	{
		order = palloc0(sizeof(OmOrder));
		order->cold = true;
		read_head(order, values);
		read_state(order, NULL, values);
		if (!isnull[ORDER_REF - 1])
			order->cold_ref = TextDatumGetCString(values[ORDER_REF - 1]);
		order->cold_metadata = DatumGetJsonbP(values[ORDER_METADATA - 1]);
	}
	om_cold_close(scan);
	return order;
}

static HeapTuple
lock_row(OmOrderLeaf *leaf, const pg_uuid_t *id, TimestampTz created_at)
{
	Datum key[2] = {TimestampTzGetDatum(created_at), UUIDPGetDatum(id)};

	return om_table_lock(leaf->orders, key);
}

OmOrder *
om_order_lock(OmOrderTables *tables, const pg_uuid_t *id)
{
	TimestampTz created_at = om_uuid7_time(id);
	OmOrderLeaf *leaf = get_leaf(tables, created_at, false /* make */);
	HeapTuple row = leaf == NULL ? NULL : lock_row(leaf, id, created_at);

	return row == NULL ? NULL : read_order(leaf, row);
}

void
om_order_relock(OmOrder *order)
{
	HeapTuple row = lock_row(order->leaf, &order->id, order->created_at);

	if (row == NULL)
		elog(ERROR, "an order has vanished");
	read_state_again(order, row);
	order->locked = order->leaf->tables->known != NULL;
}

bool
om_order_relock_if_free(OmOrder *order)
{
	HeapTuple newest = NULL;
	OmRowLock lock = OM_ROW_LOCKED;

	if (!order->locked)
		lock = om_table_lock_version(order->leaf->orders, &order->row->t_self, &newest);
	if (lock == OM_ROW_BUSY)
		return false;
	if (lock == OM_ROW_GONE)
		elog(ERROR, "an order has vanished");
	if (lock == OM_ROW_CHANGED)
		read_state_again(order, newest);
	order->locked = order->leaf->tables->known != NULL;
	return true;
}

static int
compare_needs(const void *a, const void *b)
{
	return strcmp(((const OmNeed *) a)->product_id, ((const OmNeed *) b)->product_id);
}

int
om_needs_sum(OmNeed *needs, int count)
{
	int nproducts = 0;

	qsort(needs, count, sizeof(OmNeed), compare_needs);
	for (int i = 0; i < count; i++)
	{
		if (nproducts > 0 && compare_needs(&needs[nproducts - 1], &needs[i]) == 0)
			needs[nproducts - 1].quantity += needs[i].quantity;
		else
			needs[nproducts++] = needs[i];
	}
	return nproducts;
}

static void
add_need(OmOrder *order, Datum product_id, Datum quantity)
{
	OmNeed *need;

	order->needs = order->needs == NULL
					 ? palloc(sizeof(OmNeed))
					 : repalloc(order->needs, sizeof(OmNeed) * (order->nneeds + 1));
	need = &order->needs[order->nneeds++];
	need->product_id = TextDatumGetCString(product_id);
	need->quantity = DatumGetInt32(quantity);
	need->stock = NULL;
}

static void
add_need_of_row(OmTable *lines, HeapTuple row, void *arg)
{
	add_need(arg, om_row_get_not_null(lines, row, LINE_PRODUCT_ID),
			 om_row_get_not_null(lines, row, LINE_QUANTITY));
}

void
om_order_load_needs(OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	Datum key[2] = {TimestampTzGetDatum(order->created_at), UUIDPGetDatum(&order->id)};

	if (order->needs != NULL)
		return;
	om_table_scan(get_lines(tables, order->leaf), key, 2, snapshot, add_need_of_row, order);
	order->nneeds = om_needs_sum(order->needs, order->nneeds);
}

/* ---------- many at a time ---------- */

/* Fewer are found faster one by one. */
#define WALK_FROM 4

/* Sorted, each once. */
static pg_uuid_t *
sort_ids(const pg_uuid_t *ids, int *count)
{
	pg_uuid_t *sorted = palloc(sizeof(pg_uuid_t) * Max(*count, 1));
	int kept = 0;

	memcpy(sorted, ids, sizeof(pg_uuid_t) * *count);
	qsort(sorted, *count, sizeof(pg_uuid_t), om_order_compare_ids);
	for (int i = 0; i < *count; i++)
	{
		if (i == 0 || !ids_are_equal(&sorted[i], &sorted[kept - 1]))
			sorted[kept++] = sorted[i];
	}
	*count = kept;
	return sorted;
}

/* Those orders of one month that are not known yet. */
static void
read_orders_of(OmOrderLeaf *leaf, const pg_uuid_t *ids, int count)
{
	OmTableWalk *walk = om_table_walk_begin(leaf->orders, GetActiveSnapshot());

	for (int i = 0; i < count; i++)
	{
		Datum key[2] = {TimestampTzGetDatum(om_uuid7_time(&ids[i])), UUIDPGetDatum(&ids[i])};
		TupleTableSlot *slot;

		if (find_known(leaf->tables, &ids[i]) != NULL)
			continue;
		slot = om_table_walk_next(walk, key);
		if (slot != NULL)
			remember(leaf->tables, read_order(leaf, ExecCopySlotHeapTuple(slot)));
	}
	om_table_walk_end(walk);
}

static void
read_needs_of(OmOrderLeaf *leaf, const pg_uuid_t *ids, int count)
{
	OmTableWalk *walk = om_table_walk_begin(get_lines(leaf->tables, leaf), GetActiveSnapshot());

	for (int i = 0; i < count; i++)
	{
		OmOrder *order = find_known(leaf->tables, &ids[i]);
		Datum key[2] = {TimestampTzGetDatum(om_uuid7_time(&ids[i])), UUIDPGetDatum(&ids[i])};
		TupleTableSlot *slot;

		if (order == NULL || order->needs != NULL)
			continue;
		while ((slot = om_table_walk_next(walk, key)) != NULL)
		{
			slot_getsomeattrs(slot, LINE_QUANTITY);
			add_need(order, slot->tts_values[LINE_PRODUCT_ID - 1],
					 slot->tts_values[LINE_QUANTITY - 1]);
		}
		order->nneeds = om_needs_sum(order->needs, order->nneeds);
	}
	om_table_walk_end(walk);
}

static int
count_of_month(const OmOrderLeaf *leaf, const pg_uuid_t *ids, int count)
{
	TimestampTz end = om_months_next(leaf->begin);
	int n = 0;

	while (n < count && om_uuid7_time(&ids[n]) < end)
		n++;
	return n;
}

void
om_orders_read(OmOrderTables *tables, const pg_uuid_t *ids, int count, bool with_needs)
{
	pg_uuid_t *sorted;
	int n;

	if (count < WALK_FROM)
		return;
	sorted = sort_ids(ids, &count);
	for (int done = 0; done < count; done += n)
	{
		OmOrderLeaf *leaf = get_leaf(tables, om_uuid7_time(&sorted[done]), false /* make */);

		n = leaf == NULL ? 1 : count_of_month(leaf, sorted + done, count - done);
		if (leaf == NULL)
			continue;
		read_orders_of(leaf, sorted + done, n);
		if (with_needs)
			read_needs_of(leaf, sorted + done, n);
	}
	pfree(sorted);
}

/* ---------- state ---------- */

void
om_order_add_to_trail(OmOrder *order, int64 lxid)
{
	for (int i = 0; i < order->ntrail; i++)
	{
		if (order->trail[i] == lxid)
			return;
	}
	order->trail = repalloc(order->trail, sizeof(int64) * (order->ntrail + 1));
	order->trail[order->ntrail++] = lxid;
}

static void
add_line(OmTable *lines, HeapTuple row, void *arg)
{
	List **list = arg;
	OmLine *line = palloc(sizeof(OmLine));

	line->line_no = DatumGetInt32(om_row_get_not_null(lines, row, LINE_NO));
	line->product_id = TextDatumGetCString(om_row_get_not_null(lines, row, LINE_PRODUCT_ID));
	line->quantity = DatumGetInt32(om_row_get_not_null(lines, row, LINE_QUANTITY));
	line->unit_price = om_money_from_datum(om_row_get_not_null(lines, row, LINE_UNIT_PRICE));
	*list = lappend(*list, line);
}

/* In the order of their keys, as they are in the file. */
static List *
cold_lines(const OmOrder *order, const Datum *key)
{
	OmColdScan *scan = om_cold_open("order_lines", order->created_at);
	List *lines = NIL;
	Datum *values;
	bool *isnull;

	if (scan == NULL)
		return NIL;
	om_cold_seek(scan, key, 2);
	while (om_cold_next(scan, &values, &isnull))
	{
		OmLine *line = palloc(sizeof(OmLine));

		line->line_no = DatumGetInt32(values[LINE_NO - 1]);
		line->product_id = TextDatumGetCString(values[LINE_PRODUCT_ID - 1]);
		line->quantity = DatumGetInt32(values[LINE_QUANTITY - 1]);
		line->unit_price = om_money_from_datum(values[LINE_UNIT_PRICE - 1]);
		lines = lappend(lines, line);
	}
	om_cold_close(scan);
	return lines;
}

List *
om_order_lines(OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	Datum key[2] = {TimestampTzGetDatum(order->created_at), UUIDPGetDatum(&order->id)};
	List *lines = NIL;

	if (order->cold)
		return cold_lines(order, key);
	om_table_scan(get_lines(tables, order->leaf), key, 2, snapshot, add_line, &lines);
	return lines;
}

char *
om_order_ref(OmOrder *order)
{
	bool isnull;
	Datum value;

	if (order->cold)
		return order->cold_ref;
	value = om_row_get(order->leaf->orders, order->row, ORDER_REF, &isnull);
	return isnull ? NULL : TextDatumGetCString(value);
}

Jsonb *
om_order_metadata(OmOrder *order)
{
	if (order->cold)
		return order->cold_metadata;
	return DatumGetJsonbPCopy(om_row_get_not_null(order->leaf->orders, order->row, ORDER_METADATA));
}

bool
om_order_is_own(const OmOrder *order)
{
	return !order->cold &&
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(order->row->t_data));
}

static void
write_order(OmOrder *order)
{
	OmTable *table = order->leaf->orders;
	Datum values[ORDER_NCOLUMNS] = {0};
	bool isnull[ORDER_NCOLUMNS] = {false};
	bool replace[ORDER_NCOLUMNS] = {false};

	values[ORDER_STATUS - 1] = CStringGetTextDatum(om_status_names[order->status]);
	values[ORDER_SETTLED - 1] = Int16GetDatum(order->settled);
	values[ORDER_ROUND - 1] = Int16GetDatum(order->round);
	values[ORDER_REASONS - 1] = PointerGetDatum(reasons_to_array(order->reasons));
	values[ORDER_TRAIL - 1] = PointerGetDatum(om_int8_array(order->trail, order->ntrail));
	/* Its events are looked for up to this, so it does not follow a clock that steps back. */
	values[ORDER_UPDATED_AT - 1] = TimestampTzGetDatum(Max(om_clock_now(), order->updated_at));
	replace[ORDER_STATUS - 1] = replace[ORDER_SETTLED - 1] = replace[ORDER_ROUND - 1] =
		replace[ORDER_REASONS - 1] = replace[ORDER_TRAIL - 1] = replace[ORDER_UPDATED_AT - 1] =
			true;
	om_table_update(table, order->row, values, isnull, replace, ORDER_NCOLUMNS);
}

void
om_order_write(OmOrder *order)
{
	OmOrderTables *tables = order->leaf->tables;

	if (tables->known == NULL)
		write_order(order);
	else if (!order->changed)
		tables->changed = lappend(tables->changed, order);
	order->changed = tables->known != NULL;
}

void
om_orders_write(OmOrderTables *tables)
{
	ListCell *cell;

	foreach(cell, tables->changed)
	{
		OmOrder *order = lfirst(cell);

		write_order(order);
		order->changed = order->locked = false;
	}
	list_free(tables->changed);
	tables->changed = NIL;
}
