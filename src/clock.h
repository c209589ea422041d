/*
 * clock.h
 *		The time by which orders, events and months are dated.
 *
 * Timeouts, backoffs and latches go by the server's clock.
 */
#ifndef OM_CLOCK_H
#define OM_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern TimestampTz om_clock_now(void);

/* True where a setting stands in for the server's clock. */
extern bool om_clock_is_set(void);

/* Grows whenever that setting changes in this session. */
extern uint64 om_clock_changes(void);

/* Defines the setting. */
extern void om_clock_define(void);

#endif /* OM_CLOCK_H */
