/*
 * orderrefs.h
 *		Which references of clients have an order already.
 */
#ifndef OM_ORDERREFS_H
#define OM_ORDERREFS_H

#include "postgres.h"

typedef struct OmOrderRefs OmOrderRefs;

/* Prepares for about so many questions about the orders that there are now. */
extern OmOrderRefs *om_order_refs_open(int64 nquestions);

/* For each of these whether there is an order with it. */
extern void om_order_refs_look_up(OmOrderRefs *refs, char **list, int count, bool *known);

extern void om_order_refs_close(OmOrderRefs *refs);

#endif /* OM_ORDERREFS_H */
