/*
 * api_partitions.c
 *		Tables whose months are looked after: given into care, looked at.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/tablespace.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/varlena.h"

#include "api_arguments.h"
#include "clock.h"
#include "compat.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "maintlog.h"
#include "monthswap.h"
#include "monthtables.h"
#include "names.h"
#include "policies.h"
#include "relations.h"
#include "tablenames.h"
#include "tiers.h"
#include "wakeup.h"

#define MAX_PREMAKE 120
#define ADMIN_ROLE "order_mgmt_admin"

/* ---------- arguments ---------- */

static char *
get_name(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : pstrdup(NameStr(*PG_GETARG_NAME(n)));
}

static Interval *
get_age(FunctionCallInfo fcinfo, int n, const char *name)
{
	static const Interval zero = {0};
	static const Interval too_long = {.month = 1000 * MONTHS_PER_YEAR};

	if (PG_ARGISNULL(n))
		return NULL;
	if (!DatumGetBool(DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(n), PointerGetDatum(&zero))))
		om_arg_raise(name, "is not positive");
	/* Beyond that there are no dates to reckon with. */
	if (DatumGetBool(
			DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(n), PointerGetDatum(&too_long))))
		om_arg_raise(name, "is longer than 1000 years");
	return PG_GETARG_INTERVAL_P(n);
}

static void
check_order(const Interval *younger, const Interval *older, const char *name, const char *message)
{
	if (younger != NULL && older != NULL &&
		!DatumGetBool(
			DirectFunctionCall2(interval_lt, PointerGetDatum(younger), PointerGetDatum(older))))
		om_arg_raise(name, message);
}

static void
check_ages(const OmPolicy *policy)
{
	check_order(policy->warm_after, policy->cold_after, "cold_after", "is not after warm_after");
	check_order(policy->cold_after, policy->drop_after, "drop_after", "is not after cold_after");
	check_order(policy->warm_after, policy->drop_after, "drop_after", "is not after warm_after");
}

/* ---------- rights ---------- */

static bool
is_admin(void)
{
	return has_privs_of_role(GetUserId(), get_role_oid(ADMIN_ROLE, false /* missing_ok */));
}

static void
require_admin(const char *what)
{
	if (is_admin())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to %s", what),
			 errhint("It deletes orders for good, so it takes %s.", ADMIN_ROLE)));
}

static void
require_owner(Oid relid)
{
	if (om_owns_relation(relid))
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("must be owner of table \"%s\"", get_rel_name(relid)),
					errhint("Maintenance works with the rights of the owner.")));
}

/* Those who make the months are to be able to make them there. */
static void
check_tablespace(const char *name, const char *owner)
{
	Oid tablespace;

	if (name == NULL)
		return;
	tablespace = get_tablespace_oid(name, false /* missing_ok */);
	if (tablespace != MyDatabaseTableSpace &&
		!om_may_create_in_tablespace(tablespace, get_role_oid(owner, false /* missing_ok */)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not create tables in tablespace \"%s\"", owner, name),
				 errhint("GRANT CREATE ON TABLESPACE %s TO %s;", quote_identifier(name),
						 quote_identifier(owner))));
}

/* ---------- manage_table ---------- */

/* What is asked for; whose the table is decides what is allowed. */
static OmPolicy
read_policy(FunctionCallInfo fcinfo)
{
	OmPolicy policy = {0};

	om_arg_require(fcinfo, 1, "time_column");
	om_arg_require(fcinfo, 8, "restored_for");
	om_arg_require(fcinfo, 9, "lock_timeout");
	policy.time_column = get_name(fcinfo, 1);
	policy.premake = PG_ARGISNULL(2) ? -1 : (int) Min(PG_GETARG_INT64(2), MAX_PREMAKE + 1);
	if (!PG_ARGISNULL(2) && (PG_GETARG_INT64(2) < 0 || policy.premake > MAX_PREMAKE))
		om_arg_raise("premake", "is not from 0 to 120");
	policy.warm_after = get_age(fcinfo, 3, "warm_after");
	policy.cold_after = get_age(fcinfo, 4, "cold_after");
	policy.drop_after = get_age(fcinfo, 5, "drop_after");
	policy.warm_tablespace = get_name(fcinfo, 6);
	policy.stay_hot_reads = PG_ARGISNULL(7) ? 0 : PG_GETARG_INT64(7);
	if (!PG_ARGISNULL(7) && policy.stay_hot_reads < 1)
		om_arg_raise("stay_hot_reads", "is not positive");
	policy.restored_for = get_age(fcinfo, 8, "restored_for");
	policy.lock_timeout = Max(om_arg_milliseconds(fcinfo, 9, "lock_timeout"), 1);
	check_ages(&policy);
	return policy;
}

static void
check_ours(const OmPolicy *policy)
{
	if (policy->drop_after == NULL)
		return;
	require_admin("set drop_after for a table of orders");
	/* Sums of months that are gone are taken when they are archived. */
	if (policy->cold_after == NULL)
		om_arg_raise("drop_after", "takes cold_after for a table of order_mgmt: what is to be "
								   "deleted is archived first");
}

static void
check_users(Oid relid, const OmPolicy *policy)
{
	require_owner(relid);
	if (get_rel_relispartition(relid))
		om_arg_raise("relation", "is a partition of another table: give the table itself");
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		om_arg_raise("relation", "is temporary");
	if (strcmp(policy->schema, OM_SCHEMA) == 0)
		om_arg_raise("relation", "is in the schema of order_mgmt");
}

static void
make_months(const OmPolicy *policy, List *tables)
{
	ListCell *cell;

	foreach(cell, tables)
		(void) om_monthtables_premake(lfirst(cell), om_clock_now(), om_policy_premake(policy));
}

/* manage_table(relation, time_column, premake, …) → boolean */
OM_FUNCTION(om_manage_table)
{
	Oid relid;
	OmPolicy policy;
	List *tables;
	bool changed;

	om_arg_require(fcinfo, 0, "relation");
	relid = PG_GETARG_OID(0);
	om_api_begin_write("manage_table()");
	(void) om_relation_get("partition_policies");
	policy = read_policy(fcinfo);
	if (get_rel_name(relid) == NULL)
		om_arg_raise("relation", "is no table");
	policy.schema = get_namespace_name(get_rel_namespace(relid));
	policy.name = get_rel_name(relid);
	if (om_policy_is_ours(policy.schema, policy.name))
		check_ours(&policy);
	else
	{
		check_users(relid, &policy);
		policy.owner = GetUserNameFromId(om_relation_owner(relid), false /* noerr */);
	}
	tables = om_monthtables_of(relid, policy.time_column);
	check_tablespace(policy.warm_tablespace, policy.owner == NULL ? OM_OWNER_ROLE : policy.owner);
	changed = om_policy_save(&policy);
	if (policy.owner != NULL)
	{
		om_tablenames_note(relid);
		make_months(&policy, tables);
	}
	om_wakeup_maintenance_at_commit();
	PG_RETURN_BOOL(changed);
}

/* unmanage_table(relation) → boolean */
OM_FUNCTION(om_unmanage_table)
{
	Oid relid;
	char *schema;
	char *name;

	om_arg_require(fcinfo, 0, "relation");
	relid = PG_GETARG_OID(0);
	om_api_begin_write("unmanage_table()");
	name = get_rel_name(relid);
	if (name == NULL)
		om_arg_raise("relation", "is no table");
	schema = get_namespace_name(get_rel_namespace(relid));
	if (om_policy_is_ours(schema, name))
		om_arg_raise("relation", "is a table of order_mgmt, which is always looked after");
	require_owner(relid);
	PG_RETURN_BOOL(om_policy_remove(schema, name));
}

/* ---------- rename_managed_table ---------- */

/* By itself it is a name in the schema of the table, because what is gone cannot be searched for. */
static void
read_old_name(FunctionCallInfo fcinfo, Oid relid, char **schema, char **name)
{
	List *words = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));

	if (list_length(words) > 2)
		om_arg_raise("old_name", "is not the name of a table, with or without its schema");
	*name = strVal(llast(words));
	*schema = list_length(words) == 2 ? strVal(linitial(words))
									  : get_namespace_name(get_rel_namespace(relid));
}

static void
check_renamed(Oid relid)
{
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		om_arg_raise("new_name", "is not a partitioned table");
	if (get_rel_namespace(relid) == get_namespace_oid(OM_SCHEMA, true /* missing_ok */))
		om_arg_raise("new_name", "is in the schema of order_mgmt");
	if (!is_admin())
		require_owner(relid);
}

/* Who moves months locks first that nobody else does, and tables then. */
static void
lock_to_rename(Oid relid)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ it is not seen what stands under a name"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Move policies and archives in READ COMMITTED.")));
	om_lock_acquire(OM_LOCK_ARCHIVE);
	LockRelationOid(relid, AccessShareLock);
}

/* rename_managed_table(old_name, new_name) → bigint */
OM_FUNCTION(om_rename_managed_table)
{
	Oid relid;
	char *schema;
	char *name;
	int64 count;
	OmMaintEntry entry;

	om_arg_require(fcinfo, 0, "old_name");
	om_arg_require(fcinfo, 1, "new_name");
	relid = PG_GETARG_OID(1);
	om_api_begin_write("rename_managed_table()");
	(void) om_relation_get("known_tables");
	check_renamed(relid);
	lock_to_rename(relid);
	check_renamed(relid);
	read_old_name(fcinfo, relid, &schema, &name);
	if (strcmp(schema, OM_SCHEMA) == 0)
		om_arg_raise("old_name", "is in the schema of order_mgmt");
	if (get_relname_relid(name, get_namespace_oid(schema, true /* missing_ok */)) == relid)
		om_arg_raise("old_name", "is the name that the table has");
	count = om_tablenames_move(schema, name, relid, is_admin());
	entry = om_maintlog_entry(
		"rename table", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid)));
	entry.error = psprintf("it was %s", quote_qualified_identifier(schema, name));
	om_maintlog_add(&entry);
	om_wakeup_maintenance_at_commit();
	PG_RETURN_INT64(count);
}

/* ---------- partitions ---------- */

/* Why what is due is not done; NULL: nothing is, or nothing keeps it. */
static const char *
find_obstacle(const OmMonth *month, const OmPolicy *policy, TimestampTz now)
{
	const char *reason;

	if (month->next_at > now)
		return NULL;
	reason = om_tiers_obstacle(month, policy);
	if (reason == NULL && OidIsValid(month->leaf) && month->next != OM_MOVE_DROP)
		reason = om_month_missed(month->leaf);
	return reason;
}

static void
put_month(ReturnSetInfo *result, const OmMonth *month, const OmPolicy *policy, TimestampTz now)
{
	const char *waits_for = find_obstacle(month, policy, now);
	const char *table = policy->owner == NULL
						  ? month->table_name
						  : quote_qualified_identifier(month->schema, month->table_name);
	Datum values[11] = {CStringGetTextDatum(table),
						CStringGetTextDatum(month->partition_name),
						DateADTGetDatum(month->begin / USECS_PER_DAY),
						CStringGetTextDatum(om_tier_names[month->tier]),
						Int64GetDatum((int64) month->rows),
						Int64GetDatum(month->bytes),
						TimestampTzGetDatum(month->last_read)};
	bool isnull[11] = {false};

	isnull[4] = month->rows < 0;
	isnull[6] = month->last_read == 0;
	isnull[7] = isnull[8] = month->next == OM_MOVE_NONE;
	if (month->next != OM_MOVE_NONE)
	{
		values[7] = CStringGetTextDatum(om_move_names[month->next]);
		values[8] = TimestampTzGetDatum(month->next_at);
	}
	isnull[9] = waits_for == NULL;
	if (waits_for != NULL)
		values[9] = CStringGetTextDatum(waits_for);
	values[10] = Float8GetDatum(month->reads_per_day);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* No month, but what no month of can be looked after. */
static void
put_lost(ReturnSetInfo *result, const OmLostName *lost)
{
	Datum values[11] = {CStringGetTextDatum(lost->name)};
	bool isnull[11];

	for (int i = 0; i < (int) lengthof(isnull); i++)
		isnull[i] = i != 0 && i != 9;
	values[9] = CStringGetTextDatum(lost->reason);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* partitions_state() → the rows of view partitions */
OM_FUNCTION(om_partitions_state)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz now = om_clock_now();
	ListCell *cell;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, om_policy_list())
	{
		const OmPolicy *policy = lfirst(cell);
		ListCell *month;

		foreach(month, om_tiers_of(policy, now))
			put_month(result, lfirst(month), policy, now);
	}
	foreach(cell, om_tablenames_lost())
		put_lost(result, lfirst(cell));
	return (Datum) 0;
}
