/*
 * evaluation.c
 *		Predictions beside what really happened.
 *
 * A query of the caller's gives inputs and the label of each.  Where all labels are
 * true or false, or 0 or 1, the model is taken for one that tells two classes
 * apart by a score, else for one that estimates a number; option "task" says it
 * otherwise.  Rows whose label is null are left out.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "errors.h"
#include "evaluation.h"
#include "inputrows.h"
#include "jsonout.h"
#include "models.h"
#include "options.h"
#include "predictions.h"
#include "providers.h"
#include "scores.h"
#include "timelimits.h"

#define LEAST_PROBABILITY 1e-15

typedef struct Pair
{
	double score;
	double label;
} Pair;

typedef struct Pairs
{
	Pair *pairs;
	int64 count;
	int64 room;
	bool is_binary; /* all labels so far */
	MemoryContext context;
} Pairs;

/* --- options -------------------------------------------------------------------------------------- */

typedef enum Task
{
	TASK_BY_LABELS = -1,
	TASK_REGRESSION,
	TASK_BINARY
} Task;

static const char *const task_names[] = {"regression", "binary"};

typedef struct Options
{
	char *query;
	char *label;
	char *score; /* member of the output, or NULL */
	Task task;
	double threshold;
} Options;

static const char *const keys[] = {"query",     "label",   "score",     "task",
								   "threshold", "version", "timeout_ms"};

static void
parse_options(Jsonb *options, Options *parsed)
{
	JsonbValue value;

	om_options_check_keys(options, keys, lengthof(keys), NULL /* hint */);
	parsed->query = om_option_string(options, "query", "Write a SELECT.");
	if (parsed->query == NULL)
		om_option_raise("query", "is missing",
						"Write a SELECT of inputs, and of what is true of each as column label.");
	parsed->label = om_option_string(options, "label", "Write the name of a column of the query.");
	if (parsed->label == NULL)
		parsed->label = pstrdup("label");
	parsed->score = om_option_string(options, "score", "Write the name of a member of outputs.");
	parsed->task =
		om_option_word(options, "task", task_names, lengthof(task_names), TASK_BY_LABELS);
	parsed->threshold = 0.5;
	if (om_option_get(options, "threshold", &value) &&
		!om_score_of_value(&value, &parsed->threshold))
		om_option_raise("threshold", "is not a number to compare with", "0.5 is the default.");
}

/* --- scores and labels ---------------------------------------------------------------------------- */

static double
score_of(Jsonb *output, const char *member)
{
	double number;

	if (om_score_of_output(output, member, &number))
		return number;
	ereport(ERROR,
			(errcode(ERRCODE_OM_INVALID), errmsg("an output of the model has no number to compare"),
			 om_errdetail("path", "options.score"),
			 errhint("Outputs are numbers, or objects with a member that option score names.")));
}

/* False: the row is to be left out. */
static bool
label_of(Jsonb *label, double *number)
{
	JsonbValue value;

	if (label == NULL)
		om_option_raise("label", "names no column of the query",
						"Without option label it is the column label.");
	if (JB_ROOT_IS_SCALAR(label) && JsonbExtractScalar(&label->root, &value))
	{
		if (value.type == jbvNull)
			return false;
		if (om_score_of_value(&value, number))
			return true;
	}
	om_option_raise("label", "names a column that is no number",
					"Labels are numbers, or true and false.");
}

static void
add_pair(Pairs *pairs, double score, double label)
{
	if (pairs->count == pairs->room)
	{
		MemoryContext caller = MemoryContextSwitchTo(pairs->context);

		pairs->room = Max(1024, pairs->room * 2);
		pairs->pairs = pairs->pairs == NULL
						 ? MemoryContextAllocHuge(pairs->context, sizeof(Pair) * pairs->room)
						 : repalloc_huge(pairs->pairs, sizeof(Pair) * pairs->room);
		MemoryContextSwitchTo(caller);
	}
	pairs->pairs[pairs->count++] = (Pair){score, label};
	pairs->is_binary = pairs->is_binary && (label == 0 || label == 1);
}

static void
read_batch(OmInputRows *rows, OmModel *model, const Options *options, Pairs *pairs)
{
	int size = model->options.max_rows_per_batch;
	Jsonb **inputs = palloc(sizeof(Jsonb *) * size * 3);
	Jsonb **labels = inputs + size;
	Jsonb **outputs = labels + size;
	int count = om_inputrows_fetch(rows, size, inputs, labels);

	if (count == 0)
		return;
	om_predict_by(model, inputs, count, outputs);
	for (int i = 0; i < count; i++)
	{
		double label;

		if (label_of(labels[i], &label))
			add_pair(pairs, score_of(outputs[i], options->score), label);
	}
}

static void
read_pairs(OmModel *model, const Options *options, Pairs *pairs)
{
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "batch", ALLOCSET_DEFAULT_SIZES);
	OmInputRows rows;
	int64 before;

	om_inputrows_open(&rows, options->query, options->label, "options.query");
	do
	{
		MemoryContext caller = MemoryContextSwitchTo(batch);

		CHECK_FOR_INTERRUPTS();
		before = rows.count;
		read_batch(&rows, model, options, pairs);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(batch);
	} while (rows.count > before);
	om_inputrows_close(&rows);
}

/* --- metrics -------------------------------------------------------------------------------------- */

static double
ratio(double a, double b)
{
	return b == 0 ? get_float8_nan() : a / b;
}

static void
report_regression(const Pairs *pairs, OmMetricSink sink, void *arg)
{
	double absolute = 0;
	double squared = 0;
	double bias = 0;
	double total = 0;

	for (int64 i = 0; i < pairs->count; i++)
	{
		double error = pairs->pairs[i].score - pairs->pairs[i].label;

		absolute += fabs(error);
		squared += error * error;
		bias += error;
		total += fabs(pairs->pairs[i].label);
	}
	sink(arg, "mae", ratio(absolute, pairs->count));
	sink(arg, "rmse", sqrt(ratio(squared, pairs->count)));
	sink(arg, "wape", ratio(absolute, total));
	sink(arg, "bias", ratio(bias, pairs->count));
}

static int
compare_scores(const void *a, const void *b)
{
	double x = ((const Pair *) a)->score;
	double y = ((const Pair *) b)->score;

	return x < y ? -1 : x > y;
}

/* The chance that one of label 1 has a higher score than one of label 0; equal scores count half. */
static double
area_under_curve(Pairs *pairs, int64 positives)
{
	double ranks = 0; /* of those of label 1, counted from 1 */
	double negatives = pairs->count - positives;

	qsort(pairs->pairs, pairs->count, sizeof(Pair), compare_scores);
	for (int64 begin = 0, end; begin < pairs->count; begin = end)
	{
		int64 found = 0;

		for (end = begin;
			 end < pairs->count && pairs->pairs[end].score == pairs->pairs[begin].score; end++)
			found += pairs->pairs[end].label == 1;
		/* A score that is no number is equal to none, not even to itself. */
		end = Max(end, begin + 1);
		ranks += found * (begin + 1 + end) / 2.0;
	}
	return ratio(ranks - positives * (positives + 1.0) / 2, positives * negatives);
}

static double
log_loss(const Pair *pair)
{
	double p = Min(Max(pair->score, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY);

	return pair->label == 1 ? -log(p) : -log(1 - p);
}

static void
report_binary(Pairs *pairs, double threshold, OmMetricSink sink, void *arg)
{
	int64 positives = 0;
	int64 called = 0; /* 1 by the model */
	int64 hits = 0;   /* rightly so */
	double loss = 0;

	for (int64 i = 0; i < pairs->count; i++)
	{
		const Pair *pair = &pairs->pairs[i];

		positives += pair->label == 1;
		called += pair->score >= threshold;
		hits += pair->score >= threshold && pair->label == 1;
		loss += log_loss(pair);
	}
	sink(arg, "auc", area_under_curve(pairs, positives));
	sink(arg, "log_loss", ratio(loss, pairs->count));
	sink(arg, "accuracy", ratio(pairs->count - called - positives + 2 * hits, pairs->count));
	sink(arg, "precision", ratio(hits, called));
	sink(arg, "recall", ratio(hits, positives));
	sink(arg, "threshold", threshold);
}

static void
evaluate_by_labels(OmModel *model, Jsonb *given, OmMetricSink sink, void *arg)
{
	Pairs pairs = {.is_binary = true, .context = CurrentMemoryContext};
	Options options;
	bool is_binary;

	parse_options(given, &options);
	read_pairs(model, &options, &pairs);
	is_binary = options.task == TASK_BINARY || (options.task == TASK_BY_LABELS && pairs.is_binary);
	if (is_binary && !pairs.is_binary)
		om_option_raise("task", "is binary, but not all labels are 0 or 1",
						"Leave it out, or write regression.");
	sink(arg, "rows", pairs.count);
	if (is_binary)
		report_binary(&pairs, options.threshold, sink, arg);
	else
		report_regression(&pairs, sink, arg);
}

/* --- kinds that measure themselves, and others ------------------------------------------------------ */

typedef struct Evaluation
{
	OmModel *model;
	Jsonb *options;
	OmEvaluateRequest request;
	OmMetricSink sink;
	void *arg;
	MemoryContext context;
} Evaluation;

static void
report(const OmEvaluateRequest *request, const char *metric, double value)
{
	Evaluation *evaluation = request->sink;
	MemoryContext caller = MemoryContextSwitchTo(evaluation->context);

	evaluation->sink(evaluation->arg, metric, value);
	MemoryContextSwitchTo(caller);
}

static void
evaluate(void *arg)
{
	Evaluation *evaluation = arg;
	OmModel *model = evaluation->model;

	if (model->provider->evaluate != NULL)
		model->provider->evaluate(&evaluation->request);
	else
		evaluate_by_labels(model, evaluation->options, evaluation->sink, evaluation->arg);
}

/* What is ours in the options is not the kind's. */
static Jsonb *
options_of_kind(Jsonb *options)
{
	Datum names[] = {CStringGetTextDatum("version"), CStringGetTextDatum("timeout_ms")};
	ArrayType *array = construct_array(names, lengthof(names), TEXTOID, -1, false, TYPALIGN_INT);

	return DatumGetJsonbP(
		DirectFunctionCall2(jsonb_delete_array, JsonbPGetDatum(options), PointerGetDatum(array)));
}

static void
prepare_request(Evaluation *evaluation)
{
	OmModel *model = evaluation->model;

	om_provider_require_free(model->provider, model->info.name);
	evaluation->request = (OmEvaluateRequest){.model = &model->info,
											  .state = model->state,
											  .options = options_of_kind(evaluation->options),
											  .report = report,
											  .sink = evaluation};
}

/* Errors of the kind are told from those of the user's query and options. */
static void
raise_failure(const OmModel *model, ErrorData *error, bool struck)
{
	bool is_users = model->provider->evaluate == NULL || error->sqlerrcode == ERRCODE_OM_INVALID;

	if (om_provider_error_is_alien(error) || (is_users && !struck))
		ReThrowError(error);
	if (struck)
		error->hint = pstrdup("The limit is option timeout_ms of the evaluation.");
	om_provider_raise(error, "evaluating", model->info.name, model->info.kind);
}

void
om_model_evaluate(const char *name, Jsonb *options, OmMetricSink sink, void *arg)
{
	Evaluation evaluation = {
		.options = options, .sink = sink, .arg = arg, .context = CurrentMemoryContext};
	/* For all of it; 0: as long as it takes. */
	int timeout_ms = om_option_count(options, "timeout_ms", 0, INT_MAX / 2, 0);
	ErrorData *error;
	bool struck;

	evaluation.model = om_model_open(
		name, om_option_count(options, "version", 0, PG_INT64_MAX, OM_VERSION_DEPLOYED));
	if (evaluation.model->provider->evaluate != NULL)
		prepare_request(&evaluation);
	error = om_timelimit_attempt(timeout_ms, evaluate, &evaluation, &struck);
	if (error != NULL)
		raise_failure(evaluation.model, error, struck);
	om_model_close(evaluation.model);
}
