/*
 * bytes.c
 *		Reads files, large objects, texts and what callers bring, and unpacks
 *		gzip and zstd on the way.
 *
 * A stream outlives transactions, because a load commits while it reads.  So
 * files are virtual descriptors, which no transaction closes, and large objects
 * are opened anew for each block.  Whatever a stream holds is let go when its
 * memory context is, which is how an error closes it.
 *
 * Memory is bounded: one block of what is packed, and the window of the packer,
 * which zstd may want to be large; over 32 MB it is refused.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "catalog/pg_largeobject.h"
#include "libpq/libpq-fs.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "bytes.h"
#include "errors.h"
#include "jsonout.h"

#define BLOCK_SIZE (128 * 1024)
#define ZSTD_MAX_WINDOW_LOG 25
#define MAGIC_SIZE 4

typedef enum Packing
{
	NOT_PACKED,
	GZIP,
	ZSTD
} Packing;

struct OmBytes
{
	MemoryContext context;
	MemoryContextCallback at_reset;
	OmByteSource source;
	bool is_open;
	bool is_started; /* the packing is known */
	Packing packing;
	int64 position;     /* of the unpacked bytes */
	int64 raw_position; /* where the next block is read */
	char *block;        /* what has been read and not yet unpacked */
	size_t block_begin;
	size_t block_end;
	bool in_frame; /* the end of what is packed is still to come */
	z_stream gzip;
	ZSTD_DStream *zstd;
};

/* --- what packers need ------------------------------------------------------------------------ */

static voidpf
allocate_for_gzip(voidpf context, uInt items, uInt size)
{
	return MemoryContextAlloc(context, (Size) items * size);
}

static void
free_for_gzip(voidpf context pg_attribute_unused(), voidpf memory)
{
	pfree(memory);
}

static void
raise_damaged(const OmBytes *bytes, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("\"%s\" is damaged: %s", bytes->source.name,
					what == NULL ? "the packed data are invalid" : what),
			 om_errdetail("source", bytes->source.name),
			 errhint("Pack or copy the file again; \"gzip -t\" and \"zstd -t\" check one.")));
}

static void
start_gzip(OmBytes *bytes)
{
	bytes->gzip =
		(z_stream){.zalloc = allocate_for_gzip, .zfree = free_for_gzip, .opaque = bytes->context};
	/* 16: with gzip's header and checksum. */
	if (inflateInit2(&bytes->gzip, MAX_WBITS + 16) != Z_OK)
		elog(ERROR, "could not start zlib");
}

static void
start_zstd(OmBytes *bytes)
{
	if (bytes->zstd == NULL)
		bytes->zstd = ZSTD_createDStream();
	/* Parameters can be set between files only. */
	if (bytes->zstd == NULL ||
		ZSTD_isError(ZSTD_DCtx_reset(bytes->zstd, ZSTD_reset_session_only)) ||
		ZSTD_isError(ZSTD_DCtx_setParameter(bytes->zstd, ZSTD_d_windowLogMax, ZSTD_MAX_WINDOW_LOG)))
		elog(ERROR, "could not start zstd");
}

/* --- blocks ----------------------------------------------------------------------------------- */

/* Reads on behind what the block still holds; false at the end. */
static bool
fill_block(OmBytes *bytes)
{
	size_t kept = bytes->block_end - bytes->block_begin;
	size_t got;

	CHECK_FOR_INTERRUPTS();
	memmove(bytes->block, bytes->block + bytes->block_begin, kept);
	bytes->block_begin = 0;
	bytes->block_end = kept;
	got = bytes->source.read(bytes->source.arg, bytes->raw_position, bytes->block + kept,
							 BLOCK_SIZE - kept);
	bytes->raw_position += got;
	bytes->block_end += got;
	return got > 0;
}

static Packing
recognise_packing(const char *block, size_t size)
{
	uint32 magic;

	if (size >= 2 && memcmp(block, "\x1f\x8b", 2) == 0)
		return GZIP;
	if (size < MAGIC_SIZE)
		return NOT_PACKED;
	magic = (uint8) block[0] | (uint8) block[1] << 8 | (uint8) block[2] << 16 |
			(uint32) (uint8) block[3] << 24;
	if (magic == ZSTD_MAGICNUMBER ||
		(magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START)
		return ZSTD;
	return NOT_PACKED;
}

static void
start(OmBytes *bytes)
{
	while (bytes->block_end - bytes->block_begin < MAGIC_SIZE && fill_block(bytes))
		;
	bytes->packing = recognise_packing(bytes->block, bytes->block_end);
	if (bytes->packing == GZIP)
		start_gzip(bytes);
	else if (bytes->packing == ZSTD)
		start_zstd(bytes);
	bytes->is_started = true;
}

/* --- reading ---------------------------------------------------------------------------------- */

static size_t
read_plain(OmBytes *bytes, char *buffer, size_t size)
{
	size_t kept = Min(bytes->block_end - bytes->block_begin, size);
	size_t got;

	if (kept > 0)
	{
		memcpy(buffer, bytes->block + bytes->block_begin, kept);
		bytes->block_begin += kept;
		return kept;
	}
	CHECK_FOR_INTERRUPTS();
	got = bytes->source.read(bytes->source.arg, bytes->raw_position, buffer, size);
	bytes->raw_position += got;
	return got;
}

/* What gzip itself lets stand behind the last member: tapes are padded with zeros. */
static bool
is_padding(OmBytes *bytes)
{
	return bytes->block[bytes->block_begin] == '\0';
}

/* Unpacks what it can of the block; the number of bytes that came out. */
static size_t
step_gzip(OmBytes *bytes, char *buffer, size_t size)
{
	z_stream *gzip = &bytes->gzip;
	int result;

	if (!bytes->in_frame && is_padding(bytes))
	{
		bytes->block_begin++;
		return 0;
	}
	gzip->next_in = (Bytef *) bytes->block + bytes->block_begin;
	gzip->avail_in = bytes->block_end - bytes->block_begin;
	gzip->next_out = (Bytef *) buffer;
	gzip->avail_out = size;
	result = inflate(gzip, Z_NO_FLUSH);
	if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
		raise_damaged(bytes, gzip->msg);
	bytes->block_begin = bytes->block_end - gzip->avail_in;
	bytes->in_frame = result != Z_STREAM_END;
	if (!bytes->in_frame && inflateReset(gzip) != Z_OK)
		elog(ERROR, "could not start zlib anew");
	return size - gzip->avail_out;
}

static size_t
step_zstd(OmBytes *bytes, char *buffer, size_t size)
{
	ZSTD_inBuffer in = {bytes->block, bytes->block_end, bytes->block_begin};
	ZSTD_outBuffer out = {buffer, size, 0};
	size_t result = ZSTD_decompressStream(bytes->zstd, &out, &in);

	if (ZSTD_isError(result))
		raise_damaged(bytes, ZSTD_getErrorName(result));
	bytes->block_begin = in.pos;
	bytes->in_frame = result != 0;
	return out.pos;
}

static size_t
read_packed(OmBytes *bytes, char *buffer, size_t size)
{
	for (;;)
	{
		size_t got = 0;

		/* A packer may hold back output, so it is asked also without input. */
		if (bytes->in_frame || bytes->block_begin < bytes->block_end)
			got = bytes->packing == GZIP ? step_gzip(bytes, buffer, size)
										 : step_zstd(bytes, buffer, size);
		if (got > 0)
			return got;
		if (bytes->block_begin == bytes->block_end && !fill_block(bytes))
			break;
	}
	if (bytes->in_frame)
		raise_damaged(bytes, "it ends too early");
	return 0;
}

size_t
om_bytes_read(OmBytes *bytes, char *buffer, size_t size)
{
	size_t got;

	if (!bytes->is_started)
		start(bytes);
	size = Min(size, PG_INT32_MAX);
	got = bytes->packing == NOT_PACKED ? read_plain(bytes, buffer, size)
									   : read_packed(bytes, buffer, size);
	bytes->position += got;
	return got;
}

/* --- moving ----------------------------------------------------------------------------------- */

static bool
discard_until(OmBytes *bytes, int64 position)
{
	char *buffer = MemoryContextAlloc(bytes->context, BLOCK_SIZE);
	size_t got = 1;

	while (bytes->position < position && got > 0)
		got = om_bytes_read(bytes, buffer, Min(position - bytes->position, BLOCK_SIZE));
	pfree(buffer);
	return got > 0;
}

bool
om_bytes_skip_to(OmBytes *bytes, int64 position)
{
	if (position < bytes->position)
		elog(ERROR, "a stream of bytes goes forward only");
	if (!bytes->is_started)
		start(bytes);
	if (bytes->packing != NOT_PACKED || om_bytes_raw_size(bytes) < 0)
		return discard_until(bytes, position);
	if (position > om_bytes_raw_size(bytes))
		return false;
	bytes->block_begin = bytes->block_end = 0;
	bytes->raw_position = bytes->position = position;
	return true;
}

int64
om_bytes_raw_position(const OmBytes *bytes)
{
	return bytes->raw_position - (int64) (bytes->block_end - bytes->block_begin);
}

int64
om_bytes_raw_size(const OmBytes *bytes)
{
	return bytes->source.size == NULL ? -1 : bytes->source.size(bytes->source.arg);
}

const char *
om_bytes_name(const OmBytes *bytes)
{
	return bytes->source.name;
}

/* --- opening and closing ---------------------------------------------------------------------- */

static void
let_go(void *arg)
{
	OmBytes *bytes = arg;

	if (!bytes->is_open)
		return;
	bytes->is_open = false;
	ZSTD_freeDStream(bytes->zstd);
	bytes->zstd = NULL;
	if (bytes->source.close != NULL)
		bytes->source.close(bytes->source.arg);
}

OmBytes *
om_bytes_open_source(const OmByteSource *source)
{
	OmBytes *bytes;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt bytes", ALLOCSET_DEFAULT_SIZES);

	bytes = MemoryContextAllocZero(context, sizeof(OmBytes));
	bytes->context = context;
	bytes->source = *source;
	bytes->block = MemoryContextAlloc(context, BLOCK_SIZE);
	bytes->at_reset.func = let_go;
	bytes->at_reset.arg = bytes;
	MemoryContextRegisterResetCallback(context, &bytes->at_reset);
	bytes->is_open = true;
	return bytes;
}

void
om_bytes_close(OmBytes *bytes)
{
	MemoryContextDelete(bytes->context);
}

/* --- a text ----------------------------------------------------------------------------------- */

typedef struct Text
{
	const char *text;
	size_t size;
} Text;

static size_t
read_text(void *arg, int64 offset, char *buffer, size_t size)
{
	const Text *text = arg;
	size_t got = Min(size, text->size - Min((size_t) offset, text->size));

	memcpy(buffer, text->text + offset, got);
	return got;
}

static int64
size_text(void *arg)
{
	return ((const Text *) arg)->size;
}

OmBytes *
om_bytes_open_text(const char *text, size_t size)
{
	Text *arg = palloc(sizeof(Text));

	*arg = (Text){text, size};
	return om_bytes_open_source(
		&(OmByteSource){.read = read_text, .size = size_text, .arg = arg, .name = "text:"});
}

/* --- a file of the server --------------------------------------------------------------------- */

typedef struct ServerFile
{
	File file;
	int64 size; /* when it was opened */
	const char *name;
} ServerFile;

static void
raise_unusable(const char *path, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD), errmsg("file \"%s\" %s", path, problem),
					om_errdetail("source", path), errhint("%s", hint)));
}

/* By errno, after an attempt to find or open it. */
static void
raise_unopened(const char *path)
{
	if (errno == ENOENT || errno == ENOTDIR)
		raise_unusable(path, "does not exist",
					   "The path is one on the server's machine; psql's \\lo_import brings in a "
					   "file of the client.");
	if (errno == EACCES)
		raise_unusable(path, "may not be read",
					   "Let the system user that PostgreSQL runs as read the file, and enter the "
					   "directories that lead to it.");
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD), errmsg("could not open file \"%s\": %m", path),
			 om_errdetail("source", path), errhint("Make the file one that the server can read.")));
}

/* Not opened: a pipe would wait for its writer, and a device has no end. */
static void
check_kind(const char *path)
{
	struct stat state;

	if (!is_absolute_path(path))
		raise_unusable(path, "is not given by an absolute path",
					   "Give the whole path on the server's machine, from the root directory on.");
	if (stat(path, &state) != 0)
		raise_unopened(path);
	if (S_ISDIR(state.st_mode))
		raise_unusable(path, "is a directory", "Name one of the files in it.");
	if (!S_ISREG(state.st_mode))
		raise_unusable(path, "is no regular file", "Write the data to a file first.");
}

static void
raise_changed(const ServerFile *server_file)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
					errmsg("\"%s\" has changed while it was read", server_file->name),
					om_errdetail("source", server_file->name),
					errhint("Wait until the file is complete, or read a copy of it.")));
}

static size_t
read_file(void *arg, int64 offset, char *buffer, size_t size)
{
	ServerFile *server_file = arg;
	int got;

	if (offset >= server_file->size)
	{
		if (FileSize(server_file->file) != server_file->size)
			raise_changed(server_file);
		return 0;
	}
	got = FileRead(server_file->file, buffer, Min(size, (size_t) (server_file->size - offset)),
				   offset, PG_WAIT_EXTENSION);
	if (got < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_LOAD), errmsg("could not read \"%s\": %m", server_file->name),
				 om_errdetail("source", server_file->name),
				 errhint("Look after the disk that the file is on.")));
	if (got == 0)
		raise_changed(server_file);
	return got;
}

static int64
size_file(void *arg)
{
	return ((const ServerFile *) arg)->size;
}

static void
close_file(void *arg)
{
	FileClose(((ServerFile *) arg)->file);
}

OmBytes *
om_bytes_open_file(const char *path)
{
	ServerFile *server_file = palloc0(sizeof(ServerFile));
	OmByteSource source = {
		.read = read_file, .size = size_file, .close = close_file, .arg = server_file};
	OmBytes *bytes;

	check_kind(path);
	source.name = server_file->name = pstrdup(path);
	bytes = om_bytes_open_source(&source);
	/* Nothing to close as long as it is not open. */
	bytes->is_open = false;
	server_file->file = PathNameOpenFile(path, O_RDONLY | PG_BINARY);
	if (server_file->file < 0)
		raise_unopened(path);
	bytes->is_open = true;
	server_file->size = FileSize(server_file->file);
	return bytes;
}

/* --- a large object --------------------------------------------------------------------------- */

/*
 * By the functions that clients call: they look after privileges, and after
 * what large objects leave behind in a session until its transaction ends.
 */
typedef struct LargeObject
{
	Oid id;
	int64 size;
} LargeObject;

static size_t
read_large_object(void *arg, int64 offset, char *buffer, size_t size)
{
	const LargeObject *object = arg;
	bytea *fragment;
	size_t got;

	if (offset >= object->size)
		return 0;
	size = Min(size, BLOCK_SIZE);
	fragment = DatumGetByteaPP(DirectFunctionCall3(be_lo_get_fragment, ObjectIdGetDatum(object->id),
												   Int64GetDatum(offset), Int32GetDatum(size)));
	got = VARSIZE_ANY_EXHDR(fragment);
	memcpy(buffer, VARDATA_ANY(fragment), got);
	pfree(fragment);
	return got;
}

static int64
size_large_object(void *arg)
{
	return ((const LargeObject *) arg)->size;
}

static int64
measure_large_object(Oid id)
{
	Datum fd = DirectFunctionCall2(be_lo_open, ObjectIdGetDatum(id), Int32GetDatum(INV_READ));
	int64 size = DatumGetInt64(
		DirectFunctionCall3(be_lo_lseek64, fd, Int64GetDatum(0), Int32GetDatum(SEEK_END)));

	DirectFunctionCall1(be_lo_close, fd);
	return size;
}

OmBytes *
om_bytes_open_large_object(Oid id)
{
	LargeObject *object = palloc(sizeof(LargeObject));
	char *name = psprintf("lo:%u", id);

	if (!LargeObjectExists(id))
		ereport(ERROR, (errcode(ERRCODE_OM_LOAD), errmsg("large object %u does not exist", id),
						om_errdetail("source", name),
						errhint("psql's \\lo_import brings in a file and says its number.")));
	*object = (LargeObject){id, measure_large_object(id)};
	return om_bytes_open_source(&(OmByteSource){
		.read = read_large_object, .size = size_large_object, .arg = object, .name = name});
}
