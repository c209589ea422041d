/*
 * tablestats.h
 *		The planner's statistics of tables that are partitioned by month.
 */
#ifndef OM_TABLESTATS_H
#define OM_TABLESTATS_H

#include "postgres.h"

/* Refreshes them; how many tables.  What somebody has locked is left out. */
extern int64 om_tablestats_refresh(void);

#endif /* OM_TABLESTATS_H */
