/*
 * basketoptions.h
 *		The options of a model of next baskets.
 */
#ifndef OM_BASKETOPTIONS_H
#define OM_BASKETOPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "baskethistory.h"
#include "basketmodel.h"
#include "baskettraining.h"

/* What is in its range where a model is made is so in its bytes. */
#define OM_BASKET_MAX_HISTORY 10000
#define OM_BASKET_MAX_NEIGHBOURS 10000
#define OM_BASKET_MAX_GROUPS 100
#define OM_BASKET_LEAST_DECAY 0.01
#define OM_BASKET_MAX_LOCALITY 1000

#define OM_BASKET_MAX_UPDATE_DAYS 3660

typedef struct OmBasketOptions
{
	OmBasketTask task;
	OmBasketPeriod period; /* without its horizon */
	int update_days;       /* a version may go on from another for so long after a full training */
} OmBasketOptions;

/* OM001 about an option that cannot be. */
extern OmBasketOptions om_basketoptions_parse(Jsonb *options);

/* Of evaluate_model(). */
typedef struct OmBasketEvaluation
{
	int ks[8]; /* ascending */
	int nks;
	int nfolds;
	bool each_fold; /* is reported, too */
} OmBasketEvaluation;

extern OmBasketEvaluation om_basketoptions_parse_evaluation(Jsonb *options);

#endif /* OM_BASKETOPTIONS_H */
