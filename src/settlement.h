/*
 * settlement.h
 *		What ends a hold: release and post, for a set of orders at a time.
 */
#ifndef OM_SETTLEMENT_H
#define OM_SETTLEMENT_H

#include "postgres.h"

#include "orders.h"
#include "work.h"

typedef enum OmSettleAction
{
	OM_SETTLE_RELEASE,
	OM_SETTLE_POST
} OmSettleAction;

/*
 * Locks, in the order of the whole system, accounts and then stock of these
 * orders; verdicts[i] (OM_VERDICT_ bits) says which of the two an order needs.
 * The caller locks the orders behind them.
 */
extern void om_settlement_lock(OmWork *work, OmOrder **orders, const int *verdicts, int count);

/* False when a row that this needs is locked by somebody else (with OM_LEDGER_SKIP). */
extern bool om_settlement_is_free(const OmOrder *order, int verdicts);

/* Ends the holds of these verdicts of an order and marks them as settled. */
extern void om_settlement_apply(OmOrder *order, OmSettleAction action, int verdicts);

#endif /* OM_SETTLEMENT_H */
