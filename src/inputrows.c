/*
 * inputrows.c
 *		Reads a query by a cursor, some rows at a time.  SPI changes the memory
 *		context on its way; callers keep theirs.
 *
 * The query is part of a larger one, so it can be nothing but a query; and it
 * runs as the caller, who could have run it himself.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "compat.h"
#include "errors.h"
#include "inputrows.h"
#include "jsonout.h"

static void raise_query(const char *path, const char *message) OM_NORETURN;

static void
raise_query(const char *path, const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_INVALID), errmsg("%s %s", path, message),
			 om_errdetail("path", path), errhint("Write one SELECT whose rows are the inputs.")));
}

static SPIPlanPtr
prepare(const char *sql, const char *path)
{
	SPIPlanPtr plan = SPI_prepare_cursor(sql, 0, NULL, 0);

	if (plan == NULL || !SPI_is_cursor_plan(plan))
		raise_query(path, "is not a query");
	return plan;
}

/* The query by itself: it must be one statement, and says what its columns are. */
static bool
is_one_jsonb(const char *query, const char *path)
{
	SPIPlanPtr plan = prepare(query, path);
	Portal portal = SPI_cursor_open(NULL, plan, NULL, NULL, true /* read_only */);
	TupleDesc desc = portal->tupDesc;
	bool answer = desc != NULL && desc->natts == 1 && TupleDescAttr(desc, 0)->atttypid == JSONBOID;

	SPI_cursor_close(portal);
	SPI_freeplan(plan);
	return answer;
}

static const char *
compose(const char *query, const char *label, const char *path)
{
	if (label != NULL)
		return psprintf("SELECT pg_catalog.to_jsonb(q) - %s::pg_catalog.text,"
						" pg_catalog.to_jsonb(q) -> %s::pg_catalog.text FROM (%s\n) AS q",
						quote_literal_cstr(label), quote_literal_cstr(label), query);
	if (is_one_jsonb(query, path))
		return query;
	return psprintf("SELECT pg_catalog.to_jsonb(q) FROM (%s\n) AS q", query);
}

void
om_inputrows_open(OmInputRows *rows, const char *query, const char *label, const char *path)
{
	const char *trimmed = query + strspn(query, " \t\r\n");
	MemoryContext caller = CurrentMemoryContext;
	SPIPlanPtr plan;

	SPI_connect();
	if (*trimmed == '\0')
		raise_query(path, "is empty");
	plan = prepare(compose(query, label, path), path);
	rows->portal = SPI_cursor_open(NULL, plan, NULL, NULL, false /* read_only */);
	rows->count = 0;
	MemoryContextSwitchTo(caller);
}

static Jsonb *
get_jsonb(uint64 row, int column, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	JsonbValue null = {.type = jbvNull};
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	Jsonb *jsonb = isnull ? JsonbValueToJsonb(&null) : DatumGetJsonbPCopy(value);

	MemoryContextSwitchTo(caller);
	return jsonb;
}

static bool
has_value(uint64 row, int column)
{
	bool isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	return !isnull;
}

int
om_inputrows_fetch(OmInputRows *rows, int count, Jsonb **inputs, Jsonb **labels)
{
	MemoryContext caller = CurrentMemoryContext;
	int fetched;

	SPI_cursor_fetch(rows->portal, true /* forward */, count);
	fetched = (int) SPI_processed;
	for (int i = 0; i < fetched; i++)
	{
		inputs[i] = get_jsonb(i, 1, caller);
		if (labels != NULL)
			labels[i] = has_value(i, 2) ? get_jsonb(i, 2, caller) : NULL;
	}
	SPI_freetuptable(SPI_tuptable);
	rows->count += fetched;
	MemoryContextSwitchTo(caller);
	return fetched;
}

void
om_inputrows_close(OmInputRows *rows)
{
	SPI_cursor_close(rows->portal);
	SPI_finish();
}
