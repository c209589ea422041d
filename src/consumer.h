/*
 * consumer.h
 *		A built-in consumer: takes batches from the log and hands them to its stage.
 */
#ifndef OM_CONSUMER_H
#define OM_CONSUMER_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "names.h"
#include "reader.h"

typedef struct OmConsumer OmConsumer;

typedef enum OmStepResult
{
	OM_STEP_IDLE,    /* nothing to read */
	OM_STEP_DONE,    /* a batch has been handled; there may be more */
	OM_STEP_WAITING, /* what is next waits for people or for time */
	OM_STEP_BUSY     /* somebody else works as this consumer */
} OmStepResult;

/* Lives in the current memory context; begins where the consumer's cursor stands. */
extern OmConsumer *om_consumer_create(OmStage stage);

/* Forget what is in memory, after an abort. */
extern void om_consumer_reset(OmConsumer *consumer);

/*
 * Handles one batch of about max_orders orders in the current transaction.
 * *events grows by the number of events handled.
 */
extern OmStepResult om_consumer_step(OmConsumer *consumer, const OmReach *reach, int max_orders,
									 int64 *events);

/* When OM_STEP_WAITING ends by itself; 0: it does not. */
extern TimestampTz om_consumer_next_due(const OmConsumer *consumer);

/* True when results of the stage are answers to clients, so its commits must be durable. */
extern bool om_consumer_is_durable(OmStage stage);

/* Event types that a stage reads. */
extern uint32 om_consumer_types(OmStage stage);

extern bool om_consumer_is_paused(OmStage stage);

#endif /* OM_CONSUMER_H */
