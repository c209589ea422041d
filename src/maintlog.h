/*
 * maintlog.h
 *		What maintenance has done: table maintenance_log.
 */
#ifndef OM_MAINTLOG_H
#define OM_MAINTLOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct OmMaintEntry
{
	const char *action;
	const char *relation; /* or NULL */
	TimestampTz month;    /* any time of it; DT_NOEND: it is about none */
	int64 rows;           /* -1: none were moved */
	int64 bytes;          /* -1: not known */
	int64 duration;       /* microseconds; -1: not measured */
	int sqlstate;         /* 0: it has not failed */
	const char *error;    /* or NULL */
} OmMaintEntry;

/* An entry about a relation that says nothing else yet. */
extern OmMaintEntry om_maintlog_entry(const char *action, const char *relation);

/* Writes an entry in the current transaction. */
extern void om_maintlog_add(const OmMaintEntry *entry);

/* The same, unless the last entry of that action and relation says it already. */
extern void om_maintlog_add_news(const OmMaintEntry *entry);

/* Deletes entries that are older than a year; how many. */
extern int64 om_maintlog_purge(void);

#endif /* OM_MAINTLOG_H */
