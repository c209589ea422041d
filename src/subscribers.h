/*
 * subscribers.h
 *		A subscription: hands events to a function in the database, one by one.
 */
#ifndef OM_SUBSCRIBERS_H
#define OM_SUBSCRIBERS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "census.h"
#include "reader.h"
#include "registry.h"

typedef struct OmSubscriber OmSubscriber;

typedef enum OmSubscriberResult
{
	OM_SUBSCRIBER_IDLE, /* nothing to do */
	OM_SUBSCRIBER_DONE, /* events have been handled; there may be more */
	OM_SUBSCRIBER_BUSY, /* somebody else works as it */
	OM_SUBSCRIBER_ENDED /* it is paused or gone, or belongs to another role */
} OmSubscriberResult;

/* Lives in the current memory context.  in_worker: time limits apply. */
extern OmSubscriber *om_subscriber_create(const char *name, bool in_worker);

/*
 * Handles one batch in the current transaction, of max_events events at most,
 * as the current user.  *events grows by the number of events handled.
 */
extern OmSubscriberResult om_subscriber_step(OmSubscriber *subscriber, const OmReach *reach,
											 int max_events, int64 *events);

/* When the next retry is due; 0: there is none. */
extern TimestampTz om_subscriber_next_due(const OmSubscriber *subscriber);

/* Retries may have come from elsewhere: look again at when they are due. */
extern void om_subscriber_look_again(OmSubscriber *subscriber);

/* Around the commit of a batch: what is deferred to it belongs to the handlers, too. */
extern void om_subscriber_begin_commit(OmSubscriber *subscriber);
extern void om_subscriber_end_commit(OmSubscriber *subscriber);

/* The transaction of the batch has been rolled back because of this error. */
extern void om_subscriber_failed(OmSubscriber *subscriber, const ErrorData *error);

/* What a subscription has before it, as the active snapshot shows it; retries not included. */
extern OmQueueState om_subscriber_queue(const OmRegistration *definition, const OmCensus *census);

/*
 * Runs the subscriptions of the current user that no live worker runs, in the
 * current transaction; returns the number of events handled (max 0: no limit).
 */
extern int64 om_subscribers_run(const OmReach *reach, int64 max_events);

#endif /* OM_SUBSCRIBERS_H */
