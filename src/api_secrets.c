/*
 * api_secrets.c
 *		Secrets of models that call others.
 *
 * An error would have the server log the statement, and the secret with it; so
 * whatever is raised here asks it not to.
 */
#include "postgres.h"

#include "api_arguments.h"
#include "errors.h"
#include "relations.h"
#include "request.h"
#include "secrets.h"

static void
raise_invalid(const char *name, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("%s: %s", name, problem),
					errdetail_internal("{\"path\": \"%s\"}", name), errhint("%s", hint)));
}

static char *
arg_name(FunctionCallInfo fcinfo)
{
	char *name = om_arg_text(fcinfo, 0);

	if (name == NULL || name[0] == '\0' || strlen(name) > OM_ID_MAX_CHARS)
		raise_invalid("name", "it has not 1 to 64 characters", "Give the secret a short name.");
	return name;
}

static bool
set_secret(FunctionCallInfo fcinfo)
{
	char *name = arg_name(fcinfo);
	Jsonb *value = om_arg_jsonb(fcinfo, 1);
	const char *fault = value == NULL ? "it is NULL" : om_secret_find_fault(value);

	if (fault != NULL)
		raise_invalid("value", fault,
					  "Write {\"access_key_id\", \"secret_access_key\", \"session_token\"}, "
					  "{\"bearer\"} or {\"headers\": {}}.");
	om_api_begin_write("set_model_secret()");
	(void) om_relation_get("model_secrets");
	return om_secret_set(name, value);
}

/* Parameters of a prepared statement would be in the context. */
static OM_NORETURN void
rethrow_hidden(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->hide_stmt = true;
	error->hide_ctx = true;
	ReThrowError(error);
}

/* set_model_secret(name, value) → boolean */
OM_FUNCTION(om_set_model_secret)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool is_new = false;

	PG_TRY();
	{
		is_new = set_secret(fcinfo);
	}
	PG_CATCH();
	{
		rethrow_hidden(caller);
	}
	PG_END_TRY();
	PG_RETURN_BOOL(is_new);
}

/* drop_model_secret(name) → boolean */
OM_FUNCTION(om_drop_model_secret)
{
	char *name = arg_name(fcinfo);

	om_api_begin_write("drop_model_secret()");
	(void) om_relation_get("model_secrets");
	PG_RETURN_BOOL(om_secret_drop(name));
}
