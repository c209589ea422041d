/*
 * predictworker.h
 *		The worker that asks models outside for those who may not wait.
 */
#ifndef OM_PREDICTWORKER_H
#define OM_PREDICTWORKER_H

#include "postgres.h"

#include "compat.h"
#include "shared.h"

/*
 * For the built-in worker that looks after it, inside a transaction: starts it
 * where a request is due.  Returns when to look again at the latest; 0: when
 * om_predictworker_needs_look() says so.
 */
extern bool om_predictworker_needs_look(OmDatabase *entry);
extern TimestampTz om_predictworker_look_after(OmDatabase *entry);

extern PGDLLEXPORT void om_predictor_main(Datum arg) OM_NORETURN;

#endif /* OM_PREDICTWORKER_H */
