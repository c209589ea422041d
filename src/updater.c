/*
 * updater.c
 *		The order updater.
 *
 *		both held          captured -> confirmed
 *		any refused        captured -> rejected, what was held is released
 *		order_cancelled    whatever was or will be held is released
 *
 * It is the only one that releases holds.  A first verdict waits in memory for
 * its partner; the cursor remembers from where a restart must read again to
 * meet all that waited.  Reading an event twice is harmless: what is to be
 * done follows from the order's row, where "settled" says which verdicts have
 * been dealt with, and that is written together with the release.
 *
 * Ledger rows are locked before orders.  Which will be needed is foretold from
 * an unlocked look at the order; its state can only have moved such that less
 * is needed, or such that its order_cancelled event is still to come and will
 * do the rest.
 */
#include "postgres.h"

#include "access/table.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "checkers.h"
#include "eventlog.h"
#include "jsonout.h"
#include "orders.h"
#include "settlement.h"
#include "updater.h"

/* Waiting entries older than this many batches are compared with their orders. */
#define REVIEW_AFTER_BATCHES 64

typedef struct Waiting
{
	pg_uuid_t order_id; /* hash key */
	dlist_node node;    /* in the order of first sight */
	int64 batch_seq;
	int seen; /* verdicts, as OM_VERDICT_ bits */
	int refused;
	uint32 reasons;
	bool cancelled; /* its order_cancelled event has been read */
	bool is_due;    /* in the list of the batch */
	int64 verdict_lxid[2];
} Waiting;

struct OmUpdater
{
	MemoryContext context;
	HTAB *waiting;
	dlist_head by_age;
	int64 reviewed_seq;
};

/* What a batch comes to. */
typedef struct Batch
{
	OmUpdater *updater;
	int64 batch_seq;
	List *due; /* of Waiting */
	int count;
	Waiting **entries; /* those whose order exists ... */
	OmOrder **orders;  /* ... and their orders, sorted by id */
	OmOrderTables *tables;
	OmSettlement *settlement;
	OmLogWriter *log;
	int nconfirmed;
	pg_uuid_t *confirmed;
} Batch;

OmUpdater *
om_updater_create(void)
{
	OmUpdater *updater = palloc0(sizeof(OmUpdater));
	HASHCTL control = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Waiting)};

	updater->context =
		AllocSetContextCreate(CurrentMemoryContext, "order updater", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = updater->context;
	updater->waiting =
		hash_create("verdicts that wait", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&updater->by_age);
	return updater;
}

int64
om_updater_restart_seq(OmUpdater *updater)
{
	return dlist_is_empty(&updater->by_age)
			 ? PG_INT64_MAX
			 : dlist_container(Waiting, node, dlist_head_node(&updater->by_age))->batch_seq;
}

static Waiting *
get_waiting(Batch *batch, const pg_uuid_t *order_id)
{
	bool found;
	Waiting *entry = hash_search(batch->updater->waiting, order_id, HASH_ENTER, &found);

	if (!found)
	{
		memset((char *) entry + sizeof(pg_uuid_t), 0, sizeof(Waiting) - sizeof(pg_uuid_t));
		entry->batch_seq = batch->batch_seq;
		dlist_push_tail(&batch->updater->by_age, &entry->node);
	}
	return entry;
}

static void
forget(OmUpdater *updater, Waiting *entry)
{
	dlist_delete(&entry->node);
	hash_search(updater->waiting, &entry->order_id, HASH_REMOVE, NULL);
}

static void
note_verdict(Waiting *entry, const OmLogRow *row)
{
	bool is_balance = row->type == OM_EVENT_BALANCE_HELD || row->type == OM_EVENT_BALANCE_REFUSED;
	bool is_refusal = row->type == OM_EVENT_BALANCE_REFUSED || row->type == OM_EVENT_STOCK_REFUSED;
	int verdict = is_balance ? OM_VERDICT_BALANCE : OM_VERDICT_STOCK;

	entry->seen |= verdict;
	entry->verdict_lxid[is_balance ? 0 : 1] = row->lxid;
	if (is_refusal)
	{
		entry->refused |= verdict;
		entry->reasons |= om_checkers_reasons(row->detail);
	}
}

static void
note_cancellation(Waiting *entry, const OmLogRow *row)
{
	char *from = om_json_get_string(row->detail, "from");

	entry->cancelled = true;
	/* A confirmed order has had both verdicts, and both were holds. */
	if (from != NULL && strcmp(from, om_status_names[OM_STATUS_CONFIRMED]) == 0)
		entry->seen = OM_VERDICTS_BOTH;
}

static void
note_events(Batch *batch, const OmLogRows *rows)
{
	for (int r = 0; r < rows->count; r++)
	{
		const OmLogRow *row = &rows->rows[r];

		for (int i = 0; i < row->norders; i++)
		{
			Waiting *entry = get_waiting(batch, &row->orders[i]);

			if (row->type == OM_EVENT_ORDER_CANCELLED)
				note_cancellation(entry, row);
			else
				note_verdict(entry, row);
			if (!entry->is_due && (entry->cancelled || entry->seen == OM_VERDICTS_BOTH))
			{
				entry->is_due = true;
				batch->due = lappend(batch->due, entry);
			}
		}
	}
}

/* Which holds an order in this state must give back now. */
static int
verdicts_to_release(const Waiting *entry, const OmOrder *order)
{
	int held = entry->seen & ~entry->refused & ~order->settled;

	if (order->status == OM_STATUS_CANCELLED && entry->cancelled)
		return held;
	if (order->status == OM_STATUS_CAPTURED && entry->seen == OM_VERDICTS_BOTH &&
		entry->refused != 0)
		return held;
	return 0;
}

static int
compare_due(const ListCell *a, const ListCell *b)
{
	return om_order_compare_ids(&((Waiting *) lfirst(a))->order_id,
								&((Waiting *) lfirst(b))->order_id);
}

static void
lock_due(Batch *batch)
{
	int ndue = list_length(batch->due);
	int *releases = palloc(sizeof(int) * Max(ndue, 1));
	ListCell *cell;

	list_sort(batch->due, compare_due);
	batch->entries = palloc(sizeof(Waiting *) * Max(ndue, 1));
	batch->orders = palloc(sizeof(OmOrder *) * Max(ndue, 1));
	batch->confirmed = palloc(sizeof(pg_uuid_t) * Max(ndue, 1));
	foreach(cell, batch->due)
	{
		Waiting *entry = lfirst(cell);
		OmOrder *order = om_order_find(batch->tables, &entry->order_id, GetActiveSnapshot());

		entry->is_due = false;
		if (order == NULL)
			elog(ERROR, "a verdict is about an order that does not exist");
		batch->entries[batch->count] = entry;
		batch->orders[batch->count] = order;
		releases[batch->count++] = verdicts_to_release(entry, order);
	}
	batch->settlement = om_settlement_begin(batch->tables, batch->orders, releases, batch->count);
	for (int i = 0; i < batch->count; i++)
		om_order_relock(batch->orders[i]);
}

static void
write_order(Batch *batch, OmOrder *order, const Waiting *entry)
{
	for (int i = 0; i < 2; i++)
	{
		if (entry->verdict_lxid[i] != 0)
			om_order_add_to_trail(order, entry->verdict_lxid[i]);
	}
	om_order_add_to_trail(order, batch->log->lxid);
	om_order_write(order);
}

/* Both verdicts are in and the order is still open. */
static void
decide(Batch *batch, OmOrder *order, Waiting *entry)
{
	int releases = verdicts_to_release(entry, order);

	if (entry->refused == 0)
	{
		order->status = OM_STATUS_CONFIRMED;
		batch->confirmed[batch->nconfirmed++] = order->id;
	}
	else
	{
		om_settlement_apply(batch->settlement, order, OM_SETTLE_RELEASE, releases);
		order->status = OM_STATUS_REJECTED;
		order->settled = OM_VERDICTS_BOTH;
		order->reasons = entry->reasons;
		om_log_orders(batch->log, OM_EVENT_ORDER_REJECTED, &order->id, 1,
					  om_checkers_reasons_detail(entry->reasons));
	}
	write_order(batch, order, entry);
	forget(batch->updater, entry);
}

/* The order has been cancelled: settle the verdicts that are in. */
static void
settle_cancelled(Batch *batch, OmOrder *order, Waiting *entry)
{
	int verdicts = entry->seen & ~order->settled;

	/* Its event is still to come, and then it is our turn. */
	if (!entry->cancelled && order->settled != OM_VERDICTS_BOTH)
		return;
	if (verdicts != 0)
	{
		om_settlement_apply(batch->settlement, order, OM_SETTLE_RELEASE,
							verdicts_to_release(entry, order));
		order->settled |= verdicts;
		write_order(batch, order, entry);
	}
	if (order->settled == OM_VERDICTS_BOTH)
		forget(batch->updater, entry);
}

static void
handle_due(Batch *batch)
{
	for (int i = 0; i < batch->count; i++)
	{
		OmOrder *order = batch->orders[i];
		Waiting *entry = batch->entries[i];

		if (order->status == OM_STATUS_CANCELLED)
			settle_cancelled(batch, order, entry);
		else if (order->status == OM_STATUS_CAPTURED)
			decide(batch, order, entry);
		else
			forget(batch->updater, entry); /* read a second time */
	}
}

/*
 * After a restart the second verdict of an order that was decided long ago may
 * have been read without the first one.  Such an entry would wait for ever.
 */
static void
review_waiting(Batch *batch)
{
	OmUpdater *updater = batch->updater;
	dlist_mutable_iter iter;

	if (batch->batch_seq - updater->reviewed_seq < REVIEW_AFTER_BATCHES)
		return;
	updater->reviewed_seq = batch->batch_seq;
	dlist_foreach_modify(iter, &updater->by_age)
	{
		Waiting *entry = dlist_container(Waiting, node, iter.cur);
		OmOrder *order;

		if (batch->batch_seq - entry->batch_seq < REVIEW_AFTER_BATCHES)
			break;
		order = om_order_find(batch->tables, &entry->order_id, GetActiveSnapshot());
		if (order != NULL && order->status != OM_STATUS_CAPTURED &&
			(order->status != OM_STATUS_CANCELLED || order->settled == OM_VERDICTS_BOTH))
			forget(updater, entry);
	}
}

void
om_updater_run(OmUpdater *updater, const OmLogRows *rows, int64 batch_seq)
{
	Batch batch = {.updater = updater, .batch_seq = batch_seq};

	note_events(&batch, rows);
	batch.tables = om_orders_open(RowExclusiveLock);
	if (batch.due != NIL)
	{
		lock_due(&batch);
		batch.log = om_log_begin();
		handle_due(&batch);
		om_settlement_end(batch.settlement);
		om_log_orders(batch.log, OM_EVENT_ORDER_CONFIRMED, batch.confirmed, batch.nconfirmed, NULL);
		om_log_end(batch.log);
	}
	review_waiting(&batch);
	om_orders_close(batch.tables);
}
