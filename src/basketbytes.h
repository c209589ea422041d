/*
 * basketbytes.h
 *		A version of a model of next baskets as it is stored.
 */
#ifndef OM_BASKETBYTES_H
#define OM_BASKETBYTES_H

#include "postgres.h"

#include "baskethistory.h"
#include "basketmodel.h"
#include "order_mgmt.h"

typedef struct OmBasketVersion
{
	OmBasketParameters parameters;
	OmBasketPeriod period;
	uint32 options; /* a hash of the model's options at the training */
	int64 imported; /* orders that loads of history had brought by then */
	OmBaskets *baskets;

	/* The last training that began from nothing. */
	TimestampTz full_at;
	int64 full_orders; /* that it learnt from */
} OmBasketVersion;

/* What lies behind the baskets: the last two. */
#define OM_BASKETBYTES_TRAILER 16

extern bytea *om_basketbytes_pack(const OmBasketVersion *version);

/* Are these bytes of the format that we write? */
extern bool om_basketbytes_are_current(OmModelBytes bytes);

/* In the current memory context; an error where they are no model. */
extern OmBasketVersion *om_basketbytes_unpack(OmModelBytes bytes);

#endif /* OM_BASKETBYTES_H */
