/*
 * money.c
 *		Conversion between numeric and int64 minor units, exact or refused.
 *
 * An amount with more than four decimals is never rounded: whoever sends
 * 0.00005 hears of it.
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "money.h"

/* Signs as numeric_send() gives them; others are NaN and the infinities. */
#define POSITIVE 0x0000
#define NEGATIVE 0x4000

/* Sixteen digits before the decimal point; numeric(18,4) has fourteen. */
#define MAX_WEIGHT 3

/*
 * A numeric as numeric_send() lays it out: its digits have base 10000, so each
 * of them, up to the first after the decimal point, is a part of the amount in
 * minor units as it is.
 */
OmMoneyResult
om_money_from_numeric(Numeric value, int64 *minor)
{
	bytea *sent = DatumGetByteaPP(DirectFunctionCall1(numeric_send, NumericGetDatum(value)));
	StringInfoData words = {.data = VARDATA_ANY(sent), .len = VARSIZE_ANY_EXHDR(sent)};
	int ndigits = (int16) pq_getmsgint(&words, sizeof(int16));
	int weight = (int16) pq_getmsgint(&words, sizeof(int16));
	int sign = pq_getmsgint(&words, sizeof(int16));
	int128 amount = 0;
	bool exact = true;

	(void) pq_getmsgint(&words, sizeof(int16)); /* decimals to be shown */
	if ((sign != POSITIVE && sign != NEGATIVE) || weight > MAX_WEIGHT)
		return OM_MONEY_TOO_LARGE;
	for (int place = weight; place >= -1 || ndigits > 0; place--, ndigits--)
	{
		int digit = ndigits > 0 ? (int) pq_getmsgint(&words, sizeof(int16)) : 0;

		if (place >= -1)
			amount = amount * 10000 + digit;
		else
			exact &= digit == 0;
	}
	pfree(sent);
	if (amount > OM_MONEY_MAX)
		return OM_MONEY_TOO_LARGE;
	*minor = (int64) (sign == NEGATIVE ? -amount : amount);
	return exact ? OM_MONEY_OK : OM_MONEY_TOO_PRECISE;
}

int64
om_money_from_datum(Datum value)
{
	int64 minor = 0;

	if (om_money_from_numeric(DatumGetNumeric(value), &minor) != OM_MONEY_OK)
		elog(ERROR, "stored amount does not fit numeric(18,4)");
	return minor;
}

Numeric
om_money_to_numeric(int64 minor)
{
	return int64_div_fast_to_numeric(minor, OM_MONEY_SCALE);
}

char *
om_money_to_string(int64 minor)
{
	uint64 magnitude = minor < 0 ? (uint64) 0 - (uint64) minor : (uint64) minor;

	return psprintf("%s" UINT64_FORMAT ".%04u", minor < 0 ? "-" : "", magnitude / 10000,
					(unsigned int) (magnitude % 10000));
}

bool
om_money_add_line(int64 *total, int64 price, int64 quantity)
{
	int64 amount;

	return !pg_mul_s64_overflow(price, quantity, &amount) &&
		   !pg_add_s64_overflow(*total, amount, total) && *total <= OM_MONEY_MAX;
}
