/*
 * api_products.c
 *		Products and their stock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "api_arguments.h"
#include "archivedamounts.h"
#include "errors.h"
#include "eventlog.h"
#include "installation.h"
#include "jsonout.h"
#include "keys.h"
#include "ledger.h"
#include "money.h"
#include "plans.h"

/* on_hand, reserved and available are NULL for a product that is not stocked. */
#define PRODUCT_SELECT                                                                    \
	"SELECT p.product_id::text, p.name, p.unit_price, p.metadata, s.on_hand, s.reserved," \
	" s.on_hand - s.reserved, p.created_at, p.updated_at FROM order_mgmt.products AS p"   \
	" LEFT JOIN order_mgmt.stock AS s USING (product_id)"

static OmQuery ensure_product_query = {
	.sql = "INSERT INTO order_mgmt.products (product_id, metadata, created_at, updated_at)"
		   " VALUES ($1, '{}', pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp())"
		   " ON CONFLICT (product_id) DO NOTHING",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery describe_query = {
	.sql = "UPDATE order_mgmt.products SET name = nullif(coalesce($2, name), ''),"
		   " unit_price = coalesce($3, unit_price), metadata = coalesce($4, metadata),"
		   " updated_at = pg_catalog.clock_timestamp() WHERE product_id = $1",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, NUMERICOID, JSONBOID}};

static OmQuery get_query = {
	.sql = PRODUCT_SELECT " WHERE p.product_id = $1", .nargs = 1, .types = {TEXTOID}};

static OmQuery list_query = {.sql = PRODUCT_SELECT " WHERE p.product_id > coalesce($2, '')"
												   " AND ($1 IS NULL OR p.product_id = ANY ($1))"
												   " ORDER BY p.product_id LIMIT $3",
							 .nargs = 3,
							 .types = {TEXTARRAYOID, TEXTOID, INT8OID}};

static OmQuery ensure_stock_query = {
	.sql = "INSERT INTO order_mgmt.stock (product_id, on_hand, reserved, updated_at)"
		   " VALUES ($1, 0, 0, pg_catalog.clock_timestamp()) ON CONFLICT (product_id) DO NOTHING",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery get_stock_query = {
	.sql = "SELECT product_id::text, on_hand, reserved, updated_at FROM order_mgmt.stock"
		   " WHERE product_id = $1",
	.nargs = 1,
	.types = {TEXTOID}};

/*
 * What was shipped is found in the order lines of the months since then; the
 * figure after each movement is reckoned back from what is on hand now, past months in the archive
 * that came later.
 */
static OmQuery statement_query = {
	.sql = "WITH shipments AS MATERIALIZED ("
		   "  SELECT " OM_ARCHIVED_AMOUNTS_EVENT(
			   "l") ", l.at, -n.quantity AS quantity, o.order_id, o.updated_at"
					"   FROM (SELECT order_id, created_at, sum(quantity) AS quantity"
					"    FROM order_mgmt.order_lines WHERE product_id = $1 GROUP BY 1, 2) "
					"AS n"
					"   JOIN order_mgmt.orders AS o ON o.order_id = n.order_id"
					"    AND o.created_at = n.created_at AND o.status = 'shipped' AND "
					"(o.settled & "
					"4) = 0"
					"   CROSS JOIN LATERAL"
					"    order_mgmt.shipment_of(o.order_id, o.trail, o.created_at, "
					"o.updated_at) AS "
					"l),"
					" unseen AS MATERIALIZED (SELECT month AS at, amount FROM hidden"
					"  UNION ALL SELECT updated_at, quantity FROM shipments WHERE event_id "
					"IS NULL)"
					" SELECT event_id, at, kind, quantity, on_hand_after - "
					"coalesce((SELECT "
					"sum(u.amount)"
					"  FROM unseen AS u WHERE u.at > s.at), 0)::bigint, order_id, reason "
					"FROM ("
					" SELECT *, (SELECT on_hand FROM order_mgmt.stock WHERE product_id = "
					"$1)"
					"  - coalesce(sum(quantity) OVER (ORDER BY event_id DESC ROWS BETWEEN"
					"    UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS on_hand_after "
					"FROM ("
					"  SELECT l.event_id, l.at, 'adjustment'::text AS kind,"
					"   (l.detail->>'quantity')::bigint AS quantity, NULL::uuid AS "
					"order_id,"
					"   l.detail->>'reason' AS reason FROM order_mgmt.event_log AS l"
					"   WHERE l.product_id = $1 AND l.event_type = 'stock_changed'"
					"  UNION ALL"
					"  SELECT event_id, at, 'shipment', quantity::bigint, order_id, NULL "
					"FROM "
					"shipments"
					"   WHERE event_id IS NOT NULL"
					"  UNION ALL"
					"  SELECT event_id, at, 'shipment', amount::bigint, order_id, NULL "
					"FROM shown)"
					"  AS movements) AS s"
					" WHERE event_id > coalesce($4, 0) AND at >= coalesce($2, '-infinity')"
					" AND at < coalesce($3, 'infinity') ORDER BY event_id LIMIT $5",
	.nargs = 5,
	.types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	.plan_once = true};

static void
run(OmQuery *query, const Datum *args, const bool *isnull)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(query, args, isnull);
	om_query_end(&scope);
}

/* set_product(product_id, name, unit_price, metadata) → product */
OM_FUNCTION(om_set_product)
{
	Datum key = CStringGetTextDatum(om_arg_id(fcinfo, 0, "product_id"));
	Datum args[4] = {key, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};
	bool isnull[4] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2), PG_ARGISNULL(3)};

	om_api_begin_write("set_product()");
	if (!PG_ARGISNULL(2) && om_arg_money(fcinfo, 2, "unit_price") < 0)
		om_arg_raise("unit_price", "is negative");
	(void) om_arg_object(fcinfo, 3, "metadata");
	run(&ensure_product_query, &key, NULL);
	run(&describe_query, args, isnull);
	return om_query_return_row(fcinfo, &get_query, &key, NULL);
}

/* get_product(product_id) → product */
OM_FUNCTION(om_get_product)
{
	Datum key = CStringGetTextDatum(om_arg_id(fcinfo, 0, "product_id"));

	(void) om_installation_get();
	return om_query_return_set(fcinfo, &get_query, &key, NULL);
}

/* list_products(product_ids, after, page_size) → product */
OM_FUNCTION(om_list_products)
{
	Datum args[3] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
					 Int64GetDatum(om_arg_page_size(fcinfo, 2))};
	bool isnull[3] = {PG_ARGISNULL(0), PG_ARGISNULL(1), false};

	(void) om_installation_get();
	return om_query_return_set(fcinfo, &list_query, args, isnull);
}

static void
log_change(const char *product_id, int64 delta, int64 on_hand, const char *reason)
{
	OmLogWriter *log = om_log_begin();
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "quantity");
	om_json_int(&json, delta);
	om_json_key(&json, "on_hand");
	om_json_int(&json, on_hand);
	om_json_key(&json, "reason");
	om_json_string(&json, reason);
	om_json_close_object(&json);
	om_log_change(log, OM_EVENT_STOCK_CHANGED, CStringGetTextDatum(product_id),
				  om_json_result(&json));
	om_log_end(log);
}

/* Changes the stock of a locked product, with its event. */
static void
change_stock(OmLedgerEntry *product, int64 delta, const char *reason)
{
	if (!om_ledger_adjust(product, OM_LEDGER_STOCK, delta))
		ereport(
			ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("the stock of \"%s\" would not cover what is held, or be out of range",
					product->key),
			 errdetail_internal("{\"on_hand\": " INT64_FORMAT ", \"reserved\": " INT64_FORMAT "}",
								product->total, product->reserved),
			 errhint("Units on hand are at least what is held for orders under way.")));
	if (delta != 0)
		log_change(product->key, delta, product->total, reason);
}

/* set_stock(product_id, on_hand) → stock */
OM_FUNCTION(om_set_stock)
{
	char *product_id = om_arg_id(fcinfo, 0, "product_id");
	Datum key = CStringGetTextDatum(product_id);
	OmLedger *stock;
	OmLedgerEntry *product;

	om_api_begin_write("set_stock()");
	om_arg_require(fcinfo, 1, "on_hand");
	if (PG_GETARG_INT64(1) < 0)
		om_arg_raise("on_hand", "is negative");
	run(&ensure_product_query, &key, NULL);
	run(&ensure_stock_query, &key, NULL);
	CommandCounterIncrement();
	stock = om_ledger_lock(OM_LEDGER_STOCK, &product_id, 1, OM_LEDGER_WAIT);
	product = om_ledger_entry(stock, product_id);
	change_stock(product, PG_GETARG_INT64(1) - product->total, "set_stock");
	om_ledger_write(stock);
	PushActiveSnapshot(om_current_snapshot());
	(void) om_query_return_set(fcinfo, &get_stock_query, &key, NULL);
	PopActiveSnapshot();
	return (Datum) 0;
}

/* adjust_stock(product_id, delta, reason, idempotency_key) → bigint */
OM_FUNCTION(om_adjust_stock)
{
	char *product_id = om_arg_id(fcinfo, 0, "product_id");
	char *reason = om_arg_text(fcinfo, 2);
	char *name = om_arg_key(fcinfo, 3);
	int64 delta;
	OmLedger *stock;
	OmLedgerEntry *product;
	OmKey key;
	OmKeyRecord record;

	om_api_begin_write("adjust_stock()");
	om_arg_require(fcinfo, 1, "delta");
	delta = PG_GETARG_INT64(1);
	stock = om_ledger_lock(OM_LEDGER_STOCK, &product_id, 1, OM_LEDGER_WAIT);
	product = om_ledger_entry(stock, product_id);
	if (!product->exists)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND), errmsg("product \"%s\" has no stock", product_id),
				 om_errdetail("product_id", product_id),
				 errhint("Begin with order_mgmt.set_stock().")));
	if (name != NULL)
	{
		const char *request[2] = {psprintf(INT64_FORMAT, delta), reason};

		om_keys_begin();
		om_key_make(&key, OM_KEY_STOCK, product_id, name, request, lengthof(request));
		if (om_key_find(&key, &record))
		{
			om_key_require_same(&record, name);
			om_ledger_write(stock);
			PG_RETURN_DATUM(DirectFunctionCall1(numeric_int8, record.result));
		}
	}
	change_stock(product, delta, reason);
	om_ledger_write(stock);
	if (name != NULL)
		om_key_insert(&key, NULL, int64_to_numeric(product->total));
	PG_RETURN_INT64(product->total);
}

/* stock_statement(product_id, since, until, after, page_size) → movements */
OM_FUNCTION(om_stock_statement)
{
	Datum args[5] = {CStringGetTextDatum(om_arg_id(fcinfo, 0, "product_id")), PG_GETARG_DATUM(1),
					 PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
					 Int64GetDatum(om_arg_page_size(fcinfo, 4))};
	bool isnull[5] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2), PG_ARGISNULL(3), false};

	(void) om_installation_get();
	return om_archived_amounts_return_set(fcinfo, "product", &statement_query, args, isnull);
}
