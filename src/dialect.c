/*
 * dialect.c
 *		Reads the options of a CSV file from a JSON object, each checked by name.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/numeric.h"

#include "compat.h"
#include "dialect.h"
#include "errors.h"
#include "jsonout.h"
#include "money.h"
#include "names.h"

#define MAX_HEADER_ROWS 100
#define MAX_SKIPPED_LINES 1000000
#define MAX_NULL_BYTES 100

typedef enum Key
{
	KEY_DELIMITER,
	KEY_QUOTE,
	KEY_ESCAPE,
	KEY_HEADER,
	KEY_SKIP_LINES,
	KEY_NULL,
	KEY_TRIM,
	KEY_ENCODING,
	KEY_MAX_FIELD_BYTES,
	KEY_MAX_RECORD_LINES,
	KEY_STRAY_QUOTES
} Key;

const char *const om_dialect_keys[OM_DIALECT_NKEYS] = {
	"delimiter", "quote",    "escape",          "header",           "skip_lines",  "null",
	"trim",      "encoding", "max_field_bytes", "max_record_lines", "stray_quotes"};

/* What each may be, as the hint says it. */
static const char *const allowed[OM_DIALECT_NKEYS] = {
	"Use one ASCII character that is no line end, such as \",\", \";\" or \"|\", or \"tab\".",
	"Use one ASCII character that is neither blank nor a line end, or \"\" for none.",
	"Use one ASCII character that is neither blank nor a line end, such as \"\\\\\".",
	"Use the number of header rows, from 0 to 100.",
	"Use the number of lines before the header, from 0 to 1000000.",
	"Use the word that stands for NULL, of up to 100 bytes, or null if none does.",
	"Use true or false.",
	"Use the name of an encoding that PostgreSQL knows, such as UTF8, LATIN1, WIN1252 or SJIS.",
	"Use a number of bytes from 1 to 16777216.",
	"Use a number of lines from 1 to 1000000.",
	"Use \"refuse\" or \"keep\"."};

void
om_dialect_raise(const char *key, const char *problem, const char *hint)
{
	char *path = psprintf("options.%s", key);

	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("%s %s", path, problem),
					om_errdetail("path", path), errhint("%s", hint)));
}

static void refuse(Key key, const char *problem) OM_NORETURN;

static void
refuse(Key key, const char *problem)
{
	om_dialect_raise(om_dialect_keys[key], problem, allowed[key]);
}

/* A member of the options, NULL where it is left out. */
static JsonbValue *
find_value(Jsonb *options, Key key, JsonbValue *place)
{
	const char *name = om_dialect_keys[key];

	return options == NULL
			 ? NULL
			 : getKeyJsonValueFromContainer(&options->root, name, strlen(name), place);
}

/* A JSON null is a member left out; not so for the one that is about NULL. */
static JsonbValue *
find_given(Jsonb *options, Key key, JsonbValue *place)
{
	JsonbValue *value = find_value(options, key, place);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

static char *
get_text(const JsonbValue *value, Key key)
{
	if (value->type != jbvString)
		refuse(key, "is not a string");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
parse_count(Jsonb *options, Key key, int least, int most, int *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, key, &place);
	int64 units = 0; /* ten-thousandths */

	if (value == NULL)
		return;
	if (value->type != jbvNumeric)
		refuse(key, "is not a number");
	if (om_money_from_numeric(value->val.numeric, &units) != OM_MONEY_OK || units % 10000 != 0 ||
		units / 10000 < least || units / 10000 > most)
		refuse(key, "is out of range");
	*result = units / 10000;
}

static void
parse_bool(Jsonb *options, Key key, bool *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, key, &place);

	if (value == NULL)
		return;
	if (value->type != jbvBool)
		refuse(key, "is not a boolean");
	*result = value->val.boolean;
}

static char
check_character(Key key, const char *text)
{
	if (strlen(text) != 1 || IS_HIGHBIT_SET(*text))
		refuse(key, "is not one ASCII character");
	if (*text == '\n' || *text == '\r')
		refuse(key, "is a line end");
	return *text;
}

static void
parse_delimiter(Jsonb *options, char *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, KEY_DELIMITER, &place);
	char *text;

	if (value == NULL)
		return;
	text = get_text(value, KEY_DELIMITER);
	if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
		*result = '\t';
	else
		*result = check_character(KEY_DELIMITER, text);
}

/* A quote or an escape; the empty text leaves the result as it is. */
static void
parse_mark(Jsonb *options, Key key, char *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, key, &place);
	char *text;

	if (value == NULL)
		return;
	text = get_text(value, key);
	if (*text == '\0')
		return;
	*result = check_character(key, text);
	if (*result == ' ' || *result == '\t')
		refuse(key, "is a blank");
}

static void
parse_quote(Jsonb *options, char *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, KEY_QUOTE, &place);

	if (value != NULL && value->type == jbvString && value->val.string.len == 0)
		*result = '\0';
	parse_mark(options, KEY_QUOTE, result);
}

static void
parse_null(Jsonb *options, const char **result)
{
	JsonbValue place;
	JsonbValue *value = find_value(options, KEY_NULL, &place);

	if (value == NULL)
		return;
	*result = value->type == jbvNull ? NULL : get_text(value, KEY_NULL);
	if (*result != NULL && strlen(*result) > MAX_NULL_BYTES)
		refuse(KEY_NULL, "is too long");
}

static void
parse_encoding(Jsonb *options, int *result)
{
	JsonbValue place;
	JsonbValue *value = find_given(options, KEY_ENCODING, &place);

	if (value == NULL)
		return;
	*result = pg_valid_client_encoding(get_text(value, KEY_ENCODING));
	if (*result < 0)
		refuse(KEY_ENCODING, "is not the name of an encoding");
}

static void
parse_stray_quotes(Jsonb *options, bool *keep)
{
	static const char *const words[] = {"refuse", "keep"};
	JsonbValue place;
	JsonbValue *value = find_given(options, KEY_STRAY_QUOTES, &place);
	char *word;
	int position;

	if (value == NULL)
		return;
	word = get_text(value, KEY_STRAY_QUOTES);
	position = om_names_find(words, lengthof(words), word, strlen(word));
	if (position < 0)
		refuse(KEY_STRAY_QUOTES, "is neither refuse nor keep");
	*keep = position == 1;
}

/* Characters must be told from each other. */
static void
check_marks(const OmDialect *dialect)
{
	if (dialect->quote == dialect->delimiter)
		refuse(KEY_QUOTE, "is the delimiter");
	if (dialect->escape == dialect->delimiter)
		refuse(KEY_ESCAPE, "is the delimiter");
}

void
om_dialect_parse(Jsonb *options, OmDialect *dialect)
{
	*dialect = (OmDialect){.delimiter = ',',
						   .quote = '"',
						   .header = 1,
						   .null = "",
						   .encoding = -1,
						   .max_field_bytes = 1024 * 1024,
						   .max_record_lines = 1000};
	if (options != NULL && !JB_ROOT_IS_OBJECT(options))
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("options is not a JSON object"),
						om_errdetail("path", "options"),
						errhint("Pass an object such as {\"header\": 1}.")));
	parse_delimiter(options, &dialect->delimiter);
	parse_quote(options, &dialect->quote);
	dialect->escape = dialect->quote;
	parse_mark(options, KEY_ESCAPE, &dialect->escape);
	if (dialect->quote == '\0')
		dialect->escape = '\0';
	check_marks(dialect);
	parse_count(options, KEY_HEADER, 0, MAX_HEADER_ROWS, &dialect->header);
	parse_count(options, KEY_SKIP_LINES, 0, MAX_SKIPPED_LINES, &dialect->skip_lines);
	parse_null(options, &dialect->null);
	parse_bool(options, KEY_TRIM, &dialect->trim);
	parse_encoding(options, &dialect->encoding);
	parse_count(options, KEY_MAX_FIELD_BYTES, 1, OM_DIALECT_MAX_FIELD_BYTES,
				&dialect->max_field_bytes);
	parse_count(options, KEY_MAX_RECORD_LINES, 1, OM_DIALECT_MAX_RECORD_LINES,
				&dialect->max_record_lines);
	parse_stray_quotes(options, &dialect->keep_stray_quotes);
}

static char *
list_keys(const char *const *others, int nothers)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < OM_DIALECT_NKEYS; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", om_dialect_keys[i]);
	for (int i = 0; i < nothers; i++)
		appendStringInfo(&list, ", %s", others[i]);
	return list.data;
}

static bool
is_key(const JsonbValue *key, const char *const *names, int count)
{
	return om_names_find(names, count, key->val.string.val, key->val.string.len) >= 0;
}

void
om_dialect_check_keys(Jsonb *options, const char *const *others, int nothers)
{
	JsonbIterator *iterator = options == NULL ? NULL : JsonbIteratorInit(&options->root);
	JsonbValue key;
	JsonbIteratorToken token;

	while (iterator != NULL &&
		   (token = JsonbIteratorNext(&iterator, &key, true /* skipNested */)) != WJB_DONE)
	{
		if (token != WJB_KEY || is_key(&key, om_dialect_keys, OM_DIALECT_NKEYS) ||
			is_key(&key, others, nothers))
			continue;
		om_dialect_raise(pnstrdup(key.val.string.val, key.val.string.len), "is not a known option",
						 psprintf("Options are %s.", list_keys(others, nothers)));
	}
}
