/*
 * loadparts.c
 *		Reads and writes table "load_parts".
 *
 * A part is found by the offset of its first byte, so any byte is found by one
 * probe of the primary key.  One part at a time is in memory.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "loadparts.h"
#include "plans.h"

static OmQuery size_query = {
	.sql = "SELECT at_byte + pg_catalog.octet_length(content) FROM order_mgmt.load_parts"
		   " WHERE load_id = $1 ORDER BY at_byte DESC LIMIT 1",
	.nargs = 1,
	.types = {INT8OID},
	.plan_once = true};

static OmQuery append_query = {.sql = "INSERT INTO order_mgmt.load_parts VALUES ($1, $2, $3)",
							   .nargs = 3,
							   .types = {INT8OID, INT8OID, BYTEAOID}};

static OmQuery find_query = {
	.sql = "SELECT at_byte, content FROM order_mgmt.load_parts WHERE load_id = $1"
		   " AND at_byte <= $2 ORDER BY at_byte DESC LIMIT 1",
	.nargs = 2,
	.types = {INT8OID, INT8OID},
	.plan_once = true};

static OmQuery forget_query = {
	.sql = "DELETE FROM order_mgmt.load_parts WHERE load_id = $1", .nargs = 1, .types = {INT8OID}};

typedef struct Parts
{
	int64 load_id;
	MemoryContext context; /* of the part */
	bytea *part;           /* the one that was read last; NULL: none */
	int64 begin;           /* offset of its first byte */
	int64 size;            /* of all of them */
} Parts;

/* ---------- writing ---------- */

int64
om_parts_size(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);

	return om_query_number(&size_query, &arg);
}

static void
append_part(int64 load_id, int64 at_byte, const char *content, Size length)
{
	bytea *part = palloc(VARHDRSZ + length);
	Datum args[3] = {Int64GetDatum(load_id), Int64GetDatum(at_byte), PointerGetDatum(part)};
	OmQueryScope scope;

	SET_VARSIZE(part, VARHDRSZ + length);
	memcpy(VARDATA(part), content, length);
	om_query_begin(&scope);
	om_query_run(&append_query, args, NULL);
	om_query_end(&scope);
	pfree(part);
}

void
om_parts_append(int64 load_id, int64 size, const char *content, Size length)
{
	for (Size done = 0; done < length; done += OM_PART_SIZE)
		append_part(load_id, size + done, content + done, Min(length - done, OM_PART_SIZE));
	CommandCounterIncrement();
}

void
om_parts_forget(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(&forget_query, &arg, NULL);
	om_query_end(&scope);
}

/* ---------- reading ---------- */

static int64
end_of_part(const Parts *parts)
{
	return parts->part == NULL ? 0 : parts->begin + VARSIZE_ANY_EXHDR(parts->part);
}

/* The part with this byte, or the last one. */
static void
fetch_part(Parts *parts, int64 offset)
{
	Datum args[2] = {Int64GetDatum(parts->load_id), Int64GetDatum(offset)};
	OmQueryScope scope;

	if (parts->part != NULL)
		pfree(parts->part);
	parts->part = NULL;
	om_query_begin(&scope);
	if (om_query_run(&find_query, args, NULL) > 0)
	{
		bool isnull;
		MemoryContext spi;

		parts->begin = DatumGetInt64(om_result_get(0, 1, &isnull));
		spi = MemoryContextSwitchTo(parts->context);
		parts->part = DatumGetByteaPCopy(om_result_get(0, 2, &isnull));
		MemoryContextSwitchTo(spi);
	}
	om_query_end(&scope);
}

static size_t
read_parts(void *arg, int64 offset, char *buffer, size_t size)
{
	Parts *parts = arg;
	size_t available;

	if (parts->part == NULL || offset < parts->begin || offset >= end_of_part(parts))
		fetch_part(parts, offset);
	if (offset >= end_of_part(parts))
		return 0;
	available = Min((size_t) (end_of_part(parts) - offset), size);
	memcpy(buffer, VARDATA_ANY(parts->part) + (offset - parts->begin), available);
	return available;
}

static int64
size_parts(void *arg)
{
	return ((const Parts *) arg)->size;
}

static Parts *
create_parts(int64 load_id)
{
	Parts *parts = palloc0(sizeof(Parts));

	parts->load_id = load_id;
	parts->context = CurrentMemoryContext;
	return parts;
}

OmBytes *
om_parts_open(int64 load_id, const char *name)
{
	Parts *parts = create_parts(load_id);

	parts->size = om_parts_size(load_id);
	return om_bytes_open_source(
		&(OmByteSource){.read = read_parts, .size = size_parts, .arg = parts, .name = name});
}

bool
om_parts_have(int64 load_id, int64 offset, const char *content, Size length)
{
	Parts *parts = create_parts(load_id);
	char *buffer = palloc(OM_PART_SIZE);
	Size same = 0;

	while (same < length)
	{
		size_t got = read_parts(parts, offset + same, buffer, Min(length - same, OM_PART_SIZE));

		if (got == 0 || memcmp(buffer, content + same, got) != 0)
			break;
		same += got;
	}
	if (parts->part != NULL)
		pfree(parts->part);
	pfree(parts);
	pfree(buffer);
	return same == length;
}
