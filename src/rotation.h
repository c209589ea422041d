/*
 * rotation.h
 *		Append-only tables that take turns: the oldest is emptied as a whole, so
 *		nothing in them is ever deleted row by row.
 */
#ifndef OM_ROTATION_H
#define OM_ROTATION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define OM_ROTATION_MAX_SLOTS 4

typedef struct OmRotation
{
	const char *name;
	int nslots;
	const char *tables[OM_ROTATION_MAX_SLOTS];
	struct OmRotationState *state; /* what the session knows of it */
} OmRotation;

extern const OmRotation om_rotation_ticks;
extern const OmRotation om_rotation_cursors;
extern const OmRotation om_rotation_keys;

/* Which table is written now, and since when. */
extern int om_rotation_current(const OmRotation *rotation);
extern TimestampTz om_rotation_since(const OmRotation *rotation);

extern Oid om_rotation_table(const OmRotation *rotation, int slot);

/* Empties the next table and makes it the current one. */
extern void om_rotation_advance(const OmRotation *rotation);

#endif /* OM_ROTATION_H */
