/*
 * options.c
 *		Options of models of kind xgboost.
 */
#include "boost.h"

#include <limits.h>
#include <math.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

static void raise_about(const char *key, const char *problem, const char *hint)
	pg_attribute_noreturn();

static void
raise_about(const char *key, const char *problem, const char *hint)
{
	StringInfoData path;

	initStringInfo(&path);
	escape_json(&path, psprintf("options.%s", key));
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("option \"%s\" %s", key, problem),
					errdetail_internal("{\"path\": %s}", path.data), errhint("%s", hint)));
}

static bool
get_value(Jsonb *options, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&options->root, key, strlen(key), value) != NULL &&
		   value->type != jbvNull;
}

static char *
get_string(Jsonb *options, const char *key, const char *hint)
{
	JsonbValue value;

	if (!get_value(options, key, &value))
		return NULL;
	if (value.type != jbvString || value.val.string.len == 0)
		raise_about(key, "is not a string", hint);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static char *
require_string(Jsonb *options, const char *key, const char *hint)
{
	char *string = get_string(options, key, hint);

	if (string == NULL)
		raise_about(key, "is missing", hint);
	return string;
}

/* A number above "above" (or equal, where that is allowed) and up to "most". */
static double
get_number(Jsonb *options, const char *key, double least, double most, double otherwise)
{
	JsonbValue value;
	double number;
	char *hint = psprintf("Write a number from %g to %g.", least, most);

	if (!get_value(options, key, &value))
		return otherwise;
	if (value.type != jbvNumeric)
		raise_about(key, "is not a number", hint);
	number = DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric)));
	if (!(number >= least && number <= most))
		raise_about(key, "is out of range", hint);
	return number;
}

static int
get_count(Jsonb *options, const char *key, int least, int most, int otherwise)
{
	double number = get_number(options, key, least, most, otherwise);

	if (number != floor(number))
		raise_about(key, "is not a whole number",
					psprintf("Write a whole number from %d to %d.", least, most));
	return (int) number;
}

static bool
get_is_binary(Jsonb *options)
{
	const char *hint = "Write binary:logistic or reg:squarederror.";
	char *word = get_string(options, "objective", hint);

	if (word == NULL || strcmp(word, "binary:logistic") == 0)
		return true;
	if (strcmp(word, "reg:squarederror") != 0)
		raise_about("objective", "is another word", hint);
	return false;
}

static const char *const keys[] = {"query",
								   "label",
								   "objective",
								   "rounds",
								   "max_depth",
								   "eta",
								   "subsample",
								   "colsample_bytree",
								   "min_child_weight",
								   "lambda",
								   "seed",
								   "validation_fraction",
								   "nthread",
								   "early_stopping_rounds"};

static bool
is_known(const JsonbValue *key)
{
	for (int i = 0; i < (int) lengthof(keys); i++)
	{
		if ((int) strlen(keys[i]) == key->val.string.len &&
			memcmp(keys[i], key->val.string.val, key->val.string.len) == 0)
			return true;
	}
	return false;
}

static void
check_keys(Jsonb *options)
{
	JsonbIterator *iterator = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
	{
		if (token == WJB_KEY && !is_known(&value))
			raise_about(pnstrdup(value.val.string.val, value.val.string.len),
						"is not a known option", "See docs/xgboost.md.");
	}
}

#define LEAST 1e-6 /* of what must be more than nothing */

BoostOptions *
boost_options_read(Jsonb *options)
{
	BoostOptions *read = palloc0(sizeof(BoostOptions));

	check_keys(options);
	read->query = require_string(options, "query", "Write a SELECT of features and a label.");
	read->label = require_string(options, "label", "Write the name of a column of the query.");
	read->is_binary = get_is_binary(options);
	read->rounds = get_count(options, "rounds", 1, 10000, 100);
	read->early_stopping_rounds = get_count(options, "early_stopping_rounds", 0, 10000, 20);
	read->max_depth = get_count(options, "max_depth", 1, 16, 6);
	read->eta = get_number(options, "eta", LEAST, 1, 0.1);
	read->subsample = get_number(options, "subsample", LEAST, 1, 1);
	read->colsample_bytree = get_number(options, "colsample_bytree", LEAST, 1, 1);
	read->min_child_weight = get_number(options, "min_child_weight", 0, 1e6, 1);
	read->lambda = get_number(options, "lambda", 0, 1e6, 1);
	read->validation_fraction = get_number(options, "validation_fraction", 0, 0.5, 0.2);
	read->seed = get_count(options, "seed", 0, INT_MAX, 0);
	(void) get_count(options, "nthread", 1, 1, 1); /* a backend must not have threads */
	return read;
}
