/*
 * training.h
 *		Making models, training and deploying them.
 */
#ifndef OM_TRAINING_H
#define OM_TRAINING_H

#include "postgres.h"

#include "utils/jsonb.h"

/* True: it has been made; false: there is one of that kind with these options; else OM005. */
extern bool om_model_create(const char *name, const char *kind, Jsonb *options);

/* False: it has these options already. */
extern bool om_model_set_options(const char *name, Jsonb *options);

/*
 * Makes a new version, with the rights of the caller; returns its number.  An
 * update goes on from the version that is deployed, where its kind can.
 */
extern int64 om_model_train(const char *name, bool update);

/*
 * Updates what has been trained, but for so long not again; one that fails
 * is a WARNING.  Returns how many have been trained.
 */
extern int64 om_models_retrain(int64 older_ms);

/* False: it is that version that is deployed. */
extern bool om_model_deploy(const char *name, int64 version);

/* Forgets a model with all its versions; OM004: there is none. */
extern void om_model_drop(const char *name);

#endif /* OM_TRAINING_H */
