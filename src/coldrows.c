/*
 * coldrows.c
 *		Reads rows out of archives by key.
 *
 * The row of "archives" tells whether a key can be in the file at all, the
 * manifest in which frames it can be; so one order takes one frame per table.
 * Rows are compared as text, which is the same for the same value (textform.c),
 * and turned into values when they are wanted.
 *
 * A column that the file does not have is null here.
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "archivereader.h"
#include "archives.h"
#include "coldrows.h"
#include "names.h"
#include "relations.h"
#include "textform.h"

#define MAX_FILTERS 8

typedef struct Filter
{
	int column; /* of the file */
	char *text;
} Filter;

struct OmColdScan
{
	MemoryContext context; /* holds all of it */
	OmArchive *archive;
	TupleDesc desc;
	OmArchiveManifest *manifest; /* read when it is first needed */
	OmArchiveReader *reader;
	int *key_columns; /* of the file */
	int *columns;     /* the same, one for each of the table; -1: it has none */
	FmgrInfo *inputs;
	Oid *params;
	Datum *values;
	bool *isnull;
	char **key; /* what is sought, as text */
	Datum *sought;
	int nkeys;
	bool around; /* all rows of a frame will do */
	int frame;   /* the next one to be looked at */
	bool begun;
	int nfilters;
	Filter filters[MAX_FILTERS];
};

OmColdScan *
om_cold_open(const char *table, TimestampTz at)
{
	Oid parent = om_relation_get(table);
	MemoryContext caller;
	OmArchive *archive;
	OmColdScan *scan;
	Relation rel;

	LockRelationOid(parent, AccessShareLock);
	archive = om_archives_find(OM_SCHEMA, table, om_archives_month(at));
	if (archive == NULL || !archive->cold)
		return NULL;
	caller = MemoryContextSwitchTo(
		AllocSetContextCreate(CurrentMemoryContext, "archive", ALLOCSET_DEFAULT_SIZES));
	scan = palloc0(sizeof(OmColdScan));
	scan->context = CurrentMemoryContext;
	scan->archive = archive;
	rel = table_open(parent, NoLock);
	scan->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, NoLock);
	MemoryContextSwitchTo(caller);
	return scan;
}

static int
find_column(const OmColdScan *scan, const char *name)
{
	for (int i = 0; i < scan->manifest->ncolumns; i++)
	{
		if (strcmp(scan->manifest->columns[i].name, name) == 0)
			return i;
	}
	return -1;
}

static void
open_file(OmColdScan *scan)
{
	int natts = scan->desc->natts;

	if (scan->manifest != NULL)
		return;
	scan->manifest = om_archive_read_manifest(scan->archive->file, scan->archive->manifest_sha256);
	scan->reader = om_archive_reader_begin(scan->archive->file, scan->manifest, false /* all */);
	scan->columns = palloc(sizeof(int) * natts);
	scan->inputs = palloc0(sizeof(FmgrInfo) * natts);
	scan->params = palloc0(sizeof(Oid) * natts);
	scan->values = palloc0(sizeof(Datum) * natts);
	scan->isnull = palloc0(sizeof(bool) * natts);
	scan->key_columns = palloc(sizeof(int) * Max(scan->manifest->nkeys, 1));
	for (int i = 0; i < scan->manifest->nkeys; i++)
		scan->key_columns[i] = find_column(scan, scan->manifest->keys[i]);
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(scan->desc, i);
		Oid input;

		scan->columns[i] = column->attisdropped ? -1 : find_column(scan, NameStr(column->attname));
		if (scan->columns[i] < 0)
			continue;
		getTypeInputInfo(column->atttypid, &input, &scan->params[i]);
		fmgr_info(input, &scan->inputs[i]);
	}
}

/* ---------- keys ---------- */

/* Number i of the key columns, among those of the table. */
static Form_pg_attribute
key_attribute(const OmColdScan *scan, int i)
{
	const char *name = scan->archive->keys[i];

	for (int n = 0; n < scan->desc->natts; n++)
	{
		Form_pg_attribute column = TupleDescAttr(scan->desc, n);

		if (!column->attisdropped && namestrcmp(&column->attname, name) == 0)
			return column;
	}
	elog(ERROR, "key column \"%s\" is missing", name);
}

static int
compare_values(Form_pg_attribute column, Datum left, const char *right)
{
	TypeCacheEntry *type = lookup_type_cache(column->atttypid, TYPECACHE_CMP_PROC_FINFO);
	Oid input;
	Oid param;
	Datum value;

	getTypeInputInfo(column->atttypid, &input, &param);
	value = OidInputFunctionCall(input, unconstify(char *, right), param, -1);
	return DatumGetInt32(
		FunctionCall2Coll(&type->cmp_proc_finfo, column->attcollation, left, value));
}

/* What is sought beside the key of a row, by the columns that are sought. */
static int
compare_key(const OmColdScan *scan, char **key)
{
	for (int i = 0; i < scan->nkeys; i++)
	{
		int order = compare_values(key_attribute(scan, i), scan->sought[i], key[i]);

		if (order != 0)
			return order;
	}
	return 0;
}

static bool
may_be_between(const OmColdScan *scan, char **first, char **last)
{
	return scan->nkeys == 0 || (compare_key(scan, first) >= 0 && compare_key(scan, last) <= 0);
}

void
om_cold_seek(OmColdScan *scan, const Datum *key, int nkeys)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->context);
	int level = om_textform_begin();

	scan->nkeys = nkeys;
	scan->key = palloc(sizeof(char *) * Max(nkeys, 1));
	scan->sought = palloc(sizeof(Datum) * Max(nkeys, 1));
	for (int i = 0; i < nkeys; i++)
	{
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(key_attribute(scan, i)->atttypid, &output, &is_varlena);
		scan->key[i] = OidOutputFunctionCall(output, key[i]);
		scan->sought[i] = key[i];
	}
	scan->frame = 0;
	scan->begun = scan->around = false;
	om_textform_end(level);
	MemoryContextSwitchTo(caller);
}

void
om_cold_seek_around(OmColdScan *scan, const Datum *key, int nkeys)
{
	om_cold_seek(scan, key, nkeys);
	scan->around = true;
}

void
om_cold_where(OmColdScan *scan, const char *column, const char *text)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->context);
	Filter *filter = &scan->filters[scan->nfilters++];

	Assert(scan->nfilters <= MAX_FILTERS);
	open_file(scan);
	filter->column = find_column(scan, column);
	filter->text = pstrdup(text);
	MemoryContextSwitchTo(caller);
	if (filter->column < 0)
		elog(ERROR, "the archive has no column \"%s\"", column);
}

/* ---------- rows ---------- */

static bool
is_wanted(const OmColdScan *scan, char **cells)
{
	for (int i = 0; i < scan->nkeys && !scan->around; i++)
	{
		const char *cell = cells[scan->key_columns[i]];

		if (cell == NULL || strcmp(cell, scan->key[i]) != 0)
			return false;
	}
	for (int i = 0; i < scan->nfilters; i++)
	{
		const char *cell = cells[scan->filters[i].column];

		if (cell == NULL || strcmp(cell, scan->filters[i].text) != 0)
			return false;
	}
	return true;
}

/* The next row that is wanted, as text; NULL: there is none. */
static char **
find_row(OmColdScan *scan)
{
	for (;;)
	{
		const OmArchiveFrame *frame;
		char **cells = scan->begun ? om_archive_reader_row(scan->reader) : NULL;

		if (cells != NULL && is_wanted(scan, cells))
			return cells;
		if (cells != NULL)
			continue;
		scan->begun = false;
		while (scan->frame < scan->manifest->nframes && !scan->begun)
		{
			frame = &scan->manifest->frames[scan->frame];
			scan->begun = may_be_between(scan, frame->first, frame->last);
			if (scan->begun)
				om_archive_reader_seek(scan->reader, scan->frame);
			scan->frame++;
		}
		if (!scan->begun)
			return NULL;
	}
}

static void
read_values(OmColdScan *scan, char **cells)
{
	for (int i = 0; i < scan->desc->natts; i++)
	{
		char *cell = scan->columns[i] < 0 ? NULL : cells[scan->columns[i]];

		scan->isnull[i] = cell == NULL;
		scan->values[i] = cell == NULL ? (Datum) 0
									   : InputFunctionCall(&scan->inputs[i], cell, scan->params[i],
														   TupleDescAttr(scan->desc, i)->atttypmod);
	}
}

bool
om_cold_next(OmColdScan *scan, Datum **values, bool **isnull)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->context);
	int level = om_textform_begin();
	char **cells = NULL;

	if (scan->archive->rows > 0 &&
		(scan->begun || may_be_between(scan, scan->archive->first_key, scan->archive->last_key)))
	{
		open_file(scan);
		cells = find_row(scan);
	}
	MemoryContextSwitchTo(caller);
	if (cells != NULL)
		read_values(scan, cells);
	om_textform_end(level);
	*values = scan->values;
	*isnull = scan->isnull;
	return cells != NULL;
}

void
om_cold_close(OmColdScan *scan)
{
	if (scan->reader != NULL)
		om_archive_reader_end(scan->reader);
	MemoryContextDelete(scan->context);
}
