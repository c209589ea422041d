/*
 * horizon.c
 *		Snapshots that outlive the transaction and the cluster they were taken in.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/snapmgr.h"

#include "arrays.h"
#include "horizon.h"

static int
compare_lxids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

static OmHorizon *
create_horizon(int max_exceptions)
{
	OmHorizon *horizon = palloc0(sizeof(OmHorizon));

	horizon->exceptions = palloc(sizeof(int64) * Max(max_exceptions, 1));
	return horizon;
}

/* A snapshot's xid is never more than 2^31 away from the next one to be given out. */
static int64
widen(TransactionId xid, FullTransactionId next, int64 xid_base)
{
	uint64 full = U64FromFullTransactionId(next);

	return (int64) (full - (uint32) (XidFromFullTransactionId(next) - xid)) + xid_base;
}

OmHorizon *
om_horizon_take(Snapshot snapshot, int64 xid_base)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId own = GetTopTransactionIdIfAny();
	OmHorizon *horizon = create_horizon(snapshot->xcnt + 1);

	horizon->xmin = widen(snapshot->xmin, next, xid_base);
	horizon->xmax = widen(snapshot->xmax, next, xid_base);
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		horizon->exceptions[horizon->nexceptions++] = widen(snapshot->xip[i], next, xid_base);
	if (TransactionIdIsValid(own))
	{
		int64 own_lxid = widen(own, next, xid_base);

		if (own_lxid < horizon->xmax)
			horizon->exceptions[horizon->nexceptions++] = own_lxid;
		horizon->xmin = Min(horizon->xmin, own_lxid);
	}
	qsort(horizon->exceptions, horizon->nexceptions, sizeof(int64), compare_lxids);
	return horizon;
}

void
om_horizon_add_own(OmHorizon *horizon, int64 lxid, int64 last_event_id)
{
	horizon->own_lxid = lxid;
	horizon->own_event_id = last_event_id;
}

bool
om_horizon_shows_all(const OmHorizon *horizon, int64 lxid)
{
	bool is_exception;

	if (lxid < horizon->xmin)
		return true;
	is_exception =
		horizon->nexceptions > 0 && bsearch(&lxid, horizon->exceptions, horizon->nexceptions,
											sizeof(int64), compare_lxids) != NULL;
	return (lxid < horizon->xmax) != is_exception;
}

static void
remove_exception(OmHorizon *horizon, int64 lxid)
{
	int kept = 0;

	for (int i = 0; i < horizon->nexceptions; i++)
	{
		if (horizon->exceptions[i] != lxid)
			horizon->exceptions[kept++] = horizon->exceptions[i];
	}
	horizon->nexceptions = kept;
}

/* Lxids that are seen ahead of the others mostly come in their order. */
static void
add_exception(OmHorizon *horizon, int64 lxid)
{
	int n = horizon->nexceptions++;

	horizon->exceptions = repalloc(horizon->exceptions, sizeof(int64) * horizon->nexceptions);
	for (; n > 0 && horizon->exceptions[n - 1] > lxid; n--)
		horizon->exceptions[n] = horizon->exceptions[n - 1];
	horizon->exceptions[n] = lxid;
}

void
om_horizon_add_seen(OmHorizon *horizon, int64 lxid)
{
	if (om_horizon_shows_all(horizon, lxid))
		return;
	if (lxid < horizon->xmax)
		remove_exception(horizon, lxid);
	else
		add_exception(horizon, lxid);
}

void
om_horizon_cut(OmHorizon *horizon, int64 xmax)
{
	if (xmax >= horizon->xmax)
		return;
	horizon->xmax = xmax;
	horizon->xmin = Min(horizon->xmin, xmax);
	while (horizon->nexceptions > 0 && horizon->exceptions[horizon->nexceptions - 1] >= xmax)
		horizon->nexceptions--;
}

/* They come last among the exceptions. */
int
om_horizon_count_ahead(const OmHorizon *horizon)
{
	int below = 0;
	int above = horizon->nexceptions;

	while (below < above)
	{
		int middle = (below + above) / 2;

		if (horizon->exceptions[middle] < horizon->xmax)
			below = middle + 1;
		else
			above = middle;
	}
	return horizon->nexceptions - below;
}

bool
om_horizon_shows(const OmHorizon *horizon, int64 lxid, int64 event_id)
{
	return om_horizon_shows_all(horizon, lxid) ||
		   (lxid == horizon->own_lxid && event_id <= horizon->own_event_id);
}

/* Places in the stored array */
enum
{
	STORED_XMIN,
	STORED_XMAX,
	STORED_OWN_LXID,
	STORED_OWN_EVENT_ID,
	STORED_EXCEPTIONS
};

ArrayType *
om_horizon_to_array(const OmHorizon *horizon)
{
	int length = STORED_EXCEPTIONS + horizon->nexceptions;
	int64 *elements = palloc(sizeof(int64) * length);

	elements[STORED_XMIN] = horizon->xmin;
	elements[STORED_XMAX] = horizon->xmax;
	elements[STORED_OWN_LXID] = horizon->own_lxid;
	elements[STORED_OWN_EVENT_ID] = horizon->own_event_id;
	memcpy(elements + STORED_EXCEPTIONS, horizon->exceptions, sizeof(int64) * horizon->nexceptions);
	return om_int8_array(elements, length);
}

OmHorizon *
om_horizon_from_array(ArrayType *array)
{
	int length = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int64 *elements = (int64 *) ARR_DATA_PTR(array);
	OmHorizon *horizon;

	if (length < STORED_EXCEPTIONS || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID)
		elog(ERROR, "stored horizon is malformed");
	horizon = create_horizon(length - STORED_EXCEPTIONS);
	horizon->xmin = elements[STORED_XMIN];
	horizon->xmax = elements[STORED_XMAX];
	horizon->own_lxid = elements[STORED_OWN_LXID];
	horizon->own_event_id = elements[STORED_OWN_EVENT_ID];
	horizon->nexceptions = length - STORED_EXCEPTIONS;
	memcpy(horizon->exceptions, elements + STORED_EXCEPTIONS, sizeof(int64) * horizon->nexceptions);
	return horizon;
}

OmHorizon *
om_horizon_copy(const OmHorizon *horizon)
{
	OmHorizon *copy = create_horizon(horizon->nexceptions);
	int64 *exceptions = copy->exceptions;

	*copy = *horizon;
	copy->exceptions = exceptions;
	if (horizon->nexceptions > 0)
		memcpy(exceptions, horizon->exceptions, sizeof(int64) * horizon->nexceptions);
	return copy;
}

void
om_horizon_free(OmHorizon *horizon)
{
	pfree(horizon->exceptions);
	pfree(horizon);
}

bool
om_horizon_equals(const OmHorizon *a, const OmHorizon *b)
{
	return a->xmin == b->xmin && a->xmax == b->xmax && a->own_lxid == b->own_lxid &&
		   a->own_event_id == b->own_event_id && a->nexceptions == b->nexceptions &&
		   memcmp(a->exceptions, b->exceptions, sizeof(int64) * a->nexceptions) == 0;
}
