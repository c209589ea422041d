/*
 * shipper.h
 *		The shipper: posts what confirmed orders hold.
 */
#ifndef OM_SHIPPER_H
#define OM_SHIPPER_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "inbox.h"
#include "work.h"

/* Ships an order if it is confirmed; detail (may be NULL) goes with the event. */
extern bool om_shipper_ship_one(const pg_uuid_t *id, Jsonb *detail);

/* Ships these orders; where order_mgmt.auto_ship is off, looks whether people have. */
extern void om_shipper_run(OmInbox *inbox, OmWork *work, OmItem **items, int count);

#endif /* OM_SHIPPER_H */
