/*
 * basketoptions.c
 *		The options of a model of next baskets.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "basketoptions.h"
#include "dialect.h"
#include "jsonout.h"

#define DEFAULT_MAX_HISTORY 100
#define DEFAULT_UPDATE_DAYS 7

static const char *const keys[] = {"algorithm",   "since",   "until",        "min_orders",
								   "max_history", "tune",    "without",      "update_days",
								   "neighbours",  "groups",  "within_decay", "group_decay",
								   "alpha",       "recency", "asymmetry",    "locality"};

static const char *const evaluation_keys[] = {"k", "folds", "each_fold"};

static bool
is_among(const JsonbValue *key, const char *const *known, int count)
{
	for (int i = 0; i < count; i++)
		if (strlen(known[i]) == (size_t) key->val.string.len &&
			memcmp(known[i], key->val.string.val, key->val.string.len) == 0)
			return true;
	return false;
}

static void
check_keys(Jsonb *options, const char *const *known, int count)
{
	JsonbIterator *iterator = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
		if (token == WJB_KEY && !is_among(&value, known, count))
			om_dialect_raise(pnstrdup(value.val.string.val, value.val.string.len),
							 "is not a known option", "See docs/next-basket.md.");
}

static bool
get_value(Jsonb *options, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&options->root, key, strlen(key), value) != NULL &&
		   value->type != jbvNull;
}

static double
to_double(const JsonbValue *value)
{
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
}

static double
get_number(Jsonb *options, const char *key, double least, double most, double otherwise)
{
	JsonbValue value;

	if (!get_value(options, key, &value))
		return otherwise;
	if (value.type == jbvNumeric && to_double(&value) >= least && to_double(&value) <= most)
		return to_double(&value);
	om_dialect_raise(key, "is not a number in its range", psprintf("From %g to %g.", least, most));
}

int
om_basketoptions_get_count(Jsonb *object, const char *key, int least, int most, int otherwise)
{
	double number = get_number(object, key, least, most, otherwise);

	if (number != floor(number))
		om_dialect_raise(key, "is not a whole number", psprintf("From %d to %d.", least, most));
	return (int) number;
}

static bool
get_bool(Jsonb *options, const char *key, bool otherwise)
{
	JsonbValue value;

	if (!get_value(options, key, &value))
		return otherwise;
	if (value.type != jbvBool)
		om_dialect_raise(key, "is neither true nor false", "Write true or false.");
	return value.val.boolean;
}

/* Where the text is no time, PostgreSQL's own message says why. */
static TimestampTz
get_time(Jsonb *options, const char *key, TimestampTz otherwise)
{
	JsonbValue value;
	char *text;

	if (!get_value(options, key, &value))
		return otherwise;
	text = om_json_get_string(options, key);
	if (text == NULL)
		om_dialect_raise(key, "is not a time", "Write it like \"2026-01-31T00:00:00Z\".");
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static OmBasketAlgorithm
get_algorithm(Jsonb *options)
{
	JsonbValue value;
	char *name;

	if (!get_value(options, "algorithm", &value))
		return OM_BASKET_BLEND;
	name = om_json_get_string(options, "algorithm");
	for (int i = 0; name != NULL && i < OM_BASKET_ALGORITHM_COUNT; i++)
		if (strcmp(name, om_basket_algorithm_names[i]) == 0)
			return i;
	om_dialect_raise("algorithm", "is not the name of an algorithm",
					 "blend, tifu_knn, tifu_knn_code, up_cf, gp_topfreq, personal_popularity_ties, "
					 "personal_frequency or global_frequency.");
}

static void raise_without(void) __attribute__((noreturn));

static void
raise_without(void)
{
	om_dialect_raise("without", "is not a list of groups of features",
					 "Of often, faded, age, regular, vector, near, rebuy, popular and length.");
}

static uint32
find_group(const JsonbValue *name)
{
	for (int i = 0; name->type == jbvString && i < OM_BASKET_FEATURE_GROUPS; i++)
		if ((int) strlen(om_basket_feature_group_names[i]) == name->val.string.len &&
			memcmp(om_basket_feature_group_names[i], name->val.string.val, name->val.string.len) ==
				0)
			return 1u << i;
	raise_without();
}

/* Groups of features, as bits. */
static uint32
get_without(Jsonb *options)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;
	uint32 groups = 0;

	if (!get_value(options, "without", &value))
		return 0;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
		raise_without();
	iterator = JsonbIteratorInit(value.val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
		if (token == WJB_ELEM)
			groups |= find_group(&value);
	return groups;
}

static OmBasketParameters
parse_parameters(Jsonb *options)
{
	OmBasketParameters first = om_basketmodel_defaults;

	om_basketfeatures_fill_first(first.weights);
	first.algorithm = get_algorithm(options);
	first.neighbours = om_basketoptions_get_count(options, "neighbours", 1,
												  OM_BASKET_MAX_NEIGHBOURS, first.neighbours);
	first.groups =
		om_basketoptions_get_count(options, "groups", 1, OM_BASKET_MAX_GROUPS, first.groups);
	first.within_decay =
		get_number(options, "within_decay", OM_BASKET_LEAST_DECAY, 1, first.within_decay);
	first.group_decay =
		get_number(options, "group_decay", OM_BASKET_LEAST_DECAY, 1, first.group_decay);
	first.alpha = get_number(options, "alpha", 0, 1, first.alpha);
	first.recency =
		om_basketoptions_get_count(options, "recency", 1, OM_BASKET_MAX_HISTORY, first.recency);
	first.asymmetry = get_number(options, "asymmetry", 0, 1, first.asymmetry);
	first.locality = get_number(options, "locality", 0, OM_BASKET_MAX_LOCALITY, first.locality);
	return first;
}

OmBasketOptions
om_basketoptions_parse(Jsonb *options)
{
	OmBasketOptions parsed = {0};

	check_keys(options, keys, lengthof(keys));
	parsed.task.first = parse_parameters(options);
	parsed.task.is_fixed = !get_bool(options, "tune", true);
	parsed.task.left_out = get_without(options);
	parsed.update_days = om_basketoptions_get_count(options, "update_days", 0,
													OM_BASKET_MAX_UPDATE_DAYS, DEFAULT_UPDATE_DAYS);
	parsed.period.since = get_time(options, "since", DT_NOBEGIN);
	parsed.period.until = get_time(options, "until", DT_NOEND);
	parsed.period.least =
		om_basketoptions_get_count(options, "min_orders", 1, OM_BASKET_MAX_HISTORY, 1);
	parsed.period.most = om_basketoptions_get_count(options, "max_history", 1,
													OM_BASKET_MAX_HISTORY, DEFAULT_MAX_HISTORY);
	return parsed;
}

/* ---------- of evaluate_model() ---------- */

static void raise_ks(void) __attribute__((noreturn));

static void
raise_ks(void)
{
	om_dialect_raise("k", "is not a list of numbers of products",
					 psprintf("At most %d whole numbers from 1 to %d, in ascending order.",
							  (int) lengthof(((OmBasketEvaluation *) NULL)->ks), OM_BASKET_MAX_K));
}

static void
parse_ks(JsonbContainer *array, OmBasketEvaluation *parsed)
{
	JsonbIterator *iterator = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
	{
		double k;

		if (token != WJB_ELEM)
			continue;
		k = value.type == jbvNumeric ? to_double(&value) : 0;
		if (k < 1 || k > OM_BASKET_MAX_K || k != floor(k) ||
			parsed->nks == (int) lengthof(parsed->ks) ||
			(parsed->nks > 0 && k <= parsed->ks[parsed->nks - 1]))
			raise_ks();
		parsed->ks[parsed->nks++] = (int) k;
	}
}

OmBasketEvaluation
om_basketoptions_parse_evaluation(Jsonb *options)
{
	OmBasketEvaluation parsed = {0};
	JsonbValue value;

	check_keys(options, evaluation_keys, lengthof(evaluation_keys));
	parsed.each_fold = get_bool(options, "each_fold", false);
	parsed.nfolds = om_basketoptions_get_count(options, "folds", 1, OM_BASKET_MAX_FOLDS, 5);
	if (!get_value(options, "k", &value))
	{
		parsed.ks[parsed.nks++] = 10;
		parsed.ks[parsed.nks++] = 20;
	}
	else if (value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data))
		parse_ks(value.val.binary.data, &parsed);
	if (parsed.nks == 0)
		raise_ks();
	return parsed;
}
