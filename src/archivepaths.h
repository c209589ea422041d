/*
 * archivepaths.h
 *		Files below order_mgmt.archive_directory.
 *
 * They are named relative to it, and a month without the endings .csv.zst and
 * .json of its two files:
 *
 *		<system identifier>-<database oid>/<schema>.<table>/<year>-<month>.<n>
 */
#ifndef OM_ARCHIVEPATHS_H
#define OM_ARCHIVEPATHS_H

#include "postgres.h"

#include "common/cryptohash.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "archivemanifest.h"
#include "compat.h"

#define OM_ARCHIVE_DATA ".csv.zst"
#define OM_ARCHIVE_MANIFEST ".json"
#define OM_ARCHIVE_UNFINISHED ".tmp" /* behind the other endings */

/* False where order_mgmt.archive_directory is not set. */
extern bool om_archive_is_set(void);

/* Where a file is; 55000 where the setting says nothing, or no absolute path. */
extern char *om_archive_path(const char *name);

/* The folder of this database, below the directory. */
extern char *om_archive_folder(void);

/* A name that no file has; its folders are made. */
extern char *om_archive_new_file(const char *schema, const char *table, const char *month);

/* Names of all files of this database, with their endings. */
extern List *om_archive_list_files(void);

/* When a file was last written; DT_NOBEGIN: it is not there. */
extern TimestampTz om_archive_written_at(const char *name);

/*
 * Both files of a month go when the transaction commits, or (at_commit false)
 * unless it does; those of another database stay.
 */
extern void om_archive_add_pending(const char *file, bool at_commit);
extern void om_archive_remove_at_commit(const char *file);

/* One file goes at once; no more than a message in the log when it cannot. */
extern void om_archive_unlink(const char *name);

/* Errors about files: errno says which, or the detail what is wrong. */
extern void om_archive_raise_file(const char *action, const char *path) OM_NORETURN;
extern void om_archive_raise_damaged(const char *path, const char *detail) OM_NORETURN;

/* SHA-256, in the resource owner of the caller. */
extern pg_cryptohash_ctx *om_archive_hash_begin(void);
extern void om_archive_hash_add(pg_cryptohash_ctx *hash, const char *data, size_t size);
extern void om_archive_hash_end(pg_cryptohash_ctx *hash, uint8 *sha256);
extern void om_archive_hash_of(const char *data, size_t size, uint8 *sha256);

/* To be called when the library is loaded. */
extern void om_archive_init(void);

#endif /* OM_ARCHIVEPATHS_H */
