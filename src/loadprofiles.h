/*
 * loadprofiles.h
 *		Options of loads under a name.
 */
#ifndef OM_LOADPROFILES_H
#define OM_LOADPROFILES_H

#include "postgres.h"

#include "utils/jsonb.h"

/* True: there was none of this name. */
extern bool om_load_profile_set(const char *name, Jsonb *options);

/* False: there is none. */
extern bool om_load_profile_drop(const char *name);

/*
 * The options with those of the profile that they name beneath them, and
 * without its name.  OM004: there is none of this name.
 */
extern Jsonb *om_load_profile_apply(Jsonb *options);

#endif /* OM_LOADPROFILES_H */
