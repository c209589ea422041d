/*
 * inbox.c
 *		A list of events in the order of the log.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "inbox.h"

OmInbox *
om_inbox_create(void)
{
	OmInbox *inbox = palloc0(sizeof(OmInbox));

	inbox->context = AllocSetContextCreate(CurrentMemoryContext, "inbox", ALLOCSET_DEFAULT_SIZES);
	inbox->backlog = om_backlog_create();
	dlist_init(&inbox->items);
	return inbox;
}

/* New events come last; only what is loaded from retries may belong elsewhere. */
static void
insert_in_order(OmInbox *inbox, OmItem *item)
{
	dlist_iter iter;

	dlist_reverse_foreach(iter, &inbox->items)
	{
		OmItem *other = dlist_container(OmItem, node, iter.cur);

		if (om_retry_compare(&other->event, &item->event) < 0)
		{
			dlist_insert_after(&other->node, &item->node);
			return;
		}
	}
	dlist_push_head(&inbox->items, &item->node);
}

static OmItem *
add_item(OmInbox *inbox, const OmRetry *event, int64 seq)
{
	MemoryContext caller = MemoryContextSwitchTo(inbox->context);
	OmItem *item = palloc0(sizeof(OmItem));

	item->event = *event;
	item->event.customer_id = item->event.product_id = NULL;
	item->event.error_code = item->event.message = NULL;
	if (event->detail != NULL)
	{
		item->event.detail = palloc(VARSIZE(event->detail));
		memcpy(item->event.detail, event->detail, VARSIZE(event->detail));
	}
	item->round = om_log_round(event->detail);
	item->seq = seq;
	insert_in_order(inbox, item);
	inbox->count++;
	MemoryContextSwitchTo(caller);
	return item;
}

OmItem *
om_inbox_add(OmInbox *inbox, const OmLogRow *row, int ordinal, int64 seq)
{
	OmRetry *event = om_retry_of_event(row, ordinal);
	OmItem *item = add_item(inbox, event, seq);

	pfree(event);
	om_backlog_add(inbox->backlog, seq);
	om_inbox_wake(inbox, item);
	return item;
}

void
om_inbox_set_due(OmInbox *inbox, OmItem *item, TimestampTz due)
{
	inbox->ndue += (due != 0) - (item->due != 0);
	item->due = due;
}

OmItem *
om_inbox_add_retry(OmInbox *inbox, const OmRetry *retry)
{
	OmItem *item = add_item(inbox, retry, PG_INT64_MAX);

	om_inbox_set_due(inbox, item, retry->due);
	inbox->nretrying++;
	return item;
}

OmItem *
om_inbox_find_retry(OmInbox *inbox, const pg_uuid_t *order_id, int round)
{
	dlist_iter iter;

	if (inbox->nretrying == 0)
		return NULL;
	dlist_foreach(iter, &inbox->items)
	{
		OmItem *item = dlist_container(OmItem, node, iter.cur);

		if (item->seq == PG_INT64_MAX && item->round == round &&
			memcmp(&item->event.order_id, order_id, sizeof(pg_uuid_t)) == 0)
			return item;
	}
	return NULL;
}

OmItem *
om_inbox_find(OmInbox *inbox, int64 event_id)
{
	dlist_iter iter;

	dlist_foreach(iter, &inbox->items)
	{
		OmItem *item = dlist_container(OmItem, node, iter.cur);

		if (item->event.event_id == event_id)
			return item;
	}
	return NULL;
}

/*
 * Looks no further than to the last item that is ready, unless some other is due.
 * Those that are due leave half of the room to the ready ones: they may come again and again.
 */
int
om_inbox_take(OmInbox *inbox, OmItem **items, int limit)
{
	TimestampTz now = GetCurrentTimestamp();
	bool some_due;
	int nready = inbox->nready;
	int room = Max(limit - nready, limit / 2); /* for those that are due */
	int count = 0;
	TimestampTz next_due = om_inbox_next_due(inbox);
	dlist_iter iter;

	some_due = next_due != 0 && next_due <= now;
	if (nready == 0 && !some_due)
		return 0;
	dlist_foreach(iter, &inbox->items)
	{
		OmItem *item = dlist_container(OmItem, node, iter.cur);

		if (count == limit || (nready == 0 && !some_due))
			break;
		if (item->ready)
			nready--;
		else if (item->due == 0 || item->due > now || room-- <= 0)
			continue;
		items[count++] = item;
	}
	return count;
}

void
om_inbox_wake(OmInbox *inbox, OmItem *item)
{
	/* An event in retry keeps to its time; when that has come it may have to wait like any other. */
	if (item->ready || (item->seq == PG_INT64_MAX && item->due != 0))
		return;
	item->ready = true;
	om_inbox_set_due(inbox, item, 0);
	inbox->nready++;
}

void
om_inbox_wake_all(OmInbox *inbox)
{
	dlist_iter iter;

	dlist_foreach(iter, &inbox->items)
	{
		OmItem *item = dlist_container(OmItem, node, iter.cur);

		if (item->due != 0)
			om_inbox_wake(inbox, item);
	}
}

void
om_inbox_sleep(OmInbox *inbox, OmItem *item, TimestampTz due)
{
	if (item->ready)
		inbox->nready--;
	item->ready = false;
	om_inbox_set_due(inbox, item, due);
}

void
om_inbox_sleep_on_lock(OmInbox *inbox, OmItem *item)
{
	om_inbox_sleep(inbox, item,
				   TimestampTzPlusMilliseconds(GetCurrentTimestamp(), OM_INBOX_LOCK_RETRY_MS));
}

void
om_inbox_set_retrying(OmInbox *inbox, OmItem *item, const OmRetry *stored)
{
	if (item->seq != PG_INT64_MAX)
	{
		om_backlog_remove(inbox->backlog, item->seq);
		item->seq = PG_INT64_MAX;
		inbox->nretrying++;
	}
	item->event.attempts = stored->attempts;
	item->event.first_failed_at = stored->first_failed_at;
	item->event.last_failed_at = stored->last_failed_at;
	om_inbox_sleep(inbox, item, stored->due);
}

void
om_inbox_remove(OmInbox *inbox, OmItem *item, bool keep_backlog)
{
	om_inbox_sleep(inbox, item, 0);
	if (item->seq == PG_INT64_MAX)
		inbox->nretrying--;
	else if (!keep_backlog)
		om_backlog_remove(inbox->backlog, item->seq);
	dlist_delete(&item->node);
	inbox->count--;
	if (item->event.detail != NULL)
		pfree(item->event.detail);
	pfree(item);
}

TimestampTz
om_inbox_earlier(TimestampTz a, TimestampTz b)
{
	return a == 0 || b == 0 ? Max(a, b) : Min(a, b);
}

TimestampTz
om_inbox_next_due(OmInbox *inbox)
{
	TimestampTz next = 0;
	dlist_iter iter;

	if (inbox->ndue == 0)
		return 0;
	dlist_foreach(iter, &inbox->items)
	{
		OmItem *item = dlist_container(OmItem, node, iter.cur);

		next = om_inbox_earlier(next, item->due);
	}
	return next;
}
