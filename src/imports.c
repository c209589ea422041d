/*
 * imports.c
 *		Imported orders.
 *
 * They have been handled elsewhere, so they touch neither accounts nor stock
 * and enter no queue; order_imported is the one event of their lives.  Orders
 * and lines go into the month of their date, events into that of the import.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "eventlog.h"
#include "faults.h"
#include "imports.h"
#include "installation.h"
#include "orders.h"
#include "uuid7.h"

/* Orders of the same moment keep the order in which they come. */
static void
make_ids(OmImport *imports, int count)
{
	const OmInstallation *installation = om_installation_get();
	int ordinal = 0;

	for (int i = 0; i < count; i++)
	{
		OmCapture *capture = imports[i].capture;
		const char *customer_id = capture->request.customer_id;

		ordinal = i > 0 && imports[i].at == imports[i - 1].at ? ordinal + 1 : 0;
		om_uuid7_make_at(&capture->order_id, imports[i].at, ordinal, installation->lane_key,
						 customer_id, strlen(customer_id));
		capture->created = true;
	}
}

void
om_imports_write(OmImport *imports, int count, Jsonb *detail)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * Max(count, 1));
	OmLogWriter *log;
	OmOrderTables *tables;

	if (count == 0)
		return;
	make_ids(imports, count);
	log = om_log_begin();
	tables = om_orders_open(RowExclusiveLock);
	for (int i = 0; i < count; i++)
	{
		om_capture_insert(tables, imports[i].capture, log->lxid, true /* imported */);
		ids[i] = imports[i].capture->order_id;
	}
	om_orders_close(tables);
	OM_FAULT_POINT("imports/orders-inserted");
	om_log_orders(log, OM_EVENT_ORDER_IMPORTED, ids, count, detail);
	om_log_end(log);
}
