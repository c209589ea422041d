/*
 * warming.c
 *		Makes a month warm.
 *
 * The copy has no room for new versions of rows, and of the indexes only those
 * that the table has, in the tablespace of the policy.  Grants, row security,
 * statistics targets, comments and constraints of the partition's own go with
 * it.  A partition with what cannot go with it (triggers, rules, policies of its
 * own) stays as it is, and the log says why.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "monthswap.h"
#include "monthtables.h"
#include "plans.h"
#include "warming.h"

/* Comments, and constraints that the table has not. */
static void
carry_more(const OmMonth *month, Oid twin)
{
	char *to = quote_literal_cstr(quote_qualified_identifier(month->schema, get_rel_name(twin)));

	om_monthtables_run(
		month->parent,
		psprintf(
			"SELECT format('COMMENT ON TABLE %%s IS %%L', %s, obj_description(%u, 'pg_class'))"
			" WHERE obj_description(%u, 'pg_class') IS NOT NULL"
			" UNION ALL SELECT format('COMMENT ON COLUMN %%s.%%I IS %%L', %s, attname,"
			" col_description(%u, attnum)) FROM pg_attribute WHERE attrelid = %u AND attnum > 0"
			" AND NOT attisdropped AND col_description(%u, attnum) IS NOT NULL"
			" UNION ALL SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', %s, conname,"
			" pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = %u"
			" AND contype = 'c' AND coninhcount = 0",
			to, month->leaf, month->leaf, to, month->leaf, month->leaf, month->leaf, to,
			month->leaf));
}

static Oid
make_twin(const OmMonth *month, const OmPolicy *policy, const OmMonthBounds *bounds)
{
	Oid current = get_rel_tablespace(month->leaf);
	const char *tablespace = policy->warm_tablespace != NULL ? policy->warm_tablespace
						   : OidIsValid(current)             ? get_tablespace_name(current)
															 : NULL;
	char *storage =
		psprintf("WITH (fillfactor = 100)%s%s", tablespace == NULL ? "" : " TABLESPACE ",
				 tablespace == NULL ? "" : quote_identifier(tablespace));
	Oid twin = om_month_twin_make(month->parent, bounds, storage);

	om_monthtables_carry(month->parent, month->leaf, month->schema, get_rel_name(twin));
	carry_more(month, twin);
	return twin;
}

/* The copy is what the latest snapshot shows; ours would go on beside it. */
static void
require_newest(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ a month does not become warm"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Move months in READ COMMITTED.")));
}

int64
om_warming_run(const OmMonth *month, const OmPolicy *policy, int64 *bytes)
{
	OmMonthBounds bounds;
	OmMonthMove move = {.parent = month->parent, .old = month->leaf, .name = month->partition_name};
	int64 rows;

	require_newest();
	if (!om_month_lock_to_copy(list_make1_oid(month->leaf)))
		om_month_raise_busy(month->leaf);
	om_month_require_seen(list_make1_oid(month->leaf));
	om_monthtables_require_plain(month->parent, month->leaf);
	bounds = om_month_bounds(month->leaf);
	move.bounds = bounds;
	move.fresh = make_twin(month, policy, &bounds);
	rows = om_month_twin_copy(move.fresh, month->leaf);
	OM_FAULT_POINT("warming/copied");
	om_month_twin_finish(move.fresh, month->parent, policy->warm_tablespace);
	*bytes =
		DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(move.fresh)));
	if (!om_month_swap(list_make1(&move)))
		om_month_raise_busy(month->leaf);
	return rows;
}
