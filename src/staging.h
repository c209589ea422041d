/*
 * staging.h
 *		Rows of orders that somebody has put into table "order_staging".
 */
#ifndef OM_STAGING_H
#define OM_STAGING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* A time that is later than any that this process has been given before. */
extern TimestampTz om_staging_time(void);

/* The options with which such rows are read; OM001 for those that are about files. */
extern Jsonb *om_staging_options(Jsonb *options);

/*
 * Makes the rows that the current role has staged the bytes of a load: they are
 * not staged any more.  Returns how many there were.
 */
extern int64 om_staging_take(int64 load_id);

#endif /* OM_STAGING_H */
