/*
 * loadorders.c
 *		From rows to orders.
 *
 * An order is loaded whole or not at all: when one of its rows is refused, so
 * are the others, and each says so.  What only the tables themselves refuse
 * (a constraint of the user's own) undoes the batch, which is then written
 * order by order.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "attempt.h"
#include "capture.h"
#include "clock.h"
#include "errors.h"
#include "imports.h"
#include "jsonout.h"
#include "loadorders.h"
#include "uuid7.h"

typedef struct LoadOrder
{
	OmLoadGroup *group;
	OmCapture capture;
	TimestampTz at;
	bool refused;
	bool skipped;
} LoadOrder;

static const char *const column_names[] = {"order_ref",  "customer_id", "product_id", "quantity",
										   "unit_price", "created_at",  "metadata"};

/* ---------- refusals ---------- */

static void
refuse_row(OmLoadOrders *target, OmLoadRow *row, const char *column, int sqlstate,
		   const char *message)
{
	om_load_error(target->load, row->row_no, row->line_no, column, sqlstate, message,
				  (OmLoadRaw){row->raw, row->raw_size, row->raw_is_exact});
	row->sqlstate = sqlstate;
}

static void
refuse_cell(OmLoadOrders *target, OmLoadRow *row, int column, const OmCellProblem *problem)
{
	refuse_row(target, row, column_names[column], problem->sqlstate,
			   psprintf("%s \"%s\" %s", column_names[column], om_cell_shown(row->cells[column]),
						problem->what));
}

static void
refuse_missing(OmLoadOrders *target, OmLoadRow *row, int column)
{
	refuse_row(target, row, column_names[column], ERRCODE_NOT_NULL_VIOLATION,
			   psprintf("%s is missing", column_names[column]));
}

/* Every row that has no error of its own gets this one. */
static void
refuse_rows(OmLoadOrders *target, LoadOrder *order, int sqlstate, const char *message)
{
	for (int i = 0; i < order->group->nrows; i++)
	{
		OmLoadRow *row = &order->group->rows[i];

		if (row->sqlstate == 0)
			refuse_row(target, row, NULL, sqlstate, message);
	}
	order->refused = true;
}

static bool
has_refused_row(const LoadOrder *order)
{
	for (int i = 0; i < order->group->nrows; i++)
	{
		if (order->group->rows[i].sqlstate != 0)
			return true;
	}
	return false;
}

/* ---------- rows ---------- */

static void
refuse_unreadable_rows(OmLoadOrders *target, OmLoadGroup *group)
{
	for (int i = 0; i < group->nrows; i++)
	{
		OmLoadRow *row = &group->rows[i];

		if (row->sqlstate != 0)
			refuse_row(target, row, NULL, row->sqlstate, row->error);
	}
}

static bool
check_id(OmLoadOrders *target, OmLoadRow *row, int column, int max_chars)
{
	OmProblem problem = {0};

	if (om_request_check_id(column_names[column], row->cells[column], max_chars, &problem))
		return true;
	if (row->cells[column] == NULL || *row->cells[column] == '\0')
		refuse_missing(target, row, column);
	else
		refuse_row(target, row, column_names[column], ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
				   problem.message);
	return false;
}

static void
read_line(OmLoadOrders *target, OmLoadRow *row, OmRequestLine *line)
{
	const OmCellStyle *style = &target->options->style;
	OmCellProblem problem;

	if (check_id(target, row, OM_ORDERS_PRODUCT_ID, OM_ID_MAX_CHARS))
		line->product_id = row->cells[OM_ORDERS_PRODUCT_ID];
	if (row->cells[OM_ORDERS_QUANTITY] == NULL)
		refuse_missing(target, row, OM_ORDERS_QUANTITY);
	else if (!om_cell_quantity(row->cells[OM_ORDERS_QUANTITY], &line->quantity, &problem))
		refuse_cell(target, row, OM_ORDERS_QUANTITY, &problem);
	line->has_price = row->cells[OM_ORDERS_UNIT_PRICE] != NULL;
	if (line->has_price &&
		!om_cell_money(row->cells[OM_ORDERS_UNIT_PRICE], style, &line->unit_price, &problem))
		refuse_cell(target, row, OM_ORDERS_UNIT_PRICE, &problem);
}

static bool
is_same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void
read_lines(OmLoadOrders *target, LoadOrder *order)
{
	OmLoadGroup *group = order->group;
	OmRequest *request = &order->capture.request;

	refuse_unreadable_rows(target, group);
	request->nlines = group->nrows;
	request->lines = palloc0(sizeof(OmRequestLine) * group->nrows);
	for (int i = 0; i < group->nrows; i++)
	{
		OmLoadRow *row = &group->rows[i];

		if (row->sqlstate != 0)
			continue;
		read_line(target, row, &request->lines[i]);
		if (check_id(target, row, OM_ORDERS_CUSTOMER_ID, OM_ID_MAX_CHARS) &&
			!is_same(row->cells[OM_ORDERS_CUSTOMER_ID],
					 group->rows[0].cells[OM_ORDERS_CUSTOMER_ID]))
			refuse_row(target, row, column_names[OM_ORDERS_CUSTOMER_ID],
					   ERRCODE_CARDINALITY_VIOLATION,
					   "customer_id is not that of the order's first row");
	}
}

/* ---------- orders ---------- */

static void
read_time(OmLoadOrders *target, LoadOrder *order)
{
	OmLoadRow *row = &order->group->rows[0];
	OmCellProblem problem = {ERRCODE_DATETIME_FIELD_OVERFLOW, NULL};

	if (row->cells[OM_ORDERS_CREATED_AT] == NULL)
	{
		refuse_missing(target, row, OM_ORDERS_CREATED_AT);
		return;
	}
	if (om_cell_time(row->cells[OM_ORDERS_CREATED_AT], &target->options->style, &order->at,
					 &problem))
	{
		if (order->at < om_uuid7_epoch())
			problem.what = "is before 1970";
		else if (order->at > om_clock_now())
			problem.what = "lies in the future";
	}
	if (problem.what != NULL)
		refuse_cell(target, row, OM_ORDERS_CREATED_AT, &problem);
}

static void
read_metadata(OmLoadOrders *target, LoadOrder *order)
{
	OmLoadRow *row = &order->group->rows[0];
	OmCellProblem problem;

	order->capture.request.metadata = DatumGetJsonbP(om_json_empty());
	if (row->cells[OM_ORDERS_METADATA] != NULL &&
		!om_cell_object(row->cells[OM_ORDERS_METADATA], &order->capture.request.metadata, &problem))
		refuse_cell(target, row, OM_ORDERS_METADATA, &problem);
}

static void
read_head(OmLoadOrders *target, LoadOrder *order)
{
	OmLoadRow *row = &order->group->rows[0];

	if (row->sqlstate != 0)
		return;
	order->capture.request.customer_id = row->cells[OM_ORDERS_CUSTOMER_ID];
	order->capture.request.order_ref = order->group->ref;
	if (order->group->ref != NULL)
		(void) check_id(target, row, OM_ORDERS_REF, OM_REF_MAX_CHARS);
	if (target->load->mode == OM_LOAD_HISTORY)
		read_time(target, order);
	read_metadata(target, order);
}

static void
read_order(OmLoadOrders *target, LoadOrder *order, OmLoadGroup *group)
{
	memset(order, 0, sizeof(*order));
	order->group = group;
	if (group->is_piece)
	{
		refuse_unreadable_rows(target, group);
		refuse_rows(target, order, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
					psprintf("an order has at most %d lines and %zu MB", OM_LOAD_MAX_LINES,
							 OM_LOAD_MAX_SIZE / 1024 / 1024));
		return;
	}
	read_lines(target, order);
	read_head(target, order);
	if (has_refused_row(order))
		refuse_rows(target, order, ERRCODE_OM_LOAD, "another row of the same order is refused");
}

/* ---------- what the tables say ---------- */

static bool
is_open(const LoadOrder *order)
{
	return !order->refused && !order->skipped;
}

static void
pass_known_over(OmLoadOrders *target, LoadOrder *order)
{
	if (target->options->refuse_known)
		refuse_rows(target, order, ERRCODE_UNIQUE_VIOLATION,
					psprintf("there is an order with order_ref \"%s\"", order->group->ref));
	else
		order->skipped = true;
}

static void
look_up_refs(OmLoadOrders *target, LoadOrder *orders, int count)
{
	char **refs = palloc(sizeof(char *) * count);
	bool *known = palloc(sizeof(bool) * count);

	for (int i = 0; i < count; i++)
		refs[i] = is_open(&orders[i]) ? orders[i].group->ref : NULL;
	om_order_refs_look_up(target->refs, refs, count, known);
	for (int i = 0; i < count; i++)
	{
		if (known[i])
			pass_known_over(target, &orders[i]);
	}
}

/* The captures of the orders that are still to be written, and which these are. */
static int
collect_open(LoadOrder *orders, int count, OmCapture *captures, LoadOrder **open)
{
	int nopen = 0;

	for (int i = 0; i < count; i++)
	{
		if (!is_open(&orders[i]))
			continue;
		captures[nopen] = orders[i].capture;
		open[nopen++] = &orders[i];
	}
	return nopen;
}

/* A problem of a capture belongs to the row that its path names. */
static void
refuse_capture(OmLoadOrders *target, LoadOrder *order, const OmProblem *problem)
{
	int line = 0;
	const char *dot = strchr(problem->path, '.');

	if (sscanf(problem->path, "lines[%d]", &line) == 1 && line < order->group->nrows)
		refuse_row(target, &order->group->rows[line], dot == NULL ? NULL : dot + 1,
				   problem->sqlstate, problem->message);
	else
		refuse_rows(target, order, problem->sqlstate, problem->message);
	refuse_rows(target, order, ERRCODE_OM_LOAD, "another row of the same order is refused");
}

static void
look_up_prices(OmLoadOrders *target, LoadOrder *orders, int count)
{
	OmCapture *captures = palloc(sizeof(OmCapture) * count);
	LoadOrder **open = palloc(sizeof(LoadOrder *) * count);
	int nopen = collect_open(orders, count, captures, open);

	om_capture_price(captures, nopen);
	for (int i = 0; i < nopen; i++)
	{
		open[i]->capture = captures[i];
		if (captures[i].problem.sqlstate != 0)
			refuse_capture(target, open[i], &captures[i].problem);
	}
}

/* ---------- writing ---------- */

typedef struct Writing
{
	OmLoadOrders *target;
	LoadOrder *orders;
	int count;
} Writing;

static Jsonb *
make_detail(const OmLoad *load)
{
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "load_id");
	om_json_int(&json, load->load_id);
	om_json_close_object(&json);
	return om_json_result(&json);
}

/* What was right a moment ago may not be any more. */
static void
capture_all(OmCapture *captures, int count)
{
	om_capture_run(captures, count, true /* all_or_nothing */);
	for (int i = 0; i < count; i++)
	{
		if (captures[i].problem.sqlstate != 0)
			om_problem_raise(&captures[i].problem);
	}
}

static void
write_orders(void *arg)
{
	Writing *writing = arg;
	OmCapture *captures = palloc(sizeof(OmCapture) * writing->count);
	LoadOrder **open = palloc(sizeof(LoadOrder *) * writing->count);
	int nopen = collect_open(writing->orders, writing->count, captures, open);
	OmImport *imports;

	if (nopen == 0)
		return;
	if (writing->target->load->mode == OM_LOAD_CAPTURE)
	{
		capture_all(captures, nopen);
		return;
	}
	imports = palloc(sizeof(OmImport) * nopen);
	for (int i = 0; i < nopen; i++)
		imports[i] = (OmImport){&captures[i], open[i]->at};
	om_imports_write(imports, nopen, make_detail(writing->target->load));
}

/* A dry run does it, too, and undoes it. */
static ErrorData *
try_to_write(Writing *writing)
{
	ErrorData *error = om_attempt(write_orders, writing, !writing->target->options->dry_run);

	/* Not this order, but the whole table: code of others stands in the way. */
	if (error != NULL && error->sqlerrcode == ERRCODE_OM_STATE)
		ReThrowError(error);
	return error;
}

static void
write_one_by_one(OmLoadOrders *target, LoadOrder *orders, int count)
{
	for (int i = 0; i < count; i++)
	{
		Writing writing = {target, &orders[i], 1};
		ErrorData *error;

		if (!is_open(&orders[i]))
			continue;
		error = try_to_write(&writing);
		if (error != NULL)
			refuse_rows(target, &orders[i], error->sqlerrcode, error->message);
	}
}

static void
count_outcome(OmLoad *load, const LoadOrder *order)
{
	if (order->refused)
		load->rows_rejected += order->group->nrows;
	else if (order->skipped)
	{
		load->rows_skipped += order->group->nrows;
		load->orders_skipped++;
	}
	else
	{
		load->rows_loaded += order->group->nrows;
		load->orders_loaded++;
	}
}

void
om_load_orders_write(OmLoadOrders *target, OmLoadGroup **groups, int count)
{
	LoadOrder *orders = palloc(sizeof(LoadOrder) * Max(count, 1));
	Writing writing = {target, orders, count};

	for (int i = 0; i < count; i++)
		read_order(target, &orders[i], groups[i]);
	look_up_refs(target, orders, count);
	look_up_prices(target, orders, count);
	if (try_to_write(&writing) != NULL)
		write_one_by_one(target, orders, count);
	for (int i = 0; i < count; i++)
		count_outcome(target->load, &orders[i]);
}
