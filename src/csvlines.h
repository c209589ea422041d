/*
 * csvlines.h
 *		The physical lines of a CSV file, kept as long as their record is under way.
 */
#ifndef OM_CSVLINES_H
#define OM_CSVLINES_H

#include "postgres.h"

#include "bytes.h"

/* How much is read at a time, and what a record may have whatever its cells; small in test/fuzz. */
#ifndef OM_CSV_BLOCK_SIZE
#define OM_CSV_BLOCK_SIZE (128 * 1024)
#define OM_CSV_MIN_RECORD_LIMIT (64 * 1024)
#endif

typedef struct OmCsvLines
{
	MemoryContext context;
	OmBytes *bytes;
	size_t limit;  /* of a record */
	char newline;  /* the last byte of a line end */
	bool has_mark; /* begins with UTF-8's byte order mark */
	bool ended;    /* all bytes have been read */
	char *data;
	size_t capacity;
	size_t record; /* where the record under way begins; what is before may go */
	size_t next;   /* where the next line begins */
	size_t filled;
	int64 offset; /* of data[0] in the stream */
} OmCsvLines;

/* Positions are counted from the beginning of the record. */
typedef struct OmCsvLine
{
	size_t start;
	size_t length; /* without its end */
	size_t whole;  /* with it */
} OmCsvLine;

typedef enum OmCsvLineResult
{
	OM_CSV_LINE,
	OM_CSV_NO_LINE, /* the end of the file */
	OM_CSV_TOO_LONG /* the record is longer than its limit, of which all has been read */
} OmCsvLineResult;

/*
 * Reads the first block and finds out about line ends, which may differ inside
 * quotes.  UTF-16 and UTF-32 are OM007.
 */
extern void om_csv_lines_open(OmCsvLines *lines, OmBytes *bytes, char quote, size_t limit);

/* Goes on at this byte of the stream; false where it ends before. */
extern bool om_csv_lines_go_to(OmCsvLines *lines, int64 offset);

extern OmCsvLineResult om_csv_lines_next(OmCsvLines *lines, OmCsvLine *line);

/* The next record begins with the next line, or at a position of the one under way. */
extern void om_csv_lines_begin_record(OmCsvLines *lines);
extern void om_csv_lines_begin_at(OmCsvLines *lines, size_t position);

/* How much can be looked at from the next line on: a block, unless the file ends before. */
extern size_t om_csv_lines_look_ahead(OmCsvLines *lines);

/* Passes over the rest of a line, however long it is. */
extern void om_csv_lines_discard(OmCsvLines *lines);

/* Where the record under way stands; valid until the next line is asked for. */
static inline const char *
om_csv_lines_record(const OmCsvLines *lines)
{
	return lines->data + lines->record;
}

/* Where in the stream the next line begins. */
static inline int64
om_csv_lines_offset(const OmCsvLines *lines)
{
	return lines->offset + lines->next;
}

#endif /* OM_CSVLINES_H */
