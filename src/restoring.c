/*
 * restoring.c
 *		restore_month(): months that are in files come back.
 *
 * Locks, in this order: OM_LOCK_ARCHIVE; SHARE on what keeps a month's traits; at
 * last, for the swap, the tables exclusively.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "archivedamounts.h"
#include "archivereader.h"
#include "archives.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "monthmembers.h"
#include "monthswap.h"
#include "monthtraits.h"
#include "plans.h"
#include "relations.h"
#include "restoring.h"
#include "textform.h"

/* Where a column of a table comes from. */
typedef struct Target
{
	int column; /* of the file; -1: it has none */
	FmgrInfo input;
	Oid param;
	int32 typmod;
	Datum value; /* where there is none: the default */
	bool isnull;
} Target;

static int
find_column(const OmArchiveManifest *manifest, const char *name)
{
	for (int i = 0; i < manifest->ncolumns; i++)
	{
		if (strcmp(manifest->columns[i].name, name) == 0)
			return i;
	}
	return -1;
}

/* A column that has come to the table since has its default, as in partitions that were there. */
static void
find_default(Relation twin, int attribute, Target *target)
{
	Form_pg_attribute described = TupleDescAttr(RelationGetDescr(twin), attribute);
	Node *expression;
	EState *estate;

	target->isnull = true;
	if (described->attgenerated != '\0')
		return; /* it comes of the row */
	expression = build_column_default(twin, attribute + 1);
	if (expression == NULL)
		return;
	estate = CreateExecutorState();
	target->value = ExecEvalExpr(ExecPrepareExpr(expression_planner((Expr *) expression), estate),
								 GetPerTupleExprContext(estate), &target->isnull);
	if (!target->isnull)
		target->value = datumCopy(target->value, described->attbyval, described->attlen);
	FreeExecutorState(estate);
}

/* What is left out of a month is lost when it goes again; a column may have another name now. */
static void
require_columns(const OmMonthMember *member, const OmArchiveManifest *manifest)
{
	for (int i = 0; i < manifest->ncolumns; i++)
	{
		const char *name = manifest->columns[i].name;

		if (get_attnum(member->twin, name) == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_OM_STATE),
					 errmsg("table \"%s\" has no column \"%s\" any more, and the archive has",
							member->table_name, name),
					 om_errdetail("column", name),
					 errhint("Rename the column back, or add one of type %s, restore the "
							 "month, and rename or drop it then.",
							 manifest->columns[i].type)));
	}
}

static Target *
prepare_targets(Relation twin, const OmArchiveManifest *manifest)
{
	TupleDesc desc = RelationGetDescr(twin);
	Target *targets = palloc0(sizeof(Target) * Max(desc->natts, 1));

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		Target *target = &targets[i];
		Oid input;

		target->column = find_column(manifest, NameStr(column->attname));
		if (target->column < 0)
		{
			find_default(twin, i, target);
			continue;
		}
		getTypeInputInfo(column->atttypid, &input, &target->param);
		fmgr_info(input, &target->input);
		target->typmod = column->atttypmod;
	}
	return targets;
}

static void
read_values(Target *targets, int count, char **cells, Datum *values, bool *isnull)
{
	for (int i = 0; i < count; i++)
	{
		Target *target = &targets[i];
		char *cell = target->column < 0 ? NULL : cells[target->column];

		isnull[i] = target->column < 0 ? target->isnull : cell == NULL;
		/* That of a domain may refuse NULL. */
		values[i] = target->column < 0
					  ? target->value
					  : InputFunctionCall(&target->input, cell, target->param, target->typmod);
	}
}

/* All rows of a file, which is proven to be what it was; how many there are. */
static int64
fill_twin(const OmMonthMember *member, const OmArchiveManifest *manifest)
{
	OmMonthFill *fill = om_month_fill_begin(member->twin, true /* is_foreign */);
	Relation twin = table_open(member->twin, NoLock);
	int natts = RelationGetDescr(twin)->natts;
	Target *targets = prepare_targets(twin, manifest);
	Datum *values = palloc(sizeof(Datum) * Max(natts, 1));
	bool *isnull = palloc(sizeof(bool) * Max(natts, 1));
	OmArchiveReader *reader =
		om_archive_reader_begin(member->archive->file, manifest, true /* all */);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "row", ALLOCSET_DEFAULT_SIZES);
	char **cells;

	while ((cells = om_archive_reader_row(reader)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(row);

		read_values(targets, natts, cells, values, isnull);
		MemoryContextSwitchTo(caller);
		om_month_fill_row(fill, values, isnull);
		MemoryContextReset(row);
	}
	om_archive_reader_end(reader);
	table_close(twin, NoLock);
	MemoryContextDelete(row);
	return om_month_fill_end(fill);
}

/* Archives are found by name: another table of this name may be somebody else's. */
static void
require_owner(const OmMonthMember *member, const OmArchiveManifest *manifest)
{
	Oid owner = om_relation_owner(member->parent);
	Oid before = manifest->owner == NULL ? owner : get_role_oid(manifest->owner, true);

	if (owner == before || (OidIsValid(before) && has_privs_of_role(owner, before)))
		return;
	ereport(ERROR, (errcode(ERRCODE_OM_STATE),
					errmsg("the archive of table \"%s\" was written for role \"%s\"",
						   member->table_name, manifest->owner),
					om_errdetail("table", member->table_name),
					errhint("Give the table to this role, or grant it to the owner of the table, "
							"until the month is back.")));
}

/* What belonged to the partition itself, or else what months of the table have in common. */
static void
make_twin(OmMonthMember *member, const OmArchiveManifest *manifest, bool ours)
{
	OmMonthBounds bounds = {member->archive->lower_bound, member->archive->upper_bound};
	Oid model = ours || OidIsValid(member->kept) ? member->kept
												 : om_traits_youngest(member->parent, InvalidOid);

	member->twin =
		om_month_twin_make(member->parent, &bounds, om_traits_storage(member->parent, model, 100));
	require_columns(member, manifest);
	if (OidIsValid(model))
		om_traits_carry(member->parent, model, member->twin,
						model == member->kept ? OM_TRAITS_ALL : OM_TRAITS_COMMON);
}

/* Nobody writes it, changes it or drops it from now on. */
Oid
om_restoring_lock_kept(Oid parent, const char *file)
{
	Oid kept = om_traits_kept(parent, file);

	if (!OidIsValid(kept))
		return InvalidOid;
	om_month_lock_to_copy(list_make1_oid(kept));
	/* It may have been dropped, or given away, before it was locked. */
	return om_traits_kept(parent, file) == kept ? kept : InvalidOid;
}

static void
restore_member(OmMonthMember *member, bool ours)
{
	const OmArchive *archive = member->archive;
	OmArchiveManifest *manifest = om_archive_read_manifest(archive->file, archive->manifest_sha256);
	OmQueryScope scope;
	int level;
	int64 rows;

	require_owner(member, manifest);
	if (!ours)
		member->kept = om_restoring_lock_kept(member->parent, archive->file);
	make_twin(member, manifest, ours);
	level = om_textform_begin();
	om_member_begin_as_owner(&scope, member->parent);
	rows = fill_twin(member, manifest);
	om_query_end(&scope);
	om_textform_end(level);
	if (rows != archive->rows)
		elog(ERROR, "archive \"%s\" gave " INT64_FORMAT " rows", archive->file, rows);
	OM_FAULT_POINT("restoring/filled");
	om_month_twin_finish(member->twin, member->parent, NULL);
	if (OidIsValid(member->kept))
		member->names =
			om_traits_carry_late(member->parent, member->kept, member->twin, OM_TRAITS_ALL, NULL);
	om_archives_set_restored(archive);
}

/* The table of the month's events that is about to come back; invalid: it has none. */
static Oid
event_twin(List *members)
{
	return ((OmMonthMember *) linitial(members))->twin;
}

void
om_restoring_require_owner(Oid parent, TimestampTz at)
{
	const OmMonthMember *member = om_member_find(parent, om_archives_month(at));
	const OmArchive *archive = member->archive;

	if (archive != NULL)
		require_owner(member, om_archive_read_manifest(archive->file, archive->manifest_sha256));
}

static bool
any_is_cold(List *members)
{
	ListCell *cell;

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);

		if (member->archive != NULL && member->archive->cold)
			return true;
	}
	return false;
}

List *
om_restore_month(Oid relation, TimestampTz at)
{
	DateADT month = om_archives_month(at);
	List *members = om_members_begin(relation, month);
	List *coming = NIL;
	ListCell *cell;

	if (!any_is_cold(members))
		return om_members_describe(members);
	foreach(cell, members)
	{
		OmMonthMember *member = lfirst(cell);

		if (member->archive == NULL || !member->archive->cold)
			continue;
		om_member_require_free(member);
		restore_member(member, om_members_are_ours(relation));
		coming = lappend(coming, member);
	}
	OM_FAULT_POINT("restoring/all-filled");
	if (om_members_are_ours(relation))
		om_archived_amounts_remove((TimestampTz) month * USECS_PER_DAY, event_twin(members));
	om_members_swap(coming);
	OM_FAULT_POINT("restoring/restored");
	return om_members_describe(members);
}
