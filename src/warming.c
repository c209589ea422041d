/*
 * warming.c
 *		Makes a month warm.
 *
 * The copy has no room for new versions of rows, and of the indexes only those
 * that the table has, or that keep rows from being alike, in the tablespace of
 * the policy.  What else the partition has of its own goes with it
 * (monthtraits.c).  A partition with what cannot go with it (triggers, rules,
 * policies of its own) stays as it is, and the log says why.
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
#include "monthtraits.h"
#include "warming.h"

static Oid
make_twin(const OmMonth *month, const OmPolicy *policy, const OmMonthBounds *bounds)
{
	Oid current = get_rel_tablespace(month->leaf);
	const char *tablespace = policy->warm_tablespace != NULL ? policy->warm_tablespace
						   : OidIsValid(current)             ? get_tablespace_name(current)
															 : NULL;
	char *storage =
		psprintf("%s%s%s", om_traits_storage(month->parent, month->leaf, 100 /* fillfactor */),
				 tablespace == NULL ? "" : " TABLESPACE ",
				 tablespace == NULL ? "" : quote_identifier(tablespace));
	Oid twin = om_month_twin_make(month->parent, bounds, storage);

	om_traits_carry(month->parent, month->leaf, twin, OM_TRAITS_ALL);
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
	List *names;
	int64 rows;

	require_newest();
	om_month_lock_to_copy(list_make1_oid(month->leaf));
	om_month_require_seen(list_make1_oid(month->leaf));
	om_traits_require_plain(month->parent, month->leaf);
	bounds = om_month_bounds(month->leaf);
	move.bounds = bounds;
	move.fresh = make_twin(month, policy, &bounds);
	rows = om_month_twin_copy(move.fresh, month->leaf);
	OM_FAULT_POINT("warming/copied");
	om_month_twin_finish(move.fresh, month->parent, policy->warm_tablespace);
	names = om_traits_carry_late(month->parent, month->leaf, move.fresh, OM_TRAITS_ALL,
								 policy->warm_tablespace);
	*bytes =
		DatumGetInt64(DirectFunctionCall1(pg_total_relation_size, ObjectIdGetDatum(move.fresh)));
	om_month_swap(list_make1(&move));
	om_traits_name_indexes(month->parent, names);
	return rows;
}
