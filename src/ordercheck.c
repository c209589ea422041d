/*
 * ordercheck.c
 *		Refuses orders by the score of a model.
 *
 * Models may run code of users, which has no place in the workers that check
 * credit and stock.  So the model is asked by who captures the order, in his
 * session and with his rights, and an order that it refuses is captured and
 * cancelled in one transaction.  To the pipeline that is a cancellation like any
 * other: what the checks hold for it is released.
 *
 * A model that fails stops no shop: orders pass, and a warning says so.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "errors.h"
#include "jsonout.h"
#include "lifecycle.h"
#include "modelrows.h"
#include "ordercheck.h"
#include "predictions.h"
#include "providers.h"
#include "relations.h"
#include "scores.h"
#include "settings.h"

/* Orders have been captured when the model is asked: nobody outside can be waited for then. */
static const char *
find_fault(const char *name)
{
	OmModelRow *row;

	if (!OidIsValid(om_relation_find("model_definitions")))
		return NULL;
	row = om_modelrow_find(name);
	if (row == NULL || (om_provider_get(row->kind)->flags & OM_PROVIDER_WAITS_OUTSIDE) == 0)
		return NULL;
	return psprintf("Its kind \"%s\" answers from outside the server, and orders hold locks.",
					row->kind);
}

static void
add_lines(OmJson *json, const OmRequest *request)
{
	om_json_key(json, "lines");
	om_json_open_array(json);
	for (int i = 0; i < request->nlines; i++)
	{
		const OmRequestLine *line = &request->lines[i];

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

static Jsonb *
describe(const OmCapture *capture)
{
	const OmRequest *request = &capture->request;
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "order_id");
	om_json_string(
		&json, DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&capture->order_id))));
	om_json_key(&json, "order_ref");
	om_json_string(&json, request->order_ref);
	om_json_key(&json, "customer_id");
	om_json_string(&json, request->customer_id);
	om_json_key(&json, "total");
	om_json_money(&json, capture->total);
	om_json_key(&json, "metadata");
	om_json_jsonb(&json, request->metadata);
	add_lines(&json, request);
	om_json_close_object(&json);
	return om_json_result(&json);
}

typedef struct Check
{
	const OmCapture **captures;
	Jsonb **inputs;
	Jsonb **outputs;
	double *scores;
	int count;
} Check;

static void
ask_model(void *arg)
{
	Check *check = arg;

	om_predict(om_setting_check_model, check->inputs, check->count, check->outputs);
	for (int i = 0; i < check->count; i++)
	{
		if (!om_score_of_output(check->outputs[i], NULL, &check->scores[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OM_PREDICTION),
					 errmsg("an output of model \"%s\" has no score", om_setting_check_model),
					 errhint("Outputs are numbers, or objects with a member \"score\".")));
	}
}

/* False: the model has failed. */
static bool
has_answered(Check *check)
{
	ErrorData *error = om_provider_attempt(ask_model, check);
	bool is_outside;

	if (error == NULL)
		return true;
	if (om_provider_error_is_alien(error))
		ReThrowError(error);
	is_outside = find_fault(om_setting_check_model) != NULL;
	ereport(WARNING,
			(errcode(ERRCODE_OM_PREDICTION),
			 errmsg("orders have not been checked by model \"%s\": %s", om_setting_check_model,
					error->message),
			 is_outside
				 ? errhint("They pass this check.  Name a model that answers in the database.")
				 : errhint("They pass this check.  A fallback of the model could answer.")));
	return false;
}

static void
refuse(const OmCapture *capture, double score)
{
	char *reason = psprintf("model \"%s\": score %g reaches %g", om_setting_check_model, score,
							om_setting_check_threshold);

	(void) om_lifecycle_cancel(&capture->order_id, reason, NULL);
}

static void
gather(Check *check, const OmCapture *captures, int count)
{
	check->captures = palloc(sizeof(OmCapture *) * count);
	check->inputs = palloc(sizeof(Jsonb *) * count);
	check->outputs = palloc(sizeof(Jsonb *) * count);
	check->scores = palloc(sizeof(double) * count);
	for (int i = 0; i < count; i++)
	{
		if (!captures[i].created)
			continue;
		check->captures[check->count] = &captures[i];
		check->inputs[check->count++] = describe(&captures[i]);
	}
}

void
om_ordercheck_run(const OmCapture *captures, int count)
{
	Check check = {.count = 0};

	if (om_setting_check_model == NULL || *om_setting_check_model == '\0' || count == 0)
		return;
	gather(&check, captures, count);
	if (check.count == 0 || !has_answered(&check))
		return;
	for (int i = 0; i < check.count; i++)
	{
		if (check.scores[i] >= om_setting_check_threshold)
			refuse(check.captures[i], check.scores[i]);
	}
}

/* --- the setting ---------------------------------------------------------------------------------- */

typedef struct Look
{
	const char *name;
	const char *fault;
} Look;

static void
look(void *arg)
{
	Look *at = arg;

	PushActiveSnapshot(GetTransactionSnapshot());
	at->fault = find_fault(at->name);
	PopActiveSnapshot();
}

/* Where its library cannot be loaded now, it may be elsewhere, or later. */
static const char *
find_fault_of_setting(const char *name)
{
	Look at = {.name = name};
	ErrorData *error = om_provider_attempt(look, &at);

	return error == NULL ? at.fault : NULL;
}

void
om_ordercheck_init(void)
{
	om_setting_find_model_fault = find_fault_of_setting;
}
