/*
 * claims.c
 *		Claims by order and by key.
 *
 * Each key (a customer or a product) lists in the order of the log what is held
 * by undecided orders and what others wait for, and knows the sums of both.  A
 * backlog may be about one key: nothing here looks at all of a list where its
 * end, or a few of its first, will do.  Orders wait only for earlier ones, and
 * both checkers see the same order, so they cannot wait for each other in a
 * circle.
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
	int nblocked; /* waiters that something at this key may help */
	dlist_head holders;
	dlist_head waiters;
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
	dlist_init(&claims->all);
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
		key->nblocked = 0;
		dlist_init(&key->holders);
		dlist_init(&key->waiters);
	}
	return key;
}

static OmDemand *
demand_at(dlist_node *node)
{
	return dlist_container(OmDemand, node, node);
}

static bool
is_before(const OmDemand *a, const OmDemand *b)
{
	return om_retry_compare(&a->claim->event, &b->claim->event) < 0;
}

static int128 *
sum_of(OmDemand *demand)
{
	return demand->claim->item == NULL ? &demand->key->held : &demand->key->waiting;
}

static dlist_head *
list_of(OmDemand *demand)
{
	return demand->claim->item == NULL ? &demand->key->holders : &demand->key->waiters;
}

static void
insert_demand(OmDemand *demand)
{
	dlist_head *list = list_of(demand);
	dlist_iter iter;

	*sum_of(demand) += demand->amount;
	dlist_reverse_foreach(iter, list)
	{
		if (is_before(demand_at(iter.cur), demand))
		{
			dlist_insert_after(iter.cur, &demand->node);
			return;
		}
	}
	dlist_push_head(list, &demand->node);
}

/* What has not been looked at yet will be, in this batch. */
static bool
is_blocked(const OmDemand *demand)
{
	return demand->fit != OM_FIT_UNKNOWN && demand->fit != OM_FIT_YES;
}

void
om_demand_set_fit(OmDemand *demand, OmFit fit)
{
	demand->key->nblocked -= is_blocked(demand);
	demand->fit = fit;
	demand->key->nblocked += is_blocked(demand);
}

static void
take_out(OmDemand *demand)
{
	om_demand_set_fit(demand, OM_FIT_UNKNOWN);
	*sum_of(demand) -= demand->amount;
	dlist_delete(&demand->node);
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
	dlist_push_tail(&claims->all, &claim->node);
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

static void
wake(OmClaims *claims, OmClaimKey *key)
{
	int left = WAKE_AT_ONCE;
	dlist_iter iter;

	if (key->nblocked == 0)
		return;
	dlist_foreach(iter, &key->waiters)
	{
		OmDemand *demand = demand_at(iter.cur);

		if (!is_blocked(demand))
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

	take_out(demand);
	if (dlist_is_empty(&key->holders) && dlist_is_empty(&key->waiters))
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
		take_out(&claim->demands[i]);
	claim->item = NULL;
	for (int i = 0; i < claim->ndemands; i++)
	{
		insert_demand(&claim->demands[i]);
		wake(claims, claim->demands[i].key);
	}
	/* What comes out of retries is found again by its verdict, which is written after this row. */
	claim->seq = item->seq == PG_INT64_MAX ? seq : item->seq;
	if (item->seq == PG_INT64_MAX)
		om_backlog_add(claims->inbox->backlog, seq);
	om_inbox_remove(claims->inbox, item, true /* keep_backlog */);
}

/* Goes to both ends of the list at the same time, and stops at the nearer one. */
int128
om_demand_waiting_before(const OmDemand *demand)
{
	dlist_head *list = &demand->key->waiters;
	dlist_node *before = unconstify(dlist_node *, &demand->node);
	dlist_node *after = before;
	int128 sum_before = 0;
	int128 sum_after = 0;

	Assert(demand->claim->item != NULL);
	for (;;)
	{
		if (!dlist_has_prev(list, before))
			return sum_before;
		if (!dlist_has_next(list, after))
			return demand->key->waiting - demand->amount - sum_after;
		before = dlist_prev_node(list, before);
		sum_before += demand_at(before)->amount;
		after = dlist_next_node(list, after);
		sum_after += demand_at(after)->amount;
	}
}

/* Few are held that come later than one that waits. */
int128
om_demand_held_before(const OmDemand *demand)
{
	int128 sum = demand->key->held;
	dlist_iter iter;

	dlist_reverse_foreach(iter, &demand->key->holders)
	{
		if (is_before(demand_at(iter.cur), demand))
			break;
		sum -= demand_at(iter.cur)->amount;
	}
	return sum;
}

/* The first that waits for the lock of a row looks from time to time whether it is free. */
static bool
must_probe(const OmDemand *demand)
{
	dlist_iter iter;

	dlist_foreach(iter, &demand->key->waiters)
	{
		const OmDemand *other = demand_at(iter.cur);

		if (other == demand)
			return true;
		if (other->fit == OM_FIT_LOCKED && other->claim->item->seq != PG_INT64_MAX)
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
