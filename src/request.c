/*
 * request.c
 *		Validates requests.
 *
 * Nothing here raises an error for bad input: capture_orders() refuses one
 * element and goes on with the next, so a problem is a value until somebody
 * raises it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "errors.h"
#include "jsonout.h"
#include "money.h"
#include "names.h"
#include "request.h"

typedef enum RequestField
{
	FIELD_CUSTOMER_ID,
	FIELD_LINES,
	FIELD_IDEMPOTENCY_KEY,
	FIELD_ORDER_REF,
	FIELD_METADATA,
	FIELD_EXPECTED_TOTAL,
	NFIELDS
} RequestField;

static const char *const request_fields[NFIELDS] = {"customer_id", "lines",    "idempotency_key",
													"order_ref",   "metadata", "expected_total"};

typedef enum LineField
{
	LINE_PRODUCT_ID,
	LINE_QUANTITY,
	LINE_UNIT_PRICE,
	NLINE_FIELDS
} LineField;

static const char *const line_fields[NLINE_FIELDS] = {"product_id", "quantity", "unit_price"};

void
om_problem_set(OmProblem *problem, int sqlstate, char *path, const char *fmt, ...)
{
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&message, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	problem->sqlstate = sqlstate;
	problem->path = path;
	problem->message = message.data;
}

void
om_problem_raise(const OmProblem *problem)
{
	ereport(ERROR,
			(errcode(problem->sqlstate), errmsg_internal("%s", problem->message),
			 om_errdetail("path", problem->path),
			 problem->sqlstate == ERRCODE_OM_KEY_REUSED
				 ? errhint("Use a new key for a new request; send the same request to repeat "
						   "the first one.")
				 : errhint("Correct the part of the request that the path names.")));
}

/* Where in a request something stands; spelled out only when that is wrong. */
typedef struct FieldPath
{
	int line; /* -1: not in a line */
	const char *field;
} FieldPath;

static char *
path_text(FieldPath path)
{
	return path.line < 0 ? pstrdup(path.field) : psprintf("lines[%d].%s", path.line, path.field);
}

static FieldPath
path_of(const char *field)
{
	return (FieldPath){-1, field};
}

static bool
check_id(FieldPath path, const char *value, int max_chars, OmProblem *problem)
{
	char *name;

	if (value != NULL && *value != '\0' && pg_mbstrlen(value) <= max_chars)
		return true;
	name = path_text(path);
	if (value == NULL || *value == '\0')
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is missing", name);
	else
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is longer than %d characters", name,
					   max_chars);
	return false;
}

bool
om_request_check_id(const char *name, const char *value, int max_chars, OmProblem *problem)
{
	return check_id(path_of(name), value, max_chars, problem);
}

/* Like om_request_check_id(), for what may be left out. */
static bool
check_optional(const char *name, const char *value, OmProblem *problem)
{
	return value == NULL || om_request_check_id(name, value, OM_REF_MAX_CHARS, problem);
}

static bool
check_money(Numeric value, FieldPath path, int64 *minor, OmProblem *problem)
{
	OmMoneyResult result = om_money_from_numeric(value, minor);
	char *name;

	if (result == OM_MONEY_OK && *minor >= 0)
		return true;
	name = path_text(path);
	if (result == OM_MONEY_TOO_PRECISE)
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s has more than four decimals", name);
	else if (result == OM_MONEY_TOO_LARGE)
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is out of range", name);
	else
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is negative", name);
	return false;
}

/* An amount in JSON is a number, or a string as we write it ourselves. */
static bool
is_plain_number(const char *text)
{
	const char *digits = text + strspn(text, "-");
	size_t whole = strspn(digits, "0123456789");
	size_t fraction = digits[whole] == '.' ? strspn(digits + whole + 1, "0123456789") : 0;
	size_t length = whole + (fraction > 0 ? fraction + 1 : 0);

	return whole > 0 && whole < 100 && fraction < 100 && digits - text <= 1 &&
		   digits[length] == '\0';
}

static bool
parse_money(const JsonbValue *value, FieldPath path, int64 *minor, OmProblem *problem)
{
	char *name;

	if (value->type == jbvNumeric)
		return check_money(value->val.numeric, path, minor, problem);
	if (value->type == jbvString)
	{
		char *string = pnstrdup(value->val.string.val, value->val.string.len);

		if (is_plain_number(string))
			return check_money(DatumGetNumeric(DirectFunctionCall3(
								   numeric_in, CStringGetDatum(string),
								   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))),
							   path, minor, problem);
	}
	name = path_text(path);
	om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is not an amount", name);
	return false;
}

static bool
parse_quantity(const JsonbValue *value, FieldPath path, int32 *quantity, OmProblem *problem)
{
	int64 units = 0;
	char *name;

	if (value->type != jbvNumeric)
	{
		name = path_text(path);
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is not a number", name);
		return false;
	}
	if (om_money_from_numeric(value->val.numeric, &units) != OM_MONEY_OK || units % 10000 != 0 ||
		units / 10000 <= 0 || units / 10000 > PG_INT32_MAX)
	{
		name = path_text(path);
		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is not a whole number from 1 to %d",
					   name, PG_INT32_MAX);
		return false;
	}
	*quantity = (int32) (units / 10000);
	return true;
}

/*
 * Spreads the members of an object over an array in the order of names; a
 * member that is JSON null counts as left out.
 */
static bool
collect_members(JsonbContainer *object, const char *const *names, int nnames, int line,
				JsonbValue *values, bool *present, OmProblem *problem)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue key;
	JsonbValue value;
	JsonbIteratorToken token;

	memset(present, 0, sizeof(bool) * nnames);
	while ((token = JsonbIteratorNext(&iterator, &key, true /* skipNested */)) != WJB_DONE)
	{
		int position;

		if (token != WJB_KEY)
			continue;
		JsonbIteratorNext(&iterator, &value, true /* skipNested */);
		position = om_names_find(names, nnames, key.val.string.val, key.val.string.len);
		if (position < 0)
		{
			char *name = pnstrdup(key.val.string.val, key.val.string.len);

			om_problem_set(problem, ERRCODE_OM_INVALID, path_text((FieldPath){line, name}),
						   "\"%s\" is not a known key", name);
			return false;
		}
		values[position] = value;
		present[position] = value.type != jbvNull;
	}
	return true;
}

static bool
is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* The string value of a member; false with a problem when it is something else. */
static bool
get_string(const JsonbValue *value, bool present, FieldPath path, char **string, OmProblem *problem)
{
	*string = NULL;
	if (!present)
		return true;
	if (value->type != jbvString)
	{
		char *name = path_text(path);

		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is not a string", name);
		return false;
	}
	*string = pnstrdup(value->val.string.val, value->val.string.len);
	return true;
}

static bool
parse_line(const JsonbValue *element, int index, OmRequestLine *line, OmProblem *problem)
{
	FieldPath paths[NLINE_FIELDS];
	JsonbValue values[NLINE_FIELDS];
	bool present[NLINE_FIELDS];

	if (!is_object(element))
	{
		char *name = psprintf("lines[%d]", index);

		om_problem_set(problem, ERRCODE_OM_INVALID, name, "%s is not an object", name);
		return false;
	}
	if (!collect_members(element->val.binary.data, line_fields, NLINE_FIELDS, index, values,
						 present, problem))
		return false;
	for (int i = 0; i < NLINE_FIELDS; i++)
		paths[i] = (FieldPath){index, line_fields[i]};
	if (!get_string(&values[LINE_PRODUCT_ID], present[LINE_PRODUCT_ID], paths[LINE_PRODUCT_ID],
					&line->product_id, problem) ||
		!check_id(paths[LINE_PRODUCT_ID], line->product_id, OM_ID_MAX_CHARS, problem))
		return false;
	if (!present[LINE_QUANTITY])
		return check_id(paths[LINE_QUANTITY], NULL, 0, problem);
	if (!parse_quantity(&values[LINE_QUANTITY], paths[LINE_QUANTITY], &line->quantity, problem))
		return false;
	line->has_price = present[LINE_UNIT_PRICE];
	return !line->has_price || parse_money(&values[LINE_UNIT_PRICE], paths[LINE_UNIT_PRICE],
										   &line->unit_price, problem);
}

static bool
parse_lines(OmRequest *request, JsonbContainer *lines, OmProblem *problem)
{
	if (lines == NULL || !JsonContainerIsArray(lines) || JsonContainerIsScalar(lines))
	{
		om_problem_set(problem, ERRCODE_OM_INVALID, pstrdup("lines"),
					   "lines is not an array of order lines");
		return false;
	}
	request->nlines = JsonContainerSize(lines);
	if (request->nlines == 0)
	{
		om_problem_set(problem, ERRCODE_OM_INVALID, pstrdup("lines"), "the order has no lines");
		return false;
	}
	request->lines = palloc0(sizeof(OmRequestLine) * request->nlines);
	for (int i = 0; i < request->nlines; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(lines, i);

		if (!parse_line(element, i, &request->lines[i], problem))
			return false;
	}
	return true;
}

/* What both forms of a request have in common, once taken apart. */
static bool
check_request(OmRequest *request, JsonbContainer *metadata, OmProblem *problem)
{
	if (!om_request_check_id("customer_id", request->customer_id, OM_ID_MAX_CHARS, problem) ||
		!check_optional("idempotency_key", request->idempotency_key, problem) ||
		!check_optional("order_ref", request->order_ref, problem))
		return false;
	if (metadata != NULL && !JsonContainerIsObject(metadata))
	{
		om_problem_set(problem, ERRCODE_OM_INVALID, pstrdup("metadata"),
					   "metadata is not an object");
		return false;
	}
	return true;
}

static Jsonb *
container_to_jsonb(JsonbContainer *container, int length)
{
	JsonbValue value;

	value.type = jbvBinary;
	value.val.binary.data = container;
	value.val.binary.len = length;
	return JsonbValueToJsonb(&value);
}

static char *
container_text(JsonbContainer *container)
{
	return JsonbToCString(NULL, container, 0);
}

static char *
copy_string(const char *string)
{
	return string == NULL ? NULL : pstrdup(string);
}

bool
om_request_from_parts(OmRequest *request, const char *customer_id, Jsonb *lines,
					  const char *idempotency_key, const char *order_ref, Jsonb *metadata,
					  Numeric expected_total, OmProblem *problem)
{
	memset(request, 0, sizeof(*request));
	request->customer_id = copy_string(customer_id);
	request->idempotency_key = copy_string(idempotency_key);
	request->order_ref = copy_string(order_ref);
	request->metadata = metadata == NULL ? DatumGetJsonbP(om_json_empty()) : metadata;
	request->has_expected_total = expected_total != NULL;
	if (!check_request(request, metadata == NULL ? NULL : &metadata->root, problem) ||
		!parse_lines(request, lines == NULL ? NULL : &lines->root, problem))
		return false;
	if (expected_total != NULL &&
		!check_money(expected_total, path_of("expected_total"), &request->expected_total, problem))
		return false;
	if (idempotency_key != NULL)
		request->lines_text = container_text(&lines->root);
	return true;
}

bool
om_request_from_json(OmRequest *request, JsonbValue *element, OmProblem *problem)
{
	JsonbValue values[NFIELDS];
	bool present[NFIELDS];
	JsonbValue *lines = &values[FIELD_LINES];
	JsonbValue *metadata = &values[FIELD_METADATA];

	memset(request, 0, sizeof(*request));
	if (!is_object(element))
	{
		om_problem_set(problem, ERRCODE_OM_INVALID, pstrdup(""), "the order is not an object");
		return false;
	}
	if (!collect_members(element->val.binary.data, request_fields, NFIELDS, -1, values, present,
						 problem) ||
		!get_string(&values[FIELD_CUSTOMER_ID], present[FIELD_CUSTOMER_ID], path_of("customer_id"),
					&request->customer_id, problem) ||
		!get_string(&values[FIELD_IDEMPOTENCY_KEY], present[FIELD_IDEMPOTENCY_KEY],
					path_of("idempotency_key"), &request->idempotency_key, problem) ||
		!get_string(&values[FIELD_ORDER_REF], present[FIELD_ORDER_REF], path_of("order_ref"),
					&request->order_ref, problem))
		return false;
	if (present[FIELD_METADATA] && !is_object(metadata))
	{
		om_problem_set(problem, ERRCODE_OM_INVALID, pstrdup("metadata"),
					   "metadata is not an object");
		return false;
	}
	request->metadata = present[FIELD_METADATA]
						  ? container_to_jsonb(metadata->val.binary.data, metadata->val.binary.len)
						  : DatumGetJsonbP(om_json_empty());
	if (!check_request(request, NULL, problem) ||
		!parse_lines(request,
					 present[FIELD_LINES] && lines->type == jbvBinary ? lines->val.binary.data
																	  : NULL,
					 problem))
		return false;
	request->has_expected_total = present[FIELD_EXPECTED_TOTAL];
	if (request->has_expected_total &&
		!parse_money(&values[FIELD_EXPECTED_TOTAL], path_of("expected_total"),
					 &request->expected_total, problem))
		return false;
	if (request->idempotency_key != NULL)
		request->lines_text = container_text(lines->val.binary.data);
	return true;
}
