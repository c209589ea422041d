/*
 * archivereader.c
 *		Reads the files of archived months.
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

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "archivepaths.h"
#include "archivereader.h"

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
	om_archive_raise_damaged(reader->path,
							 psprintf("It has " INT64_FORMAT " bytes instead of " INT64_FORMAT ".",
									  size, reader->manifest->packed_size));
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
		reader->hash = om_archive_hash_begin();
	reader->fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (reader->fd < 0)
		om_archive_raise_file("open", path);
	if (fstat(reader->fd, &status) != 0)
		om_archive_raise_file("read", path);
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
			om_archive_raise_file("read", reader->path);
		if (count == 0)
			raise_size(reader, offset + (int64) done);
		done += count;
	}
	if (reader->hash != NULL)
		om_archive_hash_add(reader->hash, reader->packed, size);
}

/* A frame of the sizes that the manifest says. */
static void
unpack(OmArchiveReader *reader, int64 offset, int64 size, int64 raw_size, int number)
{
	size_t got;

	if (offset < 0 || size <= 0 || raw_size < 0 || size > reader->manifest->packed_size)
		om_archive_raise_damaged(reader->path,
								 psprintf("Frame %d is not where it should be.", number));
	read_packed(reader, offset, size);
	reader->raw = reserve(reader->raw, &reader->raw_capacity, raw_size + 1);
	got = ZSTD_decompressDCtx(reader->zstd, reader->raw, raw_size, reader->packed, size);
	if (ZSTD_isError(got))
		om_archive_raise_damaged(reader->path, psprintf("Frame %d cannot be unpacked: %s.", number,
														ZSTD_getErrorName(got)));
	if ((int64) got != raw_size)
		om_archive_raise_damaged(reader->path,
								 psprintf("Frame %d holds %zu bytes instead of " INT64_FORMAT ".",
										  number, got, raw_size));
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
		open_reader(om_archive_path(psprintf("%s%s", file, OM_ARCHIVE_DATA)), manifest, all);

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
	om_archive_raise_damaged(reader->path, psprintf("A row of frame %d is not one of %d columns.",
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
	om_archive_hash_end(reader->hash, sha256);
	reader->hash = NULL;
	if (memcmp(sha256, reader->manifest->sha256, OM_SHA256_SIZE) != 0)
		om_archive_raise_damaged(reader->path, psprintf("Its sha256 is %s instead of %s.",
														om_manifest_hex(sha256),
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
void
om_archive_verify(const char *path, const OmArchiveManifest *manifest)
{
	OmArchiveReader *reader = open_reader(path, manifest, true /* all */);
	int64 rows = 0;

	read_packed(reader, 0, manifest->header_size);
	while (om_archive_reader_row(reader) != NULL)
		rows++;
	if (rows != manifest->rows)
		om_archive_raise_damaged(path, psprintf("It has " INT64_FORMAT
												" rows instead of " INT64_FORMAT ".",
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
		om_archive_raise_file("open", path);
	if (fstat(fd, &status) != 0)
		om_archive_raise_file("read", path);
	content = MemoryContextAllocHuge(CurrentMemoryContext, status.st_size + 1);
	*size = read(fd, content, status.st_size);
	if (*size < 0)
		om_archive_raise_file("read", path);
	content[*size] = '\0';
	(void) CloseTransientFile(fd);
	return content;
}

OmArchiveManifest *
om_archive_read_manifest(const char *file, const uint8 manifest_sha256[OM_SHA256_SIZE])
{
	char *path = om_archive_path(psprintf("%s%s", file, OM_ARCHIVE_MANIFEST));
	uint8 sha256[OM_SHA256_SIZE];
	int64 size;
	char *json = read_file(path, &size);

	om_archive_hash_of(json, size, sha256);
	if (memcmp(sha256, manifest_sha256, OM_SHA256_SIZE) != 0)
		om_archive_raise_damaged(path, psprintf("Its sha256 is %s instead of %s.",
												om_manifest_hex(sha256),
												om_manifest_hex(manifest_sha256)));
	return om_manifest_from_json(json, path);
}
