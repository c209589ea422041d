/*
 * cronjobs.c
 *		Jobs of pg_cron.
 *
 * pg_cron keeps its jobs in one database of the server, cron.database_name.
 * Where that is ours, its functions are called here, in the caller's
 * transaction.  Where it is another, a short-lived worker goes there as the
 * calling role, does the same and commits: an errand.  What is to be done and
 * the answer stand in a segment of shared memory; what could keep the worker
 * from starting at all is looked at before, because such errors only reach the
 * server's log.  The worker has no other rights than the role, and calls nothing
 * but what belongs to extension pg_cron.
 *
 * Errands of one server take turns by an advisory lock in pg_cron's database.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "bgsession.h"
#include "compat.h"
#include "errors.h"
#include "cronjobs.h"
#include "jsonout.h"

#define TEXT_SIZE 1024

/* The two halves of the advisory lock: "order_mgmt" in pg_cron's database. */
#define LOCK_SQL "SELECT pg_catalog.pg_advisory_xact_lock(28781, 28001)"

typedef enum ErrandKind
{
	ERRAND_SCHEDULE,
	ERRAND_UNSCHEDULE,
	ERRAND_PURGE
} ErrandKind;

typedef struct Errand
{
	ErrandKind kind;
	Oid cron_database;
	Oid role;
	char database[NAMEDATALEN]; /* in which the jobs run */
	OmCronJob jobs[OM_CRON_JOB_COUNT];
	/* The answer */
	bool is_done;
	int64 count;
	int sqlstate; /* 0: none of these */
	char message[TEXT_SIZE];
	char detail[TEXT_SIZE];
	char hint[TEXT_SIZE];
} Errand;

typedef struct JobKind
{
	const char *schedule;
	const char *command;
} JobKind;

const char *const om_cronjob_words[OM_CRON_JOB_COUNT] = {
	"maintenance",  "archive",    "idempotency_keys", "loads",
	"dead_letters", "statistics", "job_history",      "models"};

static const JobKind job_kinds[OM_CRON_JOB_COUNT] = {
	{"*/15 * * * *", "SELECT count(*) FROM order_mgmt.run_maintenance()"},
	/* Not when maintenance begins, which would find it at work. */
	{"5-59/15 * * * *", "CALL order_mgmt.archive_due()"},
	{"7 * * * *", "SELECT order_mgmt.purge_idempotency_keys()"},
	{"17 3 * * *", "SELECT order_mgmt.purge_loads()"},
	{"27 3 * * *", "SELECT order_mgmt.purge_dead_letters()"},
	{"37 3 * * *", "SELECT order_mgmt.refresh_statistics()"},
	{"47 3 * * *", "SELECT order_mgmt.purge_job_history()"},
	/* Off unless a time is named: trainings run what those who made the models have written. */
	{"", "SELECT order_mgmt.retrain_models()"},
};

/* ---------- at the place: as the role, in pg_cron's database ---------- */

static Datum
text_datum(const char *text)
{
	return CStringGetTextDatum(text);
}

/* The one value of the one row, or NULL. */
static Datum
query_value(const char *sql, int nargs, Oid *types, Datum *args, bool *isnull)
{
	int result = SPI_execute_with_args(sql, nargs, types, args, NULL, false /* read_only */, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
	*isnull = SPI_processed == 0 || SPI_tuptable == NULL;
	return *isnull ? (Datum) 0
				   : SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
}

static Datum
all_names(const Errand *errand)
{
	Datum names[OM_CRON_JOB_COUNT];

	for (int i = 0; i < OM_CRON_JOB_COUNT; i++)
		names[i] = text_datum(errand->jobs[i].name);
	return PointerGetDatum(
		construct_array(names, OM_CRON_JOB_COUNT, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Removes jobs by name; how many there were. */
static int64
unschedule(const Errand *errand, Datum names)
{
	Oid types[2] = {TEXTOID, TEXTARRAYOID};
	Datum args[2] = {text_datum(errand->database), names};
	bool isnull;

	return DatumGetInt64(
		query_value("SELECT count(cron.unschedule(j.jobid)) FROM cron.job AS j"
					" WHERE j.username = CURRENT_USER AND j.database = $1 AND j.jobname = ANY ($2)",
					2, types, args, &isnull));
}

static void
unschedule_one(const Errand *errand, const OmCronJob *job)
{
	Datum name = text_datum(job->name);

	(void) unschedule(errand,
					  PointerGetDatum(construct_array(&name, 1, TEXTOID, -1, false, TYPALIGN_INT)));
}

/* Whoever may use schema cron may schedule jobs of its own database. */
static int64
schedule_one(const Errand *errand, const OmCronJob *job, const char *command)
{
	Oid types[4] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	Datum args[4] = {text_datum(job->name), text_datum(job->schedule), text_datum(command),
					 text_datum(errand->database)};
	bool is_here = strcmp(errand->database, get_database_name(MyDatabaseId)) == 0;
	bool isnull;

	return DatumGetInt64(
		is_here ? query_value("SELECT cron.schedule($1, $2, $3)", 3, types, args, &isnull)
				: query_value("SELECT cron.schedule_in_database($1, $2, $3, $4)", 4, types, args,
							  &isnull));
}

static void
schedule_all(Errand *errand)
{
	for (int i = 0; i < OM_CRON_JOB_COUNT; i++)
	{
		OmCronJob *job = &errand->jobs[i];

		job->id = 0;
		if (job->schedule[0] == '\0')
			unschedule_one(errand, job);
		else
			job->id = schedule_one(errand, job, job_kinds[i].command);
	}
}

static int64
purge_history(const Errand *errand)
{
	Oid types[2] = {TEXTOID, TEXTARRAYOID};
	Datum commands[OM_CRON_JOB_COUNT];
	Datum args[2] = {text_datum(errand->database)};
	bool isnull;

	for (int i = 0; i < OM_CRON_JOB_COUNT; i++)
		commands[i] = text_datum(job_kinds[i].command);
	args[1] = PointerGetDatum(
		construct_array(commands, OM_CRON_JOB_COUNT, TEXTOID, -1, false, TYPALIGN_INT));
	return DatumGetInt64(query_value(
		"WITH gone AS (DELETE FROM cron.job_run_details AS r WHERE r.username = CURRENT_USER"
		" AND r.database = $1 AND r.command = ANY ($2)"
		" AND coalesce(r.end_time, r.start_time) < pg_catalog.now() - '7 days'::interval"
		" RETURNING r.runid) SELECT count(*) FROM gone",
		2, types, args, &isnull));
}

static void
require_extension(void)
{
	char *database = get_database_name(MyDatabaseId);

	if (!OidIsValid(get_extension_oid("pg_cron", true /* missing_ok */)))
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("pg_cron is not installed in database \"%s\"", database),
						om_errdetail("database", database),
						errhint("Run CREATE EXTENSION pg_cron there, or let the workers of "
								"order_mgmt do this work: they need no jobs.")));
}

/* What a role needs that is no superuser. */
static void
require_privileges(const Errand *errand)
{
	bool is_here = strcmp(errand->database, get_database_name(MyDatabaseId)) == 0;
	bool isnull;

	if (!DatumGetBool(query_value("SELECT pg_catalog.has_schema_privilege('cron', 'USAGE')", 0,
								  NULL, NULL, &isnull)) ||
		(!is_here && errand->kind == ERRAND_SCHEDULE &&
		 !DatumGetBool(query_value("SELECT pg_catalog.has_function_privilege('cron.schedule_in_"
								   "database(text,text,text,text,text,boolean)', 'EXECUTE')",
								   0, NULL, NULL, &isnull))))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to use pg_cron"),
						errhint("In database \"%s\": GRANT USAGE ON SCHEMA cron TO the role%s.",
								get_database_name(MyDatabaseId),
								is_here ? ""
										: ", and GRANT EXECUTE ON FUNCTION "
										  "cron.schedule_in_database TO it")));
}

static void
run_here(Errand *errand)
{
	int guc_level = NewGUCNestLevel();
	bool isnull;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	require_extension();
	SPI_connect();
	require_privileges(errand);
	(void) query_value(LOCK_SQL, 0, NULL, NULL, &isnull);
	switch (errand->kind)
	{
		case ERRAND_SCHEDULE:
			schedule_all(errand);
			break;
		case ERRAND_UNSCHEDULE:
			errand->count = unschedule(errand, all_names(errand));
			break;
		case ERRAND_PURGE:
			errand->count = purge_history(errand);
			break;
	}
	SPI_finish();
	AtEOXact_GUC(true, guc_level);
}

/* ---------- the worker that goes there ---------- */

PGDLLEXPORT void om_errand_main(Datum arg);

static void
keep_text(char *place, const char *text)
{
	if (text != NULL)
		strlcpy(place, text, TEXT_SIZE);
}

static void
keep_error(Errand *errand)
{
	ErrorData *error;

	MemoryContextSwitchTo(TopMemoryContext);
	error = CopyErrorData();
	FlushErrorState();
	keep_text(errand->message, error->message);
	keep_text(errand->detail, error->detail);
	keep_text(errand->hint, error->hint);
	errand->sqlstate = error->sqlerrcode;
}

/* An errand is for the caller, who waits: nobody else must keep it waiting for long. */
static const OmBgSetting settings[] = {{"lock_timeout", "10s"}, {"row_security", "on"}};

static void
run_there(Errand *errand)
{
	om_bgsession_set(settings, lengthof(settings));
	PG_TRY();
	{
		om_bgsession_begin();
		run_here(errand);
		om_bgsession_commit(true /* durable */);
		errand->is_done = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		keep_error(errand);
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

void
om_errand_main(Datum arg)
{
	dsm_segment *segment;
	Errand *errand;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0); /* the caller has gone */
	errand = dsm_segment_address(segment);
	BackgroundWorkerInitializeConnectionByOid(errand->cron_database, errand->role, 0);
	run_there(errand);
	dsm_detach(segment);
	proc_exit(0);
}

/* ---------- sending it ---------- */

static void
require_login(void)
{
	HeapTuple role = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may_login = HeapTupleIsValid(role) && ((Form_pg_authid) GETSTRUCT(role))->rolcanlogin;

	if (HeapTupleIsValid(role))
		ReleaseSysCache(role);
	if (!may_login)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("role \"%s\" cannot have jobs, because it may not log in",
							   GetUserNameFromId(GetUserId(), false)),
						om_errdetail("role", GetUserNameFromId(GetUserId(), false)),
						errhint("Jobs run in sessions of the role that has scheduled them: call as "
								"one that may.")));
}

static void
require_connect(Oid database, const char *name)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool allows = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datallowconn;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!allows)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_READY),
				 errmsg("database \"%s\", in which pg_cron lives, takes no connections", name),
				 om_errdetail("database", name),
				 errhint("Look at cron.database_name, and create the database.")));
	if (!om_may_connect(database))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to connect to database \"%s\", in which pg_cron "
							   "lives",
							   name),
						errhint("GRANT CONNECT ON DATABASE to the role.")));
}

static void
start_worker(dsm_segment *segment, BackgroundWorkerHandle **handle)
{
	BackgroundWorker bgw = {.bgw_flags =
								BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							.bgw_start_time = BgWorkerStart_RecoveryFinished,
							.bgw_restart_time = BGW_NEVER_RESTART,
							.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment)),
							.bgw_notify_pid = MyProcPid};

	strlcpy(bgw.bgw_library_name, "order_mgmt", BGW_MAXLEN);
	strlcpy(bgw.bgw_function_name, "om_errand_main", BGW_MAXLEN);
	strlcpy(bgw.bgw_type, "order_mgmt errand", BGW_MAXLEN);
	strlcpy(bgw.bgw_name, "order_mgmt errand to pg_cron", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&bgw, handle))
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("no background worker slot is free to go to pg_cron's database"),
						om_errdetail("setting", "max_worker_processes"),
						errhint("Increase max_worker_processes, or try again.")));
}

static void
raise_answer(const Errand *errand)
{
	if (errand->sqlstate == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("the worker that was to go to pg_cron's database has ended early"),
						om_errdetail("worker", "errand"), errhint("The server's log says why.")));
	ereport(ERROR, (errcode(errand->sqlstate), errmsg_internal("%s", errand->message),
					errand->detail[0] == '\0' ? 0 : errdetail_internal("%s", errand->detail),
					errand->hint[0] == '\0' ? 0 : errhint("%s", errand->hint)));
}

static void
send(Errand *errand)
{
	dsm_segment *segment = dsm_create(sizeof(Errand), 0);
	Errand *shared = dsm_segment_address(segment);
	BackgroundWorkerHandle *handle;

	*shared = *errand;
	start_worker(segment, &handle);
	if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	*errand = *shared;
	dsm_detach(segment);
	if (!errand->is_done)
		raise_answer(errand);
}

/* NULL where pg_cron is not loaded; its settings may stand in the configuration all the same. */
static const char *
cron_database_name(void)
{
	const char *name = GetConfigOption("cron.database_name", true /* missing_ok */, false);

	if (name == NULL || (GetConfigOptionFlags("cron.database_name", false /* missing_ok */) &
						 GUC_CUSTOM_PLACEHOLDER) != 0)
		return NULL;
	return name;
}

static void
run(Errand *errand)
{
	const char *name = cron_database_name();

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY), errmsg("pg_cron is not loaded"),
						om_errdetail("setting", "shared_preload_libraries"),
						errhint("Add pg_cron to shared_preload_libraries and restart, or let the "
								"workers of order_mgmt do this work: they need no jobs.")));
	require_login();
	strlcpy(errand->database, get_database_name(MyDatabaseId), NAMEDATALEN);
	errand->role = GetUserId();
	errand->cron_database = get_database_oid(name, true /* missing_ok */);
	if (errand->cron_database == MyDatabaseId)
	{
		run_here(errand);
		return;
	}
	require_connect(errand->cron_database, name);
	send(errand);
}

/* ---------- our jobs ---------- */

/* Where the name of the database is too long for that of a job, its OID tells it from others. */
static void
make_name(char *name, const char *database, const char *word)
{
	char *oid = psprintf("~%u", MyDatabaseId);
	int room = OM_CRON_JOB_NAME_SIZE - 1 - (int) strlen("order_mgmt  ") - (int) strlen(word);
	int length = (int) strlen(database);

	if (length <= room)
		snprintf(name, OM_CRON_JOB_NAME_SIZE, "order_mgmt %s %s", database, word);
	else
	{
		length = pg_mbcliplen(database, length, room - (int) strlen(oid));
		snprintf(name, OM_CRON_JOB_NAME_SIZE, "order_mgmt %.*s%s %s", length, database, oid, word);
	}
}

void
om_cronjobs_init(OmCronJob jobs[OM_CRON_JOB_COUNT])
{
	char *database = get_database_name(MyDatabaseId);

	memset(jobs, 0, sizeof(OmCronJob) * OM_CRON_JOB_COUNT);
	for (int i = 0; i < OM_CRON_JOB_COUNT; i++)
	{
		make_name(jobs[i].name, database, om_cronjob_words[i]);
		strlcpy(jobs[i].schedule, job_kinds[i].schedule, OM_CRON_JOB_SCHEDULE_SIZE);
	}
}

void
om_cronjobs_schedule(OmCronJob jobs[OM_CRON_JOB_COUNT])
{
	Errand errand = {.kind = ERRAND_SCHEDULE};

	memcpy(errand.jobs, jobs, sizeof(errand.jobs));
	run(&errand);
	memcpy(jobs, errand.jobs, sizeof(errand.jobs));
}

int64
om_cronjobs_unschedule(void)
{
	Errand errand = {.kind = ERRAND_UNSCHEDULE};

	om_cronjobs_init(errand.jobs);
	run(&errand);
	return errand.count;
}

int64
om_cronjobs_purge_history(void)
{
	Errand errand = {.kind = ERRAND_PURGE};

	if (cron_database_name() == NULL)
		return 0;
	om_cronjobs_init(errand.jobs);
	run(&errand);
	return errand.count;
}
