/*
 * ordercheck.h
 *		A model's score as a check of orders.
 */
#ifndef OM_ORDERCHECK_H
#define OM_ORDERCHECK_H

#include "postgres.h"

#include "capture.h"

/*
 * Asks the model of setting order_mgmt.check_model, if there is one, about the
 * orders that have just been captured, and cancels those whose score reaches
 * order_mgmt.check_threshold, in the same transaction.
 */
extern void om_ordercheck_run(const OmCapture *captures, int count);

/* To be called when the library is loaded. */
extern void om_ordercheck_init(void);

#endif /* OM_ORDERCHECK_H */
