/*
 * ordercheck.h
 *		A model's score as a check of orders.
 */
#ifndef OM_ORDERCHECK_H
#define OM_ORDERCHECK_H

#include "postgres.h"

#include "capture.h"
#include "inbox.h"
#include "settings.h"

/* Is a model asked about orders? */
static inline bool
om_ordercheck_is_on(void)
{
	return om_setting_check_model != NULL && om_setting_check_model[0] != '\0';
}

/*
 * Asks the model about the orders of these items, but for those that it has been
 * asked about before.  For each that it refuses the detail of the refusal, for the
 * others NULL.  OM008: it has failed, and setting check_on_failure says that this
 * is not to be passed over.
 */
extern Jsonb **om_ordercheck_ask(OmItem *const *items, int count);

/* Would it refuse an order that has not been captured?  False where it fails. */
extern bool om_ordercheck_preview(const OmCapture *capture);

#endif /* OM_ORDERCHECK_H */
