/*
 * scores.h
 *		The number in what a model has answered.
 */
#ifndef OM_SCORES_H
#define OM_SCORES_H

#include "postgres.h"

#include "utils/jsonb.h"

/* A number that a double can hold, or true and false as 1 and 0; false: it is none. */
extern bool om_score_of_value(const JsonbValue *value, double *number);

/*
 * The output itself, or this member of it; NULL: the first of those that usually
 * have it.  False: there is none.
 */
extern bool om_score_of_output(Jsonb *output, const char *member, double *number);

#endif /* OM_SCORES_H */
