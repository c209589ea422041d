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
	void (*has_handled)(OmStage stage); /* called after each */
	int stage;                          /* that is at work; -1: none */
	bool has_ticked;
} OmPass;

/*
 * Handles up to max_events events of each stage.  Wants a transaction that has
 * not written yet; with wants_tick it makes one where that is of use.
 */
extern OmPassResult om_pass_run(OmPass *pass, bool wants_tick, int max_events, int64 *events);

#endif /* OM_PASS_H */
