/*
 * monthmembers.h
 *		A month that is moved to files or back: its partitions, and its archives.
 */
#ifndef OM_MONTHMEMBERS_H
#define OM_MONTHMEMBERS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/date.h"

#include "archives.h"
#include "plans.h"

/* A table with a partition per month, and what there is of one month. */
typedef struct OmMonthMember
{
	Oid parent;
	char *schema_name;
	char *table_name;
	Oid leaf;           /* its partition; or invalid */
	OmArchive *archive; /* its row; or NULL */
	Oid twin;           /* what is to become its partition; or invalid */
	Oid kept;           /* what keeps traits of a month that comes back; or invalid */
	List *names;        /* of indexes, once its partition has gone or come (monthtraits.h) */
} OmMonthMember;

/* What is in a file. */
typedef struct OmArchived
{
	Oid relid; /* parent of the partition */
	int64 rows;
	int64 bytes; /* of the file */
	char *file;  /* below order_mgmt.archive_directory */
} OmArchived;

/* Whether a relation is one of the three tables of orders, or invalid, which stands for them. */
extern bool om_members_are_ours(Oid relation);

extern OmMonthMember *om_member_find(Oid parent, DateADT month);

/*
 * The members of a month, in the order in which captures lock their tables (others
 * by OID), and OM_LOCK_ARCHIVE.  OM001: the relation is not partitioned by time;
 * OM004: there is nothing of the month; OM005: in REPEATABLE READ.
 */
extern List *om_members_begin(Oid relation, DateADT month);

/* OIDs of the partitions that are there. */
extern List *om_members_leaves(List *members);

/* A list of OmArchived: those that have an archive. */
extern List *om_members_describe(List *members);

/* OM005: there is a partition, and an archive that has other rows. */
extern void om_member_require_free(const OmMonthMember *member);

/* Functions of types, defaults and constraints are the owner's code; memory stays the caller's. */
extern void om_member_begin_as_owner(OmQueryScope *scope, Oid parent);

/* Partitions go, and twins come in their place; as the last thing of the transaction. */
extern void om_members_swap(List *members);

#endif /* OM_MONTHMEMBERS_H */
