/*
 * archiving.c
 *		archive_month().
 *
 * Locks, in this order: OM_LOCK_ARCHIVE, so that one at a time writes archives;
 * SHARE on the partitions; SHARE on "consumers", so that none is made that would
 * begin to read in the month; at last, for the swap, all of it exclusively.  All
 * are held to the end of the transaction, which the caller commits as soon as it
 * can.  See monthswap.c for how others wait, and decision 16 for why nobody misses a
 * row meanwhile.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "archivedamounts.h"
#include "archives.h"
#include "archiving.h"
#include "clock.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "memberfile.h"
#include "monthmembers.h"
#include "months.h"
#include "monthswap.h"
#include "monthtraits.h"
#include "obstacles.h"
#include "relations.h"
#include "tablenames.h"

static void
refuse_for(DateADT month, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("month %s cannot be archived: %s", om_archives_month_text(month), reason),
			 om_errdetail("reason", reason),
			 errhint("Archive it when that is done; nothing has changed.")));
}

/* Of a table of the user's own: it must be over. */
static void
require_over(DateADT month)
{
	TimestampTz begin = (TimestampTz) month * USECS_PER_DAY;

	if (om_months_next(begin) > om_clock_now())
		refuse_for(month, "it is not over");
}

static void
require_no_obstacle(DateADT month)
{
	char *reason = om_archiving_obstacle((TimestampTz) month * USECS_PER_DAY);

	if (reason != NULL)
		refuse_for(month, reason);
}

/* The last things before the swap: nobody begins to read the month any more, and its sums stay. */
static void
keep_sums(DateADT month)
{
	om_month_lock_to_copy(list_make1_oid(om_relation_get("consumers")));
	require_no_obstacle(month);
	om_archived_amounts_add((TimestampTz) month * USECS_PER_DAY);
}

/* What the file cannot keep, the month would come back without. */
static void
require_plain(List *members)
{
	ListCell *cell;

	foreach(cell, members)
	{
		const OmMonthMember *member = lfirst(cell);

		if (OidIsValid(member->leaf))
			om_traits_require_plain(member->parent, member->leaf);
	}
}

/* Locks what is to be copied, unless the copy would lack something, or be missed by somebody. */
static void
lock_leaves(List *members, List *leaves, DateADT month, bool ours)
{
	ListCell *cell;

	foreach(cell, members)
		om_member_require_free(lfirst(cell));
	if (!ours)
		require_over(month);
	OM_FAULT_POINT("archiving/begun");
	om_month_lock_to_copy(leaves);
	om_month_require_seen(leaves);
	if (ours)
		require_no_obstacle(month);
	else
		require_plain(members);
}

static void
write_files(List *members, DateADT month, bool ours)
{
	ListCell *cell;

	foreach(cell, members)
	{
		OmMonthMember *member = lfirst(cell);

		if (!OidIsValid(member->leaf))
			continue;
		om_member_write(member, month);
		if (ours)
			continue;
		member->names = om_traits_keep(member->parent, member->leaf, member->archive->file);
		om_tablenames_note(member->parent);
	}
	OM_FAULT_POINT("archiving/files-written");
}

List *
om_archive_month(Oid relation, TimestampTz at)
{
	bool ours = om_members_are_ours(relation);
	DateADT month = om_archives_month(at);
	List *members = om_members_begin(relation, month);
	List *leaves = om_members_leaves(members);

	if (leaves == NIL)
		return om_members_describe(members);
	lock_leaves(members, leaves, month, ours);
	write_files(members, month, ours);
	if (ours)
		keep_sums(month);
	om_members_swap(members);
	OM_FAULT_POINT("archiving/archived");
	return om_members_describe(members);
}
