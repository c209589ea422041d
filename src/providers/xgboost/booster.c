/*
 * booster.c
 *		The only file that calls XGBoost.
 *
 * What it allocates belongs to memory contexts by their callbacks, so errors and
 * cancellations leave nothing behind.  One thread only, that of the session: signal
 * handlers of a backend must run nowhere else.  Option nthread does not reach all that
 * XGBoost does (loading, for one), so OpenMP is told, too.
 */
#include "boost.h"

#include <math.h>
#include <omp.h>
#include <xgboost/c_api.h>

#include "miscadmin.h"
#include "utils/memutils.h"

/* --- handles -------------------------------------------------------------------------------------- */

typedef struct Owner
{
	MemoryContextCallback callback;
	void *handle;
	int (*free)(void *handle);
} Owner;

struct BoostBooster
{
	Owner owner;
};

static void
free_handle(void *arg)
{
	Owner *owner = arg;

	if (owner->handle != NULL)
		(void) owner->free(owner->handle);
	owner->handle = NULL;
}

/* To be called before there is a handle, because it may fail itself. */
static void
own(Owner *owner, int (*free)(void *handle))
{
	owner->handle = NULL;
	owner->free = free;
	owner->callback.func = free_handle;
	owner->callback.arg = owner;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &owner->callback);
}

/* What it says, without where in its sources it says it. */
static char *
last_error(void)
{
	char *text = pstrdup(XGBGetLastError());
	char *end = strstr(text, "Stack trace");
	char *start = strstr(text, ": ");

	if (end != NULL)
		*end = '\0';
	start = text[0] == '[' && start != NULL ? start + 2 : text;
	for (char *c = start; *c != '\0'; c++)
		if (*c == '\n' || *c == '\r' || *c == '\t')
			*c = ' ';
	for (Size length = strlen(start); length > 0 && start[length - 1] == ' '; length--)
		start[length - 1] = '\0';
	return start;
}

static void
check(int result, const char *doing)
{
	if (result != 0)
		ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
						errmsg("XGBoost could not %s: %s", doing, last_error()),
						errhint("Look at the values of the features and at the options.")));
}

void
boost_booster_init(void)
{
	omp_set_num_threads(1);
	(void) XGBSetGlobalConfig("{\"verbosity\": 0}");
}

/* --- matrices ------------------------------------------------------------------------------------- */

static DMatrixHandle
make_matrix(Owner *owner, const float *values, int64 nrows, int nfeatures)
{
	own(owner, XGDMatrixFree);
	check(
		XGDMatrixCreateFromMat_omp(values, nrows, nfeatures, NAN, &owner->handle, 1 /* nthread */),
		"read the features");
	return owner->handle;
}

static DMatrixHandle
make_sample(Owner *owner, const BoostSample *sample, int nfeatures)
{
	DMatrixHandle matrix = make_matrix(owner, sample->values, sample->nrows, nfeatures);

	check(XGDMatrixSetFloatInfo(matrix, "label", sample->labels, sample->nrows), "read the labels");
	return matrix;
}

/* --- training ------------------------------------------------------------------------------------- */

static void
set(BoosterHandle booster, const char *name, const char *value)
{
	check(XGBoosterSetParam(booster, name, value), psprintf("set %s", name));
}

static void
set_number(BoosterHandle booster, const char *name, double value)
{
	set(booster, name, psprintf("%.17g", value));
}

static void
set_options(BoosterHandle booster, const BoostOptions *options)
{
	set(booster, "nthread", "1");
	set(booster, "tree_method", "hist");
	set(booster, "objective", options->is_binary ? "binary:logistic" : "reg:squarederror");
	if (options->is_binary)
		set(booster, "eval_metric", "auc");
	set(booster, "eval_metric", options->is_binary ? "logloss" : "rmse");
	set_number(booster, "max_depth", options->max_depth);
	set_number(booster, "eta", options->eta);
	set_number(booster, "subsample", options->subsample);
	set_number(booster, "colsample_bytree", options->colsample_bytree);
	set_number(booster, "min_child_weight", options->min_child_weight);
	set_number(booster, "lambda", options->lambda);
	set_number(booster, "seed", options->seed);
}

/* The figure of a line such as "[12]\tmeasured-auc:0.91\tmeasured-logloss:0.35". */
static double
figure(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at == NULL ? NAN : strtod(at + strlen(name), NULL);
}

static BoostMetrics
measure(BoosterHandle booster, int round, DMatrixHandle sample, bool is_binary)
{
	const char *name = "measured";
	const char *line;

	check(XGBoosterEvalOneIter(booster, round, &sample, &name, 1, &line), "measure a round");
	return (BoostMetrics){.rounds = round + 1,
						  .loss = figure(line, is_binary ? "logloss:" : "rmse:"),
						  .auc = figure(line, "auc:")};
}

/* Until it gets no better any more; returns the best round's figures. */
static BoostMetrics
boost(BoosterHandle booster, const BoostOptions *options, DMatrixHandle training,
	  DMatrixHandle validation)
{
	BoostMetrics best = {0};

	for (int round = 0; round < options->rounds; round++)
	{
		BoostMetrics now;

		CHECK_FOR_INTERRUPTS();
		check(XGBoosterUpdateOneIter(booster, round, training), "learn");
		if (validation == NULL && round + 1 < options->rounds)
			continue;
		now =
			measure(booster, round, validation != NULL ? validation : training, options->is_binary);
		if (best.rounds == 0 || now.loss < best.loss || options->early_stopping_rounds == 0)
			best = now;
		else if (now.rounds - best.rounds >= options->early_stopping_rounds)
			break;
	}
	return best;
}

static BoostBooster *
make_booster(const DMatrixHandle *matrices, int count)
{
	BoostBooster *booster = palloc0(sizeof(BoostBooster));

	own(&booster->owner, XGBoosterFree);
	check(XGBoosterCreate(matrices, count, &booster->owner.handle), "begin");
	return booster;
}

/* Only the rounds up to the best one. */
static BoostBooster *
keep_rounds(BoostBooster *whole, int rounds)
{
	BoostBooster *booster = palloc0(sizeof(BoostBooster));

	own(&booster->owner, XGBoosterFree);
	check(XGBoosterSlice(whole->owner.handle, 0, rounds, 1, &booster->owner.handle),
		  "keep the best rounds");
	return booster;
}

BoostBooster *
boost_booster_train(const BoostOptions *options, const BoostRows *rows, BoostMetrics *metrics)
{
	Owner *owners = palloc0(sizeof(Owner) * 2);
	DMatrixHandle matrices[2] = {NULL, NULL};
	int count = rows->validation.nrows > 0 ? 2 : 1;
	BoostBooster *booster;

	matrices[0] = make_sample(&owners[0], &rows->training, rows->nfeatures);
	if (count == 2)
		matrices[1] = make_sample(&owners[1], &rows->validation, rows->nfeatures);
	booster = make_booster(matrices, count);
	set_options(booster->owner.handle, options);
	*metrics = boost(booster->owner.handle, options, matrices[0], matrices[1]);
	return keep_rounds(booster, metrics->rounds);
}

/* --- afterwards ----------------------------------------------------------------------------------- */

void
boost_booster_save(BoostBooster *booster, const char **data, Size *size)
{
	bst_ulong length;

	check(XGBoosterSaveModelToBuffer(booster->owner.handle, "{\"format\": \"ubj\"}", &length, data),
		  "save the model");
	*size = length;
}

BoostBooster *
boost_booster_load(const char *data, Size size)
{
	BoostBooster *booster = make_booster(NULL, 0);

	check(XGBoosterLoadModelFromBuffer(booster->owner.handle, data, size), "load the model");
	set(booster->owner.handle, "nthread", "1");
	return booster;
}

float *
boost_booster_predict(BoostBooster *booster, const float *values, int64 nrows, int nfeatures)
{
	Owner *owner = palloc0(sizeof(Owner));
	float *results = palloc(sizeof(float) * nrows);
	const bst_ulong *shape;
	bst_ulong dimensions;
	const float *predicted;
	DMatrixHandle matrix = make_matrix(owner, values, nrows, nfeatures);

	check(XGBoosterPredictFromDMatrix(booster->owner.handle, matrix,
									  "{\"type\": 0, \"training\": false, \"iteration_begin\": 0,"
									  " \"iteration_end\": 0, \"strict_shape\": false}",
									  &shape, &dimensions, &predicted),
		  "predict");
	if (dimensions != 1 || shape[0] != (bst_ulong) nrows)
		elog(ERROR, "XGBoost did not predict one number a row");
	memcpy(results, predicted, sizeof(float) * nrows);
	free_handle(owner);
	return results;
}
