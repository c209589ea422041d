/*
 * purges.c
 *		What is deleted by its age.
 *
 * Rows are locked with SKIP LOCKED before they are deleted, orders of dead
 * letters too: two that purge at once share the work, and none waits for a client.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "deadletters.h"
#include "faults.h"
#include "plans.h"
#include "predictionlog.h"
#include "predictionrequests.h"
#include "purges.h"
#include "relations.h"
#include "settings.h"

/* A retry reads what an older load has refused, so that stays as long as the retry is under way. */
static OmQuery loads_query = {
	.sql =
		"WITH old AS MATERIALIZED (SELECT l.load_id FROM order_mgmt.loads AS l"
		"  WHERE l.status IN ('done', 'failed', 'cancelled') AND l.finished_at < $1"
		"  AND NOT EXISTS (SELECT FROM order_mgmt.loads AS r WHERE r.retry_of = l.load_id"
		"   AND r.status IN ('queued', 'reading', 'writing')) FOR UPDATE OF l SKIP LOCKED),"
		" parts AS (DELETE FROM order_mgmt.load_parts WHERE load_id IN (SELECT load_id FROM old)),"
		" errors AS (DELETE FROM order_mgmt.load_errors WHERE load_id IN (SELECT load_id FROM"
		"  old)),"
		" cancels AS (DELETE FROM order_mgmt.load_cancels WHERE load_id IN (SELECT load_id FROM"
		"  old)),"
		" tickets AS (DELETE FROM order_mgmt.uploads WHERE load_id IN (SELECT load_id FROM old))"
		" DELETE FROM order_mgmt.loads WHERE load_id IN (SELECT load_id FROM old)",
	.nargs = 1,
	.types = {TIMESTAMPTZOID}};

static OmQuery staged_query = {
	.sql = "DELETE FROM order_mgmt.order_staging WHERE ctid IN (SELECT s.ctid"
		   " FROM order_mgmt.order_staging AS s WHERE s.staged_at < $1 FOR UPDATE SKIP LOCKED)",
	.nargs = 1,
	.types = {TIMESTAMPTZOID}};

/* What is discarded is noted on its order, if that is there. */
static OmQuery letters_query = {
	.sql = "WITH old AS MATERIALIZED (SELECT dead_letter_id, order_id FROM order_mgmt.dead_letters"
		   "  WHERE last_failed_at < $1 AND dead_letter_id > $2"
		   "  ORDER BY dead_letter_id LIMIT 1000 FOR UPDATE SKIP LOCKED),"
		   " known AS MATERIALIZED (SELECT old.dead_letter_id, o.order_id FROM old"
		   "  LEFT JOIN order_mgmt.orders AS o ON o.order_id = old.order_id"
		   "  AND o.created_at = order_mgmt.uuid_time(old.order_id)),"
		   " free AS MATERIALIZED (SELECT o.order_id FROM order_mgmt.orders AS o JOIN old"
		   "  ON o.order_id = old.order_id AND o.created_at = order_mgmt.uuid_time(old.order_id)"
		   "  FOR UPDATE OF o SKIP LOCKED)"
		   " SELECT coalesce(array_agg(dead_letter_id) FILTER (WHERE order_id IS NULL"
		   "   OR order_id IN (SELECT f.order_id FROM free AS f)), '{}'),"
		   "  coalesce(max(dead_letter_id), 0) FROM known",
	.nargs = 2,
	.types = {TIMESTAMPTZOID, INT8OID}};

static Datum
time_before(int minutes)
{
	return TimestampTzGetDatum(GetCurrentTimestamp() - minutes * USECS_PER_MINUTE);
}

static int64
delete_before(OmQuery *query, Datum time)
{
	OmQueryScope scope;
	int64 count;

	om_query_begin(&scope);
	count = om_query_run(query, &time, NULL);
	om_query_end(&scope);
	return count;
}

int64
om_purge_loads(void)
{
	Datum time = time_before(om_setting_load_retention);
	int64 count;

	if (om_setting_load_retention == 0 || !OidIsValid(om_relation_find("order_staging")))
		return 0;
	count = delete_before(&staged_query, time);
	OM_FAULT_POINT("purges/staged-deleted");
	count += delete_before(&loads_query, time);
	OM_FAULT_POINT("purges/loads-deleted");
	return count;
}

/* The next ones; some that have been looked at may stay, because their orders are locked. */
static ArrayType *
find_letters(Datum time, int64 *last)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum args[2] = {time, Int64GetDatum(*last)};
	OmQueryScope scope;
	ArrayType *found;
	bool isnull;

	om_query_begin(&scope);
	om_query_run(&letters_query, args, NULL);
	MemoryContextSwitchTo(caller);
	found = DatumGetArrayTypePCopy(om_result_get(0, 1, &isnull));
	*last = DatumGetInt64(om_result_get(0, 2, &isnull));
	om_query_end(&scope);
	return found;
}

int64
om_purge_dead_letters(void)
{
	Datum time = time_before(om_setting_dead_letter_retention);
	int64 last = 0;
	int64 count = 0;

	if (om_setting_dead_letter_retention == 0)
		return 0;
	do
	{
		ArrayType *letters = find_letters(time, &last);

		CHECK_FOR_INTERRUPTS();
		if (ARR_NDIM(letters) > 0)
			count +=
				om_dead_letters_discard(letters, "older than order_mgmt.dead_letter_retention");
		CommandCounterIncrement();
		OM_FAULT_POINT("purges/letters-discarded");
	} while (last > 0);
	return count;
}

int64
om_purge_prediction_log(void)
{
	int64 older = (int64) om_setting_prediction_retention * 60 * 1000;

	/* Data of an earlier version have none until setup() is run. */
	if (older == 0 || !OidIsValid(om_relation_find("prediction_log")))
		return 0;
	return om_predictionlog_purge(older) + om_predictionrequests_purge(older);
}
