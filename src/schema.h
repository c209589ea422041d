/*
 * schema.h
 *		Makes and drops the data tables.
 */
#ifndef OM_SCHEMA_H
#define OM_SCHEMA_H

#include "postgres.h"

/* Makes whatever is missing; true when the installation is new. */
extern bool om_schema_create(void);

/* Brings data of an earlier version to that of the library; false: they are of it. */
extern bool om_schema_migrate(void);

/* False where om_schema_create() has something to do. */
extern bool om_schema_is_complete(void);

/* Takes the big tables for this transaction alone. */
extern void om_schema_lock(void);

/* Drops all data tables and what is in them. */
extern void om_schema_drop(void);

#endif /* OM_SCHEMA_H */
