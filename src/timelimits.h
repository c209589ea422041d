/*
 * timelimits.h
 *		Limits to the time that a part of a statement may take.
 */
#ifndef OM_TIMELIMITS_H
#define OM_TIMELIMITS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct OmTimeLimit
{
	TimestampTz deadline; /* 0: there is none */
	TimestampTz outer;    /* that of the limit around this one */
} OmTimeLimit;

/* Milliseconds from now, 0: no limit.  What is begun must be ended, also after an error. */
extern void om_timelimit_begin(OmTimeLimit *limit, int ms);

/*
 * True when it has struck: a cancellation of the statement (57014) raised
 * since om_timelimit_begin() was its own, not the user's.
 */
extern bool om_timelimit_end(OmTimeLimit *limit);

/* How often limits have struck in this session: whoever compares learns whether one has. */
extern uint32 om_timelimit_strikes(void);

#endif /* OM_TIMELIMITS_H */
