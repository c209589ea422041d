/*
 * provider.c
 *		Models of kind http: predictions made by somebody else.
 *
 * Nothing is trained: a model is its options.  A batch of inputs becomes one
 * call, or one call each, which the caller makes (caller.c); the session waits
 * and can be cancelled.  Its own transaction stays as it is meanwhile: order_mgmt
 * sees to it that it is none for which others may have to wait.
 */
#include "http.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PGDLLEXPORT const OmPredictProvider *order_mgmt_provider_init(int abi);

static void
validate_options(const OmModelInfo *info)
{
	(void) http_settings_read(info);
}

static void *
load(const OmModelInfo *info, OmModelBytes bytes pg_attribute_unused(), MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	HttpModel *model = http_settings_read(info);

	MemoryContextSwitchTo(caller);
	return model;
}

/* Each time, since the setting may have changed. */
static void
require_allowed(const HttpModel *model)
{
	const char *prefixes =
		GetConfigOption("order_mgmt.http_endpoints", true /* missing_ok */, false);

	if (prefixes != NULL && http_url_is_allowed(&model->url, prefixes))
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("\"%s\" may not be called", model->url.host),
					errhint("A superuser can add the beginning of its URL to "
							"order_mgmt.http_endpoints.")));
}

/* --- one batch ------------------------------------------------------------------------------ */

typedef struct Batch
{
	const OmPredictRequest *request;
	const HttpModel *model;
	HttpCredentials *credentials;
	TimestampTz deadline;
	MemoryContext context; /* of the outputs */
} Batch;

static void
sign(const Batch *batch, HttpCall *call)
{
	const HttpModel *model = batch->model;
	const HttpCredentials *credentials = batch->credentials;

	if (model->aws_region == NULL || credentials->access_key_id == NULL)
		return;
	call->aws = psprintf("aws:amz:%s:%s", model->aws_region, model->aws_service);
	call->user = credentials->access_key_id;
	call->password = credentials->secret_access_key;
}

/*
 * A little less than there is, so that the caller finds the time to be over first: what it does not
 * know of does not count against the circuit.
 */
static int
time_for_call(const Batch *batch)
{
	int64 left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), batch->deadline);

	left -= Min(left / 10, 100);
	return (int) Min(Max(left, 1), batch->model->timeout_ms);
}

/* Inputs of a call: all, or one. */
static HttpCall *
produce(HttpExchange *exchange, int id)
{
	const Batch *batch = exchange->owner;
	const HttpModel *model = batch->model;
	int first = model->one_by_one ? id : 0;
	HttpCall *call = palloc0(sizeof(HttpCall));
	StringInfoData body;

	http_body_write(model, batch->request->inputs + first,
					model->one_by_one ? 1 : batch->request->count, &body);
	call->body = body.data;
	call->body_size = body.len;
	call->url = model->url.text;
	call->ca_file = model->ca_file;
	call->circuit = psprintf("%u/%s", MyDatabaseId, batch->request->model->name);
	call->verify_tls = model->verify_tls;
	call->timeout_ms = time_for_call(batch);
	call->connect_timeout_ms = model->connect_timeout_ms;
	call->retries = model->retries;
	call->backoff_ms = model->backoff_ms;
	call->circuit_failures = model->circuit_failures;
	call->circuit_open_ms = model->circuit_open_ms;
	call->max_response_bytes = model->max_response_bytes;
	call->headers = list_concat_copy(model->headers, batch->credentials->headers);
	sign(batch, call);
	return call;
}

/* What is read of an answer goes with it; outputs stay. */
static void
consume(HttpExchange *exchange, const HttpAnswer *answer)
{
	const Batch *batch = exchange->owner;
	bool one_by_one = batch->model->one_by_one;
	int count = one_by_one ? 1 : batch->request->count;
	Jsonb **outputs = batch->request->outputs + (one_by_one ? answer->id : 0);
	MemoryContext caller;

	http_answer_read(batch->model, batch->credentials, answer, outputs, count);
	caller = MemoryContextSwitchTo(batch->context);
	for (int i = 0; i < count; i++)
		outputs[i] = DatumGetJsonbPCopy(JsonbPGetDatum(outputs[i]));
	MemoryContextSwitchTo(caller);
}

/*
 * A call knows its time itself and tells of it; the deadline is for a caller that does not
 * answer at all.  With one call per input each has its own time.
 */
static TimestampTz
find_deadline(const OmPredictRequest *request, const HttpModel *model)
{
	int64 rounds =
		!model->one_by_one ? 1 : (request->count + model->concurrency - 1) / model->concurrency;
	TimestampTz own =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), rounds * model->timeout_ms + 5000);

	return request->deadline != 0 && request->deadline < own ? request->deadline : own;
}

static int
predict_batch(const OmPredictRequest *request)
{
	const HttpModel *model = request->state;
	Batch batch = {.request = request,
				   .model = model,
				   .deadline = find_deadline(request, model),
				   .context = CurrentMemoryContext};
	HttpExchange exchange = {.count = model->one_by_one ? request->count : 1,
							 .concurrency = model->concurrency,
							 .deadline = batch.deadline,
							 .produce = produce,
							 .consume = consume,
							 .owner = &batch};

	if (request->count == 0)
		return 0;
	require_allowed(model);
	batch.credentials = http_credentials_get(model->secret);
	http_exchange_run(&exchange);
	return request->count;
}

static const OmPredictProvider provider = {.abi = OM_PROVIDER_ABI,
										   .kind = "http",
										   .flags =
											   OM_PROVIDER_UNTRAINED | OM_PROVIDER_WAITS_OUTSIDE,
										   .validate_options = validate_options,
										   .load = load,
										   .predict_batch = predict_batch};

const OmPredictProvider *
order_mgmt_provider_init(int abi)
{
	return abi == OM_PROVIDER_ABI ? &provider : NULL;
}
