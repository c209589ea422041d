/*
 * archives.h
 *		Table archives: which months have been archived, and where they are.
 *
 * Who looks for a month here has locked the table that it is one of (AccessShare
 * or more) before, and found no partition: then the row stays as it is to the end of
 * the transaction.  Rows are written under OM_LOCK_ARCHIVE only.
 */
#ifndef OM_ARCHIVES_H
#define OM_ARCHIVES_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "archivemanifest.h"

typedef struct OmArchive
{
	char *schema_name;
	char *table_name; /* parent of the partition */
	DateADT month;    /* its first day */
	bool cold;        /* only the file has it; else it has been restored */
	char *partition_name;
	char *lower_bound;
	char *upper_bound;
	char *file; /* without endings, as archivefile.h says */
	int64 rows;
	int64 bytes_raw;
	int64 bytes_packed;
	uint8 sha256[OM_SHA256_SIZE];
	uint8 manifest_sha256[OM_SHA256_SIZE];
	int nkeys; /* columns in the order of which the rows are; from here on as found, not put */
	char **keys;
	char **first_key; /* of the first row, as text; NULL: there is none */
	char **last_key;
} OmArchive;

/* As the latest snapshot shows it; NULL: it was never archived. */
extern OmArchive *om_archives_find(const char *schema_name, const char *table_name, DateADT month);

/* True while the partition of a table of ours that holds a time is in a file only. */
extern bool om_archives_is_cold(const char *table_name, TimestampTz at);

/* True while the sums of a month of ours (its first instant) are kept: it is in a file, or gone. */
extern bool om_archives_is_counted(TimestampTz month);

/* The month has just been written: a new row, or that of an earlier archive again. */
extern void om_archives_put(const OmArchive *archive, const OmArchiveManifest *manifest);

/* The month is back. */
extern void om_archives_set_restored(const OmArchive *archive);

/* Files that rows name, without endings: a list of names. */
extern List *om_archives_files(void);

/* OM005: what is asked for would need the month. */
extern void om_archives_raise_cold(DateADT month) __attribute__((noreturn));

/* OM005: there is not even an archive of it any more. */
extern void om_archives_raise_gone(DateADT month) __attribute__((noreturn));

/* The first day of the month of a time, in UTC; and the text 2026-03. */
extern DateADT om_archives_month(TimestampTz at);
extern char *om_archives_month_text(DateADT month);

#endif /* OM_ARCHIVES_H */
