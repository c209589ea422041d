/*
 * plans.h
 *		SQL statements of a module, prepared once per session and run with the
 *		rights of the owner of the data tables.
 */
#ifndef OM_PLANS_H
#define OM_PLANS_H

#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

#define OM_QUERY_MAX_ARGS 8

/* Modules keep these in static storage; the plan is filled in at first use. */
typedef struct OmQuery
{
	const char *sql;
	int nargs;
	Oid types[OM_QUERY_MAX_ARGS];
	bool plan_once; /* whatever the arguments: with many months a plan takes longer than its run */
	SPIPlanPtr plan;
} OmQuery;

/*
 * Between begin and end the session acts as order_mgmt_owner, under SPI and
 * with a search_path on which nobody can plant operators.
 */
typedef struct OmQueryScope
{
	Oid user;
	int security_context;
	int guc_level;
} OmQueryScope;

extern void om_query_begin(OmQueryScope *scope);

/* The same as the owner of a relation, for tables of other people. */
extern void om_query_begin_as_owner(OmQueryScope *scope, Oid relid);
extern void om_query_end(OmQueryScope *scope);

/* To the end of the scope, reading tables that are opened then is no use of them (tiers.c). */
extern void om_query_uncounted(void);

/*
 * Runs a statement and returns the number of rows; they are in SPI_tuptable.
 * isnull may be NULL when no argument is.  Reading statements see the caller's
 * snapshot with "om_query_read" (for STABLE functions), a new one with
 * "om_query_run".
 */
extern uint64 om_query_run(OmQuery *query, const Datum *args, const bool *isnull);
extern uint64 om_query_read(OmQuery *query, const Datum *args, const bool *isnull);

/*
 * One statement that changes rows, in a scope of its own; the rows that it has
 * touched, and whether what it returns first is true.
 */
extern uint64 om_query_change(OmQuery *query, const Datum *args);
extern bool om_query_change_says(OmQuery *query, const Datum *args);

/*
 * In a scope of its own: the bigint or timestamptz in the first column of the only row; 0
 * where there is none, or it is null.
 */
extern int64 om_query_number(OmQuery *query, const Datum *args);

/*
 * In a scope of their own: what "read" makes of the rows of the result, in the caller's
 * memory context; of all, or of the first, then NULL where there is none.
 */
typedef void *(*OmRowReader)(uint64 row);
extern List *om_query_list(OmQuery *query, const Datum *args, const bool *isnull, OmRowReader read);
extern void *om_query_first(OmQuery *query, const Datum *args, OmRowReader read);

/* Runs statements that are not worth a plan, such as DDL. */
extern void om_query_utility(const char *sql);

/*
 * To the end of the scope statements find the rows of the last result under this name,
 * as if it were a table; they must not be prepared without it.
 */
extern void om_query_name_result(const char *name);

/* Column of a row of the last result; col counts from 1. */
extern Datum om_result_get(uint64 row, int col, bool *isnull);

/* The same of a text, NULL where it is null, and of a bigint, 0 where it is null. */
extern char *om_result_text(uint64 row, int col);
extern int64 om_result_int64(uint64 row, int col);

/* A reader of rows: the text in the first column. */
extern void *om_result_name(uint64 row);

/*
 * The whole of a STABLE set-returning function: reads with the query and
 * returns its rows, which must have the columns of the function's result.
 */
extern Datum om_query_return_set(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args,
								 const bool *isnull);

/* The same within a scope that has been begun; the caller has called InitMaterializedSRF() before. */
extern void om_query_put_set(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args,
							 const bool *isnull);

/* The same as the first for a VOLATILE function that returns the one row of a query. */
extern Datum om_query_return_row(FunctionCallInfo fcinfo, OmQuery *query, const Datum *args,
								 const bool *isnull);

#endif /* OM_PLANS_H */
