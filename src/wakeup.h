/*
 * wakeup.h
 *		What a transaction asks for at its commit: workers woken, the launcher told.
 */
#ifndef OM_WAKEUP_H
#define OM_WAKEUP_H

#include "postgres.h"

/* The current transaction writes to the event log. */
extern void om_wakeup_at_commit(void);

/* The current transaction changes which subscriptions run in this database. */
extern void om_wakeup_handlers_at_commit(void);

/* The current transaction adds loads, ends some, or wants some cancelled. */
extern void om_wakeup_loads_at_commit(void);

/* The current transaction changes how months are looked after. */
extern void om_wakeup_maintenance_at_commit(void);

/* The current transaction asks for predictions. */
extern void om_wakeup_predictions_at_commit(void);

/* Whether it has written to the log. */
extern bool om_wakeup_is_pending(void);

/* The current transaction changes whether or how workers run in this database. */
extern void om_wakeup_knock_at_commit(Oid database);

/* Wakes workers and waiting programs of this database now: a prepared transaction has committed. */
extern void om_wakeup_now(void);

extern void om_wakeup_init(void);

#endif /* OM_WAKEUP_H */
