/*
 * options.h
 *		Options given as a JSON object, each read by its name.
 *
 * JSON null counts as left out, and of options that are NULL all are.  What cannot be is
 * OM001 about options.<key>; its hint says what may be.
 */
#ifndef OM_OPTIONS_H
#define OM_OPTIONS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "compat.h"

/* OM001 about options.<key>; the hint is a sentence. */
extern void om_option_raise(const char *key, const char *problem, const char *hint) OM_NORETURN;

/* The value, JSON null or not; NULL where there is none. */
extern JsonbValue *om_option_find(Jsonb *options, const char *key, JsonbValue *place);

/* False: it is left out. */
extern bool om_option_get(Jsonb *options, const char *key, JsonbValue *value);

/* NULL: it is left out.  The hint says what it is. */
extern char *om_option_string(Jsonb *options, const char *key, const char *hint);

/* What is left out is as the last argument says. */
extern double om_option_number(Jsonb *options, const char *key, double least, double most,
							   double otherwise);
extern bool om_option_bool(Jsonb *options, const char *key, bool otherwise);

/* A whole number, of 14 digits at most. */
extern int64 om_option_count(Jsonb *options, const char *key, int64 least, int64 most,
							 int64 otherwise);

/* Which of the words it is. */
extern int om_option_word(Jsonb *options, const char *key, const char *const *words, int nwords,
						  int otherwise);

/* OM001 for a key that is none of these; the hint lists them where it is NULL. */
extern void om_options_check_keys(Jsonb *options, const char *const *known, int nknown,
								  const char *hint);

/* The first such key, or NULL. */
extern char *om_options_find_unknown(Jsonb *options, const char *const *known, int nknown);

/* "a", "b", "c" */
extern char *om_options_list(const char *const *words, int nwords);

/* The nearest that there is: of a number beyond them all, infinity. */
extern double om_option_to_double(const JsonbValue *number);

/* False: it is no whole number, or one of more than 14 digits. */
extern bool om_option_is_whole(const JsonbValue *value, int64 *number);

#endif /* OM_OPTIONS_H */
