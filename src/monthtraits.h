/*
 * monthtraits.h
 *		What belongs to one partition itself, and not to its table: grants, storage
 *		parameters, comments, constraints, indexes (decision 19).
 */
#ifndef OM_MONTHTRAITS_H
#define OM_MONTHTRAITS_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* What a partition passes on to another. */
typedef enum OmTraits
{
	OM_TRAITS_COMMON, /* what months have in common: to one that is made */
	OM_TRAITS_ALL     /* to itself, where it moves */
} OmTraits;

/* An index and the name that it is to have when the one of this name has gone. */
typedef struct OmIndexName
{
	Oid index;
	char *name;
} OmIndexName;

/*
 * The storage parameters of a partition, as WITH (…) takes them; "": it has
 * none.  fillfactor: this one instead of its own; 0: its own.  parent: its table, as
 * whose owner all of this is done.
 */
extern char *om_traits_storage(Oid parent, Oid from, int fillfactor);

/* Before there are rows: all but storage parameters and what comes late. */
extern void om_traits_carry(Oid parent, Oid from, Oid to, OmTraits which);

/*
 * When there are rows: constraints that hold for new rows only, and indexes that
 * the table has not.  All indexes go to a month that is made; to one that moves only
 * those that keep rows from being alike, since others are there for hot months.
 * tablespace: of indexes, or NULL.
 * Returns a list of OmIndexName.
 */
extern List *om_traits_carry_late(Oid parent, Oid from, Oid to, OmTraits which,
								  const char *tablespace);

/* When the partition from which they are has gone. */
extern void om_traits_name_indexes(Oid parent, List *names);

/* OM005: a partition has what a copy of it would not have, as triggers of its own. */
extern void om_traits_require_plain(Oid parent, Oid leaf);

/*
 * A partition is going to be in a file only (its name, as in table archives): an
 * empty table keeps what it has and the youngest partition has not.  Returns
 * names of indexes.
 */
extern List *om_traits_keep(Oid parent, Oid leaf, const char *file);

/* That table; invalid: it was not needed, or its owner is not that of the table any more. */
extern Oid om_traits_kept(Oid parent, const char *file);

/* The youngest partition but for one; invalid: there is none. */
extern Oid om_traits_youngest(Oid parent, Oid but);

#endif /* OM_MONTHTRAITS_H */
