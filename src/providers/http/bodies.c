/*
 * bodies.c
 *		Inputs to request bodies.
 *
 * A template is JSON in which certain strings stand for inputs: "{{inputs}}" for
 * the array of all, "{{input}}" for a single one and "{{input.name}}" for a
 * member of it, null where it has none.  CSV has a row per input.
 */
#include "http.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#define ALL_INPUTS "{{inputs}}"
#define ONE_INPUT "{{input}}"
#define MEMBER_PREFIX "{{input."
#define MEMBER_SUFFIX "}}"

static bool
is_text(const JsonbValue *value, const char *text)
{
	return value->type == jbvString && (size_t) value->val.string.len == strlen(text) &&
		   strncmp(value->val.string.val, text, value->val.string.len) == 0;
}

/* The name in "{{input.name}}", or NULL. */
static char *
member_name(const JsonbValue *value)
{
	int prefix = strlen(MEMBER_PREFIX);
	int suffix = strlen(MEMBER_SUFFIX);
	int length;

	if (value->type != jbvString)
		return NULL;
	length = value->val.string.len;
	if (length <= prefix + suffix || strncmp(value->val.string.val, MEMBER_PREFIX, prefix) != 0 ||
		strncmp(value->val.string.val + length - suffix, MEMBER_SUFFIX, suffix) != 0)
		return NULL;
	return pnstrdup(value->val.string.val + prefix, length - prefix - suffix);
}

bool
http_body_is_of_one(Jsonb *template)
{
	JsonbIterator *iterator = JsonbIteratorInit(&template->root);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, false /* skip_nested */)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) &&
			(is_text(&value, ONE_INPUT) || member_name(&value) != NULL))
			return true;
	}
	return false;
}

/* --- JSON ----------------------------------------------------------------------------------- */

typedef struct Inputs
{
	Jsonb *const *inputs;
	int count;
} Inputs;

static void
write_input(StringInfo body, Jsonb *input)
{
	(void) JsonbToCString(body, &input->root, VARSIZE(input));
}

static void
write_inputs(StringInfo body, const Inputs *inputs)
{
	appendStringInfoChar(body, '[');
	for (int i = 0; i < inputs->count; i++)
	{
		if (i > 0)
			appendStringInfoChar(body, ',');
		write_input(body, inputs->inputs[i]);
	}
	appendStringInfoChar(body, ']');
}

static void
write_plain(StringInfo body, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(body, "null");
			break;
		case jbvBool:
			appendStringInfoString(body, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			appendStringInfoString(body, DatumGetCString(DirectFunctionCall1(
											 numeric_out, NumericGetDatum(value->val.numeric))));
			break;
		case jbvString:
			escape_json(body, pnstrdup(value->val.string.val, value->val.string.len));
			break;
		case jbvBinary:
			(void) JsonbToCString(body, value->val.binary.data, value->val.binary.len);
			break;
		default:
			elog(ERROR, "unexpected type %d of a JSON value", (int) value->type);
	}
}

static void
write_member(StringInfo body, Jsonb *input, const char *name)
{
	JsonbValue buffer;
	JsonbValue *member = JB_ROOT_IS_OBJECT(input)
						   ? getKeyJsonValueFromContainer(&input->root, name, strlen(name), &buffer)
						   : NULL;

	if (member == NULL)
		appendStringInfoString(body, "null");
	else
		write_plain(body, member);
}

static void
write_scalar(StringInfo body, const JsonbValue *value, const Inputs *inputs)
{
	char *name = member_name(value);

	if (is_text(value, ALL_INPUTS))
		write_inputs(body, inputs);
	else if (is_text(value, ONE_INPUT))
		write_input(body, inputs->inputs[0]);
	else if (name != NULL)
		write_member(body, inputs->inputs[0], name);
	else
		write_plain(body, value);
}

/* A comma between two, none before the first and none after a key. */
static void
separate(StringInfo body)
{
	char last = body->len == 0 ? '\0' : body->data[body->len - 1];

	if (body->len > 0 && last != '[' && last != '{' && last != ':')
		appendStringInfoChar(body, ',');
}

static void
write_template(StringInfo body, Jsonb *template, const Inputs *inputs)
{
	JsonbIterator *iterator = JsonbIteratorInit(&template->root);
	bool is_scalar = JB_ROOT_IS_SCALAR(template);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, false /* skip_nested */)) != WJB_DONE)
	{
		bool is_begin = token == WJB_BEGIN_ARRAY || token == WJB_BEGIN_OBJECT;

		if (is_begin || token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
			separate(body);
		if (token == WJB_VALUE || token == WJB_ELEM)
			write_scalar(body, &value, inputs);
		else if (token == WJB_KEY)
		{
			escape_json(body, pnstrdup(value.val.string.val, value.val.string.len));
			appendStringInfoChar(body, ':');
		}
		else if (token == WJB_BEGIN_OBJECT || token == WJB_END_OBJECT)
			appendStringInfoChar(body, token == WJB_BEGIN_OBJECT ? '{' : '}');
		else if (!is_scalar)
			appendStringInfoChar(body, token == WJB_BEGIN_ARRAY ? '[' : ']');
	}
}

/* --- CSV ------------------------------------------------------------------------------------ */

static void
write_quoted(StringInfo body, const char *text, int length)
{
	appendStringInfoChar(body, '"');
	for (int i = 0; i < length; i++)
	{
		if (text[i] == '"')
			appendStringInfoChar(body, '"');
		appendStringInfoChar(body, text[i]);
	}
	appendStringInfoChar(body, '"');
}

static void
write_cell(StringInfo body, const JsonbValue *value)
{
	if (value == NULL || value->type == jbvNull)
		return;
	if (value->type == jbvBinary)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an input has an array or object where a CSV cell belongs"),
						errhint("Inputs are arrays of numbers, strings and booleans.")));
	if (value->type == jbvString &&
		(value->val.string.len == 0 ||
		 strpbrk(pnstrdup(value->val.string.val, value->val.string.len), "\",\r\n") != NULL))
		write_quoted(body, value->val.string.val, value->val.string.len);
	else if (value->type == jbvString)
		appendBinaryStringInfo(body, value->val.string.val, value->val.string.len);
	else
		write_plain(body, value);
}

static void
write_columns(StringInfo body, JsonbContainer *input, List *columns)
{
	ListCell *cell;

	foreach(cell, columns)
	{
		JsonbValue buffer;
		const char *name = lfirst(cell);

		if (cell != list_head(columns))
			appendStringInfoChar(body, ',');
		write_cell(body, getKeyJsonValueFromContainer(input, name, strlen(name), &buffer));
	}
}

/* Elements of an array, or the one value that is no array. */
static void
write_elements(StringInfo body, JsonbContainer *input)
{
	JsonbIterator *iterator = JsonbIteratorInit(input);
	JsonbValue value;
	JsonbIteratorToken token;
	bool is_first = true;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skip_nested */)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (!is_first)
			appendStringInfoChar(body, ',');
		is_first = false;
		write_cell(body, &value);
	}
}

static void
write_row(StringInfo body, Jsonb *input, List *columns)
{
	if (!JB_ROOT_IS_OBJECT(input))
		write_elements(body, &input->root);
	else if (columns != NIL)
		write_columns(body, &input->root, columns);
	else
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an input is an object, but the model has no option \"columns\""),
						errhint("Name the members of a row in their order, or pass arrays.")));
	appendStringInfoChar(body, '\n');
}

/* --- both ----------------------------------------------------------------------------------- */

void
http_body_write(const HttpModel *model, Jsonb *const *inputs, int count, StringInfo body)
{
	Inputs all = {inputs, count};
	StringInfoData text;
	char *converted;

	initStringInfo(&text);
	if (model->template != NULL)
		write_template(&text, model->template, &all);
	for (int i = 0; model->template == NULL && i < count; i++)
		write_row(&text, inputs[i], model->columns);
	converted = pg_server_to_any(text.data, text.len, PG_UTF8);
	if (converted == text.data)
		*body = text;
	else
	{
		initStringInfo(body);
		appendStringInfoString(body, converted);
	}
}
