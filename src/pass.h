/*
 * pass.h
 *		A batch of all stages in one transaction.
 */
#ifndef OM_PASS_H
#define OM_PASS_H

#include "postgres.h"

#include "consumer.h"

typedef enum OmPassResult
{
	OM_PASS_REFUSED, /* not all together, not now: the stages must go one by one */
	OM_PASS_IDLE,
	OM_PASS_DONE /* something has been done; there may be more */
} OmPassResult;

typedef struct OmPass
{
	OmConsumer *consumers[OM_STAGE_COUNT];
	int stage;       /* that is at work; -1: none */
	bool has_ticked; /* of all there is, not only of a part */

	/* The rest belongs to pass.c. */
	bool tick_waits; /* a tick has been made, for the next pass */
	bool tick_is_part;
} OmPass;

typedef enum OmPassTick
{
	OM_PASS_NO_TICK,
	OM_PASS_TICK,     /* of all there is */
	OM_PASS_TICK_PART /* of a batch, if there may be much */
} OmPassTick;

/*
 * Handles up to max_events events of each stage, or somewhat more.  A tick is
 * made where that is of use; for that the transaction must not have written yet.
 */
extern OmPassResult om_pass_run(OmPass *pass, OmPassTick tick, int max_events, int64 *events);

#endif /* OM_PASS_H */
