/*
 * basketupdate.h
 *		Goes on from a version of a model of next baskets by what has been ordered since.
 */
#ifndef OM_BASKETUPDATE_H
#define OM_BASKETUPDATE_H

#include "postgres.h"

#include "basketbytes.h"
#include "basketoptions.h"

/* What a training would be made of. */
typedef struct OmBasketPlan
{
	const OmBasketOptions *options;
	OmBasketPeriod period; /* with its horizon */
	uint32 options_hash;
	int64 imported;
} OmBasketPlan;

/* Why a version cannot be gone on from; NULL: it can. */
extern const char *om_basketupdate_obstacle(const OmBasketVersion *previous,
											const OmBasketPlan *plan);

/*
 * The baskets of a version and those since its horizon, as reading all would give
 * them; *nread: how many orders were read.
 */
extern OmBaskets *om_basketupdate_read(const OmBasketVersion *previous,
									   const OmBasketPeriod *period, int64 *nread);

#endif /* OM_BASKETUPDATE_H */
