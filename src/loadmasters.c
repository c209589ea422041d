/*
 * loadmasters.c
 *		Master data, row by row.
 *
 * A row is what a client would call set_account(), set_product() or set_stock()
 * with, so what these refuse is refused here, in the same words.  Empty cells
 * leave as it is what is there.  The rows of a batch are one subtransaction;
 * when that fails, each has one of its own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "attempt.h"
#include "loadmasters.h"
#include "money.h"

#define MAX_ARGS 5

typedef struct Statement
{
	const char *sql;
	int nargs;
	Oid types[MAX_ARGS];
} Statement;

static const Statement statements[OM_LOAD_KIND_COUNT] = {
	[OM_LOAD_ACCOUNTS] = {"SELECT order_mgmt.set_account(customer_id => $1, balance => $2,"
						  " name => $3, email => $4, metadata => $5)",
						  5,
						  {TEXTOID, NUMERICOID, TEXTOID, TEXTOID, JSONBOID}},
	[OM_LOAD_PRODUCTS] = {"SELECT order_mgmt.set_product(product_id => $1, name => $2,"
						  " unit_price => $3, metadata => $4)",
						  4,
						  {TEXTOID, TEXTOID, NUMERICOID, JSONBOID}},
	[OM_LOAD_STOCK] = {"SELECT order_mgmt.set_stock(product_id => $1, on_hand => $2)",
					   2,
					   {TEXTOID, INT8OID}},
};

static SPIPlanPtr plans[OM_LOAD_KIND_COUNT];

/* What a row sets. */
typedef struct Setting
{
	const OmLoadRow *row;
	Datum values[MAX_ARGS];
	char nulls[MAX_ARGS];
} Setting;

typedef struct Settings
{
	OmLoadKind kind;
	int count;
	Setting *settings;
} Settings;

static void
refuse(OmLoad *load, const OmLoadRow *row, const char *column, int sqlstate, const char *message)
{
	om_load_error(load, row->row_no, row->line_no, column, sqlstate, message,
				  (OmLoadRaw){row->raw, row->raw_size, row->raw_is_exact});
}

/* The cell as the type of its argument. */
static bool
read_cell(const char *cell, Oid type, const OmCellStyle *style, Datum *value,
		  OmCellProblem *problem)
{
	int64 number;
	Jsonb *object;

	switch (type)
	{
		case NUMERICOID:
			if (!om_cell_money(cell, style, &number, problem))
				return false;
			*value = NumericGetDatum(om_money_to_numeric(number));
			return true;
		case INT8OID:
			if (!om_cell_units(cell, &number, problem))
				return false;
			*value = Int64GetDatum(number);
			return true;
		case JSONBOID:
			if (!om_cell_object(cell, &object, problem))
				return false;
			*value = JsonbPGetDatum(object);
			return true;
		default:
			*value = CStringGetTextDatum(cell);
			return true;
	}
}

static bool
read_cells(OmLoad *load, const OmLoadOptions *options, const OmLoadRow *row, Setting *setting)
{
	const Statement *statement = &statements[load->kind];
	bool ok = true;

	for (int i = 0; i < statement->nargs; i++)
	{
		const char *column = options->columns.names[i];
		OmCellProblem problem;

		setting->nulls[i] = row->cells[i] == NULL ? 'n' : ' ';
		if (row->cells[i] == NULL && (options->columns.required & (1u << i)) != 0)
		{
			refuse(load, row, column, ERRCODE_NOT_NULL_VIOLATION,
				   psprintf("%s is missing", column));
			ok = false;
		}
		if (row->cells[i] == NULL || read_cell(row->cells[i], statement->types[i], &options->style,
											   &setting->values[i], &problem))
			continue;
		refuse(load, row, column, problem.sqlstate,
			   psprintf("%s \"%s\" %s", column, om_cell_shown(row->cells[i]), problem.what));
		ok = false;
	}
	return ok;
}

static SPIPlanPtr
get_plan(OmLoadKind kind)
{
	const Statement *statement = &statements[kind];

	if (plans[kind] == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs, (Oid *) statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
				 SPI_result_code_string(SPI_result));
		plans[kind] = plan;
	}
	return plans[kind];
}

static void
run(void *arg)
{
	const Settings *settings = arg;

	SPI_connect();
	for (int i = 0; i < settings->count; i++)
	{
		Setting *setting = &settings->settings[i];

		CHECK_FOR_INTERRUPTS();
		if (SPI_execute_plan(get_plan(settings->kind), setting->values, setting->nulls, false, 1) <
			0)
			elog(ERROR, "could not set a row: %s", SPI_result_code_string(SPI_result));
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
}

/* By key, as all who lock such rows do; of two with one key the later one counts. */
static int
compare_settings(const void *a, const void *b)
{
	const OmLoadRow *left = ((const Setting *) a)->row;
	const OmLoadRow *right = ((const Setting *) b)->row;
	int order = strcmp(left->cells[0], right->cells[0]);

	return order != 0 ? order : (left->row_no > right->row_no) - (left->row_no < right->row_no);
}

/* The rows that can be tried; the others are refused. */
static Settings
read_rows(OmLoad *load, const OmLoadOptions *options, const OmLoadGroup *rows)
{
	Settings settings = {.kind = load->kind};

	settings.settings = palloc(sizeof(Setting) * rows->nrows);
	for (int i = 0; i < rows->nrows; i++)
	{
		const OmLoadRow *row = &rows->rows[i];
		Setting *setting = &settings.settings[settings.count];

		setting->row = row;
		if (row->sqlstate != 0)
			refuse(load, row, NULL, row->sqlstate, row->error);
		else if (read_cells(load, options, row, setting))
			settings.count++;
	}
	qsort(settings.settings, settings.count, sizeof(Setting), compare_settings);
	return settings;
}

static int
set_one_by_one(OmLoad *load, const Settings *settings, bool keep)
{
	int done = 0;

	for (int i = 0; i < settings->count; i++)
	{
		Settings one = {settings->kind, 1, &settings->settings[i]};
		ErrorData *error = om_attempt(run, &one, keep);

		if (error != NULL)
			refuse(load, one.settings->row, NULL, error->sqlerrcode, error->message);
		done += error == NULL;
	}
	return done;
}

void
om_load_masters_write(OmLoad *load, const OmLoadOptions *options, const OmLoadGroup *rows)
{
	Settings settings = read_rows(load, options, rows);
	bool keep = !options->dry_run;
	int done = settings.count;

	if (done > 0 && om_attempt(run, &settings, keep) != NULL)
		done = set_one_by_one(load, &settings, keep);
	load->rows_loaded += done;
	load->rows_rejected += rows->nrows - done;
}
