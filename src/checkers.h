/*
 * checkers.h
 *		The balance checker and the stock checker.
 */
#ifndef OM_CHECKERS_H
#define OM_CHECKERS_H

#include "postgres.h"

#include "eventlog.h"
#include "orders.h"

/* Decide on the captured orders of these rows, in their order. */
extern void om_balance_checker_run(const OmLogRows *rows);
extern void om_stock_checker_run(const OmLogRows *rows);

/* The reasons in the detail of a refusal, as bits by OmReason. */
extern uint32 om_checkers_reasons(Jsonb *detail);

/* The words of reasons, as an array. */
extern Jsonb *om_checkers_reasons_array(uint32 reasons);

/* The other way round: {"reasons": [...]}. */
extern Jsonb *om_checkers_reasons_detail(uint32 reasons);

/* Would an order (customer, total, needs) pass now? */
extern void om_checkers_preview(OmOrder *order, bool *passes, Jsonb **reasons, Jsonb **shortages);

#endif /* OM_CHECKERS_H */
