/*
 * jsonout.h
 *		Builds the small JSON objects that go with events and answers.
 */
#ifndef OM_JSONOUT_H
#define OM_JSONOUT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct OmJson
{
	JsonbParseState *state;
	JsonbValue *last;
} OmJson;

extern void om_json_open_object(OmJson *json);
extern void om_json_close_object(OmJson *json);
extern void om_json_open_array(OmJson *json);
extern void om_json_close_array(OmJson *json);
extern void om_json_key(OmJson *json, const char *key);

/* A value by itself, for arrays or after om_json_key(); NULL is JSON null. */
extern void om_json_string(OmJson *json, const char *value);
extern void om_json_int(OmJson *json, int64 value);
extern void om_json_bool(OmJson *json, bool value);
extern void om_json_jsonb(OmJson *json, Jsonb *value);

/* Money is a string with four decimals, so that no reader rounds it. */
extern void om_json_money(OmJson *json, int64 minor);

/* ISO 8601 in UTC, whatever the session's TimeZone. */
extern void om_json_time(OmJson *json, TimestampTz at);

/* An empty object. */
extern Datum om_json_empty(void);

/* What was closed last. */
extern Jsonb *om_json_result(OmJson *json);

/* The DETAIL of an error, {key: value}, for use in ereport(). */
extern int om_errdetail(const char *key, const char *value);

/* The text of a string member; NULL where there is none. */
extern char *om_json_get_string(Jsonb *object, const char *key);

/* The value of an integer member; 0 where there is none. */
extern int64 om_json_get_int(Jsonb *object, const char *key);

#endif /* OM_JSONOUT_H */
