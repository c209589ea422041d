/*
 * csvreader.h
 *		Records of a CSV file, one after the other, whatever the file is like.
 */
#ifndef OM_CSVREADER_H
#define OM_CSVREADER_H

#include "postgres.h"

#include "bytes.h"
#include "dialect.h"

/* Behind a record: where to go on after an interruption.  All 0 is the beginning. */
typedef struct OmCsvPlace
{
	int64 offset;    /* in the unpacked bytes */
	int64 record_no; /* of the record before */
	int64 line_no;   /* lines before */
} OmCsvPlace;

/*
 * Either cells or an error.  Header rows come first, the last of them with the
 * number 0: data begin at 1.  A record with an error has a number like any
 * other.  Everything is in the server's encoding and free of NUL bytes.
 *
 * raw is the record as it stands in the file, without its last line end.  With
 * an error it is cut after OM_CSV_MAX_RAW bytes, and what is no text appears in
 * it as \xNN.  Where the end of a record is not to be found, its first line is
 * the one with the error, and its second line begins the next record.
 */
typedef struct OmCsvRecord
{
	int64 record_no; /* 0 and below: header */
	int64 line_no;   /* of its first line, from 1 */
	OmCsvPlace end;
	int ncells;
	char **cells; /* each ends with a NUL byte; NULL stands for SQL's NULL */
	size_t *lengths;
	int sqlstate; /* 0: no error */
	const char *error;
	const char *raw; /* no NUL byte follows */
	size_t raw_length;
	bool raw_is_exact; /* neither cut nor with \xNN in it, and all of the record */
} OmCsvRecord;

#define OM_CSV_MAX_RAW 8192
#define OM_CSV_MAX_CELLS 10000

typedef struct OmCsvReader OmCsvReader;

/*
 * Lives in the current memory context and reads bytes from their beginning,
 * wherever they are to go on.  The dialect must stay as it is.  OM007: UTF-16
 * and UTF-32, or a start that is beyond the end.
 */
extern OmCsvReader *om_csv_open(OmBytes *bytes, const OmDialect *dialect, const OmCsvPlace *start);

/* The next record, valid until the next call; false: there are no more. */
extern bool om_csv_next(OmCsvReader *reader, OmCsvRecord *record);

/* Frees the reader; the bytes stay open. */
extern void om_csv_close(OmCsvReader *reader);

#endif /* OM_CSVREADER_H */
