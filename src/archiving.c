/*
 * archiving.c
 *		archive_month() and restore_month().
 *
 * Locks, in this order: OM_LOCK_ARCHIVE, so that one at a time writes archives;
 * SHARE on the partitions; SHARE on "consumers", so that none is made that would
 * begin to read in the month; at last, for the swap, all of it exclusively.  All
 * are held to the end of the transaction, which the caller commits as soon as it
 * can.  See monthswap.c for how others wait, and decision 16 for why nobody misses a
 * row meanwhile.
 *
 * Rows are read with the latest snapshot under SHARE, so all that has ever been
 * committed is in the file, and nothing else.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/tablespace.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "partitioning/partdesc.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

#include "archivedamounts.h"
#include "archivefile.h"
#include "archivepaths.h"
#include "archivereader.h"
#include "archives.h"
#include "archiving.h"
#include "clock.h"
#include "compat.h"
#include "errors.h"
#include "faults.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "months.h"
#include "monthswap.h"
#include "monthtraits.h"
#include "names.h"
#include "obstacles.h"
#include "plans.h"
#include "relations.h"
#include "tablenames.h"
#include "textform.h"

/* In the order in which captures lock them. */
static const char *const our_tables[] = {"event_log", "orders", "order_lines"};

/* A table with a partition per month, and what there is of one month. */
typedef struct Member
{
	Oid parent;
	char *schema_name;
	char *table_name;
	Oid leaf;           /* its partition; or invalid */
	OmArchive *archive; /* its row; or NULL */
	Oid twin;
	Oid kept;    /* what keeps traits of a month that comes back; or invalid */
	List *names; /* of indexes, once its partition has gone or come (monthtraits.h) */
} Member;

/* ---------- which tables ---------- */

bool
om_archiving_is_ours(Oid relation)
{
	for (int i = 0; i < (int) lengthof(our_tables); i++)
	{
		if (om_relation_find(our_tables[i]) == relation)
			return true;
	}
	return !OidIsValid(relation);
}

/* The partition in which the middle of a month lies; texts of dates sort as dates do. */
static Oid
leaf_of_month(Oid parent, DateADT month)
{
	char *middle = psprintf("%s-15", om_archives_month_text(month));
	ListCell *cell;

	foreach(cell, om_month_leaves(parent))
	{
		OmMonthBounds bounds = om_month_bounds(lfirst_oid(cell));

		if (bounds.from != NULL && bounds.to != NULL && strcmp(bounds.from, middle) < 0 &&
			strcmp(bounds.to, middle) > 0)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

static Member *
make_member(Oid parent, DateADT month)
{
	Member *member = palloc0(sizeof(Member));

	member->parent = parent;
	member->schema_name = get_namespace_name(get_rel_namespace(parent));
	member->table_name = get_rel_name(parent);
	LockRelationOid(parent, AccessShareLock);
	member->leaf = leaf_of_month(parent, month);
	member->archive = om_archives_find(member->schema_name, member->table_name, month);
	return member;
}

static bool
is_by_time(Relation rel)
{
	PartitionKey key = RelationGetPartitionKey(rel);

	return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1 &&
		   key->partattrs[0] != InvalidAttrNumber &&
		   (key->parttypid[0] == DATEOID || key->parttypid[0] == TIMESTAMPOID ||
			key->parttypid[0] == TIMESTAMPTZOID);
}

/* Tables below this one that are partitioned by time; it may be one itself. */
static void
add_parents(Oid relid, List **parents)
{
	Relation rel = table_open(relid, AccessShareLock);

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && is_by_time(rel))
		*parents = lappend_oid(*parents, relid);
	else if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		PartitionDesc desc = RelationGetPartitionDesc(rel, true /* omit_detached */);

		for (int i = 0; i < desc->nparts; i++)
			add_parents(desc->oids[i], parents);
	}
	table_close(rel, NoLock);
}

static List *
list_members(Oid relation, DateADT month)
{
	List *parents = NIL;
	List *members = NIL;
	ListCell *cell;

	if (om_archiving_is_ours(relation))
	{
		for (int i = 0; i < (int) lengthof(our_tables); i++)
			parents = lappend_oid(parents, om_relation_get(our_tables[i]));
	}
	else
	{
		add_parents(relation, &parents);
		list_sort(parents, list_oid_cmp);
	}
	if (parents == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OM_INVALID),
				 errmsg("table \"%s\" is not partitioned by time", get_rel_name(relation)),
				 om_errdetail("path", "relation"),
				 errhint("It must be partitioned by range on one column of type date, timestamp "
						 "or timestamptz.")));
	foreach(cell, parents)
		members = lappend(members, make_member(lfirst_oid(cell), month));
	return members;
}

static void
require_any(List *members, DateADT month)
{
	ListCell *cell;
	char *text = om_archives_month_text(month);

	foreach(cell, members)
	{
		const Member *member = lfirst(cell);

		if (OidIsValid(member->leaf) || member->archive != NULL)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no month %s", text),
					om_errdetail("month", text),
					errhint("SELECT * FROM order_mgmt.partitions lists those that are there, and "
							"order_mgmt.archives those that have been archived.")));
}

static List *
leaves_of(List *members)
{
	List *leaves = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const Member *member = lfirst(cell);

		if (OidIsValid(member->leaf))
			leaves = lappend_oid(leaves, member->leaf);
	}
	return leaves;
}

/* What is there of a month after all, in the order of the tables. */
static List *
describe(List *members)
{
	List *result = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const Member *member = lfirst(cell);
		OmArchived *archived;

		if (member->archive == NULL)
			continue;
		archived = palloc0(sizeof(OmArchived));
		archived->relid = member->parent;
		archived->rows = member->archive->rows;
		archived->bytes = member->archive->bytes_packed;
		archived->file = psprintf("%s%s", member->archive->file, OM_ARCHIVE_DATA);
		result = lappend(result, archived);
	}
	return result;
}

/* What the file has, and nothing else has, would be lost with it, or come twice. */
static void
require_free(const Member *member)
{
	if (OidIsValid(member->leaf) && member->archive != NULL && member->archive->cold)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("table \"%s\" has a partition for the month, and an archive of it",
							   member->table_name),
						om_errdetail("table", get_rel_name(member->leaf)),
						errhint("Detach the partition that is there and restore the month; then "
								"its rows can be added to the month.")));
}

/* ---------- to a file ---------- */

/* Columns of the primary key, else the one by which the table is partitioned. */
static List *
key_columns(Relation leaf, Oid parent)
{
	Oid primary = om_primary_key(leaf);
	List *columns = NIL;

	if (OidIsValid(primary))
	{
		Relation index = index_open(primary, AccessShareLock);

		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
			columns = lappend_int(columns, index->rd_index->indkey.values[i]);
		index_close(index, NoLock);
	}
	else
	{
		Relation rel = table_open(parent, AccessShareLock);
		AttrNumber column = RelationGetPartitionKey(rel)->partattrs[0];

		columns =
			list_make1_int(get_attnum(RelationGetRelid(leaf), get_attname(parent, column, false)));
		table_close(rel, NoLock);
	}
	return columns;
}

static char *
time_column(Oid parent)
{
	Relation rel = table_open(parent, AccessShareLock);
	char *name = get_attname(parent, RelationGetPartitionKey(rel)->partattrs[0], false);

	table_close(rel, NoLock);
	return name;
}

static void
describe_columns(OmArchiveManifest *manifest, TupleDesc desc, int *places)
{
	manifest->columns = palloc(sizeof(OmArchiveColumn) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		OmArchiveColumn *described = &manifest->columns[manifest->ncolumns];

		if (column->attisdropped)
			continue;
		described->name = pstrdup(NameStr(column->attname));
		described->type =
			format_type_extended(column->atttypid, column->atttypmod, FORMAT_TYPE_TYPEMOD_GIVEN);
		places[manifest->ncolumns++] = i;
	}
}

static char *
now_text(void)
{
	return DatumGetCString(
		DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(GetCurrentTimestamp())));
}

/* Everything but what is counted. */
static OmArchiveManifest *
make_manifest(const Member *member, DateADT month, Relation leaf, List *keys, int *places)
{
	OmArchiveManifest *manifest = palloc0(sizeof(OmArchiveManifest));
	OmMonthBounds bounds = om_month_bounds(member->leaf);
	TupleDesc desc = RelationGetDescr(leaf);
	ListCell *cell;

	manifest->database = get_database_name(MyDatabaseId);
	manifest->schema_name = member->schema_name;
	manifest->table_name = member->table_name;
	manifest->owner = GetUserNameFromId(om_relation_owner(member->parent), false /* noerr */);
	manifest->partition_name = pstrdup(RelationGetRelationName(leaf));
	manifest->month = om_archives_month_text(month);
	manifest->lower_bound = bounds.from;
	manifest->upper_bound = bounds.to;
	manifest->schema_version = OM_SCHEMA_VERSION;
	manifest->archived_at = now_text();
	manifest->time_column = time_column(member->parent);
	manifest->keys = palloc(sizeof(char *) * list_length(keys));
	foreach(cell, keys)
		manifest->keys[manifest->nkeys++] =
			pstrdup(NameStr(TupleDescAttr(desc, lfirst_int(cell) - 1)->attname));
	describe_columns(manifest, desc, places);
	return manifest;
}

static void
write_slot(OmArchiveWriter *writer, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	om_archive_writer_row(writer, slot->tts_values, slot->tts_isnull);
}

static void
write_by_key(OmArchiveWriter *writer, Relation leaf, Snapshot snapshot)
{
	Relation index = index_open(om_primary_key(leaf), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	IndexScanDesc scan = om_index_beginscan(leaf, index, snapshot, 0);

	index_rescan(scan, NULL, 0, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		write_slot(writer, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
}

static Tuplesortstate *
begin_sort(Relation leaf, AttrNumber column)
{
	TupleDesc desc = RelationGetDescr(leaf);
	Oid type = TupleDescAttr(desc, column - 1)->atttypid;
	Oid less = lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr;
	Oid collation = InvalidOid;
	bool nulls_first = false;

	return tuplesort_begin_heap(desc, 1, &column, &less, &collation, &nulls_first,
								maintenance_work_mem, NULL, TUPLESORT_NONE);
}

/* A table without a primary key goes by time.  It is opened anew, so that the scan does not count. */
static void
write_by_time(OmArchiveWriter *writer, Oid relid, AttrNumber column, Snapshot snapshot)
{
	Relation leaf = table_open(relid, AccessShareLock);
	Tuplesortstate *sort = begin_sort(leaf, column);
	TupleTableSlot *found = table_slot_create(leaf, NULL);
	TupleTableSlot *sorted = MakeSingleTupleTableSlot(RelationGetDescr(leaf), &TTSOpsMinimalTuple);
	TableScanDesc scan = table_beginscan(leaf, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, found))
		tuplesort_puttupleslot(sort, found);
	table_endscan(scan);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, sorted, NULL))
		write_slot(writer, sorted);
	tuplesort_end(sort);
	ExecDropSingleTupleTableSlot(found);
	ExecDropSingleTupleTableSlot(sorted);
	table_close(leaf, NoLock);
}

static OmArchive *
make_archive(const Member *member, DateADT month, const char *file,
			 const OmArchiveManifest *manifest)
{
	OmArchive *archive = palloc0(sizeof(OmArchive));

	archive->schema_name = member->schema_name;
	archive->table_name = member->table_name;
	archive->month = month;
	archive->cold = true;
	archive->partition_name = manifest->partition_name;
	archive->lower_bound = manifest->lower_bound;
	archive->upper_bound = manifest->upper_bound;
	archive->file = pstrdup(file);
	archive->rows = manifest->rows;
	archive->bytes_raw = manifest->raw_size;
	archive->bytes_packed = manifest->packed_size;
	memcpy(archive->sha256, manifest->sha256, OM_SHA256_SIZE);
	return archive;
}

/* Functions of types, defaults and constraints are the owner's code; memory stays the caller's. */
static void
begin_as_owner(OmQueryScope *scope, Oid parent)
{
	MemoryContext caller = CurrentMemoryContext;

	om_query_begin_as_owner(scope, parent);
	MemoryContextSwitchTo(caller);
}

/* The file of one partition, and its row; an earlier file of the month goes. */
static void
write_member(Member *member, DateADT month)
{
	Relation leaf = table_open(member->leaf, AccessShareLock);
	int *places = palloc(sizeof(int) * Max(RelationGetDescr(leaf)->natts, 1));
	List *keys = key_columns(leaf, member->parent);
	int level = om_textform_begin();
	OmArchiveManifest *manifest = make_manifest(member, month, leaf, keys, places);
	char *file = om_archive_new_file(member->schema_name, member->table_name, manifest->month);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	OmArchive *old = member->archive;
	OmArchiveWriter *writer =
		om_archive_writer_begin(file, manifest, RelationGetDescr(leaf), places);
	uint8 manifest_sha256[OM_SHA256_SIZE];
	OmQueryScope scope;

	begin_as_owner(&scope, member->parent);
	om_query_uncounted();
	if (OidIsValid(om_primary_key(leaf)))
		write_by_key(writer, leaf, snapshot);
	else
		write_by_time(writer, member->leaf, linitial_int(keys), snapshot);
	om_query_end(&scope);
	om_archive_writer_end(writer, manifest_sha256);
	UnregisterSnapshot(snapshot);
	om_textform_end(level);
	table_close(leaf, NoLock);
	member->archive = make_archive(member, month, file, manifest);
	memcpy(member->archive->manifest_sha256, manifest_sha256, OM_SHA256_SIZE);
	om_archives_put(member->archive, manifest);
	if (old != NULL)
		om_archive_remove_at_commit(old->file);
}

static void
refuse_for(DateADT month, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("month %s cannot be archived: %s", om_archives_month_text(month), reason),
			 om_errdetail("reason", reason),
			 errhint("Archive it when that is done; nothing has changed.")));
}

/* Of a table of the user's own: it must be over. */
static void
require_over(DateADT month)
{
	TimestampTz begin = (TimestampTz) month * USECS_PER_DAY;

	if (om_months_next(begin) > om_clock_now())
		refuse_for(month, "it is not over");
}

static void
require_no_obstacle(DateADT month)
{
	char *reason = om_archiving_obstacle((TimestampTz) month * USECS_PER_DAY);

	if (reason != NULL)
		refuse_for(month, reason);
}

static void
swap(List *members)
{
	List *moves = NIL;
	ListCell *cell;

	foreach(cell, members)
	{
		const Member *member = lfirst(cell);
		OmMonthMove *move;

		if (!OidIsValid(member->leaf) && !OidIsValid(member->twin))
			continue;
		move = palloc0(sizeof(OmMonthMove));
		move->parent = member->parent;
		move->old = member->leaf;
		move->fresh = member->twin;
		move->kept = member->kept;
		move->name = member->archive->partition_name;
		move->bounds = (OmMonthBounds){member->archive->lower_bound, member->archive->upper_bound};
		moves = lappend(moves, move);
	}
	if (!om_month_swap(moves))
		om_month_raise_busy(((OmMonthMove *) linitial(moves))->parent);
	foreach(cell, members)
		om_traits_name_indexes(((Member *) lfirst(cell))->parent, ((Member *) lfirst(cell))->names);
}

static void
lock_to_copy(List *leaves)
{
	if (!om_month_lock_to_copy(leaves))
		om_month_raise_busy(linitial_oid(leaves));
}

/* The last things before the swap: nobody begins to read the month any more, and its sums stay. */
static void
keep_sums(DateADT month)
{
	lock_to_copy(list_make1_oid(om_relation_get("consumers")));
	require_no_obstacle(month);
	om_archived_amounts_add((TimestampTz) month * USECS_PER_DAY);
}

static void
require_tables(void)
{
	(void) om_installation_get();
	(void) om_relation_get("archives");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("in REPEATABLE READ it is not seen what a month is needed for"),
						om_errdetail("isolation", "repeatable read"),
						errhint("Move months in READ COMMITTED.")));
}

/* What the file cannot keep, the month would come back without. */
static void
require_plain(List *members)
{
	ListCell *cell;

	foreach(cell, members)
	{
		const Member *member = lfirst(cell);

		if (OidIsValid(member->leaf))
			om_traits_require_plain(member->parent, member->leaf);
	}
}

List *
om_archive_month(Oid relation, TimestampTz at)
{
	bool ours = om_archiving_is_ours(relation);
	DateADT month = om_archives_month(at);
	List *members;
	List *leaves;
	ListCell *cell;

	require_tables();
	om_lock_acquire(OM_LOCK_ARCHIVE);
	members = list_members(relation, month);
	require_any(members, month);
	leaves = leaves_of(members);
	if (leaves == NIL)
		return describe(members);
	foreach(cell, members)
		require_free(lfirst(cell));
	if (!ours)
		require_over(month);
	OM_FAULT_POINT("archiving/begun");
	lock_to_copy(leaves);
	om_month_require_seen(leaves);
	if (ours)
		require_no_obstacle(month);
	else
		require_plain(members);
	foreach(cell, members)
	{
		Member *member = lfirst(cell);

		if (!OidIsValid(member->leaf))
			continue;
		write_member(member, month);
		if (!ours)
		{
			member->names = om_traits_keep(member->parent, member->leaf, member->archive->file);
			om_tablenames_note(member->parent);
		}
	}
	OM_FAULT_POINT("archiving/files-written");
	if (ours)
		keep_sums(month);
	swap(members);
	OM_FAULT_POINT("archiving/archived");
	return describe(members);
}

/* ---------- and back ---------- */

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
require_columns(const Member *member, const OmArchiveManifest *manifest)
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
fill_twin(const Member *member, const OmArchiveManifest *manifest)
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
require_owner(const Member *member, const OmArchiveManifest *manifest)
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
make_twin(Member *member, const OmArchiveManifest *manifest, bool ours)
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
om_archiving_lock_kept(Oid parent, const char *file)
{
	Oid kept = om_traits_kept(parent, file);

	if (!OidIsValid(kept))
		return InvalidOid;
	lock_to_copy(list_make1_oid(kept));
	/* It may have been dropped, or given away, before it was locked. */
	return om_traits_kept(parent, file) == kept ? kept : InvalidOid;
}

static void
restore_member(Member *member, bool ours)
{
	const OmArchive *archive = member->archive;
	OmArchiveManifest *manifest = om_archive_read_manifest(archive->file, archive->manifest_sha256);
	OmQueryScope scope;
	int level;
	int64 rows;

	require_owner(member, manifest);
	if (!ours)
		member->kept = om_archiving_lock_kept(member->parent, archive->file);
	make_twin(member, manifest, ours);
	level = om_textform_begin();
	begin_as_owner(&scope, member->parent);
	rows = fill_twin(member, manifest);
	om_query_end(&scope);
	om_textform_end(level);
	if (rows != archive->rows)
		elog(ERROR, "archive \"%s\" gave " INT64_FORMAT " rows", archive->file, rows);
	OM_FAULT_POINT("archiving/filled");
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
	return ((Member *) linitial(members))->twin;
}

void
om_archiving_require_owner(Oid parent, TimestampTz at)
{
	const Member *member = make_member(parent, om_archives_month(at));
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
		const Member *member = lfirst(cell);

		if (member->archive != NULL && member->archive->cold)
			return true;
	}
	return false;
}

List *
om_restore_month(Oid relation, TimestampTz at)
{
	DateADT month = om_archives_month(at);
	List *coming = NIL;
	List *members;
	ListCell *cell;

	require_tables();
	om_lock_acquire(OM_LOCK_ARCHIVE);
	members = list_members(relation, month);
	require_any(members, month);
	if (!any_is_cold(members))
		return describe(members);
	foreach(cell, members)
	{
		Member *member = lfirst(cell);

		if (member->archive == NULL || !member->archive->cold)
			continue;
		require_free(member);
		restore_member(member, om_archiving_is_ours(relation));
		coming = lappend(coming, member);
	}
	OM_FAULT_POINT("archiving/all-filled");
	if (om_archiving_is_ours(relation))
		om_archived_amounts_remove((TimestampTz) month * USECS_PER_DAY, event_twin(members));
	swap(coming);
	OM_FAULT_POINT("archiving/restored");
	return describe(members);
}
