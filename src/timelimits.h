/*
 * timelimits.h
 *		Limits to the time that a part of a statement may take.
 */
#ifndef OM_TIMELIMITS_H
#define OM_TIMELIMITS_H

#include "postgres.h"

#include "utils/elog.h"

/*
 * Calls work(arg) as om_provider_attempt() does, but for so many milliseconds
 * at most (0: as long as it takes).  Whether the limit has struck is in *struck; the
 * error is then an OM008 that says so.
 */
extern ErrorData *om_timelimit_attempt(int ms, void (*work)(void *arg), void *arg, bool *struck);

/* How often limits have struck in this session: whoever compares learns whether one has. */
extern uint32 om_timelimit_strikes(void);

#endif /* OM_TIMELIMITS_H */
