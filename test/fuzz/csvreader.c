/*
 * csvreader.c
 *		Fuzzes the CSV reader: csvreader.c, csvlines.c and csvtext.c of src/.
 *
 * The first six bytes of an input choose the dialect and how the rest is handed
 * over.  Besides what the sanitizers see, it is checked that
 *  - each record moves on, and lines and bytes add up to those of the input;
 *  - cells end with NUL and have none inside, and all that is shown is text;
 *  - reading on from behind any record gives what reading through gives;
 *  - the records do not depend on the sizes of the pieces that are read;
 *  - the plainest of parsers finds the same cells in the raw text of a record;
 *  - memory stays in proportion to the bounds.
 */
#include "postgres.h"

#include <setjmp.h>

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "csvlines.h"
#include "csvreader.h"
#include "errors.h"
#include "jsonout.h"

#define CHECK(condition)                                                              \
	do                                                                                \
	{                                                                                 \
		if (!(condition))                                                             \
		{                                                                             \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                             \
	} while (0)

/* --- memory ----------------------------------------------------------------------------------- */

typedef struct Piece
{
	struct Piece *next;
	struct Piece *previous;
	struct Context *context;
	size_t size;
} Piece;

struct Context
{
	Piece pieces; /* a ring */
	struct Context *next;
};

MemoryContext CurrentMemoryContext;
static struct Context *contexts;

MemoryContext
MemoryContextSwitchTo(MemoryContext context)
{
	MemoryContext old = CurrentMemoryContext;

	CurrentMemoryContext = context;
	return old;
}

MemoryContext
AllocSetContextCreate(MemoryContext parent pg_attribute_unused(),
					  const char *name pg_attribute_unused(), int sizes pg_attribute_unused())
{
	struct Context *context = calloc(1, sizeof(struct Context));

	context->pieces.next = context->pieces.previous = &context->pieces;
	context->next = contexts;
	contexts = context;
	return context;
}

void
pfree(void *memory)
{
	Piece *piece = (Piece *) memory - 1;

	piece->next->previous = piece->previous;
	piece->previous->next = piece->next;
	free(piece);
}

void *
MemoryContextAlloc(MemoryContext context, size_t size)
{
	Piece *piece = malloc(sizeof(Piece) + size);

	*piece = (Piece){context->pieces.next, &context->pieces, context, size};
	piece->next->previous = piece->previous->next = piece;
	return piece + 1;
}

void *
palloc(size_t size)
{
	return MemoryContextAlloc(CurrentMemoryContext, size);
}

void *
palloc0(size_t size)
{
	return memset(palloc(size), 0, size);
}

/* Always moves, so that nobody keeps an old address. */
void *
repalloc(void *memory, size_t size)
{
	Piece *piece = (Piece *) memory - 1;
	void *copy = MemoryContextAlloc(piece->context, size);

	memcpy(copy, memory, Min(size, piece->size));
	pfree(memory);
	return copy;
}

void
MemoryContextDelete(MemoryContext context)
{
	struct Context **link = &contexts;

	while (*link != context)
		link = &(*link)->next;
	*link = context->next;
	while (context->pieces.next != &context->pieces)
		pfree(context->pieces.next + 1);
	free(context);
}

static size_t
memory_used(MemoryContext context)
{
	size_t used = 0;

	for (Piece *piece = context->pieces.next; piece != &context->pieces; piece = piece->next)
		used += piece->size;
	return used;
}

/* --- errors ----------------------------------------------------------------------------------- */

static jmp_buf on_error;

int
errcode(int code)
{
	CHECK(code == ERRCODE_OM_LOAD);
	return 0;
}

static void
check_format(const char *format, va_list args)
{
	char message[1000];

	CHECK(vsnprintf(message, sizeof(message), format, args) > 0);
}

int
errmsg(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	check_format(format, args);
	va_end(args);
	return 0;
}

int
errhint(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	check_format(format, args);
	va_end(args);
	return 0;
}

int
om_errdetail(const char *key, const char *value)
{
	CHECK(key != NULL && value != NULL);
	return 0;
}

void
raise_error(void)
{
	longjmp(on_error, 1);
}

/* --- encodings -------------------------------------------------------------------------------- */

int
GetDatabaseEncoding(void)
{
	return PG_UTF8;
}

const char *
pg_encoding_to_char(int encoding)
{
	return encoding == PG_UTF8 ? "UTF8" : "LATIN1";
}

Oid
FindDefaultConversionProc(int from, int to)
{
	CHECK(from == PG_LATIN1 && to == PG_UTF8);
	return 1;
}

static int
length_of(unsigned char first)
{
	return first < 0x80 ? 1
		 : first < 0xC2 ? -1
		 : first < 0xE0 ? 2
		 : first < 0xF0 ? 3
		 : first < 0xF5 ? 4
						: -1;
}

int
pg_encoding_verifymbchar(int encoding, const char *text, int length)
{
	const unsigned char *bytes = (const unsigned char *) text;
	int size = length_of(bytes[0]);

	CHECK(encoding == PG_UTF8 && length > 0);
	if (size < 0 || size > length)
		return -1;
	for (int i = 1; i < size; i++)
	{
		if ((bytes[i] & 0xC0) != 0x80)
			return -1;
	}
	if ((bytes[0] == 0xE0 && bytes[1] < 0xA0) || (bytes[0] == 0xED && bytes[1] > 0x9F) ||
		(bytes[0] == 0xF0 && bytes[1] < 0x90) || (bytes[0] == 0xF4 && bytes[1] > 0x8F))
		return -1;
	return size;
}

int
pg_encoding_verifymbstr(int encoding, const char *text, int length)
{
	int at = 0;

	while (at < length && text[at] != '\0')
	{
		int size = pg_encoding_verifymbchar(encoding, text + at, length - at);

		if (size < 0)
			break;
		at += size;
	}
	return at;
}

int
pg_encoding_mbcliplen(int encoding, const char *text, int length, int limit)
{
	int at = 0;

	CHECK(encoding == PG_UTF8);
	while (at < length && text[at] != '\0')
	{
		int size = length_of((unsigned char) text[at]);

		size = size < 0 ? 1 : size;
		if (at + size > limit)
			break;
		at += size;
	}
	return at;
}

/* LATIN1 of which the upper half of the control characters is missing, so that there are errors. */
int
pg_do_encoding_conversion_buf(Oid conversion, int from, int to, unsigned char *text, int length,
							  unsigned char *result, int room, bool no_error)
{
	int at;

	CHECK(conversion == 1 && from == PG_LATIN1 && to == PG_UTF8 && no_error);
	CHECK(room > length * 2);
	for (at = 0; at < length && text[at] != 0 && (text[at] < 0x80 || text[at] >= 0xA0); at++)
	{
		if (text[at] >= 0x80)
			*result++ = 0xC0 | text[at] >> 6;
		*result++ = text[at] < 0x80 ? text[at] : 0x80 | (text[at] & 0x3F);
	}
	*result = '\0';
	return at;
}

/* --- bytes ------------------------------------------------------------------------------------ */

struct OmBytes
{
	const char *data;
	size_t size;
	size_t position;
	size_t step; /* so many are read at a time */
};

size_t
om_bytes_read(OmBytes *bytes, char *buffer, size_t size)
{
	size_t got = Min(Min(size, bytes->step), bytes->size - bytes->position);

	memcpy(buffer, bytes->data + bytes->position, got);
	bytes->position += got;
	return got;
}

bool
om_bytes_skip_to(OmBytes *bytes, int64 position)
{
	CHECK(position >= (int64) bytes->position);
	if (position > (int64) bytes->size)
		return false;
	bytes->position = position;
	return true;
}

const char *
om_bytes_name(const OmBytes *bytes pg_attribute_unused())
{
	return "the input";
}

/* --- what is checked -------------------------------------------------------------------------- */

typedef struct Input
{
	const char *data;
	size_t size;
	OmDialect dialect;
} Input;

static void
check_text(const char *text, size_t length)
{
	CHECK(pg_encoding_verifymbstr(PG_UTF8, text, length) == (int) length);
}

static bool
is_blank(char c, const OmDialect *dialect)
{
	return (c == ' ' || c == '\t') && c != dialect->delimiter;
}

/* A cell from at on, its end in *end, what libcsv is not asked about. */
static size_t
parse_cell(const OmDialect *dialect, const char *at, const char *last, char *cell, bool *is_quoted,
		   const char **end)
{
	size_t length = 0;

	*is_quoted = dialect->quote != '\0' && at < last && *at == dialect->quote;
	if (!*is_quoted)
	{
		while (at < last && *at != dialect->delimiter)
			cell[length++] = *at++;
		*end = at;
		return length;
	}
	for (at++; *at != dialect->quote || (at + 1 < last && at[1] == dialect->quote); at++)
	{
		CHECK(at < last - 1);
		at += *at == dialect->quote;
		cell[length++] = *at;
	}
	at++;
	while (at < last && is_blank(*at, dialect))
		at++;
	*end = at;
	return length;
}

/* Blanks at the edges of cells that are trimmed, and other escapes, are left to the reader. */
static void
check_cells(const OmDialect *dialect, const OmCsvRecord *record)
{
	const char *at = record->raw;
	const char *last = at + record->raw_length;
	char *cell = malloc(record->raw_length + 1);

	for (int i = 0; i < record->ncells; i++)
	{
		bool is_quoted;
		size_t length = parse_cell(dialect, at, last, cell, &is_quoted, &at);

		if (record->cells[i] == NULL)
			CHECK(!is_quoted && dialect->null != NULL && length == strlen(dialect->null) &&
				  memcmp(cell, dialect->null, length) == 0);
		else
		{
			CHECK(is_quoted || dialect->null == NULL || length != strlen(dialect->null) ||
				  memcmp(cell, dialect->null, length) != 0);
			CHECK(length == record->lengths[i] && memcmp(cell, record->cells[i], length) == 0);
		}
		CHECK(at == last ? i == record->ncells - 1 : *at == dialect->delimiter);
		at++;
	}
	free(cell);
}

static void
check_record(const Input *input, const OmCsvRecord *record, const OmCsvPlace *before)
{
	CHECK(record->record_no == before->record_no + 1);
	CHECK(record->end.record_no == record->record_no);
	CHECK(record->line_no > before->line_no && record->line_no <= record->end.line_no);
	CHECK(record->end.offset > before->offset && record->end.offset <= (int64) input->size);
	check_text(record->raw, record->raw_length);
	CHECK((record->sqlstate == 0) == (record->error == NULL));
	if (record->sqlstate != 0)
	{
		check_text(record->error, strlen(record->error));
		CHECK(record->raw_length <= OM_CSV_MAX_RAW * 4 && record->ncells == 0);
		return;
	}
	CHECK(record->ncells > 0 && record->ncells <= OM_CSV_MAX_CELLS);
	for (int i = 0; i < record->ncells; i++)
	{
		if (record->cells[i] == NULL)
			continue;
		CHECK(strlen(record->cells[i]) == record->lengths[i]);
		CHECK(record->lengths[i] <= (size_t) input->dialect.max_field_bytes);
		check_text(record->cells[i], record->lengths[i]);
	}
	if (!input->dialect.trim && input->dialect.escape == input->dialect.quote)
		check_cells(&input->dialect, record);
}

static uint64
mix(uint64 hash, const void *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ ((const unsigned char *) data)[i]) * 0x100000001B3;
	return hash;
}

static uint64
mix_record(uint64 hash, const OmCsvRecord *record)
{
	hash = mix(hash, &record->end, sizeof(record->end));
	hash = mix(hash, &record->line_no, sizeof(record->line_no));
	hash = mix(hash, record->raw, record->raw_length);
	if (record->sqlstate != 0)
		return mix(hash, record->error, strlen(record->error) + 1);
	for (int i = 0; i < record->ncells; i++)
		hash = record->cells[i] == NULL ? mix(hash, "N", 1)
										: mix(hash, record->cells[i], record->lengths[i] + 1);
	return hash;
}

#define MAX_KEPT 64

typedef struct Result
{
	bool is_refused;
	int count;
	uint64 hash;                 /* of all records */
	OmCsvPlace places[MAX_KEPT]; /* behind the first ones */
	uint64 hashes[MAX_KEPT];     /* of one by itself */
} Result;

static Result
read_all(const Input *input, size_t step, const OmCsvPlace *start)
{
	OmBytes bytes = {.data = input->data, .size = input->size, .step = step};
	OmCsvPlace before = {.record_no = -input->dialect.header};
	MemoryContext context = AllocSetContextCreate(NULL, "fuzz", 0);
	volatile Result result = {.hash = 14695981039346656037u};

	if (start != NULL)
		before = *start;
	MemoryContextSwitchTo(context);
	if (setjmp(on_error) == 0)
	{
		OmCsvReader *reader = om_csv_open(&bytes, &input->dialect, start);
		OmCsvRecord record;

		while (om_csv_next(reader, &record))
		{
			check_record(input, &record, &before);
			before = record.end;
			if (result.count < MAX_KEPT)
			{
				result.places[result.count] = record.end;
				result.hashes[result.count] = mix_record(0, &record);
			}
			result.count++;
			result.hash = mix_record(result.hash, &record);
		}
		CHECK(!om_csv_next(reader, &record));
		CHECK(memory_used(contexts) <
			  512 * 1024 +
				  24 * Max((size_t) input->dialect.max_field_bytes * 4, OM_CSV_MIN_RECORD_LIMIT));
		om_csv_close(reader);
	}
	else
		result.is_refused = true;
	while (contexts != NULL)
		MemoryContextDelete(contexts);
	return *(Result *) &result;
}

/* Reading on from behind a record gives the records behind it. */
static void
check_places(const Input *input, const Result *all, int which)
{
	Result rest = read_all(input, 997, &all->places[which]);

	CHECK(!rest.is_refused && rest.count == all->count - which - 1);
	for (int i = 0; i < rest.count && which + 1 + i < MAX_KEPT; i++)
		CHECK(rest.hashes[i] == all->hashes[which + 1 + i]);
}

/* --- inputs ----------------------------------------------------------------------------------- */

#define NCHOICES 6
#define MAX_REPEATED 6000

static OmDialect
choose_dialect(const uint8 *choices)
{
	static const char delimiters[] = {',', ';', '\t', '|', ' ', 'x'};
	static const char quotes[] = {'"', '"', '\'', '\0'};
	static const char escapes[] = {'\0', '\0', '\\', '^'};
	static const char *const nulls[] = {"", NULL, "NULL", "\\N"};
	static const int bounds[] = {4000, 1, 7, 300};
	static const int lines[] = {1000, 1, 2, 5};
	OmDialect dialect = {.delimiter = delimiters[choices[0] % 6],
						 .quote = quotes[choices[1] % 4],
						 .null = nulls[choices[2] % 4],
						 .keep_stray_quotes = choices[2] & 4,
						 .trim = choices[2] & 8,
						 .header = choices[3] & 1,
						 .skip_lines = choices[3] >> 1 & 3,
						 .encoding = choices[3] & 8 ? PG_LATIN1 : -1,
						 .max_field_bytes = bounds[choices[4] & 3],
						 .max_record_lines = lines[choices[4] >> 2 & 3]};

	dialect.escape = escapes[choices[1] >> 2 & 3];
	if (dialect.escape == '\0' || dialect.quote == '\0')
		dialect.escape = dialect.quote;
	return dialect;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	Input input;
	Result all;
	Result pieces;

	if (size < NCHOICES)
		return 0;
	input.dialect = choose_dialect(data);
	/* Repeated, a short input also fills blocks. */
	input.size = size - NCHOICES;
	input.data = (const char *) data + NCHOICES;
	if (data[5] & 0x80)
	{
		size_t times = 1 + Min((size_t) (data[5] & 0x7F), MAX_REPEATED / (input.size + 1));
		char *repeated = malloc(input.size * times + 1);

		for (size_t i = 0; i < times; i++)
			memcpy(repeated + i * input.size, input.data, input.size);
		input.data = repeated;
		input.size *= times;
	}
	all = read_all(&input, SIZE_MAX, NULL);
	pieces = read_all(&input, 1 + data[5] % 61, NULL);
	CHECK(all.is_refused == pieces.is_refused && all.count == pieces.count &&
		  all.hash == pieces.hash);
	if (all.count > 0)
	{
		check_places(&input, &all, 0);
		check_places(&input, &all, (Min(all.count, MAX_KEPT) - 1) / 2);
		check_places(&input, &all, Min(all.count, MAX_KEPT) - 1);
	}
	if (data[5] & 0x80)
		free((void *) input.data);
	return 0;
}
