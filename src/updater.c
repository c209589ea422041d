/*
 * updater.c
 *		The order updater.
 *
 *		both held          captured -> confirmed
 *		any refused        captured -> rejected, what was held is released
 *		order_cancelled    whatever was or will be held is released
 *		order_failed       the same
 *
 * It is the only one that releases holds.  A first verdict waits in memory for
 * its partner; the cursor remembers from where a restart must read again to
 * meet all that waited.  Reading an event twice is harmless: what is to be
 * done follows from the order's row, where "settled" says which verdicts have
 * been dealt with, and that is written together with the release.
 *
 * A row that a client has locked is not waited for: the order stays in the inbox
 * and is taken up again.
 *
 * Ledger rows are locked before orders.  Which will be needed is foretold from
 * an unlocked look at the order; its state can only have moved such that less
 * is needed, or such that the event of its end is still to come and will do the
 * rest.
 */
#include "postgres.h"

#include "access/table.h"
#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "checkers.h"
#include "eventlog.h"
#include "faults.h"
#include "jsonout.h"
#include "orders.h"
#include "settlement.h"
#include "updater.h"

/* Waiting entries older than this many cursor rows are compared with their orders. */
#define REVIEW_AFTER_BATCHES 64

typedef struct Waiting
{
	pg_uuid_t order_id; /* hash key */
	dlist_node node;    /* in the order of first sight */
	int64 seq;          /* place in the backlog */
	int round;
	int seen; /* verdicts, as OM_VERDICT_ bits */
	int refused;
	uint32 reasons;
	bool ended;   /* its order_cancelled or order_failed event has been read */
	OmItem *item; /* in the inbox, or NULL */
	int64 verdict_lxid[2];
} Waiting;

struct OmUpdater
{
	OmInbox *inbox;
	HTAB *waiting;
	dlist_head by_age;
	int64 reviewed_seq;
};

/* What a batch comes to. */
typedef struct Batch
{
	OmUpdater *updater;
	int count;
	Waiting **entries;
	OmOrder **orders; /* sorted by id */
	int *releases;    /* verdicts that may have to be released */
	OmWork *work;
	int nconfirmed;
	pg_uuid_t *confirmed;
} Batch;

OmUpdater *
om_updater_create(OmInbox *inbox)
{
	OmUpdater *updater = palloc0(sizeof(OmUpdater));
	HASHCTL control = {
		.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(Waiting), .hcxt = CurrentMemoryContext};

	updater->inbox = inbox;
	updater->waiting =
		hash_create("verdicts that wait", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&updater->by_age);
	return updater;
}

/* ---------- taking in ---------- */

static void
start_round(Waiting *entry, int round)
{
	entry->round = round;
	entry->seen = entry->refused = 0;
	entry->reasons = 0;
	entry->ended = false;
	entry->verdict_lxid[0] = entry->verdict_lxid[1] = 0;
}

static Waiting *
get_waiting(OmUpdater *updater, const pg_uuid_t *order_id, int round, int64 seq)
{
	bool found;
	Waiting *entry = hash_search(updater->waiting, order_id, HASH_ENTER, &found);

	if (!found)
	{
		entry->item = NULL;
		entry->seq = seq;
		om_backlog_add(updater->inbox->backlog, seq);
		dlist_push_tail(&updater->by_age, &entry->node);
	}
	if (!found || entry->round < round)
		start_round(entry, round);
	return entry;
}

static void
forget(OmUpdater *updater, Waiting *entry)
{
	dlist_delete(&entry->node);
	om_backlog_remove(updater->inbox->backlog, entry->seq);
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
note_end(Waiting *entry, const OmLogRow *row)
{
	char *from = om_json_get_string(row->detail, "from");

	entry->ended = true;
	/* A confirmed order has had both verdicts, and both were holds. */
	if (from != NULL && strcmp(from, om_status_names[OM_STATUS_CONFIRMED]) == 0)
		entry->seen = OM_VERDICTS_BOTH;
}

static void
note_event(OmUpdater *updater, const OmLogRow *row, int ordinal, int64 seq)
{
	int round = om_log_round(row->detail);
	Waiting *entry = get_waiting(updater, &row->orders[ordinal], round, seq);

	if (entry->round > round)
		return; /* read a second time */
	if (row->type == OM_EVENT_ORDER_CANCELLED || row->type == OM_EVENT_ORDER_FAILED)
		note_end(entry, row);
	else
		note_verdict(entry, row);
	if (entry->item != NULL || !(entry->ended || entry->seen == OM_VERDICTS_BOTH))
		return;
	entry->item = om_inbox_find_retry(updater->inbox, &entry->order_id, round);
	if (entry->item == NULL)
		entry->item = om_inbox_add(updater->inbox, row, ordinal, seq);
}

void
om_updater_note(OmUpdater *updater, const OmLogRow *row, int64 seq)
{
	for (int i = 0; i < row->norders; i++)
		note_event(updater, row, i, seq);
}

/* ---------- deciding ---------- */

/* Which holds an order in this state must give back now. */
static int
verdicts_to_release(const Waiting *entry, const OmOrder *order)
{
	int held = entry->seen & ~entry->refused & ~order->settled;

	if (order->status == OM_STATUS_CANCELLED || order->status == OM_STATUS_FAILED)
		return entry->ended ? held : 0;
	if (order->status == OM_STATUS_CAPTURED && entry->seen == OM_VERDICTS_BOTH &&
		entry->refused != 0)
		return held;
	return 0;
}

static void
finish(OmUpdater *updater, Waiting *entry, bool is_done)
{
	om_inbox_remove(updater->inbox, entry->item, false /* keep_backlog */);
	entry->item = NULL;
	if (is_done)
		forget(updater, entry);
}

static int
compare_items(const void *a, const void *b)
{
	return om_order_compare_ids(&(*(OmItem *const *) a)->event.order_id,
								&(*(OmItem *const *) b)->event.order_id);
}

/* Reads their orders; items that are about nothing any more go. */
static void
begin_batch(Batch *batch, OmItem **items, int count)
{
	OmUpdater *updater = batch->updater;
	OmItem **sorted = palloc(sizeof(OmItem *) * count);
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * count);

	memcpy(sorted, items, sizeof(OmItem *) * count);
	qsort(sorted, count, sizeof(OmItem *), compare_items);
	for (int i = 0; i < count; i++)
		ids[i] = sorted[i]->event.order_id;
	om_orders_read(batch->work->orders, ids, count, false /* with_needs */);
	batch->entries = palloc(sizeof(Waiting *) * count);
	batch->orders = palloc(sizeof(OmOrder *) * count);
	batch->releases = palloc(sizeof(int) * count);
	batch->confirmed = palloc(sizeof(pg_uuid_t) * count);
	for (int i = 0; i < count; i++)
	{
		Waiting *entry = hash_search(updater->waiting, &ids[i], HASH_FIND, NULL);
		OmOrder *order = om_order_find(batch->work->orders, &ids[i], GetActiveSnapshot());

		if (entry == NULL)
		{
			om_inbox_remove(updater->inbox, sorted[i], false /* keep_backlog */);
			continue;
		}
		if (order == NULL)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("a verdict is about an order that does not exist")));
		batch->entries[batch->count] = entry;
		batch->orders[batch->count] = order;
		batch->releases[batch->count++] = verdicts_to_release(entry, order);
	}
	om_settlement_lock(batch->work, batch->orders, batch->releases, batch->count);
}

static void
write_order(Batch *batch, OmOrder *order, const Waiting *entry)
{
	for (int i = 0; i < 2; i++)
	{
		if (entry->verdict_lxid[i] != 0)
			om_order_add_to_trail(order, entry->verdict_lxid[i]);
	}
	om_order_add_to_trail(order, batch->work->log->lxid);
	om_order_write(order);
}

static void
confirm(Batch *batch, OmOrder *order)
{
	order->status = OM_STATUS_CONFIRMED;
	(void) om_work_log(batch->work);
	if (order->round == 0)
		batch->confirmed[batch->nconfirmed++] = order->id;
	else
		om_log_orders(om_work_log(batch->work), OM_EVENT_ORDER_CONFIRMED, &order->id, 1,
					  om_log_round_detail(order->round));
}

static void
reject(Batch *batch, OmOrder *order, const Waiting *entry)
{
	om_settlement_apply(order, OM_SETTLE_RELEASE, verdicts_to_release(entry, order));
	order->status = OM_STATUS_REJECTED;
	order->settled = OM_VERDICTS_BOTH;
	order->reasons = entry->reasons;
	om_log_orders(om_work_log(batch->work), OM_EVENT_ORDER_REJECTED, &order->id, 1,
				  om_checkers_reasons_detail(entry->reasons, order->round));
}

/* Both verdicts are in and the order is still open. */
static bool
decide(Batch *batch, OmOrder *order, Waiting *entry)
{
	if (entry->seen != OM_VERDICTS_BOTH)
		return false;
	if (entry->refused == 0)
		confirm(batch, order);
	else
		reject(batch, order, entry);
	write_order(batch, order, entry);
	return true;
}

/*
 * The order has been cancelled or has failed: settle the verdicts that are in.
 * True when both are settled, so that nothing more is to come.
 */
static bool
settle(Batch *batch, OmOrder *order, Waiting *entry)
{
	int verdicts = entry->seen & ~order->settled;

	/* Its event is still to come, and then it is our turn. */
	if (!entry->ended || verdicts == 0)
		return order->settled == OM_VERDICTS_BOTH;
	om_settlement_apply(order, OM_SETTLE_RELEASE, verdicts_to_release(entry, order));
	order->settled |= verdicts;
	if (order->settled == OM_VERDICTS_BOTH && (entry->seen & ~entry->refused) != 0)
		om_log_orders(om_work_log(batch->work), OM_EVENT_ORDER_RELEASED, &order->id, 1,
					  om_log_round_detail(order->round));
	(void) om_work_log(batch->work);
	write_order(batch, order, entry);
	return order->settled == OM_VERDICTS_BOTH;
}

static void
handle(Batch *batch, OmOrder *order, Waiting *entry)
{
	bool is_done = true;

	if (order->round != entry->round)
		is_done = order->round > entry->round; /* read a second time */
	else if (order->status == OM_STATUS_CANCELLED || order->status == OM_STATUS_FAILED)
		is_done = settle(batch, order, entry);
	else if (order->status == OM_STATUS_CAPTURED)
		is_done = decide(batch, order, entry);
	finish(batch->updater, entry, is_done);
}

/*
 * After a restart the second verdict of an order that was decided long ago may
 * have been read without the first one.  Such an entry would wait for ever.
 */
static void
review_waiting(OmUpdater *updater, OmOrderTables *tables, int64 seq)
{
	dlist_mutable_iter iter;

	if (seq - updater->reviewed_seq < REVIEW_AFTER_BATCHES)
		return;
	updater->reviewed_seq = seq;
	dlist_foreach_modify(iter, &updater->by_age)
	{
		Waiting *entry = dlist_container(Waiting, node, iter.cur);
		OmOrder *order;

		if (seq - entry->seq < REVIEW_AFTER_BATCHES)
			break;
		if (entry->item != NULL)
			continue;
		order = om_order_find(tables, &entry->order_id, GetActiveSnapshot());
		if (order != NULL && order->status != OM_STATUS_CAPTURED &&
			((order->status != OM_STATUS_CANCELLED && order->status != OM_STATUS_FAILED) ||
			 order->settled == OM_VERDICTS_BOTH))
			forget(updater, entry);
	}
}

void
om_updater_run(OmUpdater *updater, OmWork *work, OmItem **items, int count, int64 seq)
{
	Batch batch = {.updater = updater, .work = work};

	begin_batch(&batch, items, count);
	OM_FAULT_POINT("updater/ledgers-locked");
	for (int i = 0; i < batch.count; i++)
	{
		OmOrder *order = batch.orders[i];
		Waiting *entry = batch.entries[i];

		if (om_settlement_is_free(order, batch.releases[i]) && om_order_relock_if_free(order))
			handle(&batch, order, entry);
		else
			om_inbox_sleep_on_lock(updater->inbox, entry->item);
	}
	OM_FAULT_POINT("updater/decided");
	if (batch.nconfirmed > 0)
		om_log_orders(om_work_log(work), OM_EVENT_ORDER_CONFIRMED, batch.confirmed,
					  batch.nconfirmed, NULL);
	review_waiting(updater, work->orders, seq);
}

void
om_updater_give_up(OmUpdater *updater, OmItem *item)
{
	Waiting *entry = hash_search(updater->waiting, &item->event.order_id, HASH_FIND, NULL);

	if (entry == NULL)
		om_inbox_remove(updater->inbox, item, false /* keep_backlog */);
	else
		finish(updater, entry, true /* is_done */);
}
