/*
 * archivesweep.c
 *		Removes files that nobody needs: of a move that was ended half-way, of
 *		months that have been deleted.
 *
 * Under OM_LOCK_ARCHIVE, taken without waiting and let go afterwards: whoever
 * archives next begins with files that are not in the list.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "archivepaths.h"
#include "archives.h"
#include "archivesweep.h"
#include "locks.h"
#include "plans.h"
#include "relations.h"

static bool
is_named(List *files, const char *name)
{
	ListCell *cell;

	foreach(cell, files)
	{
		const char *file = lfirst(cell);

		if (strcmp(name, psprintf("%s%s", file, OM_ARCHIVE_DATA)) == 0 ||
			strcmp(name, psprintf("%s%s", file, OM_ARCHIVE_MANIFEST)) == 0)
			return true;
	}
	return false;
}

static OmQuery begun_query = {.sql = "SELECT created_at FROM order_mgmt.installation", .nargs = 0};

/* Time of setup(). */
static TimestampTz
installed_at(void)
{
	TimestampTz at = DT_NOEND;
	OmQueryScope scope;
	bool isnull;

	om_query_begin(&scope);
	if (om_query_run(&begun_query, NULL, NULL) > 0)
		at = DatumGetTimestampTz(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	return at;
}

/*
 * What is older than the installation is not its own: it may be all that is left of one before.
 * Times of files are whole seconds here.
 */
List *
om_archive_sweep(void)
{
	List *removed = NIL;
	TimestampTz begun;
	List *files;
	ListCell *cell;

	if (!om_archive_is_set() || !OidIsValid(om_relation_find("archives")) ||
		!om_lock_try(OM_LOCK_ARCHIVE))
		return NIL; /* whoever archives now has files that no row names yet */
	files = om_archives_files();
	begun = installed_at() - USECS_PER_SEC;
	foreach(cell, om_archive_list_files())
	{
		char *name = lfirst(cell);

		if (is_named(files, name) || om_archive_written_at(name) < begun)
			continue;
		om_archive_unlink(name);
		removed = lappend(removed, name);
	}
	om_lock_release(OM_LOCK_ARCHIVE);
	return removed;
}
