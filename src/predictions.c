/*
 * predictions.c
 *		Calls models, batch by batch, and their fallbacks.
 *
 * Each call of a provider is a subtransaction with a time limit.  A model that
 * fails, whether in being loaded or in being asked, is undone, and its fallback asked
 * the same; fallbacks may have fallbacks.  An error of the session's own (the user has
 * cancelled, a deadlock) ends it all, and so does asking a model that waits for
 * somebody outside where others may wait for us: a fallback would only hide that.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "jsonout.h"
#include "predictionlog.h"
#include "predictions.h"
#include "providers.h"
#include "settings.h"
#include "timelimits.h"

/* --- one call of a provider ----------------------------------------------------------------------- */

ErrorData *
om_predict_attempt(OmModel *model, void (*work)(void *arg), void *arg)
{
	bool struck;

	return om_timelimit_attempt(om_model_timeout(model), work, arg, &struck);
}

typedef struct Call
{
	OmModel *model;
	Jsonb *const *inputs;
	Jsonb **outputs;
	int count;
	TimestampTz deadline;
	int returned;
} Call;

static void raise_fault(const char *fault) __attribute__((noreturn));

static void
raise_fault(const char *fault)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION), errmsg_internal("%s", fault),
					errhint("This is a defect of the provider.")));
}

/* What lies behind the last output is left alone by a provider that counts well. */
static const char guard;

static void
check_answer(const Call *call)
{
	if (call->returned != call->count)
		raise_fault(
			psprintf("the provider has answered %d of %d inputs", call->returned, call->count));
	for (int i = 0; i < call->count; i++)
	{
		if (call->outputs[i] == NULL)
			raise_fault(psprintf("the provider has left output %d empty", i + 1));
	}
	if ((const char *) call->outputs[call->count] != &guard)
		raise_fault("the provider has written behind the last output");
}

bool om_predict_read_only = false;

/* Some changes, of large objects for instance, pass for reading. */
static void
require_unchanged(void)
{
	if (om_predict_read_only && TransactionIdIsValid(GetCurrentTransactionIdIfAny()))
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("it has changed something, and may only read here")));
}

static void
call_provider(void *arg)
{
	Call *call = arg;
	const OmModel *model = call->model;
	OmPredictRequest request = {.model = &model->info,
								.state = model->state,
								.inputs = call->inputs,
								.outputs = call->outputs,
								.count = call->count,
								.deadline = call->deadline};

	if (om_predict_read_only)
		XactReadOnly = true; /* until the subtransaction ends */
	call->returned = model->provider->predict_batch(&request);
	require_unchanged();
	check_answer(call);
}

static ErrorData *
ask_batch(OmModel *model, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	int timeout_ms = om_model_timeout(model);
	Call call = {.model = model, .inputs = inputs, .outputs = outputs, .count = count};

	if (timeout_ms > 0)
		call.deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	memset(outputs, 0, sizeof(Jsonb *) * count);
	outputs[count] = (Jsonb *) unconstify(char *, &guard);
	return om_predict_attempt(model, call_provider, &call);
}

/* NULL, or why the model has failed.  There is room for one output more than inputs. */
static ErrorData *
ask(OmModel *model, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	int size = model->options.max_rows_per_batch;
	ErrorData *error = NULL;

	/* A fallback may want smaller batches than the model that it answers for. */
	for (int done = 0; done < count && error == NULL; done += size)
		error = ask_batch(model, inputs + done, Min(size, count - done), outputs + done);
	return error;
}

void
om_predict_by(OmModel *model, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	Jsonb **guarded = palloc(sizeof(Jsonb *) * (count + 1));
	ErrorData *error;

	om_provider_require_free(model->provider, model->info.name);
	error = ask(model, inputs, count, guarded);
	if (error != NULL && om_provider_error_is_alien(error))
		ReThrowError(error);
	if (error != NULL)
		om_provider_raise(error, "prediction by", model->info.name, model->info.kind);
	memcpy(outputs, guarded, sizeof(Jsonb *) * count);
}

/* --- models and their fallbacks ------------------------------------------------------------------- */

typedef struct Failure
{
	const char *name;
	const char *kind; /* NULL: it could not even be opened */
	ErrorData *error;
} Failure;

#define MAX_FAILURES 8

typedef struct Chain
{
	Failure failures[MAX_FAILURES];
	int count;
	bool is_outside; /* one of the models waits for somebody outside */
} Chain;

static bool
has_failed(const Chain *chain, const char *name)
{
	for (int i = 0; i < chain->count; i++)
	{
		if (strcmp(chain->failures[i].name, name) == 0)
			return true;
	}
	return false;
}

typedef struct Opening
{
	const char *name;
	bool outside_only;
	OmModel *model;
} Opening;

/* Before anything of the model is loaded: already that may run code of users. */
static void
require_outside(const char *name)
{
	const char *kind = om_modelrow_require(name)->kind;

	if ((om_provider_get(kind)->flags & OM_PROVIDER_WAITS_OUTSIDE) == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("a model of kind \"%s\" is not asked by this worker", kind),
						errhint("It asks models that answer from outside the server.")));
}

static void
call_open(void *arg)
{
	Opening *opening = arg;

	if (opening->outside_only)
		require_outside(opening->name);
	opening->model = om_model_open(opening->name, OM_VERSION_DEPLOYED);
}

/* A model that is loaded is opened without further ado. */
static OmModel *
open_model(const char *name, Chain *chain, bool outside_only)
{
	Opening opening = {.name = name, .outside_only = outside_only};
	ErrorData *error;

	if (!outside_only)
		opening.model = om_model_open_loaded(name);
	if (opening.model != NULL)
		return opening.model;
	error = om_provider_attempt(call_open, &opening);
	if (error == NULL)
		return opening.model;
	if (om_provider_error_is_alien(error))
		ReThrowError(error);
	chain->failures[chain->count++] = (Failure){.name = name, .error = error};
	return NULL;
}

static char *
fallback_of(const char *name)
{
	OmModelRow *row = om_modelrow_find(name);
	OmModelOptions options;

	if (row == NULL)
		return NULL;
	om_model_options_parse(row->options, &options);
	return options.fallback;
}

/* Errors of opening a model say already which one it is. */
static void
raise_failure(const Chain *chain)
{
	const Failure *first = &chain->failures[0];
	const Failure *last = &chain->failures[chain->count - 1];

	for (int i = 1; i < chain->count; i++)
		ereport(DEBUG1, (errcode(ERRCODE_OM_PREDICTION),
						 errmsg("fallback \"%s\" failed: %s", chain->failures[i].name,
								chain->failures[i].error->message)));
	if (last != first)
		first->error->hint = psprintf("Its fallback \"%s\" has failed as well: %s", last->name,
									  last->error->message);
	if (first->kind == NULL)
		ReThrowError(first->error);
	om_provider_raise(first->error, "prediction by", first->name, first->kind);
}

static int64
microseconds_since(const instr_time *start)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, *start);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * What is added to the log is a change, after which models outside are not asked:
 * it waits for the commit where one of them may be asked yet.
 */
static bool
log_must_wait(const OmModel *model, const Chain *chain)
{
	const char *next = model->options.fallback;

	if (chain->is_outside)
		return true;
	for (int i = 0; next != NULL && i < MAX_FAILURES; i++)
	{
		OmModelRow *row = om_modelrow_find(next);

		if (row != NULL && om_provider_may_wait(row->kind))
			return true;
		next = fallback_of(next);
	}
	return false;
}

/* True when the model has answered. */
static bool
try_model(const char *name, Chain *chain, const OmWay *way)
{
	OmModel *model = open_model(name, chain, way->outside_only);
	instr_time start;
	ErrorData *error;

	if (model == NULL)
		return false;
	om_provider_require_free(model->provider, name);
	chain->is_outside |= (model->provider->flags & OM_PROVIDER_WAITS_OUTSIDE) != 0;
	INSTR_TIME_SET_CURRENT(start);
	error = way->ask(model, way->arg);
	if (error == NULL || !om_provider_error_is_alien(error))
		way->log(model, way->arg, microseconds_since(&start), error, log_must_wait(model, chain));
	if (error != NULL && !om_provider_error_is_alien(error))
		chain->failures[chain->count++] =
			(Failure){.name = name, .kind = pstrdup(model->info.kind), .error = error};
	om_model_close(model);
	if (error != NULL && om_provider_error_is_alien(error))
		ReThrowError(error);
	return error == NULL;
}

void
om_predict_by_way(const char *name, const OmWay *way)
{
	Chain chain = {.count = 0};
	const char *next = name;

	while (!try_model(next, &chain, way))
	{
		next = fallback_of(next);
		if (next == NULL || has_failed(&chain, next) || chain.count == MAX_FAILURES)
			raise_failure(&chain);
	}
	if (chain.count > 0)
		ereport(DEBUG1, (errcode(ERRCODE_OM_PREDICTION),
						 errmsg("model \"%s\" has answered for \"%s\", which failed: %s", next,
								name, chain.failures[0].error->message)));
}

/* --- the way in JSON ------------------------------------------------------------------------------ */

typedef struct Batch
{
	Jsonb *const *inputs;
	int count;
	Jsonb **outputs; /* with room for one more */
} Batch;

static ErrorData *
ask_batch_of(OmModel *model, void *arg)
{
	Batch *batch = arg;

	return ask(model, batch->inputs, batch->count, batch->outputs);
}

static void
log_batch(const OmModel *model, void *arg, int64 duration_us, const ErrorData *error,
		  bool at_commit)
{
	const Batch *batch = arg;
	const char *error_code = error == NULL ? NULL : unpack_sql_state(error->sqlerrcode);

	for (int i = 0; i < batch->count; i++)
	{
		if (om_predictionlog_wants(model))
			om_predictionlog_add(
				model, NULL, batch->inputs[i], error == NULL ? batch->outputs[i] : NULL,
				error == NULL ? duration_us / batch->count : duration_us, error_code, at_commit);
	}
}

int
om_predict_batch_size(const char *name)
{
	OmModelRow *row = om_modelrow_require(name);
	OmModelOptions options;

	om_model_options_parse(row->options, &options);
	return options.max_rows_per_batch;
}

static void
predict(const char *name, bool outside_only, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	int size = count == 1 ? 1 : Min(om_predict_batch_size(name), count);
	Jsonb **guarded = palloc(sizeof(Jsonb *) * (size + 1));

	for (int done = 0; done < count; done += size)
	{
		int n = Min(size, count - done);
		Batch batch = {.inputs = inputs + done, .count = n, .outputs = guarded};
		OmWay way = {
			.outside_only = outside_only, .ask = ask_batch_of, .log = log_batch, .arg = &batch};

		CHECK_FOR_INTERRUPTS();
		om_predict_by_way(name, &way);
		memcpy(outputs + done, guarded, sizeof(Jsonb *) * n);
	}
	pfree(guarded);
}

void
om_predict(const char *name, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	predict(name, false /* outside_only */, inputs, count, outputs);
}

void
om_predict_outside(const char *name, Jsonb *const *inputs, int count, Jsonb **outputs)
{
	predict(name, true /* outside_only */, inputs, count, outputs);
}
