/*
 * invariants.c
 *		Proves that money, stock, orders and events agree.
 *
 * All statements run under the caller's one snapshot, so the answer is exact
 * while orders are under way: a worker's effects and events commit together.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "eventlog.h"
#include "installation.h"
#include "invariants.h"
#include "pipeline.h"
#include "plans.h"

/* Orders with a verdict that holds and has not been settled. */
#define HELD(event, bit)                                                               \
	"SELECT o.* FROM order_mgmt.event_log AS l"                                        \
	" CROSS JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS u"                   \
	" JOIN order_mgmt.orders AS o"                                                     \
	"  ON o.order_id = u.order_id AND o.created_at = order_mgmt.uuid_time(u.order_id)" \
	" WHERE l.event_type = '" event "' AND (o.settled & " bit ") = 0"

#define EVENTS_OF_ORDERS                                                            \
	"SELECT u.order_id, l.event_type, count(*) AS n FROM order_mgmt.event_log AS l" \
	" CROSS JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS u"                \
	" WHERE l.event_type <> 'order_noted' GROUP BY 1, 2"

/* A row of the result for each subject whose two figures differ. */
#define DIFFERENCE(name, subject, expected, actual, source)                                   \
	{                                                                                         \
		.sql = "SELECT '" name "'::text, (" subject ")::text, (" expected ")::text, (" actual \
			   ")::text FROM " source " WHERE (" expected ") IS DISTINCT FROM (" actual ")"   \
	}

static OmQuery checks[] = {
	DIFFERENCE(
		"account_reserved", "a.customer_id", "coalesce(h.held, 0)", "a.reserved",
		"order_mgmt.accounts AS a LEFT JOIN (SELECT customer_id, sum(total) AS held FROM (" HELD(
			"balance_held", "1") ") AS x GROUP BY 1) AS h USING (customer_id)"),
	DIFFERENCE(
		"stock_reserved", "s.product_id", "coalesce(h.held, 0)", "s.reserved",
		"order_mgmt.stock AS s LEFT JOIN (SELECT n.product_id, sum(n.quantity) AS held"
		" FROM (" HELD("stock_held",
					   "2") ") AS x JOIN order_mgmt.order_lines AS n ON n.order_id = x.order_id"
							" AND n.created_at = x.created_at GROUP BY 1) AS h USING (product_id)"),
	DIFFERENCE("account_balance", "a.customer_id",
			   "coalesce(c.changed, 0) - coalesce(p.shipped, 0)", "a.balance",
			   "order_mgmt.accounts AS a"
			   " LEFT JOIN (SELECT customer_id, sum((detail->>'amount')::numeric) AS changed"
			   "  FROM order_mgmt.event_log WHERE event_type = 'balance_changed' GROUP BY 1) AS c"
			   "  USING (customer_id)"
			   " LEFT JOIN (SELECT customer_id, sum(total) AS shipped FROM order_mgmt.orders"
			   "  WHERE status = 'shipped' GROUP BY 1) AS p USING (customer_id)"),
	DIFFERENCE("stock_on_hand", "s.product_id", "coalesce(c.changed, 0) - coalesce(p.shipped, 0)",
			   "s.on_hand",
			   "order_mgmt.stock AS s"
			   " LEFT JOIN (SELECT product_id, sum((detail->>'quantity')::bigint) AS changed"
			   "  FROM order_mgmt.event_log WHERE event_type = 'stock_changed' GROUP BY 1) AS c"
			   "  USING (product_id)"
			   " LEFT JOIN (SELECT n.product_id, sum(n.quantity) AS shipped"
			   "  FROM order_mgmt.orders AS o JOIN order_mgmt.order_lines AS n"
			   "   ON n.order_id = o.order_id AND n.created_at = o.created_at"
			   "  WHERE o.status = 'shipped' GROUP BY 1) AS p USING (product_id)"),
	DIFFERENCE("order_total", "o.order_id", "coalesce(n.total, -1)", "o.total",
			   "order_mgmt.orders AS o LEFT JOIN (SELECT order_id, created_at,"
			   "  sum(quantity * unit_price) AS total FROM order_mgmt.order_lines GROUP BY 1, 2)"
			   " AS n ON n.order_id = o.order_id AND n.created_at = o.created_at"),
	DIFFERENCE("order_line_without_order", "n.order_id", "true", "o.order_id IS NOT NULL",
			   "order_mgmt.order_lines AS n LEFT JOIN order_mgmt.orders AS o"
			   " ON o.order_id = n.order_id AND o.created_at = n.created_at"),
	DIFFERENCE("event_without_order", "e.order_id", "true", "o.order_id IS NOT NULL",
			   "(" EVENTS_OF_ORDERS ") AS e LEFT JOIN order_mgmt.orders AS o"
			   " ON o.order_id = e.order_id AND o.created_at = order_mgmt.uuid_time(e.order_id)"),
	/* No event about an order happens twice: nothing is captured, held or shipped twice. */
	DIFFERENCE("event_once", "e.order_id || ' ' || e.event_type", "1", "e.n",
			   "(" EVENTS_OF_ORDERS ") AS e"),
	/* The state of an order is the one that its events lead to. */
	DIFFERENCE("order_status", "o.order_id",
			   "CASE WHEN e.types IS NULL THEN 'no events'"
			   " WHEN 'order_shipped' = ANY (e.types) THEN 'shipped'"
			   " WHEN 'order_cancelled' = ANY (e.types) THEN 'cancelled'"
			   " WHEN 'order_rejected' = ANY (e.types) THEN 'rejected'"
			   " WHEN 'order_failed' = ANY (e.types) THEN 'failed'"
			   " WHEN 'order_confirmed' = ANY (e.types) THEN 'confirmed' ELSE 'captured' END",
			   "o.status",
			   "order_mgmt.orders AS o LEFT JOIN (SELECT order_id, array_agg(event_type) AS types"
			   " FROM (" EVENTS_OF_ORDERS ") AS x GROUP BY 1) AS e USING (order_id)"),
	/* ... and the way there was legal. */
	DIFFERENCE("order_history", "e.order_id", "true",
			   "'order_captured' = ANY (e.types)"
			   " AND (NOT 'order_confirmed' = ANY (e.types)"
			   "  OR e.types @> '{balance_held,stock_held}')"
			   " AND (NOT 'order_shipped' = ANY (e.types) OR 'order_confirmed' = ANY (e.types))"
			   " AND (NOT 'order_rejected' = ANY (e.types)"
			   "  OR e.types && '{balance_refused,stock_refused}')"
			   " AND (e.types && '{order_shipped}')::int + (e.types && '{order_cancelled}')::int"
			   "  + (e.types && '{order_rejected}')::int <= 1"
			   " AND NOT e.types @> '{balance_held,balance_refused}'"
			   " AND NOT e.types @> '{stock_held,stock_refused}'",
			   "(SELECT order_id, array_agg(event_type) AS types FROM (" EVENTS_OF_ORDERS
			   ") AS x GROUP BY 1) AS e"),
	DIFFERENCE("final_order_settled", "o.order_id", "3", "o.settled",
			   "(SELECT * FROM order_mgmt.orders WHERE status IN ('shipped', 'rejected')) AS o"),
};

/* Events written for a consumer, by its own list of types. */
static OmQuery written_query = {
	.sql = "SELECT coalesce(sum(octet_length(l.order_ids) / 16), 0)::bigint"
		   " FROM order_mgmt.event_log AS l WHERE l.event_type = ANY ((SELECT c.event_types"
		   "  FROM order_mgmt.consumers AS c WHERE c.name = $1)::text[])",
	.nargs = 1,
	.types = {TEXTOID}};

/* Nothing is lost on the way: what was written has been handled or still waits. */
static void
check_consumer(ReturnSetInfo *result, OmStage stage)
{
	OmQueueState queue = om_pipeline_queue(stage, GetActiveSnapshot());
	Datum name = CStringGetTextDatum(om_stage_names[stage]);
	OmQueryScope scope;
	bool isnull[4] = {false};
	Datum values[4];
	int64 written;

	om_query_begin(&scope);
	om_query_read(&written_query, &name, NULL);
	written = DatumGetInt64(om_result_get(0, 1, &isnull[0]));
	om_query_end(&scope);
	if (written == queue.read - queue.waiting + queue.pending)
		return;
	values[0] = CStringGetTextDatum("consumer_events");
	values[1] = name;
	values[2] = CStringGetTextDatum(psprintf(INT64_FORMAT, written));
	values[3] =
		CStringGetTextDatum(psprintf(INT64_FORMAT, queue.read - queue.waiting + queue.pending));
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/*
 * An order whose verdicts, or whose cancellation, have all been read by the
 * order updater has moved on.  $1: orders of which it has something to read.
 */
static OmQuery stuck_query = {
	.sql = "WITH suspects AS MATERIALIZED (SELECT o.order_id, o.status FROM order_mgmt.orders AS o"
		   "  LEFT JOIN unnest($1) AS p ON p = o.order_id"
		   "  WHERE (o.status = 'captured' OR (o.status = 'cancelled' AND o.settled <> 3))"
		   "  AND p IS NULL)"
		   " SELECT 'order_moves_on'::text, s.order_id::text, 'settled'::text, s.status"
		   " FROM suspects AS s JOIN (SELECT u.order_id, array_agg(l.event_type) AS types"
		   "  FROM order_mgmt.event_log AS l"
		   "  CROSS JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS u"
		   "  WHERE u.order_id IN (SELECT order_id FROM suspects) GROUP BY 1) AS e"
		   "  USING (order_id)"
		   " WHERE e.types && '{balance_held,balance_refused}'"
		   " AND e.types && '{stock_held,stock_refused}'",
	.nargs = 1,
	.types = {UUIDARRAYOID}};

static ArrayType *
orders_before_updater(void)
{
	List *rows = om_pipeline_rows(OM_STAGE_ORDER_UPDATER, GetActiveSnapshot());
	int count = 0;
	Datum *ids;
	ListCell *cell;

	foreach(cell, rows)
		count += ((OmLogRow *) lfirst(cell))->norders;
	ids = palloc_extended(sizeof(Datum) * Max(count, 1), MCXT_ALLOC_HUGE);
	count = 0;
	foreach(cell, rows)
	{
		const OmLogRow *row = lfirst(cell);

		for (int i = 0; i < row->norders; i++)
			ids[count++] = UUIDPGetDatum(&row->orders[i]);
	}
	return construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

static void
put_rows(ReturnSetInfo *result, uint64 nrows)
{
	for (uint64 row = 0; row < nrows; row++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[row]);
	SPI_freetuptable(SPI_tuptable);
}

static void
check_stuck(ReturnSetInfo *result)
{
	Datum arg = PointerGetDatum(orders_before_updater());
	OmQueryScope scope;

	om_query_begin(&scope);
	put_rows(result, om_query_read(&stuck_query, &arg, NULL));
	om_query_end(&scope);
}

Datum
om_invariants_check(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OmQueryScope scope;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	om_query_begin(&scope);
	for (int i = 0; i < (int) lengthof(checks); i++)
		put_rows(result, om_query_read(&checks[i], NULL, NULL));
	om_query_end(&scope);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		check_consumer(result, stage);
	check_stuck(result);
	return (Datum) 0;
}
