/*
 * coldevents.h
 *		Events of a month in an archive, one row per event as in view events.
 */
#ifndef OM_COLDEVENTS_H
#define OM_COLDEVENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#define OM_COLD_EVENT_NCOLUMNS 8

/* Columns: event_id, at, event_type, order_id, customer_id, product_id, detail, lxid. */
typedef void (*OmColdEventVisitor)(Datum *values, bool *isnull, void *arg);

/* All of them, or those of one order, in the order of the log; false: there is no such archive. */
extern bool om_cold_events_walk(TimestampTz month, const pg_uuid_t *order, OmColdEventVisitor visit,
								void *arg);

#endif /* OM_COLDEVENTS_H */
