/*
 * archivemanifest.h
 *		What stands beside an archived month: the manifest, as JSON.
 *
 * docs/archive.md describes it, field by field.
 */
#ifndef OM_ARCHIVEMANIFEST_H
#define OM_ARCHIVEMANIFEST_H

#include "postgres.h"

#define OM_ARCHIVE_FORMAT "order_mgmt archive"
#define OM_ARCHIVE_VERSION 1
#define OM_SHA256_SIZE 32

typedef struct OmArchiveColumn
{
	char *name;
	char *type; /* as PostgreSQL writes it, with its schema */
} OmArchiveColumn;

/* Some rows that are packed together. */
typedef struct OmArchiveFrame
{
	int64 offset; /* in the file */
	int64 size;
	int64 raw_size;
	int64 rows;
	char **first; /* key of the first row, as text; one for each key column */
	char **last;
} OmArchiveFrame;

typedef struct OmArchiveManifest
{
	char *database;
	char *schema_name;
	char *table_name;
	char *owner; /* of the table; NULL: it was not written down yet */
	char *partition_name;
	char *month; /* 2026-03 */
	char *lower_bound;
	char *upper_bound;
	int schema_version;
	char *archived_at;
	int ncolumns;
	OmArchiveColumn *columns;
	int nkeys; /* the rows are in the order of these columns */
	char **keys;
	char *time_column;
	char *first_at; /* least and greatest value of that; NULL: there is no row */
	char *last_at;
	int64 rows;
	int64 raw_size;    /* of the CSV, with its header */
	int64 header_size; /* of the frame of the header, with which the file begins */
	int64 packed_size;
	uint8 sha256[OM_SHA256_SIZE];     /* of the file */
	uint8 raw_sha256[OM_SHA256_SIZE]; /* of the CSV */
	int nframes;
	OmArchiveFrame *frames; /* those with rows */
} OmArchiveManifest;

/* The JSON in UTF-8; and back, where ERRCODE_DATA_CORRUPTED says what is wrong with it. */
extern char *om_manifest_to_json(const OmArchiveManifest *manifest);
extern OmArchiveManifest *om_manifest_from_json(const char *json, const char *file);

/* Keys of the first and the last row of all; NULL where there is none. */
extern char **om_manifest_first_key(const OmArchiveManifest *manifest);
extern char **om_manifest_last_key(const OmArchiveManifest *manifest);

/* A hash as text. */
extern char *om_manifest_hex(const uint8 sha256[OM_SHA256_SIZE]);

#endif /* OM_ARCHIVEMANIFEST_H */
