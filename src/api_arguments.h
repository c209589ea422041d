/*
 * api_arguments.h
 *		SQL arguments of the functions in api_*.c, checked.
 */
#ifndef OM_API_ARGUMENTS_H
#define OM_API_ARGUMENTS_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "compat.h"

/* Declares a function for SQL; hidden visibility asks for its own declaration. */
#define OM_FUNCTION(name)                     \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	PG_FUNCTION_INFO_V1(name);                \
	Datum name(PG_FUNCTION_ARGS pg_attribute_unused())

/* NULL stands for an argument that is. */
extern char *om_arg_text(FunctionCallInfo fcinfo, int n);
extern Jsonb *om_arg_jsonb(FunctionCallInfo fcinfo, int n);

/* An argument that must not be NULL (OM001, naming it). */
extern pg_uuid_t *om_arg_uuid(FunctionCallInfo fcinfo, int n, const char *name);
extern char *om_arg_id(FunctionCallInfo fcinfo, int n, const char *name);
extern void om_arg_require(FunctionCallInfo fcinfo, int n, const char *name);
extern char *om_arg_required_text(FunctionCallInfo fcinfo, int n, const char *name);

/* A JSON object, or NULL. */
extern Jsonb *om_arg_object(FunctionCallInfo fcinfo, int n, const char *name);

/* Number of rows of a page, 1 to 10,000. */
extern int64 om_arg_page_size(FunctionCallInfo fcinfo, int n);

/* An interval as milliseconds, not negative. */
extern int64 om_arg_milliseconds(FunctionCallInfo fcinfo, int n, const char *name);

/* An amount in minor units; it must be there. */
extern int64 om_arg_money(FunctionCallInfo fcinfo, int n, const char *name);

/* What follows this prefix of a source, or NULL. */
extern const char *om_arg_behind(const char *source, const char *prefix);

/* What follows lo: in a source; OM001 about source where it is no OID. */
extern Oid om_arg_large_object_id(const char *text);

/* 42501 unless the caller may read files of the server; what for is a verb. */
extern void om_arg_require_server_files(const char *what_for);

/* What follows upload: in a source; OM001 about source where it is no UUID. */
extern pg_uuid_t *om_arg_upload_id(const char *text);

/* An idempotency key, or NULL. */
extern char *om_arg_key(FunctionCallInfo fcinfo, int n);

/* Set up, and not read-only or in recovery; the name is the function's. */
extern void om_api_begin_write(const char *function);

/* An OM001 about one argument. */
extern void om_arg_raise(const char *name, const char *message) OM_NORETURN;

#endif /* OM_API_ARGUMENTS_H */
