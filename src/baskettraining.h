/*
 * baskettraining.h
 *		Trains a model of next baskets, and measures how good one is.
 */
#ifndef OM_BASKETTRAINING_H
#define OM_BASKETTRAINING_H

#include "postgres.h"

#include "basketmetrics.h"
#include "basketmodel.h"

#define OM_BASKET_MAX_K 100
#define OM_BASKET_MAX_FOLDS 20

/* What to measure: k up to OM_BASKET_MAX_K, customers dealt to folds by their number. */
typedef struct OmBasketMeasure
{
	const OmBasketModel *model;
	const OmBaskets *whole; /* the model's are all but the last of each customer */
	int nks;
	const int *ks;
	int nfolds;
	bool only_validation;
	int stride; /* each so many-th customer */
} OmBasketMeasure;

/* results[fold][k]: means over the fold's customers; counts[fold]: how many those are. */
extern void om_baskettraining_measure(const OmBasketMeasure *measure, OmBasketMetrics *results,
									  int *counts);

/*
 * Chooses what is to be chosen (the weights of the blend, the hyper-parameters of
 * TIFU-KNN and UP-CF where "fixed" is false) by predicting each customer's last
 * basket from those before; validation is how well that went on customers of
 * whom nothing was learnt.
 */
extern OmBasketParameters om_baskettraining_train(const OmBaskets *baskets,
												  const OmBasketParameters *first, bool fixed,
												  OmBasketMetrics *validation, int *nvalidation);

#endif /* OM_BASKETTRAINING_H */
