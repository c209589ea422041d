/*
 * settlement.h
 *		What ends a hold: release and post, for a set of orders at a time.
 */
#ifndef OM_SETTLEMENT_H
#define OM_SETTLEMENT_H

#include "postgres.h"

#include "ledger.h"
#include "orders.h"

typedef enum OmSettleAction
{
	OM_SETTLE_RELEASE,
	OM_SETTLE_POST
} OmSettleAction;

/* The accounts and stock rows that a set of orders may touch, locked. */
typedef struct OmSettlement
{
	OmOrderTables *tables;
	OmLedger *accounts; /* NULL when none is needed */
	OmLedger *stock;
} OmSettlement;

/*
 * Locks, in the order of the whole system, accounts and then stock of these
 * orders; verdicts[i] (OM_VERDICT_ bits) says which of the two an order needs.
 */
extern OmSettlement *om_settlement_begin(OmOrderTables *tables, OmOrder **orders,
										 const int *verdicts, int count, OmLedgerWait wait);

/* False when a row that this needs is locked by somebody else (with OM_LEDGER_SKIP). */
extern bool om_settlement_is_free(OmSettlement *settlement, const OmOrder *order, int verdicts);

/* Ends the holds of these verdicts of an order and marks them as settled. */
extern void om_settlement_apply(OmSettlement *settlement, OmOrder *order, OmSettleAction action,
								int verdicts);

extern void om_settlement_end(OmSettlement *settlement);

#endif /* OM_SETTLEMENT_H */
