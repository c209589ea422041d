/*
 * csvreader.c
 *		Puts records together from lines; libcsv parses their cells.
 *
 * libcsv gets a line at a time without its end, and after each it is asked
 * whether a record could end here (csv_fini()).  So it never decides what a line
 * end is, and lines, places, raw text and bounds are known here.  What it would
 * do by itself and must not: trim blanks, take a lone CR for a line end, swallow
 * the rest of the file when a quote is not closed.
 *
 * A record whose end is not to be found (an unclosed quote, text behind a
 * closing one, too many lines or bytes) is reported once, for its first line,
 * and its second line begins the next record.  A record that is wrong in itself
 * (encoding, NUL bytes, a cell too long) is reported as a whole.
 *
 * Asking functions of ours about each byte makes libcsv up to three times as
 * slow as comparing by itself.  So they are set only for lines on which they
 * would answer otherwise: those with a lone CR, or a blank at the edge of a cell.
 *
 * Nothing is allocated for a cell or a record: buffers grow and are used again.
 * This and csvlines.c and csvtext.c are also built outside the server, by
 * test/fuzz.
 */
#include "postgres.h"

#include <csv.h>

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "csvlines.h"
#include "csvreader.h"
#include "csvtext.h"
#include "errors.h"
#include "jsonout.h"

#define STRICT (CSV_STRICT | CSV_STRICT_FINI)
#define MAX_MESSAGE 200
#define NO_CELL SIZE_MAX

typedef enum Verdict
{
	FINE,
	BAD,     /* the record, as a whole */
	ENDLESS, /* its first line, because its end is not to be found */
	TOO_LONG /* the same, and not even that line is kept */
} Verdict;

struct OmCsvReader
{
	MemoryContext context;
	OmCsvLines lines;
	OmCsvText text;
	const OmDialect *dialect;
	struct csv_parser parser;
	unsigned char options;
	int asks; /* functions of ours are set for these */
	size_t null_length;
	bool one_column;
	OmCsvPlace place;

	/* the record under way */
	int64 nlines;
	OmCsvLine first;
	Verdict verdict;
	int sqlstate;
	char message[MAX_MESSAGE];
	bool has_quotes;
	size_t cursor;    /* where in the text the next cell begins */
	OmCsvBuffer data; /* of the cells */
	int ncells;
	int max_cells;
	size_t *starts;
	size_t *lengths;
	char **cells;
};

/* --- memory ----------------------------------------------------------------------------------- */

/* libcsv does not say for whom it allocates. */
static MemoryContext parser_context;

static void *
reallocate(void *memory, size_t size)
{
	return memory == NULL ? MemoryContextAlloc(parser_context, size) : repalloc(memory, size);
}

static void
deallocate(void *memory)
{
	if (memory != NULL)
		pfree(memory);
}

static void
reserve_cells(OmCsvReader *reader)
{
	if (reader->ncells < reader->max_cells)
		return;
	reader->max_cells *= 2;
	reader->starts = repalloc(reader->starts, sizeof(size_t) * reader->max_cells);
	reader->lengths = repalloc(reader->lengths, sizeof(size_t) * reader->max_cells);
	reader->cells = repalloc(reader->cells, sizeof(char *) * reader->max_cells);
}

/* --- verdicts --------------------------------------------------------------------------------- */

/* The first reason counts, unless a later one says that the end is not to be found. */
static void pg_attribute_printf(4, 5)
	judge(OmCsvReader *reader, Verdict verdict, int sqlstate, const char *format, ...)
{
	va_list args;

	if (verdict <= reader->verdict)
		return;
	reader->verdict = verdict;
	reader->sqlstate = sqlstate;
	va_start(args, format);
	vsnprintf(reader->message, MAX_MESSAGE, format, args);
	va_end(args);
}

/* --- cells ------------------------------------------------------------------------------------ */

/*
 * Moves the cursor over a cell in what libcsv was given, and says whether it is
 * quoted, which libcsv does not.  Quotes inside a quoted cell are doubled.
 */
static bool
pass_cell(OmCsvReader *reader, const char *cell, size_t length)
{
	const OmDialect *dialect = reader->dialect;
	const char *at = reader->text.start + reader->cursor;
	const char *end = reader->text.start + reader->text.length;
	bool is_quoted;

	while (dialect->trim && at < end && om_csv_is_blank(*at, dialect))
		at++;
	is_quoted = at < end && *at == dialect->quote;
	at += length + (is_quoted ? 2 : 0);
	for (size_t i = 0; is_quoted && i < length; i++)
		at += cell[i] == dialect->quote;
	while (at < end && om_csv_is_blank(*at, dialect))
		at++;
	reader->cursor = at + 1 - reader->text.start;
	return is_quoted;
}

static bool
is_null(OmCsvReader *reader, const char *cell, size_t length)
{
	bool is_quoted = false;

	if (cell == NULL)
		return true;
	if (reader->null_length == 0)
		return false;
	if (reader->has_quotes)
		is_quoted = pass_cell(reader, cell, length);
	return !is_quoted && length == reader->null_length &&
		   memcmp(cell, reader->dialect->null, length) == 0;
}

/* Called by libcsv; NULL stands for an unquoted cell without anything. */
static void
take_cell(void *cell, size_t length, void *arg)
{
	OmCsvReader *reader = arg;
	bool is_missing = is_null(reader, cell, length);

	if (length > (size_t) reader->dialect->max_field_bytes)
		judge(reader, BAD, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			  "cell %d has %zu bytes, more than max_field_bytes (%d)", reader->ncells + 1, length,
			  reader->dialect->max_field_bytes);
	if (reader->ncells == OM_CSV_MAX_CELLS)
		judge(reader, BAD, ERRCODE_TOO_MANY_COLUMNS, "the record has more than %d cells",
			  OM_CSV_MAX_CELLS);
	if (reader->verdict != FINE)
		return;
	reserve_cells(reader);
	reader->starts[reader->ncells] = is_missing ? NO_CELL : reader->data.length;
	reader->lengths[reader->ncells++] = is_missing ? 0 : length;
	if (is_missing)
		return;
	/* Room for all of the line was made before. */
	memcpy(reader->data.data + reader->data.length, cell, length);
	reader->data.data[reader->data.length + length] = '\0';
	reader->data.length += length + 1;
}

static int
answer_no(unsigned char c pg_attribute_unused())
{
	return 0;
}

/* Where libcsv would take a byte for a line end or a blank that is none here, it asks us. */
static void
set_questions(OmCsvReader *reader, int has)
{
	int asks = has & (OM_CSV_HAS_END | (reader->dialect->trim ? 0 : OM_CSV_HAS_EDGE));

	if (asks == reader->asks)
		return;
	csv_set_term_func(&reader->parser, asks & OM_CSV_HAS_END ? answer_no : NULL);
	csv_set_space_func(&reader->parser, asks & OM_CSV_HAS_EDGE ? answer_no : NULL);
	reader->asks = asks;
}

/* A quote inside an unquoted cell: data, if that is wanted. */
static bool
keep_quote(OmCsvReader *reader, const char *quote)
{
	if (!reader->dialect->keep_stray_quotes)
	{
		judge(reader, ENDLESS, ERRCODE_BAD_COPY_FILE_FORMAT,
			  "a quote stands inside the unquoted cell %d", reader->ncells + 1);
		return false;
	}
	csv_set_opts(&reader->parser, reader->options & ~STRICT);
	csv_parse(&reader->parser, quote, 1, take_cell, NULL, reader);
	csv_set_opts(&reader->parser, reader->options);
	return true;
}

/* How many blanks stand between a closing quote and the end of its cell; -1: there is text. */
static int64
count_blanks(OmCsvReader *reader, const char *text, size_t length)
{
	size_t count = 0;

	while (count < length && om_csv_is_blank(text[count], reader->dialect))
		count++;
	if (count > 0 && (count == length || text[count] == reader->dialect->delimiter))
		return count;
	judge(reader, ENDLESS, ERRCODE_BAD_COPY_FILE_FORMAT,
		  "text stands behind the closing quote of cell %d", reader->ncells + 1);
	return -1;
}

/* Parses text; false where libcsv refuses it, and nothing helps. */
static bool
parse(OmCsvReader *reader, const char *text, size_t length)
{
	size_t done = 0;

	parser_context = reader->context;
	while ((done += csv_parse(&reader->parser, text + done, length - done, take_cell, NULL,
							  reader)) < length)
	{
		if (!reader->parser.quoted)
		{
			if (!keep_quote(reader, text + done))
				return false;
			done++;
		}
		else
		{
			int64 blanks = count_blanks(reader, text + done, length - done);

			if (blanks < 0)
				return false;
			done += blanks;
		}
	}
	return true;
}

/* Could the record end here?  If so, libcsv is ready for the next one. */
static bool
end_record(OmCsvReader *reader)
{
	return csv_fini(&reader->parser, take_cell, NULL, reader) == 0;
}

static void
forget_record(OmCsvReader *reader)
{
	csv_set_opts(&reader->parser, 0);
	csv_fini(&reader->parser, NULL, NULL, NULL);
	csv_set_opts(&reader->parser, reader->options);
}

/* --- records ---------------------------------------------------------------------------------- */

static void
begin_record(OmCsvReader *reader)
{
	om_csv_lines_begin_record(&reader->lines);
	om_csv_text_begin(&reader->text);
	reader->nlines = 0;
	reader->verdict = FINE;
	reader->has_quotes = false;
	reader->cursor = 0;
	reader->data.length = 0;
	reader->ncells = 0;
}

static void
judge_byte(OmCsvReader *reader, const char *line, size_t length, size_t at)
{
	long long line_no = reader->place.line_no + reader->nlines;
	char bytes[3 * 4 + 1] = "";

	for (size_t i = 0; i < Min(length - at, 4); i++)
		sprintf(bytes + 3 * i, " %02x", (uint8) line[at + i]);
	if (line[at] == '\0')
		judge(reader, BAD, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
			  "byte %zu of line %lld is a NUL byte", at + 1, line_no);
	else
		judge(reader, BAD, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
			  "byte %zu of line %lld is no character of encoding %s:%s", at + 1, line_no,
			  pg_encoding_to_char(reader->text.encoding), bytes);
}

/* False where libcsv refuses the line. */
static bool
add_line(OmCsvReader *reader, const OmCsvLine *line)
{
	const char *raw = om_csv_lines_record(&reader->lines);
	int has = om_csv_look_through(raw + line->start, line->length, reader->dialect,
								  reader->lines.newline == '\n' ? '\r' : '\n');
	size_t length = line->length;
	size_t bad;
	const char *text = om_csv_text_add_line(&reader->text, raw, line->start, &length, has,
											reader->nlines > 1 /* in_quotes */, &bad);

	if (bad < line->length)
		judge_byte(reader, raw + line->start, line->length, bad);
	if (has & OM_CSV_HAS_QUOTE)
		reader->has_quotes = true;
	/* Each cell takes a byte more than it has, as it does in the line. */
	om_csv_buffer_reserve(&reader->data, reader->parser.entry_pos + length + 1);
	set_questions(reader, has);
	return parse(reader, text, length);
}

/* A line end inside quotes is data, as it stands in the file. */
static void
add_line_end(OmCsvReader *reader, const OmCsvLine *line)
{
	const char *end = om_csv_lines_record(&reader->lines) + line->start + line->length;
	size_t length = line->whole - line->length;

	om_csv_text_add_end(&reader->text, end, length);
	(void) parse(reader, end, length);
}

/* Adds line after line until the record could end; the verdict tells how that went. */
static void
gather_record(OmCsvReader *reader, OmCsvLine *line)
{
	for (;;)
	{
		OmCsvLineResult result;

		if (!add_line(reader, line) || end_record(reader))
			return;
		add_line_end(reader, line);
		if (reader->nlines == reader->dialect->max_record_lines)
		{
			judge(reader, ENDLESS, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
				  "a quote is not closed within max_record_lines (%d)",
				  reader->dialect->max_record_lines);
			return;
		}
		result = om_csv_lines_next(&reader->lines, line);
		if (result == OM_CSV_NO_LINE)
			judge(reader, ENDLESS, ERRCODE_BAD_COPY_FILE_FORMAT, "a quote is never closed");
		else if (result == OM_CSV_TOO_LONG)
			judge(reader, ENDLESS, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
				  "a quote is not closed within %zu bytes", reader->lines.limit);
		if (result != OM_CSV_LINE)
			return;
		reader->nlines++;
	}
}

/* The cells of a record without errors. */
static void
show_cells(OmCsvReader *reader, const OmCsvLine *last, OmCsvRecord *record)
{
	for (int i = 0; i < reader->ncells; i++)
		reader->cells[i] =
			reader->starts[i] == NO_CELL ? NULL : reader->data.data + reader->starts[i];
	record->ncells = reader->ncells;
	record->cells = reader->cells;
	record->lengths = reader->lengths;
	record->raw = om_csv_lines_record(&reader->lines);
	record->raw_length = last->start + last->length;
	if (OidIsValid(reader->text.conversion))
	{
		record->raw = reader->text.converted.data;
		record->raw_length = reader->text.converted.length;
	}
	record->raw_is_exact = true;
}

/* Reports a bad record, and puts the lines behind it. */
static void
show_error(OmCsvReader *reader, const OmCsvLine *last, OmCsvRecord *record)
{
	const char *raw = om_csv_lines_record(&reader->lines);
	bool is_whole = reader->verdict == BAD;

	record->sqlstate = reader->sqlstate;
	record->error = reader->message;
	record->raw = om_csv_text_show(&reader->text, raw,
								   is_whole ? last->start + last->length : reader->first.length,
								   !is_whole, OM_CSV_MAX_RAW, &record->raw_length);
	record->raw_is_exact = is_whole && om_csv_text_is_shown_as_is(&reader->text);
	if (is_whole)
		return;
	forget_record(reader);
	if (reader->verdict == TOO_LONG)
		om_csv_lines_discard(&reader->lines);
	else
		om_csv_lines_begin_at(&reader->lines, reader->first.whole);
	reader->nlines = 1;
}

/* The first line of the next record; false: there is none. */
static bool
find_first(OmCsvReader *reader)
{
	OmCsvLineResult result;

	begin_record(reader);
	result = om_csv_lines_next(&reader->lines, &reader->first);
	if (result == OM_CSV_NO_LINE)
		return false;
	reader->nlines = 1;
	if (result == OM_CSV_TOO_LONG)
	{
		judge(reader, TOO_LONG, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the line is longer than %zu bytes",
			  reader->lines.limit);
		reader->first = (OmCsvLine){.length = reader->lines.limit};
	}
	return true;
}

/* Reads the next record that is not blank; the last line of it. */
static bool
read_record(OmCsvReader *reader, OmCsvLine *last)
{
	while (find_first(reader))
	{
		*last = reader->first;
		if (reader->verdict == FINE)
			gather_record(reader, last);
		if (reader->verdict != FINE || reader->ncells > 0)
			return true;
		/* In a file of one column an empty line is a record with an empty cell. */
		if (reader->one_column)
		{
			take_cell(reader->options & CSV_EMPTY_IS_NULL ? NULL : "", 0, reader);
			return true;
		}
		reader->place.line_no += reader->nlines;
	}
	return false;
}

bool
om_csv_next(OmCsvReader *reader, OmCsvRecord *record)
{
	OmCsvLine last;

	if (!read_record(reader, &last))
		return false;
	*record = (OmCsvRecord){.line_no = reader->place.line_no + 1};
	if (reader->verdict == FINE)
		show_cells(reader, &last, record);
	else
		show_error(reader, &last, record);
	reader->place.offset = om_csv_lines_offset(&reader->lines);
	reader->place.line_no += reader->nlines;
	record->record_no = ++reader->place.record_no;
	record->end = reader->place;
	return true;
}

/* --- opening ---------------------------------------------------------------------------------- */

static void
count_cell(void *cell pg_attribute_unused(), size_t length pg_attribute_unused(), void *count)
{
	++*(int *) count;
}

/* Does the first record that is not blank have one cell?  True also where there is none. */
static bool
is_of_one_column(OmCsvReader *reader)
{
	OmCsvLines *lines = &reader->lines;
	const char *at;
	const char *end;
	size_t size;
	int count = 0;

	size = om_csv_lines_look_ahead(lines);
	at = lines->data + lines->next;
	end = at + size;
	parser_context = reader->context;
	while (at < end && count == 0)
	{
		const char *line_end = memchr(at, lines->newline, end - at);
		size_t whole = (line_end == NULL ? end : line_end + 1) - at;
		size_t length = whole - (line_end != NULL);

		if (length > 0 && lines->newline == '\n' && at[length - 1] == '\r')
			length--;
		csv_set_opts(&reader->parser, 0);
		csv_parse(&reader->parser, at, length, count_cell, NULL, &count);
		csv_set_opts(&reader->parser, STRICT);
		if (csv_fini(&reader->parser, count_cell, NULL, &count) != 0)
			csv_parse(&reader->parser, at + length, whole - length, count_cell, NULL, &count);
		at += whole;
	}
	forget_record(reader);
	return count <= 1;
}

static void
start_parser(OmCsvReader *reader)
{
	const OmDialect *dialect = reader->dialect;

	reader->options = STRICT;
	if (dialect->null != NULL && *dialect->null == '\0')
		reader->options |= CSV_EMPTY_IS_NULL;
	else if (dialect->null != NULL)
		reader->null_length = strlen(dialect->null);
	if (csv_init(&reader->parser, reader->options) != 0)
		elog(ERROR, "could not start libcsv");
	csv_set_realloc_func(&reader->parser, reallocate);
	csv_set_free_func(&reader->parser, deallocate);
	csv_set_blk_size(&reader->parser, OM_CSV_BLOCK_SIZE);
	csv_set_delim(&reader->parser, dialect->delimiter);
	/* Where there are no quotes, what no line has in it: the end of one. */
	csv_set_quote(&reader->parser, dialect->quote == '\0' ? reader->lines.newline : dialect->quote);
}

static void
skip_lines(OmCsvReader *reader)
{
	for (int i = 0; i < reader->dialect->skip_lines; i++)
	{
		OmCsvLine line;

		om_csv_lines_begin_record(&reader->lines);
		switch (om_csv_lines_next(&reader->lines, &line))
		{
			case OM_CSV_NO_LINE:
				return;
			case OM_CSV_TOO_LONG:
				om_csv_lines_discard(&reader->lines);
				break;
			case OM_CSV_LINE:
				break;
		}
		reader->place.line_no++;
	}
}

static void
go_to(OmCsvReader *reader, const OmCsvPlace *start)
{
	if (!om_csv_lines_go_to(&reader->lines, start->offset))
		ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
						errmsg("\"%s\" is shorter than it was", om_bytes_name(reader->lines.bytes)),
						om_errdetail("source", om_bytes_name(reader->lines.bytes)),
						errhint("Put back the file that was read before, or begin anew.")));
	reader->place = *start;
}

OmCsvReader *
om_csv_open(OmBytes *bytes, const OmDialect *dialect, const OmCsvPlace *start)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt CSV", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmCsvReader *reader = palloc0(sizeof(OmCsvReader));

	reader->context = context;
	reader->dialect = dialect;
	reader->max_cells = 64;
	reader->starts = palloc(sizeof(size_t) * reader->max_cells);
	reader->lengths = palloc(sizeof(size_t) * reader->max_cells);
	reader->cells = palloc(sizeof(char *) * reader->max_cells);
	reader->data.context = context;
	om_csv_buffer_reserve(&reader->data, 1);
	om_csv_lines_open(&reader->lines, bytes, dialect->quote,
					  Max((size_t) dialect->max_field_bytes * 4, OM_CSV_MIN_RECORD_LIMIT));
	om_csv_text_open(&reader->text, dialect, reader->lines.has_mark, om_bytes_name(bytes));
	start_parser(reader);
	reader->place.record_no = -dialect->header;
	skip_lines(reader);
	reader->one_column = is_of_one_column(reader);
	if (start != NULL && start->offset > 0)
		go_to(reader, start);
	MemoryContextSwitchTo(caller);
	return reader;
}

void
om_csv_close(OmCsvReader *reader)
{
	MemoryContextDelete(reader->context);
}
