/*
 * comments.c
 *		What each column of the data tables means.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "comments.h"
#include "names.h"
#include "plans.h"

typedef struct ColumnComment
{
	const char *relation;
	const char *column;
	const char *text;
} ColumnComment;

static const ColumnComment column_comments[] = {
	{"installation", "only_row", "Always true: there is one row."},
	{"installation", "schema_version", "Version of the stored data."},
	{"installation", "system_identifier", "Cluster in which the data were last written."},
	{"installation", "database_oid", "Database in which the data were last written."},
	{"installation", "xid_base", "What makes a logical transaction id (lxid) of a transaction id."},
	{"installation", "moved", "Restored or cloned; workers rest until post_restore()."},
	{"installation", "lane_key", "Key of the hash that gives a customer its lane."},
	{"installation", "created_at", "Time of setup()."},
	{"rotations", "name", "Family of tables."},
	{"rotations", "slot", "Number of the table that is written now."},
	{"rotations", "since", "Time from which it is."},
	{"accounts", "customer_id", "Customer, 1 to 64 characters."},
	{"accounts", "name", "Name, for people."},
	{"accounts", "email", "E-mail address."},
	{"accounts", "metadata", "Whatever the application keeps with the customer: a JSON object."},
	{"accounts", "balance", "Credit, in currency units."},
	{"accounts", "reserved", "Part of it that is held for orders under way."},
	{"accounts", "created_at", "Time at which the account was made."},
	{"accounts", "updated_at", "Time of the last change."},
	{"products", "product_id", "Product, 1 to 64 characters."},
	{"products", "name", "Name, for people."},
	{"products", "unit_price", "Price of order lines that give none, in currency units."},
	{"products", "metadata", "Whatever the application keeps with the product: a JSON object."},
	{"products", "created_at", "Time at which the product was made."},
	{"products", "updated_at", "Time of the last change."},
	{"stock", "product_id", "Product."},
	{"stock", "on_hand", "Units there."},
	{"stock", "reserved", "Units of them that are held for orders under way."},
	{"stock", "updated_at", "Time of the last change."},
	{"orders", "order_id", "Order, a UUID of version 7."},
	{"orders", "created_at", "Time of capture, the one inside order_id."},
	{"orders", "customer_id", "Customer."},
	{"orders", "order_ref", "Reference that the application gave the order."},
	{"orders", "status", "captured, confirmed, shipped, rejected, cancelled or failed."},
	{"orders", "settled",
	 "Verdicts that need no more, as bits: 1 balance, 2 stock; 3 in every final state."},
	{"orders", "reasons", "Why it was rejected or cancelled by a timeout."},
	{"orders", "total", "Sum of quantity times unit_price of its lines, in currency units."},
	{"orders", "metadata", "Whatever the application keeps with the order: a JSON object."},
	{"orders", "trail", "Transactions (lxid) that wrote events of the order."},
	{"orders", "updated_at", "Time of the last change."},
	{"order_lines", "order_id", "Order."},
	{"order_lines", "created_at", "Time of capture, as in orders."},
	{"order_lines", "line_no", "Number of the line, from 1."},
	{"order_lines", "product_id", "Product."},
	{"order_lines", "quantity", "Units ordered."},
	{"order_lines", "unit_price", "Price of one unit, in currency units."},
	{"event_log", "at", "Time at which the event was written."},
	{"event_log", "lxid", "Logical id of the transaction that wrote it."},
	{"event_log", "event_id", "Id of the first event of the row."},
	{"event_log", "event_type", "What happened."},
	{"event_log", "order_ids", "Orders that it happened to, 16 bytes each."},
	{"event_log", "customer_id", "Account that changed."},
	{"event_log", "product_id", "Product whose stock changed."},
	{"event_log", "detail", "What else there is to say: a JSON object."},
	{"consumers", "name", "Consumer."},
	{"consumers", "kind", "built-in."},
	{"consumers", "event_types", "Types of events that it reads."},
	{"consumers", "max_attempts", "Attempts at an event before it is given up."},
	{"consumers", "paused", "Whether it rests."},
	{"consumers", "created_at", "Time at which it was made."},
	{"events", "event_id", "Event."},
	{"events", "at", "Time at which it was written."},
	{"events", "event_type", "What happened."},
	{"events", "order_id", "Order that it happened to."},
	{"events", "customer_id", "Account that changed, or customer of the order."},
	{"events", "product_id", "Product whose stock changed."},
	{"events", "detail", "What else there is to say: a JSON object."},
	{"events", "lxid", "Logical id of the transaction that wrote it."},
	{"cursor_log_0", "consumer", "Consumer."},
	{"cursor_log_0", "seq", "Number of the position; the highest counts."},
	{"cursor_log_0", "tick_id", "Newest tick that the position includes."},
	{"cursor_log_0", "base", "Horizon up to which everything has been handled."},
	{"cursor_log_0", "target", "Horizon at the end of the window under way."},
	{"cursor_log_0", "lxid", "How far into that window: transaction ..."},
	{"cursor_log_0", "event_id", "... and event."},
	{"cursor_log_0", "processed", "Events handled since the beginning."},
	{"cursor_log_0", "restart_seq", "Position from which a restart reads again."},
	{"cursor_log_0", "at", "Time at which the position was stored."},
	{"cursor_log_1", "consumer", "Consumer."},
	{"cursor_log_1", "seq", "Number of the position; the highest counts."},
	{"cursor_log_1", "tick_id", "Newest tick that the position includes."},
	{"cursor_log_1", "base", "Horizon up to which everything has been handled."},
	{"cursor_log_1", "target", "Horizon at the end of the window under way."},
	{"cursor_log_1", "lxid", "How far into that window: transaction ..."},
	{"cursor_log_1", "event_id", "... and event."},
	{"cursor_log_1", "processed", "Events handled since the beginning."},
	{"cursor_log_1", "restart_seq", "Position from which a restart reads again."},
	{"cursor_log_1", "at", "Time at which the position was stored."},
	{"ticks_0", "tick_id", "Tick, numbered without gaps."},
	{"ticks_0", "snapshot",
	 "Horizon: xmin, xmax, own transaction and event, running transactions."},
	{"ticks_0", "at", "Time at which the tick was made."},
	{"ticks_1", "tick_id", "Tick, numbered without gaps."},
	{"ticks_1", "snapshot",
	 "Horizon: xmin, xmax, own transaction and event, running transactions."},
	{"ticks_1", "at", "Time at which the tick was made."},
	{"idempotency_keys_0", "key_hash", "Hash of kind, customer or product, and key."},
	{"idempotency_keys_0", "request_hash", "Hash of the request that used it first."},
	{"idempotency_keys_0", "order_id", "Order that the request made."},
	{"idempotency_keys_0", "result", "What an adjustment returned."},
	{"idempotency_keys_0", "at", "Time of the first use."},
	{"idempotency_keys_1", "key_hash", "Hash of kind, customer or product, and key."},
	{"idempotency_keys_1", "request_hash", "Hash of the request that used it first."},
	{"idempotency_keys_1", "order_id", "Order that the request made."},
	{"idempotency_keys_1", "result", "What an adjustment returned."},
	{"idempotency_keys_1", "at", "Time of the first use."},
	{"idempotency_keys_2", "key_hash", "Hash of kind, customer or product, and key."},
	{"idempotency_keys_2", "request_hash", "Hash of the request that used it first."},
	{"idempotency_keys_2", "order_id", "Order that the request made."},
	{"idempotency_keys_2", "result", "What an adjustment returned."},
	{"idempotency_keys_2", "at", "Time of the first use."},
	{"idempotency_keys_3", "key_hash", "Hash of kind, customer or product, and key."},
	{"idempotency_keys_3", "request_hash", "Hash of the request that used it first."},
	{"idempotency_keys_3", "order_id", "Order that the request made."},
	{"idempotency_keys_3", "result", "What an adjustment returned."},
	{"idempotency_keys_3", "at", "Time of the first use."},
};

void
om_comments_add(const char *relation)
{
	for (int i = 0; i < (int) lengthof(column_comments); i++)
	{
		const ColumnComment *comment = &column_comments[i];

		if (strcmp(comment->relation, relation) == 0)
			om_query_utility(psprintf("COMMENT ON COLUMN %s.%s.%s IS %s", OM_SCHEMA, relation,
									  comment->column, quote_literal_cstr(comment->text)));
	}
}
