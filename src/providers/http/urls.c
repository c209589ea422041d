/*
 * urls.c
 *		Endpoints, and which of them are allowed.
 *
 * URLs are taken apart by libcurl, which is going to call them, and compared by
 * their parts.  What different programs may read differently is refused: user
 * names, dots that climb, characters that are no part of a URL.
 */
#include "http.h"

#include <curl/curl.h>

#include "utils/builtins.h"

static bool
is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		   c == '.' || c == '_' || c == '~';
}

static void
append_encoded(StringInfo out, const char *text, const char *kept)
{
	for (; *text != '\0'; text++)
	{
		if (is_unreserved(*text) || strchr(kept, *text) != NULL)
			appendStringInfoChar(out, *text);
		else
			appendStringInfo(out, "%%%02X", (unsigned char) *text);
	}
}

void
http_url_append_segment(StringInfo url, const char *text)
{
	appendStringInfoChar(url, '/');
	append_encoded(url, text, "");
}

char *
http_url_signed_path(const char *path)
{
	StringInfoData out;

	initStringInfo(&out);
	append_encoded(&out, path, "/");
	return out.data;
}

/* --- taking apart --------------------------------------------------------------------------- */

/* Printable ASCII, of which none can hide where the host ends. */
static bool
has_odd_characters(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text <= ' ' || *text >= 0x7f || strchr("\\#\"<>^`{|}", *text) != NULL)
			return true;
	}
	return false;
}

/* Length of a dot as written: 1, 3 where it is encoded, or 0. */
static int
dot_length(const char *text)
{
	return *text == '.' ? 1 : pg_strncasecmp(text, "%2e", 3) == 0 ? 3 : 0;
}

static bool
ends_segment(char c)
{
	return c == '\0' || c == '/' || c == '?';
}

/* A segment that is one dot or two. */
static bool
climbs(const char *text)
{
	for (; *text != '\0' && *text != '?'; text++)
	{
		const char *at = text + 1;

		if (*text != '/')
			continue;
		at += dot_length(at);
		at += dot_length(at);
		if (at > text + 1 && ends_segment(*at))
			return true;
	}
	return false;
}

static char *
get_part(CURLU *parsed, CURLUPart part, unsigned int flags)
{
	char *value = NULL;
	char *copy = NULL;

	if (curl_url_get(parsed, part, &value, flags) == CURLUE_OK && value != NULL)
		copy = pstrdup(value);
	curl_free(value);
	return copy;
}

static const char *
read_parts(CURLU *parsed, HttpUrl *url)
{
	char *port = get_part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT);

	url->scheme = get_part(parsed, CURLUPART_SCHEME, 0);
	url->host = get_part(parsed, CURLUPART_HOST, 0);
	url->path = get_part(parsed, CURLUPART_PATH, 0);
	url->text = get_part(parsed, CURLUPART_URL, 0);
	url->has_query = get_part(parsed, CURLUPART_QUERY, 0) != NULL;
	url->port = port == NULL ? 0 : atoi(port);
	if (url->scheme == NULL || url->host == NULL || url->text == NULL || url->path == NULL)
		return "is no URL with a scheme and a host";
	if (pg_strcasecmp(url->scheme, "http") != 0 && pg_strcasecmp(url->scheme, "https") != 0)
		return "begins with neither http:// nor https://";
	return NULL;
}

const char *
http_url_parse(const char *text, HttpUrl *url)
{
	const char *authority = strstr(text, "://");
	const char *problem;
	CURLU *parsed;

	if (authority == NULL || has_odd_characters(text))
		return "is no URL";
	authority += strlen("://");
	if (memchr(authority, '@', strcspn(authority, "/?")) != NULL)
		return "must have no user name or password in it";
	if (climbs(authority))
		return "must have no segment . or .. in it";
	if ((parsed = curl_url()) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (curl_url_set(parsed, CURLUPART_URL, text, CURLU_DISALLOW_USER) == CURLUE_OK)
		problem = read_parts(parsed, url);
	else
		problem = "is no URL";
	curl_url_cleanup(parsed);
	return problem;
}

/* --- allowing ------------------------------------------------------------------------------- */

/* "/v1" admits /v1 and /v1/x, not /v1x; "/v1/" admits /v1/x. */
static bool
path_is_below(const char *path, const char *prefix)
{
	Size length = strlen(prefix);

	if (strncmp(path, prefix, length) != 0)
		return false;
	return prefix[length - 1] == '/' || path[length] == '\0' || path[length] == '/';
}

static bool
is_admitted(const HttpUrl *url, const char *prefix)
{
	HttpUrl allowed;

	return http_url_parse(prefix, &allowed) == NULL && !allowed.has_query &&
		   pg_strcasecmp(url->scheme, allowed.scheme) == 0 &&
		   pg_strcasecmp(url->host, allowed.host) == 0 && url->port == allowed.port &&
		   path_is_below(url->path, allowed.path);
}

bool
http_url_is_allowed(const HttpUrl *url, const char *prefixes)
{
	char *list = pstrdup(prefixes);
	char *rest = NULL;

	for (char *prefix = strtok_r(list, ", \t\r\n", &rest); prefix != NULL;
		 prefix = strtok_r(NULL, ", \t\r\n", &rest))
	{
		if (is_admitted(url, prefix))
			return true;
	}
	return false;
}
