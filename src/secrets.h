/*
 * secrets.h
 *		What models need to identify themselves to others: keys, tokens, headers.
 */
#ifndef OM_SECRETS_H
#define OM_SECRETS_H

#include "postgres.h"

#include "utils/jsonb.h"

/* Returns what is wrong with a secret, or NULL; never a part of it. */
extern const char *om_secret_find_fault(Jsonb *value);

/* True: there was none of this name. */
extern bool om_secret_set(const char *name, Jsonb *value);

/* False: there is none. */
extern bool om_secret_drop(const char *name);

/*
 * For providers, by this name: they run with the rights of whoever predicts,
 * who may not read secrets.  OM004: there is none of this name.
 */
#define OM_SECRET_READER "om_model_secret"
extern PGDLLEXPORT Jsonb *om_model_secret(const char *name);

#endif /* OM_SECRETS_H */
