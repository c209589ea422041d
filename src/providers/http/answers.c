/*
 * answers.c
 *		Response bodies to outputs, or to errors.
 *
 * What comes from outside is believed in nothing: bytes may be no characters,
 * no JSON, or too few or too many predictions.  No error shows more of it than an
 * excerpt without secrets.
 */
#include "http.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

/* --- errors --------------------------------------------------------------------------------- */

/* What goes behind a message: ": ..." or nothing. */
static char *
quote(const HttpCredentials *credentials, const char *text, Size size)
{
	char *excerpt = http_credentials_excerpt(credentials, text, size);

	return excerpt[strspn(excerpt, " ")] == '\0' ? "" : psprintf(": %s", excerpt);
}

static void
raise_unusable(const HttpModel *model, const HttpCredentials *credentials, const HttpAnswer *answer,
			   const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("the answer of \"%s\" %s%s", model->url.host, problem,
						   quote(credentials, answer->body, answer->body_size)),
					errhint("Check the model's options, above all format and response_pointer.")));
}

static const char *
status_hint(int status)
{
	if (status >= 300 && status < 400)
		return "Redirects are not followed; give the model the address that answers.";
	if (status == 401 || status == 403)
		return "Check the secret of the model, and what it may call.";
	if (status == 429 || status >= 500)
		return "Try again later; option retries has it tried several times.";
	return "Check the model's options and inputs.";
}

static void
raise_status(const HttpModel *model, const HttpCredentials *credentials, const HttpAnswer *answer)
{
	const char *attempts =
		answer->attempts == 1 ? "" : psprintf(" after %d attempts", answer->attempts);

	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("\"%s\" answered with status %d%s%s", model->url.host, answer->status,
						   attempts, quote(credentials, answer->body, answer->body_size)),
					errhint("%s", status_hint(answer->status))));
}

static void
raise_no_answer(const HttpModel *model, const HttpCredentials *credentials,
				const HttpAnswer *answer)
{
	const char *problem = "could not be called";
	const char *hint = "Check that it can be reached from the server.";

	if (answer->outcome == HTTP_CIRCUIT_OPEN)
	{
		problem = "is not called: circuit open";
		hint = "It failed several times in a row; it is tried again after circuit_open_ms.";
	}
	else if (answer->outcome == HTTP_TIMED_OUT)
	{
		problem = "did not answer in time";
		hint = "Options timeout_ms and connect_timeout_ms say how long to wait.";
	}
	else if (answer->outcome == HTTP_TOO_LARGE)
	{
		problem = "answered with more than max_response_bytes";
		hint = "Send fewer inputs at a time, or raise the option.";
	}
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("\"%s\" %s%s", model->url.host, problem,
						   answer->outcome == HTTP_TOO_LARGE
							   ? ""
							   : quote(credentials, answer->message, strlen(answer->message))),
					errhint("%s", hint)));
}

/* --- reading -------------------------------------------------------------------------------- */

/* NULL where a function of PostgreSQL's finds fault; its message would show the input. */
static char *
to_server(const HttpAnswer *answer)
{
	char *text = NULL;

	if (memchr(answer->body, '\0', answer->body_size) != NULL ||
		pg_encoding_verifymbstr(PG_UTF8, answer->body, answer->body_size) != answer->body_size)
		return NULL;
	PG_TRY();
	{
		text = pg_any_to_server(answer->body, answer->body_size, PG_UTF8);
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return text;
}

/* Reading JSON is a function without effects: nothing is left behind where it fails. */
static Jsonb *
parse_json(char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb *volatile json = NULL;

	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		int code;

		MemoryContextSwitchTo(caller);
		code = geterrcode();
		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(code) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return json;
}

static JsonbValue *
step(JsonbContainer *container, const char *part)
{
	char *end;
	long index;

	if (JsonContainerIsObject(container))
	{
		JsonbValue *value = palloc(sizeof(JsonbValue));

		return getKeyJsonValueFromContainer(container, part, strlen(part), value);
	}
	index = strtol(part, &end, 10);
	if (*part == '\0' || *end != '\0' || index < 0 || index > PG_INT32_MAX)
		return NULL;
	return getIthJsonbValueFromContainer(container, (uint32) index);
}

/* What the pointer leads to, or NULL. */
static JsonbValue *
follow(Jsonb *json, List *pointer)
{
	JsonbValue *value = palloc(sizeof(JsonbValue));
	ListCell *cell;

	if (JB_ROOT_IS_SCALAR(json))
		return JsonbExtractScalar(&json->root, value) && pointer == NIL ? value : NULL;
	value->type = jbvBinary;
	value->val.binary.data = &json->root;
	value->val.binary.len = VARSIZE(json) - VARHDRSZ;
	foreach(cell, pointer)
	{
		if (value == NULL || value->type != jbvBinary)
			return NULL;
		value = step(value->val.binary.data, lfirst(cell));
	}
	return value;
}

static int
fill_outputs(JsonbContainer *array, Jsonb **outputs, int count)
{
	JsonbIterator *iterator = JsonbIteratorInit(array);
	JsonbValue value;
	JsonbIteratorToken token;
	int filled = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skip_nested */)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (filled < count)
			outputs[filled] = JsonbValueToJsonb(&value);
		filled++;
	}
	return filled;
}

static const char *
count_problem(int found, int expected)
{
	return psprintf("has %d predictions for %d inputs", found, expected);
}

/* Returns what is wrong with the answer, or NULL. */
static const char *
read_json(const HttpModel *model, char *text, Jsonb **outputs, int count)
{
	Jsonb *json = parse_json(text);
	JsonbValue *value;
	int found;

	if (json == NULL)
		return "is no JSON";
	value = follow(json, model->pointer);
	if (value == NULL)
		return "has nothing where the predictions should be";
	if (model->one_by_one)
	{
		outputs[0] = JsonbValueToJsonb(value);
		return NULL;
	}
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return "has no array where the predictions should be";
	found = fill_outputs(value->val.binary.data, outputs, count);
	return found == count ? NULL : count_problem(found, count);
}

/* --- CSV ------------------------------------------------------------------------------------ */

/* A number where it is one, or a string. */
static Jsonb *
make_cell(const char *cell)
{
	StringInfoData quoted;
	size_t plain = strspn(cell, "0123456789+-.eE");

	if (*cell != '\0' && cell[plain] == '\0')
	{
		Jsonb *number = parse_json(psprintf("%s", cell[0] == '+' ? cell + 1 : cell));

		if (number != NULL)
			return number;
	}
	initStringInfo(&quoted);
	escape_json(&quoted, cell);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(quoted.data)));
}

static List *
split(char *text, const char *delimiters)
{
	List *parts = NIL;
	char *rest = NULL;

	for (char *part = strtok_r(text, delimiters, &rest); part != NULL;
		 part = strtok_r(NULL, delimiters, &rest))
	{
		if (part[strspn(part, " \t\"")] != '\0')
			parts = lappend(parts, part);
	}
	return parts;
}

static char *
trim(char *cell)
{
	size_t length;

	cell += strspn(cell, " \t\"");
	length = strlen(cell);
	while (length > 0 && strchr(" \t\"", cell[length - 1]) != NULL)
		cell[--length] = '\0';
	return cell;
}

/* A row of several cells is an array. */
static Jsonb *
make_row(List *cells)
{
	JsonbParseState *state = NULL;
	ListCell *cell;

	if (list_length(cells) == 1)
		return make_cell(trim(linitial(cells)));
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, cells)
	{
		JsonbValue value;

		(void) JsonbExtractScalar(&make_cell(trim(lfirst(cell)))->root, &value);
		pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/* A line per input; some algorithms write all of them into one. */
static const char *
read_csv(char *text, Jsonb **outputs, int count)
{
	List *rows = split(text, "\r\n");

	if (list_length(rows) == 1 && count > 1)
		rows = split(linitial(rows), ",");
	if (list_length(rows) != count)
		return count_problem(list_length(rows), count);
	for (int i = 0; i < count; i++)
		outputs[i] = make_row(split(list_nth(rows, i), ","));
	return NULL;
}

/* --- both ----------------------------------------------------------------------------------- */

static bool
is_csv(const HttpAnswer *answer)
{
	return pg_strncasecmp(answer->content_type, "text/csv", strlen("text/csv")) == 0;
}

void
http_answer_read(const HttpModel *model, const HttpCredentials *credentials,
				 const HttpAnswer *answer, Jsonb **outputs, int count)
{
	const char *problem;
	char *text;

	if (answer->outcome != HTTP_ANSWERED)
		raise_no_answer(model, credentials, answer);
	if (answer->status < 200 || answer->status > 299)
		raise_status(model, credentials, answer);
	text = to_server(answer);
	if (text == NULL)
		problem = "has bytes that are no characters";
	else if (is_csv(answer) && !model->one_by_one)
		problem = read_csv(pstrdup(text), outputs, count);
	else
		problem = read_json(model, text, outputs, count);
	if (problem != NULL)
		raise_unusable(model, credentials, answer, problem);
}
