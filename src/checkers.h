/*
 * checkers.h
 *		The balance checker and the stock checker.
 */
#ifndef OM_CHECKERS_H
#define OM_CHECKERS_H

#include "postgres.h"

#include "claims.h"
#include "eventlog.h"
#include "inbox.h"
#include "ledger.h"
#include "orders.h"
#include "reader.h"
#include "work.h"

typedef struct OmChecker OmChecker;

/* What a checker remembers of undecided orders, kept in the current memory context. */
extern OmChecker *om_checker_create(OmLedgerKind kind, OmInbox *inbox, const OmReader *reader);

/* Takes in a row that has been read. */
extern void om_checker_note(OmChecker *checker, const OmLogRow *row, int64 seq);

/* What was read before a restart has been read again. */
extern void om_checker_caught_up(OmChecker *checker, int64 seq);

/* Decides on these, in their order, as far as that is possible now. */
extern void om_checker_run(OmChecker *checker, OmWork *work, OmItem **items, int count, int64 seq);

/* The order is refused for what has been found elsewhere, and holds nothing. */
extern void om_checker_refuse(OmChecker *checker, OmWork *work, OmItem *item, Jsonb *detail);

/* The check itself has failed: a refusal without a reason, so that the order can be settled. */
extern void om_checker_give_up(OmChecker *checker, OmItem *item);

/* Too much is undecided: nothing more is read until some of it is. */
extern bool om_checker_is_full(OmChecker *checker);

/* When to see whether it is still too much; 0: it is not. */
extern TimestampTz om_checker_next_due(const OmChecker *checker);

/* An item will not be looked at for long. */
extern void om_checker_pass_over(OmChecker *checker, OmItem *item);

/* Event types that a checker reads beside order_captured. */
extern uint32 om_checker_types(OmLedgerKind kind);

/*
 * The orders that a checker has given a verdict on, among the events that "now"
 * shows and "since" does not: a hash table keyed by order_id.
 */
typedef struct OmGiven
{
	pg_uuid_t order_id;
	int round;
	bool held;    /* the verdict */
	bool decided; /* and so is the order */
	bool matched; /* its capture has been read again */
} OmGiven;

extern HTAB *om_checker_given(OmLedgerKind kind, const OmHorizon *since, const OmHorizon *now);

/* The reasons in the detail of a refusal, as bits by OmReason. */
extern uint32 om_checkers_reasons(Jsonb *detail);

/* The words of reasons, as an array. */
extern Jsonb *om_checkers_reasons_array(uint32 reasons);

/* The other way round: {"reasons": [...]}, and the round if it is not the first. */
extern Jsonb *om_checkers_reasons_detail(uint32 reasons, int round);

/*
 * Would an order (customer, total, needs) pass now?  refused: bits of reasons why it
 * would not, whatever there is of credit and stock.
 */
extern void om_checkers_preview(OmOrder *order, uint32 refused, bool *passes, Jsonb **reasons,
								Jsonb **shortages);

#endif /* OM_CHECKERS_H */
