/*
 * rows.c
 *		The rows of a query as features and labels.
 *
 * Columns are numbers or booleans; the one that option "label" names is the label.
 * A feature that is NULL is missing, which XGBoost learns from.  A row whose label is
 * NULL is not used: nobody knows yet what came of it.  Which rows validate is
 * decided by their number and the seed, so the same rows give the same model.
 */
#include "boost.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define ROWS_AT_A_TIME 1000
#define LEAST_ROWS 20
#define MAX_FEATURES 1600 /* as many columns as a row can have */
#define MAX_VALUES ((int64) 128 * 1024 * 1024)

/* --- columns -------------------------------------------------------------------------------------- */

static bool
is_number(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			return true;
		default:
			return false;
	}
}

static float
to_float(Datum value, Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return DatumGetBool(value) ? 1 : 0;
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return (float) DatumGetInt32(value);
		case INT8OID:
			return (float) DatumGetInt64(value);
		case FLOAT4OID:
			return DatumGetFloat4(value);
		case FLOAT8OID:
			return (float) DatumGetFloat8(value);
		default:
			return (float) DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value));
	}
}

typedef struct Reader
{
	const BoostOptions *options;
	BoostRows *rows;
	int label; /* column of the label, from 1 */
	int64 nread;
	MemoryContext context; /* of what is read */
} Reader;

static void
check_column(const char *name, Oid type)
{
	if (!is_number(type))
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID),
						errmsg("column \"%s\" of the query is of type %s, not a number", name,
							   format_type_be(type)),
						errhint("Features and labels are numbers or booleans; make numbers of "
								"words, or leave them out.")));
}

static void
add_feature(Reader *reader, const char *name)
{
	BoostRows *rows = reader->rows;

	for (int i = 0; i < rows->nfeatures; i++)
	{
		if (strcmp(rows->features[i], name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OM_INVALID), errmsg("the query has two columns \"%s\"", name),
					 errhint("Inputs name their features, so each needs its own name.")));
	}
	rows->features[rows->nfeatures++] = MemoryContextStrdup(reader->context, name);
}

static void
read_columns(Reader *reader, TupleDesc desc)
{
	reader->rows->features =
		MemoryContextAlloc(reader->context, sizeof(char *) * Min(desc->natts, MAX_FEATURES));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		check_column(NameStr(column->attname), column->atttypid);
		if (strcmp(NameStr(column->attname), reader->options->label) == 0)
			reader->label = i + 1;
		else
			add_feature(reader, NameStr(column->attname));
	}
	if (reader->label == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID),
						errmsg("the query has no column \"%s\"", reader->options->label),
						errhint("Option label names the column with what is to be predicted.")));
	if (reader->rows->nfeatures == 0)
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("the query has no features"),
						errhint("All columns but the label are features.")));
}

/* --- rows ----------------------------------------------------------------------------------------- */

/* A number below 1 that looks like chance (the mixer of splitmix64). */
static double
scramble(uint64 seed, uint64 n)
{
	uint64 z = (seed + 1) * UINT64CONST(0x9e3779b97f4a7c15) + n * UINT64CONST(0xbf58476d1ce4e5b9);

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return (double) ((z ^ (z >> 31)) >> 11) / (double) (UINT64CONST(1) << 53);
}

static void
make_room(Reader *reader, BoostSample *sample)
{
	int nfeatures = reader->rows->nfeatures;
	Size room;

	if (sample->nrows < sample->room)
		return;
	room = Max(1024, sample->room * 2);
	if ((int64) room * nfeatures > 2 * MAX_VALUES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the query gives more than " INT64_FORMAT " values", MAX_VALUES),
						errhint("Learn from a sample: TABLESAMPLE, or fewer features.")));
	if (sample->values == NULL)
	{
		sample->values = MemoryContextAllocHuge(reader->context, sizeof(float) * room * nfeatures);
		sample->labels = MemoryContextAllocHuge(reader->context, sizeof(float) * room);
	}
	else
	{
		sample->values = repalloc_huge(sample->values, sizeof(float) * room * nfeatures);
		sample->labels = repalloc_huge(sample->labels, sizeof(float) * room);
	}
	sample->room = room;
}

static void
check_label(const Reader *reader, float label)
{
	if (reader->options->is_binary && label != 0 && label != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OM_INVALID), errmsg("label %g is neither 0 nor 1", (double) label),
				 errhint("Objective binary:logistic takes 0 and 1, or booleans; "
						 "reg:squarederror takes any number.")));
	if (!isfinite(label))
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("a label is not a finite number"),
						errhint("Leave such rows out, or make their label NULL.")));
}

static void
read_row(Reader *reader, HeapTuple row, TupleDesc desc)
{
	BoostRows *rows = reader->rows;
	bool validates =
		scramble(reader->options->seed, reader->nread++) < reader->options->validation_fraction;
	BoostSample *sample = validates ? &rows->validation : &rows->training;
	float *value;
	bool isnull;
	Datum label = SPI_getbinval(row, desc, reader->label, &isnull);

	if (isnull)
	{
		rows->skipped++;
		return;
	}
	make_room(reader, sample);
	value = sample->values + sample->nrows * rows->nfeatures;
	sample->labels[sample->nrows] = to_float(label, SPI_gettypeid(desc, reader->label));
	check_label(reader, sample->labels[sample->nrows]);
	for (int col = 1; col <= desc->natts; col++)
	{
		Datum datum;

		if (col == reader->label)
			continue;
		datum = SPI_getbinval(row, desc, col, &isnull);
		*value++ = isnull ? NAN : to_float(datum, SPI_gettypeid(desc, col));
	}
	sample->nrows++;
}

static void
read_all(Reader *reader, Portal portal)
{
	MemoryContext passing =
		AllocSetContextCreate(CurrentMemoryContext, "rows", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		MemoryContext caller;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true /* forward */, ROWS_AT_A_TIME);
		if (SPI_processed == 0)
			break;
		caller = MemoryContextSwitchTo(passing);
		for (uint64 i = 0; i < SPI_processed; i++)
			read_row(reader, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(passing);
		SPI_freetuptable(SPI_tuptable);
	}
}

/* Nothing can be learnt from labels that are all the same. */
static void
check_sample(const BoostSample *sample, bool is_binary)
{
	bool differ = false;

	if (sample->nrows < LEAST_ROWS)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("there are only " INT64_FORMAT " rows to learn from", sample->nrows),
						errhint("At least %d are needed, beside those that validate and those "
								"without label.",
								LEAST_ROWS)));
	for (int64 i = 1; i < sample->nrows; i++)
		differ = differ || sample->labels[i] != sample->labels[0];
	if (is_binary && !differ)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("all rows have label %g", (double) sample->labels[0]),
						errhint("Let the query give rows of both labels.")));
}

BoostRows *
boost_rows_read(const BoostOptions *options)
{
	Reader reader = {
		.options = options, .rows = palloc0(sizeof(BoostRows)), .context = CurrentMemoryContext};
	Portal portal;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, options->query, 0, NULL, NULL, NULL,
									   true /* read_only */, 0);
	read_columns(&reader, portal->tupDesc);
	read_all(&reader, portal);
	SPI_cursor_close(portal);
	SPI_finish();
	check_sample(&reader.rows->training, options->is_binary);
	return reader.rows;
}
