/*
 * capture.c
 *		Order capture.
 *
 * A capture locks nothing but its own new rows and its idempotency key, so it
 * waits for nobody but another transaction with the same key.  Keys of a batch
 * are taken in the order of their hashes: two batches with the same keys in
 * another order wait, but do not deadlock.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "capture.h"
#include "errors.h"
#include "eventlog.h"
#include "faults.h"
#include "installation.h"
#include "keys.h"
#include "money.h"
#include "orders.h"
#include "relations.h"
#include "tables.h"
#include "uuid7.h"

/* Columns of table products */
#define PRODUCT_UNIT_PRICE 3

typedef struct PendingKey
{
	OmKey key;
	OmCapture *capture;
} PendingKey;

/* Where prices are looked up, from when the first line has none. */
typedef struct PriceList
{
	OmTable *products;
	Snapshot snapshot;
} PriceList;

static void
open_prices(PriceList *prices)
{
	prices->products = om_table_open(om_relation_get("products"), AccessShareLock);
	prices->snapshot = RegisterSnapshot(om_current_snapshot());
}

static void
close_prices(PriceList *prices)
{
	if (prices->products == NULL)
		return;
	UnregisterSnapshot(prices->snapshot);
	om_table_close(prices->products);
}

/* The price that the product has today; false when it has none. */
static bool
look_up_price(PriceList *prices, OmRequestLine *line)
{
	Datum key = CStringGetTextDatum(line->product_id);
	HeapTuple row;
	Datum price;
	bool isnull;

	if (prices->products == NULL)
		open_prices(prices);
	row = om_table_find(prices->products, &key, prices->snapshot);
	if (row == NULL)
		return false;
	price = om_row_get(prices->products, row, PRODUCT_UNIT_PRICE, &isnull);
	if (!isnull)
		line->unit_price = om_money_from_datum(price);
	line->has_price = !isnull;
	return line->has_price;
}

static void
price_one(OmCapture *capture, PriceList *prices)
{
	OmRequest *request = &capture->request;

	capture->total = 0;
	for (int i = 0; i < request->nlines; i++)
	{
		OmRequestLine *line = &request->lines[i];

		if (!line->has_price && !look_up_price(prices, line))
		{
			om_problem_set(&capture->problem, ERRCODE_OM_INVALID,
						   psprintf("lines[%d].unit_price", i),
						   "unit_price is missing, and product \"%s\" has none", line->product_id);
			return;
		}
		if (!om_money_add_line(&capture->total, line->unit_price, line->quantity))
		{
			om_problem_set(&capture->problem, ERRCODE_OM_INVALID, psprintf("lines[%d]", i),
						   "the total of the order is out of range");
			return;
		}
	}
	if (request->has_expected_total && request->expected_total != capture->total)
		om_problem_set(&capture->problem, ERRCODE_OM_INVALID, pstrdup("expected_total"),
					   "the total is %s, not %s as expected", om_money_to_string(capture->total),
					   om_money_to_string(request->expected_total));
}

/* Still to be captured: no problem with it, and not a repetition. */
static bool
is_new(const OmCapture *capture)
{
	return capture->problem.sqlstate == 0 && !capture->repeated;
}

void
om_capture_price(OmCapture *captures, int count)
{
	PriceList prices = {0};

	for (int i = 0; i < count; i++)
	{
		if (is_new(&captures[i]))
			price_one(&captures[i], &prices);
	}
	close_prices(&prices);
}

static int
compare_pending(const void *a, const void *b)
{
	const PendingKey *left = a;
	const PendingKey *right = b;
	int order = memcmp(left->key.key_hash, right->key.key_hash, OM_KEY_HASH_SIZE);

	/* Of two elements with one key the first in the batch is the first use. */
	return order != 0 ? order : (left->capture > right->capture) - (left->capture < right->capture);
}

static void
make_key(PendingKey *pending, OmCapture *capture)
{
	const OmRequest *request = &capture->request;
	const char *parts[4] = {
		request->lines_text, request->order_ref, JsonbToCString(NULL, &request->metadata->root, 0),
		request->has_expected_total ? om_money_to_string(request->expected_total) : NULL};

	om_key_make(&pending->key, OM_KEY_CAPTURE, request->customer_id, request->idempotency_key,
				parts, lengthof(parts));
	pending->capture = capture;
}

/* The order that the key has made before, or a problem. */
static void
recall(OmCapture *capture, const OmKeyRecord *record)
{
	capture->created = false;
	capture->repeated = true;
	capture->order_id = record->order_id;
	if (!record->same_request)
		om_problem_set(&capture->problem, ERRCODE_OM_KEY_REUSED, pstrdup("idempotency_key"),
					   "idempotency key \"%s\" has been used with another request",
					   capture->request.idempotency_key);
}

/* The keyed captures, in the order of their keys' hashes. */
static PendingKey *
make_keys(OmCapture *captures, int count, int *npending)
{
	PendingKey *pending = palloc(sizeof(PendingKey) * Max(count, 1));

	*npending = 0;
	for (int i = 0; i < count; i++)
	{
		if (captures[i].problem.sqlstate == 0 && captures[i].request.idempotency_key != NULL)
			make_key(&pending[(*npending)++], &captures[i]);
	}
	qsort(pending, *npending, sizeof(PendingKey), compare_pending);
	return pending;
}

/*
 * A repeated request is answered as it was, whatever the prices are today: what
 * is wrong with one that has been captured before does not count.  Where nothing
 * is wrong, claim_key() will see, so only with "all" everything is looked up.
 */
static void
recall_repeated(PendingKey *pending, int npending, bool all)
{
	OmKeyRecord record;

	for (int i = 0; i < npending; i++)
	{
		OmCapture *capture = pending[i].capture;

		if ((capture->problem.sqlstate == 0 && !all) || !om_key_find(&pending[i].key, &record))
			continue;
		capture->problem = (OmProblem){0};
		recall(capture, &record);
	}
}

/* Takes the key for a new order, unless it has been used, or somebody else does so at this moment. */
static void
claim_key(PendingKey *pending)
{
	OmCapture *capture = pending->capture;
	OmKeyRecord record;

	if (!om_key_find_older(&pending->key, &record))
	{
		if (om_key_insert(&pending->key, &capture->order_id, NULL))
			return;
		if (!om_key_find(&pending->key, &record))
			elog(ERROR, "an idempotency key has vanished");
	}
	recall(capture, &record);
}

void
om_capture_insert(OmOrderTables *tables, const OmCapture *capture, int64 lxid, bool imported)
{
	const OmRequest *request = &capture->request;
	OmNewOrder order = {.id = capture->order_id,
						.customer_id = CStringGetTextDatum(request->customer_id),
						.metadata = request->metadata,
						.total = capture->total,
						.nlines = request->nlines,
						.imported = imported};

	if (request->order_ref != NULL)
		order.order_ref = CStringGetTextDatum(request->order_ref);
	order.lines = palloc(sizeof(OmNewLine) * request->nlines);
	for (int i = 0; i < request->nlines; i++)
	{
		const OmRequestLine *line = &request->lines[i];

		order.lines[i] =
			(OmNewLine){CStringGetTextDatum(line->product_id), line->quantity, line->unit_price};
	}
	om_order_insert(tables, &order, lxid);
}

static void
make_ids(OmCapture *captures, int count)
{
	const OmInstallation *installation = om_installation_get();

	for (int i = 0; i < count; i++)
	{
		const char *customer_id = captures[i].request.customer_id;

		captures[i].created = is_new(&captures[i]);
		if (captures[i].created)
			om_uuid7_make(&captures[i].order_id, installation->lane_key, customer_id,
						  strlen(customer_id));
	}
}

/* Nothing happens to an order before the time in its id, not even at the end of a month. */
static TimestampTz
newest_time(const OmCapture *captures, int count)
{
	TimestampTz newest = DT_NOBEGIN;

	for (int i = 0; i < count; i++)
	{
		if (captures[i].created)
			newest = Max(newest, om_uuid7_time(&captures[i].order_id));
	}
	return newest;
}

static void
insert_created(OmCapture *captures, int count)
{
	pg_uuid_t *captured = palloc(sizeof(pg_uuid_t) * count);
	int ncaptured = 0;
	OmLogWriter *log = om_log_begin_from(newest_time(captures, count));
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);

	for (int i = 0; i < count; i++)
	{
		if (!captures[i].created)
			continue;
		om_capture_insert(tables, &captures[i], log->lxid, false /* imported */);
		OM_FAULT_POINT("capture/order-inserted");
		captured[ncaptured++] = captures[i].order_id;
	}
	om_orders_close(tables);
	OM_FAULT_POINT("capture/orders-inserted");
	om_log_orders(log, OM_EVENT_ORDER_CAPTURED, captured, ncaptured, NULL);
	OM_FAULT_POINT("capture/logged");
	om_log_end(log);
}

static bool
has_problem(const OmCapture *captures, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (captures[i].problem.sqlstate != 0)
			return true;
	}
	return false;
}

static bool
has_created(const OmCapture *captures, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (captures[i].created)
			return true;
	}
	return false;
}

void
om_capture_run(OmCapture *captures, int count, bool all_or_nothing)
{
	int npending;
	PendingKey *pending = make_keys(captures, count, &npending);

	om_capture_price(captures, count);
	if (npending > 0)
	{
		om_keys_begin();
		recall_repeated(pending, npending, all_or_nothing && has_problem(captures, count));
		OM_FAULT_POINT("capture/keys-looked-up");
	}
	if (all_or_nothing && has_problem(captures, count))
		return;
	make_ids(captures, count);
	OM_FAULT_POINT("capture/priced");
	for (int i = 0; i < npending; i++)
	{
		if (is_new(pending[i].capture))
			claim_key(&pending[i]);
	}
	OM_FAULT_POINT("capture/keys-claimed");
	if (has_created(captures, count))
		insert_created(captures, count);
}
