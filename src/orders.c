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
#include "utils/timestamp.h"

#include "money.h"
#include "months.h"
#include "orders.h"
#include "relations.h"
#include "uuid7.h"

/* Columns of table orders */
enum
{
	ORDER_ID = 1,
	ORDER_CREATED_AT,
	ORDER_CUSTOMER_ID,
	ORDER_REF,
	ORDER_STATUS,
	ORDER_SETTLED,
	ORDER_ROUND,
	ORDER_REASONS,
	ORDER_TOTAL,
	ORDER_METADATA,
	ORDER_TRAIL,
	ORDER_UPDATED_AT,
	ORDER_NCOLUMNS = ORDER_UPDATED_AT
};

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
	TimestampTz begin;
	OmTable *orders;
	OmTable *lines; /* opened when first needed */
} OmOrderLeaf;

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

void
om_orders_close(OmOrderTables *tables)
{
	ListCell *cell;

	foreach(cell, tables->leaves)
	{
		OmOrderLeaf *leaf = lfirst(cell);

		om_table_close(leaf->orders);
		if (leaf->lines != NULL)
			om_table_close(leaf->lines);
	}
	list_free_deep(tables->leaves);
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

static ArrayType *
make_trail(const int64 *lxids, int count)
{
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(lxids[i]);
	return construct_array(elements, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						   TYPALIGN_DOUBLE);
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
	values[ORDER_STATUS - 1] = CStringGetTextDatum(om_status_names[OM_STATUS_CAPTURED]);
	values[ORDER_SETTLED - 1] = Int16GetDatum(0);
	values[ORDER_ROUND - 1] = Int16GetDatum(0);
	values[ORDER_REASONS - 1] = PointerGetDatum(construct_empty_array(TEXTOID));
	values[ORDER_TOTAL - 1] = NumericGetDatum(om_money_to_numeric(order->total));
	values[ORDER_METADATA - 1] = JsonbPGetDatum(order->metadata);
	values[ORDER_TRAIL - 1] = PointerGetDatum(make_trail(&lxid, 1));
	values[ORDER_UPDATED_AT - 1] = TimestampTzGetDatum(created_at);
	om_table_insert_later(leaf->orders, values, isnull, ORDER_NCOLUMNS);
	insert_lines(get_lines(tables, leaf), order, created_at);
}

static uint32
reasons_from_array(ArrayType *array)
{
	Datum *words;
	int count;
	uint32 reasons = 0;

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
read_state(OmOrder *order, HeapTuple row)
{
	OmTable *table = order->leaf->orders;
	ArrayType *trail;
	text *word = DatumGetTextPP(om_row_get_not_null(table, row, ORDER_STATUS));
	int status =
		om_names_find(om_status_names, OM_STATUS_COUNT, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));

	if (status < 0)
		elog(ERROR, "an order has an unknown status");
	order->row = row;
	order->status = (OmStatus) status;
	order->settled = DatumGetInt16(om_row_get_not_null(table, row, ORDER_SETTLED));
	order->round = DatumGetInt16(om_row_get_not_null(table, row, ORDER_ROUND));
	order->reasons =
		reasons_from_array(DatumGetArrayTypeP(om_row_get_not_null(table, row, ORDER_REASONS)));
	trail = DatumGetArrayTypeP(om_row_get_not_null(table, row, ORDER_TRAIL));
	order->ntrail = ArrayGetNItems(ARR_NDIM(trail), ARR_DIMS(trail));
	order->trail = palloc(sizeof(int64) * Max(order->ntrail, 1));
	memcpy(order->trail, ARR_DATA_PTR(trail), sizeof(int64) * order->ntrail);
	order->updated_at = DatumGetTimestampTz(om_row_get_not_null(table, row, ORDER_UPDATED_AT));
}

static OmOrder *
read_order(OmOrderLeaf *leaf, HeapTuple row)
{
	OmOrder *order = palloc0(sizeof(OmOrder));
	OmTable *table = leaf->orders;

	order->leaf = leaf;
	order->id = *DatumGetUUIDP(om_row_get_not_null(table, row, ORDER_ID));
	order->created_at = DatumGetTimestampTz(om_row_get_not_null(table, row, ORDER_CREATED_AT));
	order->customer_id = TextDatumGetCString(om_row_get_not_null(table, row, ORDER_CUSTOMER_ID));
	order->total = om_money_from_datum(om_row_get_not_null(table, row, ORDER_TOTAL));
	read_state(order, row);
	return order;
}

OmOrder *
om_order_find(OmOrderTables *tables, const pg_uuid_t *id, Snapshot snapshot)
{
	TimestampTz created_at = om_uuid7_time(id);
	OmOrderLeaf *leaf = get_leaf(tables, created_at, false /* make */);
	Datum key[2] = {TimestampTzGetDatum(created_at), UUIDPGetDatum(id)};
	HeapTuple row = leaf == NULL ? NULL : om_table_find(leaf->orders, key, snapshot);

	return row == NULL ? NULL : read_order(leaf, row);
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
	read_state(order, row);
}

bool
om_order_relock_if_free(OmOrder *order)
{
	Datum key[2] = {TimestampTzGetDatum(order->created_at), UUIDPGetDatum(&order->id)};
	bool busy;
	HeapTuple row = om_table_lock_if_free(order->leaf->orders, key, &busy);

	if (busy)
		return false;
	if (row == NULL)
		elog(ERROR, "an order has vanished");
	read_state(order, row);
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
add_need(OmTable *lines, HeapTuple row, void *arg)
{
	OmOrder *order = arg;
	OmNeed *need;

	order->needs = order->needs == NULL
					 ? palloc(sizeof(OmNeed))
					 : repalloc(order->needs, sizeof(OmNeed) * (order->nneeds + 1));
	need = &order->needs[order->nneeds++];
	need->product_id = TextDatumGetCString(om_row_get_not_null(lines, row, LINE_PRODUCT_ID));
	need->quantity = DatumGetInt32(om_row_get_not_null(lines, row, LINE_QUANTITY));
}

void
om_order_load_needs(OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	Datum key[2] = {TimestampTzGetDatum(order->created_at), UUIDPGetDatum(&order->id)};

	if (order->needs != NULL)
		return;
	om_table_scan(get_lines(tables, order->leaf), key, 2, snapshot, add_need, order);
	order->nneeds = om_needs_sum(order->needs, order->nneeds);
}

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

List *
om_order_lines(OmOrderTables *tables, OmOrder *order, Snapshot snapshot)
{
	Datum key[2] = {TimestampTzGetDatum(order->created_at), UUIDPGetDatum(&order->id)};
	List *lines = NIL;

	om_table_scan(get_lines(tables, order->leaf), key, 2, snapshot, add_line, &lines);
	return lines;
}

char *
om_order_ref(OmOrder *order)
{
	bool isnull;
	Datum value = om_row_get(order->leaf->orders, order->row, ORDER_REF, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

Jsonb *
om_order_metadata(OmOrder *order)
{
	return DatumGetJsonbPCopy(om_row_get_not_null(order->leaf->orders, order->row, ORDER_METADATA));
}

bool
om_order_is_own(const OmOrder *order)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(order->row->t_data));
}

void
om_order_write(OmOrder *order)
{
	OmTable *table = order->leaf->orders;
	Datum values[ORDER_NCOLUMNS] = {0};
	bool isnull[ORDER_NCOLUMNS] = {false};
	bool replace[ORDER_NCOLUMNS] = {false};

	values[ORDER_STATUS - 1] = CStringGetTextDatum(om_status_names[order->status]);
	values[ORDER_SETTLED - 1] = Int16GetDatum(order->settled);
	values[ORDER_ROUND - 1] = Int16GetDatum(order->round);
	values[ORDER_REASONS - 1] = PointerGetDatum(reasons_to_array(order->reasons));
	values[ORDER_TRAIL - 1] = PointerGetDatum(make_trail(order->trail, order->ntrail));
	values[ORDER_UPDATED_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	replace[ORDER_STATUS - 1] = replace[ORDER_SETTLED - 1] = replace[ORDER_ROUND - 1] =
		replace[ORDER_REASONS - 1] = replace[ORDER_TRAIL - 1] = replace[ORDER_UPDATED_AT - 1] =
			true;
	om_table_update(table, order->row, values, isnull, replace, ORDER_NCOLUMNS);
}
