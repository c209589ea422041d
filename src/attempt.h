/*
 * attempt.h
 *		Subtransactions around what may fail.
 */
#ifndef OM_ATTEMPT_H
#define OM_ATTEMPT_H

#include "postgres.h"

#include "utils/elog.h"

/*
 * Calls work(arg) in a subtransaction, which is undone afterwards unless it is
 * to be kept.  An error that lies in the data (classes 22, 23 and 54, and
 * what order_mgmt refuses) is returned, in the current memory context;
 * every other goes on its way.  NULL: it can be done.
 */
extern ErrorData *om_attempt(void (*work)(void *arg), void *arg, bool keep);

/* The same, but any error is returned, and work says itself whether what it has done is to be kept. */
extern ErrorData *om_attempt_any(bool (*work)(void *arg), void *arg);

#endif /* OM_ATTEMPT_H */
