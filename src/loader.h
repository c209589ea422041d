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

/* To be called when a load has been added: where no worker will come, the caller runs it. */
extern void om_loader_run_without_worker(int64 load_id);

#endif /* OM_LOADER_H */
