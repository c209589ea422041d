/*
 * archivefile.c
 *		Writes the files of archived months.
 *
 * A file is written under another name, flushed, read back and then renamed,
 * the manifest last; so one that bears its name is complete.
 *
 * Memory: one frame packed and unpacked, about 2 MB unless single rows are
 * larger.  Memory of zstd goes with the memory context, hashes with the resource
 * owner.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "archivefile.h"
#include "archivepaths.h"
#include "archivereader.h"
#include "faults.h"

#define FRAME_BYTES (1024 * 1024)
#define COMPRESSION_LEVEL 3
#define FILE_MODE 0600

/* From the year 1 to 9999 a year has four digits. */
#define FIRST_PLAIN_TIME ((date2j(1, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)
#define END_OF_PLAIN_TIME ((date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct Field
{
	FmgrInfo output;
	Oid type;
	int place; /* attribute, from 0 */
	int key;   /* place in the key, or -1 */
} Field;

/* Where a cell stands in the frame at hand. */
typedef struct Span
{
	int begin;
	int end;
} Span;

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
	Span *last;           /* key of the last row */
	int max_frames;
	int day; /* whose text is kept, since 2000 */
	char day_text[16];
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
			om_archive_raise_file("write", path);
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
	om_archive_hash_add(writer->hash, writer->packed, size);
	om_archive_hash_add(writer->raw_hash, raw, raw_size);
	writer->frame.raw_size = raw_size;
	writer->manifest->raw_size += raw_size;
	writer->manifest->packed_size += size;
	resetStringInfo(&writer->csv);
	CHECK_FOR_INTERRUPTS();
	return size;
}

static bool
must_be_quoted(const char *text, int length)
{
	if (length == 0 || (length == 2 && memcmp(text, "\\.", 2) == 0))
		return true;
	for (int i = 0; i < length; i++)
	{
		if (text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r')
			return true;
	}
	return false;
}

static void
append_cell(StringInfo csv, const char *text, int length)
{
	if (!must_be_quoted(text, length))
	{
		appendBinaryStringInfo(csv, text, length);
		return;
	}
	appendStringInfoCharMacro(csv, '"');
	for (int i = 0; i < length; i++)
	{
		if (text[i] == '"')
			appendStringInfoCharMacro(csv, '"');
		appendStringInfoCharMacro(csv, text[i]);
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
	writer->last = palloc0(sizeof(Span) * Max(manifest->nkeys, 1));
	for (int i = 0; i < writer->nfields; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, places[i]);
		Oid output;
		bool is_varlena;

		getTypeOutputInfo(column->atttypid, &output, &is_varlena);
		fmgr_info(output, &writer->fields[i].output);
		writer->fields[i].type = column->atttypid;
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
		append_cell(&writer->csv, writer->manifest->columns[i].name,
					strlen(writer->manifest->columns[i].name));
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
	writer->data_path = om_archive_path(psprintf("%s%s", file, OM_ARCHIVE_DATA));
	writer->temp_path = psprintf("%s%s", writer->data_path, OM_ARCHIVE_UNFINISHED);
	writer->zstd = ZSTD_createCCtx();
	writer->callback = (MemoryContextCallback){.func = free_writer, .arg = writer};
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &writer->callback);
	if (writer->zstd == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_compressionLevel, COMPRESSION_LEVEL);
	ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_checksumFlag, 1);
	writer->hash = om_archive_hash_begin();
	writer->raw_hash = om_archive_hash_begin();
	writer->rows = AllocSetContextCreate(CurrentMemoryContext, "row", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&writer->csv);
	prepare_fields(writer, desc, places);
	manifest->rows = manifest->raw_size = manifest->packed_size = 0;
	manifest->nframes = 0;
	writer->max_frames = 16;
	manifest->frames = palloc(sizeof(OmArchiveFrame) * writer->max_frames);
	om_archive_add_pending(file, false /* at_commit */);
	writer->fd = OpenTransientFilePerm(writer->temp_path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY,
									   FILE_MODE);
	if (writer->fd < 0)
		om_archive_raise_file("create", writer->temp_path);
	OM_FAULT_POINT("archivefile/created");
	write_header(writer);
	return writer;
}

/* What a cell says, without its quotes. */
static char *
cell_text(const OmArchiveWriter *writer, Span span)
{
	const char *cell = writer->csv.data + span.begin;
	int length = span.end - span.begin;
	char *text;
	int n = 0;

	if (length == 0 || *cell != '"')
		return pnstrdup(cell, length);
	text = palloc(length);
	for (int i = 1; i < length - 1; i++)
	{
		text[n++] = cell[i];
		i += cell[i] == '"';
	}
	text[n] = '\0';
	return text;
}

static char **
copy_key(const OmArchiveWriter *writer)
{
	int count = writer->manifest->nkeys;
	char **key = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		key[i] = cell_text(writer, writer->last[i]);
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

static void
append_int(StringInfo csv, int64 value)
{
	enlargeStringInfo(csv, MAXINT8LEN + 1);
	csv->len += pg_lltoa(value, csv->data + csv->len);
}

static void
append_uuid(StringInfo csv, const pg_uuid_t *id)
{
	static const char digits[] = "0123456789abcdef";
	char *to;

	enlargeStringInfo(csv, 2 * UUID_LEN + 5);
	to = csv->data + csv->len;
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = digits[id->data[i] >> 4];
		*to++ = digits[id->data[i] & 15];
	}
	*to = '\0';
	csv->len = to - csv->data;
}

static char *
put_two(char *to, int number)
{
	*to++ = '0' + number / 10;
	*to++ = '0' + number % 10;
	return to;
}

/* As timestamptz_out() writes it in UTC; it spends most of its time with time zones and days. */
static bool
append_time(OmArchiveWriter *writer, TimestampTz at)
{
	int64 day = at / USECS_PER_DAY - (at % USECS_PER_DAY < 0);
	int64 us = at - day * USECS_PER_DAY;
	int seconds = (int) (us / USECS_PER_SEC);
	int fraction = (int) (us % USECS_PER_SEC);
	char *to;

	if (at < FIRST_PLAIN_TIME || at >= END_OF_PLAIN_TIME)
		return false;
	if (day != writer->day || writer->day_text[0] == '\0')
	{
		int year;
		int month;
		int mday;

		j2date((int) day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
		snprintf(writer->day_text, sizeof(writer->day_text), "%04d-%02d-%02d ", year % 10000,
				 month % 100, mday % 100);
		writer->day = (int) day;
	}
	enlargeStringInfo(&writer->csv, MAXDATELEN);
	to = writer->csv.data + writer->csv.len;
	memcpy(to, writer->day_text, 11);
	to = put_two(to + 11, seconds / 3600);
	*to++ = ':';
	to = put_two(to, seconds / 60 % 60);
	*to++ = ':';
	to = put_two(to, seconds % 60);
	if (fraction > 0)
	{
		*to++ = '.';
		for (int unit = 100000; fraction > 0; unit /= 10)
		{
			*to++ = '0' + fraction / unit;
			fraction %= unit;
		}
	}
	memcpy(to, "+00", 4);
	writer->csv.len = to + 3 - writer->csv.data;
	return true;
}

/* The types of nearly all columns, without the detour of their output functions. */
static bool
append_plain(OmArchiveWriter *writer, Oid type, Datum value)
{
	text *string;

	switch (type)
	{
		case INT2OID:
			append_int(&writer->csv, DatumGetInt16(value));
			return true;
		case INT4OID:
			append_int(&writer->csv, DatumGetInt32(value));
			return true;
		case INT8OID:
			append_int(&writer->csv, DatumGetInt64(value));
			return true;
		case UUIDOID:
			append_uuid(&writer->csv, DatumGetUUIDP(value));
			return true;
		case TIMESTAMPTZOID:
			return append_time(writer, DatumGetTimestampTz(value));
		case TEXTOID:
		case VARCHAROID:
			string = DatumGetTextPP(value);
			append_cell(&writer->csv, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			return true;
		default:
			return false;
	}
}

/* Key columns are not null, or the key is that of a table without a primary key. */
static void
append_field(OmArchiveWriter *writer, const Field *field, Datum value, bool isnull)
{
	int begin = writer->csv.len;

	if (!isnull && !append_plain(writer, field->type, value))
	{
		const char *text = OutputFunctionCall(unconstify(FmgrInfo *, &field->output), value);

		append_cell(&writer->csv, text, strlen(text));
	}
	if (field->key >= 0)
		writer->last[field->key] = (Span){begin, writer->csv.len};
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
		om_archive_raise_file("flush", path);
	if (CloseTransientFile(fd) != 0)
		om_archive_raise_file("close", path);
}

static void
write_manifest(OmArchiveWriter *writer, uint8 *sha256)
{
	char *path = om_archive_path(psprintf("%s%s", writer->file, OM_ARCHIVE_MANIFEST));
	char *temp = psprintf("%s%s", path, OM_ARCHIVE_UNFINISHED);
	char *json = om_manifest_to_json(writer->manifest);
	int fd = OpenTransientFilePerm(temp, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, FILE_MODE);

	if (fd < 0)
		om_archive_raise_file("create", temp);
	write_all(fd, temp, json, strlen(json));
	om_archive_hash_of(json, strlen(json), sha256);
	close_file(fd, temp);
	OM_FAULT_POINT("archivefile/manifest-written");
	(void) durable_rename(temp, path, ERROR);
}

void
om_archive_writer_end(OmArchiveWriter *writer, uint8 manifest_sha256[OM_SHA256_SIZE])
{
	OmArchiveManifest *manifest = writer->manifest;

	finish_frame(writer);
	om_archive_hash_end(writer->hash, manifest->sha256);
	om_archive_hash_end(writer->raw_hash, manifest->raw_sha256);
	writer->hash = writer->raw_hash = NULL;
	if (manifest->rows > 0 && writer->time_place >= 0)
	{
		manifest->first_at = time_text(writer->time_type, writer->least_time);
		manifest->last_at = time_text(writer->time_type, writer->greatest_time);
	}
	close_file(writer->fd, writer->temp_path);
	OM_FAULT_POINT("archivefile/written");
	om_archive_verify(writer->temp_path, manifest);
	OM_FAULT_POINT("archivefile/verified");
	(void) durable_rename(writer->temp_path, writer->data_path, ERROR);
	OM_FAULT_POINT("archivefile/renamed");
	write_manifest(writer, manifest_sha256);
	OM_FAULT_POINT("archivefile/finished");
	free_writer(writer);
	MemoryContextDelete(writer->rows);
}
