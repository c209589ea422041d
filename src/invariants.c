/*
 * invariants.c
 *		Proves that money, stock, orders and events agree.
 *
 * All statements run under one snapshot, so the answer is exact while orders are
 * under way: a worker's effects and events commit together.  It is the latest,
 * also in a transaction that has an older one: months may have moved since that.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "archivedamounts.h"
#include "eventlog.h"
#include "installation.h"
#include "invariants.h"
#include "pipeline.h"
#include "plans.h"
#include "registry.h"

/* The differences found so far, kept where the caller's memory is. */
typedef struct Finder
{
	MemoryContext context;
	List *differences;
} Finder;

static const OmInvariant *
find_invariant(const char *name)
{
	for (int i = 0; i < om_invariant_count; i++)
	{
		if (strcmp(om_invariants[i].name, name) == 0)
			return &om_invariants[i];
	}
	elog(ERROR, "invariant \"%s\" is not in the table", name);
}

static void
add_difference(Finder *finder, const char *name, const char *subject, const char *expected,
			   const char *actual)
{
	MemoryContext caller = MemoryContextSwitchTo(finder->context);
	OmDifference *difference = palloc(sizeof(OmDifference));

	difference->invariant = find_invariant(name);
	difference->subject = subject == NULL ? NULL : pstrdup(subject);
	difference->expected = expected == NULL ? NULL : pstrdup(expected);
	difference->actual = actual == NULL ? NULL : pstrdup(actual);
	finder->differences = lappend(finder->differences, difference);
	MemoryContextSwitchTo(caller);
}

/* Rows of the last result: invariant, subject, expected, actual. */
static void
add_rows(Finder *finder, uint64 nrows)
{
	for (uint64 row = 0; row < nrows; row++)
	{
		char *values[4];

		for (int i = 0; i < 4; i++)
			values[i] = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, i + 1);
		add_difference(finder, values[0], values[1], values[2], values[3]);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Events of months that are in the archive. */
#define ARCHIVED_EVENTS                                     \
	"(SELECT e.key AS event_type, e.value::bigint AS count" \
	" FROM order_mgmt.archived_months AS m, jsonb_each_text(m.events) AS e) AS a"

/* Events written for a consumer, by its own list of types. */
static OmQuery written_query = {
	.sql = "SELECT coalesce(sum(l.count), 0)::bigint FROM (SELECT event_type,"
		   "  octet_length(order_ids) / 16 AS count FROM order_mgmt.event_log"
		   "  UNION ALL SELECT event_type, count FROM " ARCHIVED_EVENTS ") AS l"
		   " WHERE l.event_type = ANY ((SELECT c.event_types"
		   "  FROM order_mgmt.consumers AS c WHERE c.name = $1)::text[])",
	.nargs = 1,
	.types = {TEXTOID}};

/* Nothing is lost on the way: what was written has been handled or still waits. */
static void
check_consumer(Finder *finder, OmStage stage)
{
	OmQueueState queue = om_pipeline_read_queue(stage);
	Datum name = CStringGetTextDatum(om_stage_names[stage]);
	OmQueryScope scope;
	bool isnull;
	int64 written;

	om_proofs_begin(&scope);
	om_query_read(&written_query, &name, NULL);
	written = DatumGetInt64(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	if (written != queue.read - queue.waiting + queue.pending)
		add_difference(finder, "consumer_events", om_stage_names[stage],
					   psprintf(INT64_FORMAT, written),
					   psprintf(INT64_FORMAT, queue.read - queue.waiting + queue.pending));
}

static OmQuery count_query = {
	.sql = "SELECT event_type, sum(count)::bigint FROM (SELECT event_type,"
		   "  coalesce(octet_length(order_ids) / 16, 1) AS count FROM order_mgmt.event_log"
		   "  UNION ALL SELECT event_type, count FROM " ARCHIVED_EVENTS ") AS l GROUP BY 1"};

static void
count_written(int64 *written)
{
	OmQueryScope scope;
	uint64 nrows;

	memset(written, 0, sizeof(int64) * OM_EVENT_COUNT);
	om_proofs_begin(&scope);
	nrows = om_query_read(&count_query, NULL, NULL);
	for (uint64 row = 0; row < nrows; row++)
	{
		bool isnull;
		char *word = TextDatumGetCString(om_result_get(row, 1, &isnull));
		int type = om_names_find(om_event_names, OM_EVENT_COUNT, word, strlen(word));

		if (type >= 0)
			written[type] = DatumGetInt64(om_result_get(row, 2, &isnull));
	}
	om_query_end(&scope);
}

/* What a consumer has passed and what lies before it is all that there is. */
static void
check_counts(Finder *finder, const char *consumer, const int64 *written)
{
	OmCursor *cursor = om_cursor_find(consumer, GetActiveSnapshot());
	OmLogCounts told;

	if (cursor == NULL)
		return;
	told = om_census_told_by(cursor);
	for (int type = 0; type < OM_EVENT_COUNT; type++)
	{
		if (told.events[type] != written[type])
			add_difference(
				finder, "consumer_counts", psprintf("%s %s", consumer, om_event_names[type]),
				psprintf(INT64_FORMAT, written[type]), psprintf(INT64_FORMAT, told.events[type]));
	}
}

static void
check_all_counts(Finder *finder)
{
	int64 written[OM_EVENT_COUNT];
	ListCell *cell;

	count_written(written);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		check_counts(finder, om_stage_names[stage], written);
	foreach(cell,
			list_concat(om_registry_list(OM_KIND_HANDLER), om_registry_list(OM_KIND_EXTERNAL)))
		check_counts(finder, ((OmRegistration *) lfirst(cell))->name, written);
}

/*
 * Whom an order that is not done has before it.  Arguments: for each stage, the
 * orders of which it has something to read.  Of a cancelled or failed order
 * each verdict is settled as soon as it has been read.
 */
static OmQuery stuck_query = {
	.sql =
		"WITH open AS MATERIALIZED (SELECT order_id, status, settled, round"
		"  FROM order_mgmt.orders WHERE status IN ('captured', 'confirmed')"
		"  OR (status IN ('cancelled', 'failed') AND settled <> 3)),"
		" verdicts AS (SELECT u.order_id, bit_or(CASE WHEN l.event_type IN ('balance_held',"
		"   'balance_refused') THEN 1 ELSE 2 END) AS seen FROM order_mgmt.event_log AS l"
		"  CROSS JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS u"
		"  JOIN open AS o ON o.order_id = u.order_id"
		"  WHERE l.event_type IN ('balance_held', 'balance_refused', 'stock_held', 'stock_refused')"
		"  AND o.round = CASE WHEN jsonb_typeof(l.detail->'round') = 'number'"
		"   THEN (l.detail->>'round')::numeric ELSE 0 END GROUP BY 1),"
		" needed AS (SELECT o.order_id, o.status, w.stage FROM open AS o"
		"  LEFT JOIN verdicts AS v USING (order_id) CROSS JOIN LATERAL (VALUES"
		"   ('balance_checker', o.status <> 'confirmed' AND coalesce(v.seen, 0) & 1 = 0),"
		"   ('stock_checker', o.status <> 'confirmed' AND coalesce(v.seen, 0) & 2 = 0),"
		"   ('order_updater', CASE o.status WHEN 'confirmed' THEN false"
		"    WHEN 'captured' THEN v.seen = 3 ELSE v.seen & ~o.settled <> 0 END),"
		"   ('shipper', o.status = 'confirmed')) AS w(stage, is_next) WHERE w.is_next),"
		" waiting AS (SELECT 'balance_checker' AS stage, unnest($1) AS order_id"
		"  UNION ALL SELECT 'stock_checker', unnest($2)"
		"  UNION ALL SELECT 'order_updater', unnest($3) UNION ALL SELECT 'shipper', unnest($4)"
		"  UNION ALL SELECT consumer, order_id FROM order_mgmt.retries"
		"  UNION ALL SELECT consumer, order_id FROM order_mgmt.dead_letters)"
		" SELECT 'order_moves_on'::text, n.order_id::text, 'pending at ' || n.stage, n.status"
		" FROM needed AS n WHERE NOT EXISTS (SELECT FROM waiting AS w"
		"  WHERE w.stage = n.stage AND w.order_id = n.order_id)",
	.nargs = 4,
	.types = {UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID, UUIDARRAYOID}};

/* The orders of which a stage has something to read. */
static ArrayType *
orders_before(OmStage stage)
{
	List *rows = om_pipeline_rows(stage, GetActiveSnapshot());
	int count = 0;
	Datum *ids;
	ListCell *cell;

	foreach(cell, rows)
		count += ((OmLogRow *) lfirst(cell))->norders;
	ids = palloc_extended(sizeof(Datum) * Max(count, 1), MCXT_ALLOC_HUGE);
	count = 0;
	foreach(cell, rows)
	{
		const OmLogRow *row = lfirst(cell);

		for (int i = 0; i < row->norders; i++)
			ids[count++] = UUIDPGetDatum(&row->orders[i]);
	}
	return construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/* An order that is not done waits for somebody. */
static void
check_stuck(Finder *finder)
{
	Datum args[OM_STAGE_COUNT];
	OmQueryScope scope;

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		args[stage] = PointerGetDatum(orders_before(stage));
	om_proofs_begin(&scope);
	add_rows(finder, om_query_read(&stuck_query, args, NULL));
	om_query_end(&scope);
}

List *
om_invariants_find(void)
{
	Finder finder = {CurrentMemoryContext, NIL};
	OmQueryScope scope;

	om_archived_amounts_require();
	om_archived_amounts_hold_months();
	PushActiveSnapshot(GetLatestSnapshot());
	om_proofs_begin(&scope);
	for (int proof = 0; proof < OM_PROOF_COUNT; proof++)
		add_rows(&finder, om_query_read(om_proof_query(proof), NULL, NULL));
	om_query_end(&scope);
	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
		check_consumer(&finder, stage);
	check_all_counts(&finder);
	check_stuck(&finder);
	PopActiveSnapshot();
	return finder.differences;
}

void
om_invariants_put(ReturnSetInfo *result, const char *name, const char *subject,
				  const char *expected, const char *actual)
{
	const char *words[4] = {name, subject, expected, actual};
	Datum values[4] = {0};
	bool isnull[4];

	for (int i = 0; i < 4; i++)
	{
		isnull[i] = words[i] == NULL;
		if (!isnull[i])
			values[i] = CStringGetTextDatum(words[i]);
	}
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

Datum
om_invariants_check(FunctionCallInfo fcinfo)
{
	ListCell *cell;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, om_invariants_find())
	{
		const OmDifference *difference = lfirst(cell);

		om_invariants_put((ReturnSetInfo *) fcinfo->resultinfo, difference->invariant->name,
						  difference->subject, difference->expected, difference->actual);
	}
	return (Datum) 0;
}

Datum
om_invariants_list(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool isnull[4] = {false};

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < om_invariant_count; i++)
	{
		const OmInvariant *invariant = &om_invariants[i];
		Datum values[4] = {
			CStringGetTextDatum(invariant->name), CStringGetTextDatum(invariant->per),
			CStringGetTextDatum(invariant->meaning), BoolGetDatum(invariant->mended)};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
