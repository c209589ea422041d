/*
 * api_capture.c
 *		Orders in: capture, preview, replace.
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "api_arguments.h"
#include "capture.h"
#include "checkers.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "lifecycle.h"
#include "money.h"
#include "ordercheck.h"
#include "orders.h"

static void
capture_or_raise(OmCapture *capture)
{
	om_capture_run(capture, 1, true /* all_or_nothing */);
	if (capture->problem.sqlstate != 0)
		om_problem_raise(&capture->problem);
}

/* capture_order(customer_id, lines, idempotency_key, order_ref, metadata, expected_total) → uuid */
OM_FUNCTION(om_capture_order)
{
	OmCapture *capture = palloc0(sizeof(OmCapture));
	Numeric expected_total = PG_ARGISNULL(5) ? NULL : PG_GETARG_NUMERIC(5);

	om_api_begin_write("capture_order()");
	if (om_request_from_parts(&capture->request, om_arg_text(fcinfo, 0), om_arg_jsonb(fcinfo, 1),
							  om_arg_text(fcinfo, 2), om_arg_text(fcinfo, 3),
							  om_arg_jsonb(fcinfo, 4), expected_total, &capture->problem))
		capture_or_raise(capture);
	else
		om_problem_raise(&capture->problem);
	PG_RETURN_UUID_P(&capture->order_id);
}

static OmCapture *
parse_orders(Jsonb *orders, int *count)
{
	OmCapture *captures;

	if (orders == NULL || !JB_ROOT_IS_ARRAY(orders) || JB_ROOT_IS_SCALAR(orders))
		om_arg_raise("orders", "is not an array of orders");
	*count = JB_ROOT_COUNT(orders);
	captures =
		palloc_extended(sizeof(OmCapture) * Max(*count, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *count; i++)
	{
		JsonbValue *element = getIthJsonbValueFromContainer(&orders->root, i);

		om_request_from_json(&captures[i].request, element, &captures[i].problem);
	}
	return captures;
}

static bool
parse_on_error(FunctionCallInfo fcinfo, int n)
{
	char *on_error = om_arg_text(fcinfo, n);

	if (on_error != NULL && strcmp(on_error, "reject_failed") == 0)
		return false;
	if (on_error != NULL && strcmp(on_error, "reject_all") == 0)
		return true;
	om_arg_raise("on_error", "is neither reject_failed nor reject_all");
}

static void
raise_first_problem(const OmCapture *captures, int count)
{
	for (int i = 0; i < count; i++)
	{
		OmProblem problem = captures[i].problem;

		if (problem.sqlstate == 0)
			continue;
		problem.path =
			psprintf("orders[%d]%s%s", i, *problem.path == '\0' ? "" : ".", problem.path);
		om_problem_raise(&problem);
	}
}

static void
put_capture(ReturnSetInfo *result, int ordinal, OmCapture *capture)
{
	const OmProblem *problem = &capture->problem;
	bool failed = problem->sqlstate != 0;
	Datum values[6] = {Int64GetDatum(ordinal), UUIDPGetDatum(&capture->order_id),
					   BoolGetDatum(capture->created)};
	bool isnull[6] = {false, failed, false, !failed, !failed, !failed};

	if (failed)
	{
		values[3] = CStringGetTextDatum(unpack_sql_state(problem->sqlstate));
		values[4] = CStringGetTextDatum(problem->path);
		values[5] = CStringGetTextDatum(problem->message);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* capture_orders(orders, on_error) → (ordinal, order_id, created, error_code, path, message) */
OM_FUNCTION(om_capture_orders)
{
	bool all_or_nothing = parse_on_error(fcinfo, 1);
	int count;
	OmCapture *captures;

	om_api_begin_write("capture_orders()");
	InitMaterializedSRF(fcinfo, 0);
	captures = parse_orders(om_arg_jsonb(fcinfo, 0), &count);
	om_capture_run(captures, count, all_or_nothing);
	if (all_or_nothing)
		raise_first_problem(captures, count);
	for (int i = 0; i < count; i++)
		put_capture((ReturnSetInfo *) fcinfo->resultinfo, i + 1, &captures[i]);
	return (Datum) 0;
}

/* The request as an order that has not been captured. */
static void
make_trial(OmOrder *order, const OmCapture *capture)
{
	const OmRequest *request = &capture->request;

	memset(order, 0, sizeof(*order));
	order->customer_id = request->customer_id;
	order->total = capture->total;
	order->needs = palloc(sizeof(OmNeed) * request->nlines);
	for (int i = 0; i < request->nlines; i++)
		order->needs[i] = (OmNeed){.product_id = request->lines[i].product_id,
								   .quantity = request->lines[i].quantity};
	order->nneeds = om_needs_sum(order->needs, request->nlines);
}

/* preview_order(customer_id, lines) → jsonb */
OM_FUNCTION(om_preview_order)
{
	OmCapture capture = {0};
	OmOrder order;
	OmJson json = {0};
	bool is_risky;
	bool passes;
	Jsonb *reasons;
	Jsonb *shortages;

	(void) om_installation_get();
	if (om_request_from_parts(&capture.request, om_arg_text(fcinfo, 0), om_arg_jsonb(fcinfo, 1),
							  NULL, NULL, NULL, NULL, &capture.problem))
		om_capture_price(&capture, 1);
	if (capture.problem.sqlstate != 0)
		om_problem_raise(&capture.problem);
	is_risky = om_ordercheck_is_on() && om_ordercheck_preview(&capture);
	make_trial(&order, &capture);
	om_checkers_preview(&order, is_risky ? 1u << OM_REASON_HIGH_RISK : 0, &passes, &reasons,
						&shortages);
	om_json_open_object(&json);
	om_json_key(&json, "passes");
	om_json_bool(&json, passes);
	om_json_key(&json, "total");
	om_json_money(&json, capture.total);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, reasons);
	om_json_key(&json, "shortages");
	om_json_jsonb(&json, shortages);
	om_json_close_object(&json);
	PG_RETURN_JSONB_P(om_json_result(&json));
}

/* The metadata of the order that is replaced, with a link to it. */
static Jsonb *
linked_metadata(Jsonb *metadata, const char *replaces)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "replaces");
	om_json_string(&json, replaces);
	om_json_close_object(&json);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(metadata),
											  JsonbPGetDatum(om_json_result(&json))));
}

static char *
uuid_text(pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* replace_order(order_id, lines, idempotency_key) → uuid */
OM_FUNCTION(om_replace_order)
{
	pg_uuid_t *old_id = om_arg_uuid(fcinfo, 0, "order_id");
	OmCapture *capture = palloc0(sizeof(OmCapture));
	OmOrderTables *tables;
	OmOrder *old;

	om_api_begin_write("replace_order()");
	tables = om_orders_open(AccessShareLock);
	old = om_order_find(tables, old_id, om_current_snapshot());
	if (old == NULL)
		om_lifecycle_raise_not_found(old_id);
	if (!om_request_from_parts(&capture->request, old->customer_id, om_arg_jsonb(fcinfo, 1),
							   om_arg_text(fcinfo, 2), om_order_ref(old),
							   linked_metadata(om_order_metadata(old), uuid_text(old_id)), NULL,
							   &capture->problem))
		om_problem_raise(&capture->problem);
	om_orders_close(tables);
	capture_or_raise(capture);
	/* Repeated with its key, it was cancelled the first time. */
	if (capture->created)
		om_lifecycle_cancel(old_id, "replaced", uuid_text(&capture->order_id));
	PG_RETURN_UUID_P(&capture->order_id);
}
