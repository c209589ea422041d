/*
 * dialect.c
 *		Reads the options of a CSV file from a JSON object, each checked by name.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "compat.h"
#include "dialect.h"
#include "options.h"

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

/* What each may be, as the hint says it; that of others follows from their limits. */
static const char *const allowed[OM_DIALECT_NKEYS] = {
	[KEY_DELIMITER] =
		"Use one ASCII character that is no line end, such as \",\", \";\" or \"|\", or \"tab\".",
	[KEY_QUOTE] = "Use one ASCII character that is neither blank nor a line end, or \"\" for none.",
	[KEY_ESCAPE] =
		"Use one ASCII character that is neither blank nor a line end, such as \"\\\\\".",
	[KEY_NULL] = "Use the word that stands for NULL, of up to 100 bytes, or null if none does.",
	[KEY_ENCODING] = "Use the name of an encoding that PostgreSQL knows, such as UTF8, LATIN1, "
					 "WIN1252 or SJIS."};

static void refuse(Key key, const char *problem) OM_NORETURN;

static void
refuse(Key key, const char *problem)
{
	om_option_raise(om_dialect_keys[key], problem, allowed[key]);
}

/* NULL: it is left out. */
static char *
get_text(Jsonb *options, Key key)
{
	return om_option_string(options, om_dialect_keys[key], allowed[key]);
}

static int
get_count(Jsonb *options, Key key, int least, int most, int otherwise)
{
	return (int) om_option_count(options, om_dialect_keys[key], least, most, otherwise);
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

static char
get_delimiter(Jsonb *options)
{
	char *text = get_text(options, KEY_DELIMITER);

	if (text == NULL)
		return ',';
	if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0)
		return '\t';
	return check_character(KEY_DELIMITER, text);
}

/* A quote or an escape; the empty text may stand for something else. */
static char
get_mark(Jsonb *options, Key key, char empty, char otherwise)
{
	char *text = get_text(options, key);

	if (text == NULL)
		return otherwise;
	if (*text == '\0')
		return empty;
	if (*text == ' ' || *text == '\t')
		refuse(key, "is a blank");
	return check_character(key, text);
}

/* Here null says that nothing stands for NULL. */
static const char *
get_null(Jsonb *options)
{
	JsonbValue value;
	char *text;

	if (om_option_find(options, om_dialect_keys[KEY_NULL], &value) == NULL)
		return "";
	text = get_text(options, KEY_NULL);
	if (text != NULL && strlen(text) > MAX_NULL_BYTES)
		refuse(KEY_NULL, "is too long");
	return text;
}

static int
get_encoding(Jsonb *options)
{
	char *name = get_text(options, KEY_ENCODING);
	int encoding = name == NULL ? -1 : pg_valid_client_encoding(name);

	if (name != NULL && encoding < 0)
		refuse(KEY_ENCODING, "is not the name of an encoding");
	return encoding;
}

static bool
keeps_stray_quotes(Jsonb *options)
{
	static const char *const words[] = {"refuse", "keep"};

	return om_option_word(options, om_dialect_keys[KEY_STRAY_QUOTES], words, lengthof(words), 0) ==
		   1;
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
	char quote = get_mark(options, KEY_QUOTE, '\0', '"');
	char escape = get_mark(options, KEY_ESCAPE, quote, quote);

	*dialect = (OmDialect){
		.delimiter = get_delimiter(options),
		.quote = quote,
		.escape = quote == '\0' ? '\0' : escape,
		.keep_stray_quotes = keeps_stray_quotes(options),
		.trim = om_option_bool(options, om_dialect_keys[KEY_TRIM], false),
		.header = get_count(options, KEY_HEADER, 0, MAX_HEADER_ROWS, 1),
		.skip_lines = get_count(options, KEY_SKIP_LINES, 0, MAX_SKIPPED_LINES, 0),
		.null = get_null(options),
		.encoding = get_encoding(options),
		.max_field_bytes =
			get_count(options, KEY_MAX_FIELD_BYTES, 1, OM_DIALECT_MAX_FIELD_BYTES, 1024 * 1024),
		.max_record_lines =
			get_count(options, KEY_MAX_RECORD_LINES, 1, OM_DIALECT_MAX_RECORD_LINES, 1000)};
	check_marks(dialect);
}

void
om_dialect_check_keys(Jsonb *options, const char *const *others, int nothers)
{
	const char **known = palloc(sizeof(char *) * (OM_DIALECT_NKEYS + nothers));

	memcpy(known, om_dialect_keys, sizeof(om_dialect_keys));
	memcpy(known + OM_DIALECT_NKEYS, others, sizeof(char *) * nothers);
	om_options_check_keys(options, known, OM_DIALECT_NKEYS + nothers, NULL /* hint */);
}
