/*
 * checkers.c
 *		Two checks of every captured order, each by itself: can the customer pay
 *		for it, and is all of it there?
 *
 * A check that passes holds what it checked.  The state of the order is not
 * looked at: an order that has been cancelled meanwhile is held and then
 * released by the order updater, which keeps every verdict in one place.
 *
 * What can neither be held nor refused yet waits as a claim (see claims.h), and
 * so does what needs a row that a client has locked: a checker never waits for
 * a client.  Claims live in memory.  After a restart the log is read again from
 * the oldest order that was undecided, and the checker's own verdicts in the
 * log tell what is held and what waited.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "checkers.h"
#include "faults.h"
#include "jsonout.h"
#include "ledger.h"
#include "money.h"
#include "orders.h"

/* One refusal in the making. */
typedef struct Refusal
{
	uint32 reasons;
	OmJson shortages; /* an array, opened at the first */
} Refusal;

/* Of what is asked for, only so much could be had; of an unknown row nothing. */
static void
add_shortage(Refusal *refusal, OmLedgerKind kind, const OmLedgerEntry *entry, int64 requested,
			 int64 available)
{
	bool is_account = kind == OM_LEDGER_ACCOUNTS;
	void (*add_amount)(OmJson *, int64) = is_account ? om_json_money : om_json_int;
	OmReason insufficient =
		is_account ? OM_REASON_INSUFFICIENT_BALANCE : OM_REASON_INSUFFICIENT_STOCK;
	OmReason unknown = is_account ? OM_REASON_UNKNOWN_ACCOUNT : OM_REASON_UNKNOWN_PRODUCT;

	if (refusal->reasons == 0)
		om_json_open_array(&refusal->shortages);
	refusal->reasons |= 1u << (entry->exists ? insufficient : unknown);
	om_json_open_object(&refusal->shortages);
	om_json_key(&refusal->shortages, is_account ? "customer_id" : "product_id");
	om_json_string(&refusal->shortages, entry->key);
	om_json_key(&refusal->shortages, "requested");
	add_amount(&refusal->shortages, requested);
	om_json_key(&refusal->shortages, "available");
	add_amount(&refusal->shortages, entry->exists ? available : 0);
	om_json_close_object(&refusal->shortages);
}

Jsonb *
om_checkers_reasons_array(uint32 reasons)
{
	OmJson json = {0};

	om_json_open_array(&json);
	for (int reason = 0; reason < OM_REASON_COUNT; reason++)
	{
		if (reasons & (1u << reason))
			om_json_string(&json, om_reason_names[reason]);
	}
	om_json_close_array(&json);
	return om_json_result(&json);
}

static Jsonb *
shortages_json(Refusal *refusal)
{
	if (refusal->reasons == 0)
		om_json_open_array(&refusal->shortages);
	om_json_close_array(&refusal->shortages);
	return om_json_result(&refusal->shortages);
}

Jsonb *
om_checkers_reasons_detail(uint32 reasons, int round)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, om_checkers_reasons_array(reasons));
	om_log_add_round(&json, round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static Jsonb *
refusal_detail(Refusal *refusal, int round)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "reasons");
	om_json_jsonb(&json, om_checkers_reasons_array(refusal->reasons));
	om_json_key(&json, "shortages");
	om_json_jsonb(&json, shortages_json(refusal));
	om_log_add_round(&json, round);
	om_json_close_object(&json);
	return om_json_result(&json);
}

uint32
om_checkers_reasons(Jsonb *detail)
{
	JsonbValue buffer;
	JsonbValue *list;
	uint32 reasons = 0;

	list = detail == NULL
			 ? NULL
			 : getKeyJsonValueFromContainer(&detail->root, "reasons", strlen("reasons"), &buffer);
	if (list == NULL || list->type != jbvBinary)
		return 0;
	for (uint32 i = 0; i < JsonContainerSize(list->val.binary.data); i++)
	{
		JsonbValue *word = getIthJsonbValueFromContainer(list->val.binary.data, i);
		int reason = om_names_find(om_reason_names, OM_REASON_COUNT, word->val.string.val,
								   word->val.string.len);

		if (reason >= 0)
			reasons |= 1u << reason;
	}
	return reasons;
}

/* ---------- what has been said before a restart ---------- */

typedef struct CheckerTraits
{
	OmEventType held;
	OmEventType refused;
	OmEventType changed; /* more may fit after it */
} CheckerTraits;

static const CheckerTraits traits[] = {
	[OM_LEDGER_ACCOUNTS] = {OM_EVENT_BALANCE_HELD, OM_EVENT_BALANCE_REFUSED,
							OM_EVENT_BALANCE_CHANGED},
	[OM_LEDGER_STOCK] = {OM_EVENT_STOCK_HELD, OM_EVENT_STOCK_REFUSED, OM_EVENT_STOCK_CHANGED},
};

/* An order is decided when its holds are final, or have been given back. */
#define DECISIONS                                                                     \
	(OM_EVENT_BIT(OM_EVENT_ORDER_CONFIRMED) | OM_EVENT_BIT(OM_EVENT_ORDER_REJECTED) | \
	 OM_EVENT_BIT(OM_EVENT_ORDER_RELEASED))

uint32
om_checker_types(OmLedgerKind kind)
{
	return DECISIONS | OM_EVENT_BIT(traits[kind].changed);
}

static void
note_given(HTAB *given, OmLedgerKind kind, const OmLogRow *row, const pg_uuid_t *order_id)
{
	int round = om_log_round(row->detail);
	bool found;
	OmGiven *entry = hash_search(given, order_id, HASH_ENTER, &found);

	if (!found || entry->round < round)
	{
		entry->round = round;
		entry->held = entry->decided = entry->matched = false;
	}
	if (row->type == traits[kind].held)
		entry->held = true;
	else if (row->type != traits[kind].refused)
		entry->decided = true;
}

HTAB *
om_checker_given(OmLedgerKind kind, const OmHorizon *since, const OmHorizon *now)
{
	static const OmLogPosition beginning = {0, 0};
	HASHCTL control = {
		.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(OmGiven), .hcxt = CurrentMemoryContext};
	HTAB *given =
		hash_create("verdicts given", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "verdicts", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	OmLogRows *rows = om_log_rows_create();

	om_log_read(rows, &(OmLogWindow){since, now, beginning},
				DECISIONS | OM_EVENT_BIT(traits[kind].held) | OM_EVENT_BIT(traits[kind].refused),
				0);
	for (int r = 0; r < rows->count; r++)
	{
		for (int i = 0; i < rows->rows[r].norders; i++)
			note_given(given, kind, &rows->rows[r], &rows->rows[r].orders[i]);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return given;
}

/* ---------- taking in ---------- */

/* At most so many orders are looked at before they are decided. */
#define MAX_UNDECIDED 200000

/* How many are looked at to see whether they have been decided meanwhile, and how often. */
#define PRUNE_AT_ONCE 1000
#define PRUNE_AGAIN_MS 100

struct OmChecker
{
	OmLedgerKind kind;
	OmInbox *inbox;
	OmClaims *claims;
	HTAB *
		given; /* before the restart; later those whose captures have not been read again; or NULL */
	bool is_caught_up;
	TimestampTz prune_due; /* 0: not full */
};

OmChecker *
om_checker_create(OmLedgerKind kind, OmInbox *inbox, const OmReader *reader)
{
	OmChecker *checker = palloc0(sizeof(OmChecker));
	const OmCursor *cursor = reader->cursor;

	checker->kind = kind;
	checker->inbox = inbox;
	checker->claims = om_claims_create(inbox);
	if (cursor->from_seq < cursor->seq)
		checker->given = om_checker_given(kind, cursor->base, om_reader_now(GetActiveSnapshot()));
	return checker;
}

/* What an order asks of the ledger; nothing when it does not exist. */
typedef struct Asked
{
	int count;
	char **keys;
	int64 *amounts;
} Asked;

static Asked
ask_for(OmLedgerKind kind, OmOrderTables *tables, const pg_uuid_t *order_id)
{
	OmOrder *order = om_order_find(tables, order_id, GetActiveSnapshot());
	Asked asked = {.count = 1};

	if (order == NULL)
		return (Asked){0};
	if (kind == OM_LEDGER_STOCK)
	{
		om_order_load_needs(tables, order, GetActiveSnapshot());
		asked.count = order->nneeds;
	}
	asked.keys = palloc(sizeof(char *) * Max(asked.count, 1));
	asked.amounts = palloc(sizeof(int64) * Max(asked.count, 1));
	asked.keys[0] = order->customer_id;
	asked.amounts[0] = order->total;
	for (int i = 0; i < order->nneeds; i++)
	{
		asked.keys[i] = order->needs[i].product_id;
		asked.amounts[i] = order->needs[i].quantity;
	}
	return asked;
}

static void
claim_again(OmChecker *checker, const OmRetry *event, int round, int64 seq)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	Asked asked = ask_for(checker->kind, tables, &event->order_id);

	if (asked.count > 0)
		(void) om_claims_add_held(checker->claims, event, round, seq, asked.count, asked.keys,
								  asked.amounts);
	om_orders_close(tables);
}

static void
note_captured(OmChecker *checker, const OmLogRow *row, int ordinal, int64 seq)
{
	const pg_uuid_t *order_id = &row->orders[ordinal];
	int round = om_log_round(row->detail);
	OmGiven *given =
		checker->given == NULL ? NULL : hash_search(checker->given, order_id, HASH_FIND, NULL);

	if (given != NULL && given->round >= round)
	{
		given->matched |= given->round == round;
		if (given->round == round && given->held && !given->decided && !checker->is_caught_up)
			claim_again(checker, om_retry_of_event(row, ordinal), round, seq);
		return;
	}
	if (om_inbox_find_retry(checker->inbox, order_id, round) == NULL)
		(void) om_inbox_add(checker->inbox, row, ordinal, seq);
}

static void
note_decided(OmChecker *checker, const pg_uuid_t *order_id)
{
	OmClaim *claim = om_claims_find(checker->claims, order_id);

	if (claim != NULL && claim->item == NULL)
		om_claims_remove(checker->claims, claim);
}

void
om_checker_note(OmChecker *checker, const OmLogRow *row, int64 seq)
{
	if (row->type == traits[checker->kind].changed)
		om_claims_wake_key(checker->claims, checker->kind == OM_LEDGER_ACCOUNTS ? row->customer_id
																				: row->product_id);
	for (int i = 0; i < row->norders; i++)
	{
		if (row->type == OM_EVENT_ORDER_CAPTURED)
			note_captured(checker, row, i, seq);
		else
			note_decided(checker, &row->orders[i]);
	}
}

/*
 * Orders that came out of retries are held, but their captures lie further back.
 * Those of others may lie ahead: who read up to horizons of its own has read in
 * another order, and events are only counted to tell when all has been read again.
 * They stay known, so that nothing is checked twice.
 */
void
om_checker_caught_up(OmChecker *checker, int64 seq)
{
	HASH_SEQ_STATUS status;
	OmGiven *given;

	if (checker->given == NULL || checker->is_caught_up)
		return;
	checker->is_caught_up = true;
	hash_seq_init(&status, checker->given);
	while ((given = hash_seq_search(&status)) != NULL)
	{
		OmRetry event = {.order_id = given->order_id};

		if (given->matched)
			hash_search(checker->given, &given->order_id, HASH_REMOVE, NULL);
		else if (given->held && !given->decided)
			claim_again(checker, &event, given->round, seq);
	}
	if (hash_get_num_entries(checker->given) > 0)
		return;
	hash_destroy(checker->given);
	checker->given = NULL;
}

static bool
is_decided(OmOrderTables *tables, const pg_uuid_t *order_id)
{
	OmOrder *order = om_order_find(tables, order_id, GetActiveSnapshot());

	return order != NULL && order->status != OM_STATUS_CAPTURED &&
		   (order->settled == OM_VERDICTS_BOTH || order->status < OM_STATUS_REJECTED);
}

/*
 * Decisions come behind the captures in the log; who is too far ahead must look
 * at the orders.  Those that have been looked at go to the end of the list, so
 * in time it is the turn of all.
 */
static void
prune(OmChecker *checker)
{
	OmOrderTables *tables = om_orders_open(AccessShareLock);
	OmClaims *claims = checker->claims;
	int left = PRUNE_AT_ONCE;

	for (int all = claims->count; all > 0 && left > 0; all--)
	{
		OmClaim *claim = dlist_head_element(OmClaim, node, &claims->all);

		dlist_delete(&claim->node);
		dlist_push_tail(&claims->all, &claim->node);
		if (claim->item != NULL)
			continue;
		if (is_decided(tables, &claim->order_id))
			om_claims_remove(claims, claim);
		else
			left--;
	}
	om_orders_close(tables);
}

bool
om_checker_is_full(OmChecker *checker)
{
	checker->prune_due = 0;
	if (checker->claims->count < MAX_UNDECIDED)
		return false;
	prune(checker);
	if (checker->claims->count < MAX_UNDECIDED)
		return false;
	checker->prune_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PRUNE_AGAIN_MS);
	return true;
}

TimestampTz
om_checker_next_due(const OmChecker *checker)
{
	return checker->prune_due;
}

void
om_checker_pass_over(OmChecker *checker, OmItem *item)
{
	if (item->claim != NULL)
		om_claims_pass_over(checker->claims, item->claim);
}

/* ---------- deciding ---------- */

static OmFit
fit_of(const OmDemand *demand, const OmLedgerEntry *entry)
{
	int64 available = om_ledger_available(entry);

	if (entry->busy)
		return OM_FIT_LOCKED;
	if (!entry->exists)
		return OM_FIT_NEVER;
	if (demand->amount == 0 || demand->amount <= available - om_demand_waiting_before(demand))
		return OM_FIT_YES;
	if (demand->amount <= available + om_demand_held_before(demand))
		return OM_FIT_OPEN;
	return OM_FIT_NEVER;
}

/* Looks at each demand; who waits behind one that has got further is woken. */
static void
look_at(OmChecker *checker, OmClaim *claim, OmLedger *ledger, bool *waits, bool *refused)
{
	*waits = *refused = false;
	for (int i = 0; i < claim->ndemands; i++)
	{
		OmDemand *demand = &claim->demands[i];
		OmFit before = demand->fit;

		demand->entry = om_ledger_entry(ledger, om_demand_key(demand));
		om_demand_set_fit(demand, fit_of(demand, demand->entry));
		*waits |= demand->fit == OM_FIT_OPEN || demand->fit == OM_FIT_LOCKED;
		*refused |= demand->fit == OM_FIT_NEVER;
		if (before != demand->fit && (before == OM_FIT_OPEN || before == OM_FIT_LOCKED))
			om_claims_wake_key(checker->claims, om_demand_key(demand));
	}
}

static void
log_one(OmWork *work, OmEventType type, const pg_uuid_t *order_id, Jsonb *detail)
{
	pg_uuid_t *copy = palloc(sizeof(pg_uuid_t)); /* the claim goes */

	*copy = *order_id;
	(void) om_log_orders(om_work_log(work), type, copy, 1, detail);
}

static void
refuse(OmChecker *checker, OmClaim *claim, OmWork *work)
{
	Refusal refusal = {0};

	for (int i = 0; i < claim->ndemands; i++)
	{
		OmDemand *demand = &claim->demands[i];

		if (demand->fit == OM_FIT_NEVER)
			add_shortage(
				&refusal, checker->kind, demand->entry, demand->amount,
				(int64) (om_ledger_available(demand->entry) + om_demand_held_before(demand)));
	}
	log_one(work, traits[checker->kind].refused, &claim->order_id,
			refusal_detail(&refusal, claim->round));
	om_claims_remove(checker->claims, claim);
}

/* The verdicts that hold, packed. */
typedef struct Held
{
	int count;
	pg_uuid_t *orders;
} Held;

static void
hold(OmChecker *checker, OmClaim *claim, OmWork *work, Held *held, int64 seq)
{
	for (int i = 0; i < claim->ndemands; i++)
		om_ledger_hold(claim->demands[i].entry, claim->demands[i].amount);
	if (claim->round == 0)
		held->orders[held->count++] = claim->order_id;
	else
		log_one(work, traits[checker->kind].held, &claim->order_id,
				om_log_round_detail(claim->round));
	om_claims_hold(checker->claims, claim, seq);
}

/* What the orders of these items ask for; that of an item with a claim is known. */
static Asked *
ask_for_all(OmChecker *checker, OmWork *work, OmItem **items, int count)
{
	pg_uuid_t *ids = palloc(sizeof(pg_uuid_t) * count);
	Asked *asked = palloc0(sizeof(Asked) * count);
	int nids = 0;

	for (int i = 0; i < count; i++)
	{
		if (items[i]->claim == NULL)
			ids[nids++] = items[i]->event.order_id;
	}
	om_orders_read(work->orders, ids, nids, checker->kind == OM_LEDGER_STOCK);
	for (int i = 0; i < count; i++)
	{
		if (items[i]->claim != NULL)
			continue;
		asked[i] = ask_for(checker->kind, work->orders, &items[i]->event.order_id);
		if (asked[i].count == 0)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("event " INT64_FORMAT " is about an order that does not exist",
								   items[i]->event.event_id)));
	}
	return asked;
}

static OmLedger *
lock_ledger(OmChecker *checker, OmWork *work, OmItem **items, const Asked *asked, int count)
{
	int total = 0;
	int nkeys = 0;
	char **keys;

	for (int i = 0; i < count; i++)
		total += items[i]->claim == NULL ? asked[i].count : items[i]->claim->ndemands;
	keys = palloc(sizeof(char *) * Max(total, 1));
	for (int i = 0; i < count; i++)
	{
		OmClaim *claim = items[i]->claim;

		for (int d = 0; claim != NULL && d < claim->ndemands; d++)
			keys[nkeys++] = pstrdup(om_demand_key(&claim->demands[d]));
		for (int k = 0; k < asked[i].count; k++)
			keys[nkeys++] = asked[i].keys[k];
	}
	return om_work_lock(work, checker->kind, keys, nkeys);
}

/*
 * A claim is made when it is looked at, so that it is the last one at its keys,
 * for which sums over the others are at hand.
 */
void
om_checker_run(OmChecker *checker, OmWork *work, OmItem **items, int count, int64 seq)
{
	Held held = {0, palloc(sizeof(pg_uuid_t) * Max(count, 1))};
	Asked *asked = ask_for_all(checker, work, items, count);
	OmLedger *ledger = lock_ledger(checker, work, items, asked, count);

	OM_FAULT_POINT("checkers/ledger-locked");
	for (int i = 0; i < count; i++)
	{
		OmClaim *claim = items[i]->claim;
		bool waits;
		bool refused;

		if (claim == NULL)
			claim = om_claims_add(checker->claims, items[i], asked[i].count, asked[i].keys,
								  asked[i].amounts);
		look_at(checker, claim, ledger, &waits, &refused);
		if (waits)
			om_claims_wait(checker->claims, claim);
		else if (refused)
			refuse(checker, claim, work);
		else
			hold(checker, claim, work, &held, seq);
	}
	OM_FAULT_POINT("checkers/decided");
	if (held.count > 0)
		om_log_orders(om_work_log(work), traits[checker->kind].held, held.orders, held.count, NULL);
}

void
om_checker_refuse(OmChecker *checker, OmWork *work, OmItem *item, Jsonb *detail)
{
	Assert(item->claim == NULL);
	log_one(work, traits[checker->kind].refused, &item->event.order_id, detail);
	om_inbox_remove(checker->inbox, item, false /* keep_backlog */);
}

void
om_checker_give_up(OmChecker *checker, OmItem *item)
{
	OmLogWriter *log = om_log_begin();

	om_log_orders(log, traits[checker->kind].refused, &item->event.order_id, 1,
				  om_checkers_reasons_detail(0, item->round));
	om_log_end(log);
	if (item->claim != NULL)
		om_claims_remove(checker->claims, item->claim);
	else
		om_inbox_remove(checker->inbox, item, false /* keep_backlog */);
}

/* ---------- preview ---------- */

/* Does this much fit at the moment?  If not, says why. */
static void
check_amount(Refusal *refusal, OmLedger *ledger, const char *key, int64 amount)
{
	OmLedgerEntry *entry = om_ledger_entry(ledger, key);

	if (!entry->exists || amount > om_ledger_available(entry))
		add_shortage(refusal, ledger->kind, entry, amount, om_ledger_available(entry));
}

void
om_checkers_preview(OmOrder *order, uint32 refused, bool *passes, Jsonb **reasons,
					Jsonb **shortages)
{
	char **products = palloc(sizeof(char *) * Max(order->nneeds, 1));
	OmLedger *accounts = om_ledger_read(OM_LEDGER_ACCOUNTS, &order->customer_id, 1);
	OmLedger *stock;
	Refusal refusal = {0};

	for (int i = 0; i < order->nneeds; i++)
		products[i] = order->needs[i].product_id;
	stock = om_ledger_read(OM_LEDGER_STOCK, products, order->nneeds);
	check_amount(&refusal, accounts, order->customer_id, order->total);
	for (int i = 0; i < order->nneeds; i++)
		check_amount(&refusal, stock, order->needs[i].product_id, order->needs[i].quantity);
	om_ledger_write(accounts);
	om_ledger_write(stock);
	*shortages = shortages_json(&refusal);
	refused |= refusal.reasons;
	*passes = refused == 0;
	*reasons = om_checkers_reasons_array(refused);
}
