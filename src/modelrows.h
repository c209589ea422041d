/*
 * modelrows.h
 *		Models and their versions as they are stored.
 */
#ifndef OM_MODELROWS_H
#define OM_MODELROWS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* What we know of the options of every model; the provider knows the others. */
typedef struct OmModelOptions
{
	char *fallback;         /* model that answers when this one fails, or NULL */
	double log_sample;      /* part of the predictions that is logged, 0 to 1 */
	int max_rows_per_batch; /* inputs that the provider gets at a time */
	int timeout_ms;         /* for these; -1: as the setting says, 0: none */
	bool auto_deploy;       /* what has been trained is used at once */
	int keep_versions;      /* that are not deployed, beside the newest */
} OmModelOptions;

#define OM_NOT_DEPLOYED (-1)

typedef struct OmModelRow
{
	char *name;
	char *kind;
	Jsonb *options;
	int64 deployed; /* version, 0: untrained, or OM_NOT_DEPLOYED */
	TimestampTz created_at;
	TimestampTz changed_at; /* the options */
} OmModelRow;

/* OM001 where one of these options cannot be. */
extern void om_model_options_parse(Jsonb *options, OmModelOptions *parsed);

/* Those of the model's kind: all but these. */
extern Jsonb *om_model_options_of_kind(Jsonb *options);

/* As it is now, whatever the caller's snapshot; NULL: there is none. */
extern OmModelRow *om_modelrow_find(const char *name);

/* The same, or OM004. */
extern OmModelRow *om_modelrow_require(const char *name);

/* The same, and nobody else changes the model before the end of the transaction. */
extern OmModelRow *om_modelrow_lock(const char *name);

/*
 * A version as it is now; false: there is none.  *model, where it is asked for,
 * is copied into the current memory context.
 */
extern bool om_modelrow_find_version(const char *name, int64 version, TimestampTz *trained_at,
									 bytea **model);

/* Names of models that have been trained, but for so long not again. */
extern List *om_modelrow_list_old(int64 older_ms);

/* Number of the newest version, 0: none. */
extern int64 om_modelrow_newest(const char *name);

/* The following change rows, and tell all sessions at the commit. */

/* False: there is a model of this name already. */
extern bool om_modelrow_insert(const char *name, const char *kind, Jsonb *options, int64 deployed);
extern void om_modelrow_set_options(const char *name, Jsonb *options);
extern void om_modelrow_insert_version(const OmModelRow *row, int64 version, bytea *model,
									   Jsonb *metrics);
extern void om_modelrow_deploy(const char *name, int64 version);

/* Forgets old versions that are not deployed, but for so many. */
extern void om_modelrow_prune(const char *name, int keep);

/* False: there is none. */
extern bool om_modelrow_delete(const char *name);

#endif /* OM_MODELROWS_H */
