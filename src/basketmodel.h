/*
 * basketmodel.h
 *		What is derived from the baskets of customers, so that predictions are quick.
 */
#ifndef OM_BASKETMODEL_H
#define OM_BASKETMODEL_H

#include "postgres.h"

#include "baskets.h"

typedef enum OmBasketAlgorithm
{
	OM_BASKET_GLOBAL_FREQUENCY,
	OM_BASKET_PERSONAL_FREQUENCY,
	OM_BASKET_PERSONAL_POPULARITY_TIES,
	OM_BASKET_TIFU_KNN,
	OM_BASKET_UP_CF,
	OM_BASKET_BLEND,
	OM_BASKET_TIFU_KNN_CODE, /* as its authors' program does it, not as their paper says */
	OM_BASKET_GP_TOPFREQ
} OmBasketAlgorithm;

#define OM_BASKET_ALGORITHM_COUNT 8

extern const char *const om_basket_algorithm_names[OM_BASKET_ALGORITHM_COUNT];

static inline bool
om_basket_is_tifu(OmBasketAlgorithm algorithm)
{
	return algorithm == OM_BASKET_TIFU_KNN || algorithm == OM_BASKET_TIFU_KNN_CODE;
}

/* Speeds at which older baskets count less and less. */
#define OM_BASKET_FADINGS 3
#define OM_BASKET_USUAL_FADING 1

/* How many numbers the blend weighs of a product that the customer has had, and of any other (basketfeatures.h). */
#define OM_BASKET_OWNED_FEATURES 40
#define OM_BASKET_OTHER_FEATURES 7
#define OM_BASKET_FEATURES (OM_BASKET_OWNED_FEATURES + OM_BASKET_OTHER_FEATURES)

typedef struct OmBasketParameters
{
	OmBasketAlgorithm algorithm;

	/* TIFU-KNN, and the neighbourhood of the blend */
	int neighbours;
	int groups;
	double within_decay;
	double group_decay;
	double alpha;

	/* UP-CF@r */
	int recency;
	double asymmetry;
	double locality;

	/* the blend; learnt in training: of products that he has had, then of others */
	double weights[OM_BASKET_FEATURES];
} OmBasketParameters;

typedef struct OmBasketEntry
{
	int32 number; /* of a product or a customer */
	float weight;
} OmBasketEntry;

/*
 * One row per customer, an entry per product that he has had; and the same the
 * other way round.  Weights are those of TIFU-KNN's vectors, shares those of
 * UP-CF's user-wise popularity.
 */
typedef struct OmBasketModel
{
	const OmBaskets *baskets;
	OmBasketParameters parameters;

	int *first_entry;       /* of each customer, and the end */
	OmBasketEntry *entries; /* products */
	float *shares;          /* of the same */
	float *norm;            /* of each customer: the square of the length of his vector */
	int *by_norm;           /* customers with baskets, shortest vector first */
	int nby_norm;

	int *first_buyer; /* of each product, and the end */
	OmBasketEntry *buyers;

	int *count;         /* of each product: how many baskets have it */
	float *recent;      /* the same by customer, older baskets counting less, per customer */
	int *by_popularity; /* products, the most frequent first */

	/* Of each product, as the blend weighs them; and one of which nothing is known. */
	float *log_recent;
	float *log_popular;
	float *log_rebuy;
} OmBasketModel;

/* How a customer's own baskets weigh a product. */
typedef struct OmBasketOwn
{
	int32 product;
	int count;
	int age;                        /* baskets since; 0: it is in the last one */
	float weight;                   /* in the vector of TIFU-KNN */
	float share;                    /* of the last "recency" baskets */
	float faded[OM_BASKET_FADINGS]; /* count, older baskets counting less */
} OmBasketOwn;

extern const OmBasketParameters om_basketmodel_defaults;

/* The baskets must live as long as the model. */
extern OmBasketModel *om_basketmodel_build(const OmBaskets *baskets,
										   const OmBasketParameters *parameters);

/* The logarithm of a share, such as a weight among the neighbours, from about 0 on. */
extern float om_basketmodel_log_share(float share);

/* Throws it away; the baskets stay. */
extern void om_basketmodel_free(OmBasketModel *model);

/*
 * What the baskets of a run say about each product in them, into own[], in the order of first
 * appearance.  place[] has an entry per product that may come, all -1 before and after.
 */
extern int om_basketmodel_weigh_run(const OmBasketParameters *parameters, const OmBasketRun *run,
									int *place, OmBasketOwn *own);

#endif /* OM_BASKETMODEL_H */
