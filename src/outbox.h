/*
 * outbox.h
 *		Events for programs outside the server: offered in batches, acknowledged.
 */
#ifndef OM_OUTBOX_H
#define OM_OUTBOX_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "census.h"
#include "registry.h"

typedef struct OmBatch
{
	int64 batch_id;
	List *events; /* of OmRetry; never NIL for callers */
	int nretried; /* of them, those at the beginning that failed before */
} OmBatch;

/*
 * The open batch of a consumer, or a new one; NULL when there is nothing for
 * so long.  In a transaction of READ COMMITTED.
 */
extern OmBatch *om_outbox_receive(const char *name, int64 max_events, int64 wait_ms);

/* Ends the open batch; false when it has been ended before. */
extern bool om_outbox_acknowledge(const char *name, int64 batch_id);

/* Takes an event out of the open batch; false when that was its last attempt. */
extern bool om_outbox_reject(const char *name, int64 event_id, const char *message);

/* What a consumer has before it, as the active snapshot shows it: the open batch, and what has
 * not been offered yet. */
extern OmQueueState om_outbox_queue(OmRegistration *consumer, const OmCensus *census);

#endif /* OM_OUTBOX_H */
