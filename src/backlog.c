/*
 * backlog.c
 *		A queue of (cursor row, count).
 *
 * Things are finished in any order; the queue is shortened from its old end
 * as far as nothing is left there.
 */
#include "postgres.h"

#include "backlog.h"

OmBacklog *
om_backlog_create(void)
{
	OmBacklog *backlog = palloc0(sizeof(OmBacklog));

	backlog->capacity = 64;
	backlog->seqs = palloc(sizeof(int64) * backlog->capacity);
	backlog->counts = palloc(sizeof(int64) * backlog->capacity);
	return backlog;
}

static void
make_room(OmBacklog *backlog)
{
	int used = backlog->end - backlog->first;

	if (backlog->end < backlog->capacity)
		return;
	if (used > backlog->capacity / 2)
	{
		backlog->capacity *= 2;
		backlog->seqs = repalloc(backlog->seqs, sizeof(int64) * backlog->capacity);
		backlog->counts = repalloc(backlog->counts, sizeof(int64) * backlog->capacity);
	}
	memmove(backlog->seqs, backlog->seqs + backlog->first, sizeof(int64) * used);
	memmove(backlog->counts, backlog->counts + backlog->first, sizeof(int64) * used);
	backlog->first = 0;
	backlog->end = used;
}

void
om_backlog_add(OmBacklog *backlog, int64 seq)
{
	if (backlog->end == backlog->first || backlog->seqs[backlog->end - 1] < seq)
	{
		make_room(backlog);
		backlog->seqs[backlog->end] = seq;
		backlog->counts[backlog->end++] = 0;
	}
	Assert(backlog->seqs[backlog->end - 1] == seq);
	backlog->counts[backlog->end - 1]++;
}

static int
find_entry(const OmBacklog *backlog, int64 seq)
{
	int low = backlog->first;
	int high = backlog->end - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;

		if (backlog->seqs[middle] == seq)
			return middle;
		if (backlog->seqs[middle] < seq)
			low = middle + 1;
		else
			high = middle - 1;
	}
	elog(ERROR, "cursor row " INT64_FORMAT " has no backlog", seq);
}

void
om_backlog_remove(OmBacklog *backlog, int64 seq)
{
	backlog->counts[find_entry(backlog, seq)]--;
	while (backlog->first < backlog->end && backlog->counts[backlog->first] == 0)
		backlog->first++;
}

int64
om_backlog_first(const OmBacklog *backlog)
{
	return backlog->first == backlog->end ? PG_INT64_MAX : backlog->seqs[backlog->first];
}
