/*
 * handlers.h
 *		The background workers of subscriptions, and who looks after them.
 */
#ifndef OM_HANDLERS_H
#define OM_HANDLERS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "shared.h"

/* For one worker per database: true when subscriptions or their workers may have changed. */
extern bool om_handlers_need_look(OmDatabase *entry);

/*
 * Starts a worker for each subscription that is to run and has none; returns
 * when to look again, 0: when need_look says so.  In a transaction.
 */
extern TimestampTz om_handlers_look_after(OmDatabase *entry);

extern PGDLLEXPORT void om_handler_main(Datum arg);

#endif /* OM_HANDLERS_H */
