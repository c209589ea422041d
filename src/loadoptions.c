/*
 * loadoptions.c
 *		Reads the options of a load.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "compat.h"
#include "errors.h"
#include "jsonout.h"
#include "loadoptions.h"
#include "options.h"

#define DEFAULT_BATCH_ROWS 5000
#define MAX_BATCH_ROWS 100000

static const OmLoadColumns columns_of[OM_LOAD_KIND_COUNT] = {
	[OM_LOAD_ORDERS] = {7,
						{"order_ref", "customer_id", "product_id", "quantity", "unit_price",
						 "created_at", "metadata"},
						1 << OM_ORDERS_CUSTOMER_ID | 1 << OM_ORDERS_PRODUCT_ID |
							1 << OM_ORDERS_QUANTITY},
	[OM_LOAD_ACCOUNTS] = {5,
						  {"customer_id", "balance", "name", "email", "metadata"},
						  1 << OM_ACCOUNTS_CUSTOMER_ID},
	[OM_LOAD_PRODUCTS] = {4,
						  {"product_id", "name", "unit_price", "metadata"},
						  1 << OM_PRODUCTS_PRODUCT_ID},
	[OM_LOAD_STOCK] = {2,
					   {"product_id", "on_hand"},
					   1 << OM_STOCK_PRODUCT_ID | 1 << OM_STOCK_ON_HAND},
};

const char *const om_load_option_keys[OM_LOAD_NKEYS] = {
	"columns",    "defaults",   "timezone",    "decimal", "timestamp_format",
	"max_errors", "batch_rows", "on_conflict", "dry_run"};

/* An object inside of them; NULL: there is none. */
static Jsonb *
get_object(Jsonb *options, const char *key)
{
	JsonbValue value;

	if (!om_option_get(options, key, &value))
		return NULL;
	if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
		om_option_raise(key, "is not an object", "Its keys are columns of order_mgmt.");
	return JsonbValueToJsonb(&value);
}

/* ---------- columns ---------- */

static void
refuse_unknown_columns(const OmLoadColumns *columns, const char *key, Jsonb *object)
{
	char *name = om_options_find_unknown(object, columns->names, columns->count);

	if (name != NULL)
		om_option_raise(
			psprintf("%s.%s", key, name), "is not a column of such a file",
			psprintf("The columns are: %s.", om_options_list(columns->names, columns->count)));
}

/* A name in the header, or a position. */
static void
read_place(OmLoadCell *cell, const char *name, const JsonbValue *value)
{
	int64 position;

	cell->is_named = true;
	if (value->type == jbvString)
	{
		cell->header = pnstrdup(value->val.string.val, value->val.string.len);
		return;
	}
	if (!om_option_is_whole(value, &position) || position < 1 || position > OM_CSV_MAX_CELLS)
		om_option_raise(psprintf("columns.%s", name), "is neither a name nor a position",
						"Give the name in the header, or the number of the column, from 1.");
	cell->position = (int) position;
}

static void
read_otherwise(OmLoadCell *cell, const char *name, const JsonbValue *value)
{
	if (value->type == jbvString)
		cell->otherwise = pnstrdup(value->val.string.val, value->val.string.len);
	else if (value->type == jbvNumeric)
		cell->otherwise =
			DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	else
		om_option_raise(psprintf("defaults.%s", name), "is neither a string nor a number",
						"Write it as it would stand in the file.");
}

static void
read_columns(OmLoadOptions *options, Jsonb *json)
{
	const OmLoadColumns *columns = &options->columns;
	Jsonb *places = get_object(json, "columns");
	Jsonb *defaults = get_object(json, "defaults");

	refuse_unknown_columns(columns, "columns", places);
	refuse_unknown_columns(columns, "defaults", defaults);
	for (int i = 0; i < columns->count; i++)
	{
		OmLoadCell *cell = &options->cells[i];
		JsonbValue value;

		*cell = (OmLoadCell){.header = columns->names[i], .position = i + 1};
		if (om_option_get(places, columns->names[i], &value))
		{
			*cell = (OmLoadCell){0};
			read_place(cell, columns->names[i], &value);
		}
		else if (options->dialect.header == 0)
			cell->header = NULL;
		if (om_option_get(defaults, columns->names[i], &value))
			read_otherwise(cell, columns->names[i], &value);
	}
}

/* ---------- all of it ---------- */

static pg_tz *
read_timezone(Jsonb *json)
{
	const char *name = om_option_string(json, "timezone", "Write a name such as Europe/Berlin.");
	pg_tz *zone;

	if (name == NULL)
		name = "UTC";
	zone = pg_tzset(name);
	if (zone == NULL)
		om_option_raise("timezone", "is not a time zone",
						"View pg_timezone_names lists those that there are.");
	return zone;
}

/* Reads what the same format writes. */
static void
try_time_format(void *arg)
{
	Datum now = TimestampTzGetDatum(GetCurrentTimestamp());
	Datum written = DirectFunctionCall2Coll(timestamptz_to_char, DEFAULT_COLLATION_OID, now,
											PointerGetDatum(arg));
	Datum value;
	Oid type;

	if (om_parse_datetime(DatumGetTextPP(written), arg, &value, &type) && type != TIMESTAMPOID &&
		type != TIMESTAMPTZOID && type != DATEOID)
		ereport(ERROR, (errcode(ERRCODE_INVALID_DATETIME_FORMAT), errmsg("it has no date")));
}

/* A wrong one is told here, and not at each row. */
static text *
read_time_format(Jsonb *json)
{
	const char *hint = "Write it in the patterns of to_timestamp(): DD.MM.YYYY HH24:MI.";
	const char *format = om_option_string(json, "timestamp_format", hint);
	text *result;

	if (format == NULL)
		return NULL;
	result = cstring_to_text(format);
	if (om_attempt(try_time_format, result, false /* keep */) != NULL)
		om_option_raise("timestamp_format", "is not a format of times", hint);
	return result;
}

static char
read_decimal(Jsonb *json)
{
	static const char *const marks[] = {".", ","};

	return *marks[om_option_word(json, "decimal", marks, lengthof(marks), 0)];
}

static bool
read_on_conflict(Jsonb *json)
{
	static const char *const words[] = {"skip", "error"};

	return om_option_word(json, "on_conflict", words, lengthof(words), 0) == 1;
}

/* All but the columns. */
static void
read_settings(OmLoadOptions *options, Jsonb *json)
{
	memset(options, 0, sizeof(*options));
	om_dialect_check_keys(json, om_load_option_keys, OM_LOAD_NKEYS);
	om_dialect_parse(json, &options->dialect);
	options->style = (OmCellStyle){read_decimal(json), read_time_format(json), read_timezone(json)};
	options->refuse_known = read_on_conflict(json);
	options->dry_run = om_option_bool(json, "dry_run", false);
	options->max_errors = om_option_count(json, "max_errors", 0, PG_INT32_MAX, -1);
	options->batch_rows =
		om_option_count(json, "batch_rows", 1, MAX_BATCH_ROWS, DEFAULT_BATCH_ROWS);
}

void
om_load_options_check(Jsonb *json)
{
	OmLoadOptions options;

	read_settings(&options, json);
	(void) get_object(json, "columns");
	(void) get_object(json, "defaults");
}

void
om_load_options_parse(OmLoadOptions *options, OmLoadKind kind, OmLoadMode mode, Jsonb *json)
{
	read_settings(options, json);
	options->columns = columns_of[kind];
	if (kind == OM_LOAD_ORDERS && mode == OM_LOAD_HISTORY)
		options->columns.required |= 1 << OM_ORDERS_CREATED_AT;
	read_columns(options, json);
}

/* ---------- a header ---------- */

static char *
list_cells(const OmCsvRecord *header)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < header->ncells; i++)
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "",
						 header->cells[i] == NULL ? "" : header->cells[i]);
	return list.data;
}

/* As it is written, else whatever the case of its letters; -1: not there. */
static int
find_name(const OmCsvRecord *header, const char *name)
{
	for (int i = 0; i < header->ncells; i++)
	{
		if (header->cells[i] != NULL && strcmp(header->cells[i], name) == 0)
			return i;
	}
	for (int i = 0; i < header->ncells; i++)
	{
		if (header->cells[i] != NULL && pg_strcasecmp(header->cells[i], name) == 0)
			return i;
	}
	return -1;
}

static int
find_cell(const OmLoadCell *cell, const OmCsvRecord *header)
{
	if (cell->header == NULL)
		return header != NULL && cell->position > header->ncells ? -1 : cell->position - 1;
	return header == NULL ? -1 : find_name(header, cell->header);
}

static void
refuse_missing(const OmLoadOptions *options, int column, const OmCsvRecord *header)
{
	const OmLoadCell *cell = &options->cells[column];

	ereport(ERROR,
			(errcode(ERRCODE_OM_LOAD),
			 errmsg("the file has no column %s, which \"%s\" is to be read from",
					cell->header == NULL ? psprintf("%d", cell->position)
										 : psprintf("\"%s\"", cell->header),
					options->columns.names[column]),
			 om_errdetail("column", options->columns.names[column]),
			 header == NULL ? errhint("Without a header give positions in options.columns.")
							: errhint("Its columns are: %s. Name the right one in options.columns.",
									  list_cells(header))));
}

void
om_load_options_bind(const OmLoadOptions *options, const OmCsvRecord *header, int *positions)
{
	for (int i = 0; i < options->columns.count; i++)
	{
		const OmLoadCell *cell = &options->cells[i];
		bool required = (options->columns.required & (1u << i)) != 0;

		positions[i] = find_cell(cell, header);
		if (positions[i] < 0 && cell->otherwise == NULL && (required || cell->is_named))
			refuse_missing(options, i, header);
	}
}
