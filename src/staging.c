/*
 * staging.c
 *		Makes a CSV file of staged rows, for a load.
 *
 * One statement takes the rows away and returns them, so that what is taken
 * and what is deleted are the same rows whatever is staged at that moment.
 * From there on a load of them is like one of an upload: it reads the same
 * bytes as often as it must, and knows its place in them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "dialect.h"
#include "faults.h"
#include "jsonout.h"
#include "loadparts.h"
#include "options.h"
#include "plans.h"
#include "staging.h"

#define COLUMNS "order_ref, customer_id, product_id, quantity, unit_price, created_at, metadata"
#define HEADER "order_ref,customer_id,product_id,quantity,unit_price,created_at,metadata\n"
#define NCOLUMNS 7
#define ROWS_AT_A_TIME 1000

static const char *const take_sql =
	"WITH gone AS (DELETE FROM order_mgmt.order_staging WHERE staged_by = $1"
	" RETURNING " COLUMNS ", staged_at) SELECT " COLUMNS " FROM gone ORDER BY staged_at";

TimestampTz
om_staging_time(void)
{
	static TimestampTz last = 0;

	last = Max(last + 1, GetCurrentTimestamp());
	return last;
}

/* ---------- options ---------- */

static void
refuse_option(Jsonb *options, const char *key)
{
	JsonbValue value;

	if (om_option_find(options, key, &value) != NULL)
		om_option_raise(key, "is about files, and rows that are staged are none",
						"Leave it out; give it to COPY where it is about what COPY reads.");
}

Jsonb *
om_staging_options(Jsonb *options)
{
	OmJson json = {0};

	for (int i = 0; i < OM_DIALECT_NKEYS; i++)
		refuse_option(options, om_dialect_keys[i]);
	refuse_option(options, "columns");
	om_json_open_object(&json);
	om_json_key(&json, "encoding");
	om_json_string(&json, GetDatabaseEncodingName());
	/* What COPY has read as one cell is one. */
	om_json_key(&json, "max_field_bytes");
	om_json_int(&json, OM_DIALECT_MAX_FIELD_BYTES);
	om_json_key(&json, "max_record_lines");
	om_json_int(&json, OM_DIALECT_MAX_RECORD_LINES);
	om_json_close_object(&json);
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(options),
											  JsonbPGetDatum(om_json_result(&json))));
}

/* ---------- rows ---------- */

typedef struct Writer
{
	int64 load_id;
	int64 size; /* of what has been written */
	int64 nrows;
	StringInfoData csv; /* what has not */
	MemoryContext scratch;
} Writer;

static void
write_out(Writer *writer)
{
	om_parts_append(writer->load_id, writer->size, writer->csv.data, writer->csv.len);
	writer->size += writer->csv.len;
	resetStringInfo(&writer->csv);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* What is empty and not NULL must be quoted, and blanks at the ends are for the eye. */
static bool
needs_quotes(const char *cell, int length)
{
	if (length == 0 || is_blank(cell[0]) || is_blank(cell[length - 1]))
		return true;
	for (int i = 0; i < length; i++)
	{
		if (cell[i] == ',' || cell[i] == '"' || cell[i] == '\n' || cell[i] == '\r')
			return true;
	}
	return false;
}

static void
put_cell(StringInfo csv, const char *cell, int length)
{
	if (!needs_quotes(cell, length))
	{
		appendBinaryStringInfo(csv, cell, length);
		return;
	}
	appendStringInfoChar(csv, '"');
	for (int i = 0; i < length; i++)
	{
		if (cell[i] == '"')
			appendStringInfoChar(csv, '"');
		appendStringInfoCharMacro(csv, cell[i]);
	}
	appendStringInfoChar(csv, '"');
}

static void
put_row(Writer *writer, uint64 row)
{
	for (int i = 1; i <= NCOLUMNS; i++)
	{
		bool isnull;
		Datum cell = om_result_get(row, i, &isnull);

		if (i > 1)
			appendStringInfoChar(&writer->csv, ',');
		if (!isnull)
		{
			text *value = DatumGetTextPP(cell);

			put_cell(&writer->csv, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
		}
	}
	appendStringInfoChar(&writer->csv, '\n');
	writer->nrows++;
	if (writer->csv.len >= (int) OM_PART_SIZE)
		write_out(writer);
}

static void
put_rows(Writer *writer)
{
	uint64 count = SPI_processed; /* of the last result, as the rows are */

	for (uint64 i = 0; i < count; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(writer->scratch);

		put_row(writer, i);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(writer->scratch);
	}
}

int64
om_staging_take(int64 load_id)
{
	Writer writer = {.load_id = load_id};
	Oid type = OIDOID;
	Datum role = ObjectIdGetDatum(GetUserId());
	OmQueryScope scope;
	Portal cursor;

	writer.scratch =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt staged row", ALLOCSET_SMALL_SIZES);
	initStringInfo(&writer.csv);
	appendStringInfoString(&writer.csv, HEADER);
	om_query_begin(&scope);
	cursor =
		SPI_cursor_open_with_args(NULL, take_sql, 1, &type, &role, NULL, false /* read_only */, 0);
	do
	{
		SPI_cursor_fetch(cursor, true /* forward */, ROWS_AT_A_TIME);
		put_rows(&writer);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(cursor);
	om_query_end(&scope);
	write_out(&writer);
	OM_FAULT_POINT("staging/taken");
	pfree(writer.csv.data);
	MemoryContextDelete(writer.scratch);
	return writer.nrows;
}
