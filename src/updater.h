/*
 * updater.h
 *		The order updater: joins the two verdicts on an order.
 */
#ifndef OM_UPDATER_H
#define OM_UPDATER_H

#include "postgres.h"

#include "eventlog.h"

typedef struct OmUpdater OmUpdater;

/* The verdicts that wait for their partner, kept in the current memory context. */
extern OmUpdater *om_updater_create(void);

/* batch_seq: the cursor row from which a restart would read these rows again. */
extern void om_updater_run(OmUpdater *updater, const OmLogRows *rows, int64 batch_seq);

/* The oldest cursor row that is still needed; PG_INT64_MAX when nothing waits. */
extern int64 om_updater_restart_seq(OmUpdater *updater);

#endif /* OM_UPDATER_H */
