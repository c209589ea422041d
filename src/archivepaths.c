/*
 * archivepaths.c
 *		Names of archive files, and what becomes of them with their transaction.
 *
 * What a transaction has written goes when it fails (or the part of it that
 * wrote), and what it has replaced when it commits.  A server that dies leaves files
 * behind that no row of "archives" names; maintenance removes these.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "archivepaths.h"
#include "settings.h"

/* ---------- errors ---------- */

static int
errcode_of_file(void)
{
	if (errno == EFBIG || errno == EDQUOT)
		return errcode(ERRCODE_DISK_FULL);
	return errcode_for_file_access();
}

void
om_archive_raise_file(const char *action, const char *path)
{
	ereport(ERROR,
			(errcode_of_file(), errmsg("could not %s \"%s\": %m", action, path),
			 errhint("See to order_mgmt.archive_directory: it must exist, belong to the server's "
					 "user and have room. Nothing has changed.")));
}

void
om_archive_raise_damaged(const char *path, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("archive \"%s\" is damaged", path),
					errdetail("%s", detail),
					errhint("Bring the file back from a backup. Nothing has changed.")));
}

/* ---------- paths ---------- */

/*
 * Names stand in a table, which somebody may have written: each part of one is
 * a name in a directory, so that it leads nowhere but below ours.
 */
static bool
stays_below(const char *name)
{
	const char *part = name;

	while (true)
	{
		size_t length = strcspn(part, "/");

		if (length == 0 || part[0] == '.')
			return false;
		if (part[length] == '\0')
			return true;
		part += length + 1;
	}
}

static void
require_below(const char *name)
{
	if (!stays_below(name))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("\"%s\" is no name of an archive file", name),
						errdetail("It leads out of order_mgmt.archive_directory, below which all "
								  "archives are."),
						errhint("Put right column file of table order_mgmt.archives: in a backup, "
								"or where the file is, stands what it was.")));
}

char *
om_archive_path(const char *name)
{
	const char *root = om_setting_archive_directory;

	if (root == NULL || *root == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("order_mgmt.archive_directory is not set"),
				 errhint("Set it to a directory of the server, in postgresql.conf or by ALTER "
						 "SYSTEM, and reload the configuration.")));
	if (!is_absolute_path(root))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("order_mgmt.archive_directory \"%s\" is not an absolute path", root),
						errhint("Set it to a path that begins with a slash.")));
	require_below(name);
	if (strlen(root) + strlen(name) + 2 > MAXPGPATH)
		ereport(ERROR, (errcode(ERRCODE_NAME_TOO_LONG),
						errmsg("the path of archive file \"%s\" is too long", name),
						errhint("Choose a shorter order_mgmt.archive_directory.")));
	return psprintf("%s/%s", root, name);
}

bool
om_archive_is_set(void)
{
	return om_setting_archive_directory != NULL && *om_setting_archive_directory != '\0';
}

char *
om_archive_folder(void)
{
	return psprintf(UINT64_FORMAT "-%u", GetSystemIdentifier(), MyDatabaseId);
}

/* A name as a part of a file's name. */
static void
append_safe(StringInfo path, const char *name)
{
	for (const char *c = name; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || strchr("/.%\\", *c) != NULL || *c == 0x7f)
			appendStringInfo(path, "%%%02X", (unsigned char) *c);
		else
			appendStringInfoChar(path, *c);
	}
}

static void
make_folder(const char *name)
{
	char *path = om_archive_path(name);
	char *parent = pstrdup(path);

	if (MakePGDirectory(path) == 0)
	{
		get_parent_directory(parent);
		fsync_fname(parent, true /* isdir */);
	}
	else if (errno != EEXIST)
		om_archive_raise_file("make directory", path);
}

static bool
is_free(const char *file)
{
	static const char *const endings[] = {OM_ARCHIVE_DATA, OM_ARCHIVE_MANIFEST,
										  OM_ARCHIVE_DATA OM_ARCHIVE_UNFINISHED,
										  OM_ARCHIVE_MANIFEST OM_ARCHIVE_UNFINISHED};
	struct stat status;

	for (int i = 0; i < (int) lengthof(endings); i++)
	{
		if (stat(om_archive_path(psprintf("%s%s", file, endings[i])), &status) == 0)
			return false;
	}
	return true;
}

char *
om_archive_new_file(const char *schema, const char *table, const char *month)
{
	StringInfoData folder;
	int n = 1;

	initStringInfo(&folder);
	appendStringInfoString(&folder, om_archive_folder());
	make_folder(folder.data);
	appendStringInfoChar(&folder, '/');
	append_safe(&folder, schema);
	appendStringInfoChar(&folder, '.');
	append_safe(&folder, table);
	make_folder(folder.data);
	while (!is_free(psprintf("%s/%s.%d", folder.data, month, n)))
		n++;
	return psprintf("%s/%s.%d", folder.data, month, n);
}

/* ---------- files that go with the transaction ---------- */

typedef struct PendingFile
{
	char *name; /* without ending */
	bool at_commit;
	SubTransactionId part; /* of the transaction, which has written it */
} PendingFile;

static List *pending = NIL;

void
om_archive_unlink(const char *name)
{
	const char *root = om_setting_archive_directory;
	char path[MAXPGPATH];

	/* What has been written, or is to go, was such a name; a part of one would be another file. */
	if (!stays_below(name) || root == NULL ||
		snprintf(path, sizeof(path), "%s/%s", root, name) >= (int) sizeof(path))
		return;
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(LOG, (errcode_of_file(), errmsg("could not remove archive file \"%s\": %m", path)));
}

static void
remove_files(const char *file)
{
	char name[MAXPGPATH];

	snprintf(name, sizeof(name), "%s%s", file, OM_ARCHIVE_MANIFEST);
	om_archive_unlink(name);
	snprintf(name, sizeof(name), "%s%s", file, OM_ARCHIVE_DATA);
	om_archive_unlink(name);
}

static void
remove_unfinished(const char *file)
{
	char name[MAXPGPATH];

	snprintf(name, sizeof(name), "%s%s%s", file, OM_ARCHIVE_MANIFEST, OM_ARCHIVE_UNFINISHED);
	om_archive_unlink(name);
	snprintf(name, sizeof(name), "%s%s%s", file, OM_ARCHIVE_DATA, OM_ARCHIVE_UNFINISHED);
	om_archive_unlink(name);
}

void
om_archive_add_pending(const char *file, bool at_commit)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	PendingFile *entry = palloc(sizeof(PendingFile));

	entry->name = pstrdup(file);
	entry->at_commit = at_commit;
	entry->part = GetCurrentSubTransactionId();
	pending = lappend(pending, entry);
	MemoryContextSwitchTo(caller);
}

/* Data that come from elsewhere name files that are another database's, too. */
void
om_archive_remove_at_commit(const char *file)
{
	char *own = psprintf("%s/", om_archive_folder());

	require_below(file);
	if (strncmp(file, own, strlen(own)) == 0)
		om_archive_add_pending(file, true /* at_commit */);
}

static void
forget_pending(PendingFile *entry)
{
	pending = list_delete_ptr(pending, entry);
	pfree(entry->name);
	pfree(entry);
}

/* It would hold the tables, and with them all captures, until somebody commits it. */
static void
refuse_to_prepare(void)
{
	if (pending != NIL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("a transaction that has archived a month cannot be prepared"),
						errhint("Archive the month in a transaction of its own.")));
}

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_PRE_PREPARE)
		refuse_to_prepare();
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	while (pending != NIL)
	{
		PendingFile *entry = linitial(pending);

		if (event == XACT_EVENT_ABORT && !entry->at_commit)
		{
			remove_unfinished(entry->name);
			remove_files(entry->name);
		}
		else if (event == XACT_EVENT_COMMIT && entry->at_commit)
			remove_files(entry->name);
		forget_pending(entry);
	}
}

static void
at_end_of_part(SubXactEvent event, SubTransactionId part, SubTransactionId parent,
			   void *arg pg_attribute_unused())
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = list_length(pending) - 1; i >= 0; i--)
	{
		PendingFile *entry = list_nth(pending, i);

		if (entry->part != part)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
		{
			entry->part = parent;
			continue;
		}
		if (!entry->at_commit)
		{
			remove_unfinished(entry->name);
			remove_files(entry->name);
		}
		forget_pending(entry);
	}
}

void
om_archive_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_end_of_part, NULL);
}

/* A directory that is not there is empty. */
static List *
list_names(const char *folder)
{
	char *path = om_archive_path(folder);
	DIR *dir = AllocateDir(path);
	List *names = NIL;
	struct dirent *entry;

	if (dir == NULL && errno == ENOENT)
		return NIL;
	while ((entry = ReadDir(dir, path)) != NULL)
	{
		if (entry->d_name[0] != '.')
			names = lappend(names, psprintf("%s/%s", folder, entry->d_name));
	}
	FreeDir(dir);
	return names;
}

List *
om_archive_list_files(void)
{
	List *names = NIL;
	ListCell *cell;

	foreach(cell, list_names(om_archive_folder()))
	{
		char *name = lfirst(cell);
		struct stat status;

		if (stat(om_archive_path(name), &status) == 0 && S_ISDIR(status.st_mode))
			names = list_concat(names, list_names(name));
	}
	return names;
}

TimestampTz
om_archive_written_at(const char *name)
{
	struct stat status;

	return stat(om_archive_path(name), &status) == 0 ? time_t_to_timestamptz(status.st_mtime)
													 : DT_NOBEGIN;
}

/* ---------- hashes ---------- */

pg_cryptohash_ctx *
om_archive_hash_begin(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
	return hash;
}

void
om_archive_hash_add(pg_cryptohash_ctx *hash, const char *data, size_t size)
{
	if (pg_cryptohash_update(hash, (const uint8 *) data, size) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
}

void
om_archive_hash_end(pg_cryptohash_ctx *hash, uint8 *sha256)
{
	if (pg_cryptohash_final(hash, sha256, OM_SHA256_SIZE) < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a hash")));
	pg_cryptohash_free(hash);
}

void
om_archive_hash_of(const char *data, size_t size, uint8 *sha256)
{
	pg_cryptohash_ctx *hash = om_archive_hash_begin();

	om_archive_hash_add(hash, data, size);
	om_archive_hash_end(hash, sha256);
}
