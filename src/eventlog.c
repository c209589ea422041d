/*
 * eventlog.c
 *		Appends to and reads from table event_log.
 *
 * Rows are never updated and never deleted; a month is dropped as a whole.
 * The only index that events of orders enter is (lxid, event_id), the order in
 * which consumers read.  A window between two horizons consists of the few
 * transactions that were running at the older one and have ended since, looked
 * up one by one, and of the range above it: an old writer costs one probe, not
 * a second look at everything that came after it.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "faults.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "coldrows.h"
#include "compat.h"
#include "eventlog.h"
#include "installation.h"
#include "jsonout.h"
#include "leaves.h"
#include "months.h"
#include "relations.h"
#include "wakeup.h"

/* Columns of table event_log */
enum
{
	COLUMN_AT = 1,
	COLUMN_LXID,
	COLUMN_EVENT_ID,
	COLUMN_EVENT_TYPE,
	COLUMN_ORDER_IDS,
	COLUMN_CUSTOMER_ID,
	COLUMN_PRODUCT_ID,
	COLUMN_DETAIL,
	NCOLUMNS = COLUMN_DETAIL
};

static int64 last_event_id = 0;
static int64 last_lxid = 0;

int64
om_log_last_event_id(int64 lxid)
{
	return lxid == last_lxid ? last_event_id : 0;
}

OmLogWriter *
om_log_begin_from(TimestampTz earliest)
{
	OmLogWriter *writer = palloc(sizeof(OmLogWriter));

	writer->lxid = om_installation_lxid();
	writer->at = Max(om_clock_now(), earliest);
	OM_FAULT_POINT("eventlog/numbered");
	writer->month_end = om_months_next(om_months_begin(writer->at));
	writer->happened = NULL;
	writer->table = om_table_open(om_months_leaf("event_log", writer->at), RowExclusiveLock);
	om_wakeup_at_commit();
	OM_FAULT_POINT("eventlog/opened");
	return writer;
}

OmLogWriter *
om_log_begin(void)
{
	return om_log_begin_from(DT_NOBEGIN);
}

/* The partition is that of the first event. */
void
om_log_go_on(OmLogWriter *writer)
{
	TimestampTz now = om_clock_now();

	if (now < writer->month_end)
		writer->at = Max(writer->at, now);
}

void
om_log_flush(OmLogWriter *writer)
{
	om_table_flush(writer->table);
}

void
om_log_end(OmLogWriter *writer)
{
	om_table_close(writer->table);
	pfree(writer);
}

OmLogRows *
om_log_rows_create(void)
{
	OmLogRows *rows = palloc0(sizeof(OmLogRows));

	rows->capacity = 64;
	rows->rows = palloc(sizeof(OmLogRow) * rows->capacity);
	return rows;
}

static OmLogRow *
next_row(OmLogRows *result)
{
	if (result->count == result->capacity)
	{
		result->capacity *= 2;
		result->rows = repalloc_huge(result->rows, sizeof(OmLogRow) * result->capacity);
	}
	return &result->rows[result->count];
}

static int64
append_row(OmLogWriter *writer, OmEventType type, Datum *values, bool *isnull, Jsonb *detail)
{
	last_lxid = writer->lxid;
	last_event_id = nextval_internal(om_relation_get("event_ids"), false);
	values[COLUMN_AT - 1] = TimestampTzGetDatum(writer->at);
	values[COLUMN_LXID - 1] = Int64GetDatum(writer->lxid);
	values[COLUMN_EVENT_ID - 1] = Int64GetDatum(last_event_id);
	values[COLUMN_EVENT_TYPE - 1] = CStringGetTextDatum(om_event_names[type]);
	values[COLUMN_DETAIL - 1] = JsonbPGetDatum(detail);
	isnull[COLUMN_AT - 1] = isnull[COLUMN_LXID - 1] = isnull[COLUMN_EVENT_ID - 1] =
		isnull[COLUMN_EVENT_TYPE - 1] = false;
	isnull[COLUMN_DETAIL - 1] = detail == NULL;
	OM_FAULT_POINT("eventlog/before-append");
	om_table_insert_later(writer->table, values, isnull, NCOLUMNS);
	OM_FAULT_POINT("eventlog/appended");
	return last_event_id;
}

static void
note_happened(OmLogWriter *writer, OmEventType type, int64 event_id, const pg_uuid_t *orders,
			  int norders, Jsonb *detail)
{
	if (writer->happened == NULL)
		return;
	*next_row(writer->happened) = (OmLogRow){.lxid = writer->lxid,
											 .event_id = event_id,
											 .at = writer->at,
											 .type = type,
											 .norders = norders,
											 .orders = unconstify(pg_uuid_t *, orders),
											 .detail = detail};
	writer->happened->count++;
}

void
om_log_add_round(OmJson *json, int round)
{
	if (round == 0)
		return;
	om_json_key(json, "round");
	om_json_int(json, round);
}

Jsonb *
om_log_round_detail(int round)
{
	OmJson json = {0};

	if (round == 0)
		return NULL;
	om_json_open_object(&json);
	om_log_add_round(&json, round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

int
om_log_round(Jsonb *detail)
{
	return (int) om_json_get_int(detail, "round");
}

int64
om_log_orders(OmLogWriter *writer, OmEventType type, const pg_uuid_t *orders, int norders,
			  Jsonb *detail)
{
	int64 first = 0;

	for (int done = 0; done < norders; done += OM_ORDERS_PER_ROW)
	{
		Datum values[NCOLUMNS] = {0};
		bool isnull[NCOLUMNS];
		int count = Min(norders - done, OM_ORDERS_PER_ROW);
		Size size = count * sizeof(pg_uuid_t);
		bytea *packed = palloc(VARHDRSZ + size);
		int64 event_id;

		SET_VARSIZE(packed, VARHDRSZ + size);
		memcpy(VARDATA(packed), orders + done, size);
		memset(isnull, true, sizeof(isnull));
		values[COLUMN_ORDER_IDS - 1] = PointerGetDatum(packed);
		isnull[COLUMN_ORDER_IDS - 1] = false;
		event_id = append_row(writer, type, values, isnull, detail);
		note_happened(writer, type, event_id, orders + done, count, detail);
		if (first == 0)
			first = event_id;
		pfree(packed);
	}
	return first;
}

int64
om_log_change(OmLogWriter *writer, OmEventType type, Datum customer_or_product, Jsonb *detail)
{
	int column = type == OM_EVENT_BALANCE_CHANGED ? COLUMN_CUSTOMER_ID : COLUMN_PRODUCT_ID;
	Datum values[NCOLUMNS] = {0};
	bool isnull[NCOLUMNS];

	memset(isnull, true, sizeof(isnull));
	values[column - 1] = customer_or_product;
	isnull[column - 1] = false;
	return append_row(writer, type, values, isnull, detail);
}

/* ---------- reading ---------- */

typedef struct LxidRange
{
	int64 first;
	int64 last;
	int64 first_event; /* of a single transaction, the rows from here on */
} LxidRange;

/* One partition under scan, with the row it stands at. */
typedef struct LeafScan
{
	Relation heap;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool has_row;
} LeafScan;

typedef struct LogScan
{
	const OmLogWindow *window;
	uint32 types;
	int64 max_rows; /* 0: no limit */
	int nleaves;
	LeafScan *leaves;
	OmLogRows *result;
} LogScan;

static int
compare_ranges(const void *a, const void *b)
{
	int64 left = ((const LxidRange *) a)->first;
	int64 right = ((const LxidRange *) b)->first;

	return (left > right) - (left < right);
}

/* Of a transaction that has handled events of its own, what comes after them. */
static LxidRange
single_range(const OmHorizon *from, int64 lxid)
{
	return (LxidRange){lxid, lxid, lxid == from->own_lxid ? from->own_event_id : 0};
}

/* Most often the transaction behind a horizon is that of the pass that took it, and seen ahead. */
static int64
first_unseen(const OmHorizon *from)
{
	int64 lxid = from->xmax;

	while (om_horizon_shows_all(from, lxid))
		lxid++;
	return lxid;
}

/* The transactions whose events make up a window, in order. */
static LxidRange *
window_ranges(const OmLogWindow *window, int *count)
{
	const OmHorizon *from = window->from;
	const OmHorizon *to = window->to;
	LxidRange *ranges = palloc(sizeof(LxidRange) * (from->nexceptions + 2));
	int n = 0;

	for (int i = 0; i < from->nexceptions; i++)
	{
		int64 lxid = from->exceptions[i];

		if (lxid < from->xmax && om_horizon_shows_all(to, lxid))
			ranges[n++] = single_range(from, lxid);
	}
	if (to->xmax > from->xmax)
		ranges[n++] = (LxidRange){first_unseen(from), to->xmax - 1, 0};
	/* Below "from" it was running there and cannot be seen as a whole yet. */
	if (to->own_lxid != 0 && (to->own_lxid < from->xmax || to->own_lxid >= to->xmax))
		ranges[n++] = single_range(from, to->own_lxid);
	qsort(ranges, n, sizeof(LxidRange), compare_ranges);
	*count = n;
	return ranges;
}

static bool
in_window(const OmLogWindow *window, OmLogPosition here)
{
	const OmLogPosition *after = &window->after;

	if (here.lxid < after->lxid)
		return false;
	return om_horizon_shows(window->to, here.lxid, here.event_id) &&
		   !om_horizon_shows(window->from, here.lxid, here.event_id);
}

static void
step_leaf(LeafScan *leaf)
{
	leaf->has_row = index_getnext_slot(leaf->scan, ForwardScanDirection, leaf->slot);
	if (leaf->has_row)
		slot_getallattrs(leaf->slot);
}

/* The index on (lxid, event_id) is the primary key of every partition. */
static void
open_leaves(LogScan *scan, List *oids)
{
	ListCell *cell;

	scan->leaves = palloc(sizeof(LeafScan) * list_length(oids));
	foreach(cell, oids)
	{
		LeafScan *leaf = &scan->leaves[scan->nleaves];

		leaf->heap = table_open(lfirst_oid(cell), AccessShareLock);
		if (RelationGetNumberOfBlocks(leaf->heap) == 0)
		{
			table_close(leaf->heap, AccessShareLock);
			continue;
		}
		leaf->index = index_open(om_primary_key(leaf->heap), AccessShareLock);
		leaf->slot = table_slot_create(leaf->heap, NULL);
		leaf->scan = om_index_beginscan(leaf->heap, leaf->index, GetActiveSnapshot(), 3);
		scan->nleaves++;
	}
}

static void
close_leaves(LogScan *scan)
{
	for (int i = 0; i < scan->nleaves; i++)
	{
		LeafScan *leaf = &scan->leaves[i];

		index_endscan(leaf->scan);
		ExecDropSingleTupleTableSlot(leaf->slot);
		index_close(leaf->index, AccessShareLock);
		table_close(leaf->heap, AccessShareLock);
	}
}

static void
start_range(LogScan *scan, const LxidRange *range)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(range->first));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(range->last));
	ScanKeyInit(&keys[2], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(range->first_event));
	for (int i = 0; i < scan->nleaves; i++)
	{
		index_rescan(scan->leaves[i].scan, keys, 3, NULL, 0);
		step_leaf(&scan->leaves[i]);
	}
}

static int64
leaf_int64(const LeafScan *leaf, int column)
{
	return DatumGetInt64(leaf->slot->tts_values[column - 1]);
}

static bool
leaf_is_before(const LeafScan *a, const LeafScan *b)
{
	int64 left = leaf_int64(a, COLUMN_LXID);
	int64 right = leaf_int64(b, COLUMN_LXID);

	if (left != right)
		return left < right;
	return leaf_int64(a, COLUMN_EVENT_ID) < leaf_int64(b, COLUMN_EVENT_ID);
}

static LeafScan *
first_leaf(LogScan *scan)
{
	LeafScan *first = NULL;

	for (int i = 0; i < scan->nleaves; i++)
	{
		LeafScan *leaf = &scan->leaves[i];

		if (leaf->has_row && (first == NULL || leaf_is_before(leaf, first)))
			first = leaf;
	}
	return first;
}

static char *
get_id(const LeafScan *leaf, int column)
{
	return leaf->slot->tts_isnull[column - 1]
			 ? NULL
			 : TextDatumGetCString(leaf->slot->tts_values[column - 1]);
}

static void
copy_row(const LeafScan *leaf, OmEventType type, OmLogRow *row)
{
	const Datum *values = leaf->slot->tts_values;
	const bool *isnull = leaf->slot->tts_isnull;

	row->lxid = leaf_int64(leaf, COLUMN_LXID);
	row->event_id = leaf_int64(leaf, COLUMN_EVENT_ID);
	row->at = DatumGetTimestampTz(values[COLUMN_AT - 1]);
	row->type = type;
	row->norders = 0;
	row->orders = NULL;
	if (!isnull[COLUMN_ORDER_IDS - 1])
	{
		bytea *packed = DatumGetByteaPP(values[COLUMN_ORDER_IDS - 1]);

		row->norders = VARSIZE_ANY_EXHDR(packed) / sizeof(pg_uuid_t);
		row->orders = palloc(row->norders * sizeof(pg_uuid_t));
		memcpy(row->orders, VARDATA_ANY(packed), row->norders * sizeof(pg_uuid_t));
	}
	row->tick_id = 0;
	row->customer_id = get_id(leaf, COLUMN_CUSTOMER_ID);
	row->product_id = get_id(leaf, COLUMN_PRODUCT_ID);
	row->detail = isnull[COLUMN_DETAIL - 1] ? NULL : DatumGetJsonbPCopy(values[COLUMN_DETAIL - 1]);
}

static OmEventType
leaf_event_type(const LeafScan *leaf)
{
	text *word = DatumGetTextPP(leaf->slot->tts_values[COLUMN_EVENT_TYPE - 1]);
	int type =
		om_names_find(om_event_names, OM_EVENT_COUNT, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));

	if (type < 0)
		elog(ERROR, "event " INT64_FORMAT " has an unknown type",
			 leaf_int64(leaf, COLUMN_EVENT_ID));
	return (OmEventType) type;
}

/* How many events the row at hand stands for. */
static int
leaf_events(const LeafScan *leaf)
{
	if (leaf->slot->tts_isnull[COLUMN_ORDER_IDS - 1])
		return 1;
	return Max((toast_raw_datum_size(leaf->slot->tts_values[COLUMN_ORDER_IDS - 1]) - VARHDRSZ) /
				   sizeof(pg_uuid_t),
			   1);
}

/* How many of a row's events lie at or before the position from which a window is read. */
static int
events_before(const OmLogWindow *window, OmLogPosition here, int nevents)
{
	const OmLogPosition *after = &window->after;

	if (here.lxid != after->lxid || here.event_id > after->event_id)
		return 0;
	return (int) Min(after->event_id - here.event_id + 1, nevents);
}

/* Keeps the events of the row at hand without the first ones, as many as are taken. */
static void
keep_row(LogScan *scan, const LeafScan *leaf, OmEventType type, int before, int taken)
{
	OmLogRows *result = scan->result;
	OmLogRow *row = next_row(result);

	copy_row(leaf, type, row);
	row->event_id += before;
	row->orders += row->norders > 0 ? before : 0;
	row->norders = row->norders > 0 ? taken : 0;
	result->count++;
	result->norders += row->norders;
	result->nevents += taken;
}

/*
 * Passes the row at hand, or what has not been read of it, and keeps it if it is
 * wanted; false when there was room for a part of it only.
 */
static bool
pass_row(LogScan *scan, const LeafScan *leaf, OmLogPosition here, int max_events)
{
	OmLogRows *result = scan->result;
	OmEventType type = leaf_event_type(leaf);
	bool is_wanted = (scan->types & OM_EVENT_BIT(type)) != 0;
	int nevents = leaf_events(leaf);
	int before = events_before(scan->window, here, nevents);
	int left = nevents - before;
	int taken = is_wanted && max_events > 0 ? Min(left, max_events - result->nevents) : left;

	result->reached = (OmLogPosition){here.lxid, here.event_id + OM_EVENT_ID_STEP - 1};
	if (taken < left)
		result->reached.event_id = here.event_id + before + taken - 1;
	if (taken > 0 && is_wanted)
		keep_row(scan, leaf, type, before, taken);
	result->passed.events[type] += taken;
	result->passed.rows += left > 0;
	return taken == left;
}

static bool
has_read_enough(const LogScan *scan, int max_events)
{
	return (max_events > 0 && scan->result->nevents >= max_events) ||
		   (scan->max_rows > 0 && scan->result->passed.rows >= scan->max_rows);
}

/* Reads one range; false when enough events have been read. */
static bool
read_range(LogScan *scan, const LxidRange *range, int max_events)
{
	LeafScan *leaf;

	if (range->first > range->last)
		return true;
	start_range(scan, range);
	while ((leaf = first_leaf(scan)) != NULL)
	{
		OmLogPosition here = {leaf_int64(leaf, COLUMN_LXID), leaf_int64(leaf, COLUMN_EVENT_ID)};

		CHECK_FOR_INTERRUPTS();
		if (in_window(scan->window, here))
		{
			if (has_read_enough(scan, max_events) || !pass_row(scan, leaf, here, max_events))
				return false;
		}
		step_leaf(leaf);
	}
	return true;
}

/* Of the transaction in which the last reading stopped, only what it has not looked at. */
static bool
read_range_after(LogScan *scan, const LxidRange *range, int max_events)
{
	const OmLogPosition *after = &scan->window->after;
	LxidRange begun = {after->lxid, after->lxid,
					   Max(after->event_id - OM_EVENT_ID_STEP + 1, range->first_event)};
	LxidRange rest = {after->lxid + 1, range->last, 0};

	if (range->last < after->lxid)
		return true;
	if (range->first > after->lxid)
		return read_range(scan, range, max_events);
	return read_range(scan, &begun, max_events) && read_range(scan, &rest, max_events);
}

void
om_log_look(OmLogRows *rows, const OmLogWindow *window, uint32 types, int max_events,
			int64 max_rows)
{
	LogScan scan = {.window = window, .types = types, .max_rows = max_rows, .result = rows};
	int nranges;
	LxidRange *ranges = window_ranges(window, &nranges);

	rows->reached = window->after;
	rows->exhausted = true;
	rows->passed = (OmLogCounts){0};
	if (nranges > 0)
		open_leaves(&scan, om_leaves_of_lxids(Max(ranges[0].first, window->after.lxid),
											  ranges[nranges - 1].last));
	for (int i = 0; i < nranges && rows->exhausted; i++)
		rows->exhausted = read_range_after(&scan, &ranges[i], max_events);
	close_leaves(&scan);
	OM_FAULT_POINT("eventlog/read");
}

void
om_log_read(OmLogRows *rows, const OmLogWindow *window, uint32 types, int max_events)
{
	om_log_look(rows, window, types, max_events, 0 /* max_rows */);
}

/* The place of an order in the row at hand; -1: it is not in it. */
static int
find_order(const LeafScan *leaf, const pg_uuid_t *order)
{
	bytea *packed;
	int norders;

	if (leaf->slot->tts_isnull[COLUMN_ORDER_IDS - 1])
		return -1;
	packed = DatumGetByteaPP(leaf->slot->tts_values[COLUMN_ORDER_IDS - 1]);
	norders = VARSIZE_ANY_EXHDR(packed) / sizeof(pg_uuid_t);
	for (int i = 0; i < norders; i++)
	{
		if (memcmp(VARDATA_ANY(packed) + i * sizeof(pg_uuid_t), order, sizeof(pg_uuid_t)) == 0)
			return i;
	}
	return -1;
}

/* Keeps the event of one order out of a row that may hold many. */
static void
keep_event_of(const LeafScan *leaf, const pg_uuid_t *order, uint32 types, List **events)
{
	int place = find_order(leaf, order);
	OmLogRow *row;
	OmEventType type;

	if (place < 0)
		return;
	type = leaf_event_type(leaf);
	if ((types & OM_EVENT_BIT(type)) == 0)
		return;
	row = palloc(sizeof(OmLogRow));
	copy_row(leaf, type, row);
	row->event_id += place;
	*events = lappend(*events, row);
}

static int
compare_events(const ListCell *a, const ListCell *b)
{
	const OmLogRow *left = lfirst(a);
	const OmLogRow *right = lfirst(b);

	if (left->at != right->at)
		return left->at < right->at ? -1 : 1;
	return (left->event_id > right->event_id) - (left->event_id < right->event_id);
}

/* The same of a month in an archive; most often its keys tell that there is nothing. */
static void
add_cold_events(TimestampTz month, const pg_uuid_t *order, uint32 types, const int64 *lxids,
				int nlxids, List **events)
{
	OmColdScan *scan = om_cold_open("event_log", month);
	LeafScan row = {0};

	if (scan == NULL)
		return;
	row.slot = palloc0(sizeof(TupleTableSlot)); /* no more than values of columns */
	for (int i = 0; i < nlxids; i++)
	{
		Datum key = Int64GetDatum(lxids[i]);

		om_cold_seek(scan, &key, 1);
		while (om_cold_next(scan, &row.slot->tts_values, &row.slot->tts_isnull))
			keep_event_of(&row, order, types, events);
	}
	om_cold_close(scan);
}

static void
add_events_of_cold_months(const pg_uuid_t *order, uint32 types, const int64 *lxids, int nlxids,
						  TimestampTz from, TimestampTz until, List **events)
{
	Oid parent = om_relation_get("event_log");

	for (TimestampTz month = om_months_begin(from); month <= until; month = om_months_next(month))
	{
		if (!OidIsValid(om_month_leaf(parent, month)))
			add_cold_events(month, order, types, lxids, nlxids, events);
	}
}

List *
om_log_of_order(const pg_uuid_t *order, uint32 types, const int64 *lxids, int nlxids,
				TimestampTz from, TimestampTz until)
{
	LogScan scan = {0};
	List *events = NIL;

	open_leaves(&scan, om_month_leaves_between(om_relation_get("event_log"), from, until));
	for (int i = 0; i < nlxids; i++)
	{
		LeafScan *leaf;

		start_range(&scan, &(LxidRange){lxids[i], lxids[i], 0});
		while ((leaf = first_leaf(&scan)) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			keep_event_of(leaf, order, types, &events);
			step_leaf(leaf);
		}
	}
	close_leaves(&scan);
	add_events_of_cold_months(order, types, lxids, nlxids, from, until, &events);
	list_sort(events, compare_events);
	return events;
}
