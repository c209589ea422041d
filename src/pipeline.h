/*
 * pipeline.h
 *		All stages, run in the caller's session and transaction.
 */
#ifndef OM_PIPELINE_H
#define OM_PIPELINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

#include "census.h"
#include "names.h"

extern void om_pipeline_init(void);

/* Runs what no live worker runs; returns the number of events handled (max 0: no limit). */
extern int64 om_pipeline_run(int64 max_events);

/* True when no consumer that may work has anything left to do. */
extern bool om_pipeline_is_idle(void);

/* What a stage has before it, as the active snapshot shows it. */
extern OmQueueState om_pipeline_queue(OmStage stage, const OmCensus *census);

/* The same without the age, by reading all of it. */
extern OmQueueState om_pipeline_read_queue(OmStage stage);

/*
 * The pending events, as a list of OmLogRow; for the order updater and the
 * shipper perhaps also some that have been handled: the state of the order tells.
 */
extern List *om_pipeline_rows(OmStage stage, Snapshot snapshot);

#endif /* OM_PIPELINE_H */
