/*
 * tablenames.h
 *		Tables of users that have got another name.
 */
#ifndef OM_TABLENAMES_H
#define OM_TABLENAMES_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* A name that policies or archives stand under, and no table of their owner has. */
typedef struct OmLostName
{
	char *name;   /* with schema */
	char *reason; /* for people */
} OmLostName;

/* A list of OmLostName. */
extern List *om_tablenames_lost(void);

/* The table that had a name, and still has its owner, is called so now; NULL: none is. */
extern char *om_tablenames_now(const char *schema, const char *name);

/* From now on it is remembered which table of a user its name means. */
extern void om_tablenames_note(Oid relid);

/* The same of all tables in somebody's care; and what nobody asks for any more is forgotten. */
extern void om_tablenames_note_managed(void);

/*
 * What stands under a name, and belongs to the table's owner, stands under the
 * table's name afterwards: the policy, unless the table has one, and archives.
 * The caller has OM_LOCK_ARCHIVE; an admin may move archives that do not say whose they are.
 * How many archives.  OM004: nothing stands there.  42501: what does is somebody
 * else's.  OM005: the table has archives of the same month.
 */
extern int64 om_tablenames_move(const char *schema, const char *name, Oid relid, bool is_admin);

#endif /* OM_TABLENAMES_H */
