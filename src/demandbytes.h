/*
 * demandbytes.h
 *		Forecasts of demand as they are stored.
 */
#ifndef OM_DEMANDBYTES_H
#define OM_DEMANDBYTES_H

#include "postgres.h"

#include "demandmodel.h"

/* The items must be in the order of their product_id. */
extern bytea *om_demand_to_bytes(const OmDemandModel *model);

/* In the current memory context; OM008 where the bytes are no model of this version. */
extern OmDemandModel *om_demand_from_bytes(const char *data, Size size);

#endif /* OM_DEMANDBYTES_H */
