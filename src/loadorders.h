/*
 * loadorders.h
 *		Orders of a file: checks them, and captures or imports those that are right.
 */
#ifndef OM_LOADORDERS_H
#define OM_LOADORDERS_H

#include "postgres.h"

#include "loadgroups.h"
#include "loadoptions.h"
#include "loads.h"
#include "orderrefs.h"

typedef struct OmLoadOrders
{
	OmLoad *load;
	const OmLoadOptions *options;
	OmOrderRefs *refs;
} OmLoadOrders;

/*
 * Counts them in the load, with an error for each row that is refused.  Memory
 * is that of the current context.
 */
extern void om_load_orders_write(OmLoadOrders *target, OmLoadGroup **groups, int count);

#endif /* OM_LOADORDERS_H */
