/*
 * archivefile.c
 *		Writes and reads the files of archived months.
 *
 * A file is written under another name, flushed, read back and then renamed,
 * the manifest last; so one that bears its name is complete.  What a transaction
 * has written goes when it fails (or the part of it that wrote), and what it has
 * replaced when it commits.  A server that dies leaves files behind that no row
 * of "archives" names; maintenance removes these.
 *
 * Memory: one frame packed and unpacked, about 2 MB unless single rows are
 * larger.  Memory of zstd goes with the memory context, hashes with the resource
 * owner.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "archivefile.h"
#include "faults.h"
#include "settings.h"

#define FRAME_BYTES (1024 * 1024)
#define COMPRESSION_LEVEL 3
#define UNFINISHED ".tmp"
#define FILE_MODE 0600

/* ---------- errors ---------- */

static int
errcode_of_file(void)
{
	if (errno == EFBIG || errno == EDQUOT)
		return errcode(ERRCODE_DISK_FULL);
	return errcode_for_file_access();
}

static void
raise_of_file(const char *action, const char *path)
{
	ereport(ERROR,
			(errcode_of_file(), errmsg("could not %s \"%s\": %m", action, path),
			 errhint("See to order_mgmt.archive_directory: it must exist, belong to the server's "
					 "user and have room. Nothing has changed.")));
}

static void
raise_damaged(const char *path, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("archive \"%s\" is damaged", path),
					errdetail("%s", detail),
					errhint("Bring the file back from a backup. Nothing has changed.")));
}

/* ---------- paths ---------- */

static char *
absolute_path(const char *name)
{
	const char *root = om_setting_archive_directory;

	if (root == NULL || *root == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("order_mgmt.archive_directory is not set"),
				 errhint("Set it to a directory of the server, in postgresql.conf or by ALTER "
						 "SYSTEM, and reload the configuration.")));
	if (!is_absolute_path(root))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("order_mgmt.archive_directory \"%s\" is not an absolute path", root),
						errhint("Set it to a path that begins with a slash.")));
	return psprintf("%s/%s", root, name);
}

bool
om_archive_is_set(void)
{
	return om_setting_archive_directory != NULL && *om_setting_archive_directory != '\0';
}

char *
om_archive_folder(void)
{
	return psprintf(UINT64_FORMAT "-%u", GetSystemIdentifier(), MyDatabaseId);
}

/* A name as a part of a file's name. */
static void
append_safe(StringInfo path, const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || strchr("/.%\\", *c) != NULL || *c == 0x7f)
			appendStringInfo(path, "%%%02X", (unsigned char) *c);
		else
			appendStringInfoChar(path, *c);
	}
}

static void
make_folder(const char *name)
{
	char *path = absolute_path(name);
	char *parent = pstrdup(path);

	if (MakePGDirectory(path) == 0)
	{
		get_parent_directory(parent);
		fsync_fname(parent, true /* isdir */);
	}
	else if (errno != EEXIST)
		raise_of_file("make directory", path);
}

static bool
is_free(const char *file)
{
	static const char *const endings[] = {OM_ARCHIVE_DATA, OM_ARCHIVE_MANIFEST,
										  OM_ARCHIVE_DATA UNFINISHED,
										  OM_ARCHIVE_MANIFEST UNFINISHED};
	struct stat status;

	for (int i = 0; i < (int) lengthof(endings); i++)
	{
		if (stat(absolute_path(psprintf("%s%s", file, endings[i])), &status) == 0)
			return false;
	}
	return true;
}

char *
om_archive_new_file(const char *schema, const char *table, const char *month)
{
	StringInfoData folder;
	int n = 1;

	initStringInfo(&folder);
	appendStringInfoString(&folder, om_archive_folder());
	make_folder(folder.data);
	appendStringInfoChar(&folder, '/');
	append_safe(&folder, schema);
	appendStringInfoChar(&folder, '.');
	append_safe(&folder, table);
	make_folder(folder.data);
	while (!is_free(psprintf("%s/%s.%d", folder.data, month, n)))
		n++;
	return psprintf("%s/%s.%d", folder.data, month, n);
}

/* ---------- files that go with the transaction ---------- */

typedef struct PendingFile
{
	char *name; /* without ending */
	bool at_commit;
	SubTransactionId part; /* of the transaction, which has written it */
} PendingFile;

static List *pending = NIL;

void
om_archive_unlink(const char *name)
{
	const char *root = om_setting_archive_directory;
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", root == NULL ? "" : root, name);
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(LOG, (errcode_of_file(), errmsg("could not remove archive file \"%s\": %m", path)));
}

static void
remove_files(const char *file)
{
	char name[MAXPGPATH];

	snprintf(name, sizeof(name), "%s%s", file, OM_ARCHIVE_MANIFEST);
	om_archive_unlink(name);
	snprintf(name, sizeof(name), "%s%s", file, OM_ARCHIVE_DATA);
	om_archive_unlink(name);
}

static void
remove_unfinished(const char *file)
{
	char name[MAXPGPATH];

	snprintf(name, sizeof(name), "%s%s%s", file, OM_ARCHIVE_MANIFEST, UNFINISHED);
	om_archive_unlink(name);
	snprintf(name, sizeof(name), "%s%s%s", file, OM_ARCHIVE_DATA, UNFINISHED);
	om_archive_unlink(name);
}

static void
add_pending(const char *file, bool at_commit)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	PendingFile *entry = palloc(sizeof(PendingFile));

	entry->name = pstrdup(file);
	entry->at_commit = at_commit;
	entry->part = GetCurrentSubTransactionId();
	pending = lappend(pending, entry);
	MemoryContextSwitchTo(caller);
}

void
om_archive_remove_at_commit(const char *file)
{
	add_pending(file, true /* at_commit */);
}

static void
forget_pending(PendingFile *entry)
{
	pending = list_delete_ptr(pending, entry);
	pfree(entry->name);
	pfree(entry);
}

/*
 * Prepared transactions keep their files, and the lock that keeps maintenance
 * from removing them.
 */
static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	while (pending != NIL)
	{
		PendingFile *entry = linitial(pending);

		if (event == XACT_EVENT_ABORT && !entry->at_commit)
		{
			remove_unfinished(entry->name);
			remove_files(entry->name);
		}
		else if (event == XACT_EVENT_COMMIT && entry->at_commit)
			remove_files(entry->name);
		forget_pending(entry);
	}
}

static void
at_end_of_part(SubXactEvent event, SubTransactionId part, SubTransactionId parent,
			   void *arg pg_attribute_unused())
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = list_length(pending) - 1; i >= 0; i--)
	{
		PendingFile *entry = list_nth(pending, i);

		if (entry->part != part)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			entry->part = parent;
			continue;
		}
		if (!entry->at_commit)
		{
			remove_unfinished(entry->name);
			remove_files(entry->name);
		}
		forget_pending(entry);
	}
}

void
om_archive_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_part, NULL);
}

/* A directory that is not there is empty. */
static List *
list_names(const char *folder)
{
	char *path = absolute_path(folder);
	DIR *dir = AllocateDir(path);
	List *names = NIL;
	struct dirent *entry;

	if (dir == NULL && errno == ENOENT)
		return NIL;
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			names = lappend(names, psprintf("%s/%s", folder, entry->d_name));
	}
	FreeDir(dir);
	return names;
}

List *
om_archive_list_files(void)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, list_names(om_archive_folder()))
	{
		char *name = lfirst(cell);
		struct stat status;

		if (stat(absolute_path(name), &status) == 0 && S_ISDIR(status.st_mode))
			names = list_concat(names, list_names(name));
	}
	return names;
}

/* ---------- hashes ---------- */

static pg_cryptohash_ctx *
begin_hash(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
	return hash;
}

static void
add_to_hash(pg_cryptohash_ctx *hash, const char *data, size_t size)
{
	if (pg_cryptohash_update(hash, (const uint8 *) data, size) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
}

static void
end_hash(pg_cryptohash_ctx *hash, uint8 *sha256)
{
	if (pg_cryptohash_final(hash, sha256, OM_SHA256_SIZE) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
	pg_cryptohash_free(hash);
}

static void
hash_of(const char *data, size_t size, uint8 *sha256)
{
	pg_cryptohash_ctx *hash = begin_hash();

	add_to_hash(hash, data, size);
	end_hash(hash, sha256);
}

/* ---------- writing ---------- */

typedef struct Field
{
	FmgrInfo output;
	int place; /* attribute, from 0 */
	int key;   /* place in the key, or -1 */
} Field;

struct OmArchiveWriter
{
	char *file;
	char *data_path; /* under its final name */
	char *temp_path;
	int fd;
	OmArchiveManifest *manifest;
	int nfields;
	Field *fields;
	int time_place; /* attribute by which the table is partitioned */
	Oid time_type;
	int64 least_time;
	int64 greatest_time;
	StringInfoData csv;   /* of the frame at hand */
	OmArchiveFrame frame; /* that */
	StringInfoData *last; /* key of the last row */
	int max_frames;
	char *packed;
	size_t packed_capacity;
	ZSTD_CCtx *zstd;
	pg_cryptohash_ctx *hash;
	pg_cryptohash_ctx *raw_hash;
	MemoryContext context;
	MemoryContext rows; /* of one row */
	MemoryContextCallback callback;
};

static void
free_writer(void *arg)
{
	OmArchiveWriter *writer = arg;

	ZSTD_freeCCtx(writer->zstd);
	writer->zstd = NULL;
}

static void
write_all(int fd, const char *path, const char *data, size_t size)
{
	while (size > 0)
	{
		ssize_t written;

		errno = 0;
		written = write(fd, data, size);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			raise_of_file("write", path);
		}
		data += written;
		size -= written;
	}
}

/* Packs what is there as a frame of its own. */
static size_t
write_frame(OmArchiveWriter *writer)
{
	char *raw = writer->csv.data;
	size_t raw_size = writer->csv.len;
	size_t size;

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		raw = pg_server_to_any(raw, (int) raw_size, PG_UTF8);
		raw_size = raw == writer->csv.data ? raw_size : strlen(raw);
	}
	if (writer->packed_capacity < ZSTD_compressBound(raw_size))
	{
		writer->packed_capacity = ZSTD_compressBound(raw_size);
		writer->packed = writer->packed == NULL
						   ? MemoryContextAllocHuge(CurrentMemoryContext, writer->packed_capacity)
						   : repalloc_huge(writer->packed, writer->packed_capacity);
	}
	size = ZSTD_compress2(writer->zstd, writer->packed, writer->packed_capacity, raw, raw_size);
	if (ZSTD_isError(size))
		elog(ERROR, "could not compress: %s", ZSTD_getErrorName(size));
	write_all(writer->fd, writer->temp_path, writer->packed, size);
	add_to_hash(writer->hash, writer->packed, size);
	add_to_hash(writer->raw_hash, raw, raw_size);
	writer->frame.raw_size = raw_size;
	writer->manifest->raw_size += raw_size;
	writer->manifest->packed_size += size;
	resetStringInfo(&writer->csv);
	CHECK_FOR_INTERRUPTS();
	return size;
}

static bool
must_be_quoted(const char *text)
{
	if (*text == '\0' || strcmp(text, "\\.") == 0)
		return true;
	return strpbrk(text, ",\"\r\n") != NULL;
}

static void
append_cell(StringInfo csv, const char *text)
{
	if (!must_be_quoted(text))
	{
		appendStringInfoString(csv, text);
		return;
	}
	appendStringInfoCharMacro(csv, '"');
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"')
			appendStringInfoCharMacro(csv, '"');
		appendStringInfoCharMacro(csv, *c);
	}
	appendStringInfoCharMacro(csv, '"');
}

static int
find_key(const OmArchiveManifest *manifest, const char *column)
{
	for (int i = 0; i < manifest->nkeys; i++)
	{
		if (strcmp(manifest->keys[i], column) == 0)
			return i;
	}
	return -1;
}

static void
prepare_fields(OmArchiveWriter *writer, TupleDesc desc, const int *places)
{
	const OmArchiveManifest *manifest = writer->manifest;

	writer->nfields = manifest->ncolumns;
	writer->fields = palloc(sizeof(Field) * Max(writer->nfields, 1));
	writer->last = palloc(sizeof(StringInfoData) * Max(manifest->nkeys, 1));
	for (int i = 0; i < manifest->nkeys; i++)
		initStringInfo(&writer->last[i]);
	for (int i = 0; i < writer->nfields; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, places[i]);
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(column->atttypid, &output, &is_varlena);
		fmgr_info(output, &writer->fields[i].output);
		writer->fields[i].place = places[i];
		writer->fields[i].key = find_key(manifest, manifest->columns[i].name);
		if (strcmp(manifest->columns[i].name, manifest->time_column) == 0)
		{
			writer->time_place = places[i];
			writer->time_type = column->atttypid;
		}
	}
}

static void
write_header(OmArchiveWriter *writer)
{
	for (int i = 0; i < writer->nfields; i++)
	{
		if (i > 0)
			appendStringInfoCharMacro(&writer->csv, ',');
		append_cell(&writer->csv, writer->manifest->columns[i].name);
	}
	appendStringInfoCharMacro(&writer->csv, '\n');
	writer->manifest->header_size = write_frame(writer);
}

OmArchiveWriter *
om_archive_writer_begin(const char *file, OmArchiveManifest *manifest, TupleDesc desc,
						const int *places)
{
	OmArchiveWriter *writer = palloc0(sizeof(OmArchiveWriter));

	writer->context = CurrentMemoryContext;
	writer->file = pstrdup(file);
	writer->manifest = manifest;
	writer->time_place = -1;
	writer->data_path = absolute_path(psprintf("%s%s", file, OM_ARCHIVE_DATA));
	writer->temp_path = psprintf("%s%s", writer->data_path, UNFINISHED);
	writer->zstd = ZSTD_createCCtx();
	writer->callback = (MemoryContextCallback){.func = free_writer, .arg = writer};
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &writer->callback);
	if (writer->zstd == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_compressionLevel, COMPRESSION_LEVEL);
	ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_checksumFlag, 1);
	writer->hash = begin_hash();
	writer->raw_hash = begin_hash();
	writer->rows = AllocSetContextCreate(CurrentMemoryContext, "row", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&writer->csv);
	prepare_fields(writer, desc, places);
	manifest->rows = manifest->raw_size = manifest->packed_size = 0;
	manifest->nframes = 0;
	writer->max_frames = 16;
	manifest->frames = palloc(sizeof(OmArchiveFrame) * writer->max_frames);
	add_pending(file, false /* at_commit */);
	writer->fd = OpenTransientFilePerm(writer->temp_path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY,
									   FILE_MODE);
	if (writer->fd < 0)
		raise_of_file("create", writer->temp_path);
	OM_FAULT_POINT("archivefile/created");
	write_header(writer);
	return writer;
}

static char **
copy_key(const OmArchiveWriter *writer)
{
	int count = writer->manifest->nkeys;
	char **key = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		key[i] = pstrdup(writer->last[i].data);
	return key;
}

static void
finish_frame(OmArchiveWriter *writer)
{
	OmArchiveManifest *manifest = writer->manifest;

	if (writer->frame.rows == 0)
		return;
	if (manifest->nframes == writer->max_frames)
	{
		writer->max_frames *= 2;
		manifest->frames =
			repalloc_huge(manifest->frames, sizeof(OmArchiveFrame) * writer->max_frames);
	}
	writer->frame.offset = manifest->packed_size;
	writer->frame.last = copy_key(writer);
	writer->frame.size = write_frame(writer);
	manifest->frames[manifest->nframes++] = writer->frame;
	writer->frame = (OmArchiveFrame){0};
	OM_FAULT_POINT("archivefile/frame");
}

/* Dates are counted in days, times in microseconds; the order is the same. */
static void
note_time(OmArchiveWriter *writer, const Datum *values, const bool *isnull)
{
	Datum value;
	int64 at;

	if (writer->time_place < 0 || isnull[writer->time_place])
		return;
	value = values[writer->time_place];
	at = writer->time_type == DATEOID ? DatumGetInt32(value) : DatumGetInt64(value);
	if (writer->manifest->rows == 0 || at < writer->least_time)
		writer->least_time = at;
	if (writer->manifest->rows == 0 || at > writer->greatest_time)
		writer->greatest_time = at;
}

/* Key columns are not null, or the key is that of a table without a primary key. */
static void
append_field(OmArchiveWriter *writer, const Field *field, Datum value, bool isnull)
{
	const char *text =
		isnull ? NULL : OutputFunctionCall(unconstify(FmgrInfo *, &field->output), value);

	if (text != NULL)
		append_cell(&writer->csv, text);
	if (field->key >= 0)
	{
		resetStringInfo(&writer->last[field->key]);
		appendStringInfoString(&writer->last[field->key], text == NULL ? "" : text);
	}
}

void
om_archive_writer_row(OmArchiveWriter *writer, const Datum *values, const bool *isnull)
{
	MemoryContext caller = MemoryContextSwitchTo(writer->rows);

	for (int i = 0; i < writer->nfields; i++)
	{
		const Field *field = &writer->fields[i];

		if (i > 0)
			appendStringInfoCharMacro(&writer->csv, ',');
		append_field(writer, field, values[field->place], isnull[field->place]);
	}
	appendStringInfoCharMacro(&writer->csv, '\n');
	note_time(writer, values, isnull);
	MemoryContextSwitchTo(writer->context);
	MemoryContextReset(writer->rows);
	if (writer->frame.rows++ == 0)
		writer->frame.first = copy_key(writer);
	writer->manifest->rows++;
	if (writer->csv.len >= FRAME_BYTES)
		finish_frame(writer);
	MemoryContextSwitchTo(caller);
}

static char *
time_text(Oid type, int64 at)
{
	Datum value = type == DATEOID ? Int32GetDatum((int32) at) : Int64GetDatum(at);
	Oid output;
	bool is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	return OidOutputFunctionCall(output, value);
}

static void
close_file(int fd, const char *path)
{
	if (pg_fsync(fd) != 0)
		raise_of_file("flush", path);
	if (CloseTransientFile(fd) != 0)
		raise_of_file("close", path);
}

static void
write_manifest(OmArchiveWriter *writer, uint8 *sha256)
{
	char *path = absolute_path(psprintf("%s%s", writer->file, OM_ARCHIVE_MANIFEST));
	char *temp = psprintf("%s%s", path, UNFINISHED);
	char *json = om_manifest_to_json(writer->manifest);
	int fd = OpenTransientFilePerm(temp, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, FILE_MODE);

	if (fd < 0)
		raise_of_file("create", temp);
	write_all(fd, temp, json, strlen(json));
	hash_of(json, strlen(json), sha256);
	close_file(fd, temp);
	OM_FAULT_POINT("archivefile/manifest-written");
	(void) durable_rename(temp, path, ERROR);
}

static void verify(const char *path, const OmArchiveManifest *manifest);

void
om_archive_writer_end(OmArchiveWriter *writer, uint8 manifest_sha256[OM_SHA256_SIZE])
{
	OmArchiveManifest *manifest = writer->manifest;

	finish_frame(writer);
	end_hash(writer->hash, manifest->sha256);
	end_hash(writer->raw_hash, manifest->raw_sha256);
	writer->hash = writer->raw_hash = NULL;
	if (manifest->rows > 0 && writer->time_place >= 0)
	{
		manifest->first_at = time_text(writer->time_type, writer->least_time);
		manifest->last_at = time_text(writer->time_type, writer->greatest_time);
	}
	close_file(writer->fd, writer->temp_path);
	OM_FAULT_POINT("archivefile/written");
	verify(writer->temp_path, manifest);
	OM_FAULT_POINT("archivefile/verified");
	(void) durable_rename(writer->temp_path, writer->data_path, ERROR);
	OM_FAULT_POINT("archivefile/renamed");
	write_manifest(writer, manifest_sha256);
	OM_FAULT_POINT("archivefile/finished");
	free_writer(writer);
	MemoryContextDelete(writer->rows);
}

/* ---------- reading ---------- */

struct OmArchiveReader
{
	char *path;
	int fd;
	const OmArchiveManifest *manifest;
	bool all;
	int frame;       /* the one at hand; -1: none yet */
	int64 rows_left; /* of it */
	char *packed;
	size_t packed_capacity;
	char *raw;
	size_t raw_capacity;
	char *next; /* rest of the frame */
	char *end;
	char **cells;
	ZSTD_DCtx *zstd;
	pg_cryptohash_ctx *hash;
	MemoryContextCallback callback;
};

static void
free_reader(void *arg)
{
	OmArchiveReader *reader = arg;

	ZSTD_freeDCtx(reader->zstd);
	reader->zstd = NULL;
}

static void
raise_size(const OmArchiveReader *reader, int64 size)
{
	raise_damaged(reader->path,
				  psprintf("It has " INT64_FORMAT " bytes instead of " INT64_FORMAT ".", size,
						   reader->manifest->packed_size));
}

static OmArchiveReader *
open_reader(const char *path, const OmArchiveManifest *manifest, bool all)
{
	OmArchiveReader *reader = palloc0(sizeof(OmArchiveReader));
	struct stat status;

	reader->path = pstrdup(path);
	reader->manifest = manifest;
	reader->all = all;
	reader->frame = -1;
	reader->cells = palloc(sizeof(char *) * Max(manifest->ncolumns, 1));
	reader->zstd = ZSTD_createDCtx();
	reader->callback = (MemoryContextCallback){.func = free_reader, .arg = reader};
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &reader->callback);
	if (reader->zstd == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if (all)
		reader->hash = begin_hash();
	reader->fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (reader->fd < 0)
		raise_of_file("open", path);
	if (fstat(reader->fd, &status) != 0)
		raise_of_file("read", path);
	if (status.st_size != manifest->packed_size)
		raise_size(reader, status.st_size);
	return reader;
}

static char *
reserve(char *buffer, size_t *capacity, size_t size)
{
	if (size <= *capacity)
		return buffer;
	*capacity = size;
	return buffer == NULL ? MemoryContextAllocHuge(CurrentMemoryContext, size)
						  : repalloc_huge(buffer, size);
}

static void
read_packed(OmArchiveReader *reader, int64 offset, size_t size)
{
	size_t done = 0;

	reader->packed = reserve(reader->packed, &reader->packed_capacity, size);
	while (done < size)
	{
		ssize_t count =
			pg_pread(reader->fd, reader->packed + done, size - done, offset + (int64) done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			raise_of_file("read", reader->path);
		if (count == 0)
			raise_size(reader, offset + (int64) done);
		done += count;
	}
	if (reader->hash != NULL)
		add_to_hash(reader->hash, reader->packed, size);
}

/* A frame of the sizes that the manifest says. */
static void
unpack(OmArchiveReader *reader, int64 offset, int64 size, int64 raw_size, int number)
{
	size_t got;

	if (offset < 0 || size <= 0 || raw_size < 0 || size > reader->manifest->packed_size)
		raise_damaged(reader->path, psprintf("Frame %d is not where it should be.", number));
	read_packed(reader, offset, size);
	reader->raw = reserve(reader->raw, &reader->raw_capacity, raw_size + 1);
	got = ZSTD_decompressDCtx(reader->zstd, reader->raw, raw_size, reader->packed, size);
	if (ZSTD_isError(got))
		raise_damaged(reader->path,
					  psprintf("Frame %d cannot be unpacked: %s.", number, ZSTD_getErrorName(got)));
	if ((int64) got != raw_size)
		raise_damaged(reader->path,
					  psprintf("Frame %d holds %zu bytes instead of " INT64_FORMAT ".", number, got,
							   raw_size));
	reader->raw[got] = '\0';
	reader->next = reader->raw;
	reader->end = reader->raw + got;
	CHECK_FOR_INTERRUPTS();
}

/* Cells are UTF-8 in the file. */
static void
convert(OmArchiveReader *reader)
{
	char *text;

	if (GetDatabaseEncoding() == PG_UTF8)
		return;
	text = pg_any_to_server(reader->raw, (int) (reader->end - reader->raw), PG_UTF8);
	if (text == reader->raw)
		return;
	pfree(reader->raw);
	reader->raw = reader->next = text;
	reader->end = text + strlen(text);
	reader->raw_capacity = reader->end - text + 1;
}

static void
load_frame(OmArchiveReader *reader, int number)
{
	const OmArchiveFrame *frame = &reader->manifest->frames[number];

	unpack(reader, frame->offset, frame->size, frame->raw_size, number + 1);
	convert(reader);
	reader->frame = number;
	reader->rows_left = frame->rows;
}

OmArchiveReader *
om_archive_reader_begin(const char *file, const OmArchiveManifest *manifest, bool all)
{
	OmArchiveReader *reader =
		open_reader(absolute_path(psprintf("%s%s", file, OM_ARCHIVE_DATA)), manifest, all);

	if (all)
		read_packed(reader, 0, manifest->header_size);
	return reader;
}

void
om_archive_reader_seek(OmArchiveReader *reader, int frame)
{
	load_frame(reader, frame);
}

static void
raise_row(const OmArchiveReader *reader)
{
	raise_damaged(reader->path, psprintf("A row of frame %d is not one of %d columns.",
										 reader->frame + 1, reader->manifest->ncolumns));
}

/* Takes the quotes away, in place; the character behind the closing one. */
static char *
unquote(OmArchiveReader *reader, char *text)
{
	char *from = text + 1;
	char *to = text;

	for (;;)
	{
		char *quote = memchr(from, '"', reader->end - from);

		if (quote == NULL)
			raise_row(reader);
		memmove(to, from, quote - from);
		to += quote - from;
		from = quote + 1;
		if (*from != '"')
			break;
		*to++ = '"';
		from++;
	}
	*to = '\0';
	return from;
}

/* Puts a cell's text where it is asked for, and returns what separates it from the next. */
static char
take_cell(OmArchiveReader *reader, char **cell)
{
	char *begin = reader->next;
	char *end;
	char separator;

	if (*begin == '"')
	{
		*cell = begin;
		end = unquote(reader, begin);
		separator = *end;
	}
	else
	{
		end = begin + strcspn(begin, ",\n");
		separator = *end;
		*cell = end == begin ? NULL : begin;
		*end = '\0';
	}
	reader->next = end + 1;
	return separator;
}

static void
parse_row(OmArchiveReader *reader)
{
	int ncolumns = reader->manifest->ncolumns;

	for (int i = 0; i < ncolumns; i++)
	{
		char separator;

		if (reader->next >= reader->end)
			raise_row(reader);
		separator = take_cell(reader, &reader->cells[i]);
		if (separator != (i + 1 < ncolumns ? ',' : '\n'))
			raise_row(reader);
	}
}

/* At the end of all: the bytes were those that have been written. */
static void
check_hash(OmArchiveReader *reader)
{
	uint8 sha256[OM_SHA256_SIZE];

	if (reader->hash == NULL)
		return;
	end_hash(reader->hash, sha256);
	reader->hash = NULL;
	if (memcmp(sha256, reader->manifest->sha256, OM_SHA256_SIZE) != 0)
		raise_damaged(reader->path,
					  psprintf("Its sha256 is %s instead of %s.", om_manifest_hex(sha256),
							   om_manifest_hex(reader->manifest->sha256)));
}

char **
om_archive_reader_row(OmArchiveReader *reader)
{
	while (reader->rows_left == 0)
	{
		if (reader->frame >= 0 && reader->next < reader->end)
			raise_row(reader);
		if (!reader->all)
			return NULL;
		if (reader->frame + 1 == reader->manifest->nframes)
		{
			check_hash(reader);
			return NULL;
		}
		load_frame(reader, reader->frame + 1);
	}
	parse_row(reader);
	reader->rows_left--;
	return reader->cells;
}

void
om_archive_reader_end(OmArchiveReader *reader)
{
	(void) CloseTransientFile(reader->fd);
	free_reader(reader);
	if (reader->raw != NULL)
		pfree(reader->raw);
	if (reader->packed != NULL)
		pfree(reader->packed);
}

/* What has been written can be read: every frame, every row, every byte. */
static void
verify(const char *path, const OmArchiveManifest *manifest)
{
	OmArchiveReader *reader = open_reader(path, manifest, true /* all */);
	int64 rows = 0;

	read_packed(reader, 0, manifest->header_size);
	while (om_archive_reader_row(reader) != NULL)
		rows++;
	if (rows != manifest->rows)
		raise_damaged(path, psprintf("It has " INT64_FORMAT " rows instead of " INT64_FORMAT ".",
									 rows, manifest->rows));
	om_archive_reader_end(reader);
}

static char *
read_file(const char *path, int64 *size)
{
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	struct stat status;
	char *content;

	if (fd < 0)
		raise_of_file("open", path);
	if (fstat(fd, &status) != 0)
		raise_of_file("read", path);
	content = MemoryContextAllocHuge(CurrentMemoryContext, status.st_size + 1);
	*size = read(fd, content, status.st_size);
	if (*size < 0)
		raise_of_file("read", path);
	content[*size] = '\0';
	(void) CloseTransientFile(fd);
	return content;
}

OmArchiveManifest *
om_archive_read_manifest(const char *file, const uint8 manifest_sha256[OM_SHA256_SIZE])
{
	char *path = absolute_path(psprintf("%s%s", file, OM_ARCHIVE_MANIFEST));
	uint8 sha256[OM_SHA256_SIZE];
	int64 size;
	char *json = read_file(path, &size);

	hash_of(json, size, sha256);
	if (memcmp(sha256, manifest_sha256, OM_SHA256_SIZE) != 0)
		raise_damaged(path, psprintf("Its sha256 is %s instead of %s.", om_manifest_hex(sha256),
									 om_manifest_hex(manifest_sha256)));
	return om_manifest_from_json(json, path);
}
