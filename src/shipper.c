/*
 * shipper.c
 *		The shipper.
 *
 * Where order_mgmt.auto_ship is off, people ship by ship_order().  The shipper
 * then waits at the first order that nobody has shipped or cancelled yet, so
 * shipment_queue shows what is to be done, and cancels orders whose hold has
 * timed out.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "jsonout.h"
#include "orders.h"
#include "settings.h"
#include "settlement.h"
#include "shipper.h"

static int
compare_orders(const void *a, const void *b)
{
	return om_order_compare_ids(&(*(OmOrder *const *) a)->id, &(*(OmOrder *const *) b)->id);
}

/* The orders that look confirmed, sorted by id. */
static OmOrder **
find_confirmed(OmOrderTables *tables, const pg_uuid_t *ids, int nids, int *count)
{
	OmOrder **orders = palloc(sizeof(OmOrder *) * Max(nids, 1));

	*count = 0;
	for (int i = 0; i < nids; i++)
	{
		OmOrder *order = om_order_find(tables, &ids[i], GetActiveSnapshot());

		if (order != NULL && order->status == OM_STATUS_CONFIRMED)
			orders[(*count)++] = order;
	}
	qsort(orders, *count, sizeof(OmOrder *), compare_orders);
	return orders;
}

int
om_shipper_ship(const pg_uuid_t *ids, int nids, Jsonb *detail)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	int count;
	OmOrder **orders = find_confirmed(tables, ids, nids, &count);
	int *both = palloc(sizeof(int) * Max(count, 1));
	pg_uuid_t *shipped = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	int nshipped = 0;

	for (int i = 0; i < count; i++)
		both[i] = OM_VERDICTS_BOTH;
	if (count > 0)
	{
		OmSettlement *settlement = om_settlement_begin(tables, orders, both, count);
		OmLogWriter *log = om_log_begin();

		for (int i = 0; i < count; i++)
		{
			OmOrder *order = orders[i];

			om_order_relock(order);
			if (order->status != OM_STATUS_CONFIRMED)
				continue; /* cancelled meanwhile */
			om_settlement_apply(settlement, order, OM_SETTLE_POST, OM_VERDICTS_BOTH);
			order->status = OM_STATUS_SHIPPED;
			om_order_add_to_trail(order, log->lxid);
			om_order_write(order);
			shipped[nshipped++] = order->id;
		}
		om_settlement_end(settlement);
		om_log_orders(log, OM_EVENT_ORDER_SHIPPED, shipped, nshipped, detail);
		om_log_end(log);
	}
	om_orders_close(tables);
	return nshipped;
}

static void
expire(OmLogWriter *log, OmOrder *order)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "from");
	om_json_string(&json, om_status_names[OM_STATUS_CONFIRMED]);
	om_json_key(&json, "reason");
	om_json_string(&json, om_reason_names[OM_REASON_EXPIRED]);
	om_json_close_object(&json);
	order->status = OM_STATUS_CANCELLED;
	order->reasons |= 1u << OM_REASON_EXPIRED;
	om_order_add_to_trail(order, log->lxid);
	om_order_write(order);
	om_log_orders(log, OM_EVENT_ORDER_CANCELLED, &order->id, 1, om_json_result(&json));
}

/* Cancels what has expired of a row; true when none of its orders waits any more. */
static bool
resolve_row(OmOrderTables *tables, const OmLogRow *row, bool expired)
{
	bool resolved = true;
	OmLogWriter *log = NULL;

	for (int i = 0; i < row->norders; i++)
	{
		OmOrder *order = om_order_find(tables, &row->orders[i], GetActiveSnapshot());

		if (order == NULL || order->status != OM_STATUS_CONFIRMED)
			continue;
		resolved = resolved && expired;
		if (!expired)
			continue;
		om_order_relock(order);
		if (order->status != OM_STATUS_CONFIRMED)
			continue;
		if (log == NULL)
			log = om_log_begin();
		expire(log, order);
	}
	if (log != NULL)
		om_log_end(log);
	return resolved;
}

static int
wait_for_people(const OmLogRows *rows, TimestampTz *next_due)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	TimestampTz now = GetCurrentTimestamp();
	int done;

	for (done = 0; done < rows->count; done++)
	{
		const OmLogRow *row = &rows->rows[done];
		TimestampTz due = row->at + om_setting_hold_timeout * USECS_PER_SEC;
		bool expired = om_setting_hold_timeout > 0 && due <= now;

		if (!resolve_row(tables, row, expired))
		{
			if (om_setting_hold_timeout > 0)
				*next_due = due;
			break;
		}
	}
	om_orders_close(tables);
	return done;
}

int
om_shipper_run(const OmLogRows *rows, TimestampTz *next_due)
{
	pg_uuid_t *orders;
	int norders = 0;

	*next_due = 0;
	if (!om_setting_auto_ship)
		return wait_for_people(rows, next_due);
	orders = palloc(sizeof(pg_uuid_t) * Max(rows->norders, 1));
	for (int r = 0; r < rows->count; r++)
	{
		memcpy(orders + norders, rows->rows[r].orders, sizeof(pg_uuid_t) * rows->rows[r].norders);
		norders += rows->rows[r].norders;
	}
	om_shipper_ship(orders, norders, NULL);
	return rows->count;
}
