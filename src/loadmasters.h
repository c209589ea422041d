/*
 * loadmasters.h
 *		Accounts, products and stock of a file.
 */
#ifndef OM_LOADMASTERS_H
#define OM_LOADMASTERS_H

#include "postgres.h"

#include "loadgroups.h"

/* Counts them in the load, with an error for each row that is refused. */
extern void om_load_masters_write(OmLoad *load, const OmLoadOptions *options,
								  const OmLoadGroup *rows);

#endif /* OM_LOADMASTERS_H */
