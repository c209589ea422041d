/*
 * archivedamounts.c
 *		Sums of months whose rows have left the database.
 *
 * A balance is the sum of its changes less the shipped orders; both lie in
 * months.  So of each month that goes, archived_amounts keeps per account and
 * product what its changes less its orders came to.  An order may be shipped in
 * a later month than that in which it was captured, and goes with the latter:
 * archived_movements keeps such shipments one by one, because they are
 * movements of months that are here.  archived_months counts the events: what a
 * consumer has passed includes them for ever.
 *
 * A month whose archive has been dropped cannot be made again; earlier versions let
 * loads of past orders do so.  When such a month goes once more, what is kept of
 * its first life is set aside, a microsecond later, where it stays for ever.
 *
 * A consumer that was made when a month was gone counts its events as passed.
 * Should its position lie before them when they come back, it will read them,
 * so they are taken off again; it is owned meanwhile, as by who works as it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "archivedamounts.h"
#include "archives.h"
#include "cursors.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "locks.h"
#include "months.h"
#include "names.h"
#include "plans.h"
#include "registry.h"
#include "relations.h"
#include "tables.h"

/* Columns of table event_log */
#define EVENT_LXID 2
#define EVENT_ID 3
#define EVENT_TYPE 4
#define EVENT_ORDER_IDS 5

#define SHIPPED                                \
	"o.created_at >= $1 AND o.created_at < $2" \
	" AND o.status = 'shipped' AND o.settled <> 7"

#define AMOUNTS(kind, key, event, member, orders)                                        \
	"INSERT INTO order_mgmt.archived_amounts (month, kind, key, amount, has_changes)"    \
	" SELECT $1, '" kind "', key, coalesce(c.amount, 0) - coalesce(s.amount, 0),"        \
	"  c.amount IS NOT NULL FROM (SELECT " key " AS key,"                                \
	"   sum((detail->>'" member "')::numeric) AS amount FROM order_mgmt.event_log"       \
	"   WHERE at >= $1 AND at < $2 AND event_type = '" event "' AND " key " IS NOT NULL" \
	"   GROUP BY 1) AS c FULL JOIN (" orders " GROUP BY 1) AS s USING (key)"

/*
 * All lines less those of orders that have moved nothing: as a rule there are
 * few of these.
 */
#define UNITS                                                                                 \
	"SELECT u.product_id AS key, sum(u.quantity) AS amount FROM (SELECT product_id, quantity" \
	"  FROM order_mgmt.order_lines WHERE created_at >= $1 AND created_at < $2"                \
	" UNION ALL SELECT n.product_id, -n.quantity FROM order_mgmt.orders AS o"                 \
	"  JOIN order_mgmt.order_lines AS n ON n.order_id = o.order_id"                           \
	"  AND n.created_at = o.created_at AND n.created_at >= $1 AND n.created_at < $2"          \
	"  WHERE o.created_at >= $1 AND o.created_at < $2"                                        \
	"  AND (o.status <> 'shipped' OR o.settled = 7)) AS u"

static OmQuery add_queries[] = {
	{.sql = AMOUNTS("account", "customer_id", "balance_changed", "amount",
					"SELECT o.customer_id AS key, sum(o.total) AS amount"
					" FROM order_mgmt.orders AS o WHERE " SHIPPED),
	 .nargs = 2,
	 .types = {TIMESTAMPTZOID, TIMESTAMPTZOID}},
	{.sql = AMOUNTS("product", "product_id", "stock_changed", "quantity", UNITS),
	 .nargs = 2,
	 .types = {TIMESTAMPTZOID, TIMESTAMPTZOID}},
	/* An order changes last when it is shipped, or later; clocks step back by less than a day. */
	{.sql = "INSERT INTO order_mgmt.archived_movements"
			" (month, kind, key, event_id, at, order_id, amount)"
			" SELECT $1, 'account', o.customer_id, l.event_id, l.at, o.order_id, -o.total"
			" FROM order_mgmt.orders AS o CROSS JOIN LATERAL"
			"  order_mgmt.shipment_of(o.order_id, o.trail, o.created_at, o.updated_at) AS l"
			" WHERE " SHIPPED " AND o.updated_at >= $2 - '1 day'::interval AND l.at >= $2",
	 .nargs = 2,
	 .types = {TIMESTAMPTZOID, TIMESTAMPTZOID}},
	{.sql = "INSERT INTO order_mgmt.archived_movements"
			" (month, kind, key, event_id, at, order_id, amount)"
			" SELECT $1, 'product', n.product_id, m.event_id, m.at, m.order_id, -sum(n.quantity)"
			" FROM order_mgmt.archived_movements AS m JOIN order_mgmt.order_lines AS n"
			"  ON n.order_id = m.order_id AND n.created_at = order_mgmt.uuid_time(m.order_id)"
			"  AND n.created_at >= $1 AND n.created_at < $2"
			" WHERE m.month = $1 AND m.kind = 'account' GROUP BY 3, 4, 5, 6",
	 .nargs = 2,
	 .types = {TIMESTAMPTZOID, TIMESTAMPTZOID}},
	{.sql = "INSERT INTO order_mgmt.archived_months (month, events, first_lxid,"
			" last_lxid, last_event_id)"
			" SELECT $1, coalesce(jsonb_object_agg(e.event_type, e.events), '{}'),"
			"  coalesce(min(e.first_lxid), 0), coalesce(max(e.last_lxid), 0), "
			"coalesce(max(e.last_event_id), 0)"
			" FROM (SELECT event_type, sum(coalesce(octet_length(order_ids) / 16, 1))::bigint"
			"   AS events, min(lxid) AS first_lxid, max(lxid) AS last_lxid, max(event_id) AS "
			"last_event_id"
			"  FROM order_mgmt.event_log WHERE at >= $1 AND at < $2 GROUP BY 1) AS e",
	 .nargs = 2,
	 .types = {TIMESTAMPTZOID, TIMESTAMPTZOID}},
};

static OmQuery remove_queries[] = {
	{.sql = "DELETE FROM order_mgmt.archived_amounts WHERE month = $1",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
	{.sql = "DELETE FROM order_mgmt.archived_movements WHERE month = $1",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
};

static OmQuery remove_month_query = {
	.sql = "DELETE FROM order_mgmt.archived_months WHERE month = $1 RETURNING last_lxid",
	.nargs = 1,
	.types = {TIMESTAMPTZOID}};

/* ---------- beside the months that are here ---------- */

void
om_archived_amounts_hold_months(void)
{
	for (int i = 0; i < OM_MONTHLY_COUNT; i++)
		LockRelationOid(om_relation_get(om_monthly_names[i]), AccessShareLock);
}

#define IS_SHOWN                                                                           \
	"s.kind = $1 AND s.key = $2 AND NOT EXISTS (SELECT FROM order_mgmt.archived_months AS" \
	" m WHERE date_trunc('month', m.month, 'UTC') = date_trunc('month', s.at, 'UTC'))"

static OmQuery shown_query = {.sql = "SELECT s.event_id, s.at, s.amount, s.order_id"
									 " FROM order_mgmt.archived_movements AS s WHERE " IS_SHOWN,
							  .nargs = 2,
							  .types = {TEXTOID, TEXTOID}};

static OmQuery hidden_query = {
	.sql = "SELECT a.month, a.amount - coalesce((SELECT sum(s.amount)"
		   "  FROM order_mgmt.archived_movements AS s WHERE s.month = a.month AND " IS_SHOWN
		   "), 0) AS amount FROM order_mgmt.archived_amounts AS a WHERE a.kind = $1 AND a.key = $2",
	.nargs = 2,
	.types = {TEXTOID, TEXTOID}};

static OmQuery gone_query = {.sql = "SELECT m.month FROM order_mgmt.archived_months AS m",
							 .nargs = 0};

static void
name_amounts(const char *kind, Datum key)
{
	Datum args[2] = {CStringGetTextDatum(kind), key};

	PushActiveSnapshot(GetLatestSnapshot());
	(void) om_query_read(&shown_query, args, NULL);
	om_query_name_result("shown");
	(void) om_query_read(&hidden_query, args, NULL);
	om_query_name_result("hidden");
	(void) om_query_read(&gone_query, NULL, NULL);
	om_query_name_result("gone");
	PopActiveSnapshot();
}

Datum
om_archived_amounts_return_set(FunctionCallInfo fcinfo, const char *kind, OmQuery *query,
							   const Datum *args, const bool *isnull)
{
	OmQueryScope scope;

	om_archived_amounts_require();
	om_archived_amounts_hold_months();
	InitMaterializedSRF(fcinfo, 0);
	om_query_begin(&scope);
	name_amounts(kind, args[0]);
	om_query_put_set(fcinfo, query, args, isnull);
	om_query_end(&scope);
	return (Datum) 0;
}

/* ---------- a month goes ---------- */

void
om_archived_amounts_require(void)
{
	(void) om_relation_get("archived_amounts");
	(void) om_relation_get("archived_movements");
	(void) om_relation_get("archived_months");
}

/* ---------- a month that was gone for good, and is here again ---------- */

/* Where what is kept of its first life lies: in no month of the calendar. */
#define ASIDE "$1 + '1 microsecond'::interval"

#define SUM_OF_EVENTS                                                                      \
	"coalesce((SELECT jsonb_object_agg(e.key, e.events) FROM (SELECT b.key, sum(b.value::" \
	"bigint) AS events FROM (SELECT * FROM jsonb_each_text(m.events) UNION ALL SELECT *"   \
	" FROM jsonb_each_text(excluded.events)) AS b GROUP BY 1) AS e), '{}')"

static OmQuery aside_queries[] = {
	{.sql = "INSERT INTO order_mgmt.archived_amounts AS a (month, kind, key, amount, has_changes)"
			" SELECT " ASIDE ", g.kind, g.key, g.amount, g.has_changes"
			" FROM order_mgmt.archived_amounts AS g WHERE g.month = $1"
			" ON CONFLICT (kind, key, month) DO UPDATE SET amount = a.amount + excluded.amount,"
			" has_changes = a.has_changes OR excluded.has_changes",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
	{.sql = "DELETE FROM order_mgmt.archived_amounts WHERE month = $1",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
	{.sql = "UPDATE order_mgmt.archived_movements SET month = " ASIDE " WHERE month = $1",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
	{.sql = "INSERT INTO order_mgmt.archived_months AS m (month, events, first_lxid, last_lxid,"
			" last_event_id) SELECT " ASIDE ", g.events, g.first_lxid, g.last_lxid,"
			" g.last_event_id FROM order_mgmt.archived_months AS g WHERE g.month = $1"
			" ON CONFLICT (month) DO UPDATE SET events = " SUM_OF_EVENTS ", first_lxid ="
			" coalesce(least(nullif(m.first_lxid, 0), nullif(excluded.first_lxid, 0)), 0),"
			" last_lxid = greatest(m.last_lxid, excluded.last_lxid),"
			" last_event_id = greatest(m.last_event_id, excluded.last_event_id)",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
	{.sql = "DELETE FROM order_mgmt.archived_months WHERE month = $1",
	 .nargs = 1,
	 .types = {TIMESTAMPTZOID}},
};

/* What is forgotten when the month comes back is what its file has, and no more. */
static void
set_aside(TimestampTz month)
{
	Datum arg = TimestampTzGetDatum(month);
	OmQueryScope scope;

	om_query_begin(&scope);
	for (int i = 0; i < (int) lengthof(aside_queries); i++)
		om_query_run(&aside_queries[i], &arg, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
}

void
om_archived_amounts_add(TimestampTz month)
{
	Datum args[2] = {TimestampTzGetDatum(om_months_begin(month)),
					 TimestampTzGetDatum(om_months_next(month))};
	OmQueryScope scope;

	om_archived_amounts_require();
	if (om_archives_is_counted(om_months_begin(month)))
		set_aside(om_months_begin(month));
	om_query_begin(&scope);
	om_query_uncounted();
	for (int i = 0; i < (int) lengthof(add_queries); i++)
		om_query_run(&add_queries[i], args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("archivedamounts/added");
}

/* ---------- a month comes back ---------- */

/* How many events of a row a consumer has not passed yet. */
static int64
count_unread(const OmCursor *cursor, int64 lxid, int64 event_id, int64 events)
{
	const OmLogPosition *reached = &cursor->position;

	if (om_horizon_shows(cursor->base, lxid, event_id))
		return 0;
	if (cursor->target == NULL || !om_horizon_shows(cursor->target, lxid, event_id) ||
		lxid > reached->lxid)
		return events;
	if (lxid < reached->lxid)
		return 0;
	return events - Min(Max(reached->event_id - event_id + 1, 0), events);
}

static int64
column_int64(TupleTableSlot *slot, int column)
{
	bool isnull;

	return DatumGetInt64(slot_getattr(slot, column, &isnull));
}

static void
take_off(OmCursor *cursor, TupleTableSlot *slot)
{
	bool isnull;
	Datum orders = slot_getattr(slot, EVENT_ORDER_IDS, &isnull);
	int64 events =
		isnull ? 1 : VARSIZE_ANY_EXHDR(DatumGetByteaPP(orders)) / (int64) sizeof(pg_uuid_t);
	text *word = DatumGetTextPP(slot_getattr(slot, EVENT_TYPE, &isnull));
	int type =
		om_names_find(om_event_names, OM_EVENT_COUNT, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));

	if (type >= 0)
		cursor->passed.events[type] -= count_unread(cursor, column_int64(slot, EVENT_LXID),
													column_int64(slot, EVENT_ID), events);
}

static void
take_off_rows(OmCursor *cursor, Oid event_leaf, Snapshot snapshot)
{
	Relation leaf = table_open(event_leaf, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	TableScanDesc scan = table_beginscan(leaf, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		take_off(cursor, slot);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(leaf, NoLock);
}

/* An open batch is read again from the row before it. */
static OmCursor *
find_before(const OmRegistration *consumer, int64 lxid, Snapshot snapshot)
{
	OmCursor *cursor = om_cursor_load(consumer->name, true /* restart */, snapshot);

	return cursor->base->xmin <= lxid ? cursor : NULL;
}

static void
require_no_open_batch(const OmRegistration *consumer, const OmCursor *cursor)
{
	if (consumer->kind == OM_KIND_EXTERNAL && cursor->seq % 2 != 0)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("consumer \"%s\" has an open batch around the events of the month",
							   consumer->name),
						om_errdetail("consumer", consumer->name),
						errhint("Acknowledge the batch, then restore the month again.")));
}

static void
correct_position(const OmRegistration *consumer, Oid event_leaf, int64 last_lxid)
{
	Snapshot snapshot;
	OmCursor *cursor;

	om_lock_acquire(om_lock_of_consumer(consumer->name));
	snapshot = RegisterSnapshot(om_current_snapshot());
	cursor = find_before(consumer, last_lxid, snapshot);
	if (cursor != NULL)
	{
		require_no_open_batch(consumer, cursor);
		take_off_rows(cursor, event_leaf, snapshot);
		/* Those of programs have even numbers, batches odd ones (outbox.c). */
		cursor->seq += consumer->kind == OM_KIND_EXTERNAL;
		om_cursor_store(cursor, PG_INT64_MAX, cursor->waiting);
	}
	UnregisterSnapshot(snapshot);
}

/* Built-in consumers had read all that there was when the month went. */
static void
correct_positions(Oid event_leaf, int64 last_lxid)
{
	List *consumers =
		list_concat(om_registry_list(OM_KIND_HANDLER), om_registry_list(OM_KIND_EXTERNAL));
	Snapshot snapshot = RegisterSnapshot(om_current_snapshot());
	ListCell *cell;

	foreach(cell, consumers)
	{
		const OmRegistration *consumer = lfirst(cell);

		if (find_before(consumer, last_lxid, snapshot) != NULL)
			correct_position(consumer, event_leaf, last_lxid);
	}
	UnregisterSnapshot(snapshot);
}

void
om_archived_amounts_remove(TimestampTz month, Oid event_leaf)
{
	Datum arg = TimestampTzGetDatum(om_months_begin(month));
	int64 last_lxid = 0;
	OmQueryScope scope;
	bool isnull;

	om_archived_amounts_require();
	om_query_begin(&scope);
	for (int i = 0; i < (int) lengthof(remove_queries); i++)
		om_query_run(&remove_queries[i], &arg, NULL);
	if (om_query_run(&remove_month_query, &arg, NULL) > 0)
		last_lxid = DatumGetInt64(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	CommandCounterIncrement();
	if (last_lxid > 0)
		correct_positions(event_leaf, last_lxid);
	OM_FAULT_POINT("archivedamounts/removed");
}
