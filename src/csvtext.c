/*
 * csvtext.c
 *		Looks through lines, checks or converts their encoding, and rewrites
 *		escapes that libcsv does not know.
 *
 * Most lines need nothing of it: they are looked through 16 bytes at a time and
 * handed on where they stand.  Of a record whose lines are converted or
 * rewritten all lines are, so that they stand one behind the other.
 *
 * Lines are converted before they are parsed: in some encodings the second byte
 * of a character looks like a delimiter.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "csvtext.h"
#include "errors.h"
#include "jsonout.h"

/* --- buffers ---------------------------------------------------------------------------------- */

void
om_csv_buffer_reserve(OmCsvBuffer *buffer, size_t more)
{
	size_t needed = buffer->length + more;

	if (needed <= buffer->capacity)
		return;
	buffer->capacity = Max(needed, Max(buffer->capacity * 2, 1024));
	if (buffer->data == NULL)
		buffer->data = MemoryContextAllocHuge(buffer->context, buffer->capacity);
	else
		buffer->data = repalloc_huge(buffer->data, buffer->capacity);
}

static void
append(OmCsvBuffer *buffer, const char *data, size_t length)
{
	om_csv_buffer_reserve(buffer, length + 1);
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
}

/* --- what is in a line ------------------------------------------------------------------------ */

typedef uint8 Bytes16 __attribute__((vector_size(16), aligned(1), may_alias));

/* Each has a byte other than zero where the line has what it is named after. */
typedef struct Findings
{
	Bytes16 quote;
	Bytes16 escape;
	Bytes16 nul;
	Bytes16 high;
	Bytes16 edge;
	Bytes16 end;
} Findings;

static inline bool
is_any(Bytes16 bytes)
{
	uint64 halves[2];

	memcpy(halves, &bytes, sizeof(halves));
	return (halves[0] | halves[1]) != 0;
}

static inline Bytes16
is_byte(Bytes16 bytes, char byte)
{
	return (Bytes16) (bytes == (uint8) byte);
}

/* Looks at 16 bytes, and for edges at the one behind them. */
static inline void
look_at(const char *at, const OmDialect *dialect, char other_newline, Findings *findings)
{
	Bytes16 here = *(const Bytes16 *) at;
	Bytes16 behind = *(const Bytes16 *) (at + 1);
	/* A delimiter is no blank. */
	char tab = dialect->delimiter == '\t' ? ' ' : '\t';
	char space = dialect->delimiter == ' ' ? '\t' : ' ';
	Bytes16 quote = is_byte(here, dialect->quote);
	Bytes16 mark = quote | is_byte(here, dialect->delimiter);
	Bytes16 mark_behind = is_byte(behind, dialect->quote) | is_byte(behind, dialect->delimiter);
	Bytes16 blank = is_byte(here, tab) | is_byte(here, space);
	Bytes16 blank_behind = is_byte(behind, tab) | is_byte(behind, space);

	findings->quote |= quote;
	findings->escape |= is_byte(here, dialect->escape);
	findings->nul |= is_byte(here, '\0');
	findings->high |= here & 0x80;
	findings->edge |= (blank & mark_behind) | (mark & blank_behind);
	findings->end |= is_byte(here, other_newline);
}

int
om_csv_look_through(const char *line, size_t length, const OmDialect *dialect, char other_newline)
{
	Findings findings = {0};
	char rest[2 * sizeof(Bytes16)];
	size_t at = 0;

	if (length == 0)
		return 0;
	for (; at + sizeof(Bytes16) < length; at += sizeof(Bytes16))
		look_at(line + at, dialect, other_newline, &findings);
	/* Up to 16 more, filled up with what is nothing in particular. */
	memset(rest, 'x', sizeof(rest));
	memcpy(rest, line + at, length - at);
	look_at(rest, dialect, other_newline, &findings);
	if (om_csv_is_blank(line[0], dialect) || om_csv_is_blank(line[length - 1], dialect))
		findings.edge |= 1;
	return (is_any(findings.quote) ? OM_CSV_HAS_QUOTE : 0) |
		   (is_any(findings.edge) ? OM_CSV_HAS_EDGE : 0) |
		   (is_any(findings.escape) ? OM_CSV_HAS_ESCAPE : 0) |
		   (is_any(findings.nul) ? OM_CSV_HAS_NUL : 0) |
		   (is_any(findings.high) ? OM_CSV_HAS_HIGH : 0) |
		   (is_any(findings.end) ? OM_CSV_HAS_END : 0);
}

/* --- encodings -------------------------------------------------------------------------------- */

static void
refuse_mark(int encoding, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("\"%s\" begins with the byte order mark of UTF-8, and options.encoding is %s",
					name, pg_encoding_to_char(encoding)),
			 om_errdetail("source", name), errhint("Leave options.encoding out.")));
}

static void
refuse_conversion(int from, int to, const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_OM_LOAD),
					errmsg("\"%s\" cannot be read: there is no conversion from %s to %s", name,
						   pg_encoding_to_char(from), pg_encoding_to_char(to)),
					om_errdetail("source", name),
					errhint("Convert the file first, for example with \"iconv\".")));
}

void
om_csv_text_open(OmCsvText *text, const OmDialect *dialect, bool has_mark, const char *name)
{
	int server = GetDatabaseEncoding();

	*text = (OmCsvText){.dialect = dialect};
	text->converted.context = CurrentMemoryContext;
	text->rewritten.context = CurrentMemoryContext;
	text->shown.context = CurrentMemoryContext;
	text->encoding = dialect->encoding < 0 ? PG_UTF8 : dialect->encoding;
	if (has_mark && text->encoding != PG_UTF8)
		refuse_mark(text->encoding, name);
	if (text->encoding == PG_SQL_ASCII)
		text->encoding = server;
	if (text->encoding == server || server == PG_SQL_ASCII)
		return;
	text->conversion = FindDefaultConversionProc(text->encoding, server);
	if (!OidIsValid(text->conversion))
		refuse_conversion(text->encoding, server, name);
}

/* Adds the line in the server's encoding; how much of it is text. */
static size_t
convert(OmCsvText *text, const char *line, size_t length)
{
	OmCsvBuffer *buffer = &text->converted;
	size_t room = length * MAX_CONVERSION_GROWTH + 1;
	size_t done;

	if (room > PG_INT32_MAX)
		elog(ERROR, "line too long to be converted");
	om_csv_buffer_reserve(buffer, room);
	done = pg_do_encoding_conversion_buf(
		text->conversion, text->encoding, GetDatabaseEncoding(), (unsigned char *) line, length,
		(unsigned char *) buffer->data + buffer->length, room, true /* noError */);
	if (done == length)
		buffer->length += strlen(buffer->data + buffer->length);
	return done;
}

/* --- escapes ---------------------------------------------------------------------------------- */

/*
 * An escape counts inside quotes only: before a quote the two become a doubled
 * quote, before itself one of them; elsewhere it is data.
 */
static void
rewrite(OmCsvText *text, const char *line, size_t length, bool in_quotes)
{
	const OmDialect *dialect = text->dialect;
	OmCsvBuffer *buffer = &text->rewritten;
	bool at_start = !in_quotes; /* of a cell */
	char *to;

	om_csv_buffer_reserve(buffer, length + 1);
	to = buffer->data + buffer->length;
	for (size_t i = 0; i < length; i++)
	{
		char c = line[i];
		bool is_quote = c == dialect->quote;
		bool has_next = i + 1 < length;

		*to++ = c;
		if (!in_quotes)
		{
			in_quotes = at_start && is_quote;
			at_start = c == dialect->delimiter ||
					   (at_start && dialect->trim && om_csv_is_blank(c, dialect));
		}
		else if (c == dialect->escape && has_next && line[i + 1] == dialect->quote)
		{
			to[-1] = dialect->quote;
			*to++ = line[++i];
		}
		else if (c == dialect->escape && has_next && line[i + 1] == c)
			i++;
		else if (is_quote && has_next && line[i + 1] == c)
			*to++ = line[++i];
		else if (is_quote)
			in_quotes = false;
	}
	buffer->length = to - buffer->data;
}

/* --- records ---------------------------------------------------------------------------------- */

static bool
is_converting(const OmCsvText *text)
{
	return OidIsValid(text->conversion);
}

static bool
is_rewriting(const OmCsvText *text)
{
	return text->dialect->escape != text->dialect->quote;
}

void
om_csv_text_begin(OmCsvText *text)
{
	text->converted.length = 0;
	text->rewritten.length = 0;
	text->is_valid = true;
	text->length = 0;
}

/* Adds the line to the converted ones; what is no text as it stands, to be parsed all the same. */
static size_t
add_converted(OmCsvText *text, const char *line, size_t length, int has)
{
	size_t valid = length;

	if (has & OM_CSV_HAS_HIGH)
		valid = convert(text, line, length);
	if (valid < length || !(has & OM_CSV_HAS_HIGH))
		append(&text->converted, line, length);
	return valid;
}

static size_t
check_line(OmCsvText *text, const char *line, size_t length, int has)
{
	if (has & OM_CSV_HAS_NUL)
		return (const char *) memchr(line, '\0', length) - line;
	if (is_converting(text))
		return add_converted(text, line, length, has);
	if (has & OM_CSV_HAS_HIGH)
		return pg_encoding_verifymbstr(text->encoding, line, length);
	return length;
}

const char *
om_csv_text_add_line(OmCsvText *text, const char *raw, size_t start, size_t *length, int has,
					 bool in_quotes, size_t *bad)
{
	size_t converted = text->converted.length;
	size_t rewritten = text->rewritten.length;
	const char *line = raw + start;

	*bad = check_line(text, line, *length, has);
	text->is_valid &= *bad == *length;
	text->start = raw;
	if (is_converting(text))
	{
		if (has & OM_CSV_HAS_NUL)
			append(&text->converted, line, *length);
		text->start = text->converted.data;
		line = text->start + converted;
		*length = text->converted.length - converted;
		if (converted == 0)
			text->first_length = *length;
	}
	if (is_rewriting(text))
	{
		if (has & OM_CSV_HAS_ESCAPE)
			rewrite(text, line, *length, in_quotes);
		else
			append(&text->rewritten, line, *length);
		text->start = text->rewritten.data;
		line = text->start + rewritten;
		*length = text->rewritten.length - rewritten;
	}
	text->length += *length;
	return line;
}

void
om_csv_text_add_end(OmCsvText *text, const char *end, size_t length)
{
	if (is_converting(text))
		append(&text->converted, end, length);
	if (is_rewriting(text))
		append(&text->rewritten, end, length);
	text->length += length;
}

/* --- for people ------------------------------------------------------------------------------- */

static void
show(OmCsvText *text, const char *at, const char *end, int encoding)
{
	OmCsvBuffer *shown = &text->shown;

	shown->length = 0;
	om_csv_buffer_reserve(shown, (end - at) * 4 + 1);
	while (at < end)
	{
		int size = *at == '\0' ? -1 : 1;

		if (IS_HIGHBIT_SET(*at))
			size = encoding < 0 ? -1 : pg_encoding_verifymbchar(encoding, at, end - at);
		if (size > 0)
			memcpy(shown->data + shown->length, at, size);
		else
			sprintf(shown->data + shown->length, "\\x%02X", (uint8) *at);
		shown->length += size > 0 ? size : 4;
		at += size > 0 ? size : 1;
	}
}

const char *
om_csv_text_show(OmCsvText *text, const char *raw, size_t length, bool only_first, size_t limit,
				 size_t *shown)
{
	int encoding = text->encoding;
	size_t whole;

	if (is_converting(text) && text->is_valid && text->length > 0)
	{
		encoding = GetDatabaseEncoding();
		raw = text->converted.data;
		length = only_first ? text->first_length : text->converted.length;
	}
	else if (is_converting(text))
		encoding = -1;
	whole = length;
	if (length > limit)
		length =
			encoding < 0 ? limit : (size_t) pg_encoding_mbcliplen(encoding, raw, length, limit);
	show(text, raw, raw + length, encoding);
	text->shown_as_is = length == whole && text->shown.length == length;
	*shown = text->shown.length;
	return text->shown.data;
}

bool
om_csv_text_is_shown_as_is(const OmCsvText *text)
{
	return text->shown_as_is;
}
