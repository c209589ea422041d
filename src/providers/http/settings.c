/*
 * settings.c
 *		The options of a model of kind http.
 *
 * They are checked when a model is made, and again when it is loaded: rows of
 * "models" may come from elsewhere.  docs/predictions-http.md describes each.
 */
#include "http.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#define MB (1024 * 1024)
#define DEFAULT_TIMEOUT_MS 30000
#define FOR_EVER_MS (24 * 60 * 60 * 1000)

static const char *const text_options[] = {
	"endpoint", "method",  "format", "content_type", "endpoint_name",   "model_id",
	"region",   "service", "secret", "ca_file",      "response_pointer"};

static const char *const other_options[] = {"template", "columns", "headers", "verify_tls"};

typedef struct IntOption
{
	const char *name;
	size_t offset; /* in HttpModel */
	int initial;
	int min;
	int max;
} IntOption;

#define INT_OPTION(name, initial, min, max)                       \
	{                                                             \
#name, offsetof(HttpModel, name), (initial), (min), (max) \
	}

static const IntOption int_options[] = {
	INT_OPTION(connect_timeout_ms, 3000, 1, 3600000),
	INT_OPTION(retries, 2, 0, 20),
	INT_OPTION(backoff_ms, 200, 1, 60000),
	INT_OPTION(concurrency, 4, 1, 16),
	INT_OPTION(circuit_failures, 5, 0, 1000000),
	INT_OPTION(circuit_open_ms, 30000, 1, 3600000),
	INT_OPTION(max_response_bytes, 16 * MB, 1, 32 * MB),
};

static void
raise_invalid(const char *option, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("options.%s %s", option, problem),
					errdetail_internal("{\"path\": \"options.%s\"}", option), errhint("%s", hint)));
}

/* --- values --------------------------------------------------------------------------------- */

static JsonbValue *
find(Jsonb *options, const char *name, JsonbValue *buffer)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), buffer);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

static char *
get_text(Jsonb *options, const char *name)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, name, &buffer);

	if (value == NULL)
		return NULL;
	if (value->type != jbvString || value->val.string.len == 0)
		raise_invalid(name, "is not a string", "Write a string that is not empty.");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static char *
require_text(Jsonb *options, const char *name, const char *hint)
{
	char *value = get_text(options, name);

	if (value == NULL)
		raise_invalid(name, "is missing", hint);
	return value;
}

static int
get_int(Jsonb *options, const IntOption *option)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, option->name, &buffer);
	bool failed = false;
	int32 number;

	if (value == NULL)
		return option->initial;
	number = value->type != jbvNumeric ? 0 : numeric_int4_opt_error(value->val.numeric, &failed);
	if (value->type != jbvNumeric || failed || number < option->min || number > option->max)
		raise_invalid(option->name,
					  psprintf("is not a number from %d to %d", option->min, option->max),
					  "Milliseconds, bytes and counts are whole numbers.");
	return number;
}

static bool
get_bool(Jsonb *options, const char *name, bool initial)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, name, &buffer);

	if (value == NULL)
		return initial;
	if (value->type != jbvBool)
		raise_invalid(name, "is neither true nor false", "Write true or false.");
	return value->val.boolean;
}

static bool
is_among(const char *word, int length, const char *const *words, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (strlen(words[i]) == (size_t) length && strncmp(words[i], word, length) == 0)
			return true;
	}
	return false;
}

static bool
is_known(const char *name, int length)
{
	for (int i = 0; i < (int) lengthof(int_options); i++)
	{
		if (is_among(name, length, &int_options[i].name, 1))
			return true;
	}
	return is_among(name, length, text_options, lengthof(text_options)) ||
		   is_among(name, length, other_options, lengthof(other_options));
}

static void
refuse_unknown(Jsonb *options)
{
	JsonbIterator *iterator = JsonbIteratorInit(&options->root);
	JsonbValue key;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &key, true /* skip_nested */)) != WJB_DONE)
	{
		if (token == WJB_KEY && !is_known(key.val.string.val, key.val.string.len))
			raise_invalid(pnstrdup(key.val.string.val, key.val.string.len),
						  "is no option of kind http",
						  "docs/predictions-http.md lists the options.");
	}
}

/* --- what makes an address ------------------------------------------------------------------ */

static HttpFormat
read_format(Jsonb *options)
{
	static const char *const names[] = {"generic", "sagemaker", "bedrock"};
	char *name = get_text(options, "format");

	for (int i = 0; name != NULL && i < (int) lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return (HttpFormat) i;
	}
	if (name != NULL)
		raise_invalid("format", "is no format", "Write \"generic\", \"sagemaker\" or \"bedrock\".");
	return HTTP_FORMAT_GENERIC;
}

/* Words that become part of a host name or of what is signed. */
static char *
get_word(Jsonb *options, const char *name, char *initial)
{
	char *word = get_text(options, name);

	if (word == NULL)
		return initial;
	if (word[strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
		raise_invalid(name, "has other characters than a-z, 0-9 and -",
					  "Write it as Amazon does, as in \"eu-central-1\".");
	return word;
}

/* The name of an endpoint or model; slashes and colons occur in those of Bedrock. */
static char *
get_resource(Jsonb *options, const char *name)
{
	char *value = require_text(options, name, "Name what is to be invoked.");
	const char *allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:/";

	if (value[strspn(value, allowed)] != '\0' || value[0] == '.' || value[0] == '/' ||
		strstr(value, "..") != NULL || strstr(value, "//") != NULL)
		raise_invalid(name, "is no name of a model or endpoint",
					  "Write it as Amazon shows it: a name or an ARN.");
	return value;
}

static bool
has_encoded_slash(const char *text)
{
	for (; (text = strchr(text, '%')) != NULL; text++)
	{
		if (pg_strncasecmp(text, "%2f", 3) == 0 || pg_strncasecmp(text, "%5c", 3) == 0)
			return true;
	}
	return false;
}

/* The host of Amazon where none is given; never a slash at its end. */
static char *
base_of(Jsonb *options, const HttpModel *model, const char *host)
{
	char *endpoint = get_text(options, "endpoint");
	HttpUrl url;
	const char *problem;

	if (endpoint == NULL && model->aws_region == NULL)
		raise_invalid("region", "is missing", "Name the region, as in \"eu-central-1\".");
	if (endpoint == NULL)
		return psprintf("https://%s.%s.amazonaws.com", host, model->aws_region);
	problem = http_url_parse(endpoint, &url);
	if (problem != NULL || url.has_query || has_encoded_slash(endpoint))
		raise_invalid("endpoint", problem != NULL ? problem : "must end with its path",
					  "Write a URL such as https://host/path.");
	while (endpoint[strlen(endpoint) - 1] == '/')
		endpoint[strlen(endpoint) - 1] = '\0';
	return endpoint;
}

static char *
make_address(Jsonb *options, const HttpModel *model)
{
	StringInfoData url;

	initStringInfo(&url);
	switch (model->format)
	{
		case HTTP_FORMAT_SAGEMAKER:
			appendStringInfo(&url, "%s/endpoints", base_of(options, model, "runtime.sagemaker"));
			http_url_append_segment(&url, get_resource(options, "endpoint_name"));
			appendStringInfoString(&url, "/invocations");
			break;
		case HTTP_FORMAT_BEDROCK:
			appendStringInfo(&url, "%s/model", base_of(options, model, "bedrock-runtime"));
			http_url_append_segment(&url, get_resource(options, "model_id"));
			appendStringInfoString(&url, "/invoke");
			break;
		case HTTP_FORMAT_GENERIC:
			appendStringInfoString(
				&url, require_text(options, "endpoint", "Write the URL that is to be called."));
			if (has_encoded_slash(url.data))
				raise_invalid("endpoint", "must have no encoded slash in it",
							  "Write slashes as they are.");
			break;
	}
	return url.data;
}

static void
read_address(Jsonb *options, HttpModel *model)
{
	const char *problem = http_url_parse(make_address(options, model), &model->url);

	if (problem != NULL)
		raise_invalid("endpoint", problem, "Write a URL such as https://host/path.");
	if (model->url.has_query && model->aws_region != NULL)
		raise_invalid("endpoint", "must have no query where requests are signed",
					  "Leave out what begins with \"?\".");
}

/* --- what makes a request and reads an answer ----------------------------------------------- */

static Jsonb *
get_json(Jsonb *options, const char *name, const char *initial)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, name, &buffer);

	if (value != NULL)
		return JsonbValueToJsonb(value);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(initial)));
}

static bool
is_csv(Jsonb *options, const HttpModel *model)
{
	char *type = get_text(options, "content_type");

	if (type == NULL || strcmp(type, "application/json") == 0)
		return false;
	if (strcmp(type, "text/csv") != 0 || model->format == HTTP_FORMAT_BEDROCK)
		raise_invalid(
			"content_type", "is none that can be written",
			"Write \"application/json\", or for other formats than bedrock \"text/csv\".");
	return true;
}

static void
read_template(Jsonb *options, HttpModel *model)
{
	bool is_bedrock = model->format == HTTP_FORMAT_BEDROCK;

	model->template = get_json(options, "template",
							   is_bedrock ? "\"{{input}}\"" : "{\"instances\": \"{{inputs}}\"}");
	model->one_by_one = http_body_is_of_one(model->template);
	if (is_bedrock && !model->one_by_one)
		raise_invalid("template", "must have {{input}}, one model input per call",
					  "Put the string \"{{input}}\" where the input belongs.");
}

/* "/a/0/b" as its parts; "~1" is a slash and "~0" a tilde. */
static List *
split_pointer(const char *pointer)
{
	List *parts = NIL;

	if (pointer[0] != '\0' && pointer[0] != '/')
		raise_invalid("response_pointer", "is no JSON pointer",
					  "Write one such as \"/predictions\", or \"/\" for the whole answer.");
	while (*pointer == '/' && pointer[1] != '\0')
	{
		StringInfoData part;

		initStringInfo(&part);
		for (pointer++; *pointer != '\0' && *pointer != '/'; pointer++)
		{
			if (*pointer == '~' && (pointer[1] == '0' || pointer[1] == '1'))
				appendStringInfoChar(&part, *++pointer == '0' ? '~' : '/');
			else
				appendStringInfoChar(&part, *pointer);
		}
		parts = lappend(parts, part.data);
	}
	return parts;
}

static void
read_pointer(Jsonb *options, HttpModel *model)
{
	char *pointer = get_text(options, "response_pointer");

	if (pointer == NULL)
		pointer = model->one_by_one ? "" : "/predictions";
	model->pointer = split_pointer(pointer);
}

static void
read_columns(Jsonb *options, HttpModel *model)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, "columns", &buffer);
	JsonbIterator *iterator;
	JsonbValue column;
	JsonbIteratorToken token;

	if (value == NULL)
		return;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		raise_invalid("columns", "is no array", "Write an array of names.");
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &column, true /* skip_nested */)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (column.type != jbvString)
			raise_invalid("columns", "has something that is no string", "Write names.");
		model->columns =
			lappend(model->columns, pnstrdup(column.val.string.val, column.val.string.len));
	}
}

/* --- headers -------------------------------------------------------------------------------- */

/* They carry secrets, or would make the request another one. */
static const char *const reserved_headers[] = {"authorization",
											   "proxy-authorization",
											   "cookie",
											   "host",
											   "content-length",
											   "content-type",
											   "transfer-encoding",
											   "x-amz-security-token",
											   "x-amz-date",
											   "connection",
											   "expect",
											   "accept-encoding"};

static bool
is_reserved(const char *name)
{
	for (int i = 0; i < (int) lengthof(reserved_headers); i++)
	{
		if (pg_strcasecmp(name, reserved_headers[i]) == 0)
			return true;
	}
	return false;
}

static char *
make_header(const char *name, const JsonbValue *value)
{
	char *text;

	if (value->type != jbvString)
		raise_invalid("headers", "has a value that is no string", "Write strings.");
	text = pnstrdup(value->val.string.val, value->val.string.len);
	if (name[0] == '\0' ||
		name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")] !=
			'\0' ||
		strpbrk(text, "\r\n") != NULL || text[0] == '\0')
		raise_invalid("headers", "has something that is no header",
					  "Names have letters, digits and -, values are one line.");
	if (is_reserved(name))
		raise_invalid("headers", psprintf("must not set \"%s\"", name),
					  "What identifies the caller belongs into a secret: set_model_secret().");
	return psprintf("%s: %s", name, text);
}

static void
read_headers(Jsonb *options, HttpModel *model)
{
	JsonbValue buffer;
	JsonbValue *value = find(options, "headers", &buffer);
	JsonbIterator *iterator;
	JsonbValue item;
	JsonbIteratorToken token;
	char *name = NULL;

	model->headers = list_make2(
		psprintf("Content-Type: %s", model->template == NULL ? "text/csv" : "application/json"),
		psprintf("Accept: %s", model->template == NULL ? "text/csv" : "application/json"));
	if (value == NULL)
		return;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		raise_invalid("headers", "is no object", "Write {\"Name\": \"value\"}.");
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true /* skip_nested */)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
			model->headers = lappend(model->headers, make_header(name, &item));
	}
}

/* --- all ------------------------------------------------------------------------------------ */

static void
read_security(Jsonb *options, HttpModel *model)
{
	char *method = get_text(options, "method");

	if (method != NULL && strcmp(method, "POST") != 0)
		raise_invalid("method", "is not \"POST\"", "Leave it out.");
	model->secret = get_text(options, "secret");
	model->verify_tls = get_bool(options, "verify_tls", true);
	model->ca_file = get_text(options, "ca_file");
	if (model->ca_file != NULL && !is_absolute_path(model->ca_file))
		raise_invalid("ca_file", "is no absolute path", "Write a path on the server.");
}

static void
read_aws(Jsonb *options, HttpModel *model)
{
	static char *const services[] = {NULL, "sagemaker", "bedrock"};

	model->aws_region = get_word(options, "region", NULL);
	model->aws_service = get_word(options, "service", services[model->format]);
	if (model->aws_region != NULL && model->aws_service == NULL)
		raise_invalid("service", "is missing", "Name the service for which requests are signed.");
}

HttpModel *
http_settings_read(const OmModelInfo *info)
{
	Jsonb *options = info->options;
	HttpModel *model = palloc0(sizeof(HttpModel));

	refuse_unknown(options);
	for (int i = 0; i < (int) lengthof(int_options); i++)
		*(int *) ((char *) model + int_options[i].offset) = get_int(options, &int_options[i]);
	model->timeout_ms = info->timeout_ms < 0  ? DEFAULT_TIMEOUT_MS
					  : info->timeout_ms == 0 ? FOR_EVER_MS /* as long as it takes */
											  : info->timeout_ms;
	model->format = read_format(options);
	read_aws(options, model);
	read_address(options, model);
	if (!is_csv(options, model))
		read_template(options, model);
	read_pointer(options, model);
	read_columns(options, model);
	read_headers(options, model);
	read_security(options, model);
	return model;
}
