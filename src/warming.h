/*
 * warming.h
 *		Makes a month warm: a compact copy in another tablespace takes its place.
 */
#ifndef OM_WARMING_H
#define OM_WARMING_H

#include "postgres.h"

#include "policies.h"
#include "tiers.h"

/*
 * In the current transaction, which should end soon afterwards: it holds the
 * table exclusively then.  Returns the number of rows; *bytes is their new size.
 * 55P03 where the table is in use for too long; nothing has changed then, once
 * the (sub)transaction is undone.
 */
extern int64 om_warming_run(const OmMonth *month, const OmPolicy *policy, int64 *bytes);

#endif /* OM_WARMING_H */
