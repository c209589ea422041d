/*
 * loadworker.h
 *		Runs loads in a worker of their own.
 */
#ifndef OM_LOADWORKER_H
#define OM_LOADWORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "compat.h"
#include "shared.h"

/*
 * For the built-in worker that looks after it, inside a transaction: starts it
 * where a load waits for one.  Returns when to look again at the latest; 0:
 * when om_loadworker_needs_look() says so.
 */
extern bool om_loadworker_needs_look(OmDatabase *entry);
extern TimestampTz om_loadworker_look_after(OmDatabase *entry);

extern PGDLLEXPORT void om_loader_main(Datum arg) OM_NORETURN;

#endif /* OM_LOADWORKER_H */
