/*
 * imports.h
 *		Takes orders of the past in, as they are: shipped, each on its own date.
 */
#ifndef OM_IMPORTS_H
#define OM_IMPORTS_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "capture.h"

typedef struct OmImport
{
	OmCapture *capture; /* priced, and without a problem */
	TimestampTz at;
} OmImport;

/* Detail, as {"load_id": 1}, is that of their events. */
extern void om_imports_write(OmImport *imports, int count, Jsonb *detail);

#endif /* OM_IMPORTS_H */
