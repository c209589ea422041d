/*
 * lifecycle.h
 *		What clients do to an order after its capture.
 */
#ifndef OM_LIFECYCLE_H
#define OM_LIFECYCLE_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "compat.h"
#include "names.h"

/* Cancels an order that has not shipped; detail members are added to the event. */
extern OmStatus om_lifecycle_cancel(const pg_uuid_t *id, const char *reason,
									const char *replaced_by);

/*
 * Somebody has given up on an order: it is failed, unless it has moved on.
 * False when somebody else has locked it.
 */
extern bool om_lifecycle_fail(const pg_uuid_t *id, int round, const char *consumer,
							  const char *error_code, const char *message);

/* Takes up a failed order again: both checks decide on it anew. */
typedef enum OmTakeUp
{
	OM_TAKEN_UP,
	OM_NOT_FAILED,  /* it has ended otherwise, or is under way */
	OM_NOT_SETTLED, /* its other check is still under way */
	OM_NO_ORDER
} OmTakeUp;

extern OmTakeUp om_lifecycle_take_up(const pg_uuid_t *id);

/* Ships a confirmed order. */
extern OmStatus om_lifecycle_ship(const pg_uuid_t *id, Jsonb *detail);

/* Adds a note; the event id. */
extern int64 om_lifecycle_note(const pg_uuid_t *id, const char *note, Jsonb *detail);

extern void om_lifecycle_raise_not_found(const pg_uuid_t *id) OM_NORETURN;
extern void om_lifecycle_raise_state(OmStatus status, const char *hint) OM_NORETURN;

#endif /* OM_LIFECYCLE_H */
