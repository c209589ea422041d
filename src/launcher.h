/*
 * launcher.h
 *		The one process that starts workers in every database that is set up.
 */
#ifndef OM_LAUNCHER_H
#define OM_LAUNCHER_H

#include "postgres.h"

extern void om_launcher_register(void);

extern PGDLLEXPORT void om_launcher_main(Datum arg);

#endif /* OM_LAUNCHER_H */
