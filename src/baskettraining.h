/*
 * baskettraining.h
 *		Trains a model of next baskets, and measures how good one is.
 */
#ifndef OM_BASKETTRAINING_H
#define OM_BASKETTRAINING_H

#include "postgres.h"

#include "basketlearning.h"
#include "basketmetrics.h"
#include "basketmodel.h"

#define OM_BASKET_MAX_K 100
#define OM_BASKET_MAX_FOLDS 20

/* Which customers are measured. */
typedef enum OmBasketWhom
{
	OM_BASKET_ALL,
	OM_BASKET_BUT_MEASURING, /* by whom something may be chosen */
	OM_BASKET_ONLY_MEASURING /* of whom nothing was learnt, and by whom nothing was chosen */
} OmBasketWhom;

/* What to measure: k up to OM_BASKET_MAX_K, customers dealt to folds by their number. */
typedef struct OmBasketMeasure
{
	const OmBasketModel *model;
	const OmBaskets *whole; /* the model's are all but the last of each customer */
	int nks;
	const int *ks;
	int nfolds;
	OmBasketWhom whom;
	int one_of; /* so many of these */
} OmBasketMeasure;

/* results[fold][k]: means over the fold's customers; counts[fold]: how many those are. */
extern void om_baskettraining_measure(const OmBasketMeasure *measure, OmBasketMetrics *results,
									  int *counts);

/* How to train. */
typedef struct OmBasketTask
{
	OmBasketParameters first;
	bool is_fixed;   /* nothing is chosen, nothing learnt: the first ones are taken */
	uint32 left_out; /* groups of features that the blend is not to use, as bits */
} OmBasketTask;

typedef struct OmBasketResult
{
	OmBasketParameters parameters;
	OmBasketLearnt learnt; /* of the blend, where it was learnt */
	OmBasketMetrics validation;
	int nvalidation; /* customers: none of those who had a part in it */
} OmBasketResult;

/*
 * Chooses what is to be chosen (the weights of the blend, the hyper-parameters of
 * TIFU-KNN and UP-CF) by predicting each customer's last basket from those before.
 */
extern OmBasketResult om_baskettraining_train(const OmBaskets *baskets, const OmBasketTask *task);

/* Measures parameters on those of whom nothing was learnt. */
extern void om_baskettraining_validate(const OmBasketModel *model, const OmBaskets *whole,
									   OmBasketResult *result);

#endif /* OM_BASKETTRAINING_H */
