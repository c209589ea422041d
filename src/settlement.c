/*
 * settlement.c
 *		Ends holds.
 *
 * The caller locks the orders after om_settlement_begin() and then applies
 * what their state still asks for; a ledger row locked for an order that
 * turns out to have moved on is simply not changed.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "settlement.h"

static OmLedger *
lock_accounts(OmOrder **orders, const int *verdicts, int count, OmLedgerWait wait)
{
	char **keys = palloc(sizeof(char *) * Max(count, 1));
	int nkeys = 0;

	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_BALANCE)
			keys[nkeys++] = orders[i]->customer_id;
	}
	return nkeys == 0 ? NULL : om_ledger_lock(OM_LEDGER_ACCOUNTS, keys, nkeys, wait);
}

static OmLedger *
lock_stock(OmOrderTables *tables, OmOrder **orders, const int *verdicts, int count,
		   OmLedgerWait wait)
{
	int total = 0;
	int nkeys = 0;
	char **keys;

	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_STOCK)
		{
			om_order_load_needs(tables, orders[i], GetActiveSnapshot());
			total += orders[i]->nneeds;
		}
	}
	if (total == 0)
		return NULL;
	keys = palloc(sizeof(char *) * total);
	for (int i = 0; i < count; i++)
	{
		if (verdicts[i] & OM_VERDICT_STOCK)
		{
			for (int n = 0; n < orders[i]->nneeds; n++)
				keys[nkeys++] = orders[i]->needs[n].product_id;
		}
	}
	return om_ledger_lock(OM_LEDGER_STOCK, keys, nkeys, wait);
}

OmSettlement *
om_settlement_begin(OmOrderTables *tables, OmOrder **orders, const int *verdicts, int count,
					OmLedgerWait wait)
{
	OmSettlement *settlement = palloc(sizeof(OmSettlement));

	settlement->tables = tables;
	settlement->accounts = lock_accounts(orders, verdicts, count, wait);
	settlement->stock = lock_stock(tables, orders, verdicts, count, wait);
	return settlement;
}

bool
om_settlement_is_free(OmSettlement *settlement, const OmOrder *order, int verdicts)
{
	if ((verdicts & OM_VERDICT_BALANCE) &&
		om_ledger_entry(settlement->accounts, order->customer_id)->busy)
		return false;
	if ((verdicts & OM_VERDICT_STOCK) == 0)
		return true;
	for (int i = 0; i < order->nneeds; i++)
	{
		if (om_ledger_entry(settlement->stock, order->needs[i].product_id)->busy)
			return false;
	}
	return true;
}

void
om_settlement_apply(OmSettlement *settlement, OmOrder *order, OmSettleAction action, int verdicts)
{
	void (*settle)(OmLedgerEntry *, int64) =
		action == OM_SETTLE_POST ? om_ledger_post : om_ledger_release;

	if (verdicts & OM_VERDICT_BALANCE)
		settle(om_ledger_entry(settlement->accounts, order->customer_id), order->total);
	if (verdicts & OM_VERDICT_STOCK)
	{
		om_order_load_needs(settlement->tables, order, GetActiveSnapshot());
		for (int i = 0; i < order->nneeds; i++)
			settle(om_ledger_entry(settlement->stock, order->needs[i].product_id),
				   order->needs[i].quantity);
	}
	order->settled |= verdicts;
}

void
om_settlement_end(OmSettlement *settlement)
{
	if (settlement->accounts != NULL)
		om_ledger_write(settlement->accounts);
	if (settlement->stock != NULL)
		om_ledger_write(settlement->stock);
	pfree(settlement);
}
