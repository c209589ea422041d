/*
 * predictionrequests.h
 *		Table "prediction_requests": what models outside are to be asked after the
 *		commit, and what they have answered.
 */
#ifndef OM_PREDICTIONREQUESTS_H
#define OM_PREDICTIONREQUESTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct OmPredictionRequest
{
	int64 id;
	char *model;
	Jsonb *inputs; /* an array */
	int attempts;  /* with the one that begins now */
} OmPredictionRequest;

/* Most inputs of a request. */
#define OM_PREDICTIONREQUEST_MAX_INPUTS 10000

/*
 * Returns the number of the request.  OM004: there is no such model; OM005: it
 * answers in the database, where nobody has to wait.
 */
extern int64 om_predictionrequest_add(const char *model, Jsonb *inputs);

/* When the next one is due; 0: there is none. */
extern TimestampTz om_predictionrequests_next_due(void);

/*
 * The next one that is due, in the current memory context; NULL: there is none.
 * That it has been taken is to be committed before it is asked.
 */
extern OmPredictionRequest *om_predictionrequest_take(void);

/* Asks the model; the array of its answers. */
extern Jsonb *om_predictionrequest_ask(const OmPredictionRequest *request);

/* Keeps the answer, and notifies. */
extern void om_predictionrequest_answer(const OmPredictionRequest *request, Jsonb *outputs);

/* Keeps why it has failed; it is tried again where that makes sense, else it notifies. */
extern void om_predictionrequest_fail(const OmPredictionRequest *request, int sqlstate,
									  const char *message);

/* True: it has ended its process too often. */
extern bool om_predictionrequest_is_hopeless(const OmPredictionRequest *request);

/* Deletes those that were answered, or failed, longer ago; returns how many. */
extern int64 om_predictionrequests_purge(int64 older_ms);

#endif /* OM_PREDICTIONREQUESTS_H */
