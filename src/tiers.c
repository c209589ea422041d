/*
 * tiers.c
 *		Hot, warm, cold: where each month is, and what is to become of it.
 *
 * A month is cold where table "archives" has it and the table has not; restored
 * where both have it; warm where maintenance has noted that it made it so
 * (partition_uses, by name: OIDs change with every move); else hot.  Ages count
 * from the end of the month, in UTC.
 *
 * Of the three tables of orders it is "orders" whose use counts: workers look
 * into old months of the log, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "names.h"
#include "obstacles.h"
#include "plans.h"
#include "relations.h"
#include "settings.h"
#include "tiers.h"

const char *const om_tier_names[OM_TIER_COUNT] = {"hot", "warm", "cold", "restored"};
const char *const om_move_names[OM_MOVE_COUNT] = {NULL, "make warm", "archive", "drop"};

/* All scans of a table, of its indexes too. */
#define SCANS(oid)                                                                            \
	"(coalesce(pg_catalog.pg_stat_get_numscans(" oid "), 0) + coalesce((SELECT"               \
	" sum(pg_catalog.pg_stat_get_numscans(i.indexrelid)) FROM pg_catalog.pg_index AS i WHERE" \
	" i.indrelid = " oid "), 0))::bigint"

static OmQuery months_query = {
	.sql =
		"SELECT l.leaf, month, coalesce(n.nspname::text, a.schema_name::text),"
		" coalesce(c.relname::text, a.partition_name), CASE WHEN l.leaf IS NULL THEN"
		" a.rows::double precision ELSE c.reltuples::double precision END,"
		" coalesce(pg_catalog.pg_total_relation_size(l.leaf), a.bytes_packed),"
		" coalesce(r.reads_per_day, 0), r.last_read_at,"
		" u.warm_since IS NOT NULL, coalesce(a.state::text, ''), a.restored_at"
		" FROM unnest($1::oid[], $2::date[]) AS l(leaf, month)"
		" FULL JOIN (SELECT * FROM order_mgmt.archives WHERE schema_name = $3"
		" AND table_name = $4) AS a USING (month)"
		" LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.leaf"
		" LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
		" LEFT JOIN order_mgmt.partition_uses AS u ON u.schema_name = n.nspname::text"
		" AND u.partition_name = c.relname::text"
		" LEFT JOIN order_mgmt.partition_uses AS r ON r.schema_name = n.nspname::text"
		" AND r.partition_name = CASE WHEN $5 THEN 'orders' || pg_catalog.right(c.relname::text, 8)"
		" ELSE c.relname::text END"
		" ORDER BY month",
	.nargs = 5,
	.types = {OIDARRAYOID, DATEARRAYOID, TEXTOID, TEXTOID, BOOLOID}};

static OmQuery use_query = {
	.sql =
		"INSERT INTO order_mgmt.partition_uses AS u (schema_name, partition_name, scans, since,"
		" since_scans, seen_at) SELECT n.nspname, c.relname, s.scans, $2, s.scans, $2"
		" FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = "
		"c.relnamespace,"
		" LATERAL (SELECT " SCANS(
			"c.oid") " AS scans) AS s WHERE c.oid = ANY ($1)"
					 " ON CONFLICT (schema_name, partition_name) DO UPDATE SET scans = "
					 "excluded.scans,"
					 " last_read_at = CASE WHEN excluded.scans NOT IN (0, u.scans) THEN $2"
					 " ELSE u.last_read_at END, seen_at = $2,"
					 " (reads_per_day, since, since_scans) = (SELECT CASE WHEN t.is_over THEN"
					 /* The counters of a partition that has been made anew begin with nothing. */
					 " (excluded.scans - CASE WHEN excluded.scans < u.since_scans THEN 0 ELSE "
					 "u.since_scans END)"
					 " / t.days ELSE u.reads_per_day END, CASE WHEN t.is_over OR t.days < 0 THEN $2"
					 " ELSE u.since END, CASE WHEN t.is_over OR t.days < 0 THEN excluded.scans"
					 " ELSE u.since_scans END FROM (SELECT d.days, d.days >= 1 AS is_over FROM"
					 " (SELECT extract(epoch FROM $2 - u.since)::double precision / 86400) AS "
					 "d(days)) AS t)"
					 " WHERE excluded.scans <> u.scans OR $2 < u.since"
					 " OR $2 >= u.since + '1 day'::interval",
	.nargs = 2,
	.types = {OIDARRAYOID, TIMESTAMPTZOID}};

static OmQuery forget_query = {
	.sql = "DELETE FROM order_mgmt.partition_uses AS u WHERE NOT EXISTS (SELECT FROM"
		   " pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
		   " WHERE c.relname::text = u.partition_name AND n.nspname::text = u.schema_name"
		   " AND c.relispartition)"
		   /* Where a table is called otherwise now, what is said of it is still to be moved. */
		   " AND NOT EXISTS (SELECT FROM order_mgmt.partition_policies AS p"
		   "  WHERE p.table_schema = u.schema_name AND p.owner IS NOT NULL"
		   "  AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace"
		   "   AS n ON n.oid = c.relnamespace WHERE c.relname::text = p.table_name"
		   "   AND n.nspname::text = p.table_schema))"};

static OmQuery warm_query = {
	.sql = "INSERT INTO order_mgmt.partition_uses AS u (schema_name, partition_name, scans, since,"
		   " since_scans, seen_at, warm_since) VALUES ($1, $2, 0, $3, 0, $3, $3)"
		   " ON CONFLICT (schema_name, partition_name) DO UPDATE SET warm_since = $3, scans = 0,"
		   " since_scans = 0, since = $3",
	.nargs = 3,
	.types = {TEXTOID, TEXTOID, TIMESTAMPTZOID}};

/* ---------- tables and their partitions ---------- */

Oid
om_tiers_relation(const OmPolicy *policy)
{
	Oid schema = get_namespace_oid(policy->schema, true /* missing_ok */);
	Oid relid = OidIsValid(schema) ? get_relname_relid(policy->name, schema) : InvalidOid;
	Oid owner = policy->owner == NULL ? om_owner_role() : get_role_oid(policy->owner, true);

	return OidIsValid(relid) && om_relation_owner(relid) == owner ? relid : InvalidOid;
}

static Datum
oids_of(const OmMonthTable *table)
{
	Datum *oids = palloc(sizeof(Datum) * Max(table->nleaves, 1));

	for (int i = 0; i < table->nleaves; i++)
		oids[i] = ObjectIdGetDatum(table->leaves[i].relid);
	return PointerGetDatum(construct_array(oids, table->nleaves, OIDOID, sizeof(Oid),
										   true /* by value */, TYPALIGN_INT));
}

static Datum
months_of(const OmMonthTable *table)
{
	Datum *months = palloc(sizeof(Datum) * Max(table->nleaves, 1));

	for (int i = 0; i < table->nleaves; i++)
		months[i] = DateADTGetDatum(table->leaves[i].begin / USECS_PER_DAY);
	return PointerGetDatum(construct_array(months, table->nleaves, DATEOID, sizeof(DateADT),
										   true /* by value */, TYPALIGN_INT));
}

/* ---------- what is to become of a month ---------- */

static void
set_next(OmMonth *month, OmMove move, TimestampTz at, TimestampTz now)
{
	bool is_due = at <= now;
	bool other_is_due = month->next_at <= now;

	/* Of two that are due the later one leads further; of two that are not the sooner one is next. */
	if (at == DT_NOEND || (other_is_due && !is_due) ||
		(other_is_due == is_due && (is_due ? at < month->next_at : at >= month->next_at)))
		return;
	month->next = move;
	month->next_at = at;
}

static TimestampTz
back_to_cold_at(const OmMonth *month, const OmPolicy *policy)
{
	return om_policy_after(Max(month->restored_at, month->last_read), policy->restored_for);
}

static void
plan_next(OmMonth *month, const OmPolicy *policy, TimestampTz now)
{
	TimestampTz end = om_months_next(month->begin);

	month->next = OM_MOVE_NONE;
	month->next_at = DT_NOEND;
	if (month->tier == OM_TIER_RESTORED)
		set_next(month, OM_MOVE_COLD, back_to_cold_at(month, policy), now);
	else if (month->tier != OM_TIER_COLD)
		set_next(month, OM_MOVE_COLD, om_policy_after(end, policy->cold_after), now);
	if (month->tier == OM_TIER_HOT)
		set_next(month, OM_MOVE_WARM, om_policy_after(end, policy->warm_after), now);
	/* What is going to be archived is not dropped before it is. */
	if (month->tier == OM_TIER_COLD ||
		(policy->cold_after == NULL && policy->owner != NULL && month->tier != OM_TIER_RESTORED))
		set_next(month, OM_MOVE_DROP, om_policy_after(end, policy->drop_after), now);
}

char *
om_tiers_obstacle(const OmMonth *month, const OmPolicy *policy)
{
	if (month->next == OM_MOVE_DROP)
		return NULL;
	if (month->tier != OM_TIER_RESTORED && policy->stay_hot_reads > 0 &&
		month->reads_per_day >= policy->stay_hot_reads)
		return psprintf("it is read %.0f times a day", month->reads_per_day);
	if (month->next != OM_MOVE_COLD)
		return NULL;
	if (month->is_archived && month->tier != OM_TIER_RESTORED)
		return pstrdup("it is in the archive as well");
	if (om_setting_archive_directory == NULL || om_setting_archive_directory[0] == '\0')
		return pstrdup("order_mgmt.archive_directory is not set");
	/* One answer for the three tables; the others wait with "orders". */
	return policy->owner == NULL ? om_archiving_obstacle(month->begin) : NULL;
}

/* ---------- months ---------- */

static OmTier
find_tier(bool is_here, bool is_warm, const char *state)
{
	if (!is_here)
		return OM_TIER_COLD;
	if (strcmp(state, "restored") == 0)
		return OM_TIER_RESTORED;
	return is_warm ? OM_TIER_WARM : OM_TIER_HOT;
}

static OmMonth *
read_month(uint64 row)
{
	OmMonth *month = palloc0(sizeof(OmMonth));
	char *state = om_result_text(row, 10);
	bool isnull;
	Datum leaf = om_result_get(row, 1, &isnull);

	month->leaf = isnull ? InvalidOid : DatumGetObjectId(leaf);
	month->begin = DatumGetDateADT(om_result_get(row, 2, &isnull)) * USECS_PER_DAY;
	month->schema = om_result_text(row, 3);
	month->partition_name = om_result_text(row, 4);
	month->rows = DatumGetFloat8(om_result_get(row, 5, &isnull));
	month->bytes = om_result_int64(row, 6);
	month->reads_per_day = DatumGetFloat8(om_result_get(row, 7, &isnull));
	month->last_read = om_result_int64(row, 8);
	month->is_archived = state[0] != '\0';
	month->tier =
		find_tier(OidIsValid(month->leaf), DatumGetBool(om_result_get(row, 9, &isnull)), state);
	month->restored_at = om_result_int64(row, 11);
	return month;
}

List *
om_tiers_months(const OmMonthTable *table, const OmPolicy *policy, TimestampTz now)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum args[5] = {oids_of(table), months_of(table), CStringGetTextDatum(table->table.schema),
					 CStringGetTextDatum(table->table.name), BoolGetDatum(policy->owner == NULL)};
	List *months = NIL;
	OmQueryScope scope;
	uint64 count;

	(void) om_relation_get("partition_uses");
	(void) om_relation_get("archives");
	om_query_begin(&scope);
	/* The tables have been locked, so no month moves any more; older snapshots would know of less. */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	count = om_query_read(&months_query, args, NULL);
	PopActiveSnapshot();
	for (uint64 i = 0; i < count; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);
		OmMonth *month = read_month(i);

		month->parent = table->table.relid;
		month->table_name = pstrdup(table->table.name);
		plan_next(month, policy, now);
		months = lappend(months, month);
		MemoryContextSwitchTo(spi);
	}
	om_query_end(&scope);
	return months;
}

typedef struct Listing
{
	const OmPolicy *policy;
	TimestampTz now;
	List *months;
} Listing;

static void
list_months(void *arg)
{
	Listing *listing = arg;
	Oid relid = om_tiers_relation(listing->policy);
	ListCell *cell;

	if (!OidIsValid(relid))
		return;
	foreach(cell, om_monthtables_of(relid, listing->policy->time_column))
		listing->months = list_concat(listing->months,
									  om_tiers_months(lfirst(cell), listing->policy, listing->now));
}

List *
om_tiers_of(const OmPolicy *policy, TimestampTz now)
{
	Listing listing = {policy, now, NIL};

	/* A table that has been changed since, so that it is not ours to manage, is no error to readers. */
	return om_attempt(list_months, &listing, true /* keep */) == NULL ? listing.months : NIL;
}

/* ---------- what is remembered of partitions ---------- */

void
om_tiers_look_at_use(const OmMonthTable *table, TimestampTz now)
{
	Datum args[2] = {oids_of(table), TimestampTzGetDatum(now)};
	OmQueryScope scope;

	om_query_begin(&scope);
	(void) om_query_run(&use_query, args, NULL);
	om_query_end(&scope);
}

void
om_tiers_forget_gone(void)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	(void) om_query_run(&forget_query, NULL, NULL);
	om_query_end(&scope);
}

void
om_tiers_note_warm(const OmMonth *month, TimestampTz now)
{
	Datum args[3] = {CStringGetTextDatum(month->schema), CStringGetTextDatum(month->partition_name),
					 TimestampTzGetDatum(now)};
	OmQueryScope scope;

	om_query_begin(&scope);
	(void) om_query_run(&warm_query, args, NULL);
	om_query_end(&scope);
}
