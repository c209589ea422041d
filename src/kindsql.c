/*
 * kindsql.c
 *		Models that are functions in the database.
 *
 * Option "function" names the function that predicts, with its schema.  It gets one
 * input and returns one output (jsonb), or it gets a batch (jsonb[]) and returns as
 * many outputs, as an array or as rows.  Option "train_function" names one that is
 * called by train_model() with {"model", "version", "options", "previous"} and
 * returns a jsonb; the predicting one then gets that as its second argument.
 *
 * Functions run with the rights of whoever asks for the prediction or training, who
 * must be allowed to execute them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "errors.h"
#include "jsonout.h"
#include "kindsql.h"
#include "options.h"
#include "order_mgmt.h"
#include "providers.h"

#define NAME_HINT "Write it with its schema, like shop.score."

/* --- functions by name ---------------------------------------------------------------------------- */

static List *
parse_name(Jsonb *options, const char *key)
{
	char *text = om_option_string(options, key, NAME_HINT);
	List *parts;

	if (text == NULL)
		om_option_raise(key, "is missing", NAME_HINT);
	if (!SplitIdentifierString(text, '.', &parts) || list_length(parts) != 2)
		om_option_raise(key, "is not the name of a function in a schema", NAME_HINT);
	return list_make2(makeString(linitial(parts)), makeString(lsecond(parts)));
}

static char *
quote_name(List *name)
{
	return quote_qualified_identifier(strVal(linitial(name)), strVal(lsecond(name)));
}

static bool
is_given(Jsonb *options, const char *key)
{
	JsonbValue value;

	return om_option_get(options, key, &value);
}

static Oid
look_up(List *name, Oid first, bool with_model)
{
	Oid types[2] = {first, JSONBOID};

	return LookupFuncName(name, with_model ? 2 : 1, types, true /* missing_ok */);
}

typedef struct ResultType
{
	Oid type;
	bool is_set;
} ResultType;

static ResultType
result_of(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	ResultType result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	result = (ResultType){form->prorettype, form->proretset};
	if (form->prokind != PROKIND_FUNCTION)
		result.type = InvalidOid;
	ReleaseSysCache(tuple);
	return result;
}

static void
require_execute(Oid function, List *name)
{
	if (!om_may_execute(function))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function %s", quote_name(name)),
						errhint("Predictions are made with the rights of whoever asks.")));
}

static void
raise_missing(List *name, const char *signature)
{
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND),
					errmsg("there is no function %s%s", quote_name(name), signature),
					om_errdetail("function", quote_name(name)), errhint("Create it first.")));
}

/* --- prediction ----------------------------------------------------------------------------------- */

typedef struct Predictor
{
	List *name;
	Oid function; /* of one input or of a batch */
	const char *sql;
} Predictor;

/* The statements give as many rows as there are inputs, in their order; $2 is what was learnt. */
static const char *
compose(List *name, bool of_batch, bool returns_set, bool with_model)
{
	const char *model = with_model ? ", $2" : "";

	if (!of_batch)
		return psprintf(
			"SELECT %s(i.input%s) FROM pg_catalog.unnest($1) WITH ORDINALITY AS i (input, n)"
			" ORDER BY i.n",
			quote_name(name), model);
	return psprintf(returns_set ? "SELECT o.output FROM %s($1%s) WITH ORDINALITY AS o (output, n)"
								  " ORDER BY o.n"
								: "SELECT o.output FROM pg_catalog.unnest(%s($1%s))"
								  " WITH ORDINALITY AS o (output, n) ORDER BY o.n",
					quote_name(name), model);
}

static Predictor
find_predictor(Jsonb *options)
{
	Predictor predictor = {.name = parse_name(options, "function")};
	bool with_model = is_given(options, "train_function");
	bool of_batch = false;
	ResultType result;
	bool fits;

	predictor.function = look_up(predictor.name, JSONBOID, with_model);
	if (!OidIsValid(predictor.function))
	{
		predictor.function = look_up(predictor.name, JSONBARRAYOID, with_model);
		of_batch = true;
	}
	if (!OidIsValid(predictor.function))
		raise_missing(predictor.name, with_model ? "(jsonb, jsonb)" : "(jsonb)");
	result = result_of(predictor.function);
	if (of_batch)
		fits = result.type == (result.is_set ? JSONBOID : JSONBARRAYOID);
	else
		fits = result.type == JSONBOID && !result.is_set;
	if (!fits)
		om_option_raise("function", "returns something else than outputs",
						"From jsonb to jsonb, or from jsonb[] to jsonb[] or SETOF jsonb.");
	predictor.sql = compose(predictor.name, of_batch, result.is_set, with_model);
	return predictor;
}

/* The bytes of a model are JSON as text, in UTF-8: whatever they are, reading them is safe. */
static Jsonb *
learnt(OmModelBytes bytes)
{
	char *text;

	if (bytes.data == NULL)
		return NULL;
	text = pnstrdup(bytes.data, bytes.size);
	text = pg_any_to_server(text, (int) bytes.size, PG_UTF8);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static bytea *
to_bytes(Jsonb *model)
{
	StringInfoData text;
	char *utf8;

	initStringInfo(&text);
	(void) JsonbToCString(&text, &model->root, (int) VARSIZE(model));
	utf8 = pg_server_to_any(text.data, text.len, PG_UTF8);
	return (bytea *) cstring_to_text(utf8);
}

typedef struct State
{
	SPIPlanPtr plan;
	char *sql;    /* that it was made of */
	Jsonb *model; /* what was learnt, or NULL */
} State;

static void *
load(const OmModelInfo *info, OmModelBytes bytes, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	State *state = palloc0(sizeof(State));

	(void) info;
	state->model = learnt(bytes);
	MemoryContextSwitchTo(caller);
	return state;
}

static void
unload(void *arg)
{
	State *state = arg;

	if (state->plan != NULL)
		SPI_freeplan(state->plan);
}

/*
 * Functions may be replaced while a session has the model loaded.  Plans see that;
 * one that takes or returns something else is called by another statement.
 */
static void
prepare(State *state, const Predictor *predictor)
{
	Oid types[2] = {JSONBARRAYOID, JSONBOID};
	SPIPlanPtr plan;

	if (state->plan != NULL && strcmp(state->sql, predictor->sql) == 0)
		return;
	if (state->plan != NULL)
		SPI_freeplan(state->plan);
	state->plan = NULL;
	state->sql = MemoryContextStrdup(GetMemoryChunkContext(state), predictor->sql);
	plan = SPI_prepare(predictor->sql, 2, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare a call of %s", quote_name(predictor->name));
	SPI_keepplan(plan);
	state->plan = plan;
}

static Datum
make_array(Jsonb *const *inputs, int count)
{
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		elements[i] = JsonbPGetDatum(inputs[i]);
	return PointerGetDatum(construct_array(elements, count, JSONBOID, -1, false, TYPALIGN_INT));
}

/* A SQL null is a JSON null. */
static Jsonb *
copy_output(uint64 row, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	JsonbValue null = {.type = jbvNull};
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &isnull);
	Jsonb *output = isnull ? JsonbValueToJsonb(&null) : DatumGetJsonbPCopy(value);

	MemoryContextSwitchTo(caller);
	return output;
}

static int
predict_batch(const OmPredictRequest *request)
{
	State *state = request->state;
	Predictor predictor = find_predictor(request->model->options);
	Datum args[2] = {make_array(request->inputs, request->count), PointerGetDatum(state->model)};
	char nulls[2] = {' ', state->model == NULL ? 'n' : ' '};
	MemoryContext caller = CurrentMemoryContext;
	int answered;

	/* A plan into which the function was inlined would not ask. */
	require_execute(predictor.function, predictor.name);
	SPI_connect();
	prepare(state, &predictor);
	if (SPI_execute_plan(state->plan, args, nulls, false /* read_only */, 0) < 0)
		elog(ERROR, "could not call %s", quote_name(predictor.name));
	answered = (int) SPI_processed;
	for (int i = 0; i < Min(answered, request->count); i++)
		request->outputs[i] = copy_output(i, caller);
	SPI_finish();
	return answered;
}

/* --- training ------------------------------------------------------------------------------------- */

static Oid
find_trainer(Jsonb *options, List **name)
{
	Oid function;
	ResultType result;

	*name = parse_name(options, "train_function");
	function = look_up(*name, JSONBOID, false /* with_model */);
	if (!OidIsValid(function))
		raise_missing(*name, "(jsonb)");
	result = result_of(function);
	if (result.type != JSONBOID || result.is_set)
		om_option_raise("train_function", "does not return one jsonb",
						"Name a function from jsonb to jsonb.");
	return function;
}

static Jsonb *
describe(const OmTrainRequest *request)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "model");
	om_json_string(&json, request->model->name);
	om_json_key(&json, "version");
	om_json_int(&json, request->model->version);
	om_json_key(&json, "options");
	om_json_jsonb(&json, request->model->options);
	om_json_key(&json, "previous");
	om_json_jsonb(&json, learnt(request->previous));
	om_json_close_object(&json);
	return om_json_result(&json);
}

static Jsonb *
call_trainer(List *name, Jsonb *description)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid type = JSONBOID;
	Datum arg = JsonbPGetDatum(description);
	char *sql = psprintf("SELECT %s($1)", quote_name(name));
	Jsonb *model;

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, &type, &arg, NULL, false /* read_only */, 0) < 0 ||
		SPI_processed != 1)
		elog(ERROR, "could not call %s", quote_name(name));
	model = copy_output(0, caller);
	SPI_finish();
	return model;
}

/* What it returns under "metrics" is shown with the version. */
static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	List *name;
	Oid function;
	Jsonb *model;
	JsonbValue metrics;

	if (!is_given(request->model->options, "train_function"))
		om_option_raise("train_function", "is missing, so there is nothing to train",
						"The model predicts without.");
	function = find_trainer(request->model->options, &name);
	require_execute(function, name);
	model = call_trainer(name, describe(request));
	if (JB_ROOT_IS_OBJECT(model) && om_option_get(model, "metrics", &metrics) &&
		metrics.type == jbvBinary && JsonContainerIsObject(metrics.val.binary.data))
		result->metrics = JsonbValueToJsonb(&metrics);
	result->model = to_bytes(model);
}

/* --- the kind ------------------------------------------------------------------------------------- */

static const char *const keys[] = {"function", "train_function"};

static void
validate_options(const OmModelInfo *info)
{
	List *name;

	om_options_check_keys(info->options, keys, lengthof(keys), "See docs/predictions.md.");
	(void) find_predictor(info->options);
	if (is_given(info->options, "train_function"))
		(void) find_trainer(info->options, &name);
}

static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI,
										   .kind = "sql",
										   .flags = OM_PROVIDER_UNTRAINED,
										   .validate_options = validate_options,
										   .train = train,
										   .load = load,
										   .predict_batch = predict_batch,
										   .free = unload};

void
om_kindsql_init(void)
{
	om_provider_register(&provider);
}
