/*
 * maintworker.h
 *		Runs maintenance in a worker of its own.
 */
#ifndef OM_MAINTWORKER_H
#define OM_MAINTWORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "compat.h"
#include "shared.h"

/* For the built-in worker that does the upkeep, in its transaction: a day has begun. */
extern void om_maintworker_ask_daily(OmDatabase *entry);

/*
 * For the same, inside a transaction: starts the worker where it has been asked
 * for.  Returns when to look again at the latest; 0: when
 * om_maintworker_needs_look() says so.
 */
extern bool om_maintworker_needs_look(OmDatabase *entry);
extern TimestampTz om_maintworker_look_after(OmDatabase *entry);

extern PGDLLEXPORT void om_maintenance_main(Datum arg) OM_NORETURN;

#endif /* OM_MAINTWORKER_H */
