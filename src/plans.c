/*
 * plans.c
 *		Prepared statements, run as the owner of the data tables.
 *
 * Callers of our functions hold no rights on the tables, so statements switch
 * to order_mgmt_owner.  That is a role without any other power: whatever a
 * statement touches, it cannot act as a superuser.  An ERROR restores the
 * caller's identity and search_path with the end of the (sub)transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/queryenvironment.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

#include "plans.h"
#include "relations.h"

static void
begin_as(OmQueryScope *scope, Oid role)
{
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(role, scope->security_context | SECURITY_LOCAL_USERID_CHANGE |
									 SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

void
om_query_begin(OmQueryScope *scope)
{
	begin_as(scope, om_owner_role());
}

void
om_query_begin_as_owner(OmQueryScope *scope, Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	begin_as(scope, owner);
}

void
om_query_uncounted(void)
{
	(void) set_config_option("track_counts", "off", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

void
om_query_end(OmQueryScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
}

static uint64
execute(OmQuery *query, const Datum *args, const bool *isnull, bool read_only)
{
	char nulls[OM_QUERY_MAX_ARGS];
	int result;

	if (query->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare_cursor(query->sql, query->nargs, query->types,
											 query->plan_once ? CURSOR_OPT_GENERIC_PLAN : 0);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", query->sql,
				 SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		query->plan = plan;
	}
	for (int i = 0; i < query->nargs; i++)
		nulls[i] = isnull != NULL && isnull[i] ? 'n' : ' ';
	result = SPI_execute_plan(query->plan, unconstify(Datum *, args), nulls, read_only, 0);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", query->sql, SPI_result_code_string(result));
	return SPI_processed;
}

uint64
om_query_run(OmQuery *query, const Datum *args, const bool *isnull)
{
	return execute(query, args, isnull, false /* read_only */);
}

uint64
om_query_read(OmQuery *query, const Datum *args, const bool *isnull)
{
	return execute(query, args, isnull, true /* read_only */);
}

int64
om_query_number(OmQuery *query, const Datum *args)
{
	OmQueryScope scope;
	bool is_missing = true;
	Datum value = (Datum) 0;

	om_query_begin(&scope);
	if (om_query_run(query, args, NULL) > 0)
		value = om_result_get(0, 1, &is_missing);
	om_query_end(&scope);
	return is_missing ? 0 : DatumGetInt64(value);
}

List *
om_query_list(OmQuery *query, const Datum *args, const bool *isnull, OmRowReader read)
{
	MemoryContext caller = CurrentMemoryContext;
	List *list = NIL;
	OmQueryScope scope;
	uint64 count;

	om_query_begin(&scope);
	count = om_query_run(query, args, isnull);
	MemoryContextSwitchTo(caller);
	for (uint64 row = 0; row < count; row++)
		list = lappend(list, read(row));
	om_query_end(&scope);
	return list;
}

void *
om_query_first(OmQuery *query, const Datum *args, OmRowReader read)
{
	MemoryContext caller = CurrentMemoryContext;
	void *first = NULL;
	OmQueryScope scope;

	om_query_begin(&scope);
	if (om_query_run(query, args, NULL) > 0)
	{
		MemoryContextSwitchTo(caller);
		first = read(0);
	}
	om_query_end(&scope);
	return first;
}

void
om_query_utility(const char *sql)
{
	int result = SPI_execute(sql, false /* read_only */, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
}

/* They are in memory already, so they are kept there: a file would have to be closed by somebody. */
void
om_query_name_result(const char *name)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));
	Tuplestorestate *rows =
		tuplestore_begin_heap(false /* randomAccess */, false /* interXact */, MAX_KILOBYTES);

	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(rows, SPI_tuptable->vals[i]);
	relation->md.name = pstrdup(name);
	relation->md.tupdesc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = SPI_processed;
	relation->reldata = rows;
	if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not name rows \"%s\"", name);
}

Datum
om_result_get(uint64 row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

char *
om_result_text(uint64 row, int col)
{
	bool isnull;
	Datum value = om_result_get(row, col, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

int64
om_result_int64(uint64 row, int col)
{
	bool isnull;
	Datum value = om_result_get(row, col, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

void *
om_result_name(uint64 row)
{
	return om_result_text(row, 1);
}

uint64
om_query_change(OmQuery *query, const Datum *args)
{
	OmQueryScope scope;
	uint64 count;

	om_query_begin(&scope);
	count = om_query_run(query, args, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	return count;
}

bool
om_query_change_says(OmQuery *query, const Datum *args)
{
	OmQueryScope scope;
	bool isnull;
	bool answer;

	om_query_begin(&scope);
	om_query_run(query, args, NULL);
	answer = DatumGetBool(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	CommandCounterIncrement();
	return answer;
}

/* A row of other types than promised would crash whoever reads it. */
static void
check_columns(TupleDesc promised, TupleDesc actual)
{
	bool matches = promised->natts == actual->natts;

	for (int i = 0; matches && i < promised->natts; i++)
		matches = TupleDescAttr(promised, i)->atttypid == TupleDescAttr(actual, i)->atttypid;
	if (!matches)
		elog(ERROR, "columns of a query do not match those of its function");
}

void
om_query_put_set(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args, const bool *isnull)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64 nrows = om_query_read(query, args, isnull);

	check_columns(result->setDesc, SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < nrows; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
}

Datum
om_query_return_set(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args, const bool *isnull)
{
	OmQueryScope scope;

	InitMaterializedSRF(fcinfo, 0);
	om_query_begin(&scope);
	om_query_put_set(fcinfo, query, args, isnull);
	om_query_end(&scope);
	return (Datum) 0;
}

Datum
om_query_return_row(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args, const bool *isnull)
{
	OmQueryScope scope;
	TupleDesc desc;
	HeapTuple row;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	om_query_begin(&scope);
	if (om_query_run(query, args, isnull) != 1)
		elog(ERROR, "query did not return one row");
	check_columns(desc, SPI_tuptable->tupdesc);
	row = SPI_copytuple(SPI_tuptable->vals[0]);
	om_query_end(&scope);
	return heap_copy_tuple_as_datum(row, desc);
}
