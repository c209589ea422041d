/*
 * tablenames.h
 *		Policies and archives follow the tables of users that are renamed.
 */
#ifndef OM_TABLENAMES_H
#define OM_TABLENAMES_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* A table that has another name, or its schema has; both with schema. */
typedef struct OmRenamedTable
{
	char *name;
	char *was;
} OmRenamedTable;

/*
 * Gives policies and archives the names that their tables have now, and notes
 * those that are new.  Waits for nobody: what cannot be done now the next call
 * does.  Returns a list of OmRenamedTable.
 */
extern List *om_tablenames_follow(void);

/* A table that was last seen under this name is still there, under whatever name. */
extern bool om_tablenames_lives(const char *schema, const char *name);

#endif /* OM_TABLENAMES_H */
