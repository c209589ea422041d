/*
 * csvtext.h
 *		What lines of a CSV file must be made into before libcsv can have them:
 *		text in the server's encoding whose only escape is the doubled quote.
 */
#ifndef OM_CSVTEXT_H
#define OM_CSVTEXT_H

#include "postgres.h"

#include "dialect.h"

/* Grows, and is used again. */
typedef struct OmCsvBuffer
{
	MemoryContext context;
	char *data;
	size_t length;
	size_t capacity;
} OmCsvBuffer;

extern void om_csv_buffer_reserve(OmCsvBuffer *buffer, size_t more);

/* What a line has in it; a quote and an edge may be said of one that has none. */
#define OM_CSV_HAS_QUOTE 0x01
#define OM_CSV_HAS_EDGE 0x02 /* a blank beside a delimiter, a quote or an end of the line */
#define OM_CSV_HAS_ESCAPE 0x04
#define OM_CSV_HAS_NUL 0x08
#define OM_CSV_HAS_HIGH 0x10 /* bytes that are not ASCII */
#define OM_CSV_HAS_END 0x20  /* the byte that might be a line end, and is none in this file */

extern int om_csv_look_through(const char *line, size_t length, const OmDialect *dialect,
							   char other_newline);

/* A blank that is data or not, as the dialect says. */
static inline bool
om_csv_is_blank(char c, const OmDialect *dialect)
{
	return (c == ' ' || c == '\t') && c != dialect->delimiter;
}

/* The record under way. */
typedef struct OmCsvText
{
	const OmDialect *dialect;
	int encoding;
	Oid conversion; /* to the server's encoding; InvalidOid: none is needed */
	OmCsvBuffer converted;
	OmCsvBuffer rewritten;
	OmCsvBuffer shown;
	bool shown_as_is;
	bool is_valid;       /* no byte has been found that is no text */
	size_t first_length; /* of the first line, converted */
	const char *start;   /* all lines up to now, one behind the other, line ends included */
	size_t length;
} OmCsvText;

/* OM007: there is no conversion, or the file's mark says that it is UTF-8 and the dialect no. */
extern void om_csv_text_open(OmCsvText *text, const OmDialect *dialect, bool has_mark,
							 const char *name);

extern void om_csv_text_begin(OmCsvText *text);

/*
 * Adds a line of a record that stands at raw; has is what is in the line.  The
 * result is its text.  *bad is the first byte that is no text, or the length.
 */
extern const char *om_csv_text_add_line(OmCsvText *text, const char *raw, size_t start,
										size_t *length, int has, bool in_quotes, size_t *bad);
extern void om_csv_text_add_end(OmCsvText *text, const char *end, size_t length);

/*
 * The record, or its first line, for people: valid in the server's encoding, at
 * most limit bytes of it, and what is no text as \xNN.
 */
extern const char *om_csv_text_show(OmCsvText *text, const char *raw, size_t length,
									bool only_first, size_t limit, size_t *shown);

/* Whether the last that was shown is what stands there, uncut and unescaped. */
extern bool om_csv_text_is_shown_as_is(const OmCsvText *text);

#endif /* OM_CSVTEXT_H */
