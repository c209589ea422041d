/*
 * tiers.h
 *		Where each month of the managed tables is, and what is to become of it.
 */
#ifndef OM_TIERS_H
#define OM_TIERS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "monthtables.h"
#include "policies.h"

typedef enum OmTier
{
	OM_TIER_HOT,
	OM_TIER_WARM,
	OM_TIER_COLD,    /* in an archive file only */
	OM_TIER_RESTORED /* back from one */
} OmTier;

#define OM_TIER_COUNT 4

/* What comes next for a month. */
typedef enum OmMove
{
	OM_MOVE_NONE,
	OM_MOVE_WARM,
	OM_MOVE_COLD,
	OM_MOVE_DROP
} OmMove;

#define OM_MOVE_COUNT 4

extern const char *const om_tier_names[OM_TIER_COUNT];
extern const char *const om_move_names[OM_MOVE_COUNT];

typedef struct OmMonth
{
	Oid parent;
	Oid leaf;         /* invalid: it is cold */
	char *schema;     /* of the partition */
	char *table_name; /* of the parent */
	char *partition_name;
	TimestampTz begin;
	OmTier tier;
	double rows; /* estimate; -1: not known */
	int64 bytes;
	double reads_per_day;
	TimestampTz last_read; /* 0: not known */
	TimestampTz restored_at;
	bool is_archived; /* and, if it is not cold, here as well */
	OmMove next;
	TimestampTz next_at; /* when it is due by the policy; DT_NOEND: never */
} OmMonth;

/* The months of one table, by month, with what the policy says. */
extern List *om_tiers_months(const OmMonthTable *table, const OmPolicy *policy, TimestampTz now);

/* The same of all tables that a policy is about; none where it is about none that can be managed. */
extern List *om_tiers_of(const OmPolicy *policy, TimestampTz now);

/* Why what is due for a month cannot be done now; NULL: nothing keeps it. */
extern char *om_tiers_obstacle(const OmMonth *month, const OmPolicy *policy);

/* The table that a policy is about; invalid where there is none of that name and owner. */
extern Oid om_tiers_relation(const OmPolicy *policy);

/* Looks how often the partitions have been read since the last look, and notes it. */
extern void om_tiers_look_at_use(const OmMonthTable *table, TimestampTz now);

/* What is remembered of partitions that are no more goes. */
extern void om_tiers_forget_gone(void);

/* A month has become warm. */
extern void om_tiers_note_warm(const OmMonth *month, TimestampTz now);

#endif /* OM_TIERS_H */
