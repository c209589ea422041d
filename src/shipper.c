/*
 * shipper.c
 *		The shipper.
 *
 * An order one of whose rows a client has locked stays in the inbox and is taken
 * up again.  Reading its event twice is harmless: only what is confirmed is
 * shipped.
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

#include "faults.h"
#include "jsonout.h"
#include "orders.h"
#include "settings.h"
#include "settlement.h"
#include "shipper.h"

/* Ships what is still confirmed; false when a row is locked by somebody else. */
static bool
ship(OmSettlement *settlement, OmOrder *order, OmLogWriter *log, bool *shipped)
{
	*shipped = false;
	if (!om_settlement_is_free(settlement, order, OM_VERDICTS_BOTH) ||
		!om_order_relock_if_free(order))
		return false;
	if (order->status != OM_STATUS_CONFIRMED)
		return true; /* cancelled meanwhile */
	om_settlement_apply(settlement, order, OM_SETTLE_POST, OM_VERDICTS_BOTH);
	order->status = OM_STATUS_SHIPPED;
	om_order_add_to_trail(order, log->lxid);
	om_order_write(order);
	*shipped = true;
	return true;
}

bool
om_shipper_ship_one(const pg_uuid_t *id, Jsonb *detail)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	OmOrder *order = om_order_find(tables, id, GetActiveSnapshot());
	int both = OM_VERDICTS_BOTH;
	bool shipped = false;

	if (order != NULL && order->status == OM_STATUS_CONFIRMED)
	{
		OmSettlement *settlement = om_settlement_begin(tables, &order, &both, 1, OM_LEDGER_WAIT);
		OmLogWriter *log = om_log_begin();

		om_order_relock(order);
		(void) ship(settlement, order, log, &shipped);
		om_settlement_end(settlement);
		om_log_orders(log, OM_EVENT_ORDER_SHIPPED, id, shipped ? 1 : 0, detail);
		om_log_end(log);
	}
	om_orders_close(tables);
	return shipped;
}

/* An item and its order. */
typedef struct Parcel
{
	OmItem *item;
	OmOrder *order;
} Parcel;

static int
compare_parcels(const void *a, const void *b)
{
	return om_order_compare_ids(&((const Parcel *) a)->order->id, &((const Parcel *) b)->order->id);
}

/* The orders that look confirmed, sorted by id; all other items are done. */
static Parcel *
find_confirmed(OmInbox *inbox, OmOrderTables *tables, OmItem **items, int nitems, int *count)
{
	Parcel *parcels = palloc(sizeof(Parcel) * nitems);

	*count = 0;
	for (int i = 0; i < nitems; i++)
	{
		OmOrder *order = om_order_find(tables, &items[i]->event.order_id, GetActiveSnapshot());

		if (order != NULL && order->status == OM_STATUS_CONFIRMED)
			parcels[(*count)++] = (Parcel){items[i], order};
		else
			om_inbox_remove(inbox, items[i], false /* keep_backlog */);
	}
	qsort(parcels, *count, sizeof(Parcel), compare_parcels);
	return parcels;
}

static OmSettlement *
begin_settlement(OmOrderTables *tables, const Parcel *parcels, int count)
{
	OmOrder **orders = palloc(sizeof(OmOrder *) * count);
	int *both = palloc(sizeof(int) * count);

	for (int i = 0; i < count; i++)
	{
		orders[i] = parcels[i].order;
		both[i] = OM_VERDICTS_BOTH;
	}
	return om_settlement_begin(tables, orders, both, count, OM_LEDGER_SKIP);
}

static void
ship_all(OmInbox *inbox, OmItem **items, int nitems)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	int count;
	Parcel *parcels = find_confirmed(inbox, tables, items, nitems, &count);

	if (count > 0)
	{
		OmSettlement *settlement = begin_settlement(tables, parcels, count);
		OmLogWriter *log = om_log_begin();
		pg_uuid_t *shipped = palloc(sizeof(pg_uuid_t) * count);
		int nshipped = 0;

		OM_FAULT_POINT("shipper/ledgers-locked");
		for (int i = 0; i < count; i++)
		{
			bool is_shipped;

			if (!ship(settlement, parcels[i].order, log, &is_shipped))
			{
				om_inbox_sleep_on_lock(inbox, parcels[i].item);
				continue;
			}
			if (is_shipped)
				shipped[nshipped++] = parcels[i].order->id;
			om_inbox_remove(inbox, parcels[i].item, false /* keep_backlog */);
		}
		OM_FAULT_POINT("shipper/orders-written");
		om_settlement_end(settlement);
		OM_FAULT_POINT("shipper/posted");
		om_log_orders(log, OM_EVENT_ORDER_SHIPPED, shipped, nshipped, NULL);
		om_log_end(log);
	}
	om_orders_close(tables);
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
	om_log_add_round(&json, order->round);
	om_json_close_object(&json);
	order->status = OM_STATUS_CANCELLED;
	order->reasons |= 1u << OM_REASON_EXPIRED;
	om_order_add_to_trail(order, log->lxid);
	om_order_write(order);
	om_log_orders(log, OM_EVENT_ORDER_CANCELLED, &order->id, 1, om_json_result(&json));
}

/* What has become of an order that people are to ship. */
typedef enum Wait
{
	WAIT_OVER,
	WAIT_ON,
	WAIT_FOR_LOCK
} Wait;

static Wait
look_at(OmOrderTables *tables, const pg_uuid_t *id, bool expired)
{
	OmOrder *order = om_order_find(tables, id, GetActiveSnapshot());
	OmLogWriter *log;

	if (order == NULL || order->status != OM_STATUS_CONFIRMED)
		return WAIT_OVER;
	if (!expired)
		return WAIT_ON;
	if (!om_order_relock_if_free(order))
		return WAIT_FOR_LOCK;
	if (order->status == OM_STATUS_CONFIRMED)
	{
		log = om_log_begin();
		expire(log, order);
		om_log_end(log);
	}
	return WAIT_OVER;
}

/* Stops at the first order that nobody has shipped or cancelled yet. */
static void
wait_for_people(OmInbox *inbox, OmItem **items, int count)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	TimestampTz now = GetCurrentTimestamp();
	Wait wait = WAIT_OVER;

	for (int i = 0; i < count && wait != WAIT_ON; i++)
	{
		OmItem *item = items[i];
		TimestampTz due = item->event.at + om_setting_hold_timeout * USECS_PER_SEC;
		bool expires = om_setting_hold_timeout > 0;

		wait = look_at(tables, &item->event.order_id, expires && due <= now);
		if (wait == WAIT_OVER)
			om_inbox_remove(inbox, item, false /* keep_backlog */);
		else if (wait == WAIT_FOR_LOCK)
			om_inbox_sleep_on_lock(inbox, item);
		else
			item->due = expires ? due : 0; /* and it is looked at whenever something happens */
	}
	om_orders_close(tables);
}

void
om_shipper_run(OmInbox *inbox, OmItem **items, int count)
{
	if (om_setting_auto_ship)
		ship_all(inbox, items, count);
	else
		wait_for_people(inbox, items, count);
}
