/*
 * loadcells.h
 *		What stands in a cell of a file, as a value.
 *
 * A wrong cell is data, not an error: each function says what is wrong with it
 * and the caller goes on with the next row.
 */
#ifndef OM_LOADCELLS_H
#define OM_LOADCELLS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/jsonb.h"

/* How the file writes numbers and times. */
typedef struct OmCellStyle
{
	char decimal;
	text *time_format; /* as to_timestamp() takes it; NULL: as timestamptz is read */
	pg_tz *zone;       /* of times that name none */
} OmCellStyle;

/* What is wrong, as "is not a number", and as which SQLSTATE; NULL: nothing. */
typedef struct OmCellProblem
{
	int sqlstate;
	const char *what;
} OmCellProblem;

extern bool om_cell_money(const char *cell, const OmCellStyle *style, int64 *minor,
						  OmCellProblem *problem);

/* From 1 to the largest integer. */
extern bool om_cell_quantity(const char *cell, int32 *quantity, OmCellProblem *problem);

/* From 0 to the largest bigint. */
extern bool om_cell_units(const char *cell, int64 *units, OmCellProblem *problem);

extern bool om_cell_time(const char *cell, const OmCellStyle *style, TimestampTz *at,
						 OmCellProblem *problem);

/* A cell as messages show it: its beginning, if it is long. */
extern const char *om_cell_shown(const char *cell);

extern bool om_cell_object(const char *cell, Jsonb **object, OmCellProblem *problem);

#endif /* OM_LOADCELLS_H */
