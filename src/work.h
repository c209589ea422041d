/*
 * work.h
 *		What one transaction of the pipeline does to orders, accounts, stock and
 *		the log: each row is read and locked once and written once.
 */
#ifndef OM_WORK_H
#define OM_WORK_H

#include "postgres.h"

#include "eventlog.h"
#include "ledger.h"
#include "orders.h"

typedef struct OmWork
{
	OmLedgerWait wait;
	OmOrderTables *orders;
	OmLedger *ledgers[2]; /* by OmLedgerKind; NULL: none of its rows was needed yet */
	OmLogWriter *log;     /* NULL: nothing has happened yet */
	OmLogRows *happened;  /* the events of this work, in their order */
} OmWork;

/* For about so many orders. */
extern OmWork *om_work_begin(OmLedgerWait wait, int norders);

/* Locks these rows, too. */
extern OmLedger *om_work_lock(OmWork *work, OmLedgerKind kind, char **keys, int nkeys);

/* For an event of this moment. */
extern OmLogWriter *om_work_log(OmWork *work);

/* Writes what has changed. */
extern void om_work_end(OmWork *work);

#endif /* OM_WORK_H */
