/*
 * maintlog.c
 *		The rows of maintenance_log.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "maintlog.h"
#include "months.h"
#include "plans.h"
#include "relations.h"

#define KEPT "1 year"

static OmQuery add_query = {
	.sql = "INSERT INTO order_mgmt.maintenance_log (maintenance_id, at, action, relation, month,"
		   " rows, bytes, duration, error_code, error) SELECT"
		   " pg_catalog.nextval('order_mgmt.maintenance_ids'), $8, $1, $2, $3, $4, $5,"
		   " pg_catalog.make_interval(secs => $6 / 1000000.0),"
		   " nullif(pg_catalog.split_part($7, ' ', 1), ''),"
		   " pg_catalog.substr($7, pg_catalog.strpos($7, ' ') + 1)",
	.nargs = 8,
	.types = {TEXTOID, TEXTOID, DATEOID, INT8OID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID}};

static OmQuery known_query = {
	.sql = "SELECT 1 FROM (SELECT error FROM order_mgmt.maintenance_log WHERE action = $1"
		   " AND relation = $2 ORDER BY maintenance_id DESC LIMIT 1) AS last WHERE error = $3",
	.nargs = 3,
	.types = {TEXTOID, TEXTOID, TEXTOID}};

static OmQuery purge_query = {.sql = "DELETE FROM order_mgmt.maintenance_log WHERE at < $1"
									 " - '" KEPT "'::interval",
							  .nargs = 1,
							  .types = {TIMESTAMPTZOID}};

OmMaintEntry
om_maintlog_entry(const char *action, const char *relation)
{
	return (OmMaintEntry){.action = action,
						  .relation = relation,
						  .month = DT_NOEND,
						  .rows = -1,
						  .bytes = -1,
						  .duration = -1};
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
number_or_null(int64 number, bool *isnull)
{
	*isnull = number < 0;
	return Int64GetDatum(number);
}

/* The SQLSTATE, if any, a blank, and the message. */
static Datum
write_error(const OmMaintEntry *entry, bool *isnull)
{
	*isnull = entry->error == NULL;
	if (*isnull)
		return (Datum) 0;
	return CStringGetTextDatum(psprintf(
		"%s %s", entry->sqlstate == 0 ? "" : unpack_sql_state(entry->sqlstate), entry->error));
}

void
om_maintlog_add(const OmMaintEntry *entry)
{
	Datum args[8] = {CStringGetTextDatum(entry->action)};
	bool isnull[8] = {false};
	OmQueryScope scope;

	if (!OidIsValid(om_relation_find("maintenance_log")))
		return; /* of an earlier version, until setup() is run */
	args[1] = text_or_null(entry->relation, &isnull[1]);
	isnull[2] = TIMESTAMP_NOT_FINITE(entry->month);
	if (!isnull[2])
		args[2] = DateADTGetDatum(om_months_begin(entry->month) / USECS_PER_DAY);
	args[3] = number_or_null(entry->rows, &isnull[3]);
	args[4] = number_or_null(entry->bytes, &isnull[4]);
	args[5] = number_or_null(entry->duration, &isnull[5]);
	args[6] = write_error(entry, &isnull[6]);
	args[7] = TimestampTzGetDatum(om_clock_now());
	om_query_begin(&scope);
	(void) om_query_run(&add_query, args, isnull);
	om_query_end(&scope);
}

static bool
is_known(const OmMaintEntry *entry)
{
	Datum args[3] = {CStringGetTextDatum(entry->action), CStringGetTextDatum(entry->relation),
					 CStringGetTextDatum(entry->error)};
	OmQueryScope scope;
	bool known;

	(void) om_relation_get("maintenance_log");
	om_query_begin(&scope);
	known = om_query_run(&known_query, args, NULL) > 0;
	om_query_end(&scope);
	return known;
}

void
om_maintlog_add_news(const OmMaintEntry *entry)
{
	if (!is_known(entry))
		om_maintlog_add(entry);
}

int64
om_maintlog_purge(void)
{
	Datum now = TimestampTzGetDatum(om_clock_now());
	OmQueryScope scope;
	int64 count;

	(void) om_relation_get("maintenance_log");
	om_query_begin(&scope);
	count = om_query_run(&purge_query, &now, NULL);
	om_query_end(&scope);
	return count;
}
