/*
 * predictionlog.c
 *		Writes and empties table "prediction_log".
 *
 * Rows are part of the transaction that predicts: where that is rolled back, or
 * cannot write (on a standby, or because it is READ ONLY), there are none.
 *
 * Some wait for the commit, in memory; those of a savepoint go with it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "jsonout.h"
#include "plans.h"
#include "predictionlog.h"
#include "relations.h"

#define ARGS 8

static OmQuery insert_query = {
	.sql = "INSERT INTO order_mgmt.prediction_log (prediction_id, model, version, customer_id,"
		   " input, output, duration_us, error_code, at) VALUES"
		   " (pg_catalog.nextval('order_mgmt.prediction_ids'), $1, $2, $3, $4, $5, $6, $7, $8)",
	.nargs = ARGS,
	.types = {TEXTOID, INT8OID, TEXTOID, JSONBOID, JSONBOID, INT8OID, TEXTOID, TIMESTAMPTZOID}};

/* Two that purge at the same time share the work. */
static OmQuery purge_query = {
	.sql = "DELETE FROM order_mgmt.prediction_log WHERE prediction_id IN (SELECT p.prediction_id"
		   " FROM order_mgmt.prediction_log AS p WHERE p.at < $1 FOR UPDATE SKIP LOCKED)",
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

static void
write_row(const Datum *args, const bool *isnull)
{
	OmQueryScope scope;

	(void) om_relation_get("prediction_log");
	om_query_begin(&scope);
	(void) om_query_run(&insert_query, args, isnull);
	om_query_end(&scope);
}

/* --- rows that wait for the commit ------------------------------------------------------------------ */

/* Of a transaction; what does not fit is not logged. */
#define MOST_BYTES (64 * 1024 * 1024)

typedef struct Row
{
	Datum args[ARGS];
	bool isnull[ARGS];
	SubTransactionId owner;
	struct Row *next;
} Row;

static Row *first_row = NULL; /* the newest; all lie in TopTransactionContext */
static Size bytes_kept = 0;

static void
keep_row(const Datum *args, const bool *isnull)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Row *row = palloc(sizeof(Row));

	for (int i = 0; i < ARGS; i++)
	{
		bool is_long = insert_query.types[i] == TEXTOID || insert_query.types[i] == JSONBOID;

		row->isnull[i] = isnull[i];
		row->args[i] = isnull[i] || !is_long ? args[i] : datumCopy(args[i], false, -1);
		bytes_kept += isnull[i] || !is_long ? 0 : VARSIZE_ANY(DatumGetPointer(args[i]));
	}
	row->owner = GetCurrentSubTransactionId();
	row->next = first_row;
	first_row = row;
	MemoryContextSwitchTo(caller);
}

static Row *
take_oldest_first(void)
{
	Row *oldest = NULL;

	while (first_row != NULL)
	{
		Row *row = first_row;

		first_row = row->next;
		row->next = oldest;
		oldest = row;
	}
	return oldest;
}

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		first_row = NULL;
	bytes_kept = 0;
	if (first_row == NULL || XactReadOnly)
		return;
	PushActiveSnapshot(GetTransactionSnapshot()); /* that of the last statement is gone */
	for (Row *row = take_oldest_first(); row != NULL; row = row->next)
		write_row(row->args, row->isnull);
	PopActiveSnapshot();
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
						 void *arg pg_attribute_unused())
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (Row **place = &first_row; *place != NULL;)
	{
		if ((*place)->owner != mine)
			return; /* older ones are of those around it */
		(*place)->owner = parent;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			*place = (*place)->next;
		else
			place = &(*place)->next;
	}
}

void
om_predictionlog_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_subtransaction, NULL);
}

/* --- adding ----------------------------------------------------------------------------------------- */

void
om_predictionlog_add(const OmModel *model, const char *customer_id, Jsonb *input, Jsonb *output,
					 int64 duration_us, const char *error_code, bool at_commit)
{
	bool isnull[ARGS] = {false};
	Datum args[ARGS] = {CStringGetTextDatum(model->info.name),
						Int64GetDatum(model->info.version),
						(Datum) 0,
						JsonbPGetDatum(input),
						(Datum) 0,
						Int64GetDatum(duration_us),
						text_or_null(error_code, &isnull[6]),
						TimestampTzGetDatum(GetCurrentTimestamp())};

	if (customer_id == NULL)
		customer_id = om_json_get_string(input, "customer_id");
	args[2] = text_or_null(customer_id, &isnull[2]);
	isnull[4] = output == NULL;
	if (output != NULL)
		args[4] = JsonbPGetDatum(output);
	if (!at_commit)
		write_row(args, isnull);
	else if (bytes_kept < MOST_BYTES)
		keep_row(args, isnull);
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
