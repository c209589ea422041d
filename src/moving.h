/*
 * moving.h
 *		What becomes of a month that is due.
 */
#ifndef OM_MOVING_H
#define OM_MOVING_H

#include "postgres.h"

#include "maintlog.h"
#include "policies.h"
#include "tiers.h"

/*
 * Does with a month what tiers.h has found to be next, and fills in the entry of
 * maintenance_log how many rows and bytes that were.  To be called under
 * OM_LOCK_ARCHIVE, once nothing is in the way (om_tiers_obstacle()).  55P03: it is
 * being used.
 */
extern void om_moving_run(const OmMonth *month, const OmPolicy *policy, OmMaintEntry *entry);

#endif /* OM_MOVING_H */
