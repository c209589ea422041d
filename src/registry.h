/*
 * registry.h
 *		Consumers of the user's own: rows of table consumers, and what goes
 *		with them.
 */
#ifndef OM_REGISTRY_H
#define OM_REGISTRY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#define OM_DEFAULT_MAX_ATTEMPTS 20

typedef enum OmConsumerKind
{
	OM_KIND_BUILT_IN,
	OM_KIND_HANDLER, /* a function, run by a worker */
	OM_KIND_EXTERNAL /* a program outside the server */
} OmConsumerKind;

#define OM_KIND_COUNT 3

typedef struct OmRegistration
{
	char *name;
	OmConsumerKind kind;
	char *handler; /* or NULL */
	char *owner;   /* name of the role that made it, or NULL: nobody */
	uint32 types;  /* OM_EVENT_BITs that it reads */
	int64 max_attempts;
	bool paused;
	TimestampTz start_at; /* it reads no event that was written earlier; DT_NOBEGIN: all */
} OmRegistration;

/*
 * Makes a consumer that belongs to the current user, in the current
 * transaction, and takes its lock.  True when it was made; false when the user
 * has it already, with the same handler, event types and max_attempts; OM005
 * when there is another of the name.
 *
 * event_types NULL: all; max_attempts 0: the default, whatever an existing one
 * has.  start_at NULL: it reads what commits after this moment; else all that
 * was written at or after that time, also by transactions still open.
 */
extern bool om_registry_add(const char *name, OmConsumerKind kind, const char *handler,
							ArrayType *event_types, int64 max_attempts,
							const TimestampTz *start_at);

/* Takes a consumer away with its positions, retries and dead letters, and takes its lock. */
extern void om_registry_drop(const char *name, OmConsumerKind kind);

/* As the latest snapshot shows it; NULL when there is none. */
extern OmRegistration *om_registry_find(const char *name);

/* OM004 when there is none, OM005 when it is of another kind. */
extern OmRegistration *om_registry_require(const char *name, OmConsumerKind kind);

/* Refuses everybody but its owner, members of that role and administrators. */
extern void om_registry_require_owner(const OmRegistration *consumer);

/* All of a kind, by name: a list of OmRegistration. */
extern List *om_registry_list(OmConsumerKind kind);

#endif /* OM_REGISTRY_H */
