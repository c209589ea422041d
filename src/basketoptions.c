/*
 * basketoptions.c
 *		The options of a model of next baskets.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "basketoptions.h"
#include "names.h"
#include "options.h"

#define DEFAULT_MAX_HISTORY 100
#define DEFAULT_UPDATE_DAYS 7

static const char *const keys[] = {"algorithm",   "since",   "until",        "min_orders",
								   "max_history", "tune",    "without",      "update_days",
								   "neighbours",  "groups",  "within_decay", "group_decay",
								   "alpha",       "recency", "asymmetry",    "locality"};

static const char *const evaluation_keys[] = {"k", "folds", "each_fold"};

/* Where the text is no time, PostgreSQL's own message says why. */
static TimestampTz
get_time(Jsonb *options, const char *key, TimestampTz otherwise)
{
	char *text = om_option_string(options, key, "Write it like \"2026-01-31T00:00:00Z\".");

	if (text == NULL)
		return otherwise;
	return DatumGetTimestampTz(DirectFunctionCall3(
		timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static void raise_without(void) __attribute__((noreturn));

static void
raise_without(void)
{
	om_option_raise("without", "is not a list of groups of features",
					"Of often, faded, age, regular, vector, near, rebuy, popular and length.");
}

static uint32
find_group(const JsonbValue *name)
{
	int group = name->type != jbvString
				  ? -1
				  : om_names_find(om_basket_feature_group_names, OM_BASKET_FEATURE_GROUPS,
								  name->val.string.val, name->val.string.len);

	if (group >= 0)
		return 1u << group;
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

	if (!om_option_get(options, "without", &value))
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
	first.algorithm = om_option_word(options, "algorithm", om_basket_algorithm_names,
									 OM_BASKET_ALGORITHM_COUNT, first.algorithm);
	first.neighbours =
		om_option_count(options, "neighbours", 1, OM_BASKET_MAX_NEIGHBOURS, first.neighbours);
	first.groups = om_option_count(options, "groups", 1, OM_BASKET_MAX_GROUPS, first.groups);
	first.within_decay =
		om_option_number(options, "within_decay", OM_BASKET_LEAST_DECAY, 1, first.within_decay);
	first.group_decay =
		om_option_number(options, "group_decay", OM_BASKET_LEAST_DECAY, 1, first.group_decay);
	first.alpha = om_option_number(options, "alpha", 0, 1, first.alpha);
	first.recency = om_option_count(options, "recency", 1, OM_BASKET_MAX_HISTORY, first.recency);
	first.asymmetry = om_option_number(options, "asymmetry", 0, 1, first.asymmetry);
	first.locality =
		om_option_number(options, "locality", 0, OM_BASKET_MAX_LOCALITY, first.locality);
	return first;
}

OmBasketOptions
om_basketoptions_parse(Jsonb *options)
{
	OmBasketOptions parsed = {0};

	om_options_check_keys(options, keys, lengthof(keys), "See docs/next-basket.md.");
	parsed.task.first = parse_parameters(options);
	parsed.task.is_fixed = !om_option_bool(options, "tune", true);
	parsed.task.left_out = get_without(options);
	parsed.update_days =
		om_option_count(options, "update_days", 0, OM_BASKET_MAX_UPDATE_DAYS, DEFAULT_UPDATE_DAYS);
	parsed.period.since = get_time(options, "since", DT_NOBEGIN);
	parsed.period.until = get_time(options, "until", DT_NOEND);
	parsed.period.least = om_option_count(options, "min_orders", 1, OM_BASKET_MAX_HISTORY, 1);
	parsed.period.most =
		om_option_count(options, "max_history", 1, OM_BASKET_MAX_HISTORY, DEFAULT_MAX_HISTORY);
	return parsed;
}

/* ---------- of evaluate_model() ---------- */

static void raise_ks(void) __attribute__((noreturn));

static void
raise_ks(void)
{
	om_option_raise("k", "is not a list of numbers of products",
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
		int64 k;

		if (token != WJB_ELEM)
			continue;
		if (!om_option_is_whole(&value, &k) || k < 1 || k > OM_BASKET_MAX_K ||
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

	om_options_check_keys(options, evaluation_keys, lengthof(evaluation_keys),
						  "See docs/next-basket.md.");
	parsed.each_fold = om_option_bool(options, "each_fold", false);
	parsed.nfolds = om_option_count(options, "folds", 1, OM_BASKET_MAX_FOLDS, 5);
	if (!om_option_get(options, "k", &value))
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
