/*
 * demandhistory.h
 *		What has been ordered, by product and day.
 */
#ifndef OM_DEMANDHISTORY_H
#define OM_DEMANDHISTORY_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "demandmethods.h"

/* The number of the day, as type date counts them, in UTC. */
extern int32 om_demand_day_of(TimestampTz at);

/*
 * Orders of up to so many days before the day that has just begun, read with
 * the caller's rights and snapshot; the memory context is the current one.
 * Products are in the order of their ids.  NULL: there are no orders.
 */
extern OmDemandHistory *om_demand_read_history(TimestampTz now, int32 ndays);

#endif /* OM_DEMANDHISTORY_H */
