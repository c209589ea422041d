/*
 * obstacles.c
 *		Looks for what still needs a month: orders under way, consumers that
 *		have not read it, retries, loads.
 *
 * A consumer has read a month when its stored position, or for a built-in one
 * the row from which a restart reads again, shows every transaction that has
 * written to it.  A position that moves over events that are not for its
 * consumer is stored every 1,000 rows only; in a month that ended long ago this
 * makes no difference.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "archives.h"
#include "clock.h"
#include "cursors.h"
#include "horizon.h"
#include "months.h"
#include "names.h"
#include "obstacles.h"
#include "plans.h"
#include "relations.h"

static OmQuery consumers_query = {
	.sql = "SELECT name::text FROM order_mgmt.consumers ORDER BY name", .nargs = 0};

static OmQuery retries_query = {.sql =
									"SELECT r.consumer::text FROM order_mgmt.retries AS r"
									" WHERE (r.at >= $1 AND r.at < $2) OR (r.order_id IS NOT NULL"
									"  AND order_mgmt.uuid_time(r.order_id) >= $1"
									"  AND order_mgmt.uuid_time(r.order_id) < $2) LIMIT 1",
								.nargs = 2,
								.types = {TIMESTAMPTZOID, TIMESTAMPTZOID}};

static OmQuery loads_query = {
	.sql = "SELECT l.load_id FROM order_mgmt.loads AS l WHERE l.mode = 'history'"
		   " AND l.status IN ('queued', 'reading', 'writing') LIMIT 1",
	.nargs = 0};

/* ---------- orders ---------- */

/* What has ended badly may still have amounts to give back. */
static char *
orders_under_way(Oid leaf)
{
	char *sql = psprintf("SELECT count(*) FILTER (WHERE status IN ('captured', 'confirmed')),"
						 " count(*) FILTER (WHERE settled NOT IN (3, 7)) FROM ONLY %s.%s",
						 OM_SCHEMA, quote_identifier(get_rel_name(leaf)));
	MemoryContext caller = CurrentMemoryContext;
	OmQueryScope scope;
	int64 open;
	int64 unsettled;
	bool isnull;

	om_query_begin(&scope);
	om_query_uncounted();
	om_query_utility(sql);
	open = DatumGetInt64(om_result_get(0, 1, &isnull));
	unsettled = DatumGetInt64(om_result_get(0, 2, &isnull));
	om_query_end(&scope);
	MemoryContextSwitchTo(caller);
	if (open > 0)
		return psprintf(INT64_FORMAT " of its orders are not in a final state", open);
	if (unsettled > 0)
		return psprintf(INT64_FORMAT " of its orders have not given back what they held",
						unsettled);
	return NULL;
}

/* ---------- consumers ---------- */

/* Whether a partition has an event that a position does not show. */
static bool
has_unread(Oid leaf, const OmHorizon *base)
{
	char *sql = psprintf("SELECT lxid, max(event_id) FROM ONLY %s.%s WHERE lxid >= " INT64_FORMAT
						 " GROUP BY 1",
						 OM_SCHEMA, quote_identifier(get_rel_name(leaf)), base->xmin);
	bool unread = false;
	OmQueryScope scope;
	uint64 count;

	om_query_begin(&scope);
	om_query_uncounted();
	om_query_utility(sql);
	count = SPI_processed;
	for (uint64 i = 0; i < count && !unread; i++)
	{
		bool isnull;
		int64 lxid = DatumGetInt64(om_result_get(i, 1, &isnull));

		unread = !om_horizon_shows(base, lxid, DatumGetInt64(om_result_get(i, 2, &isnull)));
	}
	om_query_end(&scope);
	return unread;
}

static char *
consumer_behind(Oid leaf)
{
	ListCell *cell;

	foreach(cell, om_query_list(&consumers_query, NULL, NULL, om_result_name))
	{
		char *name = lfirst(cell);
		Snapshot snapshot = RegisterSnapshot(om_current_snapshot());
		OmCursor *cursor = om_cursor_load(name, true /* restart */, snapshot);

		UnregisterSnapshot(snapshot);
		if (has_unread(leaf, cursor->base))
			return psprintf("consumer \"%s\" has not read all of its events", name);
	}
	return NULL;
}

/* ---------- retries and loads ---------- */

static char *
retry_of(TimestampTz month)
{
	Datum args[2] = {TimestampTzGetDatum(om_months_begin(month)),
					 TimestampTzGetDatum(om_months_next(month))};
	char *name = om_query_first(&retries_query, args, om_result_name);

	return name == NULL ? NULL : psprintf("consumer \"%s\" has an event of it to try again", name);
}

static char *
load_under_way(void)
{
	int64 load_id = om_query_number(&loads_query, NULL);

	return load_id == 0 ? NULL
						: psprintf("load " INT64_FORMAT " of past orders has not ended", load_id);
}

/* ---------- all of it ---------- */

static Oid
leaf_of(const char *table, TimestampTz month)
{
	return om_month_leaf(om_relation_get(table), om_months_begin(month));
}

/* A partition before the month: months go oldest first. */
static char *
older_month(TimestampTz month)
{
	for (int i = 0; i < OM_MONTHLY_COUNT; i++)
	{
		List *older = om_month_leaves_between(om_relation_get(om_monthly_names[i]), DT_NOBEGIN,
											  om_months_begin(month) - 1);

		if (older != NIL)
			return psprintf("older months go first: \"%s\" is still there",
							get_rel_name(linitial_oid(older)));
	}
	return NULL;
}

char *
om_archiving_obstacle(TimestampTz month)
{
	Oid orders = leaf_of("orders", month);
	Oid events = leaf_of("event_log", month);
	char *reason = NULL;

	/* Clocks that step back do so by less than a day (leaves.c). */
	if (om_months_next(month) + USECS_PER_DAY > om_clock_now())
		return psprintf("it is not over, or has been for less than a day");
	reason = older_month(month);
	if (reason == NULL)
		reason = load_under_way();
	if (reason == NULL)
		reason = retry_of(month);
	if (reason == NULL && OidIsValid(orders))
		reason = orders_under_way(orders);
	if (reason == NULL && OidIsValid(events))
		reason = consumer_behind(events);
	return reason;
}
