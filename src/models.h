/*
 * models.h
 *		Models as a session has them loaded.
 */
#ifndef OM_MODELS_H
#define OM_MODELS_H

#include "postgres.h"

#include "modelrows.h"
#include "order_mgmt.h"

typedef struct OmModel
{
	OmModelInfo info;
	const OmPredictProvider *provider;
	void *state; /* what its load() has returned */
	OmModelOptions options;

	/* The rest belongs to models.c. */
	MemoryContext context; /* holds all this */
	TimestampTz created_at;
	TimestampTz changed_at;
	TimestampTz trained_at;
	bool is_deployed; /* as far as we know */
	uint64 known_at;  /* number of the last change that it was compared with */
	uint64 used_at;
	int users;
	Size size;
} OmModel;

#define OM_VERSION_DEPLOYED (-1)

/*
 * A version of a model, loaded; it stays until om_model_close(), which is to be
 * called after an error that is caught too.  OM004: there is no such model or
 * version; OM005: none is deployed; OM008: it cannot be loaded.
 */
extern OmModel *om_model_open(const char *name, int64 version);
extern void om_model_close(OmModel *model);

/* The version that is deployed, if it is loaded already; else NULL. */
extern OmModel *om_model_open_loaded(const char *name);

/* Milliseconds that a call of its provider may take; 0: as long as it takes. */
extern int om_model_timeout(const OmModel *model);

/* To be called when the library is loaded. */
extern void om_models_init(void);

#endif /* OM_MODELS_H */
