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

/* Ships a confirmed order. */
extern OmStatus om_lifecycle_ship(const pg_uuid_t *id, Jsonb *detail);

/* Adds a note; the event id. */
extern int64 om_lifecycle_note(const pg_uuid_t *id, const char *note, Jsonb *detail);

extern void om_lifecycle_raise_not_found(const pg_uuid_t *id) OM_NORETURN;
extern void om_lifecycle_raise_state(OmStatus status, const char *hint) OM_NORETURN;

#endif /* OM_LIFECYCLE_H */
