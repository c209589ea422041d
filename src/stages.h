/*
 * stages.h
 *		Runs the stages of a database in the worker that has them.
 */
#ifndef OM_STAGES_H
#define OM_STAGES_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "shared.h"

/* restart: the value of database->restart from before the process has read its settings. */
extern void om_stages_init(OmDatabase *database, uint32 restart);

/* These it has from now on: OM_STAGE_BITs. */
extern void om_stages_assign(uint32 stages);

/* What waited may go on now, without a commit of anybody. */
extern void om_stages_hurry(void);

/* A round; true when there may be more to do. */
extern bool om_stages_work(void);

/* When something is due at the latest; 0: when somebody commits. */
extern TimestampTz om_stages_next_due(void);

/* How many batches there have been in which something was done. */
extern uint64 om_stages_batches(void);

#endif /* OM_STAGES_H */
