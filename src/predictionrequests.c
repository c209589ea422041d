/*
 * predictionrequests.c
 *		Rows of "prediction_requests".
 *
 * A request is part of the transaction that makes it.  After its commit a worker
 * (predictworker.c) takes it, which counts as an attempt and is committed, asks
 * without any lock, and keeps the answer in a third transaction.  So a model may be
 * asked twice where the server goes down in between, and at most so many times.
 *
 * The worker has the rights of the server.  Only models whose kind waits for
 * somebody outside are asked by it: these run nobody's code (order_mgmt.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "jsonout.h"
#include "modelrows.h"
#include "plans.h"
#include "predictionrequests.h"
#include "predictions.h"
#include "providers.h"
#include "relations.h"
#include "wakeup.h"

#define MOST_ATTEMPTS 5
#define CHANNEL "order_mgmt_predictions"

static OmQuery add_query = {
	.sql = "INSERT INTO order_mgmt.prediction_requests (request_id, model, inputs, requested_by,"
		   " requested_at, attempts, due) SELECT"
		   " pg_catalog.nextval('order_mgmt.request_ids'), $1, $2, $3, t.now, 0, t.now"
		   " FROM (SELECT pg_catalog.clock_timestamp() AS now) AS t RETURNING request_id",
	.nargs = 3,
	.types = {TEXTOID, JSONBOID, TEXTOID}};

static OmQuery due_query = {.sql = "SELECT min(due) FROM order_mgmt.prediction_requests"
								   " WHERE answered_at IS NULL"};

/* The next attempt comes after 1, 4, 16 and 64 seconds, should this one fail. */
static OmQuery take_query = {
	.sql = "UPDATE order_mgmt.prediction_requests AS r SET attempts = r.attempts + 1,"
		   " due = pg_catalog.clock_timestamp()"
		   "  + '1 second'::interval * pg_catalog.power(4, least(r.attempts, 10))"
		   " WHERE r.request_id = (SELECT n.request_id FROM order_mgmt.prediction_requests AS n"
		   "  WHERE n.answered_at IS NULL AND n.due <= pg_catalog.clock_timestamp()"
		   "  ORDER BY n.due, n.request_id LIMIT 1 FOR UPDATE SKIP LOCKED)"
		   " RETURNING r.request_id, r.model::text, r.inputs, r.attempts"};

static OmQuery answer_query = {
	.sql = "UPDATE order_mgmt.prediction_requests SET outputs = $2, error_code = NULL,"
		   " error = NULL, answered_at = pg_catalog.clock_timestamp()"
		   " WHERE request_id = $1 AND answered_at IS NULL",
	.nargs = 2,
	.types = {INT8OID, JSONBOID}};

static OmQuery fail_query = {
	.sql = "UPDATE order_mgmt.prediction_requests SET error_code = $2, error = $3,"
		   " answered_at = CASE WHEN $4 THEN pg_catalog.clock_timestamp() END"
		   " WHERE request_id = $1 AND answered_at IS NULL",
	.nargs = 4,
	.types = {INT8OID, TEXTOID, TEXTOID, BOOLOID}};

static OmQuery purge_query = {
	.sql = "DELETE FROM order_mgmt.prediction_requests WHERE request_id IN (SELECT r.request_id"
		   " FROM order_mgmt.prediction_requests AS r WHERE r.answered_at < $1"
		   " FOR UPDATE SKIP LOCKED)",
	.nargs = 1,
	.types = {TIMESTAMPTZOID}};

/* --- asking for one --------------------------------------------------------------------------------- */

static void
require_outside(const char *model)
{
	OmModelRow *row = om_modelrow_require(model);

	if ((om_provider_get(row->kind)->flags & OM_PROVIDER_WAITS_OUTSIDE) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_STATE),
				 errmsg("model \"%s\" (kind \"%s\") answers in the database", model, row->kind),
				 om_errdetail("kind", row->kind),
				 errhint("Nobody has to be waited for: predict() asks it at once.")));
}

int64
om_predictionrequest_add(const char *model, Jsonb *inputs)
{
	Datum args[3] = {CStringGetTextDatum(model), JsonbPGetDatum(inputs),
					 CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))};
	OmQueryScope scope;
	bool isnull;
	int64 id;

	(void) om_relation_get("prediction_requests");
	require_outside(model);
	om_query_begin(&scope);
	om_query_run(&add_query, args, NULL);
	id = DatumGetInt64(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	om_wakeup_predictions_at_commit();
	return id;
}

/* --- for the worker --------------------------------------------------------------------------------- */

TimestampTz
om_predictionrequests_next_due(void)
{
	/* Data of an earlier version have none until setup() is run. */
	if (!OidIsValid(om_relation_find("prediction_requests")))
		return 0;
	return om_query_number(&due_query, NULL);
}

static void *
read_request(uint64 row)
{
	OmPredictionRequest *request = palloc0(sizeof(OmPredictionRequest));
	bool isnull;

	request->id = om_result_int64(row, 1);
	request->model = om_result_text(row, 2);
	request->inputs = DatumGetJsonbPCopy(om_result_get(row, 3, &isnull));
	request->attempts = DatumGetInt32(om_result_get(row, 4, &isnull));
	return request;
}

OmPredictionRequest *
om_predictionrequest_take(void)
{
	return om_query_first(&take_query, NULL, read_request);
}

static int
read_inputs(Jsonb *array, Jsonb **inputs, int room)
{
	JsonbIterator *iterator = JsonbIteratorInit(&array->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int count = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, true /* skipNested */)) != WJB_DONE)
	{
		if (token == WJB_ELEM && count < room)
			inputs[count++] = JsonbValueToJsonb(&value);
	}
	return count;
}

static Jsonb *
make_array(Jsonb **outputs, int count)
{
	OmJson json = {0};

	om_json_open_array(&json);
	for (int i = 0; i < count; i++)
		om_json_jsonb(&json, outputs[i]);
	om_json_close_array(&json);
	return om_json_result(&json);
}

Jsonb *
om_predictionrequest_ask(const OmPredictionRequest *request)
{
	int room = JB_ROOT_COUNT(request->inputs);
	Jsonb **inputs = palloc(sizeof(Jsonb *) * (room + 1));
	Jsonb **outputs = palloc(sizeof(Jsonb *) * (room + 1));
	int count = read_inputs(request->inputs, inputs, room);

	om_predict_outside(request->model, inputs, count, outputs);
	return make_array(outputs, count);
}

static void
notify(const OmPredictionRequest *request)
{
	Async_Notify(CHANNEL, psprintf(INT64_FORMAT, request->id));
}

void
om_predictionrequest_answer(const OmPredictionRequest *request, Jsonb *outputs)
{
	Datum args[2] = {Int64GetDatum(request->id), JsonbPGetDatum(outputs)};

	if (om_query_change(&answer_query, args) > 0)
		notify(request);
}

/* What would fail again, however often. */
static bool
is_final(int sqlstate)
{
	return sqlstate == ERRCODE_OM_INVALID || sqlstate == ERRCODE_OM_NOT_FOUND ||
		   sqlstate == ERRCODE_OM_STATE;
}

void
om_predictionrequest_fail(const OmPredictionRequest *request, int sqlstate, const char *message)
{
	bool gives_up = request->attempts >= MOST_ATTEMPTS || is_final(sqlstate);
	Datum args[4] = {Int64GetDatum(request->id), CStringGetTextDatum(unpack_sql_state(sqlstate)),
					 CStringGetTextDatum(message), BoolGetDatum(gives_up)};

	if (om_query_change(&fail_query, args) > 0 && gives_up)
		notify(request);
}

bool
om_predictionrequest_is_hopeless(const OmPredictionRequest *request)
{
	return request->attempts > MOST_ATTEMPTS;
}

/* --- purging ---------------------------------------------------------------------------------------- */

int64
om_predictionrequests_purge(int64 older_ms)
{
	Datum arg = TimestampTzGetDatum(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -older_ms));

	if (!OidIsValid(om_relation_find("prediction_requests")))
		return 0;
	return (int64) om_query_change(&purge_query, &arg);
}
