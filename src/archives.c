/*
 * archives.c
 *		Reads and writes table archives.
 *
 * It is read with the latest snapshot, because old snapshots are to find what
 * has moved since; see decision 16.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/snapmgr.h"

#include "archivepaths.h"
#include "archives.h"
#include "clock.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "names.h"
#include "plans.h"
#include "relations.h"
#include "tables.h"

/* Columns of table archives */
enum
{
	COLUMN_SCHEMA_NAME = 1,
	COLUMN_TABLE_NAME,
	COLUMN_MONTH,
	COLUMN_STATE,
	COLUMN_PARTITION_NAME,
	COLUMN_LOWER_BOUND,
	COLUMN_UPPER_BOUND,
	COLUMN_FILE,
	COLUMN_ROWS,
	COLUMN_BYTES_RAW,
	COLUMN_BYTES_PACKED,
	COLUMN_SHA256,
	COLUMN_MANIFEST_SHA256,
	COLUMN_FIRST_AT,
	COLUMN_LAST_AT,
	COLUMN_FIRST_KEY,
	COLUMN_LAST_KEY,
	COLUMN_KEY,
	COLUMN_SCHEMA_VERSION,
	COLUMN_ARCHIVED_AT,
	COLUMN_RESTORED_AT,
	NCOLUMNS = COLUMN_RESTORED_AT
};

static OmQuery delete_query = {.sql = "DELETE FROM order_mgmt.archives"
									  " WHERE schema_name = $1 AND table_name = $2 AND month = $3",
							   .nargs = 3,
							   .types = {TEXTOID, TEXTOID, DATEOID}};

static OmQuery restored_query = {.sql =
									 "UPDATE order_mgmt.archives SET state = 'restored',"
									 " restored_at = $4"
									 " WHERE schema_name = $1 AND table_name = $2 AND month = $3",
								 .nargs = 4,
								 .types = {TEXTOID, TEXTOID, DATEOID, TIMESTAMPTZOID}};

DateADT
om_archives_month(TimestampTz at)
{
	int julian = (int) ((at >= 0 ? at : at - (USECS_PER_DAY - 1)) / USECS_PER_DAY);
	int year;
	int month;
	int day;

	j2date(julian + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	return date2j(year, month, 1) - POSTGRES_EPOCH_JDATE;
}

char *
om_archives_month_text(DateADT month)
{
	int year;
	int number;
	int day;

	j2date(month + POSTGRES_EPOCH_JDATE, &year, &number, &day);
	return psprintf("%04d-%02d", year, number);
}

void
om_archives_raise_cold(DateADT month)
{
	char *text = om_archives_month_text(month);

	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE), errmsg("month %s has been archived", text),
			 om_errdetail("month", text),
			 errhint("SELECT * FROM order_mgmt.restore_month('%s-01') brings it back.", text)));
}

static char *
get_text(OmTable *table, HeapTuple row, int column)
{
	return TextDatumGetCString(om_row_get_not_null(table, row, column));
}

static void
get_hash(OmTable *table, HeapTuple row, int column, uint8 *sha256)
{
	bytea *value = DatumGetByteaPP(om_row_get_not_null(table, row, column));

	if (VARSIZE_ANY_EXHDR(value) != OM_SHA256_SIZE)
		elog(ERROR, "a stored hash has %d bytes", (int) VARSIZE_ANY_EXHDR(value));
	memcpy(sha256, VARDATA_ANY(value), OM_SHA256_SIZE);
}

/* It is stored as people look for it. */
static char *
get_file(OmTable *table, HeapTuple row)
{
	char *name = get_text(table, row, COLUMN_FILE);
	size_t ending = strlen(OM_ARCHIVE_DATA);
	size_t length = strlen(name);

	if (length > ending && strcmp(name + length - ending, OM_ARCHIVE_DATA) == 0)
		name[length - ending] = '\0';
	return name;
}

static char **
get_texts(OmTable *table, HeapTuple row, int column, int *count)
{
	bool isnull;
	Datum value = om_row_get(table, row, column, &isnull);
	Datum *words;
	char **texts;

	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &words, NULL,
					  count);
	texts = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
		texts[i] = TextDatumGetCString(words[i]);
	return texts;
}

static OmArchive *
read_row(OmTable *table, HeapTuple row)
{
	OmArchive *archive = palloc0(sizeof(OmArchive));

	archive->schema_name = get_text(table, row, COLUMN_SCHEMA_NAME);
	archive->table_name = get_text(table, row, COLUMN_TABLE_NAME);
	archive->month = DatumGetDateADT(om_row_get_not_null(table, row, COLUMN_MONTH));
	archive->cold = strcmp(get_text(table, row, COLUMN_STATE), "cold") == 0;
	archive->partition_name = get_text(table, row, COLUMN_PARTITION_NAME);
	archive->lower_bound = get_text(table, row, COLUMN_LOWER_BOUND);
	archive->upper_bound = get_text(table, row, COLUMN_UPPER_BOUND);
	archive->file = get_file(table, row);
	archive->rows = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_ROWS));
	archive->bytes_raw = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_BYTES_RAW));
	archive->bytes_packed = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_BYTES_PACKED));
	get_hash(table, row, COLUMN_SHA256, archive->sha256);
	get_hash(table, row, COLUMN_MANIFEST_SHA256, archive->manifest_sha256);
	archive->first_key = get_texts(table, row, COLUMN_FIRST_KEY, &archive->nkeys);
	archive->last_key = get_texts(table, row, COLUMN_LAST_KEY, &archive->nkeys);
	archive->keys = get_texts(table, row, COLUMN_KEY, &archive->nkeys);
	return archive;
}

OmArchive *
om_archives_find(const char *schema_name, const char *table_name, DateADT month)
{
	Oid relid = om_relation_find("archives");
	Datum key[3] = {CStringGetTextDatum(schema_name), CStringGetTextDatum(table_name),
					DateADTGetDatum(month)};
	OmArchive *archive = NULL;
	Snapshot snapshot;
	OmTable *table;
	HeapTuple row;

	if (!OidIsValid(relid))
		return NULL; /* a setup() of before has made no such table, and nothing was archived */
	table = om_table_open(relid, AccessShareLock);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	row = om_table_find(table, key, snapshot);
	if (row != NULL)
		archive = read_row(table, row);
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return archive;
}

bool
om_archives_is_cold(const char *table_name, TimestampTz at)
{
	OmArchive *archive = om_archives_find(OM_SCHEMA, table_name, om_archives_month(at));

	return archive != NULL && archive->cold;
}

/* Its sums are kept, which is so of months that are not here only. */
bool
om_archives_is_counted(TimestampTz month)
{
	Oid relid = om_relation_find("archived_months");
	Datum key = TimestampTzGetDatum(month);
	Snapshot snapshot;
	OmTable *table;
	bool found;

	if (!OidIsValid(relid))
		return false;
	table = om_table_open(relid, AccessShareLock);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	found = om_table_find(table, &key, snapshot) != NULL;
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return found;
}

void
om_archives_raise_gone(DateADT month)
{
	char *text = om_archives_month_text(month);

	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE), errmsg("month %s has been archived and dropped", text),
			 om_errdetail("month", text),
			 errhint("Its sums are kept as they were; nothing can be added to it any more.")));
}

static void
run_by_key(OmQuery *query, const OmArchive *archive)
{
	Datum args[4] = {CStringGetTextDatum(archive->schema_name),
					 CStringGetTextDatum(archive->table_name), DateADTGetDatum(archive->month),
					 TimestampTzGetDatum(om_clock_now())};
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
}

static Datum
bytea_datum(const uint8 *sha256)
{
	bytea *value = palloc(VARHDRSZ + OM_SHA256_SIZE);

	SET_VARSIZE(value, VARHDRSZ + OM_SHA256_SIZE);
	memcpy(VARDATA(value), sha256, OM_SHA256_SIZE);
	return PointerGetDatum(value);
}

static void
set_key(Datum *values, bool *isnull, int column, char **key, int count)
{
	Datum *texts = palloc(sizeof(Datum) * Max(count, 1));

	isnull[column - 1] = key == NULL;
	for (int i = 0; i < count && key != NULL; i++)
		texts[i] = CStringGetTextDatum(key[i]);
	if (key != NULL)
		values[column - 1] =
			PointerGetDatum(construct_array(texts, count, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
set_text(Datum *values, bool *isnull, int column, const char *text)
{
	isnull[column - 1] = text == NULL;
	values[column - 1] = text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

void
om_archives_put(const OmArchive *archive, const OmArchiveManifest *manifest)
{
	Datum values[NCOLUMNS] = {0};
	bool isnull[NCOLUMNS] = {false};
	OmTable *table;

	run_by_key(&delete_query, archive);
	set_text(values, isnull, COLUMN_SCHEMA_NAME, archive->schema_name);
	set_text(values, isnull, COLUMN_TABLE_NAME, archive->table_name);
	values[COLUMN_MONTH - 1] = DateADTGetDatum(archive->month);
	set_text(values, isnull, COLUMN_STATE, "cold");
	set_text(values, isnull, COLUMN_PARTITION_NAME, archive->partition_name);
	set_text(values, isnull, COLUMN_LOWER_BOUND, archive->lower_bound);
	set_text(values, isnull, COLUMN_UPPER_BOUND, archive->upper_bound);
	set_text(values, isnull, COLUMN_FILE, psprintf("%s%s", archive->file, OM_ARCHIVE_DATA));
	values[COLUMN_ROWS - 1] = Int64GetDatum(archive->rows);
	values[COLUMN_BYTES_RAW - 1] = Int64GetDatum(archive->bytes_raw);
	values[COLUMN_BYTES_PACKED - 1] = Int64GetDatum(archive->bytes_packed);
	values[COLUMN_SHA256 - 1] = bytea_datum(archive->sha256);
	values[COLUMN_MANIFEST_SHA256 - 1] = bytea_datum(archive->manifest_sha256);
	set_text(values, isnull, COLUMN_FIRST_AT, manifest->first_at);
	set_text(values, isnull, COLUMN_LAST_AT, manifest->last_at);
	set_key(values, isnull, COLUMN_FIRST_KEY, om_manifest_first_key(manifest), manifest->nkeys);
	set_key(values, isnull, COLUMN_LAST_KEY, om_manifest_last_key(manifest), manifest->nkeys);
	set_key(values, isnull, COLUMN_KEY, manifest->keys, manifest->nkeys);
	values[COLUMN_SCHEMA_VERSION - 1] = Int32GetDatum(manifest->schema_version);
	values[COLUMN_ARCHIVED_AT - 1] = TimestampTzGetDatum(om_clock_now());
	isnull[COLUMN_RESTORED_AT - 1] = true;
	table = om_table_open(om_relation_get("archives"), RowExclusiveLock);
	om_table_insert(table, values, isnull, NCOLUMNS);
	om_table_close(table);
	CommandCounterIncrement();
}

void
om_archives_set_restored(const OmArchive *archive)
{
	run_by_key(&restored_query, archive);
}

static void
add_file(OmTable *table, HeapTuple row, void *arg)
{
	List **files = arg;

	*files = lappend(*files, get_file(table, row));
}

List *
om_archives_files(void)
{
	Oid relid = om_relation_find("archives");
	List *files = NIL;
	Snapshot snapshot;
	OmTable *table;

	if (!OidIsValid(relid))
		return NIL;
	table = om_table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	om_table_scan(table, NULL, 0, snapshot, add_file, &files);
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return files;
}
