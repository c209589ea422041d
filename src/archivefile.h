/*
 * archivefile.h
 *		Writes files of archived months: CSV in zstd frames, and the manifest beside it.
 *
 * docs/archive.md describes the format.
 */
#ifndef OM_ARCHIVEFILE_H
#define OM_ARCHIVEFILE_H

#include "postgres.h"

#include "access/tupdesc.h"

#include "archivemanifest.h"

typedef struct OmArchiveWriter OmArchiveWriter;

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

#endif /* OM_ARCHIVEFILE_H */
