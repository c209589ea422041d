/*
 * installation.h
 *		The set-up of this database: is it there, of which version, and does it
 *		live in the cluster it was made in?
 */
#ifndef OM_INSTALLATION_H
#define OM_INSTALLATION_H

#include "postgres.h"

/* Version of the stored data that this library works with. */
#define OM_SCHEMA_VERSION 3

typedef struct OmInstallation
{
	Oid relid;
	int schema_version;
	uint64 system_identifier;
	Oid database;
	int64 xid_base; /* lxid = transaction id + xid_base */
	bool moved;     /* restored or cloned; rests until post_restore() */
	uint8 lane_key[16];
} OmInstallation;

/* True where setup() has been run. */
extern bool om_installation_exists(void);

/* What setup() stored; OM006 where it is missing or of another version. */
extern const OmInstallation *om_installation_get(void);

/* Version of the stored data, whether or not this library works with it. */
extern int om_installation_version(void);

/* True when the data was made in another cluster or database than this. */
extern bool om_installation_is_foreign(const OmInstallation *installation);

/* What setup() stored; OM005 where the data rest until post_restore(). */
extern const OmInstallation *om_installation_require_home(void);

/*
 * The logical transaction id of the current transaction: assigns an xid, and
 * takes a foreign installation over into this cluster first.
 */
extern int64 om_installation_lxid(void);

/* Called when the row has changed, so that every backend reads it anew. */
extern void om_installation_changed(void);

/* Takes over and ends the rest after a restore; true when there was one. */
extern bool om_installation_resume(void);

extern void om_installation_init(void);

#endif /* OM_INSTALLATION_H */
