/*
 * repair.c
 *		Sets what drifted to what the log says.
 *
 * Only what follows from the log alone is mended: what accounts and stock
 * hold and have, and the marks by which orders are settled and found.  What
 * depends on an order that itself cannot be trusted (no row, no lines, an
 * illegal history) is left, because then the log does not say enough.
 *
 * Differences are looked for without a lock; only where there are any, the
 * work stands still: the locks of all stages keep workers away, and SHARE ROW
 * EXCLUSIVE on accounts and stock, in this order, the clients that change
 * amounts.  Captures go on.  What is written is reckoned anew under a snapshot
 * taken then.  Nobody is waited for longer than LOCK_TIMEOUT, and in a
 * deadlock with a client we give way.
 *
 * Every change leaves an event: a change of zero of the account or product, or
 * a note on the order.  A dry run is the same in a subtransaction that is
 * rolled back, so that it cannot promise anything else.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "errors.h"
#include "eventlog.h"
#include "installation.h"
#include "invariants.h"
#include "jsonout.h"
#include "locks.h"
#include "names.h"
#include "orders.h"
#include "plans.h"
#include "relations.h"
#include "repair.h"

#define LOCK_TIMEOUT_MS 5000
#define UUID_TEXT_LEN 36

#define REPAIR "repair_invariants"

typedef struct Repair
{
	ReturnSetInfo *result;
	ArrayType *orders;   /* to be mended */
	ArrayType *suspects; /* not to be trusted */
	int nmendable;
	int nleft;    /* differences that stay */
	bool blocked; /* nothing can be trusted */
	OmLogWriter *log;
	int nmended;
	OmJson detail; /* of the row at hand: what was mended */
	int nchanges;
} Repair;

/* Amounts of an account or a product, as text. */
typedef struct Amounts
{
	char *key;
	char *total;
	char *reserved;
	char *new_total;
	char *new_reserved;
} Amounts;

typedef struct LedgerRepair
{
	OmQuery *find;
	OmQuery update;
	OmEventType event;
	const char *amount; /* members of the event's detail */
	const char *total;
	const char *total_invariant;
	const char *reserved_invariant;
} LedgerRepair;

static LedgerRepair accounts_repair = {
	.find = &om_proof_accounts_query,
	.update = {.sql = "UPDATE order_mgmt.accounts SET balance = $2::numeric,"
					  " reserved = $3::numeric, updated_at = pg_catalog.clock_timestamp()"
					  " WHERE customer_id = $1",
			   .nargs = 3,
			   .types = {TEXTOID, TEXTOID, TEXTOID}},
	.event = OM_EVENT_BALANCE_CHANGED,
	.amount = "amount",
	.total = "balance",
	.total_invariant = "account_balance",
	.reserved_invariant = "account_reserved",
};

static LedgerRepair stock_repair = {
	.find = &om_proof_stock_query,
	.update = {.sql = "UPDATE order_mgmt.stock SET on_hand = $2::bigint, reserved = $3::bigint,"
					  " updated_at = pg_catalog.clock_timestamp() WHERE product_id = $1",
			   .nargs = 3,
			   .types = {TEXTOID, TEXTOID, TEXTOID}},
	.event = OM_EVENT_STOCK_CHANGED,
	.amount = "quantity",
	.total = "on_hand",
	.total_invariant = "stock_on_hand",
	.reserved_invariant = "stock_reserved",
};

/* ---------- locks ---------- */

static void
raise_busy(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_OM_STATE),
					errmsg("the work under way on \"%s\" did not end within %d seconds", what,
						   LOCK_TIMEOUT_MS / 1000),
					om_errdetail("lock", what),
					errhint("Somebody keeps a transaction open: SELECT * FROM pg_stat_activity "
							"WHERE xact_start < now() - interval '5 s'. End it and try again; "
							"nothing has been changed.")));
}

static void
take_locks(const char *volatile *what)
{
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		*what = om_stage_names[stage];
		om_lock_acquire((OmLock) stage);
	}
	*what = "accounts";
	LockRelationOid(om_relation_get("accounts"), ShareRowExclusiveLock);
	*what = "stock";
	LockRelationOid(om_relation_get("stock"), ShareRowExclusiveLock);
}

/* True when the error in hand says that a lock was not to be had. */
static bool
is_lock_failure(MemoryContext context)
{
	ErrorData *error;
	int code;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	code = error->sqlerrcode;
	FreeErrorData(error);
	return code == ERRCODE_LOCK_NOT_AVAILABLE || code == ERRCODE_T_R_DEADLOCK_DETECTED;
}

static void
stop_the_work(void)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *volatile what = NULL;
	int guc_level = NewGUCNestLevel();

	if (LockTimeout == 0 || LockTimeout > LOCK_TIMEOUT_MS)
		(void) set_config_option("lock_timeout", psprintf("%d", LOCK_TIMEOUT_MS), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("deadlock_timeout", "50ms", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	PG_TRY();
	{
		take_locks(&what);
	}
	PG_CATCH();
	{
		if (!is_lock_failure(caller))
			PG_RE_THROW();
		FlushErrorState();
		raise_busy(what);
	}
	PG_END_TRY();
	AtEOXact_GUC(true, guc_level);
}

/* ---------- what there is to do ---------- */

static ArrayType *
uuid_array(List *ids)
{
	int count = 0;
	Datum *elements = palloc_extended(sizeof(Datum) * Max(list_length(ids), 1), MCXT_ALLOC_HUGE);
	ListCell *cell;

	foreach(cell, ids)
		elements[count++] = PointerGetDatum(lfirst(cell));
	return construct_array(elements, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* The order that a subject begins with. */
static void *
order_of(const OmDifference *difference)
{
	char *id = pnstrdup(difference->subject, UUID_TEXT_LEN);

	return DatumGetPointer(DirectFunctionCall1(uuid_in, CStringGetDatum(id)));
}

/* These are looked at once more in the end. */
static bool
is_of_ledger(const OmInvariant *invariant)
{
	return invariant->proof == OM_PROOF_ACCOUNTS || invariant->proof == OM_PROOF_STOCK;
}

static void
look_around(Repair *repair)
{
	List *orders = NIL;
	List *suspects = NIL;
	ListCell *cell;

	foreach(cell, om_invariants_find())
	{
		const OmDifference *difference = lfirst(cell);
		const OmInvariant *invariant = difference->invariant;

		if (invariant->mended)
			repair->nmendable++;
		else if (!is_of_ledger(invariant))
			repair->nleft++;
		if (invariant->mended && invariant->proof == OM_PROOF_HISTORIES)
			orders = lappend(orders, order_of(difference));
		if (invariant->blocks == OM_BLOCKS_ORDER)
			suspects = lappend(suspects, order_of(difference));
		repair->blocked |= invariant->blocks == OM_BLOCKS_ALL;
	}
	repair->orders = uuid_array(orders);
	repair->suspects = uuid_array(suspects);
}

/* ---------- mending ---------- */

static void
begin_row(Repair *repair)
{
	memset(&repair->detail, 0, sizeof(OmJson));
	repair->nchanges = 0;
	om_json_open_array(&repair->detail);
}

/* A change of the row at hand, if it is one. */
static void
note_change(Repair *repair, const char *invariant, const char *subject, const char *new_value,
			const char *old_value)
{
	if (strcmp(new_value, old_value) == 0)
		return;
	om_invariants_put(repair->result, invariant, subject, new_value, old_value);
	om_json_open_object(&repair->detail);
	om_json_key(&repair->detail, "invariant");
	om_json_string(&repair->detail, invariant);
	om_json_key(&repair->detail, "expected");
	om_json_string(&repair->detail, new_value);
	om_json_key(&repair->detail, "actual");
	om_json_string(&repair->detail, old_value);
	om_json_close_object(&repair->detail);
	repair->nchanges++;
	repair->nmended++;
}

static Jsonb *
end_row(Repair *repair)
{
	om_json_close_array(&repair->detail);
	return om_json_result(&repair->detail);
}

static Jsonb *
note_detail(Jsonb *mended)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "note");
	om_json_string(&json, REPAIR);
	om_json_key(&json, "mended");
	om_json_jsonb(&json, mended);
	om_json_close_object(&json);
	return om_json_result(&json);
}

static void
add_to_trail(OmOrder *order, Datum missing)
{
	Datum *lxids;
	int count;

	deconstruct_array(DatumGetArrayTypeP(missing), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &lxids, NULL, &count);
	for (int i = 0; i < count; i++)
		om_order_add_to_trail(order, DatumGetInt64(lxids[i]));
}

static char *
text_of(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* A row of the query for orders; its time of change is mended by the writing. */
static void
mend_order(Repair *repair, OmOrderTables *tables, uint64 row)
{
	bool isnull;
	pg_uuid_t *id = DatumGetUUIDP(om_result_get(row, 1, &isnull));
	char *subject = text_of(row, 1);
	int settled = DatumGetInt32(om_result_get(row, 3, &isnull));
	Datum missing = om_result_get(row, 6, &isnull);
	OmOrder *order = om_order_lock(tables, id);
	Jsonb *mended;

	if (order == NULL)
		elog(ERROR, "an order has vanished");
	begin_row(repair);
	note_change(repair, "order_settled", subject, text_of(row, 3), text_of(row, 2));
	note_change(repair, "order_trail", subject, text_of(row, 5), text_of(row, 4));
	note_change(repair, "order_updated_at", subject, text_of(row, 8), text_of(row, 7));
	mended = end_row(repair);
	if (!isnull)
		add_to_trail(order, missing);
	order->settled = settled;
	om_order_add_to_trail(order, repair->log->lxid);
	om_order_write(order);
	om_log_orders(repair->log, OM_EVENT_ORDER_NOTED, id, 1, note_detail(mended));
	CommandCounterIncrement();
}

static void
mend_orders(Repair *repair)
{
	Datum args[2] = {PointerGetDatum(repair->orders), PointerGetDatum(repair->suspects)};
	OmOrderTables *tables;
	OmQueryScope scope;
	uint64 nrows;

	om_proofs_begin(&scope);
	tables = om_orders_open(RowExclusiveLock);
	nrows = om_query_read(&om_proof_orders_query, args, NULL);
	for (uint64 row = 0; row < nrows; row++)
		mend_order(repair, tables, row);
	om_orders_close(tables);
	om_query_end(&scope);
}

/* A change of nothing, with the amount as it is from now on. */
static void
log_amounts(Repair *repair, const LedgerRepair *ledger, const Amounts *amounts, Jsonb *mended)
{
	bool is_account = ledger->event == OM_EVENT_BALANCE_CHANGED;
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, ledger->amount);
	if (is_account)
		om_json_money(&json, 0);
	else
		om_json_int(&json, 0);
	om_json_key(&json, ledger->total);
	if (is_account)
		om_json_string(&json, amounts->new_total);
	else
		om_json_int(&json, pg_strtoint64(amounts->new_total));
	om_json_key(&json, "reason");
	om_json_string(&json, REPAIR);
	om_json_key(&json, "mended");
	om_json_jsonb(&json, mended);
	om_json_close_object(&json);
	om_log_change(repair->log, ledger->event, CStringGetTextDatum(amounts->key),
				  om_json_result(&json));
}

static void
mend_amounts(Repair *repair, LedgerRepair *ledger, const Amounts *amounts)
{
	Datum args[3] = {CStringGetTextDatum(amounts->key), CStringGetTextDatum(amounts->new_total),
					 CStringGetTextDatum(amounts->new_reserved)};

	begin_row(repair);
	note_change(repair, ledger->total_invariant, amounts->key, amounts->new_total, amounts->total);
	note_change(repair, ledger->reserved_invariant, amounts->key, amounts->new_reserved,
				amounts->reserved);
	om_query_run(&ledger->update, args, NULL);
	log_amounts(repair, ledger, amounts, end_row(repair));
}

static void
mend_ledger(Repair *repair, LedgerRepair *ledger)
{
	Datum suspects = PointerGetDatum(repair->suspects);
	OmQueryScope scope;
	SPITupleTable *rows;
	uint64 nrows;

	om_proofs_begin(&scope);
	nrows = om_query_read(ledger->find, &suspects, NULL);
	rows = SPI_tuptable;
	for (uint64 row = 0; row < nrows; row++)
	{
		char *words[5];

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < 5; i++)
			words[i] = SPI_getvalue(rows->vals[row], rows->tupdesc, i + 1);
		mend_amounts(repair, ledger, &(Amounts){words[0], words[1], words[2], words[3], words[4]});
	}
	om_query_end(&scope);
}

/* What amounts still differ, because the log does not say enough. */
static void
count_left(Repair *repair)
{
	OmQueryScope scope;

	om_proofs_begin(&scope);
	repair->nleft += om_query_read(om_proof_query(OM_PROOF_ACCOUNTS), NULL, NULL);
	repair->nleft += om_query_read(om_proof_query(OM_PROOF_STOCK), NULL, NULL);
	om_query_end(&scope);
}

static void
mend(Repair *repair)
{
	repair->log = om_log_begin();
	PushActiveSnapshot(om_current_snapshot());
	mend_orders(repair);
	PopActiveSnapshot();
	/* What orders hold is reckoned by the marks that have just been mended. */
	om_log_flush(repair->log);
	CommandCounterIncrement();
	PushActiveSnapshot(om_current_snapshot());
	mend_ledger(repair, &accounts_repair);
	mend_ledger(repair, &stock_repair);
	PopActiveSnapshot();
	om_log_flush(repair->log);
	CommandCounterIncrement();
	PushActiveSnapshot(om_current_snapshot());
	count_left(repair);
	PopActiveSnapshot();
	om_log_end(repair->log);
}

/* Does it all, and takes it back: locks, changes and events. */
static void
mend_and_roll_back(Repair *repair)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	stop_the_work();
	mend(repair);
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

static void
require_fresh_snapshots(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg(REPAIR "() needs READ COMMITTED"),
						om_errdetail("isolation", "repeatable read"),
						errhint("It must see what others have done until it has its locks.")));
}

/* What an operator reads afterwards: the server's log, and a warning about what is left. */
static void
report(const Repair *repair, bool dry_run)
{
	if (repair->nmended > 0 && !dry_run)
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					  errmsg(REPAIR "() called by \"%s\" mended %d values",
							 GetUserNameFromId(GetUserId(), false /* noerr */), repair->nmended),
					  errdetail("Events with reason or note \"" REPAIR "\" tell which.")));
	if (repair->nleft > 0 || repair->blocked)
		ereport(WARNING, (errcode(ERRCODE_OM_STATE),
						  errmsg("not every difference can be mended from the log"),
						  errhint("SELECT * FROM order_mgmt.check_invariants() shows what is "
								  "left.")));
}

Datum
om_repair_run(FunctionCallInfo fcinfo, bool dry_run)
{
	Repair repair = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	require_fresh_snapshots();
	InitMaterializedSRF(fcinfo, 0);
	PushActiveSnapshot(om_current_snapshot());
	look_around(&repair);
	PopActiveSnapshot();
	if (repair.nmendable > 0 && !repair.blocked)
	{
		if (dry_run)
			mend_and_roll_back(&repair);
		else
		{
			stop_the_work();
			mend(&repair);
		}
	}
	report(&repair, dry_run);
	return (Datum) 0;
}
