/*
 * order_mgmt.h
 *		The interface between order_mgmt and what makes its predictions.
 *
 * This header stands by itself: whoever writes a kind of model of his own
 * includes it after postgres.h, and nothing else of order_mgmt.  `make install`
 * puts it into $(pg_config --includedir-server)/extension/order_mgmt.
 *
 * A provider is a set of callbacks for one kind of model.  Kind "mykind" is
 * looked for in the library order_mgmt_mykind, on dynamic_library_path, and only
 * where setting order_mgmt.predict_providers names mykind.  The library has
 * PG_MODULE_MAGIC and one function that is looked up by its name:
 *
 *		PGDLLEXPORT const OmPredictProvider *order_mgmt_provider_init(int abi);
 *
 * It is given the ABI of order_mgmt and returns a struct that stays where it is,
 * or NULL if it cannot work with that ABI.
 *
 * Rules for callbacks
 *
 * - They run in the caller's session and transaction, with the caller's rights,
 *   never with those of order_mgmt, and on a standby too.  SPI can be used; a
 *   snapshot is active.  Each call is a subtransaction of its own.
 * - They may raise errors.  Users see OM008 with the names of the model and its
 *   kind; what the provider said follows.  Cancellation, termination and
 *   serialization failures (57..., 40...) go through as they are.
 * - What takes long calls CHECK_FOR_INTERRUPTS(); time limits come that way too.
 * - The current memory context lives as long as what the call has returned is
 *   needed, and is thrown away then.  Results are palloc'ed there.
 * - Arguments are not to be changed.
 * - Unless the header says "optional", a callback must be there.
 */
#ifndef ORDER_MGMT_H
#define ORDER_MGMT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* A library that was built for another one is refused. */
#define OM_PROVIDER_ABI 2

#define OM_PROVIDER_ENTRY "order_mgmt_provider_init"
#define OM_PROVIDER_LIBRARY_PREFIX "order_mgmt_"

/* --- flags of a provider ------------------------------------------------------------------------ */

/* Its models predict without ever having been trained: version 0, which has no bytes. */
#define OM_PROVIDER_UNTRAINED 0x0001

/*
 * Its predict_batch(), train() or evaluate() wait for somebody outside the
 * server.  They are not called (OM005) in a transaction for which others may have
 * to wait: one that has changed or locked rows, or locked a table.  For
 * request_prediction() a worker calls load() and predict_batch() with the rights of
 * the server: they must not run code of users.
 */
#define OM_PROVIDER_WAITS_OUTSIDE 0x0002

/* A library with others was built for what this order_mgmt cannot do: it is refused. */
#define OM_PROVIDER_FLAGS (OM_PROVIDER_UNTRAINED | OM_PROVIDER_WAITS_OUTSIDE)

/* --- what callbacks are given --------------------------------------------------------------------- */

typedef struct OmModelInfo
{
	const char *name;
	const char *kind;
	int64 version;  /* that is trained, loaded or asked; 0: none has been trained */
	Jsonb *options; /* of its kind, as they are now: an object without those of every model */
	int timeout_ms; /* of those of every model what a kind may want to know; -1: not given */
} OmModelInfo;

/* A trained model as it was stored; data is NULL where there is none. */
typedef struct OmModelBytes
{
	const char *data;
	Size size;
} OmModelBytes;

typedef struct OmTrainRequest
{
	const OmModelInfo *model; /* version: the one that is being made */
	OmModelBytes previous;    /* of the version that is deployed, to start from */
	int64 previous_version;   /* 0: there is none */
	bool update;              /* go on from it by what is new, if that will do; or train as usual */
} OmTrainRequest;

typedef struct OmTrainResult
{
	bytea *model;   /* what is stored and given to load(); at most 1 GB */
	Jsonb *metrics; /* an object that says how good it is, or NULL */
} OmTrainResult;

typedef struct OmPredictRequest
{
	const OmModelInfo *model;
	void *state;          /* what load() has returned */
	Jsonb *const *inputs; /* never NULL, each whatever the caller gave */
	Jsonb **outputs;      /* as many, NULL before the call: all are to be filled */
	int count;
	TimestampTz deadline; /* when the time limit strikes; 0: there is none */
} OmPredictRequest;

/* A provider reports what it measures with report(request, "recall@10", 0.12). */
typedef struct OmEvaluateRequest
{
	const OmModelInfo *model;
	void *state;
	Jsonb *options; /* of evaluate_model(), but for "version" and "timeout_ms": an object */
	void (*report)(const struct OmEvaluateRequest *request, const char *metric, double value);
	void *sink; /* belongs to report() */
} OmEvaluateRequest;

/* --- the provider --------------------------------------------------------------------------------- */

typedef struct OmPredictProvider
{
	int abi;          /* OM_PROVIDER_ABI */
	const char *kind; /* as the library is called, without its prefix */
	uint32 flags;

	/*
	 * Optional: raises an error where options that the model is to have make no
	 * sense, or are not known.  Those that every model has ("fallback" and its
	 * like) are not among them: order_mgmt has checked them and keeps them to
	 * itself.  An OM001 goes to the user as it is.
	 */
	void (*validate_options)(const OmModelInfo *model);

	/* Makes a new version.  Optional with OM_PROVIDER_UNTRAINED. */
	void (*train)(const OmTrainRequest *request, OmTrainResult *result);

	/*
	 * Prepares a version for predictions; the session keeps what it returns, which
	 * is NULL only if there is nothing to keep.  The context, which is the current
	 * one, lives as long as that; the bytes are gone when the call returns.
	 * Optional.
	 */
	void *(*load)(const OmModelInfo *model, OmModelBytes bytes, MemoryContext context);

	/* Returns how many outputs have been filled: all, or it has failed. */
	int (*predict_batch)(const OmPredictRequest *request);

	/*
	 * Optional: releases what does not lie in the context of load().  Called at
	 * times when nothing may go wrong: no errors, no SPI, no tables.
	 */
	void (*free)(void *state);

	/*
	 * Optional: measures the model by what only this kind knows.  Without it
	 * evaluate_model() compares predictions with a label.
	 */
	void (*evaluate)(const OmEvaluateRequest *request);
} OmPredictProvider;

typedef const OmPredictProvider *(*OmPredictProviderInit)(int abi);

#endif /* ORDER_MGMT_H */
