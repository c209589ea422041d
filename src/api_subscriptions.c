/*
 * api_subscriptions.c
 *		Subscribing functions in the database to the log.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "api_arguments.h"
#include "errors.h"
#include "handlerseats.h"
#include "jsonout.h"
#include "registry.h"
#include "signatures.h"
#include "wakeup.h"

/* The worker connects as the role. */
static void
require_login(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	ReleaseSysCache(tuple);
	if (!may_login)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("role \"%s\" may not log in, so no worker can run its handlers",
							   GetUserNameFromId(GetUserId(), false)),
						om_errdetail("role", GetUserNameFromId(GetUserId(), false)),
						errhint("Subscribe as a role with LOGIN, or ALTER ROLE ... LOGIN.")));
}

/* subscribe(name, handler, event_types, max_attempts, start_at) → boolean */
OM_FUNCTION(om_subscribe)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");
	char *text = om_arg_required_text(fcinfo, 1, "handler");
	ArrayType *event_types = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2);
	int64 max_attempts = PG_ARGISNULL(3) ? OM_DEFAULT_MAX_ATTEMPTS : PG_GETARG_INT64(3);
	TimestampTz start_at = PG_ARGISNULL(4) ? 0 : PG_GETARG_TIMESTAMPTZ(4);
	char *handler;
	bool made;

	if (max_attempts < 1)
		om_arg_raise("max_attempts", "is not positive");
	om_api_begin_write("subscribe()");
	require_login();
	(void) om_signature_require(text, &handler);
	made = om_registry_add(name, OM_KIND_HANDLER, handler, event_types, max_attempts,
						   PG_ARGISNULL(4) ? NULL : &start_at);
	om_wakeup_handlers_at_commit();
	PG_RETURN_BOOL(made);
}

/*
 * unsubscribe(name) → boolean
 *
 * A batch under way is rolled back, for its worker holds the consumer's lock.
 * If that is for nothing, because this transaction fails, it is done again.
 */
OM_FUNCTION(om_unsubscribe)
{
	char *name = om_arg_required_text(fcinfo, 0, "name");

	om_api_begin_write("unsubscribe()");
	om_registry_require_owner(om_registry_require(name, OM_KIND_HANDLER));
	om_handlerseat_end(name);
	om_registry_drop(name, OM_KIND_HANDLER);
	om_wakeup_handlers_at_commit();
	PG_RETURN_BOOL(true);
}
