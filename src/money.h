/*
 * money.h
 *		Amounts: numeric(18,4) in SQL, int64 minor units (1/10,000) in C.
 */
#ifndef OM_MONEY_H
#define OM_MONEY_H

#include "postgres.h"

#include "utils/numeric.h"

#define OM_MONEY_SCALE 4
/* The largest amount that numeric(18,4) holds. */
#define OM_MONEY_MAX INT64CONST(999999999999999999)

typedef enum OmMoneyResult
{
	OM_MONEY_OK,
	OM_MONEY_TOO_PRECISE, /* more than four decimals */
	OM_MONEY_TOO_LARGE    /* or NaN, or infinite */
} OmMoneyResult;

extern OmMoneyResult om_money_from_numeric(Numeric value, int64 *minor);
extern Numeric om_money_to_numeric(int64 minor);
extern char *om_money_to_string(int64 minor);

/* The value of a numeric(18,4) column, which is known to fit. */
extern int64 om_money_from_datum(Datum value);

/* price * quantity added to *total; false when that does not fit. */
extern bool om_money_add_line(int64 *total, int64 price, int64 quantity);

#endif /* OM_MONEY_H */
