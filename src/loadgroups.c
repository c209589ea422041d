/*
 * loadgroups.c
 *		Groups rows by order_ref in bounded memory.
 *
 * Nearly all files have the rows of an order together, so these are written as
 * they come.  The first reading of the file finds the references that come back
 * after others; only their rows are sorted, in the second.  A Bloom filter of
 * fixed size remembers what came before: where it errs, an order is sorted
 * that need not have been.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "lib/bloomfilter.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/tuplesort.h"
#include "utils/tuplestore.h"

#include "loadgroups.h"

/* ---------- scatter ---------- */

#define FILTER_KB (16 * 1024)
#define EXPECTED_ORDERS INT64CONST(10000000)

/* When more references are scattered, all count as such. */
#define MAX_SCATTERED 200000

typedef struct Scattered
{
	uint64 hash;
	char status; /* of the entry in the hash table */
} Scattered;

#define SH_PREFIX scattered
#define SH_ELEMENT_TYPE Scattered
#define SH_KEY_TYPE uint64
#define SH_KEY hash
#define SH_HASH_KEY(table, key) ((uint32) (key))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct OmLoadScatter
{
	bloom_filter *seen; /* until the last row has been told */
	scattered_hash *scattered;
	uint64 last; /* hash of the row before; 0: it had no reference */
	int64 nrefs; /* runs of rows with the same */
	bool lacks_refs;
	bool all;
};

static uint64
hash_ref(const char *ref)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) ref, strlen(ref), 0);

	return Max(hash, 1);
}

OmLoadScatter *
om_load_scatter_create(void)
{
	OmLoadScatter *scatter = palloc0(sizeof(OmLoadScatter));

	scatter->seen = bloom_create(EXPECTED_ORDERS, FILTER_KB, 0 /* seed */);
	scatter->scattered = scattered_create(CurrentMemoryContext, 256, NULL);
	return scatter;
}

static void
note_scattered(OmLoadScatter *scatter, uint64 hash)
{
	bool found;

	if (scatter->all)
		return;
	scattered_insert(scatter->scattered, hash, &found);
	scatter->all = scatter->scattered->members > MAX_SCATTERED;
	if (scatter->all)
		scattered_reset(scatter->scattered);
}

void
om_load_scatter_add(OmLoadScatter *scatter, const char *ref, bool is_readable)
{
	uint64 hash = ref == NULL ? 0 : hash_ref(ref);

	if (hash != 0 && hash == scatter->last)
		return;
	scatter->last = hash;
	scatter->lacks_refs |= hash == 0 && is_readable;
	if (hash == 0)
		return;
	scatter->nrefs++;
	if (!bloom_lacks_element(scatter->seen, (unsigned char *) &hash, sizeof(hash)))
		note_scattered(scatter, hash);
	else
		bloom_add_element(scatter->seen, (unsigned char *) &hash, sizeof(hash));
}

bool
om_load_scatter_has(const OmLoadScatter *scatter, const char *ref)
{
	return ref != NULL &&
		   (scatter->all || (scatter->scattered->members > 0 &&
							 scattered_lookup(scatter->scattered, hash_ref(ref)) != NULL));
}

void
om_load_scatter_end(OmLoadScatter *scatter)
{
	bloom_free(scatter->seen);
	scatter->seen = NULL;
}

bool
om_load_scatter_is_keyed(const OmLoadScatter *scatter)
{
	return !scatter->lacks_refs;
}

int64
om_load_scatter_nrefs(const OmLoadScatter *scatter)
{
	return scatter->nrefs;
}

/* ---------- groups ---------- */

/* One byte more than is stored, so that it shows that there was more. */
#define KEPT_RAW ((Size) OM_LOAD_RAW_MAX + 1)

static char *
copy_bytes(const char *bytes, Size size)
{
	char *copy = palloc(size + 1);

	memcpy(copy, bytes, size);
	copy[size] = '\0';
	return copy;
}

static OmLoadRow
copy_row(const OmLoadRow *row, int ncolumns)
{
	OmLoadRow copy = *row;

	for (int i = 0; i < ncolumns; i++)
	{
		if (row->cells[i] != NULL)
			copy.cells[i] = pstrdup(row->cells[i]);
	}
	copy.raw_size = Min(row->raw_size, KEPT_RAW);
	copy.raw = copy_bytes(row->raw, copy.raw_size);
	if (row->error != NULL)
		copy.error = pstrdup(row->error);
	return copy;
}

static Size
size_of_row(const OmLoadRow *row, int ncolumns)
{
	Size size = sizeof(OmLoadRow) + Min(row->raw_size, KEPT_RAW);

	for (int i = 0; i < ncolumns; i++)
		size += row->cells[i] == NULL ? 0 : strlen(row->cells[i]);
	return size;
}

OmLoadGroup *
om_load_group_create(const char *ref, const OmLoadRow *row, int ncolumns)
{
	OmLoadGroup *group = palloc0(sizeof(OmLoadGroup));

	if (ref != NULL)
		group->ref = pstrdup(ref);
	group->capacity = 4;
	group->rows = palloc(sizeof(OmLoadRow) * group->capacity);
	om_load_group_add(group, row, ncolumns);
	return group;
}

void
om_load_group_add(OmLoadGroup *group, const OmLoadRow *row, int ncolumns)
{
	if (group->nrows == group->capacity)
	{
		group->capacity *= 2;
		group->rows = repalloc(group->rows, sizeof(OmLoadRow) * group->capacity);
	}
	group->rows[group->nrows++] = copy_row(row, ncolumns);
	group->size += size_of_row(row, ncolumns);
}

bool
om_load_group_is_full(const OmLoadGroup *group)
{
	return group->nrows >= OM_LOAD_MAX_LINES || group->size >= OM_LOAD_MAX_SIZE;
}

/* ---------- sorter ---------- */

#define SORTER_KB (8 * 1024)

enum
{
	SORT_REF = 1,
	SORT_ROW_NO,
	SORT_ROW,
	SORT_NCOLUMNS = SORT_ROW
};

struct OmLoadSorter
{
	int ncolumns;
	TupleDesc desc;
	MemoryContext context;
	ResourceOwner owner;
	Tuplestorestate *rows; /* unsorted, then sorted */
	TupleTableSlot *slot;
	bool has_next; /* in the slot */
	bool is_piece; /* the next group goes on with the reference of the last */
};

/* A store that is not tied to the transaction in which it begins. */
static Tuplestorestate *
begin_store(const OmLoadSorter *sorter)
{
	ResourceOwner caller = CurrentResourceOwner;
	MemoryContext context = MemoryContextSwitchTo(sorter->context);
	Tuplestorestate *store;

	CurrentResourceOwner = sorter->owner;
	store = tuplestore_begin_heap(false /* randomAccess */, true /* interXact */, SORTER_KB);
	CurrentResourceOwner = caller;
	MemoryContextSwitchTo(context);
	return store;
}

/* An error on the way leaves none, and not one that has been given back. */
static void
end_store(OmLoadSorter *sorter)
{
	Tuplestorestate *rows = sorter->rows;

	sorter->rows = NULL;
	if (rows != NULL)
		tuplestore_end(rows);
}

OmLoadSorter *
om_load_sorter_create(int ncolumns)
{
	OmLoadSorter *sorter = palloc0(sizeof(OmLoadSorter));

	sorter->ncolumns = ncolumns;
	sorter->context = CurrentMemoryContext;
	sorter->desc = CreateTemplateTupleDesc(SORT_NCOLUMNS);
	TupleDescInitEntry(sorter->desc, SORT_REF, "ref", TEXTOID, -1, 0);
	TupleDescInitEntry(sorter->desc, SORT_ROW_NO, "row_no", INT8OID, -1, 0);
	TupleDescInitEntry(sorter->desc, SORT_ROW, "row", BYTEAOID, -1, 0);
	sorter->owner = ResourceOwnerCreate(NULL, "order_mgmt load");
	sorter->rows = begin_store(sorter);
	sorter->slot = MakeSingleTupleTableSlot(sorter->desc, &TTSOpsMinimalTuple);
	return sorter;
}

static void
pack_string(StringInfo packed, const char *string, Size size)
{
	int32 length = string == NULL ? -1 : (int32) size;

	appendBinaryStringInfo(packed, (const char *) &length, sizeof(length));
	if (string == NULL)
		return;
	appendBinaryStringInfo(packed, string, (int) size);
	appendStringInfoCharMacro(packed, '\0');
}

static void
pack_text(StringInfo packed, const char *string)
{
	pack_string(packed, string, string == NULL ? 0 : strlen(string));
}

static bytea *
pack_row(const OmLoadRow *row, int ncolumns)
{
	StringInfoData packed;

	initStringInfo(&packed);
	appendStringInfoSpaces(&packed, VARHDRSZ);
	appendBinaryStringInfo(&packed, (const char *) row, sizeof(OmLoadRow));
	for (int i = 0; i < ncolumns; i++)
		pack_text(&packed, row->cells[i]);
	pack_text(&packed, row->error);
	pack_string(&packed, row->raw, Min(row->raw_size, KEPT_RAW));
	SET_VARSIZE(packed.data, packed.len);
	return (bytea *) packed.data;
}

static char *
unpack_string(char **p)
{
	int32 length;
	char *string = *p + sizeof(length);

	memcpy(&length, *p, sizeof(length));
	*p = string + (length < 0 ? 0 : length + 1);
	return length < 0 ? NULL : string;
}

/* Its strings stay where they are. */
static OmLoadRow
unpack_row(bytea *packed, int ncolumns)
{
	char *p = VARDATA_ANY(packed);
	OmLoadRow row;

	memcpy(&row, p, sizeof(row));
	p += sizeof(row);
	for (int i = 0; i < ncolumns; i++)
		row.cells[i] = unpack_string(&p);
	row.error = unpack_string(&p);
	row.raw = unpack_string(&p);
	row.raw_size = Min(row.raw_size, KEPT_RAW);
	return row;
}

void
om_load_sorter_put(OmLoadSorter *sorter, const char *ref, const OmLoadRow *row)
{
	Datum values[SORT_NCOLUMNS] = {CStringGetTextDatum(ref), Int64GetDatum(row->row_no),
								   PointerGetDatum(pack_row(row, sorter->ncolumns))};
	bool isnull[SORT_NCOLUMNS] = {false};

	tuplestore_putvalues(sorter->rows, sorter->desc, values, isnull);
	pfree(DatumGetPointer(values[SORT_REF - 1]));
	pfree(DatumGetPointer(values[SORT_ROW - 1]));
}

static Tuplesortstate *
begin_sort(const OmLoadSorter *sorter)
{
	AttrNumber columns[2] = {SORT_REF, SORT_ROW_NO};
	Oid operators[2] = {TextLessOperator, Int8LessOperator};
	Oid collations[2] = {C_COLLATION_OID, InvalidOid};
	bool nulls_first[2] = {false};

	return tuplesort_begin_heap(sorter->desc, 2, columns, operators, collations, nulls_first,
								SORTER_KB, NULL, TUPLESORT_NONE);
}

/* The row in the slot outlives the memory of those who ask for it. */
static void
read_next(OmLoadSorter *sorter)
{
	MemoryContext caller = MemoryContextSwitchTo(sorter->context);

	sorter->has_next =
		tuplestore_gettupleslot(sorter->rows, true /* forward */, true /* copy */, sorter->slot);
	MemoryContextSwitchTo(caller);
}

/* A sort ends with its transaction, so its result is kept in a store again. */
void
om_load_sorter_sort(OmLoadSorter *sorter)
{
	Tuplesortstate *sort = begin_sort(sorter);

	for (read_next(sorter); sorter->has_next; read_next(sorter))
	{
		CHECK_FOR_INTERRUPTS();
		tuplesort_puttupleslot(sort, sorter->slot);
	}
	end_store(sorter);
	tuplesort_performsort(sort);
	sorter->rows = begin_store(sorter);
	while (tuplesort_gettupleslot(sort, true /* forward */, false /* copy */, sorter->slot, NULL))
	{
		CHECK_FOR_INTERRUPTS();
		tuplestore_puttupleslot(sorter->rows, sorter->slot);
	}
	tuplesort_end(sort);
	read_next(sorter);
}

static Datum
slot_column(const OmLoadSorter *sorter, int column)
{
	bool isnull;

	return slot_getattr(sorter->slot, column, &isnull);
}

static bool
has_ref(const OmLoadSorter *sorter, const char *ref)
{
	text *next = DatumGetTextPP(slot_column(sorter, SORT_REF));
	Size size = strlen(ref);

	return VARSIZE_ANY_EXHDR(next) == size && memcmp(VARDATA_ANY(next), ref, size) == 0;
}

OmLoadGroup *
om_load_sorter_next(OmLoadSorter *sorter)
{
	OmLoadGroup *group = NULL;
	char *ref;

	if (!sorter->has_next)
		return NULL;
	ref = TextDatumGetCString(slot_column(sorter, SORT_REF));
	for (; sorter->has_next && has_ref(sorter, ref); read_next(sorter))
	{
		OmLoadRow row =
			unpack_row(DatumGetByteaPP(slot_column(sorter, SORT_ROW)), sorter->ncolumns);

		if (group != NULL && om_load_group_is_full(group))
			break;
		if (group == NULL)
			group = om_load_group_create(ref, &row, sorter->ncolumns);
		else
			om_load_group_add(group, &row, sorter->ncolumns);
	}
	group->is_piece = sorter->is_piece;
	sorter->is_piece = sorter->has_next && has_ref(sorter, ref);
	group->is_piece |= sorter->is_piece;
	return group;
}

void
om_load_sorter_free(OmLoadSorter *sorter)
{
	ExecDropSingleTupleTableSlot(sorter->slot);
	end_store(sorter);
	ResourceOwnerDelete(sorter->owner);
	pfree(sorter);
}
