/*
 * loader.h
 *		The engine of a load: reads, checks, groups and writes.
 */
#ifndef OM_LOADER_H
#define OM_LOADER_H

#include "loads.h"

/*
 * Runs a load from where it was committed last to its end, in the transaction
 * of the caller or in many, see om_load_commit().  An error ends the load, or
 * has it tried again from there.
 */
extern void om_loader_run(OmLoad *load);

#endif /* OM_LOADER_H */
