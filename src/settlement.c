/*
 * settlement.c
 *		Ends holds.
 *
 * The caller locks the orders after om_settlement_lock() and then applies
 * what their state still asks for; a ledger row locked for an order that
 * turns out to have moved on is simply not changed.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "settlement.h"

static void
lock_accounts(OmWork *work, OmOrder **orders, const int *verdicts, int count)
{
	char **keys = palloc(sizeof(char *) * Max(count, 1));
	int nkeys = 0;
	OmLedger *accounts;

	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_BALANCE)
			keys[nkeys++] = orders[i]->customer_id;
	}
	if (nkeys > 0)
	{
		accounts = om_work_lock(work, OM_LEDGER_ACCOUNTS, keys, nkeys);
		for (int i = 0; i < count; i++)
		{
			if (verdicts[i] & OM_VERDICT_BALANCE)
				orders[i]->account = om_ledger_entry(accounts, orders[i]->customer_id);
		}
	}
	pfree(keys);
}

static void
find_stock(OmLedger *stock, OmOrder *order)
{
	for (int n = 0; n < order->nneeds; n++)
		order->needs[n].stock = om_ledger_entry(stock, order->needs[n].product_id);
}

static void
lock_stock(OmWork *work, OmOrder **orders, const int *verdicts, int count)
{
	int total = 0;
	int nkeys = 0;
	char **keys;
	OmLedger *stock;

	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_STOCK)
		{
			om_order_load_needs(work->orders, orders[i], GetActiveSnapshot());
			total += orders[i]->nneeds;
		}
	}
	if (total == 0)
		return;
	keys = palloc(sizeof(char *) * total);
	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_STOCK)
		{
			for (int n = 0; n < orders[i]->nneeds; n++)
				keys[nkeys++] = orders[i]->needs[n].product_id;
		}
	}
	stock = om_work_lock(work, OM_LEDGER_STOCK, keys, nkeys);
	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_STOCK)
			find_stock(stock, orders[i]);
	}
	pfree(keys);
}

void
om_settlement_lock(OmWork *work, OmOrder **orders, const int *verdicts, int count)
{
	lock_accounts(work, orders, verdicts, count);
	lock_stock(work, orders, verdicts, count);
}

bool
om_settlement_is_free(const OmOrder *order, int verdicts)
{
	if ((verdicts & OM_VERDICT_BALANCE) && order->account->busy)
		return false;
	if ((verdicts & OM_VERDICT_STOCK) == 0)
		return true;
	for (int i = 0; i < order->nneeds; i++)
	{
		if (order->needs[i].stock->busy)
			return false;
	}
	return true;
}

static OmLedgerEntry *
require_locked(OmLedgerEntry *entry)
{
	if (entry == NULL)
		elog(ERROR, "an account or a stock row of an order is not locked");
	return entry;
}

void
om_settlement_apply(OmOrder *order, OmSettleAction action, int verdicts)
{
	void (*settle)(OmLedgerEntry *, int64) =
		action == OM_SETTLE_POST ? om_ledger_post : om_ledger_release;

	if (verdicts & OM_VERDICT_BALANCE)
		settle(require_locked(order->account), order->total);
	for (int i = 0; i < order->nneeds && (verdicts & OM_VERDICT_STOCK); i++)
		settle(require_locked(order->needs[i].stock), order->needs[i].quantity);
	order->settled |= verdicts;
}
