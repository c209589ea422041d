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

/*
 * The same by models that wait for somebody outside only: others, which may run
 * code of users, are not asked, as if they had failed.  For a worker that has the
 * rights of the server.
 */
extern void om_predict_outside(const char *name, Jsonb *const *inputs, int count, Jsonb **outputs);

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

/*
 * A way of one's own to ask models, with their fallbacks as om_predict() has
 * them.  ask() calls om_predict_attempt() and returns what that returns; log() is told
 * when it has answered (error is NULL) or failed, and whether what it adds to the
 * log is to wait for the commit.
 */
typedef struct OmWay
{
	bool outside_only; /* models that do not wait for somebody outside fail unasked */
	ErrorData *(*ask)(OmModel *model, void *arg);
	void (*log)(const OmModel *model, void *arg, int64 duration_us, const ErrorData *error,
				bool at_commit);
	void *arg;
} OmWay;

extern void om_predict_by_way(const char *name, const OmWay *way);

#endif /* OM_PREDICTIONS_H */
