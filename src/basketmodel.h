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
	OM_BASKET_BLEND
} OmBasketAlgorithm;

#define OM_BASKET_ALGORITHM_COUNT 6

extern const char *const om_basket_algorithm_names[OM_BASKET_ALGORITHM_COUNT];

/* What the blend weighs of a product that the customer has had before, and of any other. */
typedef enum OmBasketOtherFeature
{
	OM_OTHER_RECENT,   /* logarithm of "recent" */
	OM_OTHER_POPULAR,  /* logarithm of its share of all baskets */
	OM_OTHER_NEAR_LOG, /* logarithm of its weight among the neighbours */
	OM_OTHER_NEAR,
	OM_OTHER_REBUY, /* logarithm of "rebuy" */
	OM_BASKET_OTHER_FEATURES
} OmBasketOtherFeature;

#define OM_BASKET_OWNED_FEATURES 19

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

	/* the blend; learnt in training */
	double owned_weights[OM_BASKET_OWNED_FEATURES];
	double other_weights[OM_BASKET_OTHER_FEATURES];
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

	float *
		log_recent; /* of each product, as the blend weighs them; and one of which nothing is known */
	float *log_popular;
	float *log_rebuy;
	double *other_score; /* what the blend gives a product by itself */
	int *by_other_score; /* products, the highest first */
} OmBasketModel;

/* How a customer's own baskets weigh a product. */
typedef struct OmBasketOwn
{
	int32 product;
	int count;
	int age;      /* baskets since; 0: it is in the last one */
	float weight; /* in the vector of TIFU-KNN */
	float share;  /* of the last "recency" baskets */
	float faded;  /* count, older baskets counting less */
} OmBasketOwn;

extern const OmBasketParameters om_basketmodel_defaults;

/* The baskets must live as long as the model. */
extern OmBasketModel *om_basketmodel_build(const OmBaskets *baskets,
										   const OmBasketParameters *parameters);

/* After the weights of the blend have changed. */
extern void om_basketmodel_weigh(OmBasketModel *model);

/* The logarithm of a weight among the neighbours. */
extern float om_basketmodel_log_near(float near);

/* Throws it away; the baskets stay. */
extern void om_basketmodel_free(OmBasketModel *model);

/*
 * What the baskets of a run say about each product in them, into own[], in the order of first
 * appearance.  place[] has an entry per product that may come, all -1 before and after.
 */
extern int om_basketmodel_weigh_run(const OmBasketParameters *parameters, const OmBasketRun *run,
									int *place, OmBasketOwn *own);

#endif /* OM_BASKETMODEL_H */
