/*
 * transfers.c
 *		Makes calls with libcurl, and repeats those that may succeed yet.
 *
 * Repeated is what the other side answers with 429 or 5xx, and what did not get
 * through, as long as the call's time allows: after a pause that doubles, with a
 * random part, or after what the other side asks for.  Redirects are answers like
 * others; nothing is followed.
 *
 * All memory of a transfer but libcurl's own lies in the context of its call.
 * libcurl starts threads to look up names: they must get no signals, since the
 * handlers are meant for the process's only thread.
 */
#include "http.h"

#include <curl/curl.h>
#include <signal.h>

#include "common/pg_prng.h"
#include "lib/ilist.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BACKOFF_MAX_MS 10000

/* From this release on libcurl encodes the path before it signs it. */
#define CURL_ENCODES_SIGNED_PATH 0x080e00

struct HttpTransfer
{
	dlist_node node;
	void *owner;
	MemoryContext context;
	HttpCall *call;
	TimestampTz deadline;
	TimestampTz retry_at; /* 0: is under way */
	bool is_probe;
	bool too_large;
	int attempts;
	CURL *easy;
	struct curl_slist *headers;
	StringInfoData body;
	char error[CURL_ERROR_SIZE];
};

static CURLM *multi;
static HttpTransferDone tell_owner;
static dlist_head transfers = DLIST_STATIC_INIT(transfers);
static int ntransfers = 0;

void
http_transfers_init(HttpTransferDone done)
{
	tell_owner = done;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize libcurl")));
}

int
http_transfers_count(void)
{
	return ntransfers;
}

/* --- one attempt ---------------------------------------------------------------------------- */

static size_t
keep_body(char *data, size_t size, size_t count, void *userdata)
{
	HttpTransfer *transfer = userdata;
	size_t bytes = size * count;

	if (bytes > (size_t) (transfer->call->max_response_bytes - transfer->body.len))
	{
		transfer->too_large = true;
		return 0;
	}
	appendBinaryStringInfo(&transfer->body, data, (int) bytes);
	return bytes;
}

static int
remaining_ms(const HttpTransfer *transfer)
{
	return (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), transfer->deadline);
}

/*
 * Amazon signs the path as it is sent, encoded once more.  Releases of libcurl
 * before the one above sign the path of the URL as it stands; so where the two
 * differ the URL has the path to be signed, and the one to be sent is told apart.
 */
static void
set_signed_path(HttpTransfer *transfer)
{
	CURLU *url = curl_url();
	char *path = NULL;

	if (url != NULL && curl_url_set(url, CURLUPART_URL, transfer->call->url, 0) == CURLUE_OK &&
		curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK)
	{
		char *to_sign = http_url_signed_path(path);
		char *text = NULL;

		if (strcmp(path, to_sign) != 0 &&
			curl_version_info(CURLVERSION_NOW)->version_num < CURL_ENCODES_SIGNED_PATH &&
			curl_url_set(url, CURLUPART_PATH, to_sign, 0) == CURLUE_OK &&
			curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK)
		{
			curl_easy_setopt(transfer->easy, CURLOPT_URL, text);
			curl_easy_setopt(transfer->easy, CURLOPT_REQUEST_TARGET, path);
		}
		curl_free(text);
	}
	curl_free(path);
	curl_url_cleanup(url);
}

static void
sign(HttpTransfer *transfer)
{
	const HttpCall *call = transfer->call;

	if (call->aws[0] == '\0')
		return;
	curl_easy_setopt(transfer->easy, CURLOPT_AWS_SIGV4, call->aws);
	curl_easy_setopt(transfer->easy, CURLOPT_USERNAME, call->user);
	curl_easy_setopt(transfer->easy, CURLOPT_PASSWORD, call->password);
	set_signed_path(transfer);
}

static void
restrict_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* waits for no name server */
#endif
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
}

static void
set_body(HttpTransfer *transfer)
{
	const HttpCall *call = transfer->call;
	ListCell *cell;

	foreach(cell, call->headers)
		transfer->headers = curl_slist_append(transfer->headers, lfirst(cell));
	curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(transfer->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE, (long) call->body_size);
	curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, call->body);
}

static void
set_up(HttpTransfer *transfer)
{
	CURL *easy = transfer->easy;
	const HttpCall *call = transfer->call;

	restrict_protocols(easy);
	curl_easy_setopt(easy, CURLOPT_URL, call->url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) call->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) Max(remaining_ms(transfer), 1));
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, call->verify_tls ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, call->verify_tls ? 2L : 0L);
	if (call->ca_file[0] != '\0')
		curl_easy_setopt(easy, CURLOPT_CAINFO, call->ca_file);
	set_body(transfer);
	sign(transfer);
}

static void
tear_down(HttpTransfer *transfer)
{
	if (transfer->easy != NULL)
	{
		curl_multi_remove_handle(multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
	}
	curl_slist_free_all(transfer->headers);
	transfer->easy = NULL;
	transfer->headers = NULL;
}

static void
start_attempt(HttpTransfer *transfer)
{
	transfer->retry_at = 0;
	transfer->attempts++;
	transfer->error[0] = '\0';
	resetStringInfo(&transfer->body);
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	set_up(transfer);
	curl_multi_add_handle(multi, transfer->easy);
}

/* --- the end of a transfer ------------------------------------------------------------------ */

static void
release(HttpTransfer *transfer)
{
	tear_down(transfer);
	dlist_delete(&transfer->node);
	ntransfers--;
	MemoryContextDelete(transfer->context);
}

static void
finish(HttpTransfer *transfer, HttpAnswer *answer)
{
	answer->id = transfer->call->id;
	answer->attempts = transfer->attempts;
	tell_owner(transfer->owner, transfer, answer);
	release(transfer);
}

static bool
is_worth_repeating(int status)
{
	return status == 429 || status >= 500;
}

/* Whatever says that the other side does not work, but not that the request is wrong. */
static bool
is_failure(const HttpAnswer *answer)
{
	return answer->outcome == HTTP_TIMED_OUT || answer->outcome == HTTP_FAILED ||
		   (answer->outcome == HTTP_ANSWERED && is_worth_repeating(answer->status));
}

static void
note_outcome(const HttpTransfer *transfer, const HttpAnswer *answer)
{
	const HttpCall *call = transfer->call;

	if (is_failure(answer))
		http_circuit_failed(call->circuit, call->circuit_failures, call->circuit_open_ms);
	else
		http_circuit_succeeded(call->circuit);
}

static bool
may_get_through(CURLcode code)
{
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
		case CURLE_OPERATION_TIMEDOUT: /* of connecting; the call's own time is looked at apart */
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
		case CURLE_PARTIAL_FILE:
		case CURLE_HTTP2:
		case CURLE_HTTP2_STREAM:
		case CURLE_SSL_CONNECT_ERROR:
			return true;
		default:
			return false;
	}
}

/* Doubles, and half of it is random, so that sessions that failed together do not return together. */
static int
pause_ms(const HttpTransfer *transfer, CURLcode code)
{
	int64 pause = (int64) transfer->call->backoff_ms << Min(transfer->attempts - 1, 16);
	curl_off_t asked = 0;

	pause = Min(pause, BACKOFF_MAX_MS);
	pause = pause / 2 + (int64) (pg_prng_double(&pg_global_prng_state) * (pause / 2.0));
	if (code == CURLE_OK)
		curl_easy_getinfo(transfer->easy, CURLINFO_RETRY_AFTER, &asked);
	return (int) Min(Max(pause, asked * 1000), PG_INT32_MAX / 2);
}

/* False: there are no more attempts, or no time for another. */
static bool
plan_retry(HttpTransfer *transfer, CURLcode code)
{
	int pause;

	if (transfer->attempts > transfer->call->retries)
		return false;
	pause = pause_ms(transfer, code);
	if (pause >= remaining_ms(transfer))
		return false;
	transfer->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	tear_down(transfer);
	return true;
}

static void
describe_failure(HttpTransfer *transfer, CURLcode code, HttpAnswer *answer)
{
	if (transfer->too_large)
		answer->outcome = HTTP_TOO_LARGE;
	else if (code == CURLE_OPERATION_TIMEDOUT)
		answer->outcome = HTTP_TIMED_OUT;
	else
		answer->outcome = HTTP_FAILED;
	answer->message =
		transfer->error[0] != '\0' ? transfer->error : unconstify(char *, curl_easy_strerror(code));
}

static void
describe_answer(HttpTransfer *transfer, HttpAnswer *answer)
{
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_TYPE, &answer->content_type);
	answer->outcome = HTTP_ANSWERED;
	answer->status = (int) status;
	answer->body = transfer->body.data;
	answer->body_size = transfer->body.len;
}

static void
attempt_ended(HttpTransfer *transfer, CURLcode code)
{
	HttpAnswer answer = {0};
	bool repeat;

	if (code == CURLE_OK)
	{
		describe_answer(transfer, &answer);
		repeat = is_worth_repeating(answer.status);
	}
	else
	{
		describe_failure(transfer, code, &answer);
		repeat = !transfer->too_large && may_get_through(code);
	}
	if (repeat && plan_retry(transfer, code))
		return;
	note_outcome(transfer, &answer);
	finish(transfer, &answer);
}

/* --- all of them ---------------------------------------------------------------------------- */

void
http_transfer_begin(void *owner, HttpCall *call, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	HttpTransfer *transfer = palloc0(sizeof(HttpTransfer));

	transfer->owner = owner;
	transfer->context = context;
	transfer->call = call;
	transfer->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), call->timeout_ms);
	initStringInfo(&transfer->body);
	MemoryContextSwitchTo(caller);
	dlist_push_tail(&transfers, &transfer->node);
	ntransfers++;
	if (http_circuit_admits(call->circuit, call->circuit_failures, &transfer->is_probe))
		start_attempt(transfer);
	else
	{
		HttpAnswer answer = {.outcome = HTTP_CIRCUIT_OPEN};

		finish(transfer, &answer);
	}
}

void
http_transfers_cancel(void *owner)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &transfers)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (transfer->owner != owner)
			continue;
		if (transfer->is_probe)
			http_circuit_abandoned(transfer->call->circuit);
		release(transfer);
	}
}

/* Returns the time of the next retry, or 0. */
static TimestampTz
start_what_is_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = 0;
	dlist_iter iter;

	dlist_foreach(iter, &transfers)
	{
		HttpTransfer *transfer = dlist_container(HttpTransfer, node, iter.cur);

		if (transfer->retry_at == 0)
			continue;
		if (transfer->retry_at <= now)
			start_attempt(transfer);
		else if (next == 0 || transfer->retry_at < next)
			next = transfer->retry_at;
	}
	return next;
}

static void
collect_what_has_ended(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURLcode code = message->data.result;
		char *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		attempt_ended((HttpTransfer *) transfer, code);
	}
}

void
http_transfers_run(void)
{
	sigset_t all, before;
	int running;

	(void) start_what_is_due();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	(void) curl_multi_perform(multi, &running);
	sigprocmask(SIG_SETMASK, &before, NULL);
	collect_what_has_ended();
}

void
http_transfers_wait(struct curl_waitfd *fds, int count, int timeout_ms)
{
	TimestampTz next = start_what_is_due();

	if (next != 0)
		timeout_ms =
			Min(timeout_ms, (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next) + 1);
	(void) curl_multi_poll(multi, fds, count, timeout_ms, NULL);
}
