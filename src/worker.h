/*
 * worker.h
 *		The background worker of a database.
 */
#ifndef OM_WORKER_H
#define OM_WORKER_H

#include "postgres.h"

/* bgw_main_arg: which seat of which entry of the shared list of databases. */
#define OM_WORKER_ARG(entry, seat) Int32GetDatum((entry) *16 + (seat))
#define OM_WORKER_ARG_ENTRY(arg) (DatumGetInt32(arg) / 16)
#define OM_WORKER_ARG_SEAT(arg) (DatumGetInt32(arg) % 16)

extern PGDLLEXPORT void om_worker_main(Datum arg);

#endif /* OM_WORKER_H */
