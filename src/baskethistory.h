/*
 * baskethistory.h
 *		Reads what customers have ordered out of the order tables.
 */
#ifndef OM_BASKETHISTORY_H
#define OM_BASKETHISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "baskets.h"

/* Orders since <= created_at < until; of each customer the newest so many, of those with few none. */
typedef struct OmBasketPeriod
{
	TimestampTz since;
	TimestampTz until;
	int least;
	int most;
	TimestampTz horizon; /* baskets from before it are settled */
} OmBasketPeriod;

/*
 * The time before which orders are not expected to change any more, nor new ones to appear
 * that were being captured while we looked.
 */
extern TimestampTz om_baskethistory_horizon(void);

/* Orders that loads of history have brought so far, which may be from before any horizon. */
extern int64 om_baskethistory_count_imported(void);

/* All customers. */
extern OmBaskets *om_baskethistory_read(const OmBasketPeriod *period);

/* One customer, whether or not there are orders, as the active snapshot shows them. */
extern OmBaskets *om_baskethistory_read_customer(const OmBasketPeriod *period,
												 const char *customer_id);

#endif /* OM_BASKETHISTORY_H */
