/*
 * updater.h
 *		The order updater: joins the two verdicts on an order.
 */
#ifndef OM_UPDATER_H
#define OM_UPDATER_H

#include "postgres.h"

#include "eventlog.h"
#include "inbox.h"
#include "work.h"

typedef struct OmUpdater OmUpdater;

/* The verdicts that wait for their partner, kept in the current memory context. */
extern OmUpdater *om_updater_create(OmInbox *inbox);

/*
 * Takes in a row that has been read; what it makes due goes into the inbox.
 * seq: the cursor row from which a restart would read the row again.
 */
extern void om_updater_note(OmUpdater *updater, const OmLogRow *row, int64 seq);

/* Decides on these orders, as far as nobody has locked what that needs. */
extern void om_updater_run(OmUpdater *updater, OmWork *work, OmItem **items, int count, int64 seq);

/* Nothing more will come of an item. */
extern void om_updater_give_up(OmUpdater *updater, OmItem *item);

#endif /* OM_UPDATER_H */
