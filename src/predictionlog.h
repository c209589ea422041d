/*
 * predictionlog.h
 *		Table "prediction_log": what models have answered.
 */
#ifndef OM_PREDICTIONLOG_H
#define OM_PREDICTIONLOG_H

#include "postgres.h"

#include "models.h"

/* True for a part of the calls, as the model's option log_sample says; never where nothing can be written. */
extern bool om_predictionlog_wants(const OmModel *model);

/*
 * Adds a row.  customer_id NULL: the input's member of that name; output NULL:
 * the model has failed with this SQLSTATE.  It is written now, or when the
 * transaction is about to commit: then it is no reason not to ask a model that
 * waits for somebody outside (om_provider_require_free()).
 */
extern void om_predictionlog_add(const OmModel *model, const char *customer_id, Jsonb *input,
								 Jsonb *output, int64 duration_us, const char *error_code,
								 bool at_commit);

/* To be called when the library is loaded. */
extern void om_predictionlog_init(void);

/* Deletes rows that are older than so many milliseconds; returns how many. */
extern int64 om_predictionlog_purge(int64 older_ms);

#endif /* OM_PREDICTIONLOG_H */
