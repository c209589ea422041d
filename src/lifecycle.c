/*
 * lifecycle.c
 *		Cancel, ship, note.
 *
 * A cancellation locks the order and nothing else: what the order holds, or
 * will hold when a checker gets to it, is released by the order updater when it
 * reads the event.  So a client never waits for a busy account or product.
 */
#include "postgres.h"

#include "access/table.h"
#include "faults.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "archives.h"
#include "errors.h"
#include "eventlog.h"
#include "jsonout.h"
#include "lifecycle.h"
#include "orders.h"
#include "shipper.h"

void
om_lifecycle_raise_not_found(const pg_uuid_t *id)
{
	char *name = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));

	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no order %s", name),
					om_errdetail("order_id", name),
					errhint("Check the id; an order is there once its capture has committed.")));
}

void
om_lifecycle_raise_state(OmStatus status, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg("the order is %s", om_status_names[status]),
					om_errdetail("status", om_status_names[status]), errhint("%s", hint)));
}

static OmOrder *
lock_order(OmOrderTables *tables, const pg_uuid_t *id)
{
	OmOrder *order = om_order_lock(tables, id);

	if (order == NULL)
		order = om_order_find_cold(id); /* it is final */
	if (order == NULL)
		om_lifecycle_raise_not_found(id);
	return order;
}

static Jsonb *
cancellation_detail(OmStatus from, int round, const char *reason, const char *replaced_by)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "from");
	om_json_string(&json, om_status_names[from]);
	om_json_key(&json, "reason");
	om_json_string(&json, reason);
	if (replaced_by != NULL)
	{
		om_json_key(&json, "replaced_by");
		om_json_string(&json, replaced_by);
	}
	om_log_add_round(&json, round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

OmStatus
om_lifecycle_cancel(const pg_uuid_t *id, const char *reason, const char *replaced_by)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	OmOrder *order = lock_order(tables, id);

	if (order->status == OM_STATUS_CAPTURED || order->status == OM_STATUS_CONFIRMED)
	{
		OmLogWriter *log = om_log_begin();
		Jsonb *detail = cancellation_detail(order->status, order->round, reason, replaced_by);

		OM_FAULT_POINT("lifecycle/cancel-locked");
		order->status = OM_STATUS_CANCELLED;
		om_order_add_to_trail(order, log->lxid);
		om_order_write(order);
		OM_FAULT_POINT("lifecycle/cancel-written");
		om_log_orders(log, OM_EVENT_ORDER_CANCELLED, &order->id, 1, detail);
		OM_FAULT_POINT("lifecycle/cancel-logged");
		om_log_end(log);
	}
	else if (order->status != OM_STATUS_CANCELLED || replaced_by != NULL)
		om_lifecycle_raise_state(order->status,
								 "Only an order that is captured or confirmed can be cancelled.");
	om_orders_close(tables);
	return OM_STATUS_CANCELLED;
}

static Jsonb *
failure_detail(const OmOrder *order, const char *consumer, const char *error_code,
			   const char *message)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "from");
	om_json_string(&json, om_status_names[order->status]);
	om_json_key(&json, "consumer");
	om_json_string(&json, consumer);
	om_json_key(&json, "error_code");
	om_json_string(&json, error_code);
	om_json_key(&json, "message");
	om_json_string(&json, message);
	om_log_add_round(&json, order->round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
move_on(OmOrder *order, OmStatus status, OmEventType type, Jsonb *detail)
{
	OmLogWriter *log = om_log_begin();

	order->status = status;
	om_order_add_to_trail(order, log->lxid);
	om_order_write(order);
	om_log_orders(log, type, &order->id, 1, detail);
	om_log_end(log);
}

bool
om_lifecycle_fail(const pg_uuid_t *id, int round, const char *consumer, const char *error_code,
				  const char *message)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	OmOrder *order = om_order_find(tables, id, GetActiveSnapshot());
	bool free = order == NULL || om_order_relock_if_free(order);

	if (free && order != NULL && order->round == round &&
		(order->status == OM_STATUS_CAPTURED || order->status == OM_STATUS_CONFIRMED))
		move_on(order, OM_STATUS_FAILED, OM_EVENT_ORDER_FAILED,
				failure_detail(order, consumer, error_code, message));
	om_orders_close(tables);
	return free;
}

OmTakeUp
om_lifecycle_take_up(const pg_uuid_t *id)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	OmOrder *order = om_order_lock(tables, id);
	OmTakeUp result = OM_TAKEN_UP;

	if (order == NULL)
		result = OM_NO_ORDER;
	else if (order->status != OM_STATUS_FAILED)
		result = OM_NOT_FAILED;
	else if (order->settled != OM_VERDICTS_BOTH)
		result = OM_NOT_SETTLED;
	else
	{
		order->round++;
		order->settled = 0;
		order->reasons = 0;
		move_on(order, OM_STATUS_CAPTURED, OM_EVENT_ORDER_CAPTURED,
				om_log_round_detail(order->round));
	}
	om_orders_close(tables);
	return result;
}

OmStatus
om_lifecycle_ship(const pg_uuid_t *id, Jsonb *detail)
{
	OmOrderTables *tables;
	int shipped;

	/* Ledger rows come first in the lock order, so the order is not locked yet. */
	PushActiveSnapshot(om_current_snapshot());
	shipped = om_shipper_ship_one(id, detail);
	PopActiveSnapshot();
	OM_FAULT_POINT("lifecycle/shipped");
	if (shipped > 0)
		return OM_STATUS_SHIPPED;
	tables = om_orders_open(RowExclusiveLock);
	om_lifecycle_raise_state(lock_order(tables, id)->status,
							 "Only an order that is confirmed can be shipped.");
}

/* The caller's members, and the note itself. */
static Jsonb *
note_detail(const char *note, Jsonb *detail)
{
	OmJson json = {0};
	Datum own;

	om_json_open_object(&json);
	om_json_key(&json, "note");
	om_json_string(&json, note);
	om_json_close_object(&json);
	own = JsonbPGetDatum(om_json_result(&json));
	if (detail == NULL)
		return DatumGetJsonbP(own);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(detail), own));
}

int64
om_lifecycle_note(const pg_uuid_t *id, const char *note, Jsonb *detail)
{
	OmOrderTables *tables = om_orders_open(RowExclusiveLock);
	OmOrder *order = lock_order(tables, id);
	OmLogWriter *log;
	int64 event_id;

	if (order->cold)
		om_archives_raise_cold(om_archives_month(order->created_at));
	log = om_log_begin();
	OM_FAULT_POINT("lifecycle/note-locked");
	om_order_add_to_trail(order, log->lxid);
	om_order_write(order);
	OM_FAULT_POINT("lifecycle/note-written");
	event_id = om_log_orders(log, OM_EVENT_ORDER_NOTED, id, 1, note_detail(note, detail));
	OM_FAULT_POINT("lifecycle/note-logged");
	om_log_end(log);
	om_orders_close(tables);
	return event_id;
}
