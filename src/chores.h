/*
 * chores.h
 *		What one worker of a database looks after beside its stages.
 */
#ifndef OM_CHORES_H
#define OM_CHORES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "shared.h"

/* Does what is due; batches: how many of them this worker has done in its life. */
extern void om_chores_do(OmDatabase *database, uint64 batches);

/* When something is due at the latest; 0: when something changes. */
extern TimestampTz om_chores_next_due(void);

#endif /* OM_CHORES_H */
