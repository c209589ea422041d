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
#include "utils/builtins.h"

#include "money.h"

OmMoneyResult
om_money_from_numeric(Numeric value, int64 *minor)
{
	Datum limit = NumericGetDatum(om_money_to_numeric(OM_MONEY_MAX));
	Datum magnitude = DirectFunctionCall1(numeric_abs, NumericGetDatum(value));
	Datum scaled;
	Datum whole;

	/* NaN sorts above everything, so it is too large as well. */
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, magnitude, limit)))
		return OM_MONEY_TOO_LARGE;
	scaled = DirectFunctionCall2(numeric_mul, NumericGetDatum(value),
								 NumericGetDatum(int64_to_numeric(10000)));
	whole = DirectFunctionCall2(numeric_trunc, scaled, Int32GetDatum(0));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, scaled, whole)))
		return OM_MONEY_TOO_PRECISE;
	*minor = DatumGetInt64(DirectFunctionCall1(numeric_int8, whole));
	return OM_MONEY_OK;
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
