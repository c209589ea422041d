/*
 * predictionlog.c
 *		Writes and empties table "prediction_log".
 *
 * Rows are part of the transaction that predicts: where that is rolled back, or
 * cannot write (on a standby, or because it is READ ONLY), there are none.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "jsonout.h"
#include "plans.h"
#include "predictionlog.h"
#include "relations.h"

static OmQuery insert_query = {
	.sql =
		"INSERT INTO order_mgmt.prediction_log (prediction_id, at, model, version, customer_id,"
		" input, output, duration_us, error_code) VALUES"
		" (pg_catalog.nextval('order_mgmt.prediction_ids'), pg_catalog.clock_timestamp(), $1, $2,"
		" $3, $4, $5, $6, $7)",
	.nargs = 7,
	.types = {TEXTOID, INT8OID, TEXTOID, JSONBOID, JSONBOID, INT8OID, TEXTOID}};

static OmQuery purge_query = {.sql = "DELETE FROM order_mgmt.prediction_log WHERE at < $1",
							  .nargs = 1,
							  .types = {TIMESTAMPTZOID}};

bool
om_predictionlog_wants(const OmModel *model)
{
	double sample = model->options.log_sample;

	return sample > 0 && (sample >= 1 || pg_prng_double(&pg_global_prng_state) < sample) &&
		   !XactReadOnly && !RecoveryInProgress();
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

void
om_predictionlog_add(const OmModel *model, const char *customer_id, Jsonb *input, Jsonb *output,
					 int64 duration_us, const char *error_code)
{
	bool isnull[7] = {false};
	Datum args[7] = {CStringGetTextDatum(model->info.name),
					 Int64GetDatum(model->info.version),
					 (Datum) 0,
					 JsonbPGetDatum(input),
					 (Datum) 0,
					 Int64GetDatum(duration_us),
					 text_or_null(error_code, &isnull[6])};
	OmQueryScope scope;

	if (customer_id == NULL)
		customer_id = om_json_get_string(input, "customer_id");
	args[2] = text_or_null(customer_id, &isnull[2]);
	isnull[4] = output == NULL;
	if (output != NULL)
		args[4] = JsonbPGetDatum(output);
	(void) om_relation_get("prediction_log");
	om_query_begin(&scope);
	(void) om_query_run(&insert_query, args, isnull);
	om_query_end(&scope);
}

int64
om_predictionlog_purge(int64 older_ms)
{
	Datum arg = TimestampTzGetDatum(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -older_ms));
	OmQueryScope scope;
	uint64 count;

	(void) om_relation_get("prediction_log");
	om_query_begin(&scope);
	count = om_query_run(&purge_query, &arg, NULL);
	om_query_end(&scope);
	return (int64) count;
}
