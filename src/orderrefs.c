/*
 * orderrefs.c
 *		Looks orders up by order_ref.
 *
 * A reference says nothing about the month, so to ask for one means to ask the
 * index of every month.  Who asks for many first reads all references once into
 * a Bloom filter: of a file that is new hardly any question is left.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "lib/bloomfilter.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "orderrefs.h"
#include "orders.h"
#include "plans.h"
#include "relations.h"

/* So many single questions are cheaper than to read all there is. */
#define FEW_QUESTIONS 10000

/* The filter's memory: at 16 MB one of a hundred of 14 million references is asked for in vain. */
#define FILTER_KB (16 * 1024)
#define FILTER_SEED 0

struct OmOrderRefs
{
	bloom_filter *filter; /* or NULL: every question is asked */
	bool is_empty;        /* no order has a reference */
};

typedef struct Question
{
	const char *ref;
	int position;
} Question;

/* ---------- the filter ---------- */

static void
add_ref(OmOrderRefs *refs, Datum value)
{
	text *ref = DatumGetTextPP(value);

	bloom_add_element(refs->filter, (unsigned char *) VARDATA_ANY(ref), VARSIZE_ANY_EXHDR(ref));
	refs->is_empty = false;
	if (ref != (text *) DatumGetPointer(value))
		pfree(ref);
}

static void
add_leaf(OmOrderRefs *refs, Oid relid, Snapshot snapshot)
{
	Relation rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool isnull;
		Datum value = slot_getattr(slot, ORDER_REF, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			continue;
		add_ref(refs, value);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
}

/* A guess is enough: rows have some 150 bytes. */
static int64
guess_rows(List *leaves)
{
	int64 nblocks = 0;
	ListCell *cell;

	foreach(cell, leaves)
	{
		Relation rel = table_open(lfirst_oid(cell), AccessShareLock);

		nblocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, NoLock);
	}
	return nblocks * (BLCKSZ / 150);
}

static void
build_filter(OmOrderRefs *refs)
{
	List *leaves = find_inheritance_children(om_relation_get("orders"), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	ListCell *cell;

	refs->filter = bloom_create(Max(guess_rows(leaves), 1), FILTER_KB, FILTER_SEED);
	refs->is_empty = true;
	foreach(cell, leaves)
		add_leaf(refs, lfirst_oid(cell), snapshot);
	UnregisterSnapshot(snapshot);
}

OmOrderRefs *
om_order_refs_open(int64 nquestions)
{
	OmOrderRefs *refs = palloc0(sizeof(OmOrderRefs));

	if (nquestions > FEW_QUESTIONS)
		build_filter(refs);
	return refs;
}

void
om_order_refs_close(OmOrderRefs *refs)
{
	if (refs->filter != NULL)
		bloom_free(refs->filter);
	pfree(refs);
}

/* ---------- questions ---------- */

static OmQuery known_query = {.sql = "SELECT DISTINCT o.order_ref FROM order_mgmt.orders AS o"
									 " WHERE o.order_ref = ANY ($1)",
							  .nargs = 1,
							  .types = {TEXTARRAYOID}};

static int
compare_questions(const void *a, const void *b)
{
	return strcmp(((const Question *) a)->ref, ((const Question *) b)->ref);
}

static bool
may_be_known(const OmOrderRefs *refs, const char *ref)
{
	return refs->filter == NULL ||
		   (!refs->is_empty &&
			!bloom_lacks_element(refs->filter, (unsigned char *) ref, strlen(ref)));
}

static int
choose_questions(const OmOrderRefs *refs, char **list, int count, Question *questions)
{
	int nquestions = 0;

	for (int i = 0; i < count; i++)
	{
		if (list[i] != NULL && may_be_known(refs, list[i]))
			questions[nquestions++] = (Question){list[i], i};
	}
	qsort(questions, nquestions, sizeof(Question), compare_questions);
	return nquestions;
}

static void
mark_answer(const Question *questions, int nquestions, const char *ref, bool *known)
{
	Question sought = {.ref = ref};
	const Question *found =
		bsearch(&sought, questions, nquestions, sizeof(Question), compare_questions);

	if (found == NULL)
		return;
	while (found > questions && strcmp(found[-1].ref, ref) == 0)
		found--;
	for (; found < questions + nquestions && strcmp(found->ref, ref) == 0; found++)
		known[found->position] = true;
}

static void
ask(const Question *questions, int nquestions, bool *known)
{
	Datum *words = palloc(sizeof(Datum) * nquestions);
	Datum array;
	OmQueryScope scope;
	uint64 nrows;

	for (int i = 0; i < nquestions; i++)
		words[i] = CStringGetTextDatum(questions[i].ref);
	array = PointerGetDatum(
		construct_array(words, nquestions, TEXTOID, -1, false /* elmbyval */, TYPALIGN_INT));
	om_query_begin(&scope);
	nrows = om_query_run(&known_query, &array, NULL);
	for (uint64 row = 0; row < nrows; row++)
	{
		bool isnull;

		mark_answer(questions, nquestions, TextDatumGetCString(om_result_get(row, 1, &isnull)),
					known);
	}
	om_query_end(&scope);
}

void
om_order_refs_look_up(OmOrderRefs *refs, char **list, int count, bool *known)
{
	Question *questions = palloc(sizeof(Question) * Max(count, 1));
	int nquestions = choose_questions(refs, list, count, questions);

	for (int i = 0; i < count; i++)
		known[i] = false;
	if (nquestions > 0)
		ask(questions, nquestions, known);
	pfree(questions);
}
