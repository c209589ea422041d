/*
 * uploads.c
 *		The rows of "uploads", and what becomes of them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "loadparts.h"
#include "loadrequests.h"
#include "loads.h"
#include "plans.h"
#include "relations.h"
#include "uploads.h"

#define ADMIN_ROLE "order_mgmt_admin"

static OmQuery create_query = {
	.sql =
		"INSERT INTO order_mgmt.uploads SELECT pg_catalog.gen_random_uuid(), $1, $2, $3, $4, $5,"
		" t.now, t.now + pg_catalog.make_interval(secs => $6 / 1000.0)"
		" FROM (SELECT pg_catalog.clock_timestamp() AS now) AS t RETURNING upload_id, expires_at",
	.nargs = 6,
	.types = {INT8OID, TEXTOID, TEXTOID, JSONBOID, TEXTOID, INT8OID}};

static OmQuery lock_query = {.sql =
								 "SELECT load_id, kind, mode, options, created_by::text, expires_at"
								 " FROM order_mgmt.uploads WHERE upload_id = $1 FOR UPDATE",
							 .nargs = 1,
							 .types = {UUIDOID}};

static OmQuery keep_query = {
	.sql = "UPDATE order_mgmt.uploads SET expires_at = 'infinity' WHERE upload_id = $1",
	.nargs = 1,
	.types = {UUIDOID}};

static OmQuery is_loaded_query = {
	.sql = "SELECT FROM order_mgmt.loads WHERE load_id = $1", .nargs = 1, .types = {INT8OID}};

/* Whoever has a ticket locked uses it; what has failed is kept for a while, to be looked at. */
static OmQuery purge_query = {
	.sql = "WITH gone AS (DELETE FROM order_mgmt.uploads WHERE upload_id IN (SELECT u.upload_id"
		   " FROM order_mgmt.uploads AS u LEFT JOIN order_mgmt.loads AS l USING (load_id)"
		   " WHERE CASE WHEN l.load_id IS NULL THEN u.expires_at < pg_catalog.clock_timestamp()"
		   " ELSE l.finished_at < pg_catalog.clock_timestamp() - '1 day'::interval END"
		   " FOR UPDATE OF u SKIP LOCKED) RETURNING upload_id, load_id),"
		   " parts AS (DELETE FROM order_mgmt.load_parts AS p USING gone AS g"
		   " WHERE p.load_id = g.load_id) SELECT upload_id::text FROM gone"};

static OmQuery purge_parts_query = {
	.sql = "DELETE FROM order_mgmt.load_parts AS p USING order_mgmt.loads AS l"
		   " WHERE l.load_id = p.load_id"
		   " AND l.finished_at < pg_catalog.clock_timestamp() - '1 day'::interval"};

/* ---------- tickets ---------- */

void
om_upload_create(OmUpload *upload, int64 milliseconds)
{
	char *user = GetUserNameFromId(GetUserId(), false);
	Datum args[6] = {Int64GetDatum(upload->load_id = om_loadrequest_new_id()),
					 CStringGetTextDatum(om_load_kind_names[upload->kind]),
					 CStringGetTextDatum(om_load_mode_names[upload->mode]),
					 JsonbPGetDatum(upload->options),
					 CStringGetTextDatum(user),
					 Int64GetDatum(milliseconds)};
	bool isnull[6] = {[2] = upload->kind != OM_LOAD_ORDERS};
	OmQueryScope scope;
	bool missing;

	upload->created_by = user;
	upload->is_loaded = false;
	om_query_begin(&scope);
	om_query_run(&create_query, args, isnull);
	upload->upload_id = *DatumGetUUIDP(om_result_get(0, 1, &missing));
	upload->expires_at = DatumGetTimestampTz(om_result_get(0, 2, &missing));
	om_query_end(&scope);
	CommandCounterIncrement();
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

static int
find_word(const char *const *words, int count, Datum word)
{
	char *name = TextDatumGetCString(word);

	return om_names_find(words, count, name, strlen(name));
}

/* From the row of the last result. */
static void
read_upload(OmUpload *upload)
{
	bool isnull;
	Datum mode;

	upload->load_id = DatumGetInt64(om_result_get(0, 1, &isnull));
	upload->kind = find_word(om_load_kind_names, OM_LOAD_KIND_COUNT, om_result_get(0, 2, &isnull));
	mode = om_result_get(0, 3, &isnull);
	if (!isnull)
		upload->mode = find_word(om_load_mode_names, OM_LOAD_MODE_COUNT, mode);
	upload->options = DatumGetJsonbPCopy(om_result_get(0, 4, &isnull));
	upload->created_by = TextDatumGetCString(om_result_get(0, 5, &isnull));
	upload->expires_at = DatumGetTimestampTz(om_result_get(0, 6, &isnull));
}

/* Waits for whoever has it locked; false: there is none. */
static bool
lock_row(OmUpload *upload)
{
	Datum arg = UUIDPGetDatum(&upload->upload_id);
	MemoryContext caller = CurrentMemoryContext;
	OmQueryScope scope;
	bool found;

	om_query_begin(&scope);
	found = om_query_run(&lock_query, &arg, NULL) > 0;
	if (found)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		read_upload(upload);
		MemoryContextSwitchTo(spi);
	}
	om_query_end(&scope);
	return found;
}

static bool
has_load(int64 load_id)
{
	Datum arg = Int64GetDatum(load_id);
	OmQueryScope scope;
	bool found;

	om_query_begin(&scope);
	found = om_query_run(&is_loaded_query, &arg, NULL) > 0;
	om_query_end(&scope);
	return found;
}

static void
raise_not_found(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no upload %s", name),
					om_errdetail("upload_id", name),
					errhint("Begin with create_upload(); uploads are forgotten when they have "
							"expired, and a day after their load has ended.")));
}

static void
check_owner(const OmUpload *upload)
{
	if (strcmp(upload->created_by, GetUserNameFromId(GetUserId(), false)) != 0 &&
		!has_privs_of_role(GetUserId(), get_role_oid(ADMIN_ROLE, true)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for upload %s", uuid_text(&upload->upload_id)),
						errhint("It belongs to the role that created it.")));
}

static void
refuse_expired(const OmUpload *upload)
{
	char *name = uuid_text(&upload->upload_id);

	if (!upload->is_loaded && upload->expires_at <= GetCurrentTimestamp())
		ereport(ERROR, (errcode(ERRCODE_OM_STATE), errmsg("upload %s has expired", name),
						om_errdetail("upload_id", name),
						errhint("Create another, with a longer expires_in.")));
}

OmUpload *
om_upload_lock(const pg_uuid_t *upload_id)
{
	OmUpload *upload = palloc0(sizeof(OmUpload));

	upload->upload_id = *upload_id;
	if (!lock_row(upload))
		raise_not_found(uuid_text(upload_id));
	check_owner(upload);
	upload->is_loaded = has_load(upload->load_id);
	refuse_expired(upload);
	return upload;
}

/* ---------- bytes ---------- */

/* With the byte at which the client is to go on. */
static void
raise_next_byte(int sqlstate, const char *message, int64 next)
{
	char *byte = psprintf(INT64_FORMAT, next);

	ereport(ERROR, (errcode(sqlstate), errmsg("%s", message), om_errdetail("next_byte", byte),
					errhint("There are %s bytes; go on with the one at_byte => %s.", byte, byte)));
}

static void
refuse_loaded(const OmUpload *upload)
{
	char *name = psprintf(INT64_FORMAT, upload->load_id);

	ereport(ERROR,
			(errcode(ERRCODE_OM_STATE), errmsg("the upload is complete: it became load %s", name),
			 om_errdetail("load_id", name), errhint("Create another upload for what is to come.")));
}

int64
om_upload_append(const OmUpload *upload, int64 at_byte, const char *chunk, Size length)
{
	int64 size;
	Size known;

	if (upload->is_loaded)
		refuse_loaded(upload);
	size = om_parts_size(upload->load_id);
	if (at_byte > size)
		raise_next_byte(ERRCODE_OM_STATE, "there are bytes missing before the chunk", size);
	known = Min((Size) (size - at_byte), length);
	if (!om_parts_have(upload->load_id, at_byte, chunk, known))
		raise_next_byte(ERRCODE_OM_INVALID, "the chunk differs from the bytes that are there",
						size);
	om_parts_append(upload->load_id, size, chunk + known, length - known);
	OM_FAULT_POINT("uploads/appended");
	return size + (int64) (length - known);
}

OmBytes *
om_upload_open(const OmUpload *upload)
{
	return om_parts_open(upload->load_id, psprintf("upload:%s", uuid_text(&upload->upload_id)));
}

static void
keep_ticket(const pg_uuid_t *upload_id)
{
	Datum arg = UUIDPGetDatum(upload_id);
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(&keep_query, &arg, NULL);
	om_query_end(&scope);
}

bool
om_upload_load(const OmUpload *upload)
{
	if (upload->is_loaded)
		return false;
	om_loadrequest_add(upload->load_id, upload->kind, upload->mode,
					   psprintf("upload:%s", uuid_text(&upload->upload_id)), upload->options);
	/* From now on the end of the load says when the ticket goes, to one that has begun to purge, too. */
	keep_ticket(&upload->upload_id);
	OM_FAULT_POINT("uploads/load-asked");
	return true;
}

/* ---------- upkeep ---------- */

List *
om_upload_purge(void)
{
	List *names;

	if (!OidIsValid(om_relation_find("uploads")))
		return NIL; /* not there before the next setup() */
	names = om_query_list(&purge_query, NULL, NULL, om_result_name);
	(void) om_query_change(&purge_parts_query, NULL);
	return names;
}
