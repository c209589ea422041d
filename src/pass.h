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
	OmReach reach;                      /* of a client, who may write on; a worker has none */
	void (*has_handled)(OmStage stage); /* called after each; or NULL */
	int stage;                          /* that is at work; -1: none */
	bool has_ticked;
} OmPass;

/*
 * Handles up to max_events events of each stage, or somewhat more.  With
 * wants_tick it makes one where that is of use, for which the transaction must
 * not have written yet.
 */
extern OmPassResult om_pass_run(OmPass *pass, bool wants_tick, int max_events, int64 *events);

#endif /* OM_PASS_H */
