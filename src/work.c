/*
 * work.c
 *		A unit of work.
 *
 * Stages that run one after the other in a transaction share it: what a checker
 * has held the shipper posts in memory, and an order that is confirmed and
 * shipped is written as shipped.  Events are appended at once, in the order in
 * which they happen.
 *
 * Lock order: accounts, then stock, then orders.  Who works alone as all stages
 * may lock further ledger rows behind orders: there is no other worker to wait
 * for, and clients are not waited for.
 */
#include "postgres.h"

#include "faults.h"

#include "work.h"

OmWork *
om_work_begin(OmLedgerWait wait, int norders)
{
	OmWork *work = palloc0(sizeof(OmWork));

	work->wait = wait;
	work->orders = om_orders_open_batch(norders);
	work->happened = om_log_rows_create();
	return work;
}

OmLedger *
om_work_lock(OmWork *work, OmLedgerKind kind, char **keys, int nkeys)
{
	if (work->ledgers[kind] == NULL)
		work->ledgers[kind] = om_ledger_lock(kind, keys, nkeys, work->wait);
	else
		om_ledger_lock_more(work->ledgers[kind], keys, nkeys);
	return work->ledgers[kind];
}

OmLogWriter *
om_work_log(OmWork *work)
{
	if (work->log != NULL)
		om_log_go_on(work->log);
	else
	{
		work->log = om_log_begin();
		work->log->happened = work->happened;
	}
	return work->log;
}

void
om_work_end(OmWork *work)
{
	for (int kind = 0; kind < (int) lengthof(work->ledgers); kind++)
	{
		if (work->ledgers[kind] != NULL)
			om_ledger_write(work->ledgers[kind]);
	}
	OM_FAULT_POINT("work/ledgers-written");
	om_orders_write(work->orders);
	OM_FAULT_POINT("work/orders-written");
	om_orders_close(work->orders);
	if (work->log != NULL)
		om_log_end(work->log);
	pfree(work);
}
