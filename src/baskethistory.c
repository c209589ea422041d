/*
 * baskethistory.c
 *		Reads what customers have ordered out of the order tables.
 *
 * Orders that have been refused, cancelled or given up do not count; those that
 * are still on their way do.  All customers are read by one sorted query through
 * a cursor, with the rights of the owner of the tables; one customer by the
 * index of orders, without a plan over all months.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "baskethistory.h"
#include "listing.h"
#include "names.h"
#include "orders.h"
#include "plans.h"

#define FETCH_ROWS 10000

/* A capture that takes longer than this to commit is noticed by the next training only. */
#define SETTLE_MARGIN (10 * USECS_PER_MINUTE)

/* Orders that have been on their way for longer than this are taken as they are. */
#define OPEN_MARGIN USECS_PER_DAY

#define COUNTING "o.status IN ('captured', 'confirmed', 'shipped')"

/* One that has failed may be taken up again. */
static OmQuery horizon_query = {.sql = "SELECT min(o.created_at) FROM order_mgmt.orders AS o"
									   " WHERE o.created_at >= $1"
									   " AND o.status IN ('captured', 'confirmed', 'failed')",
								.nargs = 1,
								.types = {TIMESTAMPTZOID}};

static OmQuery imported_query = {.sql = "SELECT coalesce(sum(l.orders_loaded), 0)::bigint"
										" FROM order_mgmt.loads AS l WHERE l.mode = 'history'"};

/* By customer, oldest first, lines of a product together. */
static const char *const history_sql =
	"SELECT o.customer_id, o.created_at, o.order_id, l.product_id FROM order_mgmt.orders AS o"
	" JOIN order_mgmt.order_lines AS l ON l.created_at = o.created_at AND l.order_id = o.order_id"
	" WHERE o.created_at >= $1 AND o.created_at < $2"
	" AND l.created_at >= $1 AND l.created_at < $2 AND " COUNTING
	" ORDER BY o.customer_id, o.created_at, o.order_id, l.product_id";

TimestampTz
om_baskethistory_horizon(void)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	Datum arg = TimestampTzGetDatum(now - OPEN_MARGIN);
	TimestampTz horizon = now - SETTLE_MARGIN;
	OmQueryScope scope;
	bool isnull;
	Datum oldest;

	om_query_begin(&scope);
	om_query_read(&horizon_query, &arg, NULL);
	oldest = om_result_get(0, 1, &isnull);
	if (!isnull)
		horizon = Min(horizon, DatumGetTimestampTz(oldest));
	om_query_end(&scope);
	return horizon;
}

int64
om_baskethistory_count_imported(void)
{
	OmQueryScope scope;
	bool isnull;
	int64 count;

	om_query_begin(&scope);
	om_query_read(&imported_query, NULL, NULL);
	count = DatumGetInt64(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	return count;
}

/* ---------- all customers ---------- */

typedef struct Reading
{
	OmBasketsBuilder *builder;
	TimestampTz horizon;
	char *customer_id; /* of the row before; NULL: there is none */
	int customer_room;
	pg_uuid_t order_id;
} Reading;

static void
set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* Everything is read: right after a load the statistics may suggest what suits a few rows. */
static void
prepare_planner(void)
{
	set_option("cursor_tuple_fraction", "1");
	set_option("enable_nestloop", "off");
	if (work_mem < 64 * 1024)
		set_option("work_mem", "64MB");
}

static bool
is_same_customer(Reading *reading, const char *id, int length)
{
	if (reading->customer_id != NULL && strncmp(reading->customer_id, id, length) == 0 &&
		reading->customer_id[length] == '\0')
		return true;
	if (length >= reading->customer_room)
	{
		reading->customer_room = length + 256;
		reading->customer_id = MemoryContextAlloc(TopTransactionContext, reading->customer_room);
	}
	memcpy(reading->customer_id, id, length);
	reading->customer_id[length] = '\0';
	return false;
}

static void
take_row(Reading *reading, HeapTuple row, TupleDesc desc)
{
	bool isnull;
	text *customer = DatumGetTextPP(SPI_getbinval(row, desc, 1, &isnull));
	TimestampTz created_at = DatumGetTimestampTz(SPI_getbinval(row, desc, 2, &isnull));
	pg_uuid_t *order_id = DatumGetUUIDP(SPI_getbinval(row, desc, 3, &isnull));
	text *product = DatumGetTextPP(SPI_getbinval(row, desc, 4, &isnull));

	if (!is_same_customer(reading, VARDATA_ANY(customer), VARSIZE_ANY_EXHDR(customer)))
	{
		om_baskets_begin_customer(reading->builder, VARDATA_ANY(customer),
								  VARSIZE_ANY_EXHDR(customer));
		memset(&reading->order_id, 0, sizeof(pg_uuid_t));
	}
	if (memcmp(&reading->order_id, order_id, sizeof(pg_uuid_t)) != 0)
		om_baskets_begin_basket(reading->builder, created_at < reading->horizon);
	reading->order_id = *order_id;
	om_baskets_add_item(reading->builder, VARDATA_ANY(product), VARSIZE_ANY_EXHDR(product));
}

static void
fetch_all(Reading *reading, Portal cursor)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(cursor, true /* forward */, FETCH_ROWS);
		for (uint64 i = 0; i < SPI_processed; i++)
			take_row(reading, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
}

OmBaskets *
om_baskethistory_read(const OmBasketPeriod *period)
{
	Reading reading = {.builder = om_baskets_begin(period->least, period->most),
					   .horizon = period->horizon};
	Oid types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum args[2] = {TimestampTzGetDatum(period->since), TimestampTzGetDatum(period->until)};
	OmQueryScope scope;
	Portal cursor;

	om_query_begin(&scope);
	prepare_planner();
	cursor = SPI_cursor_open_with_args(NULL, history_sql, 2, types, args, NULL,
									   true /* read_only */, CURSOR_OPT_NO_SCROLL);
	fetch_all(&reading, cursor);
	SPI_cursor_close(cursor);
	om_query_end(&scope);
	if (reading.customer_id != NULL)
		pfree(reading.customer_id);
	return om_baskets_finish(reading.builder);
}

/* ---------- one customer ---------- */

typedef struct Found
{
	pg_uuid_t *ids; /* newest first */
	int count;
	int room;
} Found;

static bool
is_counting(Datum status)
{
	text *word = DatumGetTextPP(status);
	int value =
		om_names_find(om_status_names, OM_STATUS_COUNT, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word));

	return value == OM_STATUS_CAPTURED || value == OM_STATUS_CONFIRMED ||
		   value == OM_STATUS_SHIPPED;
}

static void
take_order(Datum *values, bool *isnull pg_attribute_unused(), void *arg)
{
	Found *found = arg;

	if (found->count == found->room)
	{
		found->room = Max(found->room * 2, 16);
		found->ids = found->ids == NULL ? palloc(sizeof(pg_uuid_t) * found->room)
										: repalloc(found->ids, sizeof(pg_uuid_t) * found->room);
	}
	found->ids[found->count++] = *DatumGetUUIDP(values[0]);
}

static int
compare_lines(const ListCell *a, const ListCell *b)
{
	return strcmp(((OmLine *) lfirst(a))->product_id, ((OmLine *) lfirst(b))->product_id);
}

static void
add_order(OmBasketsBuilder *builder, OmOrderTables *tables, const pg_uuid_t *id,
		  TimestampTz horizon)
{
	Snapshot snapshot = GetActiveSnapshot();
	OmOrder *order = om_order_find(tables, id, snapshot);
	List *lines;
	ListCell *cell;

	if (order == NULL)
		return;
	lines = om_order_lines(tables, order, snapshot);
	list_sort(lines, compare_lines);
	om_baskets_begin_basket(builder, order->created_at < horizon);
	foreach(cell, lines)
	{
		OmLine *line = lfirst(cell);

		om_baskets_add_item(builder, line->product_id, strlen(line->product_id));
	}
}

OmBaskets *
om_baskethistory_read_customer(const OmBasketPeriod *period, const char *customer_id)
{
	OmListing listing = {.customer_id = customer_id,
						 .since = period->since,
						 .until = period->until,
						 .admits = is_counting,
						 .limit = period->most};
	Found found = {0};
	OmBasketsBuilder *builder = om_baskets_begin(0 /* least */, period->most);
	OmOrderTables *tables;

	om_listing_walk(&listing, take_order, &found);
	om_baskets_begin_customer(builder, customer_id, strlen(customer_id));
	if (found.count == 0)
		return om_baskets_finish(builder);
	tables = om_orders_open(AccessShareLock);
	for (int i = found.count - 1; i >= 0; i--)
		add_order(builder, tables, &found.ids[i], period->horizon);
	om_orders_close(tables);
	return om_baskets_finish(builder);
}
