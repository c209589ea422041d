/*
 * checkers.c
 *		Two checks of every captured order, each by itself: can the customer pay
 *		for it, and is all of it there?
 *
 * A check that passes holds what it checked.  The state of the order is not
 * looked at: an order that has been cancelled meanwhile is held and then
 * released by the order updater, which keeps every verdict in one place.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "checkers.h"
#include "jsonout.h"
#include "ledger.h"
#include "money.h"
#include "orders.h"

/* One refusal in the making. */
typedef struct Refusal
{
	uint32 reasons;
	OmJson shortages; /* an array, opened at the first */
} Refusal;

static void
add_shortage(Refusal *refusal, OmLedgerKind kind, OmReason reason, const char *key, int64 requested,
			 int64 available)
{
	void (*add_amount)(OmJson *, int64) = kind == OM_LEDGER_ACCOUNTS ? om_json_money : om_json_int;

	if (refusal->reasons == 0)
		om_json_open_array(&refusal->shortages);
	refusal->reasons |= 1u << reason;
	om_json_open_object(&refusal->shortages);
	om_json_key(&refusal->shortages, kind == OM_LEDGER_ACCOUNTS ? "customer_id" : "product_id");
	om_json_string(&refusal->shortages, key);
	om_json_key(&refusal->shortages, "requested");
	add_amount(&refusal->shortages, requested);
	om_json_key(&refusal->shortages, "available");
	add_amount(&refusal->shortages, available);
	om_json_close_object(&refusal->shortages);
}

/* Does this much fit?  If not, says why. */
static void
check_amount(Refusal *refusal, OmLedger *ledger, const char *key, int64 amount)
{
	OmLedgerEntry *entry = om_ledger_entry(ledger, key);
	bool is_account = ledger->kind == OM_LEDGER_ACCOUNTS;

	if (!entry->exists)
		add_shortage(refusal, ledger->kind,
					 is_account ? OM_REASON_UNKNOWN_ACCOUNT : OM_REASON_UNKNOWN_PRODUCT, key,
					 amount, 0);
	else if (amount > om_ledger_available(entry))
		add_shortage(refusal, ledger->kind,
					 is_account ? OM_REASON_INSUFFICIENT_BALANCE : OM_REASON_INSUFFICIENT_STOCK,
					 key, amount, om_ledger_available(entry));
}

Jsonb *
om_checkers_reasons_array(uint32 reasons)
{
	OmJson json = {0};

	om_json_open_array(&json);
	for (int reason = 0; reason < OM_REASON_COUNT; reason++)
	{
		if (reasons & (1u << reason))
			om_json_string(&json, om_reason_names[reason]);
	}
	om_json_close_array(&json);
	return om_json_result(&json);
}

static Jsonb *
shortages_json(Refusal *refusal)
{
	if (refusal->reasons == 0)
		om_json_open_array(&refusal->shortages);
	om_json_close_array(&refusal->shortages);
	return om_json_result(&refusal->shortages);
}

Jsonb *
om_checkers_reasons_detail(uint32 reasons)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, om_checkers_reasons_array(reasons));
	om_json_close_object(&json);
	return om_json_result(&json);
}

static Jsonb *
refusal_detail(Refusal *refusal)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, om_checkers_reasons_array(refusal->reasons));
	om_json_key(&json, "shortages");
	om_json_jsonb(&json, shortages_json(refusal));
	om_json_close_object(&json);
	return om_json_result(&json);
}

uint32
om_checkers_reasons(Jsonb *detail)
{
	JsonbValue buffer;
	JsonbValue *list;
	uint32 reasons = 0;

	list = detail == NULL
			 ? NULL
			 : getKeyJsonValueFromContainer(&detail->root, "reasons", strlen("reasons"), &buffer);
	if (list == NULL || list->type != jbvBinary)
		return 0;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		JsonbValue *word = getIthJsonbValueFromContainer(list->val.binary.data, i);
		int reason = om_names_find(om_reason_names, OM_REASON_COUNT, word->val.string.val,
								   word->val.string.len);

		if (reason >= 0)
			reasons |= 1u << reason;
	}
	return reasons;
}

/* The orders of all rows, in their order. */
static OmOrder **
read_orders(OmOrderTables *tables, const OmLogRows *rows)
{
	OmOrder **orders = palloc(sizeof(OmOrder *) * Max(rows->norders, 1));
	int count = 0;

	for (int r = 0; r < rows->count; r++)
	{
		for (int i = 0; i < rows->rows[r].norders; i++)
		{
			OmOrder *order = om_order_find(tables, &rows->rows[r].orders[i], GetActiveSnapshot());

			if (order == NULL)
				elog(ERROR, "event " INT64_FORMAT " is about an order that does not exist",
					 rows->rows[r].event_id);
			orders[count++] = order;
		}
	}
	return orders;
}

/* Writes the verdicts: those that hold packed, each refusal with its reasons. */
typedef struct Verdicts
{
	OmLogWriter *log;
	OmEventType held_type;
	OmEventType refused_type;
	int nheld;
	pg_uuid_t *held;
} Verdicts;

static Verdicts
begin_verdicts(OmEventType held_type, OmEventType refused_type, int norders)
{
	Verdicts verdicts = {
		.log = om_log_begin(), .held_type = held_type, .refused_type = refused_type};

	verdicts.held = palloc(sizeof(pg_uuid_t) * Max(norders, 1));
	return verdicts;
}

static void
add_verdict(Verdicts *verdicts, const OmOrder *order, Refusal *refusal)
{
	if (refusal->reasons == 0)
	{
		verdicts->held[verdicts->nheld++] = order->id;
		return;
	}
	om_log_orders(verdicts->log, verdicts->refused_type, &order->id, 1, refusal_detail(refusal));
}

static void
end_verdicts(Verdicts *verdicts)
{
	om_log_orders(verdicts->log, verdicts->held_type, verdicts->held, verdicts->nheld, NULL);
	om_log_end(verdicts->log);
}

void
om_balance_checker_run(const OmLogRows *rows)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmOrder **orders = read_orders(tables, rows);
	char **customers = palloc(sizeof(char *) * Max(rows->norders, 1));
	OmLedger *accounts;
	Verdicts verdicts;

	for (int i = 0; i < rows->norders; i++)
		customers[i] = orders[i]->customer_id;
	accounts = om_ledger_lock(OM_LEDGER_ACCOUNTS, customers, rows->norders);
	verdicts = begin_verdicts(OM_EVENT_BALANCE_HELD, OM_EVENT_BALANCE_REFUSED, rows->norders);
	for (int i = 0; i < rows->norders; i++)
	{
		Refusal refusal = {0};

		check_amount(&refusal, accounts, orders[i]->customer_id, orders[i]->total);
		if (refusal.reasons == 0)
			om_ledger_hold(om_ledger_entry(accounts, orders[i]->customer_id), orders[i]->total);
		add_verdict(&verdicts, orders[i], &refusal);
	}
	om_ledger_write(accounts);
	end_verdicts(&verdicts);
	om_orders_close(tables);
}

/* The products of all orders; *count is how many. */
static char **
list_products(OmOrder **orders, int norders, int *count)
{
	int total = 0;
	char **products;

	for (int i = 0; i < norders; i++)
		total += orders[i]->nneeds;
	products = palloc(sizeof(char *) * Max(total, 1));
	*count = 0;
	for (int i = 0; i < norders; i++)
	{
		for (int n = 0; n < orders[i]->nneeds; n++)
			products[(*count)++] = orders[i]->needs[n].product_id;
	}
	return products;
}

static void
check_stock(OmOrder *order, OmLedger *stock, Refusal *refusal)
{
	for (int i = 0; i < order->nneeds; i++)
		check_amount(refusal, stock, order->needs[i].product_id, order->needs[i].quantity);
	if (refusal->reasons != 0)
		return;
	for (int i = 0; i < order->nneeds; i++)
		om_ledger_hold(om_ledger_entry(stock, order->needs[i].product_id),
					   order->needs[i].quantity);
}

void
om_stock_checker_run(const OmLogRows *rows)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmOrder **orders = read_orders(tables, rows);
	char **products;
	int nproducts;
	OmLedger *stock;
	Verdicts verdicts;

	for (int i = 0; i < rows->norders; i++)
		om_order_load_needs(tables, orders[i], GetActiveSnapshot());
	products = list_products(orders, rows->norders, &nproducts);
	stock = om_ledger_lock(OM_LEDGER_STOCK, products, nproducts);
	verdicts = begin_verdicts(OM_EVENT_STOCK_HELD, OM_EVENT_STOCK_REFUSED, rows->norders);
	for (int i = 0; i < rows->norders; i++)
	{
		Refusal refusal = {0};

		check_stock(orders[i], stock, &refusal);
		add_verdict(&verdicts, orders[i], &refusal);
	}
	om_ledger_write(stock);
	end_verdicts(&verdicts);
	om_orders_close(tables);
}

void
om_checkers_preview(OmOrder *order, bool *passes, Jsonb **reasons, Jsonb **shortages)
{
	int nproducts;
	char **products = list_products(&order, 1, &nproducts);
	OmLedger *accounts = om_ledger_read(OM_LEDGER_ACCOUNTS, &order->customer_id, 1);
	OmLedger *stock = om_ledger_read(OM_LEDGER_STOCK, products, nproducts);
	Refusal refusal = {0};

	check_amount(&refusal, accounts, order->customer_id, order->total);
	for (int i = 0; i < order->nneeds; i++)
		check_amount(&refusal, stock, order->needs[i].product_id, order->needs[i].quantity);
	om_ledger_write(accounts);
	om_ledger_write(stock);
	*passes = refusal.reasons == 0;
	*reasons = om_checkers_reasons_array(refusal.reasons);
	*shortages = shortages_json(&refusal);
}
