/*
 * credentials.c
 *		What a secret holds, and keeping it out of messages.
 *
 * The secret is read by order_mgmt, which alone may; a provider runs with the
 * rights of the caller.
 */
#include "http.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"

#include "secrets.h"

#define EXCERPT_CHARS 200

/* Of so much an excerpt is made: more than can be struck out of its beginning. */
#define LOOKED_AT 65536

/* A word that is shorter would make holes by which it could be told: no text with it is shown. */
#define MIN_WORD 4

typedef Jsonb *(*SecretReader)(const char *name);

static char *
get_member(JsonbContainer *object, const char *key)
{
	JsonbValue buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(object, key, strlen(key), &buffer);

	return value == NULL || value->type != jbvString
			 ? NULL
			 : pnstrdup(value->val.string.val, value->val.string.len);
}

static void
add_word(HttpCredentials *credentials, char *word)
{
	if (word != NULL)
		credentials->words = lappend(credentials->words, word);
}

static void
add_header(HttpCredentials *credentials, const char *name, const char *value)
{
	credentials->headers = lappend(credentials->headers, psprintf("%s: %s", name, value));
}

static void
add_headers(HttpCredentials *credentials, JsonbContainer *headers)
{
	JsonbIterator *iterator = JsonbIteratorInit(headers);
	JsonbValue value;
	JsonbIteratorToken token;
	char *name = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skip_nested */)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvString)
		{
			char *text = pnstrdup(value.val.string.val, value.val.string.len);

			add_header(credentials, name, text);
			add_word(credentials, text);
		}
	}
}

static void
read_members(HttpCredentials *credentials, JsonbContainer *secret)
{
	char *token = get_member(secret, "session_token");
	char *bearer = get_member(secret, "bearer");
	JsonbValue buffer;
	JsonbValue *headers =
		getKeyJsonValueFromContainer(secret, "headers", strlen("headers"), &buffer);

	credentials->access_key_id = get_member(secret, "access_key_id");
	credentials->secret_access_key = get_member(secret, "secret_access_key");
	add_word(credentials, credentials->access_key_id);
	add_word(credentials, credentials->secret_access_key);
	add_word(credentials, token);
	add_word(credentials, bearer);
	if (token != NULL)
		add_header(credentials, "X-Amz-Security-Token", token);
	if (bearer != NULL)
		add_header(credentials, "Authorization", psprintf("Bearer %s", bearer));
	if (headers != NULL && headers->type == jbvBinary)
		add_headers(credentials, headers->val.binary.data);
}

HttpCredentials *
http_credentials_get(const char *name)
{
	HttpCredentials *credentials = palloc0(sizeof(HttpCredentials));
	SecretReader reader;

	if (name == NULL)
		return credentials;
	reader = (SecretReader) load_external_function("$libdir/order_mgmt", OM_SECRET_READER,
												   true /* signal_not_found */, NULL);
	read_members(credentials, &reader(name)->root);
	return credentials;
}

/* --- messages ------------------------------------------------------------------------------- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = pg_ascii_tolower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The ASCII character that \uXXXX stands for, or -1. */
static int
escaped_unicode(const char *at, const char *end)
{
	int code = 0;

	if (end - at < 6 || at[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		int digit = hex_digit(at[i]);

		if (digit < 0)
			return -1;
		code = code * 16 + digit;
	}
	return code < 0x80 ? code : -1;
}

/*
 * What JSON and URLs write in several ways is written in one, so that words are
 * found; and it is one line.  "+" stays: it is itself in keys.
 */
static char *
normalize(const char *text, Size size)
{
	const char *end = text + size;
	char *result = palloc(size + 1);
	char *to = result;

	while (text < end)
	{
		int c = (unsigned char) *text;
		int length = 1;

		if (c == '\\' && (c = escaped_unicode(text, end)) >= 0)
			length = 6;
		else if (*text == '\\' && end - text > 1)
		{
			c = (unsigned char) text[1];
			length = 2;
		}
		else if (*text == '%' && end - text > 2 && hex_digit(text[1]) >= 0 &&
				 hex_digit(text[2]) >= 0 && hex_digit(text[1]) < 8)
		{
			c = hex_digit(text[1]) * 16 + hex_digit(text[2]);
			length = 3;
		}
		else
			c = (unsigned char) *text;
		*to++ = c < ' ' || c == 0x7f ? ' ' : (char) c;
		text += length;
	}
	*to = '\0';
	return result;
}

static void
strike_out(char *text, const char *word)
{
	Size length = strlen(word);
	char *found = text;

	while ((found = strstr(found, word)) != NULL)
	{
		memcpy(found, "***", 3);
		memmove(found + 3, found + length, strlen(found + length) + 1);
		found += 3;
	}
}

static int
compare_lengths(const ListCell *a, const ListCell *b)
{
	Size left = strlen(lfirst(a));
	Size right = strlen(lfirst(b));

	return left > right ? -1 : left < right;
}

/* The longest first: of one that begins with another the rest would stay. */
static List *
sort_words(const HttpCredentials *credentials)
{
	List *words = NIL;
	ListCell *cell;

	foreach(cell, credentials->words)
	{
		const char *word = lfirst(cell);

		words = lappend(words, normalize(word, strlen(word)));
	}
	list_sort(words, compare_lengths);
	return words;
}

/* Bytes that are no characters become question marks. */
static void
make_valid(char *text)
{
	int length = strlen(text);

	while (length > 0)
	{
		int size = pg_encoding_verifymbchar(PG_UTF8, text, length);

		if (size < 1)
		{
			*text = '?';
			size = 1;
		}
		text += size;
		length -= size;
	}
}

char *
http_credentials_excerpt(const HttpCredentials *credentials, const char *text, Size size)
{
	char *excerpt = normalize(text, Min(size, LOOKED_AT));
	ListCell *cell;

	foreach(cell, sort_words(credentials))
	{
		const char *word = lfirst(cell);

		if (strlen(word) >= MIN_WORD)
			strike_out(excerpt, word);
		else if (strstr(excerpt, word) != NULL)
			return pstrdup("***");
	}
	make_valid(excerpt);
	excerpt[pg_encoding_mbcliplen(PG_UTF8, excerpt, strlen(excerpt), EXCERPT_CHARS)] = '\0';
	return pg_any_to_server(excerpt, strlen(excerpt), PG_UTF8);
}
