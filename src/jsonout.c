/*
 * jsonout.c
 *		JSON out.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "jsonout.h"
#include "money.h"

void
om_json_open_object(OmJson *json)
{
	pushJsonbValue(&json->state, WJB_BEGIN_OBJECT, NULL);
}

void
om_json_close_object(OmJson *json)
{
	json->last = pushJsonbValue(&json->state, WJB_END_OBJECT, NULL);
}

void
om_json_open_array(OmJson *json)
{
	pushJsonbValue(&json->state, WJB_BEGIN_ARRAY, NULL);
}

void
om_json_close_array(OmJson *json)
{
	json->last = pushJsonbValue(&json->state, WJB_END_ARRAY, NULL);
}

void
om_json_key(OmJson *json, const char *key)
{
	JsonbValue value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(&json->state, WJB_KEY, &value);
}

static void
push_value(OmJson *json, JsonbValue *value)
{
	/* The innermost open container is what state points at. */
	bool in_object = json->state->contVal.type == jbvObject;

	pushJsonbValue(&json->state, in_object ? WJB_VALUE : WJB_ELEM, value);
}

void
om_json_string(OmJson *json, const char *string)
{
	JsonbValue value;

	if (string == NULL)
		value.type = jbvNull;
	else
	{
		value.type = jbvString;
		value.val.string.val = unconstify(char *, string);
		value.val.string.len = strlen(string);
	}
	push_value(json, &value);
}

void
om_json_int(OmJson *json, int64 number)
{
	JsonbValue value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	push_value(json, &value);
}

void
om_json_bool(OmJson *json, bool boolean)
{
	JsonbValue value;

	value.type = jbvBool;
	value.val.boolean = boolean;
	push_value(json, &value);
}

void
om_json_jsonb(OmJson *json, Jsonb *jsonb)
{
	JsonbValue value;

	if (jsonb == NULL)
		value.type = jbvNull;
	else
		JsonbToJsonbValue(jsonb, &value);
	push_value(json, &value);
}

void
om_json_money(OmJson *json, int64 minor)
{
	om_json_string(json, om_money_to_string(minor));
}

void
om_json_time(OmJson *json, TimestampTz at)
{
	struct pg_tm tm;
	fsec_t fsec;
	char buffer[MAXDATELEN + 1];
	int utc = 0;

	if (TIMESTAMP_NOT_FINITE(at) || timestamp2tm(at, NULL, &tm, &fsec, NULL, NULL) != 0)
	{
		om_json_string(json, NULL);
		return;
	}
	tm.tm_isdst = 0; /* the zone is known, and is UTC */
	EncodeDateTime(&tm, fsec, true, utc, NULL, USE_XSD_DATES, buffer);
	om_json_string(json, pstrdup(buffer));
}

Datum
om_json_empty(void)
{
	static Jsonb empty = {.root = {.header = JB_FOBJECT}};

	SET_VARSIZE(&empty, sizeof(empty));
	return JsonbPGetDatum(&empty);
}

Jsonb *
om_json_result(OmJson *json)
{
	return JsonbValueToJsonb(json->last);
}

int
om_errdetail(const char *key, const char *value)
{
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoChar(&detail, '{');
	escape_json(&detail, key);
	appendStringInfoString(&detail, ": ");
	escape_json(&detail, value);
	appendStringInfoChar(&detail, '}');
	return errdetail_internal("%s", detail.data);
}

static JsonbValue *
find_member(Jsonb *object, const char *key, JsonbValue *buffer)
{
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), buffer);
}

char *
om_json_get_string(Jsonb *object, const char *key)
{
	JsonbValue buffer;
	JsonbValue *value = find_member(object, key, &buffer);

	return value == NULL || value->type != jbvString
			 ? NULL
			 : pnstrdup(value->val.string.val, value->val.string.len);
}

int64
om_json_get_int(Jsonb *object, const char *key)
{
	JsonbValue buffer;
	JsonbValue *value = find_member(object, key, &buffer);

	return value == NULL || value->type != jbvNumeric
			 ? 0
			 : DatumGetInt64(
				   DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}
