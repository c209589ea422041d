/*
 * basketlearning.h
 *		Learns the weights of the blend.
 */
#ifndef OM_BASKETLEARNING_H
#define OM_BASKETLEARNING_H

#include "postgres.h"

#include "basketfeatures.h"
#include "basketmodel.h"

/* What was chosen, and by what. */
typedef struct OmBasketLearnt
{
	int learnt_from; /* customers */
	int chosen_by;   /* customers; 0: too few, so that nothing was chosen */
	double strength; /* how many customers the first weights count like */
	uint32 left_out; /* groups of features, as bits */
	double loss;     /* on those that chose; NaN: there are none */
} OmBasketLearnt;

/*
 * Gives the model the weights by which it best predicts the last basket of each customer
 * in "whole", of which the model's own baskets are all but the last.  Groups of
 * features that are left out from the beginning stay out.
 */
extern OmBasketLearnt om_basketlearning_learn(OmBasketModel *model, const OmBaskets *whole,
											  uint32 left_out);

#endif /* OM_BASKETLEARNING_H */
