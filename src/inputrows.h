/*
 * inputrows.h
 *		Rows of a query of the caller's as inputs of a model.
 */
#ifndef OM_INPUTROWS_H
#define OM_INPUTROWS_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/portal.h"

typedef struct OmInputRows
{
	Portal portal;
	int64 count; /* rows read so far */
} OmInputRows;

/*
 * Opens the query, a SELECT, with the rights of the caller; SPI is connected until
 * it is closed.  Each row is one input, an object of its columns, or the value
 * itself where there is but one column and that is jsonb.  With a label, that
 * column is taken out of the input and read beside it.  OM001 about the path
 * where the query is none.
 */
extern void om_inputrows_open(OmInputRows *rows, const char *query, const char *label,
							  const char *path);

/*
 * The next rows, in the current memory context; 0: no more.  labels is NULL where
 * there is none; one of them is where the query has no such column.
 */
extern int om_inputrows_fetch(OmInputRows *rows, int count, Jsonb **inputs, Jsonb **labels);

extern void om_inputrows_close(OmInputRows *rows);

#endif /* OM_INPUTROWS_H */
