/*
 * api_arguments.c
 *		Checks of arguments.
 *
 * Our functions are not STRICT: a NULL where a value is needed is an error
 * with a name, never a silent nothing.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "api_arguments.h"
#include "errors.h"
#include "installation.h"
#include "money.h"
#include "request.h"

#define MAX_PAGE_SIZE 10000
#define UUID_TEXT_SIZE 36

void
om_arg_raise(const char *name, const char *message)
{
	OmProblem problem;

	om_problem_set(&problem, ERRCODE_OM_INVALID, pstrdup(name), "%s %s", name, message);
	om_problem_raise(&problem);
}

void
om_arg_require(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		om_arg_raise(name, "is missing");
}

char *
om_arg_required_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	om_arg_require(fcinfo, n, name);
	return om_arg_text(fcinfo, n);
}

char *
om_arg_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

Jsonb *
om_arg_jsonb(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_JSONB_P(n);
}

pg_uuid_t *
om_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name)
{
	om_arg_require(fcinfo, n, name);
	return PG_GETARG_UUID_P(n);
}

char *
om_arg_id(FunctionCallInfo fcinfo, int n, const char *name)
{
	char *value = om_arg_text(fcinfo, n);
	OmProblem problem;

	if (!om_request_check_id(name, value, OM_ID_MAX_CHARS, &problem))
		om_problem_raise(&problem);
	return value;
}

/* Hexadecimal digits in groups of 8, 4, 4, 4 and 12. */
static bool
is_uuid(const char *text)
{
	if (strlen(text) != UUID_TEXT_SIZE)
		return false;
	for (int i = 0; i < UUID_TEXT_SIZE; i++)
	{
		bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (is_dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return true;
}

pg_uuid_t *
om_arg_upload_id(const char *text)
{
	if (!is_uuid(text))
		om_arg_raise("source", "names no upload: upload: must be followed by a UUID");
	return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

const char *
om_arg_behind(const char *source, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(source, prefix, length) == 0 ? source + length : NULL;
}

Oid
om_arg_large_object_id(const char *text)
{
	uint64 value = 0;
	char *end = NULL;

	if (isdigit((unsigned char) *text) && strlen(text) <= 10)
		value = strtoul(text, &end, 10);
	if (end == NULL || *end != '\0' || value == 0 || value > PG_UINT32_MAX)
		om_arg_raise("source", "names no large object: lo: must be followed by an OID");
	return (Oid) value;
}

void
om_arg_require_server_files(const char *what_for)
{
	if (has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("permission denied to %s a file of the server", what_for),
		 errdetail("Only roles with privileges of the role \"%s\" may read such files.",
				   "pg_read_server_files"),
		 errhint("Have the role granted, or send the file: stage it with COPY, or upload it.")));
}

int64
om_arg_money(FunctionCallInfo fcinfo, int n, const char *name)
{
	int64 minor = 0;

	om_arg_require(fcinfo, n, name);
	switch (om_money_from_numeric(PG_GETARG_NUMERIC(n), &minor))
	{
		case OM_MONEY_TOO_PRECISE:
			om_arg_raise(name, "has more than four decimals");
		case OM_MONEY_TOO_LARGE:
			om_arg_raise(name, "is out of range");
		case OM_MONEY_OK:
			break;
	}
	return minor;
}

char *
om_arg_key(FunctionCallInfo fcinfo, int n)
{
	char *value = om_arg_text(fcinfo, n);
	OmProblem problem;

	if (value != NULL && !om_request_check_id("idempotency_key", value, OM_REF_MAX_CHARS, &problem))
		om_problem_raise(&problem);
	return value;
}

void
om_api_begin_write(const char *function)
{
	(void) om_installation_get();
	PreventCommandIfReadOnly(function);
}

Jsonb *
om_arg_object(FunctionCallInfo fcinfo, int n, const char *name)
{
	Jsonb *value = om_arg_jsonb(fcinfo, n);

	if (value != NULL && !JB_ROOT_IS_OBJECT(value))
		om_arg_raise(name, "is not a JSON object");
	return value;
}

int64
om_arg_page_size(FunctionCallInfo fcinfo, int n)
{
	int64 page_size;

	om_arg_require(fcinfo, n, "page_size");
	page_size = PG_GETARG_INT64(n);
	if (page_size < 1 || page_size > MAX_PAGE_SIZE)
		om_arg_raise("page_size", "is not from 1 to 10000");
	return page_size;
}

int64
om_arg_milliseconds(FunctionCallInfo fcinfo, int n, const char *name)
{
	Interval *interval;
	double milliseconds;

	om_arg_require(fcinfo, n, name);
	interval = PG_GETARG_INTERVAL_P(n);
	milliseconds = interval->time / 1000.0 +
				   (interval->day + (double) interval->month * DAYS_PER_MONTH) * 86400000.0;
	if (milliseconds < 0 || milliseconds > 1e12)
		om_arg_raise(name, "is not an interval of 0 to 30 years");
	return (int64) milliseconds;
}
