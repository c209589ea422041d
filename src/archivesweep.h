/*
 * archivesweep.h
 *		Files of archives that nobody needs.
 */
#ifndef OM_ARCHIVESWEEP_H
#define OM_ARCHIVESWEEP_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Removes files of this database that no row names; names of what went. */
extern List *om_archive_sweep(void);

#endif /* OM_ARCHIVESWEEP_H */
