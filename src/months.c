/*
 * months.c
 *		Makes monthly partitions.
 *
 * Always CREATE TABLE (LIKE …) and ATTACH, never PARTITION OF: that would take
 * ACCESS EXCLUSIVE on the parent and deadlock two captures that miss the same
 * month.  ATTACH takes SHARE UPDATE EXCLUSIVE, beside which captures go on;
 * whoever comes second waits for that lock and finds the month made.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "archives.h"
#include "clock.h"
#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "lockwaits.h"
#include "months.h"
#include "names.h"
#include "plans.h"
#include "relations.h"

typedef struct MonthlyTable
{
	const char *name;
	int fillfactor; /* LIKE copies no storage parameters */
} MonthlyTable;

/*
 * In the order in which a capture needs them, so that two that make a month do
 * not deadlock.  Room for the new versions of a row makes its status changes HOT.
 */
static const MonthlyTable monthly_tables[] = {
	{"event_log", 100},
	{"orders", 40},
	{"order_lines", 100},
};

/* Maintenance looks again some other time; nobody is to wait for a worker that waits. */
#define AHEAD_TRIES 3
#define AHEAD_PAUSE_MS 50

static void
split_month(TimestampTz at, int *year, int *month)
{
	int julian = (int) ((at >= 0 ? at : at - (USECS_PER_DAY - 1)) / USECS_PER_DAY);
	int day;

	j2date(julian + POSTGRES_EPOCH_JDATE, year, month, &day);
}

static TimestampTz
join_month(int year, int month)
{
	return (TimestampTz) (date2j(year, month, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

TimestampTz
om_months_begin(TimestampTz at)
{
	int year;
	int month;

	split_month(at, &year, &month);
	return join_month(year, month);
}

TimestampTz
om_months_next(TimestampTz at)
{
	int year;
	int month;

	split_month(at, &year, &month);
	return month == 12 ? join_month(year + 1, 1) : join_month(year, month + 1);
}

static const MonthlyTable *
find_monthly_table(const char *name)
{
	for (int i = 0; i < (int) lengthof(monthly_tables); i++)
	{
		if (strcmp(monthly_tables[i].name, name) == 0)
			return &monthly_tables[i];
	}
	elog(ERROR, "table \"%s\" is not partitioned by month", name);
}

/* ---------- names and bounds ---------- */

#define MONTH_SUFFIX_LENGTH 8 /* _YYYY_MM; years have more digits in ten thousand years only */
#define HASH_LENGTH 9

char *
om_months_name(const char *table, TimestampTz at)
{
	int length = strlen(table);
	int year;
	int month;
	uint32 hash;

	split_month(at, &year, &month);
	if (length + MONTH_SUFFIX_LENGTH < NAMEDATALEN)
		return psprintf("%s_%04d_%02d", table, year, month);
	hash = hash_bytes((const unsigned char *) table, length);
	length = pg_mbcliplen(table, length, NAMEDATALEN - 1 - MONTH_SUFFIX_LENGTH - HASH_LENGTH);
	return psprintf("%.*s_%08x_%04d_%02d", length, table, hash, year, month);
}

static char *
write_bound(Oid type, TimestampTz at)
{
	int year;
	int month;

	split_month(at, &year, &month);
	return psprintf("%04d-%02d-01%s", year, month, type == TIMESTAMPTZOID ? " 00:00:00+00" : "");
}

/* ---------- making ---------- */

void
om_months_create(const OmMonthly *table, const char *name, TimestampTz begin, const char *storage)
{
	const char *parent = quote_qualified_identifier(table->schema, table->name);
	const char *leaf = quote_qualified_identifier(table->schema, name);
	OmQueryScope scope;

	om_query_begin_as_owner(&scope, table->relid);
	om_query_utility(psprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY) %s", leaf,
							  parent, storage));
	OM_FAULT_POINT("months/made");
	om_query_utility(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')",
							  parent, leaf, write_bound(table->type, begin),
							  write_bound(table->type, om_months_next(begin))));
	om_query_end(&scope);
	CommandCounterIncrement();
	OM_FAULT_POINT("months/attached");
}

/* What comes into a month that is over are orders that have been shipped. */
static bool
has_ended(TimestampTz end)
{
	return end + USECS_PER_DAY < om_clock_now();
}

/* Returns the name of the new partition, or NULL when somebody else has just made it. */
static char *
make_month(const MonthlyTable *table, Oid parent, TimestampTz at)
{
	OmMonthly monthly = {parent, OM_SCHEMA, table->name, TIMESTAMPTZOID};
	TimestampTz begin = om_months_begin(at);
	char *name;

	if (creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OM_STATE),
				 errmsg("partitions cannot be made inside an extension script"),
				 om_errdetail("context", "extension script"),
				 errhint("They would become part of the extension and be lost by pg_dump.")));
	LockRelationOid(parent, ShareUpdateExclusiveLock);
	if (OidIsValid(om_month_leaf(parent, at)))
		return NULL;
	if (om_archives_is_cold(table->name, at))
		om_archives_raise_cold(om_archives_month(at));
	if (om_archives_is_counted(begin))
		om_archives_raise_gone(om_archives_month(at));

	OM_FAULT_POINT("months/locked");
	name = om_months_name(table->name, begin);
	om_months_create(&monthly, name, begin,
					 psprintf("WITH (fillfactor = %d)",
							  has_ended(om_months_next(begin)) ? 100 : table->fillfactor));
	return name;
}

Oid
om_months_leaf(const char *table, TimestampTz at)
{
	Oid parent = om_relation_get(table);
	Oid leaf = om_month_leaf(parent, at);

	if (OidIsValid(leaf))
		return leaf;
	make_month(find_monthly_table(table), parent, at);
	leaf = om_month_leaf(parent, at);
	if (!OidIsValid(leaf))
		elog(ERROR, "partition of \"%s\" was made but not found", table);
	return leaf;
}

/* ---------- ahead of time ---------- */

/* One that maintenance makes; captures make theirs by themselves, and wait as long as it takes. */
typedef struct Ahead
{
	const MonthlyTable *table;
	TimestampTz month;
	TimestampTz last;
	List *missing; /* months, each a TimestampTz */
	char *made;
} Ahead;

static void
list_missing(void *arg)
{
	Ahead *ahead = arg;
	Oid parent = om_relation_get(ahead->table->name);

	ahead->missing = NIL;
	for (TimestampTz month = ahead->month; month <= ahead->last; month = om_months_next(month))
	{
		TimestampTz *missing;

		if (OidIsValid(om_month_leaf(parent, month)))
			continue;
		missing = palloc(sizeof(TimestampTz));
		*missing = month;
		ahead->missing = lappend(ahead->missing, missing);
	}
}

static void
make_ahead(void *arg)
{
	Ahead *ahead = arg;

	ahead->made = make_month(ahead->table, om_relation_get(ahead->table->name), ahead->month);
}

/* Whoever holds the table for longer is let be. */
static bool
try_for_a_while(void (*work)(void *arg), Ahead *ahead, bool keep)
{
	for (int i = 1;; i++)
	{
		if (om_lockwait_run(work, ahead, OM_LOCKWAIT_MS, keep))
			return true;
		if (i == AHEAD_TRIES)
			return false;
		om_lockwait_pause(AHEAD_PAUSE_MS * i);
	}
}

/* The first month that could not be made, or looked for, is told; later ones wait for it. */
static void
make_missing(Ahead *ahead, List **made, List **busy)
{
	bool done = try_for_a_while(list_missing, ahead, false /* keep */);
	ListCell *cell;

	foreach(cell, ahead->missing)
	{
		ahead->month = *(TimestampTz *) lfirst(cell);
		ahead->made = NULL;
		done = done && try_for_a_while(make_ahead, ahead, true /* keep */);
		if (!done)
			break;
		if (ahead->made != NULL)
			*made = lappend(*made, ahead->made);
	}
	if (!done)
		*busy = lappend(*busy, om_months_name(ahead->table->name, ahead->month));
}

List *
om_months_premake_if_free(TimestampTz now, int months_ahead, List **busy)
{
	TimestampTz first = om_months_begin(now);
	TimestampTz last = first;
	List *made = NIL;

	for (int i = 0; i < months_ahead; i++)
		last = om_months_next(last);
	for (int t = 0; t < (int) lengthof(monthly_tables); t++)
	{
		Ahead ahead = {.table = &monthly_tables[t], .month = first, .last = last};

		make_missing(&ahead, &made, busy);
	}
	return made;
}

List *
om_months_premake(TimestampTz now, int months_ahead)
{
	List *made = NIL;
	TimestampTz month = om_months_begin(now);

	for (int i = 0; i <= months_ahead; i++)
	{
		for (int t = 0; t < (int) lengthof(monthly_tables); t++)
		{
			Oid parent = om_relation_get(monthly_tables[t].name);

			if (!OidIsValid(om_month_leaf(parent, month)))
			{
				char *name = make_month(&monthly_tables[t], parent, month);

				if (name != NULL)
					made = lappend(made, name);
			}
		}
		month = om_months_next(month);
	}
	return made;
}
