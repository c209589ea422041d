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

	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_BALANCE)
			keys[nkeys++] = orders[i]->customer_id;
	}
	if (nkeys > 0)
		(void) om_work_lock(work, OM_LEDGER_ACCOUNTS, keys, nkeys);
	pfree(keys);
}

static void
lock_stock(OmWork *work, OmOrder **orders, const int *verdicts, int count)
{
	int total = 0;
	int nkeys = 0;
	char **keys;

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
	(void) om_work_lock(work, OM_LEDGER_STOCK, keys, nkeys);
	pfree(keys);
}

void
om_settlement_lock(OmWork *work, OmOrder **orders, const int *verdicts, int count)
{
	lock_accounts(work, orders, verdicts, count);
	lock_stock(work, orders, verdicts, count);
}

static OmLedgerEntry *
account_of(OmWork *work, const OmOrder *order)
{
	return om_ledger_entry(work->ledgers[OM_LEDGER_ACCOUNTS], order->customer_id);
}

static OmLedgerEntry *
stock_of(OmWork *work, const OmNeed *need)
{
	return om_ledger_entry(work->ledgers[OM_LEDGER_STOCK], need->product_id);
}

bool
om_settlement_is_free(OmWork *work, const OmOrder *order, int verdicts)
{
	if ((verdicts & OM_VERDICT_BALANCE) && account_of(work, order)->busy)
		return false;
	if ((verdicts & OM_VERDICT_STOCK) == 0)
		return true;
	for (int i = 0; i < order->nneeds; i++)
	{
		if (stock_of(work, &order->needs[i])->busy)
			return false;
	}
	return true;
}

void
om_settlement_apply(OmWork *work, OmOrder *order, OmSettleAction action, int verdicts)
{
	void (*settle)(OmLedgerEntry *, int64) =
		action == OM_SETTLE_POST ? om_ledger_post : om_ledger_release;

	if (verdicts & OM_VERDICT_BALANCE)
		settle(account_of(work, order), order->total);
	if (verdicts & OM_VERDICT_STOCK)
	{
		om_order_load_needs(work->orders, order, GetActiveSnapshot());
		for (int i = 0; i < order->nneeds; i++)
			settle(stock_of(work, &order->needs[i]), order->needs[i].quantity);
	}
	order->settled |= verdicts;
}
