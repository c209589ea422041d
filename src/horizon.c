/*
 * horizon.c
 *		Snapshots that outlive the transaction and the cluster they were taken in.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/snapmgr.h"

#include "horizon.h"

static int
compare_lxids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

static OmHorizon *
create_horizon(int max_running)
{
	OmHorizon *horizon = palloc0(sizeof(OmHorizon));

	horizon->running = palloc(sizeof(int64) * Max(max_running, 1));
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
		horizon->running[horizon->nrunning++] = widen(snapshot->xip[i], next, xid_base);
	if (TransactionIdIsValid(own))
	{
		int64 own_lxid = widen(own, next, xid_base);

		if (own_lxid < horizon->xmax)
			horizon->running[horizon->nrunning++] = own_lxid;
		horizon->xmin = Min(horizon->xmin, own_lxid);
	}
	qsort(horizon->running, horizon->nrunning, sizeof(int64), compare_lxids);
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
	if (lxid < horizon->xmin)
		return true;
	if (lxid >= horizon->xmax)
		return false;
	return bsearch(&lxid, horizon->running, horizon->nrunning, sizeof(int64), compare_lxids) ==
		   NULL;
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
	STORED_RUNNING
};

ArrayType *
om_horizon_to_array(const OmHorizon *horizon)
{
	int length = STORED_RUNNING + horizon->nrunning;
	Datum *elements = palloc(sizeof(Datum) * length);

	elements[STORED_XMIN] = Int64GetDatum(horizon->xmin);
	elements[STORED_XMAX] = Int64GetDatum(horizon->xmax);
	elements[STORED_OWN_LXID] = Int64GetDatum(horizon->own_lxid);
	elements[STORED_OWN_EVENT_ID] = Int64GetDatum(horizon->own_event_id);
	for (int i = 0; i < horizon->nrunning; i++)
		elements[STORED_RUNNING + i] = Int64GetDatum(horizon->running[i]);
	return construct_array(elements, length, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						   TYPALIGN_DOUBLE);
}

OmHorizon *
om_horizon_from_array(ArrayType *array)
{
	int length = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	int64 *elements = (int64 *) ARR_DATA_PTR(array);
	OmHorizon *horizon;

	if (length < STORED_RUNNING || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID)
		elog(ERROR, "stored horizon is malformed");
	horizon = create_horizon(length - STORED_RUNNING);
	horizon->xmin = elements[STORED_XMIN];
	horizon->xmax = elements[STORED_XMAX];
	horizon->own_lxid = elements[STORED_OWN_LXID];
	horizon->own_event_id = elements[STORED_OWN_EVENT_ID];
	horizon->nrunning = length - STORED_RUNNING;
	memcpy(horizon->running, elements + STORED_RUNNING, sizeof(int64) * horizon->nrunning);
	return horizon;
}

OmHorizon *
om_horizon_copy(const OmHorizon *horizon)
{
	OmHorizon *copy = create_horizon(horizon->nrunning);
	int64 *running = copy->running;

	*copy = *horizon;
	copy->running = running;
	memcpy(running, horizon->running, sizeof(int64) * horizon->nrunning);
	return copy;
}

void
om_horizon_free(OmHorizon *horizon)
{
	pfree(horizon->running);
	pfree(horizon);
}

bool
om_horizon_equals(const OmHorizon *a, const OmHorizon *b)
{
	return a->xmin == b->xmin && a->xmax == b->xmax && a->own_lxid == b->own_lxid &&
		   a->own_event_id == b->own_event_id && a->nrunning == b->nrunning &&
		   memcmp(a->running, b->running, sizeof(int64) * a->nrunning) == 0;
}
