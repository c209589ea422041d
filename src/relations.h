/*
 * relations.h
 *		Finding the data tables and the monthly leaf for a point in time.
 */
#ifndef OM_RELATIONS_H
#define OM_RELATIONS_H

#include "postgres.h"

#include "utils/timestamp.h"

/* Called with the OID of each relation that has changed, or InvalidOid when any may have. */
typedef void (*OmRelationWatcher)(Oid relid);
extern void om_relations_watch(OmRelationWatcher watcher);

/*
 * Grows with each message that a relation has changed; those that have arrived
 * are read.  What is read of a table whose writers send such messages may be
 * believed as long as this stands still; it begins at 1.
 */
extern uint64 om_relations_changes(void);

/* To be called when the library is loaded. */
extern void om_relations_init(void);

/* OID of a relation of our schema; InvalidOid when it does not exist. */
extern Oid om_relation_find(const char *name);

/* The same, but a relation that is missing is an OM006. */
extern Oid om_relation_get(const char *name);

/* OID of the role that owns the data tables. */
extern Oid om_owner_role(void);

/* Who owns a table; invalid where there is none. */
extern Oid om_relation_owner(Oid relid);

/* The partition of a monthly table that holds a time; InvalidOid when there is none. */
extern Oid om_month_leaf(Oid parent, TimestampTz at);

/* All partitions of a monthly table in the order of their months. */
extern List *om_month_leaves(Oid parent);

/* Those of them in which rows of a span of time may lie. */
extern List *om_month_leaves_between(Oid parent, TimestampTz first, TimestampTz last);

#endif /* OM_RELATIONS_H */
