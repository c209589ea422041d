/*
 * invariants.h
 *		The promises that can be proven from the data.
 */
#ifndef OM_INVARIANTS_H
#define OM_INVARIANTS_H

#include "fmgr.h"

/* Whole set-returning function: (invariant, subject, expected, actual), no row when all hold. */
extern Datum om_invariants_check(FunctionCallInfo fcinfo);

#endif /* OM_INVARIANTS_H */
