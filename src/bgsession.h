/*
 * bgsession.h
 *		Sessions of background workers: settings and transactions.
 */
#ifndef OM_BGSESSION_H
#define OM_BGSESSION_H

#include "postgres.h"

typedef struct OmBgSetting
{
	const char *name;
	const char *value;
} OmBgSetting;

/* What a database or role has set must not reach any of us; and these further settings. */
extern void om_bgsession_set(const OmBgSetting *further, int count);

/* A transaction with an active snapshot. */
extern void om_bgsession_begin(void);
extern void om_bgsession_commit(bool durable);

#endif /* OM_BGSESSION_H */
