/*
 * shipper.h
 *		Ships confirmed orders: both holds become debits.
 */
#ifndef OM_SHIPPER_H
#define OM_SHIPPER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "eventlog.h"

/* Ships those of the orders that are confirmed; detail goes with the event. */
extern int om_shipper_ship(const pg_uuid_t *orders, int norders, Jsonb *detail);

/*
 * Handles rows of order_confirmed events and returns how many of them are
 * done.  Where auto_ship is off the first that still waits ends the batch, and
 * *next_due says when its hold expires (0: never).
 */
extern int om_shipper_run(const OmLogRows *rows, TimestampTz *next_due);

#endif /* OM_SHIPPER_H */
