/*
 * api_jobs.c
 *		Jobs of pg_cron, and what they call.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "cronjobs.h"
#include "locks.h"
#include "maintenance.h"
#include "plans.h"
#include "purges.h"
#include "tablestats.h"
#include "upkeep.h"
#include "uploads.h"

static OmCronJob *
find_job(OmCronJob *jobs, const char *word, int length)
{
	int i = om_names_find(om_cronjob_words, OM_CRON_JOB_COUNT, word, length);

	if (i < 0)
		om_arg_raise(psprintf("schedules.%.*s", length, word), "is no job of order_mgmt");
	return &jobs[i];
}

/* A string is a schedule of pg_cron, null says that the job is not to run. */
static void
set_schedule(OmCronJob *job, const JsonbValue *value, const char *path)
{
	if (value->type == jbvNull)
		job->schedule[0] = '\0';
	else if (value->type != jbvString || value->val.string.len == 0)
		om_arg_raise(path, "is neither a schedule nor null");
	else if (value->val.string.len >= OM_CRON_JOB_SCHEDULE_SIZE)
		om_arg_raise(path, "is too long");
	else
	{
		memcpy(job->schedule, value->val.string.val, value->val.string.len);
		job->schedule[value->val.string.len] = '\0';
	}
}

static void
read_schedules(OmCronJob *jobs, Jsonb *schedules)
{
	JsonbIterator *iterator = JsonbIteratorInit(&schedules->root);
	JsonbValue key;
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &key, true /* skipNested */)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true /* skipNested */);
		set_schedule(find_job(jobs, key.val.string.val, key.val.string.len), &value,
					 psprintf("schedules.%.*s", key.val.string.len, key.val.string.val));
	}
}

static void
put_job(ReturnSetInfo *result, const OmCronJob *job)
{
	Datum values[2] = {Int64GetDatum(job->id), CStringGetTextDatum(job->name)};
	bool isnull[2] = {false, false};

	if (job->id != 0)
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* schedule_jobs(schedules jsonb) → (job_id, job_name) */
OM_FUNCTION(om_schedule_jobs)
{
	Jsonb *schedules;
	OmCronJob jobs[OM_CRON_JOB_COUNT];

	om_arg_require(fcinfo, 0, "schedules");
	om_api_begin_write("schedule_jobs()");
	schedules = om_arg_object(fcinfo, 0, "schedules");
	om_cronjobs_init(jobs);
	read_schedules(jobs, schedules);
	InitMaterializedSRF(fcinfo, 0);
	om_cronjobs_schedule(jobs);
	for (int i = 0; i < OM_CRON_JOB_COUNT; i++)
		put_job((ReturnSetInfo *) fcinfo->resultinfo, &jobs[i]);
	return (Datum) 0;
}

/* unschedule_jobs() → bigint */
OM_FUNCTION(om_unschedule_jobs)
{
	om_api_begin_write("unschedule_jobs()");
	PG_RETURN_INT64(om_cronjobs_unschedule());
}

static void
commit_and_go_on(void)
{
	SPI_commit();
	EnsurePortalSnapshotExists();
}

static void
require_nonatomic(FunctionCallInfo fcinfo)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("archive_due() commits, and cannot be part of a transaction"),
						errhint("CALL it by itself, without BEGIN and outside of functions.")));
}

static Datum
return_record(FunctionCallInfo fcinfo, Datum value)
{
	bool isnull = false;
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &isnull));
}

/* CALL archive_due(max_months, budget, INOUT moved) */
OM_FUNCTION(om_archive_due)
{
	int64 at_most = PG_ARGISNULL(0) ? PG_INT64_MAX : PG_GETARG_INT64(0);
	int64 budget;
	int64 moved;

	require_nonatomic(fcinfo);
	om_api_begin_write("archive_due()");
	if (at_most < 1)
		om_arg_raise("max_months", "is not positive");
	om_arg_require(fcinfo, 1, "budget");
	budget = om_arg_milliseconds(fcinfo, 1, "budget");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	moved = om_maintenance_move_due(
		at_most, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), budget), commit_and_go_on);
	SPI_finish();
	return return_record(fcinfo, Int64GetDatum(moved));
}

/* purge_idempotency_keys() → bigint */
OM_FUNCTION(om_purge_idempotency_keys)
{
	om_api_begin_write("purge_idempotency_keys()");
	PG_RETURN_INT64(om_upkeep_purge_keys());
}

/* purge_loads() → bigint */
OM_FUNCTION(om_purge_loads_of_age)
{
	om_api_begin_write("purge_loads()");
	PG_RETURN_INT64(list_length(om_upload_purge()) + om_purge_loads());
}

/* purge_dead_letters() → bigint */
OM_FUNCTION(om_purge_dead_letters_of_age)
{
	om_api_begin_write("purge_dead_letters()");
	PG_RETURN_INT64(om_purge_dead_letters());
}

/* refresh_statistics() → bigint */
OM_FUNCTION(om_refresh_statistics)
{
	om_api_begin_write("refresh_statistics()");
	PG_RETURN_INT64(om_tablestats_refresh());
}

/* purge_job_history() → bigint */
OM_FUNCTION(om_purge_job_history)
{
	om_api_begin_write("purge_job_history()");
	PG_RETURN_INT64(om_cronjobs_purge_history());
}
