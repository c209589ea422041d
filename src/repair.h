/*
 * repair.h
 *		Mends what can be derived from the log.
 */
#ifndef OM_REPAIR_H
#define OM_REPAIR_H

#include "postgres.h"

#include "fmgr.h"

/* Whole set-returning function: (invariant, subject, expected, actual) of what was mended. */
extern Datum om_repair_run(FunctionCallInfo fcinfo, bool dry_run);

#endif /* OM_REPAIR_H */
