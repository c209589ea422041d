/*
 * basketfeatures.h
 *		What the blend looks at: the pool of numbers among which training chooses.
 *
 * A product that the customer has had is described by numbers, each of which comes
 * twice: as it is, and times the logarithm of the number of his orders.  Any
 * other product is described by fewer, most of which are the same for everybody.
 */
#ifndef OM_BASKETFEATURES_H
#define OM_BASKETFEATURES_H

#include "postgres.h"

#include "basketmodel.h"

/* Of a product that he has not had. */
typedef enum OmBasketOtherFeature
{
	OM_OTHER_RECENT,
	OM_OTHER_POPULAR,
	OM_OTHER_REBUY,
	OM_OTHER_NEAR_LOG, /* logarithm of its weight among the neighbours */
	OM_OTHER_NEAR,
	OM_OTHER_NEAR_LOG_BY_LENGTH, /* the same times the logarithm of the number of his orders */
	OM_OTHER_NEAR_BY_LENGTH
} OmBasketOtherFeature;

/* What numbers are about; training leaves out what is of no use, as a whole. */
typedef enum OmBasketFeatureGroup
{
	OM_FEATURES_OFTEN,   /* how often he has had it */
	OM_FEATURES_FADED,   /* the same, fading at several speeds */
	OM_FEATURES_AGE,     /* how long ago */
	OM_FEATURES_REGULAR, /* how long ago for how often */
	OM_FEATURES_VECTOR,  /* its weight in his vector of TIFU-KNN */
	OM_FEATURES_NEAR,    /* its weight among the neighbours */
	OM_FEATURES_REBUY,   /* how likely it is to be ordered again, and he to do so */
	OM_FEATURES_POPULAR, /* how often anybody orders it */
	OM_FEATURES_LENGTH,  /* everything together with the number of his orders */
	OM_BASKET_FEATURE_GROUPS
} OmBasketFeatureGroup;

extern const char *const om_basket_feature_group_names[OM_BASKET_FEATURE_GROUPS];

/* The groups that a feature belongs to, as bits; features of others come behind those of products he has had. */
extern uint32 om_basketfeatures_groups(int feature);

/* Where learning begins. */
extern void om_basketfeatures_fill_first(double *weights);

/* A customer's product; near is its weight among the neighbours, rebuying how much he orders again. */
extern void om_basketfeatures_describe_owned(const OmBasketModel *model, const OmBasketOwn *own,
											 int nbaskets, float near, float rebuying,
											 float *features);
extern void om_basketfeatures_describe_other(const OmBasketModel *model, int32 product,
											 int nbaskets, float near, float *features);

/* The score of a product that he has not had is the sum of what it is by itself and of what the neighbours say. */
extern double om_basketfeatures_score_product(const OmBasketModel *model, int32 product);

/* The weights of the neighbours' two features for a customer with so many orders. */
typedef struct OmBasketNearWeights
{
	double log;
	double plain;
} OmBasketNearWeights;

extern OmBasketNearWeights om_basketfeatures_near_weights(const OmBasketModel *model, int nbaskets);
extern double om_basketfeatures_score_near(const OmBasketNearWeights *weights, float near);

#endif /* OM_BASKETFEATURES_H */
