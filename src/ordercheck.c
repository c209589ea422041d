/*
 * ordercheck.c
 *		Asks a model whether orders are to be refused.
 *
 * The score of a model is a check of orders beside those of credit and stock.  The
 * balance checker asks for it, for all orders of its batch at once and before it
 * locks or writes anything, and gives the verdict; this is the only place from which
 * workers call models.
 *
 * A model may be code of users.  So it has the rights of order_mgmt_reader, whoever
 * asks, in a security-restricted operation that it cannot leave; it runs read-only,
 * so that it cannot change what the checker is about to look at; and it has a time
 * limit even where nobody has set one, because the shop waits for it.
 *
 * When a model fails for a batch, its halves are asked, and so on, so that an order
 * that is beyond the model does not take along those of others.  One that has not
 * answered in time, or that answers nothing, is left alone until the next batch.
 * What is without an answer in the end passes with a warning, or is an error of these
 * orders, which are then tried again as after any other (see consumer.c).
 */
#include "postgres.h"

#include <math.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "errors.h"
#include "eventlog.h"
#include "faults.h"
#include "jsonout.h"
#include "names.h"
#include "ordercheck.h"
#include "orders.h"
#include "predictions.h"
#include "providers.h"
#include "scores.h"
#include "timelimits.h"

/* The model has no more rights than who may ask it anyway. */
#define ROLE_OF_MODEL "order_mgmt_reader"

/* Milliseconds, where the model has no limit. */
#define TIME_LIMIT "5000"

/*
 * After so many failures without an answer between them a batch is not asked about
 * any more: one bad order in a thousand takes ten.
 */
#define MAX_FAILURES 16

/* For so long after the first failure parts of a batch are asked about. */
#define ASK_AGAIN_MS 5000

/* How often a worker warns of a model that fails. */
#define WARN_AGAIN_MS 60000

/* ---------- what the model sees ---------- */

typedef struct Subject
{
	const pg_uuid_t *order_id; /* NULL: it has not been captured */
	const char *order_ref;
	const char *customer_id;
	int64 total;
	Jsonb *metadata; /* or NULL: {} */
	List *lines;     /* of OmLine */
} Subject;

static void
add_lines(OmJson *json, List *lines)
{
	ListCell *cell;

	om_json_key(json, "lines");
	om_json_open_array(json);
	foreach(cell, lines)
	{
		const OmLine *line = lfirst(cell);

		om_json_open_object(json);
		om_json_key(json, "product_id");
		om_json_string(json, line->product_id);
		om_json_key(json, "quantity");
		om_json_int(json, line->quantity);
		om_json_key(json, "unit_price");
		om_json_money(json, line->unit_price);
		om_json_close_object(json);
	}
	om_json_close_array(json);
}

static char *
id_text(const pg_uuid_t *id)
{
	return id == NULL ? NULL : DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static Jsonb *
describe(const Subject *subject)
{
	Jsonb *metadata = subject->metadata;
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "order_id");
	om_json_string(&json, id_text(subject->order_id));
	om_json_key(&json, "order_ref");
	om_json_string(&json, subject->order_ref);
	om_json_key(&json, "customer_id");
	om_json_string(&json, subject->customer_id);
	om_json_key(&json, "total");
	om_json_money(&json, subject->total);
	om_json_key(&json, "metadata");
	om_json_jsonb(&json, metadata == NULL ? DatumGetJsonbP(om_json_empty()) : metadata);
	add_lines(&json, subject->lines);
	om_json_close_object(&json);
	return om_json_result(&json);
}

/* NULL: nothing is to be decided about it any more, or it is not there. */
static Jsonb *
describe_order(OmOrderTables *tables, const pg_uuid_t *order_id)
{
	Snapshot snapshot = GetActiveSnapshot();
	OmOrder *order = om_order_find(tables, order_id, snapshot);

	if (order == NULL || order->status != OM_STATUS_CAPTURED)
		return NULL;
	return describe(&(Subject){.order_id = order_id,
							   .order_ref = om_order_ref(order),
							   .customer_id = order->customer_id,
							   .total = order->total,
							   .metadata = om_order_metadata(order),
							   .lines = om_order_lines(tables, order, snapshot)});
}

static Jsonb *
describe_request(const OmCapture *capture)
{
	const OmRequest *request = &capture->request;
	List *lines = NIL;

	for (int i = 0; i < request->nlines; i++)
	{
		OmLine *line = palloc0(sizeof(OmLine));

		line->product_id = request->lines[i].product_id;
		line->quantity = request->lines[i].quantity;
		line->unit_price = request->lines[i].unit_price;
		lines = lappend(lines, line);
	}
	return describe(
		&(Subject){.customer_id = request->customer_id, .total = capture->total, .lines = lines});
}

/* ---------- asking ---------- */

typedef struct Check
{
	Jsonb **inputs;
	Jsonb **outputs;
	double *scores; /* NaN: without an answer */
	int count;
	int nfailures; /* since the last answer */
	int nunanswered;
	bool is_over;          /* nothing more is asked */
	ErrorData *error;      /* the first */
	TimestampTz failed_at; /* its time */
} Check;

static Check
begin_check(int most)
{
	return (Check){.inputs = palloc(sizeof(Jsonb *) * most),
				   .outputs = palloc(sizeof(Jsonb *) * most),
				   .scores = palloc(sizeof(double) * most)};
}

static void
add_question(Check *check, Jsonb *input)
{
	check->inputs[check->count] = input;
	check->scores[check->count++] = get_float8_nan();
}

/* Some of its questions */
typedef struct Part
{
	Check *check;
	int first;
	int count;
} Part;

/*
 * Whoever asks, the model finds what it finds in a worker.  Its user must not get
 * orders past it by what he sets in his session.
 */
static const struct
{
	const char *name;
	const char *value;
} settings_of_model[] = {
	{"search_path", "pg_catalog, pg_temp"},
	{"row_security", "on"},
	{"lock_timeout", "0"},
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, MDY"},
	{"order_mgmt.predict_timeout", TIME_LIMIT},
};

/* All this ends with the subtransaction. */
static void
restrict_model(void)
{
	Oid user;
	int context;

	for (int i = 0; i < (int) lengthof(settings_of_model); i++)
		(void) set_config_option(settings_of_model[i].name, settings_of_model[i].value, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true /* change */, 0,
								 false /* is_reload */);
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(get_role_oid(ROLE_OF_MODEL, false /* missing_ok */),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

static void
ask_part(void *arg)
{
	const Part *part = arg;
	Check *check = part->check;

	restrict_model();
	om_predict(om_setting_check_model, check->inputs + part->first, part->count,
			   check->outputs + part->first);
	for (int i = part->first; i < part->first + part->count; i++)
	{
		if (!om_score_of_output(check->outputs[i], NULL, &check->scores[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OM_PREDICTION),
					 errmsg("an output of model \"%s\" has no score", om_setting_check_model),
					 om_errdetail("model", om_setting_check_model),
					 errhint("Outputs are numbers, or objects with a member \"score\".")));
	}
}

/* Somebody has cancelled the statement.  What a model raises by itself looks alike but for its place. */
static bool
is_cancelled(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION &&
		   error->funcname != NULL && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * NULL, or why the model has failed.  Any error is a failure of the model: one that
 * says "deadlock" or "cancelled" by itself would otherwise stop the stage without a
 * word, because nobody is to blame for these.  Who cancels a worker cancels the call.
 */
static ErrorData *
attempt(const Part *part)
{
	ErrorData *error = NULL;
	bool read_only = om_predict_read_only;

	PG_TRY();
	{
		om_predict_read_only = true;
		error = om_provider_attempt(ask_part, unconstify(Part *, part));
	}
	PG_FINALLY();
	{
		om_predict_read_only = read_only;
	}
	PG_END_TRY();
	if (error == NULL)
		return NULL;
	if (!IsBackgroundWorker && is_cancelled(error))
		ReThrowError(error); /* the user does not want to wait any more */
	error->sqlerrcode = ERRCODE_OM_PREDICTION;
	return error;
}

/* A model that takes too long would do so for the halves as well, and the shop waits. */
static void
note_failure(Check *check, ErrorData *error, bool in_time)
{
	TimestampTz now = GetCurrentTimestamp();

	if (check->error == NULL)
	{
		check->error = error;
		check->failed_at = now;
	}
	check->is_over = !in_time || ++check->nfailures >= MAX_FAILURES ||
					 TimestampDifferenceExceeds(check->failed_at, now, ASK_AGAIN_MS);
}

static void
note_unanswered(const Part *part)
{
	part->check->nunanswered += part->count;
	for (int i = part->first; i < part->first + part->count; i++)
		part->check->scores[i] = get_float8_nan();
}

/* True when the model has answered. */
static bool
has_answered(const Part *part)
{
	uint32 strikes = om_timelimit_strikes();
	ErrorData *error;

	if (part->check->is_over)
		return false;
	error = attempt(part);
	if (error == NULL)
		part->check->nfailures = 0;
	else
		note_failure(part->check, error, strikes == om_timelimit_strikes());
	return error == NULL;
}

static void
ask(const Part *part)
{
	int half = part->count / 2;

	if (has_answered(part))
		return;
	if (half == 0 || part->check->is_over)
	{
		note_unanswered(part);
		return;
	}
	ask(&(Part){part->check, part->first, half});
	ask(&(Part){part->check, part->first + half, part->count - half});
}

/* ---------- what has not been checked ---------- */

static struct
{
	int64 orders; /* since the last warning */
	char *model;
	char message[512]; /* of the last failure */
	TimestampTz warned_at;
} unchecked = {0};

static void
warn(void)
{
	ereport(WARNING,
			(errcode(ERRCODE_OM_PREDICTION),
			 errmsg("orders pass without the check by model \"%s\": %s", unchecked.model,
					unchecked.message),
			 om_errdetail("orders", psprintf(INT64_FORMAT, unchecked.orders)),
			 errhint("A fallback of the model could answer, or order_mgmt.check_on_failure "
					 "could be \"retry\".")));
	unchecked.warned_at = GetCurrentTimestamp();
	unchecked.orders = 0;
}

static void
warn_at_exit(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	if (unchecked.orders > 0)
		warn();
}

static void
note_unchecked(const Check *check)
{
	const char *message = check->error->message;
	char *model = MemoryContextStrdup(TopMemoryContext, om_setting_check_model);

	if (unchecked.model != NULL)
		pfree(unchecked.model);
	else if (IsBackgroundWorker)
		before_shmem_exit(warn_at_exit, (Datum) 0);
	unchecked.model = model;
	unchecked.orders += check->nunanswered;
	strlcpy(unchecked.message, message,
			pg_mbcliplen(message, strlen(message), sizeof(unchecked.message) - 1) + 1);
}

/* A worker says in the name of all since the last time how many orders have not been checked. */
static void
report(const Check *check)
{
	if (check->nunanswered > 0)
		note_unchecked(check);
	if (unchecked.orders > 0 &&
		(!IsBackgroundWorker ||
		 TimestampDifferenceExceeds(unchecked.warned_at, GetCurrentTimestamp(), WARN_AGAIN_MS)))
		warn();
}

/* With "retry" the pipeline finds out whose fault it is. */
static void
ask_all(Check *check)
{
	Part all = {check, 0, check->count};

	if (check->count > 0 && om_setting_check_on_failure == OM_CHECK_RETRY)
	{
		ErrorData *error = attempt(&all);

		if (error != NULL)
			ReThrowError(error);
	}
	else if (check->count > 0)
		ask(&all);
	report(check);
}

/* ---------- verdicts ---------- */

static bool
is_refused(double score)
{
	return !isnan(score) && score >= om_setting_check_threshold;
}

static void
add_number(OmJson *json, const char *key, double number)
{
	char *text = float8out_internal(number);

	om_json_key(json, key);
	om_json_jsonb(json, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))));
}

static Jsonb *
refusal_detail(double score, int round)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "reasons");
	om_json_open_array(&json);
	om_json_string(&json, om_reason_names[OM_REASON_HIGH_RISK]);
	om_json_close_array(&json);
	om_json_key(&json, "model");
	om_json_string(&json, om_setting_check_model);
	add_number(&json, "score", score);
	add_number(&json, "threshold", om_setting_check_threshold);
	om_log_add_round(&json, round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

/* Who waits for credit has been asked about before, and has passed. */
static int *
gather(Check *check, OmItem *const *items, int count)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	int *positions = palloc(sizeof(int) * count);

	for (int i = 0; i < count; i++)
	{
		Jsonb *input =
			items[i]->claim != NULL ? NULL : describe_order(tables, &items[i]->event.order_id);

		if (input == NULL)
			continue;
		positions[check->count] = i;
		add_question(check, input);
	}
	om_orders_close(tables);
	return positions;
}

Jsonb **
om_ordercheck_ask(OmItem *const *items, int count)
{
	Check check = begin_check(count);
	Jsonb **refusals = palloc0(sizeof(Jsonb *) * count);
	int *positions = gather(&check, items, count);

	OM_FAULT_POINT("ordercheck/gathered");
	ask_all(&check);
	OM_FAULT_POINT("ordercheck/answered");
	for (int i = 0; i < check.count; i++)
	{
		if (is_refused(check.scores[i]))
			refusals[positions[i]] = refusal_detail(check.scores[i], items[positions[i]]->round);
	}
	return refusals;
}

bool
om_ordercheck_preview(const OmCapture *capture)
{
	Check check = begin_check(1);

	add_question(&check, describe_request(capture));
	ask(&(Part){&check, 0, 1});
	report(&check);
	return is_refused(check.scores[0]);
}
