/*
 * claims.c
 *		Claims by order and by key.
 *
 * Each key (a customer or a product) lists the demands on it in the order of
 * the log, and knows two sums: what is held by undecided orders and what
 * others wait for.  Orders wait only for earlier ones, and both checkers see
 * the same order, so they cannot wait for each other in a circle.
 *
 * Whatever changes at a key wakes a few of those that wait there, in their
 * order; when the first of them still has to wait, so do those behind it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "claims.h"

/* Customer and product ids have up to 64 characters. */
#define KEY_SIZE (64 * MAX_MULTIBYTE_CHAR_LEN + 1)

/* How many that wait at a key are looked at after a change there. */
#define WAKE_AT_ONCE 64

typedef struct OmClaimKey
{
	char key[KEY_SIZE]; /* hash key */
	int128 held;        /* the sum of many amounts may be more than one amount can be */
	int128 waiting;
	dlist_head demands;
} OmClaimKey;

OmClaims *
om_claims_create(OmInbox *inbox)
{
	OmClaims *claims = palloc0(sizeof(OmClaims));
	HASHCTL by_order = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(OmClaim)};
	HASHCTL by_key = {.keysize = KEY_SIZE, .entrysize = sizeof(OmClaimKey)};

	claims->context = AllocSetContextCreate(CurrentMemoryContext, "claims", ALLOCSET_DEFAULT_SIZES);
	claims->inbox = inbox;
	by_order.hcxt = by_key.hcxt = claims->context;
	claims->by_order =
		hash_create("claims by order", 1024, &by_order, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	claims->by_key =
		hash_create("claims by key", 1024, &by_key, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	dlist_init(&claims->by_age);
	return claims;
}

OmClaim *
om_claims_find(OmClaims *claims, const pg_uuid_t *order_id)
{
	return hash_search(claims->by_order, order_id, HASH_FIND, NULL);
}

const char *
om_demand_key(const OmDemand *demand)
{
	return demand->key->key;
}

static OmClaimKey *
get_key(OmClaims *claims, const char *name)
{
	bool found;
	OmClaimKey *key = hash_search(claims->by_key, name, HASH_ENTER, &found);

	if (!found)
	{
		key->held = key->waiting = 0;
		dlist_init(&key->demands);
	}
	return key;
}

static int128 *
sum_of(OmDemand *demand)
{
	return demand->claim->item == NULL ? &demand->key->held : &demand->key->waiting;
}

static void
insert_demand(OmDemand *demand)
{
	OmClaimKey *key = demand->key;
	dlist_iter iter;

	*sum_of(demand) += demand->amount;
	dlist_reverse_foreach(iter, &key->demands)
	{
		OmDemand *other = dlist_container(OmDemand, node, iter.cur);

		if (om_inbox_compare(&other->claim->event, &demand->claim->event) < 0)
		{
			dlist_insert_after(&other->node, &demand->node);
			return;
		}
	}
	dlist_push_head(&key->demands, &demand->node);
}

static OmClaim *
add_claim(OmClaims *claims, OmItem *item, const OmRetry *event, int ndemands, char *const *keys,
		  const int64 *amounts)
{
	bool found;
	OmClaim *claim = hash_search(claims->by_order, &event->order_id, HASH_ENTER, &found);

	if (found)
		elog(ERROR, "an order has been captured twice in the same round");
	claim->event = *event;
	claim->event.detail = NULL;
	claim->item = item;
	claim->ndemands = ndemands;
	claim->demands = MemoryContextAllocZero(claims->context, sizeof(OmDemand) * Max(ndemands, 1));
	for (int i = 0; i < ndemands; i++)
	{
		OmDemand *demand = &claim->demands[i];

		demand->claim = claim;
		demand->key = get_key(claims, keys[i]);
		demand->amount = amounts[i];
		demand->fit = OM_FIT_UNKNOWN;
		insert_demand(demand);
	}
	dlist_push_tail(&claims->by_age, &claim->node);
	claims->count++;
	return claim;
}

OmClaim *
om_claims_add(OmClaims *claims, OmItem *item, int ndemands, char *const *keys, const int64 *amounts)
{
	OmClaim *claim = add_claim(claims, item, &item->event, ndemands, keys, amounts);

	claim->round = item->round;
	claim->seq = item->seq;
	item->claim = claim;
	return claim;
}

OmClaim *
om_claims_add_held(OmClaims *claims, const OmRetry *event, int round, int64 seq, int ndemands,
				   char *const *keys, const int64 *amounts)
{
	OmClaim *claim = add_claim(claims, NULL, event, ndemands, keys, amounts);

	claim->round = round;
	claim->seq = seq;
	om_backlog_add(claims->inbox->backlog, seq);
	return claim;
}

static bool
waits(const OmDemand *demand)
{
	return demand->claim->item != NULL && demand->fit != OM_FIT_YES;
}

static void
wake(OmClaims *claims, OmClaimKey *key)
{
	int left = WAKE_AT_ONCE;
	dlist_iter iter;

	if (key->waiting == 0)
		return;
	dlist_foreach(iter, &key->demands)
	{
		OmDemand *demand = dlist_container(OmDemand, node, iter.cur);

		if (!waits(demand))
			continue;
		om_inbox_wake(claims->inbox, demand->claim->item);
		if (--left == 0)
			break;
	}
}

void
om_claims_wake_key(OmClaims *claims, const char *name)
{
	OmClaimKey *key = hash_search(claims->by_key, name, HASH_FIND, NULL);

	if (key != NULL)
		wake(claims, key);
}

static void
drop_demand(OmClaims *claims, OmDemand *demand)
{
	OmClaimKey *key = demand->key;

	*sum_of(demand) -= demand->amount;
	dlist_delete(&demand->node);
	if (dlist_is_empty(&key->demands))
		hash_search(claims->by_key, key->key, HASH_REMOVE, NULL);
	else
		wake(claims, key);
}

void
om_claims_remove(OmClaims *claims, OmClaim *claim)
{
	for (int i = 0; i < claim->ndemands; i++)
		drop_demand(claims, &claim->demands[i]);
	if (claim->item != NULL)
		om_inbox_remove(claims->inbox, claim->item, false /* keep_backlog */);
	else
		om_backlog_remove(claims->inbox->backlog, claim->seq);
	pfree(claim->demands);
	dlist_delete(&claim->node);
	claims->count--;
	hash_search(claims->by_order, &claim->order_id, HASH_REMOVE, NULL);
}

void
om_claims_hold(OmClaims *claims, OmClaim *claim, int64 seq)
{
	OmItem *item = claim->item;

	for (int i = 0; i < claim->ndemands; i++)
		*sum_of(&claim->demands[i]) -= claim->demands[i].amount;
	claim->item = NULL;
	for (int i = 0; i < claim->ndemands; i++)
	{
		*sum_of(&claim->demands[i]) += claim->demands[i].amount;
		wake(claims, claim->demands[i].key);
	}
	/* What comes out of retries is found again by its verdict, which is written after this row. */
	claim->seq = item->seq == PG_INT64_MAX ? seq : item->seq;
	if (item->seq == PG_INT64_MAX)
		om_backlog_add(claims->inbox->backlog, seq);
	om_inbox_remove(claims->inbox, item, true /* keep_backlog */);
}

static int128
sum_before(const OmDemand *demand, bool held)
{
	int128 sum = 0;
	dlist_iter iter;

	dlist_foreach(iter, &demand->key->demands)
	{
		const OmDemand *other = dlist_container(OmDemand, node, iter.cur);

		if (other == demand)
			break;
		if ((other->claim->item == NULL) == held)
			sum += other->amount;
	}
	return sum;
}

/* True for the last demand at its key: then sums need no look at the others. */
static bool
is_last(const OmDemand *demand)
{
	return !dlist_has_next(&demand->key->demands, unconstify(dlist_node *, &demand->node));
}

int128
om_demand_waiting_before(const OmDemand *demand)
{
	Assert(demand->claim->item != NULL);
	if (is_last(demand))
		return demand->key->waiting - demand->amount;
	return sum_before(demand, false /* held */);
}

int128
om_demand_held_before(const OmDemand *demand)
{
	return is_last(demand) ? demand->key->held : sum_before(demand, true /* held */);
}

/* The first that waits for the lock of a row looks from time to time whether it is free. */
static bool
must_probe(const OmDemand *demand)
{
	dlist_iter iter;

	dlist_foreach(iter, &demand->key->demands)
	{
		const OmDemand *other = dlist_container(OmDemand, node, iter.cur);

		if (other == demand)
			return true;
		if (other->claim->item != NULL && other->fit == OM_FIT_LOCKED &&
			other->claim->item->seq != PG_INT64_MAX)
			return false;
	}
	return true;
}

void
om_claims_wait(OmClaims *claims, OmClaim *claim)
{
	bool probe = false;

	for (int i = 0; i < claim->ndemands && !probe; i++)
		probe = claim->demands[i].fit == OM_FIT_LOCKED && must_probe(&claim->demands[i]);
	if (probe)
		om_inbox_sleep_on_lock(claims->inbox, claim->item);
	else
		om_inbox_sleep(claims->inbox, claim->item, 0);
}

void
om_claims_pass_over(OmClaims *claims, OmClaim *claim)
{
	for (int i = 0; i < claim->ndemands; i++)
		wake(claims, claim->demands[i].key);
}
