/*
 * api_archive.c
 *		Months into files and back.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api_arguments.h"
#include "archiving.h"
#include "compat.h"

static TimestampTz
arg_month(FunctionCallInfo fcinfo)
{
	DateADT day;

	om_arg_require(fcinfo, 0, "month");
	day = PG_GETARG_DATEADT(0);
	if (DATE_NOT_FINITE(day))
		om_arg_raise("month", "is infinite");
	return (TimestampTz) day * USECS_PER_DAY;
}

/* A table of the user's own is moved by whoever owns it. */
static Oid
arg_relation(FunctionCallInfo fcinfo)
{
	Oid relation = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);

	if (om_archiving_is_ours(relation))
		return InvalidOid;
	if (get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
		om_arg_raise("relation", "is not a partitioned table");
	if (!om_owns_relation(relation))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relation));
	return relation;
}

static Datum
return_archived(FunctionCallInfo fcinfo, List *(*move)(Oid relation, TimestampTz month))
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz month = arg_month(fcinfo);
	Oid relation = arg_relation(fcinfo);
	ListCell *cell;

	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, move(relation, month))
	{
		const OmArchived *archived = lfirst(cell);
		Datum values[4] = {ObjectIdGetDatum(archived->relid), Int64GetDatum(archived->rows),
						   Int64GetDatum(archived->bytes), CStringGetTextDatum(archived->file)};
		bool isnull[4] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* archive_month(month, relation) → (relation, rows, bytes, file) */
OM_FUNCTION(om_archive_month_sql)
{
	om_api_begin_write("archive_month()");
	return return_archived(fcinfo, om_archive_month);
}

/* restore_month(month, relation) → (relation, rows, bytes, file) */
OM_FUNCTION(om_restore_month_sql)
{
	om_api_begin_write("restore_month()");
	return return_archived(fcinfo, om_restore_month);
}
