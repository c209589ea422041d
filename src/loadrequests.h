/*
 * loadrequests.h
 *		What clients ask for: loads, retries of refused rows, cancellations.
 */
#ifndef OM_LOADREQUESTS_H
#define OM_LOADREQUESTS_H

#include "postgres.h"

#include "utils/jsonb.h"

#include "compat.h"
#include "names.h"

/* The id of a load that is yet to be added. */
extern int64 om_loadrequest_new_id(void);

/* Adds a load that is queued; it runs once the transaction has committed. */
extern void om_loadrequest_add(int64 load_id, OmLoadKind kind, OmLoadMode mode, const char *source,
							   Jsonb *options);

/* The same for the refused rows of a load that has ended; csv: those rows mended, or NULL. */
extern int64 om_loadrequest_retry(int64 load_id, const char *csv);

/* False where no worker is to run in this database, so that a client has to do it. */
extern bool om_loadrequest_has_worker(void);

/* Asks for the end of a load; false when it has ended, OM004 when there is none. */
extern bool om_loadrequest_cancel(int64 load_id);

/* Raises OM004. */
extern void om_loadrequest_raise_not_found(int64 load_id) OM_NORETURN;

/* ---------- for who holds the lock of loads ---------- */

/* Ends what is to be cancelled and does not run: all but the one load that does (0: none). */
extern void om_loadrequest_cancel_others(int64 load_id);

/* Somebody wants that one to end. */
extern bool om_loadrequest_is_cancelled(int64 load_id);

#endif /* OM_LOADREQUESTS_H */
