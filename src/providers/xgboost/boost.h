/*
 * boost.h
 *		What the files of this library share.
 *
 * Nothing of XGBoost's own leaves booster.c, and no exception does: its C interface
 * catches them all.  It is never called while an error of PostgreSQL's could jump
 * out of it.
 */
#ifndef BOOST_H
#define BOOST_H

#include "postgres.h"

#include "errors.h"
#include "order_mgmt.h"

/* --- options.c ------------------------------------------------------------------------------------ */

typedef struct BoostOptions
{
	char *query;
	char *label;    /* a column of the query; the others are features */
	bool is_binary; /* else a regression */
	int rounds;     /* at most */
	int early_stopping_rounds;
	int max_depth;
	double eta;
	double subsample;
	double colsample_bytree;
	double min_child_weight;
	double lambda;
	double validation_fraction;
	int seed;
} BoostOptions;

/* OM001 where they make no sense. */
extern BoostOptions *boost_options_read(Jsonb *options);

/* --- rows.c --------------------------------------------------------------------------------------- */

typedef struct BoostSample
{
	float *values; /* nfeatures a row; NaN where there is none */
	float *labels;
	int64 nrows;
	int64 room;
} BoostSample;

typedef struct BoostRows
{
	int nfeatures;
	char **features;
	BoostSample training;
	BoostSample validation;
	int64 skipped; /* rows without label */
} BoostRows;

/* Runs the query with the rights of the caller. */
extern BoostRows *boost_rows_read(const BoostOptions *options);

/* --- booster.c ------------------------------------------------------------------------------------ */

/* Belongs to the memory context in which it was made. */
typedef struct BoostBooster BoostBooster;

typedef struct BoostMetrics
{
	int rounds;
	double loss; /* log loss, or the root of the mean squared error */
	double auc;  /* NaN in a regression */
} BoostMetrics;

extern BoostBooster *boost_booster_train(const BoostOptions *options, const BoostRows *rows,
										 BoostMetrics *metrics);
extern void boost_booster_save(BoostBooster *booster, const char **data, Size *size);
extern BoostBooster *boost_booster_load(const char *data, Size size);

/* As many results as there are rows, in the current memory context. */
extern float *boost_booster_predict(BoostBooster *booster, const float *values, int64 nrows,
									int nfeatures);

/* To be called once: XGBoost is to write nothing, and to start no threads. */
extern void boost_booster_init(void);

#endif /* BOOST_H */
