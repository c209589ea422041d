/*
 * registry.c
 *		Making, finding and removing consumers.
 *
 * Who makes or removes a consumer holds its lock to the end of the transaction,
 * as does whoever works as it; so of two that make the same one, the second
 * waits and finds it.  The row and the first position are written together.
 * Reading the ticks' tables on the way keeps upkeep from emptying them before
 * the new position can be seen.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "census.h"
#include "cursors.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "locks.h"
#include "names.h"
#include "plans.h"
#include "registry.h"
#include "relations.h"
#include "tables.h"
#include "ticks.h"

#define NAME_MAX_CHARS 64
#define ADMIN_ROLE "order_mgmt_admin"

/* Columns of table consumers */
enum
{
	COLUMN_NAME = 1,
	COLUMN_KIND,
	COLUMN_HANDLER,
	COLUMN_OWNER,
	COLUMN_EVENT_TYPES,
	COLUMN_MAX_ATTEMPTS,
	COLUMN_BACKOFF_BASE,
	COLUMN_BACKOFF_CAP,
	COLUMN_PAUSED,
	COLUMN_CREATED_AT,
	COLUMN_START_AT
};

static const char *const kind_names[OM_KIND_COUNT] = {[OM_KIND_BUILT_IN] = "built-in",
													  [OM_KIND_HANDLER] = "handler",
													  [OM_KIND_EXTERNAL] = "external"};

static OmQuery insert_query = {
	.sql = "INSERT INTO order_mgmt.consumers (name, kind, handler, owner, event_types,"
		   " max_attempts, backoff_base, backoff_cap, paused, created_at, start_at)"
		   " VALUES ($1, $2, $3, $4, $5, $6, '1 second', '5 minutes', false,"
		   " pg_catalog.clock_timestamp(), $7)",
	.nargs = 7,
	.types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, INT8OID, TIMESTAMPTZOID}};

static OmQuery delete_queries[] = {
	{.sql = "DELETE FROM order_mgmt.consumers WHERE name = $1", .nargs = 1, .types = {TEXTOID}},
	{.sql = "DELETE FROM order_mgmt.retries WHERE consumer = $1", .nargs = 1, .types = {TEXTOID}},
	{.sql = "DELETE FROM order_mgmt.dead_letters WHERE consumer = $1",
	 .nargs = 1,
	 .types = {TEXTOID}},
};

static OmQuery first_lxid_query = {.sql =
									   "SELECT min(lxid) FROM order_mgmt.event_log WHERE at >= $1",
								   .nargs = 1,
								   .types = {TIMESTAMPTZOID}};

static void
raise_invalid(const char *path, const char *message)
{
	ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg_internal("%s %s", path, message),
					om_errdetail("path", path),
					errhint("Correct the part of the request that the path names.")));
}

/* '*' stands for all consumers where one can be named. */
static void
check_name(const char *name)
{
	if (*name == '\0')
		raise_invalid("name", "is missing");
	if (pg_mbstrlen(name) > NAME_MAX_CHARS)
		raise_invalid("name", "is longer than 64 characters");
	if (strcmp(name, "*") == 0)
		raise_invalid("name", "is reserved");
}

/* Bits of event types; an array comes from outside when it has a path to name in errors. */
static uint32
read_types(ArrayType *array, const char *path)
{
	Datum *words;
	bool *isnull;
	int count;
	uint32 types = 0;

	if (array == NULL)
		return OM_EVENTS_ALL;
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &words, &isnull, &count);
	for (int i = 0; i < count; i++)
	{
		char *word = isnull[i] ? pstrdup("") : TextDatumGetCString(words[i]);
		int type = om_names_find(om_event_names, OM_EVENT_COUNT, word, strlen(word));

		if (type >= 0)
			types |= OM_EVENT_BIT(type);
		else if (path != NULL)
			raise_invalid(psprintf("%s[%d]", path, i), "is not an event type");
	}
	if (types == 0 && path != NULL)
		raise_invalid(path, "names no event type");
	return types;
}

static OmRegistration *
read_row(OmTable *table, HeapTuple row)
{
	OmRegistration *consumer = palloc0(sizeof(OmRegistration));
	char *kind = om_row_get_text(table, row, COLUMN_KIND);
	bool isnull;
	Datum value;

	consumer->name = om_row_get_text(table, row, COLUMN_NAME);
	consumer->kind =
		(OmConsumerKind) Max(om_names_find(kind_names, OM_KIND_COUNT, kind, strlen(kind)), 0);
	consumer->handler = om_row_get_text(table, row, COLUMN_HANDLER);
	consumer->owner = om_row_get_text(table, row, COLUMN_OWNER);
	value = om_row_get(table, row, COLUMN_EVENT_TYPES, &isnull);
	consumer->types = read_types(isnull ? NULL : DatumGetArrayTypePCopy(value), NULL);
	consumer->max_attempts = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_MAX_ATTEMPTS));
	consumer->paused = DatumGetBool(om_row_get_not_null(table, row, COLUMN_PAUSED));
	value = om_row_get(table, row, COLUMN_START_AT, &isnull);
	consumer->start_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	return consumer;
}

OmRegistration *
om_registry_find(const char *name)
{
	OmTable *table = om_table_open(om_relation_get("consumers"), AccessShareLock);
	Datum key = CStringGetTextDatum(name);
	OmRegistration *consumer = NULL;
	Snapshot snapshot;
	HeapTuple row;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	row = om_table_find(table, &key, snapshot);
	if (row != NULL)
		consumer = read_row(table, row);
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return consumer;
}

OmRegistration *
om_registry_require(const char *name, OmConsumerKind kind)
{
	OmRegistration *consumer = om_registry_find(name);

	if (consumer == NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no consumer \"%s\"", name),
						om_errdetail("consumer", name),
						errhint("SELECT name FROM order_mgmt.consumers lists them.")));
	if (consumer->kind != kind)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("consumer \"%s\" is of kind %s, not %s", name,
							   kind_names[consumer->kind], kind_names[kind]),
						om_errdetail("kind", kind_names[consumer->kind]),
						errhint("SELECT name, kind FROM order_mgmt.consumers lists them.")));
	return consumer;
}

static bool
acts_as(const char *role)
{
	Oid oid = role == NULL ? InvalidOid : get_role_oid(role, true /* missing_ok */);

	return OidIsValid(oid) && has_privs_of_role(GetUserId(), oid);
}

void
om_registry_require_owner(const OmRegistration *consumer)
{
	if (!acts_as(consumer->owner) && !acts_as(ADMIN_ROLE))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("consumer \"%s\" belongs to another role", consumer->name),
						om_errdetail("consumer", consumer->name),
						errhint("Act as its owner, a member of that role, or an administrator.")));
}

static void
add_if_of_kind(OmTable *table, HeapTuple row, void *arg)
{
	struct
	{
		OmConsumerKind kind;
		List *list;
	} *wanted = arg;
	OmRegistration *consumer = read_row(table, row);

	if (consumer->kind == wanted->kind)
		wanted->list = lappend(wanted->list, consumer);
}

List *
om_registry_list(OmConsumerKind kind)
{
	OmTable *table = om_table_open(om_relation_get("consumers"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	struct
	{
		OmConsumerKind kind;
		List *list;
	} wanted = {kind, NIL};

	om_table_scan(table, NULL, 0, snapshot, add_if_of_kind, &wanted);
	UnregisterSnapshot(snapshot);
	om_table_close(table);
	return wanted.list;
}

/*
 * From here on the log has everything that was written at or after the time:
 * by transactions that can be seen, by those still open, and by those to come.
 */
static int64
first_lxid_since(TimestampTz start_at, const OmHorizon *now)
{
	Datum arg = TimestampTzGetDatum(start_at);
	OmQueryScope scope;
	int64 first = now->xmin;
	bool isnull;
	Datum found;

	om_query_begin(&scope);
	om_query_run(&first_lxid_query, &arg, NULL);
	found = om_result_get(0, 1, &isnull);
	if (!isnull)
		first = Min(first, DatumGetInt64(found));
	om_query_end(&scope);
	return first;
}

/*
 * The position is numbered by the transaction, so that the numbers of a
 * consumer that is dropped and made again do not come back.
 */
static void
create_position(const char *name, const TimestampTz *start_at)
{
	int64 lxid = om_installation_lxid();
	OmCursor cursor = {.consumer = name, .seq = lxid * 2 - 1};

	cursor.base = om_tick_private(om_installation_get()->xid_base, &cursor.tick_id);
	if (start_at != NULL)
	{
		int64 first = first_lxid_since(*start_at, cursor.base);
		OmHorizon since = {.xmin = first, .xmax = first};

		cursor.base = om_horizon_copy(&since);
	}
	om_census_init(&cursor);
	om_cursor_store(&cursor, PG_INT64_MAX, 0);
}

static ArrayType *
types_array(uint32 types)
{
	Datum words[OM_EVENT_COUNT];
	int count = 0;

	for (int type = 0; type < OM_EVENT_COUNT; type++)
	{
		if (types & OM_EVENT_BIT(type))
			words[count++] = CStringGetTextDatum(om_event_names[type]);
	}
	return construct_array(words, count, TEXTOID, -1, false, TYPALIGN_INT);
}

static void
insert_row(const OmRegistration *consumer, bool all_types, const TimestampTz *start_at)
{
	Datum args[7] = {CStringGetTextDatum(consumer->name),
					 CStringGetTextDatum(kind_names[consumer->kind]),
					 consumer->handler == NULL ? (Datum) 0 : CStringGetTextDatum(consumer->handler),
					 CStringGetTextDatum(consumer->owner),
					 PointerGetDatum(types_array(consumer->types)),
					 Int64GetDatum(consumer->max_attempts),
					 start_at == NULL ? (Datum) 0 : TimestampTzGetDatum(*start_at)};
	bool isnull[7] = {false};
	OmQueryScope scope;

	isnull[2] = consumer->handler == NULL;
	isnull[4] = all_types;
	isnull[6] = start_at == NULL;
	om_query_begin(&scope);
	om_query_run(&insert_query, args, isnull);
	om_query_end(&scope);
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Where it began is history, not part of what it is. */
static void
require_same(const OmRegistration *existing, const OmRegistration *wanted, int64 max_attempts)
{
	const char *differs = NULL;

	if (!same_text(existing->owner, wanted->owner))
		differs = "owner";
	else if (!same_text(existing->handler, wanted->handler))
		differs = "handler";
	else if (existing->types != wanted->types)
		differs = "event_types";
	else if (max_attempts != 0 && existing->max_attempts != max_attempts)
		differs = "max_attempts";
	if (differs != NULL)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("consumer \"%s\" exists with another %s", wanted->name, differs),
						om_errdetail("differs", differs),
						errhint("Use another name, or drop the existing one first; "
								"set_retry_policy() changes max_attempts.")));
}

bool
om_registry_add(const char *name, OmConsumerKind kind, const char *handler, ArrayType *event_types,
				int64 max_attempts, const TimestampTz *start_at)
{
	OmRegistration wanted = {.name = pstrdup(name),
							 .kind = kind,
							 .handler = handler == NULL ? NULL : pstrdup(handler),
							 .owner = GetUserNameFromId(GetUserId(), false /* noerr */),
							 .types = read_types(event_types, "event_types")};

	check_name(name);
	if (max_attempts < 0)
		raise_invalid("max_attempts", "is not positive");
	if (start_at != NULL && TIMESTAMP_IS_NOEND(*start_at))
		raise_invalid("start_at", "is infinite");
	om_lock_acquire(om_lock_of_consumer(name));
	if (om_registry_find(name) != NULL)
	{
		require_same(om_registry_require(name, kind), &wanted, max_attempts);
		return false;
	}
	wanted.max_attempts = max_attempts == 0 ? OM_DEFAULT_MAX_ATTEMPTS : max_attempts;
	insert_row(&wanted, event_types == NULL, start_at);
	create_position(name, start_at);
	CommandCounterIncrement();
	return true;
}

void
om_registry_drop(const char *name, OmConsumerKind kind)
{
	Datum arg = CStringGetTextDatum(name);
	OmQueryScope scope;

	om_lock_acquire(om_lock_of_consumer(name));
	om_registry_require_owner(om_registry_require(name, kind));
	om_query_begin(&scope);
	for (int i = 0; i < (int) lengthof(delete_queries); i++)
		om_query_run(&delete_queries[i], &arg, NULL);
	om_query_end(&scope);
	om_cursor_drop(name);
	CommandCounterIncrement();
}
