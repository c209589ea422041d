/*
 * proofs.c
 *		The invariants and their SQL.
 *
 * A replay takes an order up again in a new round.  Its verdicts and decisions
 * say in their detail to which round they belong (none: the first, 0); only
 * those of the order's current round count.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "proofs.h"

/* Events of orders, one row each. */
#define LOG_OF_ORDERS           \
	"order_mgmt.event_log AS l" \
	" CROSS JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS u"

#define ROUND                                              \
	"CASE WHEN jsonb_typeof(l.detail->'round') = 'number'" \
	" THEN (l.detail->>'round')::numeric ELSE 0 END"

/* The detail of these is the users'. */
#define HAS_NO_ROUND "l.event_type IN ('order_shipped', 'order_noted')"

#define LINES_OF(order) "n.order_id = " order ".order_id AND n.created_at = " order ".created_at"

/*
 * The order lies in a month that is in the archive; its row may be there or not.  A month may have
 * a row a microsecond later as well (archivedamounts.c).
 */
#define MONTH_OF(id) "date_trunc('month', order_mgmt.uuid_time(" id "), 'UTC')"
#define IN_ARCHIVE(id)                                                                 \
	"EXISTS (SELECT FROM order_mgmt.archived_months AS m WHERE m.month IN (" MONTH_OF( \
		id) ", " MONTH_OF(id) " + '1 microsecond'::interval))"

/*
 * Some of the order's events are in the archive: its month has come back, a later
 * one has not.  Where the oldest months go first no order is older than those.
 */
#define IS_PARTLY_THERE                                                                         \
	"o.created_at < coalesce((SELECT max(month) FROM order_mgmt.archived_months), '-infinity')" \
	" AND EXISTS (SELECT"                                                                       \
	" FROM order_mgmt.archived_months AS m, unnest(o.trail) AS t(lxid)"                         \
	" WHERE t.lxid BETWEEN m.first_lxid AND m.last_lxid)"

/* The order is there with all its events, or should be. */
#define IS_THERE(id)                                                                          \
	"CASE WHEN o.order_id IS NULL THEN NOT " IN_ARCHIVE(id) " ELSE NOT (" IS_PARTLY_THERE ")" \
															" END"

#define ROW_OF_ORDER "o.order_id = u.order_id AND o.created_at = order_mgmt.uuid_time(u.order_id)"

/* Orders with a verdict that holds and has not been settled. */
#define HELD(event, bit)                                                                       \
	"(SELECT o.* FROM order_mgmt.orders AS o WHERE (o.settled & " bit ") = 0"                  \
	" AND (o.order_id, o.round::numeric) IN (SELECT u.order_id, " ROUND " FROM " LOG_OF_ORDERS \
	"  WHERE l.event_type = '" event "')) AS o"

/* Shipped by us: an imported order has moved nothing. */
#define SHIPPED \
	"(SELECT * FROM order_mgmt.orders WHERE status = 'shipped' AND (settled & 4) = 0) AS o"

#define UNITS_OF(orders)                                           \
	"(SELECT n.product_id, sum(n.quantity) AS amount FROM " orders \
	" JOIN order_mgmt.order_lines AS n ON " LINES_OF("o") " GROUP BY 1)"

/* Accounts and stock as the log has them, also those whose row is missing. */
#define AMOUNTS(key, total)                                                                    \
	" " key " AS key, a." total " AS total, a.reserved,"                                       \
	" c.amount IS NOT NULL OR coalesce(x.has_changes, false) AS has_changes,"                  \
	" coalesce(c.amount, 0) - coalesce(s.amount, 0) + coalesce(x.amount, 0) AS derived_total," \
	" coalesce(h.amount, 0) AS derived_reserved"

#define CHANGES(key, event, member)                                                      \
	" FULL JOIN (SELECT " key ", sum((detail->>'" member "')::numeric) AS amount"        \
	"  FROM order_mgmt.event_log WHERE event_type = '" event "' AND " key " IS NOT NULL" \
	"  GROUP BY 1) AS c USING (" key ")"

/* What it came to in months that are in the archive. */
#define ARCHIVED(kind, key)                                                  \
	" FULL JOIN (SELECT key AS " key ", sum(amount) AS amount,"              \
	"  bool_or(has_changes) AS has_changes FROM order_mgmt.archived_amounts" \
	"  WHERE kind = '" kind "' GROUP BY 1) AS x USING (" key ")"

#define ACCOUNTS                                                                                \
	"(SELECT" AMOUNTS("customer_id", "balance") " FROM order_mgmt.accounts AS a" CHANGES(       \
		"customer_id", "balance_changed", "amount")                                             \
		ARCHIVED(                                                                               \
			"account",                                                                          \
			"customer_id") " FULL JOIN (SELECT customer_id, sum(total) AS amount FROM " SHIPPED \
						   "  GROUP BY 1) AS s USING (customer_id)"                             \
						   " FULL JOIN (SELECT customer_id, sum(total) AS amount FROM " HELD(   \
							   "balance_held", "1") "  GROUP BY 1) AS h USING (customer_id))"

#define STOCK                                                                         \
	"(SELECT" AMOUNTS("product_id", "on_hand") " FROM order_mgmt.stock AS a" CHANGES( \
		"product_id", "stock_changed", "quantity")                                    \
		ARCHIVED("product", "product_id") " FULL JOIN " UNITS_OF(                     \
			SHIPPED) " AS s USING (product_id)"                                       \
					 " FULL JOIN " UNITS_OF(HELD("stock_held", "2")) " AS h USING (product_id))"

/* Nothing is expected of a row that is rightly not there. */
#define DERIVED(amount) "CASE WHEN total IS NULL THEN nullif(" amount ", 0) ELSE " amount " END"

/* ---------- the history of an order, round by round ---------- */

#define FIRST(word) ", min(event_id) FILTER (WHERE event_type = '" word "') AS " word

/*
 * A verdict belongs to the trail once the order updater has dealt with it,
 * every other event at once.
 */
#define BELONGS_TO_TRAIL                                                                           \
	"CASE WHEN l.event_type IN ('balance_held', 'balance_refused') THEN " DEALT_WITH(              \
		"1") " WHEN l.event_type IN ('stock_held', 'stock_refused') THEN " DEALT_WITH("2") " ELSE" \
																						   " true" \
																						   " END"
#define DEALT_WITH(bit)                                                              \
	"o.status IN ('confirmed', 'shipped', 'rejected') OR (o.settled & " bit ") <> 0" \
	" OR " ROUND " < o.round"

#define HISTORIES(condition)                                                                       \
	"(SELECT order_id, round, max(status) AS status, max(settled) AS settled,"                     \
	" max(current_round) AS current_round, max(trail) AS trail, max(updated_at) AS updated_at,"    \
	" max(at) AS last_at,"                                                                         \
	" array_agg(lxid) FILTER (WHERE of_trail AND lxid <> ALL (trail)) AS missing" FIRST(           \
		"order_captured") FIRST("balance_held") FIRST("balance_refused") FIRST("stock_held")       \
		FIRST("stock_refused") FIRST("order_confirmed") FIRST("order_rejected")                    \
			FIRST("order_shipped") FIRST("order_cancelled") FIRST("order_failed")                  \
				FIRST("order_released")                                                            \
					FIRST("order_imported") " FROM (SELECT u.order_id, l.event_id, l.event_type, " \
											"l.lxid, l.at, o.status, o.settled,"                   \
											"  o.round AS current_round, o.trail, o.updated_at,"   \
											"  CASE WHEN " HAS_NO_ROUND                            \
											" THEN coalesce(o.round, 0) ELSE " ROUND               \
											" END AS round,"                                       \
											"  " BELONGS_TO_TRAIL " AS of_trail"                   \
											"  FROM " LOG_OF_ORDERS                                \
											" LEFT JOIN order_mgmt.orders AS o ON " ROW_OF_ORDER   \
											"  WHERE " IS_THERE(                                   \
												"u.order_id") " AND (" condition                   \
															  ")) AS e GROUP BY order_id, round)"

#define BALANCE_VERDICT "coalesce(balance_held, balance_refused)"
#define STOCK_VERDICT "coalesce(stock_held, stock_refused)"
#define LAST_VERDICT "greatest(balance_held, balance_refused, stock_held, stock_refused)"
#define BOTH_VERDICTS "num_nonnulls(" BALANCE_VERDICT ", " STOCK_VERDICT ") = 2"
#define IN_ROUND(subject) subject " || CASE WHEN round > 0 THEN ' round ' || round ELSE '' END"

/* The first rule that a history breaks.  Event ids grow, so they tell the order of events. */
#define BROKEN_RULE                                                                               \
	"CASE WHEN order_imported IS NOT NULL THEN CASE WHEN num_nonnulls(order_captured, "           \
	"balance_held,"                                                                               \
	"  balance_refused, stock_held, stock_refused, order_confirmed, order_rejected, "             \
	"order_shipped,"                                                                              \
	"  order_cancelled, order_failed, order_released) > 0 THEN 'nothing but order_imported' END"  \
	" WHEN order_captured IS NULL OR order_captured > least(balance_held, balance_refused,"       \
	"  stock_held, stock_refused, order_confirmed, order_rejected, order_shipped, "               \
	"order_cancelled,"                                                                            \
	"  order_failed, order_released) THEN 'begins with order_captured'"                           \
	" WHEN num_nonnulls(balance_held, balance_refused) > 1 THEN 'one verdict on the balance'"     \
	" WHEN num_nonnulls(stock_held, stock_refused) > 1 THEN 'one verdict on the stock'"           \
	" WHEN order_confirmed IS NOT NULL AND (num_nonnulls(balance_held, stock_held) < 2"           \
	"  OR order_confirmed < " LAST_VERDICT                                                        \
	") THEN 'order_confirmed after balance_held and stock_held'"                                  \
	" WHEN order_rejected IS NOT NULL AND (num_nonnulls(balance_refused, stock_refused) = 0"      \
	"  OR NOT " BOTH_VERDICTS " OR order_rejected < " LAST_VERDICT ")"                            \
	"  THEN 'order_rejected after two verdicts, one of them a refusal'"                           \
	" WHEN order_shipped < order_confirmed OR (order_shipped IS NOT NULL AND order_confirmed IS " \
	"NULL)"                                                                                       \
	"  THEN 'order_shipped after order_confirmed'"                                                \
	" WHEN num_nonnulls(order_shipped, order_rejected, order_cancelled, order_failed) > 1"        \
	"  THEN 'one end'"                                                                            \
	" WHEN order_confirmed > least(order_cancelled, order_failed)"                                \
	"  THEN 'order_confirmed before its end'"                                                     \
	" WHEN order_released IS NOT NULL AND (num_nonnulls(order_cancelled, order_failed) = 0"       \
	"  OR num_nonnulls(balance_held, stock_held) = 0 OR NOT " BOTH_VERDICTS                       \
	"  OR order_released < greatest(order_cancelled, order_failed, " LAST_VERDICT "))"            \
	"  THEN 'order_released after two verdicts and a cancellation or failure'"                    \
	" WHEN round < current_round AND (order_failed IS NULL OR NOT " BOTH_VERDICTS                 \
	"  OR (num_nonnulls(balance_held, stock_held) > 0 AND order_released IS NULL))"               \
	"  THEN 'failed and settled before the next round' END"

/* What happened, in order. */
#define STORY                                                                  \
	"(SELECT string_agg(s.word, ' ' ORDER BY s.id) FROM (VALUES"               \
	" (order_captured, 'order_captured'), (balance_held, 'balance_held'),"     \
	" (balance_refused, 'balance_refused'), (stock_held, 'stock_held'),"       \
	" (stock_refused, 'stock_refused'), (order_confirmed, 'order_confirmed')," \
	" (order_rejected, 'order_rejected'), (order_shipped, 'order_shipped'),"   \
	" (order_cancelled, 'order_cancelled'), (order_failed, 'order_failed'),"   \
	" (order_released, 'order_released'),"                                     \
	" (order_imported, 'order_imported')) AS s(id, word) WHERE s.id IS NOT NULL)"

/* The status that the current round leads to. */
#define DERIVED_STATUS                                                                           \
	"CASE WHEN status IS NULL OR round <> current_round THEN status"                             \
	" WHEN num_nonnulls(order_shipped, order_imported) > 0 THEN 'shipped' WHEN order_failed IS " \
	"NOT NULL THEN 'failed'"                                                                     \
	" WHEN order_cancelled IS NOT NULL THEN 'cancelled'"                                         \
	" WHEN order_rejected IS NOT NULL THEN 'rejected'"                                           \
	" WHEN order_confirmed IS NOT NULL THEN 'confirmed' ELSE 'captured' END"

/* A verdict that has not been met cannot have been settled. */
#define DERIVED_SETTLED                                                            \
	"CASE WHEN status IS NULL OR round <> current_round THEN settled"              \
	" WHEN order_imported IS NOT NULL THEN 7"                                      \
	" WHEN status IN ('shipped', 'rejected') OR order_released IS NOT NULL THEN 3" \
	" WHEN status IN ('captured', 'confirmed') THEN 0"                             \
	" ELSE settled & (CASE WHEN " BALANCE_VERDICT " IS NULL THEN 0 ELSE 1 END"     \
	"  | CASE WHEN " STOCK_VERDICT " IS NULL THEN 0 ELSE 2 END) END"

/* get_order() looks for events up to a day after the last change of the order. */
#define DERIVED_UPDATED_AT \
	"CASE WHEN last_at > updated_at + '1 day'::interval THEN last_at ELSE updated_at END"

#define DERIVED_TRAIL                      \
	"CASE WHEN missing IS NULL THEN trail" \
	" ELSE trail || ARRAY(SELECT DISTINCT m FROM unnest(missing) AS m ORDER BY m) END"

/* ---------- reasons ---------- */

#define REASONS_OF(events)                                                                      \
	"(SELECT u.order_id, " ROUND " AS round, array_agg(DISTINCT r ORDER BY r) AS reasons"       \
	" FROM " LOG_OF_ORDERS " LEFT JOIN LATERAL jsonb_array_elements_text("                      \
	"  CASE jsonb_typeof(l.detail->'reasons') WHEN 'array' THEN l.detail->'reasons' ELSE '[]' " \
	"END)"                                                                                      \
	"  AS r ON true WHERE l.event_type IN (" events ") GROUP BY 1, 2)"
#define WITHOUT_NULL(array) "array_remove(coalesce(" array ", '{}'), NULL)"

/* Expiry is the only reason of a cancelled order; a client may have given the same word. */
#define DERIVED_REASONS                                                                       \
	"CASE status WHEN 'rejected' THEN " WITHOUT_NULL(                                         \
		"logged") " WHEN 'failed' THEN reasons"                                               \
				  " WHEN 'cancelled' THEN CASE WHEN cancelled_for = 'expired' AND reasons = " \
				  "'{expired}'"                                                               \
				  "  THEN reasons ELSE '{}' END ELSE '{}' END"

#define KEYS                                                                  \
	"(SELECT key_hash, order_id FROM order_mgmt.idempotency_keys_0"           \
	" UNION ALL SELECT key_hash, order_id FROM order_mgmt.idempotency_keys_1" \
	" UNION ALL SELECT key_hash, order_id FROM order_mgmt.idempotency_keys_2" \
	" UNION ALL SELECT key_hash, order_id FROM order_mgmt.idempotency_keys_3) AS k"

static const char *const sources[OM_PROOF_COUNT] = {
	[OM_PROOF_ACCOUNTS] = ACCOUNTS,
	[OM_PROOF_STOCK] = STOCK,
	[OM_PROOF_PRODUCTS] =
		"(SELECT s.product_id, p.product_id IS NOT NULL AS found FROM order_mgmt.stock AS s"
		" LEFT JOIN order_mgmt.products AS p ON p.product_id = s.product_id)",
	[OM_PROOF_ORDERS] =
		"(SELECT o.order_id, o.created_at, o.total, n.order_id AS lines_of, n.total AS sum,"
		" n.count, n.last FROM order_mgmt.orders AS o FULL JOIN (SELECT order_id, created_at,"
		"  sum(quantity * unit_price) AS total, count(*) AS count, max(line_no) AS last"
		"  FROM order_mgmt.order_lines GROUP BY 1, 2) AS n ON " LINES_OF("o") ")",
	[OM_PROOF_CAPTURES] =
		"(SELECT o.order_id, o.round, c.round AS captured_round FROM order_mgmt.orders AS o"
		" LEFT JOIN (SELECT u.order_id, max(" ROUND ") AS round FROM " LOG_OF_ORDERS
		"  WHERE l.event_type IN ('order_captured', 'order_imported') GROUP BY 1) AS c ON "
		"c.order_id = o.order_id WHERE NOT (" IS_PARTLY_THERE "))",
	[OM_PROOF_HISTORIES] = HISTORIES("l.order_ids IS NOT NULL"),
	[OM_PROOF_REASONS] =
		"(SELECT o.order_id, o.status, j.reasons AS logged, f.reasons AS refused, x.reason AS"
		"  cancelled_for, ARRAY(SELECT r FROM unnest(o.reasons) AS r ORDER BY r) AS reasons"
		" FROM order_mgmt.orders AS o LEFT JOIN " REASONS_OF(
			"'order_rejected'") " AS j ON j.order_id = o.order_id AND j.round = o.round"
								" LEFT JOIN " REASONS_OF(
									"'balance_refused', 'stock_refused'") " AS f ON f.order_id = "
																		  "o.order_id AND f.round "
																		  "= o.round"
																		  " LEFT JOIN (SELECT "
																		  "u.order_id, "
																		  "min(l.detail->>'reason')"
																		  " AS reason "
																		  "FROM " LOG_OF_ORDERS
																		  "  WHERE l.event_type = "
																		  "'order_cancelled' GROUP "
																		  "BY 1) AS x ON "
																		  "x.order_id = o.order_id"
																		  " WHERE (o.status = "
																		  "'rejected' OR o.reasons "
																		  "<> '{}')"
																		  " AND NOT "
																		  "(" IS_PARTLY_THERE "))",
	[OM_PROOF_EVENTS] =
		"(SELECT u.order_id, l.event_type, CASE WHEN " HAS_NO_ROUND " THEN 0 ELSE " ROUND
		"  END AS round, count(*) AS count FROM " LOG_OF_ORDERS
		" WHERE l.event_type <> 'order_noted' GROUP BY 1, 2, 3 HAVING count(*) > 1)",
	[OM_PROOF_EVENT_ROWS] =
		"(SELECT event_id, CASE event_type WHEN 'balance_changed' THEN 'customer_id'"
		"  WHEN 'stock_changed' THEN 'product_id' ELSE 'order_ids' END AS expected, concat_ws(' ',"
		"  CASE WHEN octet_length(order_ids) > 0 AND octet_length(order_ids) % 16 = 0"
		"   THEN 'order_ids' WHEN order_ids IS NOT NULL THEN 'broken order_ids' END,"
		"  CASE WHEN customer_id IS NOT NULL THEN 'customer_id' END,"
		"  CASE WHEN product_id IS NOT NULL THEN 'product_id' END) AS actual"
		" FROM order_mgmt.event_log)",
	[OM_PROOF_EVENT_IDS] = "(SELECT event_id, count(*) AS count FROM order_mgmt.event_log"
						   " GROUP BY 1 HAVING count(*) > 1)",
	[OM_PROOF_EVENT_SEQUENCE] =
		"(SELECT s.last_value, greatest((SELECT max(event_id) FROM order_mgmt.event_log),"
		"  (SELECT max(last_event_id) FROM order_mgmt.archived_months)) AS newest"
		" FROM order_mgmt.event_ids AS s)",
	[OM_PROOF_KEYS] = "(SELECT k.key_hash, k.order_id, o.order_id AS found FROM " KEYS
					  " LEFT JOIN order_mgmt.orders AS o ON o.order_id = k.order_id"
					  " AND o.created_at = order_mgmt.uuid_time(k.order_id)"
					  " WHERE o.order_id IS NOT NULL OR NOT " IN_ARCHIVE("k.order_id") ")",
	[OM_PROOF_KEY_TABLES] =
		"(SELECT key_hash, count(*) AS count FROM " KEYS " GROUP BY 1 HAVING count(*) > 1)",
};

const OmInvariant om_invariants[] = {
	{OM_PROOF_ACCOUNTS, "account_reserved", "account", "what is held for orders is reserved", true,
	 OM_BLOCKS_NOTHING, "key", DERIVED("derived_reserved"), "reserved"},
	{OM_PROOF_ACCOUNTS, "account_balance", "account",
	 "the balance is the sum of its changes less the shipped orders", true, OM_BLOCKS_NOTHING,
	 "key", DERIVED("derived_total"), "total"},
	{OM_PROOF_ACCOUNTS, "account_covers_reserved", "account",
	 "a balance is at least what is reserved", false, OM_BLOCKS_NOTHING, "key",
	 "greatest(total, reserved)", "total"},
	{OM_PROOF_STOCK, "stock_reserved", "product", "what is held for orders is reserved", true,
	 OM_BLOCKS_NOTHING, "key", DERIVED("derived_reserved"), "reserved"},
	{OM_PROOF_STOCK, "stock_on_hand", "product",
	 "what is on hand is the sum of its changes less the shipped units", true, OM_BLOCKS_NOTHING,
	 "key", DERIVED("derived_total"), "total"},
	{OM_PROOF_STOCK, "stock_covers_reserved", "product",
	 "what is on hand is at least what is reserved", false, OM_BLOCKS_NOTHING, "key",
	 "greatest(total, reserved)", "total"},
	{OM_PROOF_PRODUCTS, "stock_without_product", "product", "stock belongs to a product", false,
	 OM_BLOCKS_NOTHING, "product_id", "true", "found"},
	{OM_PROOF_ORDERS, "order_total", "order", "the total is the sum of the lines", false,
	 OM_BLOCKS_ORDER, "order_id", "CASE WHEN lines_of IS NULL THEN total ELSE sum END",
	 "CASE WHEN order_id IS NULL THEN sum ELSE total END"},
	{OM_PROOF_ORDERS, "order_without_lines", "order", "an order has lines", false, OM_BLOCKS_ORDER,
	 "order_id", "true", "lines_of IS NOT NULL"},
	{OM_PROOF_ORDERS, "order_line_without_order", "order", "lines belong to an order", false,
	 OM_BLOCKS_ORDER, "lines_of", "true", "lines_of IS NULL OR order_id IS NOT NULL"},
	{OM_PROOF_ORDERS, "order_line_numbers", "order", "lines are numbered from 1, without a gap",
	 false, OM_BLOCKS_ORDER, "coalesce(order_id, lines_of)", "last", "count"},
	{OM_PROOF_ORDERS, "order_time", "order", "the time of an order is the one in its id", false,
	 OM_BLOCKS_ORDER, "order_id", "order_mgmt.uuid_time(order_id)", "created_at"},
	{OM_PROOF_CAPTURES, "order_without_events", "order", "an order has its order_captured", false,
	 OM_BLOCKS_ORDER, "order_id", "true", "captured_round IS NOT NULL"},
	{OM_PROOF_CAPTURES, "order_round", "order", "the round is that of the last order_captured",
	 false, OM_BLOCKS_ORDER, "order_id", "coalesce(captured_round, round)", "round"},
	{OM_PROOF_HISTORIES, "event_without_order", "order", "events belong to an order", false,
	 OM_BLOCKS_ORDER, IN_ROUND("order_id"), "true", "status IS NOT NULL"},
	{OM_PROOF_HISTORIES, "order_history", "order and round", "events follow each other as they may",
	 false, OM_BLOCKS_ORDER, IN_ROUND("order_id"), BROKEN_RULE,
	 "CASE WHEN " BROKEN_RULE " IS NOT NULL THEN " STORY " END"},
	{OM_PROOF_HISTORIES, "order_status", "order", "the status is the one that the events lead to",
	 false, OM_BLOCKS_ORDER, "order_id", DERIVED_STATUS, "status"},
	{OM_PROOF_HISTORIES, "order_settled", "order",
	 "the verdicts marked as settled are those posted, released or refused", true,
	 OM_BLOCKS_NOTHING, "order_id", DERIVED_SETTLED, "settled"},
	{OM_PROOF_HISTORIES, "order_trail", "order", "the trail leads get_order() to all events", true,
	 OM_BLOCKS_NOTHING, IN_ROUND("order_id"), DERIVED_TRAIL, "trail"},
	{OM_PROOF_HISTORIES, "order_updated_at", "order",
	 "the last change is not older than the last event", true, OM_BLOCKS_NOTHING,
	 IN_ROUND("order_id"), DERIVED_UPDATED_AT, "updated_at"},
	{OM_PROOF_REASONS, "order_reasons", "order", "the reasons are those of its order_rejected",
	 false, OM_BLOCKS_NOTHING, "order_id", DERIVED_REASONS, "reasons"},
	{OM_PROOF_REASONS, "rejection_reasons", "order",
	 "the reasons of order_rejected are those of the refusals", false, OM_BLOCKS_NOTHING,
	 "order_id", "CASE WHEN logged IS NOT NULL THEN " WITHOUT_NULL("refused") " END",
	 "CASE WHEN logged IS NOT NULL THEN " WITHOUT_NULL("logged") " END"},
	{OM_PROOF_EVENTS, "event_once", "order and event",
	 "nothing is captured, decided or shipped twice in a round", false, OM_BLOCKS_ORDER,
	 IN_ROUND("order_id || ' ' || event_type"), "1", "count"},
	{OM_PROOF_EVENT_ROWS, "event_subject", "event", "an event is about what its type says", false,
	 OM_BLOCKS_ALL, "event_id", "expected", "actual"},
	{OM_PROOF_EVENT_IDS, "event_id_once", "event", "no two events have one id", false,
	 OM_BLOCKS_NOTHING, "event_id", "1", "count"},
	{OM_PROOF_EVENT_SEQUENCE, "event_ids_ahead", "sequence",
	 "ids to come are above those that were given", false, OM_BLOCKS_NOTHING, "'event_ids'",
	 "greatest(last_value, newest)", "last_value"},
	{OM_PROOF_KEYS, "key_without_order", "hash of a key", "an idempotency key leads to an order",
	 false, OM_BLOCKS_NOTHING, "encode(key_hash, 'hex')", "order_id", "found"},
	{OM_PROOF_KEY_TABLES, "key_once", "hash of a key", "an idempotency key is there once", false,
	 OM_BLOCKS_NOTHING, "encode(key_hash, 'hex')", "1", "count"},
	{OM_PROOF_PIPELINE, "consumer_events", "consumer",
	 "events for a consumer have been handled or wait", false, OM_BLOCKS_NOTHING, NULL, NULL, NULL},
	{OM_PROOF_PIPELINE, "consumer_counts", "consumer and event type",
	 "events passed and events to come are all events", false, OM_BLOCKS_NOTHING, NULL, NULL, NULL},
	{OM_PROOF_PIPELINE, "order_moves_on", "order", "an order that is not done waits for a consumer",
	 false, OM_BLOCKS_NOTHING, NULL, NULL, NULL},
};

const int om_invariant_count = lengthof(om_invariants);

static OmQuery queries[OM_PROOF_COUNT];

static void
append_differs(StringInfo sql, const OmInvariant *invariant)
{
	appendStringInfo(sql, "(%s) IS DISTINCT FROM (%s)", invariant->expected, invariant->actual);
}

/* The rows in which anything differs are found first, then told in words. */
static char *
build_sql(OmProof proof)
{
	const char *separator = "";
	StringInfoData rows;
	StringInfoData sql;

	initStringInfo(&rows);
	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "SELECT v.invariant, v.subject, v.expected, v.actual"
					 " FROM (SELECT * FROM %s AS d WHERE ",
					 sources[proof]);
	for (int i = 0; i < om_invariant_count; i++)
	{
		const OmInvariant *invariant = &om_invariants[i];

		if (invariant->proof != proof)
			continue;
		appendStringInfoString(&sql, *separator ? " OR " : "");
		append_differs(&sql, invariant);
		appendStringInfo(&rows, "%s('%s'::text, (%s)::text, (%s)::text, (%s)::text, ", separator,
						 invariant->name, invariant->subject, invariant->expected,
						 invariant->actual);
		append_differs(&rows, invariant);
		appendStringInfoString(&rows, ")");
		separator = ", ";
	}
	appendStringInfo(&sql,
					 ") AS d CROSS JOIN LATERAL (VALUES %s)"
					 " AS v(invariant, subject, expected, actual, differs) WHERE v.differs",
					 rows.data);
	return sql.data;
}

OmQuery *
om_proof_query(OmProof proof)
{
	if (queries[proof].sql == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		queries[proof].sql = build_sql(proof);
		MemoryContextSwitchTo(caller);
	}
	return &queries[proof];
}

void
om_proofs_begin(OmQueryScope *scope)
{
	om_query_begin(scope);
	/* The end of the scope puts it back. */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* ---------- what can be mended ---------- */

OmQuery om_proof_orders_query = {
	.sql = "SELECT order_id, settled::int, derived_settled, trail::text, derived_trail::text,"
		   " missing, updated_at::text, derived_updated_at::text FROM (SELECT *,"
		   "  " DERIVED_SETTLED " AS derived_settled, " DERIVED_TRAIL " AS derived_trail,"
		   "  " DERIVED_UPDATED_AT " AS derived_updated_at"
		   "  FROM " HISTORIES(
			   "u.order_id = ANY ($1)") " AS h) AS d"
										" WHERE (settled <> derived_settled OR missing IS NOT NULL"
										"  OR updated_at <> derived_updated_at) AND order_id <> "
										"ALL ($2)"
										" ORDER BY order_id, round",
	.nargs = 2,
	.types = {UUIDARRAYOID, UUIDARRAYOID}};

/*
 * Left alone: a row whose total the log knows nothing of (it was put there by
 * hand), and what depends on an order that cannot be trusted.  Where such an
 * order, or all its lines, are gone, that can be anybody.
 */
#define SUSPECTS(key, table)                                                           \
	"suspects AS MATERIALIZED (SELECT n." key " AS key FROM unnest($1) AS s(order_id)" \
	" LEFT JOIN order_mgmt." table " AS n ON n.order_id = s.order_id"                  \
	"  AND n.created_at = order_mgmt.uuid_time(s.order_id))"

#define MENDABLE(source, key, table, type, limit)                                                 \
	"WITH " SUSPECTS(                                                                             \
		key,                                                                                      \
		table) " SELECT key::text, total::text, reserved::text, new_total::" type "::text, "      \
			   "new_reserved::" type "::text"                                                     \
			   " FROM (SELECT d.*, CASE WHEN has_changes THEN derived_total ELSE total END AS "   \
			   "new_total,"                                                                       \
			   "  derived_reserved AS new_reserved FROM " source                                  \
			   " AS d WHERE total IS NOT NULL) AS d"                                              \
			   " WHERE (new_total <> total OR new_reserved <> reserved)"                          \
			   " AND new_reserved BETWEEN 0 AND new_total AND new_total <= " limit                \
			   " AND NOT EXISTS (SELECT FROM suspects AS s WHERE s.key IS NULL OR s.key = d.key)" \
			   " ORDER BY key COLLATE \"C\""

OmQuery om_proof_accounts_query = {
	.sql = MENDABLE(ACCOUNTS, "customer_id", "orders", "numeric(18,4)", "99999999999999.9999"),
	.nargs = 1,
	.types = {UUIDARRAYOID}};

OmQuery om_proof_stock_query = {
	.sql = MENDABLE(STOCK, "product_id", "order_lines", "bigint", "9223372036854775807"),
	.nargs = 1,
	.types = {UUIDARRAYOID}};
