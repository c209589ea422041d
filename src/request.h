/*
 * request.h
 *		Orders as clients send them: JSON in, a checked request or a problem out.
 */
#ifndef OM_REQUEST_H
#define OM_REQUEST_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "compat.h"

#define OM_ID_MAX_CHARS 64
#define OM_REF_MAX_CHARS 200

/* Why a request is refused; sqlstate 0 means that it is not. */
typedef struct OmProblem
{
	int sqlstate;
	char *path; /* where in the request, such as lines[2].quantity */
	char *message;
} OmProblem;

typedef struct OmRequestLine
{
	char *product_id;
	int32 quantity;
	bool has_price;
	int64 unit_price;
} OmRequestLine;

typedef struct OmRequest
{
	char *customer_id;
	char *idempotency_key; /* or NULL */
	char *order_ref;       /* or NULL */
	Jsonb *metadata;
	bool has_expected_total;
	int64 expected_total;
	int nlines;
	OmRequestLine *lines;
	char *lines_text; /* as sent, for the hash of the request */
} OmRequest;

extern void om_problem_set(OmProblem *problem, int sqlstate, char *path, const char *fmt, ...)
	pg_attribute_printf(4, 5);

/* Turns a problem into an error. */
extern void om_problem_raise(const OmProblem *problem) OM_NORETURN;

/* Checks the arguments of capture_order(); NULL stands for an argument that is. */
extern bool om_request_from_parts(OmRequest *request, const char *customer_id, Jsonb *lines,
								  const char *idempotency_key, const char *order_ref,
								  Jsonb *metadata, Numeric expected_total, OmProblem *problem);

/* Checks one element of the array of capture_orders(). */
extern bool om_request_from_json(OmRequest *request, JsonbValue *element, OmProblem *problem);

/* Checks the length of an id; the name is the path of the problem. */
extern bool om_request_check_id(const char *name, const char *value, int max_chars,
								OmProblem *problem);

#endif /* OM_REQUEST_H */
