/*
 * installation.c
 *		The one row of table "installation", cached per backend.
 *
 * The event log orders transactions by lxid, a numbering of its own: the
 * 64-bit transaction id plus xid_base.  In a new cluster (restore, clone,
 * pg_upgrade) transaction ids start anew, so the first writer that finds
 * itself elsewhere than where the row says moves xid_base such that every
 * lxid from now on is above every stored one.  Old cursors stay valid as they
 * are.  The moved database then rests: its workers do nothing until
 * post_restore(), so that a clone neither ships nor calls anybody; unless
 * order_mgmt.resume_after_restore says that the original is no more.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "faults.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "names.h"
#include "plans.h"
#include "relations.h"
#include "settings.h"
#include "tables.h"

/* Columns of table installation */
#define COLUMN_SCHEMA_VERSION 2
#define COLUMN_SYSTEM_IDENTIFIER 3
#define COLUMN_DATABASE 4
#define COLUMN_XID_BASE 5
#define COLUMN_MOVED 6
#define COLUMN_LANE_KEY 7

static OmInstallation cached;
static bool cache_valid = false;

static void
forget_cached(Datum arg pg_attribute_unused(), Oid relid)
{
	if (relid == InvalidOid || relid == cached.relid)
		cache_valid = false;
}

void
om_installation_init(void)
{
	CacheRegisterRelcacheCallback(forget_cached, (Datum) 0);
}

bool
om_installation_exists(void)
{
	return OidIsValid(om_relation_find("installation"));
}

static void
read_row(Oid relid)
{
	OmTable *table = om_table_open(relid, AccessShareLock);
	Datum key = BoolGetDatum(true);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	HeapTuple row = om_table_find(table, &key, snapshot);
	bytea *lane_key;

	UnregisterSnapshot(snapshot);
	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_READY), errmsg("order_mgmt is not set up in this database"),
				 om_errdetail("setup", "missing"), errhint("Run SELECT order_mgmt.setup();")));
	cached.relid = relid;
	cached.schema_version = DatumGetInt32(om_row_get_not_null(table, row, COLUMN_SCHEMA_VERSION));
	cached.system_identifier =
		(uint64) DatumGetInt64(om_row_get_not_null(table, row, COLUMN_SYSTEM_IDENTIFIER));
	cached.database = DatumGetObjectId(om_row_get_not_null(table, row, COLUMN_DATABASE));
	cached.xid_base = DatumGetInt64(om_row_get_not_null(table, row, COLUMN_XID_BASE));
	cached.moved = DatumGetBool(om_row_get_not_null(table, row, COLUMN_MOVED));
	lane_key = DatumGetByteaPP(om_row_get_not_null(table, row, COLUMN_LANE_KEY));
	memcpy(cached.lane_key, VARDATA_ANY(lane_key),
		   Min(sizeof(cached.lane_key), VARSIZE_ANY_EXHDR(lane_key)));
	om_table_close(table);
}

static const OmInstallation *
load(void)
{
	Oid relid = om_relation_find("installation");

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_READY), errmsg("order_mgmt is not set up in this database"),
				 om_errdetail("setup", "missing"), errhint("Run SELECT order_mgmt.setup();")));
	if (!cache_valid || cached.relid != relid)
	{
		/* Set first: an invalidation during the read must not be lost. */
		cached.relid = relid;
		cache_valid = true;
		PG_TRY();
		{
			read_row(relid);
		}
		PG_CATCH();
		{
			cache_valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	return &cached;
}

int
om_installation_version(void)
{
	return load()->schema_version;
}

const OmInstallation *
om_installation_get(void)
{
	const OmInstallation *installation = load();

	if (installation->schema_version != OM_SCHEMA_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_READY),
				 errmsg("the data is of schema version %d, the library works with version %d",
						installation->schema_version, OM_SCHEMA_VERSION),
				 om_errdetail("schema_version", psprintf("%d", installation->schema_version)),
				 errhint("Run SELECT order_mgmt.migrate(); or install the matching library.")));
	return installation;
}

bool
om_installation_is_foreign(const OmInstallation *installation)
{
	return installation->system_identifier != GetSystemIdentifier() ||
		   installation->database != MyDatabaseId;
}

const OmInstallation *
om_installation_require_home(void)
{
	const OmInstallation *installation = om_installation_get();

	if (om_installation_is_foreign(installation) || installation->moved)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("the data has been restored or copied from elsewhere and rests"),
						om_errdetail("data", "moved"),
						errhint("Run SELECT order_mgmt.post_restore() to go on here.")));
	return installation;
}

void
om_installation_changed(void)
{
	CacheInvalidateRelcacheByRelid(om_relation_get("installation"));
	cache_valid = false;
}

static OmQuery max_lxid_query = {
	.sql = "SELECT greatest((SELECT max(lxid) FROM order_mgmt.event_log),"
		   " (SELECT max(snapshot[2]) FROM (SELECT snapshot FROM order_mgmt.ticks_0"
		   "   UNION ALL SELECT snapshot FROM order_mgmt.ticks_1) AS t),"
		   " (SELECT max(greatest(base[2], target[2])) FROM (SELECT base, target"
		   "   FROM order_mgmt.cursor_log_0 UNION ALL SELECT base, target"
		   "   FROM order_mgmt.cursor_log_1) AS c), 0)"};

static OmQuery take_over_query = {
	.sql = "UPDATE order_mgmt.installation SET system_identifier = $1, database_oid = $2,"
		   " xid_base = $3, moved = $4",
	.nargs = 4,
	.types = {INT8OID, OIDOID, INT8OID, BOOLOID}};

static OmQuery resume_query = {.sql = "UPDATE order_mgmt.installation SET moved = false"
									  " WHERE moved"};

static void
report_take_over(void)
{
	const char *database = get_database_name(MyDatabaseId);

	if (om_setting_resume_after_restore)
		ereport(LOG, (errcode(ERRCODE_SUCCESSFUL_COMPLETION),
					  errmsg("order_mgmt data of another cluster found in database \"%s\"; "
							 "order_mgmt.resume_after_restore is on, so workers go on",
							 database)));
	else
		ereport(LOG, (errcode(ERRCODE_OM_STATE),
					  errmsg("order_mgmt data of another cluster found in database \"%s\"; "
							 "workers rest until order_mgmt.post_restore()",
							 database)));
}

/*
 * Every transaction that runs now, or will, has an xid of at least the
 * snapshot's xmin, so it is that one which must land above all that is stored.
 */
static void
take_over(Oid relid)
{
	OmQueryScope scope;
	Datum args[4];
	bool isnull;
	int64 max_lxid;
	uint64 oldest;

	LockRelationOid(relid, ShareUpdateExclusiveLock);
	AcceptInvalidationMessages();
	cache_valid = false;
	if (!om_installation_is_foreign(om_installation_get()))
		return; /* somebody else just did it */

	OM_FAULT_POINT("installation/locked");
	om_query_begin(&scope);
	om_query_run(&max_lxid_query, NULL, NULL);
	max_lxid = DatumGetInt64(om_result_get(0, 1, &isnull));
	oldest = U64FromFullTransactionId(ReadNextFullTransactionId()) -
			 (uint32) (XidFromFullTransactionId(ReadNextFullTransactionId()) -
					   GetOldestActiveTransactionId());
	args[0] = Int64GetDatum((int64) GetSystemIdentifier());
	args[1] = ObjectIdGetDatum(MyDatabaseId);
	args[2] = Int64GetDatum(max_lxid + 1 - (int64) oldest);
	args[3] = BoolGetDatum(!om_setting_resume_after_restore);
	om_query_run(&take_over_query, args, NULL);
	OM_FAULT_POINT("installation/taken-over");
	om_query_end(&scope);
	om_installation_changed();
	CommandCounterIncrement();
	report_take_over();
}

int64
om_installation_lxid(void)
{
	const OmInstallation *installation = om_installation_get();

	PreventCommandIfReadOnly("a function of order_mgmt that writes");
	if (unlikely(om_installation_is_foreign(installation)))
	{
		GetTopTransactionId();
		take_over(installation->relid);
		installation = om_installation_get();
	}
	return (int64) U64FromFullTransactionId(GetTopFullTransactionId()) + installation->xid_base;
}

bool
om_installation_resume(void)
{
	OmQueryScope scope;
	bool resumed;

	om_installation_lxid();
	om_query_begin(&scope);
	resumed = om_query_run(&resume_query, NULL, NULL) > 0;
	om_query_end(&scope);
	om_installation_changed();
	OM_FAULT_POINT("installation/resumed");
	return resumed;
}
