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
ship(OmWork *work, OmOrder *order, bool *shipped)
{
	*shipped = false;
	if (!om_settlement_is_free(order, OM_VERDICTS_BOTH) || !om_order_relock_if_free(order))
		return false;
	if (order->status != OM_STATUS_CONFIRMED)
		return true; /* cancelled meanwhile */
	om_settlement_apply(order, OM_SETTLE_POST, OM_VERDICTS_BOTH);
	order->status = OM_STATUS_SHIPPED;
	om_order_add_to_trail(order, om_work_log(work)->lxid);
	om_order_write(order);
	*shipped = true;
	return true;
}

bool
om_shipper_ship_one(const pg_uuid_t *id, Jsonb *detail)
{
	OmWork *work = om_work_begin(OM_LEDGER_WAIT, 1);
	OmOrder *order = om_order_find(work->orders, id, GetActiveSnapshot());
	int both = OM_VERDICTS_BOTH;
	bool shipped = false;

	if (order != NULL && order->status == OM_STATUS_CONFIRMED)
	{
		om_settlement_lock(work, &order, &both, 1);
		om_order_relock(order);
		(void) ship(work, order, &shipped);
		if (shipped)
			om_log_orders(om_work_log(work), OM_EVENT_ORDER_SHIPPED, id, 1, detail);
	}
	om_work_end(work);
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
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * nitems);

	for (int i = 0; i < nitems; i++)
		ids[i] = items[i]->event.order_id;
	om_orders_read(tables, ids, nitems, true /* with_needs */);
	*count = 0;
	for (int i = 0; i < nitems; i++)
	{
		OmOrder *order = om_order_find(tables, &ids[i], GetActiveSnapshot());

		if (order != NULL && order->status == OM_STATUS_CONFIRMED)
			parcels[(*count)++] = (Parcel){items[i], order};
		else
			om_inbox_remove(inbox, items[i], false /* keep_backlog */);
	}
	qsort(parcels, *count, sizeof(Parcel), compare_parcels);
	return parcels;
}

static void
lock_ledgers(OmWork *work, const Parcel *parcels, int count)
{
	OmOrder **orders = palloc(sizeof(OmOrder *) * count);
	int *both = palloc(sizeof(int) * count);

	for (int i = 0; i < count; i++)
	{
		orders[i] = parcels[i].order;
		both[i] = OM_VERDICTS_BOTH;
	}
	om_settlement_lock(work, orders, both, count);
}

static void
ship_all(OmInbox *inbox, OmWork *work, OmItem **items, int nitems)
{
	int count;
	Parcel *parcels = find_confirmed(inbox, work->orders, items, nitems, &count);
	pg_uuid_t *shipped = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	int nshipped = 0;

	if (count == 0)
		return;
	lock_ledgers(work, parcels, count);
	OM_FAULT_POINT("shipper/ledgers-locked");
	for (int i = 0; i < count; i++)
	{
		bool is_shipped;

		if (!ship(work, parcels[i].order, &is_shipped))
		{
			om_inbox_sleep_on_lock(inbox, parcels[i].item);
			continue;
		}
		if (is_shipped)
			shipped[nshipped++] = parcels[i].order->id;
		om_inbox_remove(inbox, parcels[i].item, false /* keep_backlog */);
	}
	OM_FAULT_POINT("shipper/shipped");
	if (nshipped > 0)
		om_log_orders(om_work_log(work), OM_EVENT_ORDER_SHIPPED, shipped, nshipped, NULL);
}

static void
expire(OmWork *work, OmOrder *order)
{
	OmLogWriter *log = om_work_log(work);
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
look_at(OmWork *work, const pg_uuid_t *id, bool expired)
{
	OmOrder *order = om_order_find(work->orders, id, GetActiveSnapshot());

	if (order == NULL || order->status != OM_STATUS_CONFIRMED)
		return WAIT_OVER;
	if (!expired)
		return WAIT_ON;
	if (!om_order_relock_if_free(order))
		return WAIT_FOR_LOCK;
	if (order->status == OM_STATUS_CONFIRMED)
		expire(work, order);
	return WAIT_OVER;
}

/* Stops at the first order that nobody has shipped or cancelled yet. */
static void
wait_for_people(OmInbox *inbox, OmWork *work, OmItem **items, int count)
{
	TimestampTz now = GetCurrentTimestamp();
	Wait wait = WAIT_OVER;

	for (int i = 0; i < count && wait != WAIT_ON; i++)
	{
		OmItem *item = items[i];
		TimestampTz due = item->event.at + om_setting_hold_timeout * USECS_PER_SEC;
		bool expires = om_setting_hold_timeout > 0;

		wait = look_at(work, &item->event.order_id, expires && due <= now);
		if (wait == WAIT_OVER)
			om_inbox_remove(inbox, item, false /* keep_backlog */);
		else if (wait == WAIT_FOR_LOCK)
			om_inbox_sleep_on_lock(inbox, item);
		else
			om_inbox_set_due(inbox, item, expires ? due : 0);
	}
}

void
om_shipper_run(OmInbox *inbox, OmWork *work, OmItem **items, int count)
{
	if (om_setting_auto_ship)
		ship_all(inbox, work, items, count);
	else
		wait_for_people(inbox, work, items, count);
}
