/*
 * memberfile.c
 *		Writes a partition to its archive file.
 *
 * Rows are read with the latest snapshot under SHARE, so all that has ever been
 * committed is in the file, and nothing else.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

#include "archivefile.h"
#include "archivepaths.h"
#include "archives.h"
#include "compat.h"
#include "installation.h"
#include "memberfile.h"
#include "monthswap.h"
#include "plans.h"
#include "relations.h"
#include "textform.h"

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
make_manifest(const OmMonthMember *member, DateADT month, Relation leaf, List *keys, int *places)
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
make_archive(const OmMonthMember *member, DateADT month, const char *file,
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

void
om_member_write(OmMonthMember *member, DateADT month)
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

	om_member_begin_as_owner(&scope, member->parent);
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
