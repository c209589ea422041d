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
#include "utils/memutils.h"

#include "money.h"

/* Numbers that every conversion needs, made once. */
static Numeric highest = NULL;
static Numeric lowest = NULL;
static Numeric minor_per_unit = NULL;

static void
make_constants(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	highest = om_money_to_numeric(OM_MONEY_MAX);
	lowest = om_money_to_numeric(-OM_MONEY_MAX);
	minor_per_unit = int64_to_numeric(10000);
	MemoryContextSwitchTo(caller);
}

/* Of an amount that is known to fit. */
static int64
to_minor(Numeric value)
{
	return DatumGetInt64(
		DirectFunctionCall1(numeric_int8, DirectFunctionCall2(numeric_mul, NumericGetDatum(value),
															  NumericGetDatum(minor_per_unit))));
}

OmMoneyResult
om_money_from_numeric(Numeric value, int64 *minor)
{
	Datum datum = NumericGetDatum(value);

	if (minor_per_unit == NULL)
		make_constants();
	/* NaN sorts above everything, so it is too large as well. */
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, datum, NumericGetDatum(highest))) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, datum, NumericGetDatum(lowest))))
		return OM_MONEY_TOO_LARGE;
	if (DatumGetInt32(DirectFunctionCall1(numeric_min_scale, datum)) > OM_MONEY_SCALE)
		return OM_MONEY_TOO_PRECISE;
	*minor = to_minor(value);
	return OM_MONEY_OK;
}

int64
om_money_from_datum(Datum value)
{
	if (minor_per_unit == NULL)
		make_constants();
	return to_minor(DatumGetNumeric(value));
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
