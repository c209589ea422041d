/*
 * clock.c
 *		The server's clock, or for tests the time that order_mgmt.clock says.
 *
 * A clock that is set stands still.  A session whose clock is set takes no month
 * for closed (leaves.c); others with the server's clock may not see what it has
 * written into months that are over for them, so such tests set the clock for the
 * database, or let the session do all the work.
 */
#include "postgres.h"

#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "compat.h"

/* Ids of orders hold no earlier time, names of partitions no later one. */
#define FIRST_YEAR 1970
#define LAST_YEAR 9998

static char *setting = NULL;
static TimestampTz set_time = DT_NOBEGIN; /* the server's clock */
static uint64 changes = 1;

static bool
read_time(const char *text, TimestampTz *at)
{
	char buffer[MAXDATELEN + MAXDATEFIELDS];
	char *fields[MAXDATEFIELDS];
	int types[MAXDATEFIELDS];
	int count;
	int kind;
	struct pg_tm tm;
	fsec_t fsec;
	int zone;

	return strlen(text) <= MAXDATELEN && text[0] >= '0' && text[0] <= '9' &&
		   ParseDateTime(text, buffer, sizeof(buffer), fields, types, MAXDATEFIELDS, &count) == 0 &&
		   om_decode_date_time(fields, types, count, &kind, &tm, &fsec, &zone) == 0 &&
		   kind == DTK_DATE && tm.tm_year >= FIRST_YEAR && tm.tm_year <= LAST_YEAR &&
		   tm2timestamp(&tm, fsec, &zone, at) == 0;
}

static bool
check_setting(char **value, void **extra, GucSource source pg_attribute_unused())
{
	TimestampTz at = DT_NOBEGIN;

	if (**value != '\0' && !read_time(*value, &at))
	{
		GUC_check_errdetail("It is a time from %d to %d such as \"2028-02-29 23:59:59.999+00\", "
							"or empty.",
							FIRST_YEAR, LAST_YEAR);
		return false;
	}
	*extra = om_setting_extra(sizeof(at));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &at, sizeof(at));
	return true;
}

static void
assign_setting(const char *value pg_attribute_unused(), void *extra)
{
	memcpy(&set_time, extra, sizeof(set_time));
	changes++;
}

bool
om_clock_is_set(void)
{
	return set_time != DT_NOBEGIN;
}

TimestampTz
om_clock_now(void)
{
	return om_clock_is_set() ? set_time : GetCurrentTimestamp();
}

uint64
om_clock_changes(void)
{
	return changes;
}

void
om_clock_define(void)
{
	DefineCustomStringVariable("order_mgmt.clock",
							   "Time that stands in for the server's clock, for tests of months.",
							   NULL, &setting, "", PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   check_setting, assign_setting, NULL);
}
