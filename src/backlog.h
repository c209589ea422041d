/*
 * backlog.h
 *		What a consumer has read and not finished, counted by the cursor row
 *		from which a restart would read it again.
 */
#ifndef OM_BACKLOG_H
#define OM_BACKLOG_H

#include "postgres.h"

typedef struct OmBacklog
{
	int64 *seqs; /* ascending */
	int64 *counts;
	int first; /* of the entries in use */
	int end;
	int capacity;
} OmBacklog;

/* Lives in the current memory context. */
extern OmBacklog *om_backlog_create(void);

/* The sequence numbers that are added never decrease. */
extern void om_backlog_add(OmBacklog *backlog, int64 seq);
extern void om_backlog_remove(OmBacklog *backlog, int64 seq);

/* The oldest cursor row that is still needed; PG_INT64_MAX when none is. */
extern int64 om_backlog_first(const OmBacklog *backlog);

#endif /* OM_BACKLOG_H */
