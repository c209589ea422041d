/*
 * invariants.h
 *		The promises that can be proven from the data.
 */
#ifndef OM_INVARIANTS_H
#define OM_INVARIANTS_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/pg_list.h"

#include "proofs.h"

typedef struct OmDifference
{
	const OmInvariant *invariant;
	char *subject;
	char *expected; /* NULL where there should be nothing */
	char *actual;   /* NULL where there is nothing */
} OmDifference;

/* All differences that the active snapshot shows, as a list of OmDifference. */
extern List *om_invariants_find(void);

/* A row (invariant, subject, expected, actual) of a result. */
extern void om_invariants_put(ReturnSetInfo *result, const char *name, const char *subject,
							  const char *expected, const char *actual);

/* Whole set-returning functions: the differences, and the table of invariants. */
extern Datum om_invariants_check(FunctionCallInfo fcinfo);
extern Datum om_invariants_list(FunctionCallInfo fcinfo);

#endif /* OM_INVARIANTS_H */
