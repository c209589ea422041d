/*
 * coldevents.c
 *		The view events, over an archive.
 *
 * An event of an order is shown with its customer, which stands in the row of
 * the order.  Events follow each other much as their orders do, so the customers of
 * a whole frame of orders are remembered when one of them is looked up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "coldevents.h"
#include "coldrows.h"
#include "eventlog.h"
#include "jsonout.h"
#include "months.h"
#include "names.h"
#include "orders.h"
#include "tables.h"
#include "uuid7.h"

/* Columns of table event_log */
enum
{
	LOG_AT = 1,
	LOG_LXID,
	LOG_EVENT_ID,
	LOG_EVENT_TYPE,
	LOG_ORDER_IDS,
	LOG_CUSTOMER_ID,
	LOG_PRODUCT_ID,
	LOG_DETAIL
};

/* Columns of a result, from 0 */
enum
{
	EVENT_ID,
	EVENT_AT,
	EVENT_TYPE,
	EVENT_ORDER_ID,
	EVENT_CUSTOMER_ID,
	EVENT_PRODUCT_ID,
	EVENT_DETAIL,
	EVENT_LXID
};

#define MAX_REMEMBERED 200000

typedef struct Owner
{
	pg_uuid_t order; /* hash key */
	char *customer;  /* or NULL: there is no such order */
} Owner;

typedef struct Walk
{
	OmColdEventVisitor visit;
	void *arg;
	HTAB *owners;
	MemoryContext remembered;
} Walk;

/* ---------- customers ---------- */

static void
forget_owners(Walk *walk)
{
	HASHCTL control = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Owner)};

	MemoryContextReset(walk->remembered);
	control.hcxt = walk->remembered;
	walk->owners =
		hash_create("customers of orders", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
remember(Walk *walk, const pg_uuid_t *order, const char *customer)
{
	Owner *owner = hash_search(walk->owners, order, HASH_ENTER, NULL);

	owner->customer = customer == NULL ? NULL : MemoryContextStrdup(walk->remembered, customer);
}

static bool
remember_around(Walk *walk, const pg_uuid_t *order)
{
	TimestampTz created_at = om_uuid7_time(order);
	Datum key[2] = {TimestampTzGetDatum(created_at), UUIDPGetDatum(order)};
	OmColdScan *scan = om_cold_open("orders", created_at);
	Datum *values;
	bool *isnull;

	if (scan == NULL)
		return false;
	om_cold_seek_around(scan, key, 2);
	while (om_cold_next(scan, &values, &isnull))
		remember(walk, DatumGetUUIDP(values[ORDER_ID - 1]),
				 TextDatumGetCString(values[ORDER_CUSTOMER_ID - 1]));
	om_cold_close(scan);
	return true;
}

static const char *
live_customer(const pg_uuid_t *order)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmOrder *found = om_order_find(tables, order, GetActiveSnapshot());

	om_orders_close(tables);
	return found == NULL ? NULL : found->customer_id;
}

static const char *
customer_of(Walk *walk, const pg_uuid_t *order)
{
	Owner *owner = hash_search(walk->owners, order, HASH_FIND, NULL);

	if (owner == NULL)
	{
		if (hash_get_num_entries(walk->owners) > MAX_REMEMBERED)
			forget_owners(walk);
		if (!remember_around(walk, order))
			remember(walk, order, live_customer(order));
		owner = hash_search(walk->owners, order, HASH_FIND, NULL);
	}
	return owner == NULL ? NULL : owner->customer;
}

/* ---------- events ---------- */

static void
show(Walk *walk, const Datum *log, const bool *lognull, const pg_uuid_t *order, int ordinal)
{
	Datum values[OM_COLD_EVENT_NCOLUMNS];
	bool isnull[OM_COLD_EVENT_NCOLUMNS] = {false};
	const char *customer = NULL;

	if (lognull[LOG_CUSTOMER_ID - 1] && order != NULL)
		customer = customer_of(walk, order);
	values[EVENT_ID] = Int64GetDatum(DatumGetInt64(log[LOG_EVENT_ID - 1]) + ordinal);
	values[EVENT_AT] = log[LOG_AT - 1];
	values[EVENT_TYPE] = log[LOG_EVENT_TYPE - 1];
	values[EVENT_ORDER_ID] = UUIDPGetDatum(order);
	isnull[EVENT_ORDER_ID] = order == NULL;
	values[EVENT_CUSTOMER_ID] =
		customer != NULL ? CStringGetTextDatum(customer) : log[LOG_CUSTOMER_ID - 1];
	isnull[EVENT_CUSTOMER_ID] = customer == NULL && lognull[LOG_CUSTOMER_ID - 1];
	values[EVENT_PRODUCT_ID] = log[LOG_PRODUCT_ID - 1];
	isnull[EVENT_PRODUCT_ID] = lognull[LOG_PRODUCT_ID - 1];
	values[EVENT_DETAIL] = lognull[LOG_DETAIL - 1] ? om_json_empty() : log[LOG_DETAIL - 1];
	values[EVENT_LXID] = log[LOG_LXID - 1];
	walk->visit(values, isnull, walk->arg);
}

/* The events of a stored row, or that of one order. */
static void
show_row(Walk *walk, const Datum *log, const bool *lognull, const pg_uuid_t *order)
{
	bytea *packed;
	const char *ids;
	int norders;

	if (lognull[LOG_ORDER_IDS - 1])
	{
		if (order == NULL)
			show(walk, log, lognull, NULL, 0);
		return;
	}
	packed = DatumGetByteaPP(log[LOG_ORDER_IDS - 1]);
	ids = VARDATA_ANY(packed);
	norders = VARSIZE_ANY_EXHDR(packed) / sizeof(pg_uuid_t);
	for (int i = 0; i < norders; i++)
	{
		pg_uuid_t id;

		memcpy(&id, ids + i * sizeof(pg_uuid_t), sizeof(pg_uuid_t));
		if (order == NULL || memcmp(&id, order, sizeof(pg_uuid_t)) == 0)
			show(walk, log, lognull, &id, i);
	}
}

static void
show_rows(Walk *walk, OmColdScan *scan, const pg_uuid_t *order)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "event", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Datum *values;
	bool *isnull;

	while (om_cold_next(scan, &values, &isnull))
	{
		show_row(walk, values, isnull, order);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* The transactions that wrote the order's events. */
static OmOrder *
find_order(const pg_uuid_t *id)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmOrder *order = om_order_find(tables, id, GetActiveSnapshot());

	om_orders_close(tables);
	return order != NULL ? order : om_order_find_cold(id);
}

static int
compare_lxids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

static void
show_events_of(Walk *walk, OmColdScan *scan, const pg_uuid_t *id)
{
	OmOrder *order = find_order(id);

	if (order == NULL)
		return;
	qsort(order->trail, order->ntrail, sizeof(int64), compare_lxids);
	for (int i = 0; i < order->ntrail; i++)
	{
		Datum key = Int64GetDatum(order->trail[i]);

		om_cold_seek(scan, &key, 1);
		show_rows(walk, scan, id);
	}
}

bool
om_cold_events_walk(TimestampTz month, const pg_uuid_t *order, OmColdEventVisitor visit, void *arg)
{
	OmColdScan *scan = om_cold_open("event_log", month);
	Walk walk = {.visit = visit, .arg = arg};

	if (scan == NULL)
		return false;
	walk.remembered =
		AllocSetContextCreate(CurrentMemoryContext, "customers", ALLOCSET_DEFAULT_SIZES);
	forget_owners(&walk);
	if (order == NULL)
		show_rows(&walk, scan, NULL);
	else
		show_events_of(&walk, scan, order);
	om_cold_close(scan);
	MemoryContextDelete(walk.remembered);
	return true;
}
