/*
 * models.c
 *		Keeps models loaded from call to call.
 *
 * A model is loaded from its bytes at the first prediction of a session and kept
 * in a memory context of its own.  Messages that a model has changed, its
 * training or deployment for instance, make a session compare what it has with
 * the rows; what is as it was stays loaded.  A message that arrives while a model is
 * being loaded counts for it too, because changes are numbered before the rows
 * are read.
 *
 * While a model is in use it is not thrown away.  Who does not close it, because
 * of an error, keeps it at most to the end of his transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "jsonout.h"
#include "models.h"
#include "providers.h"
#include "relations.h"
#include "settings.h"
#include "timelimits.h"

#define MAX_MODELS 64
#define MAX_TRIES 5

static OmModel *models[MAX_MODELS];
static int nmodels = 0;
static uint64 nchanges = 1; /* of models, of which we have been told */
static uint64 nuses = 0;
static Oid definitions = InvalidOid; /* the table, whose changes we are told */

static void
relation_changed(Oid relid)
{
	if (relid == InvalidOid || relid == definitions)
		nchanges++;
}

/* --- throwing away -------------------------------------------------------------------------------- */

static void
throw_away(OmModel *model)
{
	if (model->state != NULL && model->provider->free != NULL)
		model->provider->free(model->state);
	MemoryContextDelete(model->context);
}

static void
forget(int n)
{
	OmModel *model = models[n];

	models[n] = models[--nmodels];
	throw_away(model);
}

static Size
size_of_all(void)
{
	Size size = 0;

	for (int i = 0; i < nmodels; i++)
		size += models[i]->size;
	return size;
}

/* The one that has been unused for longest, but for one that is to stay; -1: all are in use. */
static int
find_unused(const OmModel *stays)
{
	int found = -1;

	for (int i = 0; i < nmodels; i++)
	{
		if (models[i]->users == 0 && models[i] != stays &&
			(found < 0 || models[i]->used_at < models[found]->used_at))
			found = i;
	}
	return found;
}

static void
make_room(const OmModel *stays)
{
	Size limit = (Size) om_setting_model_cache_size * 1024;

	while (nmodels >= MAX_MODELS || size_of_all() > limit)
	{
		int n = find_unused(stays);

		if (n < 0)
			return;
		forget(n);
	}
}

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	for (int i = 0; i < nmodels; i++)
		models[i]->users = 0;
}

void
om_models_init(void)
{
	om_relations_watch(relation_changed);
	RegisterXactCallback(at_end_of_transaction, NULL);
}

/* --- loading -------------------------------------------------------------------------------------- */

static void
raise_no_version(const OmModelRow *row, int64 version)
{
	if (version == OM_NOT_DEPLOYED)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("model \"%s\" has no version that is deployed", row->name),
						om_errdetail("model", row->name),
						errhint("SELECT * FROM order_mgmt.train_model(...) makes one.")));
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND),
					errmsg("model \"%s\" has no version " INT64_FORMAT, row->name, version),
					om_errdetail("model", row->name),
					errhint("SELECT version FROM order_mgmt.models lists them.")));
}

static Jsonb *
copy_jsonb(Jsonb *jsonb)
{
	Jsonb *copy = palloc(VARSIZE(jsonb));

	memcpy(copy, jsonb, VARSIZE(jsonb));
	return copy;
}

/* All but options and state. */
static OmModel *
create_model(const OmModelRow *row, int64 version, const OmPredictProvider *provider)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt model", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmModel *model = palloc0(sizeof(OmModel));

	model->context = context;
	model->provider = provider;
	model->info.name = pstrdup(row->name);
	model->info.kind = provider->kind;
	model->info.version = version;
	model->created_at = row->created_at;
	model->changed_at = row->changed_at;
	MemoryContextSwitchTo(caller);
	MemoryContextSetIdentifier(context, model->info.name);
	return model;
}

typedef struct Loading
{
	OmModel *model;
	OmModelBytes bytes;
} Loading;

static void
call_load(void *arg)
{
	Loading *loading = arg;
	OmModel *model = loading->model;

	MemoryContextSwitchTo(model->context);
	model->state = model->provider->load(&model->info, loading->bytes, model->context);
}

int
om_model_timeout(const OmModel *model)
{
	return model->options.timeout_ms >= 0 ? model->options.timeout_ms : om_setting_predict_timeout;
}

/* The time limit is that of an answer: it counts anew for the answer itself. */
static void
load_state(OmModel *model, bytea *bytes)
{
	Loading loading = {.model = model};
	ErrorData *error;
	bool struck;

	if (model->provider->load == NULL)
		return;
	if (bytes != NULL)
		loading.bytes = (OmModelBytes){.data = VARDATA(bytes), .size = VARSIZE(bytes) - VARHDRSZ};
	error = om_timelimit_attempt(om_model_timeout(model), call_load, &loading, &struck);
	if (error == NULL)
		return;
	if (om_provider_error_is_alien(error))
		ReThrowError(error);
	om_provider_raise(error, "loading", model->info.name, model->info.kind);
}

/* False: the version is not there (any more). */
static bool
fill_model(OmModel *model, const OmModelRow *row, MemoryContext passing)
{
	MemoryContext caller = MemoryContextSwitchTo(model->context);
	bytea *bytes = NULL;

	om_model_options_parse(row->options, &model->options);
	model->info.options = copy_jsonb(om_model_options_of_kind(row->options));
	model->info.timeout_ms = model->options.timeout_ms;
	MemoryContextSwitchTo(passing);
	if (model->info.version > 0 && !om_modelrow_find_version(model->info.name, model->info.version,
															 &model->trained_at, &bytes))
	{
		MemoryContextSwitchTo(caller);
		return false;
	}
	load_state(model, bytes);
	MemoryContextSwitchTo(caller);
	model->size = MemoryContextMemAllocated(model->context, true /* recurse */) +
				  MemoryContextMemAllocated(passing, true /* recurse */);
	return true;
}

/* NULL: the version is not there (any more). */
static OmModel *
load_model(const OmModelRow *row, int64 version)
{
	OmModel *volatile model = create_model(row, version, om_provider_get(row->kind));
	MemoryContext passing =
		AllocSetContextCreate(CurrentMemoryContext, "model bytes", ALLOCSET_DEFAULT_SIZES);
	volatile bool filled = false;

	PG_TRY();
	{
		filled = fill_model(model, row, passing);
	}
	PG_CATCH();
	{
		throw_away(model);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextDelete(passing);
	if (filled)
		return model;
	throw_away(model);
	return NULL;
}

/* --- finding -------------------------------------------------------------------------------------- */

static OmModel *
find_known(const char *name, int64 version)
{
	for (int i = 0; i < nmodels; i++)
	{
		OmModel *model = models[i];

		if (model->known_at == nchanges && strcmp(model->info.name, name) == 0 &&
			(version == OM_VERSION_DEPLOYED ? model->is_deployed : model->info.version == version))
			return model;
	}
	return NULL;
}

static bool
is_as_stored(const OmModel *model, const OmModelRow *row)
{
	TimestampTz trained_at = 0;

	return model->created_at == row->created_at && model->changed_at == row->changed_at &&
		   (model->info.version == 0 ||
			(om_modelrow_find_version(row->name, model->info.version, &trained_at, NULL) &&
			 trained_at == model->trained_at));
}

/*
 * Compares what is loaded of a model with what is stored, as it is after so many
 * changes; returns the version that is wanted, if it is still right.
 */
static OmModel *
sort_out(const OmModelRow *row, int64 wanted, uint64 change)
{
	OmModel *found = NULL;

	for (int i = nmodels - 1; i >= 0; i--)
	{
		OmModel *model = models[i];
		int64 version = model->info.version;

		if (strcmp(model->info.name, row->name) != 0)
			continue;
		if ((version == wanted || version == row->deployed) && is_as_stored(model, row))
		{
			model->known_at = change;
			model->is_deployed = version == row->deployed;
			if (version == wanted)
				found = model;
		}
		else if (model->users == 0)
			forget(i);
	}
	return found;
}

/* Room is made before, too, so that two large models need not be there at the same time. */
static OmModel *
add_model(const OmModelRow *row, int64 version, uint64 change)
{
	OmModel *model;

	make_room(NULL);
	model = load_model(row, version);
	if (model == NULL)
		return NULL;
	if (nmodels == MAX_MODELS)
	{
		throw_away(model);
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many models are in use at the same time"),
						errhint("A session can use %d models at a time.", MAX_MODELS)));
	}
	model->known_at = change;
	model->is_deployed = version == row->deployed;
	models[nmodels++] = model;
	make_room(model);
	return model;
}

/* A version that is gone when it is to be read has perhaps been replaced by another meanwhile. */
static OmModel *
read_model(const char *name, int64 version)
{
	for (int tries = 1;; tries++)
	{
		uint64 change;
		OmModelRow *row;
		OmModel *model;
		int64 wanted;

		definitions = om_relation_get("model_definitions");
		change = nchanges;
		row = om_modelrow_require(name);
		wanted = version == OM_VERSION_DEPLOYED ? row->deployed : version;
		if (wanted == OM_NOT_DEPLOYED || (wanted == 0 && row->deployed != 0))
			raise_no_version(row, wanted);
		model = sort_out(row, wanted, change);
		if (model == NULL)
			model = add_model(row, wanted, change);
		if (model != NULL)
			return model;
		if (tries == MAX_TRIES || wanted != row->deployed)
			raise_no_version(row, wanted);
	}
}

static OmModel *
use(OmModel *model)
{
	model->users++;
	model->used_at = ++nuses;
	return model;
}

OmModel *
om_model_open_loaded(const char *name)
{
	OmModel *model;

	(void) om_relations_changes(); /* reads the messages that have arrived */
	model = find_known(name, OM_VERSION_DEPLOYED);
	return model == NULL ? NULL : use(model);
}

OmModel *
om_model_open(const char *name, int64 version)
{
	OmModel *model;

	check_stack_depth();
	(void) om_relations_changes();
	model = find_known(name, version);
	return use(model == NULL ? read_model(name, version) : model);
}

void
om_model_close(OmModel *model)
{
	if (model->users > 0)
		model->users--;
}
