/*
 * consumer.c
 *		One batch of one stage.
 *
 * Effects, resulting events and the new cursor commit together, so a batch
 * happens once or not at all.  Who works as a consumer holds its lock to the
 * end of the transaction; the position is kept in memory from batch to batch
 * and read again when another has moved the cursor meanwhile.
 *
 * A window without events for the stage moves the cursor in memory only: an
 * idle shop stores nothing, and what another stage writes does not make this
 * one write as well.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "checkers.h"
#include "consumer.h"
#include "cursors.h"
#include "eventlog.h"
#include "locks.h"
#include "relations.h"
#include "settings.h"
#include "shipper.h"
#include "tables.h"
#include "ticks.h"
#include "updater.h"

/* Columns of table consumers */
#define CONSUMER_PAUSED 9

struct OmConsumer
{
	OmStage stage;
	OmReader *reader;
	OmUpdater *updater; /* of the order updater */
	TimestampTz next_due;
};

typedef struct StageTraits
{
	uint32 types;
	bool durable;
	bool keeps_state; /* begins at its restart row */
} StageTraits;

static const StageTraits stage_traits[OM_STAGE_COUNT] = {
	[OM_STAGE_BALANCE_CHECKER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CAPTURED), false, false},
	[OM_STAGE_STOCK_CHECKER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CAPTURED), false, false},
	[OM_STAGE_ORDER_UPDATER] = {OM_EVENT_BIT(OM_EVENT_BALANCE_HELD) |
									OM_EVENT_BIT(OM_EVENT_BALANCE_REFUSED) |
									OM_EVENT_BIT(OM_EVENT_STOCK_HELD) |
									OM_EVENT_BIT(OM_EVENT_STOCK_REFUSED) |
									OM_EVENT_BIT(OM_EVENT_ORDER_CANCELLED),
								true, true},
	[OM_STAGE_SHIPPER] = {OM_EVENT_BIT(OM_EVENT_ORDER_CONFIRMED), true, false},
};

uint32
om_consumer_types(OmStage stage)
{
	return stage_traits[stage].types;
}

bool
om_consumer_is_durable(OmStage stage)
{
	return stage_traits[stage].durable;
}

OmConsumer *
om_consumer_create(OmStage stage)
{
	OmConsumer *consumer = palloc0(sizeof(OmConsumer));

	consumer->stage = stage;
	consumer->reader = om_reader_create(om_stage_names[stage]);
	return consumer;
}

void
om_consumer_reset(OmConsumer *consumer)
{
	om_reader_reset(consumer->reader);
	consumer->updater = NULL;
	consumer->next_due = 0;
}

TimestampTz
om_consumer_next_due(const OmConsumer *consumer)
{
	return consumer->next_due;
}

bool
om_consumer_is_paused(OmStage stage)
{
	OmTable *table = om_table_open(om_relation_get("consumers"), AccessShareLock);
	Datum key = CStringGetTextDatum(om_stage_names[stage]);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	HeapTuple row = om_table_find(table, &key, snapshot);
	bool paused;

	UnregisterSnapshot(snapshot);
	paused = row != NULL && DatumGetBool(om_row_get_not_null(table, row, CONSUMER_PAUSED));
	om_table_close(table);
	return paused;
}

static void
load(OmConsumer *consumer)
{
	MemoryContext caller;

	if (!om_reader_load(consumer->reader))
		return;
	caller = MemoryContextSwitchTo(consumer->reader->context);
	consumer->updater = consumer->stage == OM_STAGE_ORDER_UPDATER ? om_updater_create() : NULL;
	MemoryContextSwitchTo(caller);
}

/* Returns how many of the rows are done. */
static int
run_stage(OmConsumer *consumer, const OmLogRows *rows)
{
	consumer->next_due = 0;
	switch (consumer->stage)
	{
		case OM_STAGE_BALANCE_CHECKER:
			om_balance_checker_run(rows);
			break;
		case OM_STAGE_STOCK_CHECKER:
			om_stock_checker_run(rows);
			break;
		case OM_STAGE_ORDER_UPDATER:
			om_updater_run(consumer->updater, rows, consumer->reader->cursor->from_seq);
			break;
		case OM_STAGE_SHIPPER:
			return om_shipper_run(rows, &consumer->next_due);
	}
	return rows->count;
}

static int64
restart_seq(const OmConsumer *consumer)
{
	return consumer->updater == NULL ? PG_INT64_MAX : om_updater_restart_seq(consumer->updater);
}

static int64
count_orders(const OmLogRows *rows, int nrows)
{
	int64 count = 0;

	for (int i = 0; i < nrows; i++)
		count += rows->rows[i].norders;
	return count;
}

/* A shipper that waits for people stops within a window, behind the last row that is done. */
static OmStepResult
wait_for_people(OmConsumer *consumer, const OmReach *reach, int max_orders, OmLogRows *rows,
				int *done)
{
	if (!om_reader_read(consumer->reader, reach, stage_traits[OM_STAGE_SHIPPER].types, max_orders,
						rows))
		return OM_STEP_IDLE;
	*done = rows->count == 0 ? 0 : run_stage(consumer, rows);
	if (*done == rows->count)
		return OM_STEP_DONE;
	elog(ERROR, "not yet");
	return OM_STEP_WAITING;
}

static OmStepResult
handle_batch(OmConsumer *consumer, const OmReach *reach, int max_orders, OmLogRows *rows, int *done)
{
	if (consumer->stage == OM_STAGE_SHIPPER && !om_setting_auto_ship)
		return wait_for_people(consumer, reach, max_orders, rows, done);
	if (!om_reader_read(consumer->reader, reach, stage_traits[consumer->stage].types, max_orders,
						rows))
		return OM_STEP_IDLE;
	*done = rows->count == 0 ? 0 : run_stage(consumer, rows);
	return OM_STEP_DONE;
}

OmStepResult
om_consumer_step(OmConsumer *consumer, const OmReach *reach, int max_orders, int64 *events)
{
	OmLogRows *rows = om_log_rows_create();
	OmStepResult result;
	OmCursor *cursor;
	int done = 0;
	int64 handled;

	if (!om_lock_try((OmLock) consumer->stage))
		return OM_STEP_BUSY;
	/* Taken under the lock, it shows all that the last owner has committed. */
	PushActiveSnapshot(om_current_snapshot());
	load(consumer);
	cursor = consumer->reader->cursor;
	result = handle_batch(consumer, reach, max_orders, rows, &done);
	handled = count_orders(rows, done);
	/* What is read a second time after a restart has been counted before. */
	*events +=
		Max(0, cursor->processed + handled - Max(cursor->processed, cursor->newest_processed));
	cursor->processed += handled;
	if (done > 0 || om_reader_has_drifted(consumer->reader))
		om_reader_store(consumer->reader, restart_seq(consumer), 0);
	PopActiveSnapshot();
	return result;
}
