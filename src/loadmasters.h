/*
 * loadmasters.h
 *		Accounts, products and stock of a file.
 */
#ifndef OM_LOADMASTERS_H
#define OM_LOADMASTERS_H

#include "postgres.h"

#include "loadfeed.h"

/* Writes one row, and counts it in the load; an error for one that is refused. */
extern void om_load_master_write(OmLoad *load, const OmLoadOptions *options, const OmLoadRow *row);

#endif /* OM_LOADMASTERS_H */
