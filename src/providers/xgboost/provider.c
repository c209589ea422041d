/*
 * provider.c
 *		Models of kind xgboost: gradient-boosted trees over the rows of any query.
 *
 * A model is stored as a mark, the objective, the names of the features, what
 * XGBoost saves (UBJSON), and a checksum of all this: XGBoost does not look at what
 * it reads, so it is given nothing but what it has written.
 */
#include "boost.h"

#include <limits.h>
#include <math.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

PG_MODULE_MAGIC;

PGDLLEXPORT const OmPredictProvider *order_mgmt_provider_init(int abi);

#define MARK 0x4f4d5832 /* OMX2 */

/* Features of inputs that are predicted together. */
#define MOST_VALUES (512 * 1024)

static void
validate_options(const OmModelInfo *info)
{
	(void) boost_options_read(info->options);
}

static pg_crc32c
checksum(const char *data, Size size)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, size);
	FIN_CRC32C(crc);
	return crc;
}

/* --- training ------------------------------------------------------------------------------------- */

static bytea *
make_bytes(const BoostOptions *options, const BoostRows *rows, BoostBooster *booster)
{
	StringInfoData out;
	const char *data;
	Size size;

	pq_begintypsend(&out);
	pq_sendint32(&out, MARK);
	pq_sendbyte(&out, options->is_binary);
	pq_sendint32(&out, rows->nfeatures);
	for (int i = 0; i < rows->nfeatures; i++)
	{
		pq_sendint16(&out, strlen(rows->features[i]));
		pq_sendbytes(&out, rows->features[i], strlen(rows->features[i]));
	}
	boost_booster_save(booster, &data, &size);
	pq_sendbytes(&out, data, size);
	pq_sendint32(&out, checksum(out.data + VARHDRSZ, out.len - VARHDRSZ));
	return pq_endtypsend(&out);
}

static void
append_figure(StringInfo text, const char *name, double value)
{
	if (isfinite(value))
		appendStringInfo(text, ", \"%s\": %.6g", name, value);
}

static Jsonb *
describe(const BoostOptions *options, const BoostRows *rows, const BoostMetrics *metrics)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text,
					 "{\"rows\": " INT64_FORMAT ", \"rows_validated\": " INT64_FORMAT
					 ", \"rows_skipped\": " INT64_FORMAT
					 ", \"rounds\": %d, \"measured_on\": \"%s\"",
					 rows->training.nrows, rows->validation.nrows, rows->skipped, metrics->rounds,
					 rows->validation.nrows > 0 ? "validation" : "training");
	append_figure(&text, "auc", metrics->auc);
	append_figure(&text, options->is_binary ? "log_loss" : "rmse", metrics->loss);
	appendStringInfoChar(&text, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
}

static void
train(const OmTrainRequest *request, OmTrainResult *result)
{
	BoostOptions *options = boost_options_read(request->model->options);
	BoostRows *rows = boost_rows_read(options);
	BoostMetrics metrics;
	BoostBooster *booster = boost_booster_train(options, rows, &metrics);

	result->model = make_bytes(options, rows, booster);
	result->metrics = describe(options, rows, &metrics);
}

/* --- predictions ---------------------------------------------------------------------------------- */

typedef struct State
{
	bool is_binary;
	int nfeatures;
	char **features;
	BoostBooster *booster;
} State;

static void
refuse_bytes(void)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION), errmsg("this is no model of XGBoost's"),
					errhint("Train the model again.")));
}

/* Without its checksum, which must be right. */
static StringInfoData
open_bytes(OmModelBytes bytes)
{
	StringInfoData in = {.data = unconstify(char *, bytes.data), .maxlen = -1};
	uint32 stored;

	if (bytes.size < 2 * sizeof(uint32) || bytes.size > INT_MAX)
		refuse_bytes();
	in.len = (int) (bytes.size - sizeof(uint32));
	memcpy(&stored, bytes.data + in.len, sizeof(uint32));
	if (pq_getmsgint(&in, sizeof(uint32)) != MARK ||
		pg_ntoh32(stored) != checksum(bytes.data, in.len))
		refuse_bytes();
	return in;
}

static void *
load(const OmModelInfo *info pg_attribute_unused(), OmModelBytes bytes, MemoryContext context)
{
	State *state = MemoryContextAllocZero(context, sizeof(State));
	StringInfoData in = open_bytes(bytes);

	state->is_binary = pq_getmsgbyte(&in) != 0;
	state->nfeatures = (int) pq_getmsgint(&in, sizeof(uint32));
	if (state->nfeatures < 1 || state->nfeatures > (int) bytes.size)
		refuse_bytes();
	state->features = palloc(sizeof(char *) * state->nfeatures);
	for (int i = 0; i < state->nfeatures; i++)
	{
		int length = (int) pq_getmsgint(&in, sizeof(uint16));

		state->features[i] = pnstrdup(pq_getmsgbytes(&in, length), length);
	}
	state->booster = boost_booster_load(in.data + in.cursor, in.len - in.cursor);
	return state;
}

/* Inputs mostly name features in the same order, so the search begins behind the last one. */
static int
find_feature(const State *state, const JsonbValue *key, int first)
{
	for (int i = 0; i < state->nfeatures; i++)
	{
		int n = (first + i) % state->nfeatures;

		if ((int) strlen(state->features[n]) == key->val.string.len &&
			memcmp(state->features[n], key->val.string.val, key->val.string.len) == 0)
			return n;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OM_INVALID),
			 errmsg("the model has no feature \"%s\"",
					pnstrdup(key->val.string.val, key->val.string.len)),
			 errhint("Features are the columns of the query that it was trained with, but for the "
					 "label.")));
	return 0;
}

static float
number_of(const State *state, int feature, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return NAN;
		case jbvBool:
			return value->val.boolean ? 1 : 0;
		case jbvNumeric:
			return (float) DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
															  NumericGetDatum(value->val.numeric)));
		default:
			ereport(ERROR, (errcode(ERRCODE_OM_INVALID),
							errmsg("feature \"%s\" is not a number", state->features[feature]),
							errhint("Features are numbers, true and false; null or nothing where "
									"one is not known.")));
	}
	return NAN;
}

/* A feature that an input does not name is missing. */
static void
read_input(const State *state, Jsonb *input, float *values)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;
	int feature = -1;

	if (!JB_ROOT_IS_OBJECT(input))
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("the input is not a JSON object"),
						errhint("Its members are features, like {\"total\": 12.5}.")));
	for (int i = 0; i < state->nfeatures; i++)
		values[i] = NAN;
	iterator = JsonbIteratorInit(&input->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			feature = find_feature(state, &value, feature + 1);
		else if (token == WJB_VALUE)
			values[feature] = number_of(state, feature, &value);
	}
}

static Jsonb *
make_output(bool is_binary, float result)
{
	JsonbParseState *parse = NULL;
	JsonbValue key = {.type = jbvString};
	JsonbValue value = {.type = jbvNumeric};

	key.val.string.val = is_binary ? "probability" : "value";
	key.val.string.len = strlen(key.val.string.val);
	value.val.numeric =
		DatumGetNumeric(DirectFunctionCall1(float4_numeric, Float4GetDatum(result)));
	pushJsonbValue(&parse, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&parse, WJB_KEY, &key);
	pushJsonbValue(&parse, WJB_VALUE, &value);
	return JsonbValueToJsonb(pushJsonbValue(&parse, WJB_END_OBJECT, NULL));
}

static void
predict_part(const OmPredictRequest *request, int first, int count, float *values)
{
	const State *state = request->state;
	float *results;

	for (int i = 0; i < count; i++)
		read_input(state, request->inputs[first + i], values + (Size) i * state->nfeatures);
	results = boost_booster_predict(state->booster, values, count, state->nfeatures);
	for (int i = 0; i < count; i++)
		request->outputs[first + i] = make_output(state->is_binary, results[i]);
	pfree(results);
}

/* A batch may be a million inputs with hundreds of features: it goes through in parts. */
static int
predict_batch(const OmPredictRequest *request)
{
	const State *state = request->state;
	int rows = Max(1, Min(request->count, MOST_VALUES / Max(1, state->nfeatures)));
	float *values = palloc(sizeof(float) * rows * state->nfeatures);

	for (int first = 0; first < request->count; first += rows)
	{
		CHECK_FOR_INTERRUPTS();
		predict_part(request, first, Min(rows, request->count - first), values);
	}
	pfree(values);
	return request->count;
}

/* --- the kind ------------------------------------------------------------------------------------- */

static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI,
										   .kind = "xgboost",
										   .validate_options = validate_options,
										   .train = train,
										   .load = load,
										   .predict_batch = predict_batch};

const OmPredictProvider *
order_mgmt_provider_init(int abi)
{
	if (abi != OM_PROVIDER_ABI)
		return NULL;
	boost_booster_init();
	return &provider;
}
