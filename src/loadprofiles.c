/*
 * loadprofiles.c
 *		The rows of "load_profiles".
 *
 * A load keeps the options that it was given, those of a profile among them;
 * so a profile may change while loads run.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "errors.h"
#include "jsonout.h"
#include "loadprofiles.h"
#include "options.h"
#include "plans.h"

#define KEY "profile"

static OmQuery set_query = {
	.sql = "INSERT INTO order_mgmt.load_profiles AS p SELECT $1, $2, $3, t.now, t.now"
		   " FROM (SELECT pg_catalog.clock_timestamp() AS now) AS t ON CONFLICT (name)"
		   " DO UPDATE SET options = excluded.options, changed_by = excluded.changed_by,"
		   " updated_at = excluded.updated_at RETURNING p.created_at = p.updated_at",
	.nargs = 3,
	.types = {TEXTOID, JSONBOID, TEXTOID}};

static OmQuery drop_query = {
	.sql = "DELETE FROM order_mgmt.load_profiles WHERE name = $1", .nargs = 1, .types = {TEXTOID}};

/* What is given counts; of two that have columns, or defaults, each single one. */
#define MERGED(key)                                                                        \
	" || CASE WHEN pg_catalog.jsonb_typeof(p.options->'" key "') = 'object'"               \
	" AND pg_catalog.jsonb_typeof($2->'" key "') = 'object' THEN"                          \
	" pg_catalog.jsonb_build_object('" key "', (p.options->'" key "') || ($2->'" key "'))" \
	" ELSE '{}'::jsonb END"

static OmQuery apply_query = {.sql = "SELECT (p.options || ($2 - '" KEY "'))" MERGED("columns")
								  MERGED("defaults") " FROM order_mgmt.load_profiles AS p"
													 " WHERE p.name = $1",
							  .nargs = 2,
							  .types = {TEXTOID, JSONBOID}};

bool
om_load_profile_set(const char *name, Jsonb *options)
{
	Datum args[3] = {CStringGetTextDatum(name), JsonbPGetDatum(options),
					 CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))};

	return om_query_change_says(&set_query, args);
}

bool
om_load_profile_drop(const char *name)
{
	Datum arg = CStringGetTextDatum(name);

	return om_query_change(&drop_query, &arg) > 0;
}

static void
raise_not_found(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no load profile \"%s\"", name),
					om_errdetail("profile", name),
					errhint("SELECT name FROM order_mgmt.load_profiles lists them.")));
}

Jsonb *
om_load_profile_apply(Jsonb *options)
{
	MemoryContext caller = CurrentMemoryContext;
	char *name = om_option_string(options, KEY, "Write the name of a profile.");
	Datum args[2] = {(Datum) 0, JsonbPGetDatum(options)};
	OmQueryScope scope;
	bool isnull;

	if (name == NULL)
		return DatumGetJsonbP(
			DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(options), CStringGetTextDatum(KEY)));
	args[0] = CStringGetTextDatum(name);
	om_query_begin(&scope);
	if (om_query_run(&apply_query, args, NULL) == 0)
		raise_not_found(name);
	caller = MemoryContextSwitchTo(caller);
	options = DatumGetJsonbPCopy(om_result_get(0, 1, &isnull));
	MemoryContextSwitchTo(caller);
	om_query_end(&scope);
	return options;
}
