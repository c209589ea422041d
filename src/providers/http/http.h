/*
 * http.h
 *		The parts of the provider of kind http.
 *
 *		credentials  what a secret holds, and keeping it out of messages
 *		urls         endpoints, and which of them are allowed
 *		settings     the options of a model
 *		bodies       inputs to request bodies
 *		answers      response bodies to outputs
 *		wire         calls and answers as bytes
 *		exchange     hands calls to the caller process and waits for it
 *		circuits     when a model that keeps failing is left alone
 *		transfers    one call by libcurl, repeated where that helps
 *		caller       the process that makes the calls of all sessions
 *		provider     what order_mgmt calls
 *
 * A session builds requests and reads answers; the caller moves bytes and knows
 * neither tables nor JSON.
 */
#ifndef OM_HTTP_H
#define OM_HTTP_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "errors.h"
#include "order_mgmt.h"

/* Where sessions find the caller, relative to the data directory, in which all of us live. */
#define HTTP_SOCKET "pg_dynshmem/order_mgmt.caller"
#define HTTP_LOCK HTTP_SOCKET ".lock"

/* The first that the caller says; a session of another version of this library goes no further. */
#define HTTP_GREETING "OMH1"
#define HTTP_GREETING_SIZE 4

/* --- credentials ---------------------------------------------------------------------------- */

typedef struct HttpCredentials
{
	char *access_key_id; /* this and the next: both or none */
	char *secret_access_key;
	List *headers; /* of char *: "Name: value" */
	List *words;   /* of char *: what no message may show */
} HttpCredentials;

/* Reads the secret of this name with the rights of order_mgmt; NULL stands for none. */
extern HttpCredentials *http_credentials_get(const char *name);

/*
 * The beginning of a text that came from outside, for people: one line, in the
 * server's encoding, with all words of the credentials struck out.
 */
extern char *http_credentials_excerpt(const HttpCredentials *credentials, const char *text,
									  Size size);

/* --- urls ----------------------------------------------------------------------------------- */

typedef struct HttpUrl
{
	char *text; /* as libcurl writes it */
	char *scheme;
	char *host;
	int port;
	char *path;
	bool has_query;
} HttpUrl;

/* Returns what is wrong with it, or NULL. */
extern const char *http_url_parse(const char *text, HttpUrl *url);

/* Whether one of the prefixes of a list admits it. */
extern bool http_url_is_allowed(const HttpUrl *url, const char *prefixes);

/* Adds a path segment of any text. */
extern void http_url_append_segment(StringInfo url, const char *text);

/* The path as Amazon signs it: encoded once more. */
extern char *http_url_signed_path(const char *path);

/* --- settings ------------------------------------------------------------------------------- */

typedef enum HttpFormat
{
	HTTP_FORMAT_GENERIC,
	HTTP_FORMAT_SAGEMAKER,
	HTTP_FORMAT_BEDROCK
} HttpFormat;

/* The options of a model, checked; lives as long as the model is loaded. */
typedef struct HttpModel
{
	HttpFormat format;
	HttpUrl url;
	Jsonb *template;  /* of the body; NULL: CSV */
	bool one_by_one;  /* one input per call */
	List *pointer;    /* of char *: where in the answer the outputs are */
	List *columns;    /* of char *: members of inputs that make a CSV row, in order */
	List *headers;    /* of char *: "Name: value" */
	char *aws_region; /* this and the next: both or none */
	char *aws_service;
	char *secret; /* its name, or NULL */
	char *ca_file;
	bool verify_tls;
	int timeout_ms;
	int connect_timeout_ms;
	int retries;
	int backoff_ms;
	int concurrency;
	int circuit_failures; /* 0: never opens */
	int circuit_open_ms;
	int max_response_bytes;
} HttpModel;

/* Raises an OM001 where options make no sense.  The result lies in the current context. */
extern HttpModel *http_settings_read(const OmModelInfo *info);

/* --- bodies --------------------------------------------------------------------------------- */

/* True where a template takes a single input, and not the array of all. */
extern bool http_body_is_of_one(Jsonb *template);

/* The body for inputs, in UTF-8. */
extern void http_body_write(const HttpModel *model, Jsonb *const *inputs, int count,
							StringInfo body);

/* --- calls and answers, wire ------------------------------------------------------------------ */

typedef struct HttpCall
{
	int id;
	char *url;
	char *aws; /* what libcurl signs for, or "" */
	char *user;
	char *password;
	char *ca_file; /* or "" */
	char *circuit; /* whose circuit it is */
	bool verify_tls;
	int timeout_ms; /* for all attempts together */
	int connect_timeout_ms;
	int retries;
	int backoff_ms;
	int circuit_failures;
	int circuit_open_ms;
	int max_response_bytes;
	List *headers; /* of char * */
	char *body;
	int body_size;
} HttpCall;

typedef enum HttpOutcome
{
	HTTP_ANSWERED,     /* with whatever status */
	HTTP_CIRCUIT_OPEN, /* was not called */
	HTTP_TIMED_OUT,
	HTTP_TOO_LARGE,
	HTTP_FAILED /* no answer; message says why */
} HttpOutcome;

typedef struct HttpAnswer
{
	int id;
	HttpOutcome outcome;
	int status; /* of HTTP */
	int attempts;
	char *content_type;
	char *message;
	char *body;
	int body_size;
} HttpAnswer;

/* Adds a frame, which begins with the size of what follows. */
extern void http_wire_put_call(StringInfo out, const HttpCall *call);
extern void http_wire_put_answer(StringInfo out, const HttpAnswer *answer);

/* Size of the first frame of what has been received; 0: it is not all there. */
extern Size http_wire_frame(const char *data, Size size);

/* A frame as what it is, copied into the current context; an error if it is not. */
extern HttpCall *http_wire_get_call(const char *frame, Size size);
extern HttpAnswer *http_wire_get_answer(const char *frame, Size size);

/* --- answers -------------------------------------------------------------------------------- */

/* Fills the outputs of the inputs that one call was about, or raises an error. */
extern void http_answer_read(const HttpModel *model, const HttpCredentials *credentials,
							 const HttpAnswer *answer, Jsonb **outputs, int count);

/* --- exchange ------------------------------------------------------------------------------- */

/*
 * Makes calls, some at the same time, and waits for all; consume() gets each
 * answer as it comes.  Fails at the deadline.
 */
typedef struct HttpExchange
{
	int count;
	int concurrency;
	TimestampTz deadline;
	HttpCall *(*produce)(struct HttpExchange *exchange, int id);
	void (*consume)(struct HttpExchange *exchange, const HttpAnswer *answer);
	void *owner; /* both run in a context that is emptied thereafter */
} HttpExchange;

extern void http_exchange_run(HttpExchange *exchange);

/* --- circuits ------------------------------------------------------------------------------- */

/* In the caller only. */
typedef struct HttpCircuit HttpCircuit;

extern void http_circuits_init(void);

/* False: it is open, so the call is not to be made.  is_probe: everything depends on this call. */
extern bool http_circuit_admits(const char *key, int failures_to_open, bool *is_probe);

extern void http_circuit_succeeded(const char *key);
extern void http_circuit_failed(const char *key, int failures_to_open, int open_ms);

/* A probe was given up without a result. */
extern void http_circuit_abandoned(const char *key);

/* Forgets old failures; how many circuits are remembered, and how many are open. */
extern void http_circuits_review(int *remembered, int *open);

/* --- transfers ------------------------------------------------------------------------------ */

/* In the caller only. */
typedef struct HttpTransfer HttpTransfer;

/* Told of the end of a transfer, which is gone thereafter. */
typedef void (*HttpTransferDone)(void *owner, HttpTransfer *transfer, const HttpAnswer *answer);

extern void http_transfers_init(HttpTransferDone done);

/* Begins a call, of which it takes the context; it may be done at once. */
extern void http_transfer_begin(void *owner, HttpCall *call, MemoryContext context);

/* Gives up whatever the owner has begun. */
extern void http_transfers_cancel(void *owner);

/* Moves what can be moved. */
extern void http_transfers_run(void);

/* Sleeps until something can be moved or one of the descriptors can. */
struct curl_waitfd;
extern void http_transfers_wait(struct curl_waitfd *fds, int count, int timeout_ms);

extern int http_transfers_count(void);

#endif /* OM_HTTP_H */
