/*
 * policies.c
 *		The rows of partition_policies.
 *
 * Tables stand there by name, as consumers do by role: OIDs do not survive a
 * dump.  So a row also says who owned the table, and counts for a table of that
 * owner only.  The three tables of orders move together and share one policy:
 * whatever is set for one of them is set for all, by one statement.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "names.h"
#include "plans.h"
#include "policies.h"
#include "relations.h"
#include "settings.h"

#define COLUMNS                                                                      \
	"table_schema::text, table_name::text, time_column::text, owner::text, premake," \
	" warm_after, cold_after, drop_after, warm_tablespace::text, stay_hot_reads,"    \
	" restored_for, (extract(epoch FROM lock_timeout) * 1000)::bigint"

/* Ours first, in the order in which a capture needs them. */
#define OURS_ORDER                                                                                \
	" ORDER BY owner IS NOT NULL, CASE WHEN owner IS NULL THEN"                                   \
	" pg_catalog.array_position('{event_log,orders,order_lines}'::text[], table_name::text) END," \
	" table_schema, table_name"

static OmQuery find_query = {.sql = "SELECT " COLUMNS " FROM order_mgmt.partition_policies"
									" WHERE table_schema = $1 AND table_name = $2",
							 .nargs = 2,
							 .types = {TEXTOID, TEXTOID}};

static OmQuery list_query = {.sql = "SELECT " COLUMNS
									" FROM order_mgmt.partition_policies" OURS_ORDER};

#define SET                                                                         \
	"premake, warm_after, cold_after, drop_after, warm_tablespace, stay_hot_reads," \
	" restored_for, lock_timeout"

static OmQuery change_query = {
	.sql =
		"UPDATE order_mgmt.partition_policies AS p SET (" SET ") = (v.premake, v.warm_after,"
		" v.cold_after, v.drop_after, v.warm_tablespace, v.stay_hot_reads, v.restored_for,"
		" v.lock_timeout), updated_at = pg_catalog.clock_timestamp()"
		" FROM (SELECT ($1::text[])[1]::bigint AS premake, ($1::text[])[2]::interval AS warm_after,"
		" ($1::text[])[3]::interval AS cold_after, ($1::text[])[4]::interval AS drop_after,"
		" ($1::text[])[5] AS warm_tablespace, ($1::text[])[6]::bigint AS stay_hot_reads,"
		" ($1::text[])[7]::interval AS restored_for,"
		" ($1::text[])[8]::interval AS lock_timeout) AS v"
		" WHERE p.table_schema = $2 AND p.table_name = ANY ($3)"
		" AND (p.premake, p.warm_after, p.cold_after, p.drop_after, p.warm_tablespace,"
		" p.stay_hot_reads, p.restored_for, p.lock_timeout) IS DISTINCT FROM ROW(v.*)",
	.nargs = 3,
	.types = {TEXTARRAYOID, TEXTOID, TEXTARRAYOID}};

static OmQuery owner_query = {
	.sql = "UPDATE order_mgmt.partition_policies SET owner = $3, time_column = $4,"
		   " updated_at = pg_catalog.clock_timestamp() WHERE table_schema = $1 AND table_name = $2"
		   " AND (owner, time_column) IS DISTINCT FROM ($3, $4)",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static OmQuery add_query = {
	.sql = "INSERT INTO order_mgmt.partition_policies (table_schema, table_name, time_column,"
		   " owner, restored_for, lock_timeout, created_at, updated_at) SELECT $1, $2, $3, $4,"
		   " '7 days', '100 ms', now, now FROM pg_catalog.clock_timestamp() AS now"
		   " ON CONFLICT DO NOTHING",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID}};

static OmQuery remove_query = {.sql = "DELETE FROM order_mgmt.partition_policies"
									  " WHERE table_schema = $1 AND table_name = $2",
							   .nargs = 2,
							   .types = {TEXTOID, TEXTOID}};

typedef struct OurTable
{
	const char *name;
	const char *time_column;
} OurTable;

static const OurTable our_tables[] = {
	{"event_log", "at"}, {"orders", "created_at"}, {"order_lines", "created_at"}};

bool
om_policy_is_ours(const char *schema, const char *name)
{
	if (strcmp(schema, OM_SCHEMA) != 0)
		return false;
	for (int i = 0; i < (int) lengthof(our_tables); i++)
	{
		if (strcmp(our_tables[i].name, name) == 0)
			return true;
	}
	return false;
}

/* ---------- reading ---------- */

static Interval *
get_interval(uint64 row, int column)
{
	bool isnull;
	Datum value = om_result_get(row, column, &isnull);
	Interval *interval;

	if (isnull)
		return NULL;
	interval = palloc(sizeof(Interval));
	*interval = *DatumGetIntervalP(value);
	return interval;
}

static int64
get_int(uint64 row, int column, int64 fallback)
{
	bool isnull;
	Datum value = om_result_get(row, column, &isnull);

	return isnull ? fallback : DatumGetInt64(value);
}

static void *
read_policy(uint64 row)
{
	OmPolicy *policy = palloc0(sizeof(OmPolicy));

	policy->schema = om_result_text(row, 1);
	policy->name = om_result_text(row, 2);
	policy->time_column = om_result_text(row, 3);
	policy->owner = om_result_text(row, 4);
	policy->premake = get_int(row, 5, -1);
	policy->warm_after = get_interval(row, 6);
	policy->cold_after = get_interval(row, 7);
	policy->drop_after = get_interval(row, 8);
	policy->warm_tablespace = om_result_text(row, 9);
	policy->stay_hot_reads = om_result_int64(row, 10);
	policy->restored_for = get_interval(row, 11);
	policy->lock_timeout = get_int(row, 12, 100);
	return policy;
}

OmPolicy *
om_policy_find(const char *schema, const char *name)
{
	Datum args[2] = {CStringGetTextDatum(schema), CStringGetTextDatum(name)};

	(void) om_relation_get("partition_policies");
	return om_query_first(&find_query, args, read_policy);
}

List *
om_policy_list(void)
{
	(void) om_relation_get("partition_policies");
	return om_query_list(&list_query, NULL, NULL, read_policy);
}

int
om_policy_premake(const OmPolicy *policy)
{
	return policy->premake < 0 ? om_setting_premake_months : policy->premake;
}

int
om_policy_premake_ours(void)
{
	OmPolicy *policy = NULL;

	/* Made by an earlier version, which setup() has not been run since. */
	if (OidIsValid(om_relation_find("partition_policies")))
		policy = om_policy_find(OM_SCHEMA, "orders");
	return policy == NULL ? om_setting_premake_months : om_policy_premake(policy);
}

TimestampTz
om_policy_after(TimestampTz at, const Interval *age)
{
	/* A timestamp without time zone adds months as UTC does. */
	return age == NULL ? DT_NOEND
					   : DatumGetTimestamp(DirectFunctionCall2(
							 timestamp_pl_interval, TimestampGetDatum(at), IntervalPGetDatum(age)));
}

/* ---------- writing ---------- */

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
interval_text(const Interval *interval, bool *isnull)
{
	*isnull = interval == NULL;
	return interval == NULL ? (Datum) 0
							: CStringGetTextDatum(DatumGetCString(
								  DirectFunctionCall1(interval_out, IntervalPGetDatum(interval))));
}

static Datum
number_text(int64 number, bool is_null, bool *isnull)
{
	*isnull = is_null;
	return is_null ? (Datum) 0 : CStringGetTextDatum(psprintf(INT64_FORMAT, number));
}

/* What can be changed, in the order of SET. */
static Datum
settings_of(const OmPolicy *policy)
{
	Datum values[8];
	bool isnull[8];
	int dims[1] = {8};
	int lbs[1] = {1};

	values[0] = number_text(policy->premake, policy->premake < 0, &isnull[0]);
	values[1] = interval_text(policy->warm_after, &isnull[1]);
	values[2] = interval_text(policy->cold_after, &isnull[2]);
	values[3] = interval_text(policy->drop_after, &isnull[3]);
	values[4] = text_or_null(policy->warm_tablespace, &isnull[4]);
	values[5] = number_text(policy->stay_hot_reads, policy->stay_hot_reads == 0, &isnull[5]);
	values[6] = interval_text(policy->restored_for, &isnull[6]);
	values[7] = CStringGetTextDatum(psprintf("%d ms", policy->lock_timeout));
	isnull[7] = false;
	return PointerGetDatum(
		construct_md_array(values, isnull, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
}

static bool
add_policy(const char *schema, const char *name, const char *time_column, const char *owner)
{
	Datum args[4] = {CStringGetTextDatum(schema), CStringGetTextDatum(name),
					 CStringGetTextDatum(time_column)};
	bool isnull[4] = {false};
	bool changed;

	args[3] = text_or_null(owner, &isnull[3]);
	changed = om_query_run(&add_query, args, isnull) > 0;
	if (!changed)
	{
		Datum same[4] = {args[0], args[1], args[3], args[2]};
		bool nulls[4] = {false, false, isnull[3], false};

		changed = om_query_run(&owner_query, same, nulls) > 0;
	}
	return changed;
}

static Datum
names_of(const OmPolicy *policy)
{
	Datum names[lengthof(our_tables)];
	int count = 0;

	if (policy->owner != NULL)
		names[count++] = CStringGetTextDatum(policy->name);
	for (int i = 0; i < (int) lengthof(our_tables) && policy->owner == NULL; i++)
		names[count++] = CStringGetTextDatum(our_tables[i].name);
	return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

bool
om_policy_save(const OmPolicy *policy)
{
	Datum args[3] = {settings_of(policy), CStringGetTextDatum(policy->schema), names_of(policy)};
	OmQueryScope scope;
	bool changed = false;

	(void) om_relation_get("partition_policies");
	om_query_begin(&scope);
	if (policy->owner != NULL)
		changed = add_policy(policy->schema, policy->name, policy->time_column, policy->owner);
	changed |= om_query_run(&change_query, args, NULL) > 0;
	om_query_end(&scope);
	return changed;
}

bool
om_policy_remove(const char *schema, const char *name)
{
	Datum args[2] = {CStringGetTextDatum(schema), CStringGetTextDatum(name)};
	OmQueryScope scope;
	bool removed;

	(void) om_relation_get("partition_policies");
	om_query_begin(&scope);
	removed = om_query_run(&remove_query, args, NULL) > 0;
	om_query_end(&scope);
	return removed;
}

void
om_policies_create_ours(void)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	for (int i = 0; i < (int) lengthof(our_tables); i++)
		(void) add_policy(OM_SCHEMA, our_tables[i].name, our_tables[i].time_column,
						  NULL /* owner */);
	om_query_end(&scope);
}
