/*
 * demandhistory.c
 *		Reads the history of demand from orders and their lines.
 *
 * Counted is what customers wanted and was not taken back: orders that are shipped,
 * confirmed or captured.  The day that has just begun is left out, because it is
 * not over.  Rows come by a cursor, a few at a time; what stays in memory is 12
 * bytes for each day on which a product was ordered, and its id.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "demandhistory.h"

#define ROWS_AT_A_TIME 5000
#define MAX_DAYS (16 * 1024 * 1024) /* of all products together: 192 MB */

#define COUNTED "o.status IN ('captured', 'confirmed', 'shipped')"

static const char *const last_query =
	"SELECT pg_catalog.max(o.created_at) FROM order_mgmt.orders AS o"
	" WHERE " COUNTED " AND o.created_at < $1";

static const char *const days_query =
	"SELECT l.product_id, (l.created_at AT TIME ZONE 'UTC')::pg_catalog.date,"
	" pg_catalog.count(*), pg_catalog.sum(l.quantity)::pg_catalog.float8"
	" FROM order_mgmt.order_lines AS l JOIN order_mgmt.orders AS o"
	"  ON o.created_at = l.created_at AND o.order_id = l.order_id"
	" WHERE " COUNTED " AND l.created_at >= $2 AND l.created_at < $1"
	"  AND o.created_at >= $2 AND o.created_at < $1"
	" GROUP BY 1, 2 ORDER BY 1, 2";

typedef struct Growing
{
	OmDemandHistory *history;
	int64 ndays;
	int64 days_room;
	int32 products_room;
	MemoryContext context;
} Growing;

int32
om_demand_day_of(TimestampTz at)
{
	int64 day = at / USECS_PER_DAY;

	return (int32) (at % USECS_PER_DAY < 0 ? day - 1 : day);
}

static TimestampTz
begin_of_day(int32 day)
{
	return (TimestampTz) day * USECS_PER_DAY;
}

static void
add_product(Growing *growing, const char *product_id)
{
	OmDemandHistory *history = growing->history;

	if (history->nproducts == growing->products_room)
	{
		growing->products_room *= 2;
		history->products = repalloc_huge(history->products,
										  sizeof(OmDemandProduct) * (Size) growing->products_room);
	}
	history->products[history->nproducts++] =
		(OmDemandProduct){MemoryContextStrdup(growing->context, product_id), growing->ndays, 0};
}

static void
make_room_for_day(Growing *growing)
{
	if (growing->ndays < growing->days_room)
		return;
	if (growing->ndays >= MAX_DAYS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the history has more than %d days of products", MAX_DAYS),
						errhint("Let option history_days reach less far back.")));
	growing->days_room *= 2;
	growing->history->days =
		repalloc_huge(growing->history->days, sizeof(OmDemandDay) * growing->days_room);
}

static Datum
column(uint64 row, int col)
{
	bool isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);
}

static void
add_row(Growing *growing, uint64 row)
{
	OmDemandHistory *history = growing->history;
	char *product_id = TextDatumGetCString(column(row, 1));
	OmDemandDay day = {.day = DatumGetDateADT(column(row, 2)),
					   .lines = (int32) DatumGetInt64(column(row, 3)),
					   .quantity = (float) DatumGetFloat8(column(row, 4))};

	if (history->nproducts == 0 ||
		strcmp(history->products[history->nproducts - 1].product_id, product_id) != 0)
		add_product(growing, product_id);
	make_room_for_day(growing);
	history->days[growing->ndays++] = day;
	history->products[history->nproducts - 1].ndays++;
	history->begin = Min(history->begin, day.day);
	pfree(product_id);
}

static void
read_rows(Growing *growing, TimestampTz from, TimestampTz to)
{
	Oid types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum args[2] = {TimestampTzGetDatum(to), TimestampTzGetDatum(from)};
	Portal portal =
		SPI_cursor_open_with_args(NULL, days_query, 2, types, args, NULL, true /* read_only */, 0);

	for (;;)
	{
		SPI_cursor_fetch(portal, true /* forward */, ROWS_AT_A_TIME);
		if (SPI_processed == 0)
			break;
		for (uint64 row = 0; row < SPI_processed; row++)
			add_row(growing, row);
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
}

/* The last order before a time; false: there is none. */
static bool
find_last(TimestampTz before, TimestampTz *last)
{
	Oid type = TIMESTAMPTZOID;
	Datum arg = TimestampTzGetDatum(before);
	bool isnull;

	if (SPI_execute_with_args(last_query, 1, &type, &arg, NULL, true /* read_only */, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not find the last order");
	*last = DatumGetTimestampTz(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return !isnull;
}

static void
begin_history(Growing *growing, int32 end)
{
	OmDemandHistory *history = MemoryContextAllocZero(growing->context, sizeof(OmDemandHistory));

	history->begin = history->end = end;
	growing->days_room = 4096;
	growing->products_room = 256;
	history->days = MemoryContextAlloc(growing->context, sizeof(OmDemandDay) * growing->days_room);
	history->products =
		MemoryContextAlloc(growing->context, sizeof(OmDemandProduct) * growing->products_room);
	growing->history = history;
}

OmDemandHistory *
om_demand_read_history(TimestampTz now, int32 ndays)
{
	Growing growing = {.context = CurrentMemoryContext};
	TimestampTz today = begin_of_day(om_demand_day_of(now));
	TimestampTz last;

	SPI_connect();
	if (find_last(today, &last))
	{
		begin_history(&growing, om_demand_day_of(last) + 1);
		read_rows(&growing, begin_of_day(growing.history->end - ndays),
				  begin_of_day(growing.history->end));
	}
	SPI_finish();
	return growing.history;
}
