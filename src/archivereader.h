/*
 * archivereader.h
 *		Reads the files of archived months.
 */
#ifndef OM_ARCHIVEREADER_H
#define OM_ARCHIVEREADER_H

#include "postgres.h"

#include "archivemanifest.h"

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

/* What has been written can be read: every frame, every row, every byte. */
extern void om_archive_verify(const char *path, const OmArchiveManifest *manifest);

#endif /* OM_ARCHIVEREADER_H */
