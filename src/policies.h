/*
 * policies.h
 *		How the months of each managed table are looked after: table partition_policies.
 */
#ifndef OM_POLICIES_H
#define OM_POLICIES_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct OmPolicy
{
	char *schema;
	char *name;
	char *time_column;
	char *owner; /* role that owned the table when it was given into our care; NULL: it is ours */
	int premake; /* months ahead; -1: as order_mgmt.premake_months says */
	Interval *warm_after; /* after the end of the month; NULL: never */
	Interval *cold_after;
	Interval *drop_after;
	char *warm_tablespace; /* NULL: where the table is */
	int64 stay_hot_reads;  /* reads a day from which on a month stays; 0: not looked at */
	Interval *restored_for;
	int lock_timeout; /* milliseconds */
} OmPolicy;

/* Room for what is looked up stays with the current memory context. */
extern OmPolicy *om_policy_find(const char *schema, const char *name);

/* All of them: ours first, in the order in which a capture locks them, then by name. */
extern List *om_policy_list(void);

/* Stores a policy; one for a table of ours goes for all three.  False: it was so before. */
extern bool om_policy_save(const OmPolicy *policy);

/* False: there is none. */
extern bool om_policy_remove(const char *schema, const char *name);

/* Gives our own tables the policies that are missing. */
extern void om_policies_create_ours(void);

/* Whether a table of that name is one of our monthly ones. */
extern bool om_policy_is_ours(const char *schema, const char *name);

/* Months ahead that a policy asks for; of our own tables also before they have one. */
extern int om_policy_premake(const OmPolicy *policy);
extern int om_policy_premake_ours(void);

/* A time so much later, in UTC; DT_NOEND: the interval is NULL. */
extern TimestampTz om_policy_after(TimestampTz at, const Interval *age);

#endif /* OM_POLICIES_H */
