/*
 * moving.c
 *		Moves a month to its next tier: warm, into an archive, or away for good.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"

#include "archives.h"
#include "archiving.h"
#include "clock.h"
#include "maintlog.h"
#include "monthmembers.h"
#include "monthswap.h"
#include "moving.h"
#include "names.h"
#include "plans.h"
#include "policies.h"
#include "relations.h"
#include "restoring.h"
#include "tiers.h"
#include "warming.h"

static OmQuery forget_query = {
	.sql =
		"WITH gone AS (DELETE FROM order_mgmt.archives WHERE month = $1 AND state = 'cold'"
		" AND schema_name = $2 AND table_name = ANY ($3) RETURNING rows, bytes_packed)"
		" SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes_packed), 0)::bigint FROM gone",
	.nargs = 3,
	.types = {DATEOID, TEXTOID, TEXTARRAYOID}};

/* Only of users' tables: of ours what is dropped has been archived before. */
static void
drop_live(const OmMonth *month, OmMaintEntry *entry)
{
	OmMonthMove move = {.parent = month->parent, .old = month->leaf};

	entry->rows = month->rows < 0 ? -1 : (int64) month->rows;
	entry->bytes = month->bytes;
	om_month_swap(list_make1(&move));
}

static void
archive(const OmMonth *month, const OmPolicy *policy, OmMaintEntry *entry)
{
	Oid relation = policy->owner == NULL ? InvalidOid : month->parent;
	ListCell *cell;

	entry->rows = entry->bytes = 0;
	/* Of a table by list and month only what the step is about: others may have to wait. */
	foreach(cell, om_archive_month(relation, month->begin))
	{
		const OmArchived *archived = lfirst(cell);

		entry->rows += archived->rows;
		entry->bytes += archived->bytes;
	}
}

/* What a month had that is not going to come back, locked; invalid: nothing. */
static Oid
find_kept(const OmMonth *month)
{
	char *schema = get_namespace_name(get_rel_namespace(month->parent));
	OmArchive *archive =
		om_archives_find(schema, month->table_name, (DateADT) (month->begin / USECS_PER_DAY));

	return archive == NULL ? InvalidOid : om_restoring_lock_kept(month->parent, archive->file);
}

/* Who has locked a table may read its archived months until the end of the transaction. */
static void
lock_out_readers(const OmMonth *month, const OmPolicy *policy)
{
	OmMonthMove moves[OM_MONTHLY_COUNT] = {{.parent = month->parent}};
	List *list = NIL;

	if (policy->owner != NULL)
		moves[0].kept = find_kept(month);
	for (int i = 0; i < (policy->owner == NULL ? OM_MONTHLY_COUNT : 1); i++)
	{
		if (policy->owner == NULL)
			moves[i] = (OmMonthMove){.parent = om_relation_get(om_monthly_names[i])};
		list = lappend(list, &moves[i]);
	}
	om_month_swap(list);
}

/* Its files go at the next run, when no transaction that has failed could want them back. */
static void
drop_archived(const OmMonth *month, const OmPolicy *policy, OmMaintEntry *entry)
{
	Datum names[3] = {CStringGetTextDatum(month->table_name), CStringGetTextDatum("order_lines"),
					  CStringGetTextDatum("event_log")};
	Datum args[3] = {DateADTGetDatum(month->begin / USECS_PER_DAY),
					 CStringGetTextDatum(get_namespace_name(get_rel_namespace(month->parent))),
					 PointerGetDatum(construct_array(names, policy->owner == NULL ? 3 : 1, TEXTOID,
													 -1, false, TYPALIGN_INT))};
	OmQueryScope scope;

	if (policy->owner != NULL)
		om_restoring_require_owner(month->parent, month->begin);
	lock_out_readers(month, policy);
	om_query_begin(&scope);
	(void) om_query_run(&forget_query, args, NULL);
	entry->rows = om_result_int64(0, 1);
	entry->bytes = om_result_int64(0, 2);
	om_query_end(&scope);
}

void
om_moving_run(const OmMonth *month, const OmPolicy *policy, OmMaintEntry *entry)
{
	if (month->next == OM_MOVE_WARM)
	{
		entry->rows = om_warming_run(month, policy, &entry->bytes);
		om_tiers_note_warm(month, om_clock_now());
	}
	else if (month->next == OM_MOVE_COLD)
		archive(month, policy, entry);
	else if (month->next == OM_MOVE_DROP && OidIsValid(month->leaf))
		drop_live(month, entry);
	else if (month->next == OM_MOVE_DROP)
		drop_archived(month, policy, entry);
}
