/*
 * predictworker.c
 *		Asks models outside in a worker of its own, for transactions that may not
 *		wait themselves.
 *
 * The built-in worker that does the upkeep of the database starts this one when
 * a request has been committed, or is due again.  It takes one after the other, and
 * ends when none has come for a while.
 *
 * A request is three transactions: it is taken, the model is asked, the answer is
 * kept.  While the model is asked nothing is locked and nothing has been written,
 * which om_provider_require_free() sees to.
 *
 * It holds OM_LOCK_PREDICTOR as long as it lives, which makes it the only one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bgsession.h"
#include "errors.h"
#include "jobseats.h"
#include "jobsession.h"
#include "locks.h"
#include "predictionrequests.h"
#include "predictworker.h"
#include "timelimits.h"

#define LINGER_MS 10000

/* Of one request, whatever limits its model has: one that is never answered must not keep the others waiting. */
#define REQUEST_MS (10 * 60 * 1000)

/* ---------- looking after the worker ---------- */

static OmJobKeeper keeper = {.job = OM_JOB_PREDICTIONS,
							 .kind = {.function = "om_predictor_main",
									  .type = "order_mgmt predictor",
									  .purpose = "predictions"}};

bool
om_predictworker_needs_look(OmDatabase *entry)
{
	return om_jobkeeper_needs_look(&keeper, entry);
}

TimestampTz
om_predictworker_look_after(OmDatabase *entry)
{
	TimestampTz due;

	(void) om_jobkeeper_look(&keeper, entry);
	due = om_predictionrequests_next_due();
	if (due == 0 || due > GetCurrentTimestamp())
		return due;
	return om_jobkeeper_fill(&keeper, entry);
}

/* ---------- the worker ---------- */

typedef struct PredictWorker
{
	OmDatabase *database;
	MemoryContext context; /* of one request */
} PredictWorker;

static PredictWorker self;

static OmPredictionRequest *
take(void)
{
	OmPredictionRequest *request;

	om_bgsession_begin();
	MemoryContextSwitchTo(self.context);
	request = om_predictionrequest_take();
	om_bgsession_commit(true /* durable */);
	return request;
}

typedef struct Question
{
	const OmPredictionRequest *request;
	Jsonb *outputs;
} Question;

static void
ask_question(void *arg)
{
	Question *question = arg;

	question->outputs = om_predictionrequest_ask(question->request);
}

static Jsonb *
ask(const OmPredictionRequest *request)
{
	Question question = {.request = request};
	ErrorData *error;
	bool struck;

	om_bgsession_begin();
	MemoryContextSwitchTo(self.context);
	error = om_timelimit_attempt(REQUEST_MS, ask_question, &question, &struck);
	if (error != NULL)
		ReThrowError(error);
	om_bgsession_commit(true /* durable */);
	return question.outputs;
}

/* Ends the transaction that has failed; the error outlives it, and the log of the server is spared. */
static ErrorData *
catch_error(void)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(self.context);
	error = CopyErrorData();
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(self.context);
	RESUME_INTERRUPTS();
	return error;
}

static ErrorData *
attempt(const OmPredictionRequest *request, Jsonb **outputs)
{
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		*outputs = ask(request);
	}
	PG_CATCH();
	{
		error = catch_error();
	}
	PG_END_TRY();
	return error;
}

static const char *
text_of(const ErrorData *error)
{
	const char *message = error->message == NULL ? "no message" : error->message;

	return error->hint == NULL ? message : psprintf("%s\nHINT: %s", message, error->hint);
}

static void
keep(const OmPredictionRequest *request, Jsonb *outputs, const ErrorData *error)
{
	om_bgsession_begin();
	if (outputs != NULL)
		om_predictionrequest_answer(request, outputs);
	else if (error != NULL)
		om_predictionrequest_fail(request, error->sqlerrcode, text_of(error));
	else
		om_predictionrequest_fail(request, ERRCODE_OM_PREDICTION,
								  "it has ended the process that asked, time after time");
	om_bgsession_commit(true /* durable */);
}

/* False when none is due. */
static bool
serve_next(void)
{
	OmPredictionRequest *request = take();
	Jsonb *outputs = NULL;
	ErrorData *error = NULL;

	if (request == NULL)
		return false;
	if (!om_predictionrequest_is_hopeless(request))
		error = attempt(request, &outputs);
	keep(request, outputs, error);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(self.context);
	om_jobseat_works();
	return true;
}

static TimestampTz
next_due(void)
{
	TimestampTz due;

	om_bgsession_begin();
	due = om_predictionrequests_next_due();
	om_bgsession_commit(true /* durable */);
	return due;
}

static uint32
count_changes(void)
{
	return pg_atomic_read_u32(&self.database->jobs[OM_JOB_PREDICTIONS].changes);
}

/* True when there may be something to do; false: nothing has come for a while. */
static bool
linger(uint32 changes)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LINGER_MS);
	TimestampTz due = next_due();
	TimestampTz until = due != 0 ? Min(due, end) : end;

	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		om_jobsession_obey_signals();
		if (count_changes() != changes)
			return true;
		if (now >= until)
			return now < end;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, until), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
om_predictor_main(Datum arg)
{
	uint32 changes;

	self.database = om_jobsession_start(OM_JOB_PREDICTIONS, arg, OM_LOCK_PREDICTOR);
	self.context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt request", ALLOCSET_DEFAULT_SIZES);
	do
	{
		changes = count_changes();
		pgstat_report_activity(STATE_RUNNING, "predictions");
		do
			om_jobsession_obey_signals();
		while (serve_next());
	} while (linger(changes));
	om_jobseat_rest(0 /* ms */);
	proc_exit(0);
}
