/*
 * api_setup.c
 *		Set-up, versions, maintenance.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "maintenance.h"
#include "plans.h"
#include "schema.h"
#include "upkeep.h"
#include "utility_hook.h"
#include "wakeup.h"

/* setup() → boolean */
OM_FUNCTION(om_setup)
{
	bool created;

	PreventCommandIfReadOnly("setup()");
	if (om_installation_exists() && !om_schema_is_complete())
		om_quiesce_here();
	created = om_schema_create();
	om_wakeup_knock_at_commit(MyDatabaseId);
	PG_RETURN_BOOL(created);
}

/* migrate() → boolean */
OM_FUNCTION(om_migrate)
{
	bool migrated;

	PreventCommandIfReadOnly("migrate()");
	if (om_installation_version() < OM_SCHEMA_VERSION)
		om_quiesce_here();
	migrated = om_schema_migrate();
	if (migrated)
		om_wakeup_knock_at_commit(MyDatabaseId);
	PG_RETURN_BOOL(migrated);
}

/* post_restore() → boolean */
OM_FUNCTION(om_post_restore)
{
	bool resumed = om_installation_resume();

	om_wakeup_knock_at_commit(MyDatabaseId);
	PG_RETURN_BOOL(resumed);
}

/* teardown(confirm text) → boolean */
OM_FUNCTION(om_teardown)
{
	char *confirm = om_arg_text(fcinfo, 0);

	if (confirm == NULL || strcmp(confirm, "drop all order data") != 0)
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("teardown() is not confirmed"),
						om_errdetail("path", "confirm"),
						errhint("SELECT order_mgmt.teardown('drop all order data') drops all "
								"orders, accounts and stock.")));
	om_quiesce_here();
	om_schema_drop();
	om_wakeup_knock_at_commit(MyDatabaseId);
	PG_RETURN_BOOL(true);
}

static OmQuery extension_query = {
	.sql = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'order_mgmt'"};

/* version() → (library, extension, schema) */
OM_FUNCTION(om_version)
{
	TupleDesc desc;
	Datum values[3];
	bool isnull[3] = {false};
	OmQueryScope scope;
	bool has_extension;
	char *extension = NULL;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	om_query_begin(&scope);
	has_extension = om_query_read(&extension_query, NULL, NULL) > 0;
	if (has_extension)
		extension = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (extension != NULL)
		extension = strcpy(SPI_palloc(strlen(extension) + 1), extension);
	om_query_end(&scope);
	values[0] = CStringGetTextDatum(OM_VERSION);
	isnull[1] = extension == NULL;
	values[1] = isnull[1] ? (Datum) 0 : CStringGetTextDatum(extension);
	isnull[2] = !om_installation_exists();
	values[2] =
		isnull[2] ? (Datum) 0 : CStringGetTextDatum(psprintf("%d", om_installation_version()));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}

/* run_maintenance() → (action, object) */
OM_FUNCTION(om_run_maintenance)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell *cell;

	(void) om_installation_get();
	PreventCommandIfReadOnly("run_maintenance()");
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, om_maintenance_run())
	{
		OmUpkeepAction *action = lfirst(cell);
		Datum values[2] = {CStringGetTextDatum(action->action),
						   CStringGetTextDatum(action->object)};
		bool isnull[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
