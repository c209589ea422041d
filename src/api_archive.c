/*
 * api_archive.c
 *		Months into files and back, and what is read from files.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "api_arguments.h"
#include "archives.h"
#include "archiving.h"
#include "coldevents.h"
#include "coldrows.h"
#include "compat.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "listing.h"
#include "monthmembers.h"
#include "orders.h"
#include "restoring.h"
#include "uuid7.h"

static TimestampTz
arg_month(FunctionCallInfo fcinfo)
{
	DateADT day;

	om_arg_require(fcinfo, 0, "month");
	day = PG_GETARG_DATEADT(0);
	if (DATE_NOT_FINITE(day))
		om_arg_raise("month", "is infinite");
	/* Dates go further than times do. */
	if (day < DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE ||
		day >= TIMESTAMP_END_JULIAN - POSTGRES_EPOCH_JDATE)
		om_arg_raise("month", "is out of range");
	return (TimestampTz) day * USECS_PER_DAY;
}

/* A table of the user's own is moved by whoever owns it. */
static Oid
arg_relation(FunctionCallInfo fcinfo)
{
	Oid relation = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);

	if (om_members_are_ours(relation))
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

/* ---------- reading ---------- */

static void
raise_not_archived(TimestampTz month)
{
	char *text = om_archives_month_text(om_archives_month(month));

	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("month %s is not in an archive", text),
					om_errdetail("month", text),
					errhint("SELECT month FROM order_mgmt.archives WHERE state = 'cold' lists "
							"those that are.")));
}

static void
put_order(ReturnSetInfo *result, const Datum *values, const bool *isnull)
{
	static const AttrNumber listed[OM_LISTING_NCOLUMNS] = {
		ORDER_ID,      ORDER_CREATED_AT, ORDER_CUSTOMER_ID, ORDER_REF,       ORDER_STATUS,
		ORDER_REASONS, ORDER_TOTAL,      ORDER_METADATA,    ORDER_UPDATED_AT};
	Datum shown[OM_LISTING_NCOLUMNS];
	bool shown_null[OM_LISTING_NCOLUMNS];

	for (int i = 0; i < OM_LISTING_NCOLUMNS; i++)
	{
		shown[i] = values[listed[i] - 1];
		shown_null[i] = isnull[listed[i] - 1];
	}
	tuplestore_putvalues(result->setResult, result->setDesc, shown, shown_null);
}

static void
put_orders(ReturnSetInfo *result, OmColdScan *scan)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Datum *values;
	bool *isnull;

	while (om_cold_next(scan, &values, &isnull))
	{
		put_order(result, values, isnull);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* archived_orders(month, customer_id, order_id) → orders */
OM_FUNCTION(om_archived_orders)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz month = arg_month(fcinfo);
	char *customer = om_arg_text(fcinfo, 1);
	OmColdScan *scan;

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	scan = om_cold_open("orders", month);
	if (scan == NULL)
		raise_not_archived(month);
	if (customer != NULL)
		om_cold_where(scan, "customer_id", customer);
	if (!PG_ARGISNULL(2))
	{
		pg_uuid_t *id = PG_GETARG_UUID_P(2);
		Datum key[2] = {TimestampTzGetDatum(om_uuid7_time(id)), UUIDPGetDatum(id)};

		om_cold_seek(scan, key, 2);
	}
	put_orders(result, scan);
	om_cold_close(scan);
	return (Datum) 0;
}

static void
put_event(Datum *values, bool *isnull, void *arg)
{
	ReturnSetInfo *result = arg;

	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* archived_events(month, order_id) → events */
OM_FUNCTION(om_archived_events)
{
	TimestampTz month = arg_month(fcinfo);
	pg_uuid_t *order = PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1);

	(void) om_installation_get();
	InitMaterializedSRF(fcinfo, 0);
	if (!om_cold_events_walk(month, order, put_event, fcinfo->resultinfo))
		raise_not_archived(month);
	return (Datum) 0;
}
