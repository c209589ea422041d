/*
 * basketfeatures.c
 *		What the blend looks at: the pool of numbers among which training chooses.
 *
 * Logarithms are shifted so that they begin at about 0, others scaled so that all
 * have a similar size.
 */
#include "postgres.h"

#include <math.h>

#include "basketfeatures.h"

const char *const om_basket_feature_group_names[OM_BASKET_FEATURE_GROUPS] = {
	"often", "faded", "age", "regular", "vector", "near", "rebuy", "popular", "length"};

/* Of a product that he has had; each comes again times the logarithm of the number of his orders. */
typedef enum OwnedFeature
{
	OWNED_CONSTANT,
	OWNED_SHARE,
	OWNED_COUNT,
	OWNED_FADED,
	OWNED_LAST_FADED = OWNED_FADED + OM_BASKET_FADINGS - 1,
	OWNED_AGE_INVERSE,
	OWNED_AGE_LOG,
	OWNED_IN_LAST,
	OWNED_DUE, /* orders since, by how many there usually are between two with it */
	OWNED_DUE_LOG,
	OWNED_VECTOR_LOG,
	OWNED_VECTOR,
	OWNED_NEAR_LOG,
	OWNED_NEAR,
	OWNED_REBUY,
	OWNED_REBUYING,
	OWNED_REBUY_BOTH,
	OWNED_RECENT,
	OWNED_POPULAR,
	OWNED_FEATURES
} OwnedFeature;

StaticAssertDecl(OM_BASKET_OWNED_FEATURES == 2 * OWNED_FEATURES,
				 "features of a customer's products come twice");
StaticAssertDecl(OM_BASKET_OTHER_FEATURES == OM_OTHER_NEAR_BY_LENGTH + 1,
				 "features of other products are those of the enum");

#define GROUP(name) (1u << OM_FEATURES_##name)

static uint32
group_of_owned(int feature)
{
	if (feature >= OWNED_FADED && feature <= OWNED_LAST_FADED)
		return GROUP(FADED);
	switch ((OwnedFeature) feature)
	{
		case OWNED_SHARE:
		case OWNED_COUNT:
			return GROUP(OFTEN);
		case OWNED_AGE_INVERSE:
		case OWNED_AGE_LOG:
		case OWNED_IN_LAST:
			return GROUP(AGE);
		case OWNED_DUE:
		case OWNED_DUE_LOG:
			return GROUP(REGULAR);
		case OWNED_VECTOR_LOG:
		case OWNED_VECTOR:
			return GROUP(VECTOR);
		case OWNED_NEAR_LOG:
		case OWNED_NEAR:
			return GROUP(NEAR);
		case OWNED_REBUY:
		case OWNED_REBUYING:
		case OWNED_REBUY_BOTH:
			return GROUP(REBUY);
		case OWNED_RECENT:
		case OWNED_POPULAR:
			return GROUP(POPULAR);
		default:
			return 0;
	}
}

static uint32
group_of_other(int feature)
{
	static const uint32 groups[OM_BASKET_OTHER_FEATURES] = {
		[OM_OTHER_RECENT] = GROUP(POPULAR),
		[OM_OTHER_POPULAR] = GROUP(POPULAR),
		[OM_OTHER_REBUY] = GROUP(REBUY),
		[OM_OTHER_NEAR_LOG] = GROUP(NEAR),
		[OM_OTHER_NEAR] = GROUP(NEAR),
		[OM_OTHER_NEAR_LOG_BY_LENGTH] = GROUP(NEAR) | GROUP(LENGTH),
		[OM_OTHER_NEAR_BY_LENGTH] = GROUP(NEAR) | GROUP(LENGTH)};

	return groups[feature];
}

uint32
om_basketfeatures_groups(int feature)
{
	if (feature >= OM_BASKET_OWNED_FEATURES)
		return group_of_other(feature - OM_BASKET_OWNED_FEATURES);
	if (feature >= OWNED_FEATURES)
		return group_of_owned(feature - OWNED_FEATURES) | GROUP(LENGTH);
	return group_of_owned(feature);
}

/*
 * TIFU-KNN in logarithms and round numbers: what he has had is before what he has
 * not, by its weight in his vector; the neighbours count less; what nobody near
 * has had goes by how often it is ordered.
 */
void
om_basketfeatures_fill_first(double *weights)
{
	double *other = weights + OM_BASKET_OWNED_FEATURES;

	memset(weights, 0, sizeof(double) * OM_BASKET_FEATURES);
	weights[OWNED_CONSTANT] = 2;
	weights[OWNED_VECTOR_LOG] = 1;
	weights[OWNED_NEAR_LOG] = 0.5;
	other[OM_OTHER_NEAR_LOG] = 0.5;
	other[OM_OTHER_RECENT] = 0.5;
}

/* ---------- descriptions ---------- */

/* Of weights and faded counts, of which 1 is a large one. */
static float
log_weight(float weight)
{
	return logf(weight + 1e-3f) + 7;
}

static float
scale_near(float near)
{
	return near * 10;
}

void
om_basketfeatures_describe_owned(const OmBasketModel *model, const OmBasketOwn *own, int nbaskets,
								 float near, float rebuying, float *features)
{
	int product = Min(own->product, model->baskets->nproducts);
	float share = (float) own->count / nbaskets;
	float due = (1 + own->age) * share;
	float length = logf(nbaskets);

	features[OWNED_CONSTANT] = 1;
	features[OWNED_SHARE] = share;
	features[OWNED_COUNT] = logf(1 + own->count);
	for (int f = 0; f < OM_BASKET_FADINGS; f++)
		features[OWNED_FADED + f] = log_weight(own->faded[f]);
	features[OWNED_AGE_INVERSE] = 1.0f / (1 + own->age);
	features[OWNED_AGE_LOG] = logf(1 + own->age);
	features[OWNED_IN_LAST] = own->age == 0;
	features[OWNED_DUE] = due;
	features[OWNED_DUE_LOG] = logf(due);
	features[OWNED_VECTOR_LOG] = log_weight(own->weight);
	features[OWNED_VECTOR] = own->weight * 3;
	features[OWNED_NEAR_LOG] = om_basketmodel_log_share(near);
	features[OWNED_NEAR] = scale_near(near);
	features[OWNED_REBUY] = model->log_rebuy[product];
	features[OWNED_REBUYING] = rebuying;
	features[OWNED_REBUY_BOTH] = (model->log_rebuy[product] - 5) * rebuying;
	features[OWNED_RECENT] = model->log_recent[product];
	features[OWNED_POPULAR] = model->log_popular[product];
	for (int i = 0; i < OWNED_FEATURES; i++)
		features[OWNED_FEATURES + i] = features[i] * length;
}

void
om_basketfeatures_describe_other(const OmBasketModel *model, int32 product, int nbaskets,
								 float near, float *features)
{
	float length = logf(nbaskets);

	features[OM_OTHER_RECENT] = model->log_recent[product];
	features[OM_OTHER_POPULAR] = model->log_popular[product];
	features[OM_OTHER_REBUY] = model->log_rebuy[product];
	features[OM_OTHER_NEAR_LOG] = om_basketmodel_log_share(near);
	features[OM_OTHER_NEAR] = scale_near(near);
	features[OM_OTHER_NEAR_LOG_BY_LENGTH] = features[OM_OTHER_NEAR_LOG] * length;
	features[OM_OTHER_NEAR_BY_LENGTH] = features[OM_OTHER_NEAR] * length;
}

/* ---------- scores of what he has not had ---------- */

double
om_basketfeatures_score_product(const OmBasketModel *model, int32 product)
{
	const double *weights = model->parameters.weights + OM_BASKET_OWNED_FEATURES;

	return weights[OM_OTHER_RECENT] * model->log_recent[product] +
		   weights[OM_OTHER_POPULAR] * model->log_popular[product] +
		   weights[OM_OTHER_REBUY] * model->log_rebuy[product];
}

OmBasketNearWeights
om_basketfeatures_near_weights(const OmBasketModel *model, int nbaskets)
{
	const double *weights = model->parameters.weights + OM_BASKET_OWNED_FEATURES;
	double length = log(nbaskets);

	return (OmBasketNearWeights){
		.log = weights[OM_OTHER_NEAR_LOG] + length * weights[OM_OTHER_NEAR_LOG_BY_LENGTH],
		.plain = weights[OM_OTHER_NEAR] + length * weights[OM_OTHER_NEAR_BY_LENGTH]};
}

double
om_basketfeatures_score_near(const OmBasketNearWeights *weights, float near)
{
	return weights->log * om_basketmodel_log_share(near) + weights->plain * scale_near(near);
}
