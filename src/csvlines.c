/*
 * csvlines.c
 *		Cuts a stream of bytes into lines.
 *
 * A line ends with LF or CR LF.  Where the first block has no LF outside quotes
 * but CRs, they are the line ends; otherwise a CR by itself is data.
 *
 * There is one buffer.  It holds the record under way from its first line on, so
 * that reading can go on at its second one, and not more than one block behind
 * it.  It grows up to the limit of a record and two blocks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "csvlines.h"
#include "errors.h"
#include "jsonout.h"

#define LOOKED_AT 4096 /* enough to tell an encoding by its NUL bytes */

/* --- the buffer ------------------------------------------------------------------------------- */

static void
make_room(OmCsvLines *lines)
{
	size_t kept = lines->filled - lines->record;

	if (lines->record > 0 && lines->capacity - lines->filled < OM_CSV_BLOCK_SIZE)
	{
		memmove(lines->data, lines->data + lines->record, kept);
		lines->offset += lines->record;
		lines->next -= lines->record;
		lines->filled = kept;
		lines->record = 0;
	}
	if (lines->capacity - lines->filled < OM_CSV_BLOCK_SIZE)
	{
		lines->capacity = Min(lines->capacity * 2, lines->limit + 3 * OM_CSV_BLOCK_SIZE);
		lines->data = repalloc_huge(lines->data, lines->capacity);
	}
}

/* Reads on; false at the end. */
static bool
fill(OmCsvLines *lines)
{
	size_t got;

	if (lines->ended)
		return false;
	make_room(lines);
	got = om_bytes_read(lines->bytes, lines->data + lines->filled, OM_CSV_BLOCK_SIZE);
	lines->filled += got;
	lines->ended = got == 0;
	return got > 0;
}

/* --- the first block -------------------------------------------------------------------------- */

static void
refuse_wide(const OmCsvLines *lines, const char *encoding)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("\"%s\" is encoded in %s", om_bytes_name(lines->bytes), encoding),
			 om_errdetail("source", om_bytes_name(lines->bytes)),
			 errhint("Convert it first, for example with \"iconv -f %s -t UTF-8\".", encoding)));
}

/* Text in UTF-16 has NULs in nearly each second byte and hardly any in the others. */
static void
check_nuls(const OmCsvLines *lines, size_t size)
{
	size_t nuls[4] = {0};
	size_t most;
	size_t few;

	size = Min(size, LOOKED_AT) & ~(size_t) 3;
	if (size < 8)
		return;
	most = size / 4 * 3 / 4;
	few = size / 4 / 4;
	for (size_t i = 0; i < size; i++)
		nuls[i % 4] += lines->data[i] == '\0';
	if (nuls[1] >= most && nuls[2] >= most && nuls[3] >= most && nuls[0] <= few)
		refuse_wide(lines, "UTF-32LE");
	if (nuls[0] >= most && nuls[1] >= most && nuls[2] >= most && nuls[3] <= few)
		refuse_wide(lines, "UTF-32BE");
	if (nuls[1] >= most && nuls[3] >= most && nuls[0] <= few && nuls[2] <= few)
		refuse_wide(lines, "UTF-16LE");
	if (nuls[0] >= most && nuls[2] >= most && nuls[1] <= few && nuls[3] <= few)
		refuse_wide(lines, "UTF-16BE");
}

static bool
begins_with(const OmCsvLines *lines, const char *mark, size_t size)
{
	return lines->filled >= size && memcmp(lines->data, mark, size) == 0;
}

static void
check_encoding(OmCsvLines *lines, size_t size)
{
	if (begins_with(lines, "\xff\xfe\0\0", 4))
		refuse_wide(lines, "UTF-32LE");
	if (begins_with(lines, "\0\0\xfe\xff", 4))
		refuse_wide(lines, "UTF-32BE");
	if (begins_with(lines, "\xff\xfe", 2))
		refuse_wide(lines, "UTF-16LE");
	if (begins_with(lines, "\xfe\xff", 2))
		refuse_wide(lines, "UTF-16BE");
	check_nuls(lines, size);
	lines->has_mark = begins_with(lines, "\xef\xbb\xbf", 3);
}

static char
find_newline(const OmCsvLines *lines, size_t size, char quote)
{
	bool is_quoted = false;
	bool has_return = false;

	for (size_t i = 0; i < size; i++)
	{
		char c = lines->data[i];

		if (quote != '\0' && c == quote)
			is_quoted = !is_quoted;
		else if (c == '\n' && !is_quoted)
			return '\n';
		/* The last one of a block may have its LF in the next. */
		else if (c == '\r' && !is_quoted && (i + 1 < size || size < OM_CSV_BLOCK_SIZE))
			has_return = true;
	}
	return has_return ? '\r' : '\n';
}

size_t
om_csv_lines_look_ahead(OmCsvLines *lines)
{
	while (lines->filled - lines->next < OM_CSV_BLOCK_SIZE && fill(lines))
		;
	return Min(lines->filled - lines->next, OM_CSV_BLOCK_SIZE);
}

void
om_csv_lines_open(OmCsvLines *lines, OmBytes *bytes, char quote, size_t limit)
{
	size_t size;

	*lines = (OmCsvLines){.context = CurrentMemoryContext, .bytes = bytes, .limit = limit};
	lines->capacity = 2 * OM_CSV_BLOCK_SIZE;
	lines->data = palloc(lines->capacity);
	size = om_csv_lines_look_ahead(lines);
	check_encoding(lines, size);
	lines->newline = find_newline(lines, size, quote);
	lines->record = lines->next = lines->has_mark ? 3 : 0;
}

bool
om_csv_lines_go_to(OmCsvLines *lines, int64 offset)
{
	if (offset < om_csv_lines_offset(lines))
		return false;
	if (offset <= lines->offset + (int64) lines->filled)
		lines->next = offset - lines->offset;
	else if (om_bytes_skip_to(lines->bytes, offset))
	{
		lines->next = lines->filled = 0;
		lines->offset = offset;
		lines->ended = false;
	}
	else
		return false;
	lines->record = lines->next;
	return true;
}

/* --- lines ------------------------------------------------------------------------------------ */

/* The line from next on whose end is here; NULL: at the end of the file. */
static void
take_line(OmCsvLines *lines, const char *end, OmCsvLine *line)
{
	const char *start = lines->data + lines->next;

	line->start = lines->next - lines->record;
	line->length = line->whole = lines->data + lines->filled - start;
	if (end != NULL)
	{
		line->length = end - start;
		line->whole = line->length + 1;
		if (lines->newline == '\n' && line->length > 0 && end[-1] == '\r')
			line->length--;
	}
	lines->next += line->whole;
}

OmCsvLineResult
om_csv_lines_next(OmCsvLines *lines, OmCsvLine *line)
{
	size_t searched = 0;

	for (;;)
	{
		size_t available = lines->filled - lines->next;
		const char *end = NULL;

		if (available > searched)
			end =
				memchr(lines->data + lines->next + searched, lines->newline, available - searched);
		searched = available;
		if ((end == NULL ? available : (size_t) (end - lines->data - lines->next)) + lines->next -
				lines->record >
			lines->limit)
			return OM_CSV_TOO_LONG;
		if (end != NULL || (lines->ended && available > 0))
		{
			take_line(lines, end, line);
			return OM_CSV_LINE;
		}
		if (!fill(lines) && available == 0)
			return OM_CSV_NO_LINE;
	}
}

void
om_csv_lines_begin_record(OmCsvLines *lines)
{
	lines->record = lines->next;
}

void
om_csv_lines_begin_at(OmCsvLines *lines, size_t position)
{
	lines->record += position;
	lines->next = lines->record;
}

void
om_csv_lines_discard(OmCsvLines *lines)
{
	for (;;)
	{
		const char *start = lines->data + lines->next;
		const char *end = memchr(start, lines->newline, lines->filled - lines->next);

		lines->next = end == NULL ? lines->filled : (size_t) (end - lines->data) + 1;
		lines->record = lines->next;
		if (end != NULL || !fill(lines))
			return;
		CHECK_FOR_INTERRUPTS();
	}
}
