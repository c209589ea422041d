/*
 * loadcells.c
 *		Reads numbers, times and objects from text.
 *
 * Numbers, and times as most programs write them, are read by hand: there are
 * millions of them, and PostgreSQL's own input functions raise errors.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "compat.h"
#include "loadcells.h"
#include "money.h"

static bool
refuse(OmCellProblem *problem, int sqlstate, const char *what)
{
	*problem = (OmCellProblem){sqlstate, what};
	return false;
}

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Adds digits to a number; where they end, or NULL when the number is too large. */
static const char *
read_digits(const char *p, int64 *number)
{
	for (; is_digit(*p); p++)
	{
		if (pg_mul_s64_overflow(*number, 10, number) ||
			pg_add_s64_overflow(*number, *p - '0', number))
			return NULL;
	}
	return p;
}

/* The fraction as minor units; zeros behind the fourth decimal say nothing. */
static const char *
read_fraction(const char *p, int64 *minor)
{
	int64 unit = 1000;

	for (; is_digit(*p); p++, unit /= 10)
	{
		if (unit == 0 && *p != '0')
			return NULL;
		*minor += unit * (*p - '0');
	}
	return p;
}

bool
om_cell_money(const char *cell, const OmCellStyle *style, int64 *minor, OmCellProblem *problem)
{
	bool negative = *cell == '-';
	const char *begin = cell + (negative || *cell == '+');
	int64 whole = 0;
	int64 fraction = 0;
	const char *p = read_digits(begin, &whole);

	if (p == NULL || whole > OM_MONEY_MAX / 10000)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
	if (p > begin && *p == style->decimal && is_digit(p[1]))
		p = read_fraction(p + 1, &fraction);
	if (p == NULL)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "has more than four decimals");
	if (p == begin || *p != '\0')
		return refuse(problem, ERRCODE_INVALID_TEXT_REPRESENTATION, "is not an amount");
	*minor = whole * 10000 + fraction;
	if (negative && *minor != 0)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is negative");
	return true;
}

bool
om_cell_units(const char *cell, int64 *units, OmCellProblem *problem)
{
	bool negative = *cell == '-';
	const char *begin = cell + (negative || *cell == '+');
	const char *p;

	*units = 0;
	p = read_digits(begin, units);
	if (p == NULL)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
	if (p == begin || *p != '\0')
		return refuse(problem, ERRCODE_INVALID_TEXT_REPRESENTATION, "is not a whole number");
	if (negative && *units != 0)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is negative");
	return true;
}

bool
om_cell_quantity(const char *cell, int32 *quantity, OmCellProblem *problem)
{
	int64 units;

	if (!om_cell_units(cell, &units, problem))
		return false;
	if (units == 0)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is zero");
	if (units > PG_INT32_MAX)
		return refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "is out of range");
	*quantity = (int32) units;
	return true;
}

/* ---------- times ---------- */

/* So many digits, and nothing else. */
static bool
take_number(const char **p, int ndigits, int *number)
{
	*number = 0;
	for (int i = 0; i < ndigits; i++)
	{
		if (!is_digit((*p)[i]))
			return false;
		*number = *number * 10 + ((*p)[i] - '0');
	}
	*p += ndigits;
	return true;
}

static bool
take_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

static bool
take_date(const char **p, struct pg_tm *tm)
{
	return take_number(p, 4, &tm->tm_year) && take_char(p, '-') && take_number(p, 2, &tm->tm_mon) &&
		   take_char(p, '-') && take_number(p, 2, &tm->tm_mday);
}

/* Up to six decimals of a second, if there are any. */
static bool
take_fraction(const char **p, fsec_t *fsec)
{
	fsec_t unit = 100000;

	*fsec = 0;
	if (!take_char(p, '.'))
		return true;
	if (!is_digit(**p))
		return false;
	for (; is_digit(**p); (*p)++, unit /= 10)
		*fsec += unit * (**p - '0');
	return true;
}

static bool
take_clock(const char **p, struct pg_tm *tm, fsec_t *fsec)
{
	if (!take_number(p, 2, &tm->tm_hour) || !take_char(p, ':') || !take_number(p, 2, &tm->tm_min))
		return false;
	return !take_char(p, ':') || (take_number(p, 2, &tm->tm_sec) && take_fraction(p, fsec));
}

/* Seconds west of Greenwich, as PostgreSQL counts them. */
static bool
take_zone(const char **p, struct pg_tm *tm, pg_tz *zone, int *tz)
{
	bool west = **p == '-';
	int hours;
	int minutes = 0;

	if (**p == '\0')
		*tz = DetermineTimeZoneOffset(tm, zone);
	else if (take_char(p, 'Z'))
		*tz = 0;
	else if ((west || **p == '+') && (*p)++ && take_number(p, 2, &hours))
	{
		bool separated = take_char(p, ':');

		if ((separated || is_digit(**p)) && !take_number(p, 2, &minutes))
			return false;
		if (hours > MAX_TZDISP_HOUR || minutes > 59)
			return false;
		*tz = (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE) * (west ? 1 : -1);
	}
	else
		return false;
	return **p == '\0';
}

static bool
is_on_calendar(const struct pg_tm *tm)
{
	return tm->tm_year >= 1 && tm->tm_mon >= 1 && tm->tm_mon <= MONTHS_PER_YEAR &&
		   tm->tm_mday >= 1 && tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1] &&
		   tm->tm_hour < HOURS_PER_DAY && tm->tm_min < MINS_PER_HOUR &&
		   tm->tm_sec < SECS_PER_MINUTE;
}

/* 2026-11-21 18:22:55.123+01:00 and its shorter forms; false where PostgreSQL has to look itself. */
static bool
read_usual_time(const char *cell, pg_tz *zone, TimestampTz *at)
{
	struct pg_tm tm = {0};
	fsec_t fsec = 0;
	int tz;

	if (!take_date(&cell, &tm))
		return false;
	if ((*cell == ' ' || *cell == 'T') && cell++ && !take_clock(&cell, &tm, &fsec))
		return false;
	return is_on_calendar(&tm) && take_zone(&cell, &tm, zone, &tz) &&
		   tm2timestamp(&tm, fsec, &tz, at) == 0;
}

/* The words that mean another time tomorrow. */
static bool
has_moving_word(char **fields, int count)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};

	for (int i = 0; i < count; i++)
	{
		for (int j = 0; j < (int) lengthof(words); j++)
		{
			if (pg_strcasecmp(fields[i], words[j]) == 0)
				return true;
		}
	}
	return false;
}

static bool
read_any_time(const char *cell, TimestampTz *at)
{
	char work[MAXDATELEN + MAXDATEFIELDS];
	char *fields[MAXDATEFIELDS];
	int types[MAXDATEFIELDS];
	int count;
	int kind;
	struct pg_tm tm;
	fsec_t fsec;
	int tz;

	return ParseDateTime(cell, work, sizeof(work), fields, types, MAXDATEFIELDS, &count) == 0 &&
		   !has_moving_word(fields, count) &&
		   om_decode_date_time(fields, types, count, &kind, &tm, &fsec, &tz) == 0 &&
		   kind == DTK_DATE && tm2timestamp(&tm, fsec, &tz, at) == 0;
}

static bool
read_time_as(const char *cell, text *format, TimestampTz *at)
{
	Datum value;
	Oid type;

	int overflow = 0;

	if (!om_parse_datetime(cstring_to_text(cell), format, &value, &type))
		return false;
	if (type == TIMESTAMPOID)
		*at = timestamp2timestamptz_opt_overflow(DatumGetTimestamp(value), &overflow);
	else if (type == DATEOID)
		*at = date2timestamptz_opt_overflow(DatumGetDateADT(value), &overflow);
	else if (type == TIMESTAMPTZOID)
		*at = DatumGetTimestampTz(value);
	else
		return false;
	return overflow == 0;
}

/*
 * PostgreSQL's own functions take the zone from the session, and the order of
 * day and month, which a file must not leave open: 03/04/2024 is no time.
 */
static bool
read_as_in_zone(const char *cell, const OmCellStyle *style, TimestampTz *at)
{
	pg_tz *zone = session_timezone;
	int order = DateOrder;
	bool ok;

	PG_TRY();
	{
		session_timezone = style->zone;
		DateOrder = DATEORDER_YMD;
		ok = style->time_format == NULL ? read_any_time(cell, at)
										: read_time_as(cell, style->time_format, at);
	}
	PG_FINALLY();
	{
		session_timezone = zone;
		DateOrder = order;
	}
	PG_END_TRY();
	return ok;
}

bool
om_cell_time(const char *cell, const OmCellStyle *style, TimestampTz *at, OmCellProblem *problem)
{
	bool ok = (style->time_format == NULL && read_usual_time(cell, style->zone, at)) ||
			  read_as_in_zone(cell, style, at);

	if (!ok || TIMESTAMP_NOT_FINITE(*at))
		return refuse(problem, ERRCODE_INVALID_DATETIME_FORMAT, "is not a time");
	return true;
}

/* ---------- objects ---------- */

typedef struct Parsing
{
	const char *cell;
	Jsonb *result;
} Parsing;

static void
parse_json(void *arg)
{
	Parsing *parsing = arg;

	parsing->result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(parsing->cell)));
}

bool
om_cell_object(const char *cell, Jsonb **object, OmCellProblem *problem)
{
	Parsing parsing = {.cell = cell};

	if (om_attempt(parse_json, &parsing, false /* keep */) != NULL ||
		!JB_ROOT_IS_OBJECT(parsing.result))
		return refuse(problem, ERRCODE_INVALID_TEXT_REPRESENTATION, "is not a JSON object");
	*object = parsing.result;
	return true;
}

#define SHOWN_BYTES 100

const char *
om_cell_shown(const char *cell)
{
	int length = (int) Min(strlen(cell), (size_t) SHOWN_BYTES + 1);

	if (length <= SHOWN_BYTES)
		return cell;
	return psprintf("%s...", pnstrdup(cell, pg_mbcliplen(cell, length, SHOWN_BYTES)));
}
