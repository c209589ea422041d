/*
 * api_requests.c
 *		Predictions by models outside, after the commit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "api_arguments.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "plans.h"
#include "predictionrequests.h"
#include "relations.h"
#include "shared.h"

static void
require_workers(void)
{
	if (om_shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("request_prediction() needs a worker, and there are none"),
						om_errdetail("setting", "shared_preload_libraries"),
						errhint("Add order_mgmt to shared_preload_libraries and restart.")));
}

/* request_prediction(model, inputs) → bigint */
OM_FUNCTION(om_request_prediction)
{
	char *model = om_arg_required_text(fcinfo, 0, "model");
	Jsonb *inputs = om_arg_jsonb(fcinfo, 1);

	om_arg_require(fcinfo, 1, "inputs");
	if (!JB_ROOT_IS_ARRAY(inputs) || JB_ROOT_IS_SCALAR(inputs))
		om_arg_raise("inputs", "is not a JSON array");
	if (JB_ROOT_COUNT(inputs) < 1 || JB_ROOT_COUNT(inputs) > OM_PREDICTIONREQUEST_MAX_INPUTS)
		om_arg_raise("inputs",
					 psprintf("does not have 1 to %d elements", OM_PREDICTIONREQUEST_MAX_INPUTS));
	om_api_begin_write("request_prediction()");
	require_workers();
	PG_RETURN_INT64(om_predictionrequest_add(model, inputs));
}

static OmQuery answer_query = {
	.sql = "SELECT CASE WHEN answered_at IS NULL THEN 'waiting' WHEN error_code IS NULL"
		   " THEN 'answered' ELSE 'failed' END, outputs, error_code, error, attempts::bigint,"
		   " requested_at, answered_at FROM order_mgmt.prediction_requests"
		   " WHERE request_id = $1 AND requested_by = $2",
	.nargs = 2,
	.types = {INT8OID, TEXTOID}};

/* prediction_answer(request_id) → (status, outputs, error_code, error, attempts, requested_at, answered_at) */
OM_FUNCTION(om_prediction_answer)
{
	Datum args[2];

	om_arg_require(fcinfo, 0, "request_id");
	(void) om_installation_get();
	(void) om_relation_get("prediction_requests");
	args[0] = Int64GetDatum(PG_GETARG_INT64(0));
	args[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	return om_query_return_set(fcinfo, &answer_query, args, NULL);
}
