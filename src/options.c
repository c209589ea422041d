/*
 * options.c
 *		Reads options given as a JSON object.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/numeric.h"

#include "errors.h"
#include "jsonout.h"
#include "money.h"
#include "names.h"
#include "options.h"

void
om_option_raise(const char *key, const char *problem, const char *hint)
{
	char *path = psprintf("options.%s", key);

	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("%s %s", path, problem),
					om_errdetail("path", path), errhint("%s", hint)));
}

/* ---------- values ---------- */

/* As many digits as amounts of money have before the point. */
#define MAX_WHOLE INT64CONST(99999999999999)

double
om_option_to_double(const JsonbValue *number)
{
	return DatumGetFloat8(
		DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(number->val.numeric)));
}

bool
om_option_is_whole(const JsonbValue *value, int64 *number)
{
	int64 minor;

	if (value->type != jbvNumeric ||
		om_money_from_numeric(value->val.numeric, &minor) != OM_MONEY_OK || minor % 10000 != 0)
		return false;
	*number = minor / 10000;
	return true;
}

JsonbValue *
om_option_find(Jsonb *options, const char *key, JsonbValue *place)
{
	if (options == NULL)
		return NULL;
	return getKeyJsonValueFromContainer(&options->root, key, strlen(key), place);
}

bool
om_option_get(Jsonb *options, const char *key, JsonbValue *value)
{
	return om_option_find(options, key, value) != NULL && value->type != jbvNull;
}

char *
om_option_string(Jsonb *options, const char *key, const char *hint)
{
	JsonbValue value;

	if (!om_option_get(options, key, &value))
		return NULL;
	if (value.type != jbvString)
		om_option_raise(key, "is not a string", hint);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

double
om_option_number(Jsonb *options, const char *key, double least, double most, double otherwise)
{
	JsonbValue value;
	double number;

	if (!om_option_get(options, key, &value))
		return otherwise;
	number = value.type == jbvNumeric ? om_option_to_double(&value) : NAN;
	if (number >= least && number <= most)
		return number;
	om_option_raise(key, "is not a number in its range", psprintf("From %g to %g.", least, most));
}

int64
om_option_count(Jsonb *options, const char *key, int64 least, int64 most, int64 otherwise)
{
	JsonbValue value;
	int64 number;

	if (!om_option_get(options, key, &value))
		return otherwise;
	if (om_option_is_whole(&value, &number) && number >= least && number <= most)
		return number;
	om_option_raise(
		key, "is not a whole number in its range",
		psprintf("From " INT64_FORMAT " to " INT64_FORMAT ".", least, Min(most, MAX_WHOLE)));
}

bool
om_option_bool(Jsonb *options, const char *key, bool otherwise)
{
	JsonbValue value;

	if (!om_option_get(options, key, &value))
		return otherwise;
	if (value.type != jbvBool)
		om_option_raise(key, "is neither true nor false", "Write true or false.");
	return value.val.boolean;
}

char *
om_options_list(const char *const *words, int nwords)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < nwords; i++)
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : ", ", words[i]);
	return list.data;
}

int
om_option_word(Jsonb *options, const char *key, const char *const *words, int nwords, int otherwise)
{
	JsonbValue value;
	int word;

	if (!om_option_get(options, key, &value))
		return otherwise;
	word = value.type != jbvString
			 ? -1
			 : om_names_find(words, nwords, value.val.string.val, value.val.string.len);
	if (word < 0)
		om_option_raise(key, "is another word",
						psprintf("Write one of %s.", om_options_list(words, nwords)));
	return word;
}

/* ---------- keys ---------- */

char *
om_options_find_unknown(Jsonb *options, const char *const *known, int nknown)
{
	JsonbIterator *iterator = options == NULL ? NULL : JsonbIteratorInit(&options->root);
	JsonbValue key;
	JsonbIteratorToken token;

	while (iterator != NULL &&
		   (token = JsonbIteratorNext(&iterator, &key, true /* skipNested */)) != WJB_DONE)
		if (token == WJB_KEY &&
			om_names_find(known, nknown, key.val.string.val, key.val.string.len) < 0)
			return pnstrdup(key.val.string.val, key.val.string.len);
	return NULL;
}

void
om_options_check_keys(Jsonb *options, const char *const *known, int nknown, const char *hint)
{
	char *key = om_options_find_unknown(options, known, nknown);

	if (key != NULL)
		om_option_raise(key, "is not a known option",
						hint != NULL ? hint
									 : psprintf("Options are %s.", om_options_list(known, nknown)));
}
