/*
 * pipeline.h
 *		All stages, run in the caller's session and transaction.
 */
#ifndef OM_PIPELINE_H
#define OM_PIPELINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "names.h"

/* Runs what no live worker runs; returns the number of events handled (max 0: no limit). */
extern int64 om_pipeline_run(int64 max_events);

/* True when no consumer that may work has anything left to do. */
extern bool om_pipeline_is_idle(void);

/* What a consumer has not handled yet, as a list of OmLogRow. */
extern List *om_pipeline_rows(OmStage stage);

/* How many events that are, and the time of the oldest (0: none). */
extern int64 om_pipeline_pending(OmStage stage, TimestampTz *oldest);

#endif /* OM_PIPELINE_H */
