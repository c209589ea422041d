/*
 * basketlearning.h
 *		Learns the weights of the blend.
 */
#ifndef OM_BASKETLEARNING_H
#define OM_BASKETLEARNING_H

#include "postgres.h"

#include "basketmodel.h"

/* Customers by whom nothing is learnt, so that what has been learnt can be tried on them. */
#define OM_BASKET_IS_FOR_VALIDATION(customer) ((customer) % 5 == 0)

/*
 * Gives the model the weights by which it best predicts the last basket of each customer
 * in "whole", of which the model's own baskets are all but the last.
 */
extern void om_basketlearning_learn(OmBasketModel *model, const OmBaskets *whole);

#endif /* OM_BASKETLEARNING_H */
