/*
 * obstacles.h
 *		What keeps a month of orders from leaving the database.
 */
#ifndef OM_OBSTACLES_H
#define OM_OBSTACLES_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * A sentence that says why a month cannot be archived now; NULL: nothing keeps
 * it.  Under SHARE on its partitions, and on table consumers, it stays so; without
 * it is a forecast.  It counts orders: a second per million.
 */
extern char *om_archiving_obstacle(TimestampTz month);

#endif /* OM_OBSTACLES_H */
