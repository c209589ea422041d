/*
 * consumer.h
 *		A built-in consumer: takes events from the log and hands them to its stage.
 */
#ifndef OM_CONSUMER_H
#define OM_CONSUMER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/elog.h"

#include "names.h"
#include "reader.h"
#include "work.h"

typedef struct OmConsumer OmConsumer;

typedef enum OmStepResult
{
	OM_STEP_IDLE, /* nothing to do now; see om_consumer_next_due() */
	OM_STEP_DONE, /* something has been done; there may be more */
	OM_STEP_BUSY  /* somebody else works as this consumer */
} OmStepResult;

/* Lives in the current memory context; begins where the consumer's cursor stands. */
extern OmConsumer *om_consumer_create(OmStage stage);

/* Locks that were in the way may be gone: does not wait with looking. */
extern void om_consumer_hurry(OmConsumer *consumer);

/* Forgets what is in memory, which an abort has made wrong. */
extern void om_consumer_forget(OmConsumer *consumer);

/*
 * Handles one batch of up to max_events events in the current transaction.
 * *events grows by the number of events handled.
 */
extern OmStepResult om_consumer_step(OmConsumer *consumer, const OmReach *reach, int max_events,
									 int64 *events);

/*
 * The parts of a step, for who runs several stages in one transaction (pass.c).
 * A step begins under the lock of its stage; false: it cannot go on now.
 */
extern bool om_consumer_begin_step(OmConsumer *consumer, const OmReach *reach, int max_events);

/* False while enough waits that it has read already. */
extern bool om_consumer_may_read(OmConsumer *consumer, int max_events);

/* Takes in a row, if it is about it. */
extern void om_consumer_take_in(OmConsumer *consumer, const OmLogRow *row);

/* Handles a batch of what is due; *work is begun when there is something. */
extern void om_consumer_handle(OmConsumer *consumer, OmWork **work, int max_events);

/* True when the step has changed something that the position has to be stored for. */
extern bool om_consumer_has_done(const OmConsumer *consumer);
extern void om_consumers_store(OmConsumer **consumers, int count);

/* True when a restart could begin at a later row than the stored position says. */
extern bool om_consumer_needs_less(const OmConsumer *consumer);

/* Ends the step; true when there may be more to do. */
extern bool om_consumer_end_step(OmConsumer *consumer, int max_events, int64 *events);

/* True when there are events that could have been handled, had the batch been larger. */
extern bool om_consumer_has_ready(const OmConsumer *consumer);

/* False while something that has gone wrong is being looked for, event by event. */
extern bool om_consumer_is_sound(const OmConsumer *consumer);

extern OmReader *om_consumer_reader(OmConsumer *consumer);

/* Event types that it reads; more than it is there for. */
extern uint32 om_consumer_types_read(const OmConsumer *consumer);

/* What an error in a step means; the (sub)transaction has been aborted. */
typedef enum OmStepFailure
{
	OM_FAILURE_CONFLICT, /* a deadlock or the like: try again soon */
	OM_FAILURE_ISOLATED, /* try again at once: the culprit is being looked for, or set aside */
	OM_FAILURE_GENERAL   /* no single event is to blame: rest for a while */
} OmStepFailure;

extern OmStepFailure om_consumer_failed(OmConsumer *consumer, const ErrorData *error);

/*
 * The server crashed while this consumer was at work: nsuspects events from
 * suspects_begin on (0: the next ones) are taken one by one.  event_id: the one
 * that is to blame, or 0; it is a failed attempt, and with give_up the last one.
 */
extern void om_consumer_crashed(OmConsumer *consumer, int nsuspects, int64 suspects_begin,
								int64 event_id, bool give_up);

/* For the record of what is in flight; called by whoever owns the stage. */
typedef struct OmConsumerWatch
{
	/* The position has been read: perhaps from one who crashed. */
	void (*has_taken_over)(OmStage stage);
	void (*will_handle)(OmStage stage, int nevents, int64 first_event_id);
} OmConsumerWatch;

extern void om_consumer_watch(OmConsumer *consumer, const OmConsumerWatch *watch);

/* When there is something to do without being woken; 0: not. */
extern TimestampTz om_consumer_next_due(const OmConsumer *consumer);

/* True when the step has written an answer to a client, so that its commit must be durable. */
extern bool om_consumer_must_flush(const OmConsumer *consumer);

/* Event types that a stage is there for. */
extern uint32 om_consumer_types(OmStage stage);

extern bool om_consumer_is_paused(OmStage stage);
extern bool om_consumer_is_any_paused(void);

#endif /* OM_CONSUMER_H */
