/*
 * training.c
 *		What administrators and analysts do with models.
 *
 * A training runs in the caller's session and transaction, and as the caller:
 * what its provider reads, the caller may read.  Two trainings of a model take
 * turns; predictions go on meanwhile with the version that is deployed, and a model
 * can be dropped while it is being trained.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "errors.h"
#include "jsonout.h"
#include "locks.h"
#include "modelrows.h"
#include "providers.h"
#include "training.h"

/* --- making a model ------------------------------------------------------------------------------- */

typedef struct Validation
{
	const OmPredictProvider *provider;
	OmModelInfo info;
} Validation;

static void
call_validate(void *arg)
{
	Validation *validation = arg;

	validation->provider->validate_options(&validation->info);
}

/* What is ours in the options, then what is the provider's. */
static const OmPredictProvider *
check_options(const char *name, const char *kind, Jsonb *options)
{
	const OmPredictProvider *provider = om_provider_get(kind);
	Validation validation = {.provider = provider, .info = {.name = name, .kind = kind}};
	OmModelOptions parsed;
	ErrorData *error;

	om_model_options_parse(options, &parsed);
	validation.info.options = om_model_options_of_kind(options);
	validation.info.timeout_ms = parsed.timeout_ms;
	if (provider->validate_options == NULL)
		return provider;
	error = om_provider_attempt(call_validate, &validation);
	if (error == NULL)
		return provider;
	/* The user's mistake, in the user's words. */
	if (om_provider_error_is_alien(error) || error->sqlerrcode == ERRCODE_OM_INVALID ||
		error->sqlerrcode == ERRCODE_OM_NOT_FOUND ||
		error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		ReThrowError(error);
	om_provider_raise(error, "checking the options of", name, kind);
}

static bool
are_equal(Jsonb *a, Jsonb *b)
{
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

bool
om_model_create(const char *name, const char *kind, Jsonb *options)
{
	const OmPredictProvider *provider = check_options(name, kind, options);
	bool is_untrained = (provider->flags & OM_PROVIDER_UNTRAINED) != 0;
	OmModelRow *row;

	if (om_modelrow_insert(name, kind, options, is_untrained ? 0 : OM_NOT_DEPLOYED))
		return true;
	row = om_modelrow_require(name);
	if (strcmp(row->kind, kind) != 0 || !are_equal(row->options, options))
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("there is another model \"%s\", of kind \"%s\"", name, row->kind),
						om_errdetail("kind", row->kind),
						errhint("set_model_options() changes its options, drop_model() forgets "
								"it.")));
	return false;
}

bool
om_model_set_options(const char *name, Jsonb *options)
{
	OmModelRow *row = om_modelrow_lock(name);

	(void) check_options(name, row->kind, options);
	if (are_equal(row->options, options))
		return false;
	om_modelrow_set_options(name, options);
	return true;
}

/* --- training ------------------------------------------------------------------------------------- */

typedef struct Training
{
	const OmPredictProvider *provider;
	OmModelInfo info;
	OmTrainRequest request;
	OmTrainResult result;
} Training;

static void
call_train(void *arg)
{
	Training *training = arg;

	training->provider->train(&training->request, &training->result);
}

static void
refuse_result(const Training *training, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("training model \"%s\" (kind \"%s\") failed: %s", training->info.name,
						   training->info.kind, problem),
					errdetail_internal(
						"%s", om_provider_detail(NULL, training->info.name, training->info.kind)),
					errhint("This is a defect of the provider.")));
}

static void
check_result(const Training *training)
{
	const OmTrainResult *result = &training->result;

	if (result->model == NULL)
		refuse_result(training, "the provider has made no model");
	if (result->metrics != NULL && !JB_ROOT_IS_OBJECT(result->metrics))
		refuse_result(training, "the metrics are no JSON object");
}

static void
run_training(Training *training)
{
	ErrorData *error = om_provider_attempt(call_train, training);

	if (error == NULL)
		check_result(training);
	else if (om_provider_error_is_alien(error))
		ReThrowError(error);
	else
		om_provider_raise(error, "training", training->info.name, training->info.kind);
}

/* The version that is deployed, to start from. */
static void
add_previous(const OmModelRow *row, OmTrainRequest *request)
{
	TimestampTz trained_at;
	bytea *bytes;

	if (row->deployed <= 0 ||
		!om_modelrow_find_version(row->name, row->deployed, &trained_at, &bytes))
		return;
	request->previous = (OmModelBytes){.data = VARDATA(bytes), .size = VARSIZE(bytes) - VARHDRSZ};
	request->previous_version = row->deployed;
}

static const OmPredictProvider *
find_trainer(const OmModelRow *row)
{
	const OmPredictProvider *provider = om_provider_get(row->kind);

	if (provider->train == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("models of kind \"%s\" are not trained", row->kind),
						om_errdetail("kind", row->kind),
						errhint("They predict as soon as they have been created.")));
	return provider;
}

int64
om_model_train(const char *name, bool update)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "training", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Training training = {0};
	OmModelOptions options;
	OmModelRow *row;

	(void) om_modelrow_require(name);
	om_lock_acquire(om_lock_of_model(name));
	row = om_modelrow_require(name);
	om_model_options_parse(row->options, &options);
	training.provider = find_trainer(row);
	om_provider_require_free(training.provider, name);
	training.info = (OmModelInfo){.name = name,
								  .kind = row->kind,
								  .version = om_modelrow_newest(name) + 1,
								  .options = om_model_options_of_kind(row->options),
								  .timeout_ms = options.timeout_ms};
	training.request.model = &training.info;
	training.request.update = update;
	add_previous(row, &training.request);
	run_training(&training);
	om_modelrow_insert_version(row, training.info.version, training.result.model,
							   training.result.metrics);
	if (options.auto_deploy || row->deployed == OM_NOT_DEPLOYED)
		om_modelrow_deploy(name, training.info.version);
	om_modelrow_prune(name, options.keep_versions);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return training.info.version;
}

static void
call_retrain(void *arg)
{
	(void) om_model_train(arg, true /* update */);
}

static void
warn_of_failure(const char *name, const ErrorData *error)
{
	if (om_provider_error_is_alien(error))
		ReThrowError(unconstify(ErrorData *, error));
	ereport(WARNING,
			(errcode(error->sqlerrcode), errmsg("model \"%s\" has not been trained again", name),
			 errdetail_internal("%s", error->message),
			 errhint("train_model() shows the whole "
					 "error.")));
}

/* Nobody sees who calls it: a job at night must lend nobody the powers of its role. */
static void
refuse_superuser(void)
{
	if (superuser())
		ereport(
			ERROR,
			(errcode(ERRCODE_OM_STATE), errmsg("models are not trained again by a superuser"),
			 om_errdetail("role", GetUserNameFromId(GetUserId(), false)),
			 errhint("Trainings run functions and queries of those who made the models. Have a "
					 "role call it, or schedule it, that may no more than order_mgmt_analyst.")));
}

int64
om_models_retrain(int64 older_ms)
{
	int64 count = 0;
	ListCell *cell;

	refuse_superuser();
	foreach(cell, om_modelrow_list_old(older_ms))
	{
		ErrorData *error = om_provider_attempt(call_retrain, lfirst(cell));

		if (error == NULL)
			count++;
		else
			warn_of_failure(lfirst(cell), error);
	}
	return count;
}

/* --- versions ------------------------------------------------------------------------------------- */

static void
require_version(const OmModelRow *row, int64 version)
{
	TimestampTz trained_at;

	if (version == 0 ? (om_provider_get(row->kind)->flags & OM_PROVIDER_UNTRAINED) != 0
					 : om_modelrow_find_version(row->name, version, &trained_at, NULL))
		return;
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND),
					errmsg("model \"%s\" has no version " INT64_FORMAT, row->name, version),
					om_errdetail("model", row->name),
					errhint("SELECT version FROM order_mgmt.models lists them.")));
}

bool
om_model_deploy(const char *name, int64 version)
{
	OmModelRow *row = om_modelrow_lock(name);

	require_version(row, version);
	if (row->deployed == version)
		return false;
	om_modelrow_deploy(name, version);
	return true;
}

void
om_model_drop(const char *name)
{
	(void) om_modelrow_require(name);
	(void) om_modelrow_delete(name);
}
