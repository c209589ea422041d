/*
 * predictions.h
 *		Asking models.
 */
#ifndef OM_PREDICTIONS_H
#define OM_PREDICTIONS_H

#include "postgres.h"

#include "models.h"

/*
 * Fills as many outputs as there are inputs, with answers of the model's
 * version that is deployed or, where that fails, of its fallback.  The provider
 * is called with up to max_rows_per_batch inputs at a time.  What has been
 * answered is logged, if the model wants that.  Outputs lie in the current memory
 * context, and so does what the provider has left behind.
 */
extern void om_predict(const char *name, Jsonb *const *inputs, int count, Jsonb **outputs);

/*
 * While this is true, providers run in read-only subtransactions.  Who sets it
 * sets it back, after an error, too.
 */
extern bool om_predict_read_only;

/* Inputs that the model's provider gets at a time: what is best given to om_predict(). */
extern int om_predict_batch_size(const char *name);

/* One call of the provider of a model that is open, without fallback and log: OM008 when it fails. */
extern void om_predict_by(OmModel *model, Jsonb *const *inputs, int count, Jsonb **outputs);

/*
 * Calls work(arg), which uses the model by a way of its own, as predictions are
 * made: within the time limit of the model, and in a subtransaction.  NULL: it has
 * worked; else the error as om_provider_attempt() returns it.
 */
extern ErrorData *om_predict_attempt(OmModel *model, void (*work)(void *arg), void *arg);

#endif /* OM_PREDICTIONS_H */
