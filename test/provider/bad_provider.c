/*
 * bad_provider.c
 *		Providers that do all that a provider should not.
 *
 * Built several times: with BAD_SYMBOL, BAD_ABI, BAD_NULL, BAD_KIND, BAD_CALLBACKS,
 * BAD_TRAINING or BAD_FLAGS the library is wrong as such; without, it is kind "faulty",
 * and option "fault" of the model says what it does wrong.  With BAD_OUTSIDE it does the
 * same as one that waits for somebody outside.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "extension/order_mgmt/order_mgmt.h"

PG_MODULE_MAGIC;

static int loaded = 0;

PGDLLEXPORT Datum faulty_loaded(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(faulty_loaded);

/* How many states there are that have not been freed. */
Datum
faulty_loaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(loaded);
}

static bool
does(const OmModelInfo *model, const char *fault)
{
	JsonbValue value;

	return getKeyJsonValueFromContainer(&model->options->root, "fault", 5, &value) != NULL &&
		   value.type == jbvString && (size_t) value.val.string.len == strlen(fault) &&
		   memcmp(value.val.string.val, fault, strlen(fault)) == 0;
}

static void
validate_options(const OmModelInfo *model)
{
	if (does(model, "validate"))
		elog(ERROR, "cannot validate");
}

static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	const OmModelInfo *model = request->model;

	if (does(model, "train"))
		ereport(ERROR, (errcode(ERRCODE_DIVISION_BY_ZERO), errmsg("cannot train"), errhint("Do not try.")));
	if (does(model, "train nothing"))
		return;
	if (does(model, "train scalar"))
		result->metrics = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("3")));
	if (does(model, "train role"))
		SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	result->model = cstring_to_text("x");
}

static void *
load(const OmModelInfo *model, OmModelBytes bytes, MemoryContext context)
{
	if (does(model, "load"))
		elog(ERROR, "cannot load");
	while (does(model, "load hang"))
		CHECK_FOR_INTERRUPTS();
	loaded++;
	return MemoryContextAlloc(context, 1);
}

static void
unload(void *state)
{
	loaded--;
}

/* What comes before the answers, or instead of them. */
static void
misbehave(const OmPredictRequest *request)
{
	const OmModelInfo *model = request->model;

	if (does(model, "throw"))
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("cannot predict"), errdetail("Not me.")));
	if (does(model, "elog"))
		elog(ERROR, "cannot predict");
	if (does(model, "write and throw") || does(model, "spi"))
	{
		SPI_connect();
		SPI_execute("INSERT INTO public.written VALUES (1)", false, 0);
		if (does(model, "write and throw"))
			elog(ERROR, "cannot predict");
	}
	if (does(model, "settings"))
		SetConfigOption("search_path", "nowhere", PGC_USERSET, PGC_S_SESSION);
	if (does(model, "role"))
		SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	if (does(model, "context"))
		MemoryContextSwitchTo(TopMemoryContext);
	if (does(model, "conflict"))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("again")));
	while (does(model, "hang"))
		CHECK_FOR_INTERRUPTS();
}

static int
predict_batch(const OmPredictRequest *request)
{
	const OmModelInfo *model = request->model;
	Jsonb *answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("1")));
	int count = request->count;

	misbehave(request);
	if (does(model, "few"))
		count--;
	if (does(model, "many"))
		count++;
	if (does(model, "none"))
		return 0;
	for (int i = 0; i < Min(count, request->count); i++)
		request->outputs[i] = answer;
	if (does(model, "null"))
		request->outputs[0] = NULL;
	if (does(model, "behind"))
		request->outputs[request->count] = answer;
	return count;
}

static void
evaluate(const OmEvaluateRequest *request)
{
	request->report(request, "one", 1);
	if (does(request->model, "evaluate"))
		elog(ERROR, "cannot evaluate");
	while (does(request->model, "evaluate hang"))
		CHECK_FOR_INTERRUPTS();
}

static const OmPredictProvider provider = {
#ifdef BAD_ABI
	.abi = OM_PROVIDER_ABI + 1,
	.kind = (const char *) 1, /* nobody looks at it */
#else
	.abi = OM_PROVIDER_ABI,
#ifdef BAD_KIND
	.kind = "another",
#else
	.kind = BAD_NAME,
#endif
#endif
#ifdef BAD_FLAGS
	.flags = 0x8000,
#endif
#ifdef BAD_OUTSIDE
	.flags = OM_PROVIDER_WAITS_OUTSIDE,
#endif
	.validate_options = validate_options,
#ifndef BAD_TRAINING
	.train = train,
#endif
	.load = load,
#ifndef BAD_CALLBACKS
	.predict_batch = predict_batch,
#endif
	.free = unload,
	.evaluate = evaluate};

#ifndef BAD_SYMBOL
PGDLLEXPORT const OmPredictProvider *order_mgmt_provider_init(int abi);

const OmPredictProvider *
order_mgmt_provider_init(int abi)
{
#if defined(BAD_NULL)
	return NULL;
#elif defined(BAD_INIT)
	elog(ERROR, "cannot begin");
#else
	return &provider;
#endif
}
#endif
