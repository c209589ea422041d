/*
 * claims.h
 *		What undecided orders hold of, or wait for in, accounts or stock.
 *
 * A check may refuse an order only if it would not fit even were all earlier
 * undecided holds released, and may hold for it only if it fits even when all
 * earlier orders that wait take what they ask for.  Everything between waits.
 * So the result is that of one order at a time, however the work is cut up.
 */
#ifndef OM_CLAIMS_H
#define OM_CLAIMS_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/hsearch.h"

#include "inbox.h"

typedef enum OmFit
{
	OM_FIT_UNKNOWN, /* not looked at yet */
	OM_FIT_YES,     /* whatever becomes of earlier orders */
	OM_FIT_OPEN,    /* depends on them */
	OM_FIT_LOCKED,  /* somebody has locked the row */
	OM_FIT_NEVER
} OmFit;

struct OmClaimKey;

typedef struct OmDemand
{
	struct OmClaim *claim;
	struct OmClaimKey *key;
	int64 amount;
	OmFit fit;                   /* when it was looked at last */
	struct OmLedgerEntry *entry; /* while it is looked at */
	dlist_node node;             /* in one of the key's lists */
} OmDemand;

typedef struct OmClaim
{
	pg_uuid_t order_id; /* hash key */
	OmRetry event;      /* for its place in the log only */
	int round;
	int64 seq;    /* place in the backlog */
	OmItem *item; /* that waits; NULL: the claim is held */
	int ndemands;
	OmDemand *demands;
	dlist_node node; /* in the list of all */
} OmClaim;

typedef struct OmClaims
{
	MemoryContext context;
	OmInbox *inbox; /* of the same consumer */
	HTAB *by_order;
	HTAB *by_key;
	dlist_head all;
	int count;
} OmClaims;

/* Lives in the current memory context. */
extern OmClaims *om_claims_create(OmInbox *inbox);

extern OmClaim *om_claims_find(OmClaims *claims, const pg_uuid_t *order_id);

/* The claim of an item that waits; keys and amounts are copied. */
extern OmClaim *om_claims_add(OmClaims *claims, OmItem *item, int ndemands, char *const *keys,
							  const int64 *amounts);

/* The claim of an order that was held before a restart. */
extern OmClaim *om_claims_add_held(OmClaims *claims, const OmRetry *event, int round, int64 seq,
								   int ndemands, char *const *keys, const int64 *amounts);

/* It is held now: its item has been handled and goes.  seq: the newest cursor row. */
extern void om_claims_hold(OmClaims *claims, OmClaim *claim, int64 seq);

/* It has been decided, or refused: others may go on.  A waiting item goes, too. */
extern void om_claims_remove(OmClaims *claims, OmClaim *claim);

/* What earlier orders wait for, and hold, of the same key. */
extern int128 om_demand_waiting_before(const OmDemand *demand);
extern int128 om_demand_held_before(const OmDemand *demand);

/* The claim has been looked at and must wait; its demands say why. */
extern void om_claims_wait(OmClaims *claims, OmClaim *claim);

/* More may fit now in this account or product. */
extern void om_claims_wake_key(OmClaims *claims, const char *key);

/* A claim that waits will not be looked at for long: others must not wait for its look. */
extern void om_claims_pass_over(OmClaims *claims, OmClaim *claim);

/* What looking at a demand of a waiting claim has shown. */
extern void om_demand_set_fit(OmDemand *demand, OmFit fit);

extern const char *om_demand_key(const OmDemand *demand);

#endif /* OM_CLAIMS_H */
