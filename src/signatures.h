/*
 * signatures.h
 *		Names of handlers: functions with one argument of type jsonb.
 */
#ifndef OM_SIGNATURES_H
#define OM_SIGNATURES_H

#include "postgres.h"

/* A text names a handler like this: "notify", "public.notify" or "public.notify(jsonb)". */

/* InvalidOid when there is no such function. */
extern Oid om_signature_find(const char *text);

/*
 * The function, if it can be a handler and the current user may execute it;
 * else an error.  *stored becomes the text by which it is found whatever the
 * search_path is.
 */
extern Oid om_signature_require(const char *text, char **stored);

/* The function's name, as it stands in a statement. */
extern char *om_signature_name(const char *text);

#endif /* OM_SIGNATURES_H */
