/*
 * archivefile.h
 *		Files of archived months: CSV in zstd frames, and the manifest beside it.
 *
 * Files are named relative to order_mgmt.archive_directory and without the
 * endings .csv.zst and .json:
 *
 *		<system identifier>-<database oid>/<schema>.<table>/<year>-<month>.<n>
 *
 * docs/archive.md describes the format.
 */
#ifndef OM_ARCHIVEFILE_H
#define OM_ARCHIVEFILE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/pg_list.h"

#include "archivemanifest.h"

#define OM_ARCHIVE_DATA ".csv.zst"
#define OM_ARCHIVE_MANIFEST ".json"

/* ---------- writing ---------- */

typedef struct OmArchiveWriter OmArchiveWriter;

/* A name that no file has; its folders are made. */
extern char *om_archive_new_file(const char *schema, const char *table, const char *month);

/*
 * The manifest says what is written: names, bounds, columns, keys.  places[] gives
 * the attribute (from 0) of each of its columns, in a row of this kind.  Should
 * the transaction fail, the files go with it.
 */
extern OmArchiveWriter *om_archive_writer_begin(const char *file, OmArchiveManifest *manifest,
												TupleDesc desc, const int *places);
extern void om_archive_writer_row(OmArchiveWriter *writer, const Datum *values, const bool *isnull);

/*
 * Writes the rest, flushes it, reads all of it back and writes the manifest, in
 * which the counts and hashes are filled in; manifest_sha256 is that of its file.
 */
extern void om_archive_writer_end(OmArchiveWriter *writer, uint8 manifest_sha256[OM_SHA256_SIZE]);

/* ---------- reading ---------- */

/* ERRCODE_DATA_CORRUPTED where the file is not what it was when it was written. */
extern OmArchiveManifest *om_archive_read_manifest(const char *file,
												   const uint8 manifest_sha256[OM_SHA256_SIZE]);

typedef struct OmArchiveReader OmArchiveReader;

/* With all, every frame follows, and at the end the hash of the file must be right. */
extern OmArchiveReader *om_archive_reader_begin(const char *file, const OmArchiveManifest *manifest,
												bool all);

/* Goes to the first row of a frame, after which those of this frame follow. */
extern void om_archive_reader_seek(OmArchiveReader *reader, int frame);

/* The next row, one text or NULL per column, valid until the next frame; NULL: there is no more. */
extern char **om_archive_reader_row(OmArchiveReader *reader);
extern void om_archive_reader_end(OmArchiveReader *reader);

/* ---------- files ---------- */

/* False where order_mgmt.archive_directory is not set. */
extern bool om_archive_is_set(void);

/* The folder of this database, below the directory. */
extern char *om_archive_folder(void);

/* Names of all files in it, with their endings. */
extern List *om_archive_list_files(void);

/* Both files of a month go when the transaction commits. */
extern void om_archive_remove_at_commit(const char *file);

/* One file goes at once; no more than a message in the log when it cannot. */
extern void om_archive_unlink(const char *name);

/* To be called when the library is loaded. */
extern void om_archive_init(void);

#endif /* OM_ARCHIVEFILE_H */
