/*
 * loadmasters.c
 *		Master data, row by row.
 *
 * A row is what a client would call set_account(), set_product() or set_stock()
 * with, so what these refuse is refused here, in the same words.  Empty cells
 * leave as it is what is there.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
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

typedef struct Setting
{
	OmLoadKind kind;
	Datum values[MAX_ARGS];
	char nulls[MAX_ARGS];
} Setting;

static void
refuse(OmLoad *load, const OmLoadRow *row, const char *column, int sqlstate, const char *message)
{
	om_load_error(load, row->row_no, row->line_no, column, sqlstate, message, row->raw,
				  row->raw_size);
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
			   psprintf("%s \"%s\" %s", column, row->cells[i], problem.what));
		ok = false;
	}
	return ok;
}

static void
prepare(OmLoadKind kind)
{
	const Statement *statement = &statements[kind];

	if (plans[kind] != NULL)
		return;
	plans[kind] = SPI_prepare(statement->sql, statement->nargs, (Oid *) statement->types);
	if (plans[kind] == NULL || SPI_keepplan(plans[kind]) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
			 SPI_result_code_string(SPI_result));
}

static void
run(void *arg)
{
	Setting *setting = arg;

	SPI_connect();
	prepare(setting->kind);
	if (SPI_execute_plan(plans[setting->kind], setting->values, setting->nulls, false, 1) < 0)
		elog(ERROR, "could not set a row: %s", SPI_result_code_string(SPI_result));
	SPI_finish();
}

static bool
write_row(OmLoad *load, const OmLoadOptions *options, const OmLoadRow *row)
{
	Setting setting = {.kind = load->kind};
	ErrorData *error;

	if (row->sqlstate != 0)
	{
		refuse(load, row, NULL, row->sqlstate, row->error);
		return false;
	}
	if (!read_cells(load, options, row, &setting))
		return false;
	if (options->dry_run)
		return true;
	error = om_attempt(run, &setting);
	if (error != NULL)
		refuse(load, row, NULL, error->sqlerrcode, error->message);
	return error == NULL;
}

void
om_load_master_write(OmLoad *load, const OmLoadOptions *options, const OmLoadRow *row)
{
	if (write_row(load, options, row))
		load->rows_loaded++;
	else
		load->rows_rejected++;
}
