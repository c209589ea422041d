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

/* The same, with those of the workers that have the rights of the server. */
extern void om_bgsession_set_ours(void);

/* A transaction with an active snapshot. */
extern void om_bgsession_begin(void);
extern void om_bgsession_commit(bool durable);

/*
 * Between two transactions, however much there is to do.  Ends the process where
 * the postmaster is gone: the next one starts when the last of us has left.
 * True when the settings have been read again.
 */
extern bool om_bgsession_obey_signals(void);

/*
 * For the workers that a built-in one has started, whoever they are: the look
 * at the database that it has had itself.
 */
extern bool om_bgsession_may_work(void);

#endif /* OM_BGSESSION_H */
