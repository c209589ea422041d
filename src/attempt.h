/*
 * attempt.h
 *		Tries what data of users may make impossible.
 */
#ifndef OM_ATTEMPT_H
#define OM_ATTEMPT_H

#include "postgres.h"

#include "utils/elog.h"

/*
 * Calls work(arg) in a subtransaction.  An error that lies in the data (classes
 * 22 and 23, and order_mgmt's own) undoes it and is returned, in the current
 * memory context; every other goes on its way.  NULL: it was done.
 */
extern ErrorData *om_attempt(void (*work)(void *arg), void *arg);

#endif /* OM_ATTEMPT_H */
