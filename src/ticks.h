/*
 * ticks.h
 *		The common sequence of horizons by which all consumers read the log.
 */
#ifndef OM_TICKS_H
#define OM_TICKS_H

#include "postgres.h"

#include "horizon.h"

/* The horizon of a tick, or NULL when it has not been made yet. */
extern OmHorizon *om_tick_find(int64 tick_id);

extern int64 om_tick_last(void);

/* The newest tick in one of the tables that take turns; 0: it is empty. */
extern int64 om_tick_last_in(int slot);

/*
 * Appends a tick of what can be seen now, or, where that is much, of the first
 * max_events events or somewhat more (0: no limit); false when it is not all.
 * The transaction must have no xid yet.
 */
extern bool om_tick_make(int64 xid_base, int max_events);

/*
 * What can be seen now, for the current transaction alone, own events
 * included; *tick_id becomes the newest tick.  Later ticks show at least as much.
 */
extern OmHorizon *om_tick_private(int64 xid_base, int64 *tick_id);

#endif /* OM_TICKS_H */
