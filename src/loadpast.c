/*
 * loadpast.c
 *		Asks table "loads" what has become of the same bytes before.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "loadpast.h"
#include "plans.h"

/* Real loads of the bytes of another one, as the same. */
#define SAME_BYTES                                                                            \
	" FROM order_mgmt.loads WHERE sha256 = $1 AND kind = $2 AND mode IS NOT DISTINCT FROM $3" \
	" AND load_id <> $4 AND retry_of IS NOT DISTINCT FROM $5"                                 \
	" AND options->'dry_run' IS DISTINCT FROM 'true'"

static OmQuery same_query = {
	.sql = "SELECT max(load_id)" SAME_BYTES " AND status = 'done' AND rows_loaded > 0"
		   " AND (options - 'dry_run' = $6 - 'dry_run' OR NOT $7)",
	.nargs = 7,
	.types = {BYTEAOID, TEXTOID, TEXTOID, INT8OID, INT8OID, JSONBOID, BOOLOID}};

static OmQuery part_query = {
	.sql = "SELECT load_id, options - 'dry_run' = $6 - 'dry_run', done_records, done_sorted,"
		   " rows_loaded + rows_rejected + rows_skipped, orders_loaded + orders_skipped" SAME_BYTES
		   " AND status IN ('failed', 'cancelled') AND done_records + done_sorted > 0"
		   " ORDER BY finished_at DESC, load_id DESC LIMIT 1",
	.nargs = 6,
	.types = {BYTEAOID, TEXTOID, TEXTOID, INT8OID, INT8OID, JSONBOID}};

/* What both questions about the same bytes have in common. */
static void
fill_same(const OmLoad *load, Datum *args, bool *isnull)
{
	bytea *sha256 = palloc(VARHDRSZ + OM_SHA256_SIZE);

	SET_VARSIZE(sha256, VARHDRSZ + OM_SHA256_SIZE);
	memcpy(VARDATA(sha256), load->sha256, OM_SHA256_SIZE);
	args[0] = PointerGetDatum(sha256);
	args[1] = CStringGetTextDatum(om_load_kind_names[load->kind]);
	args[2] = CStringGetTextDatum(om_load_mode_names[load->mode]);
	args[3] = Int64GetDatum(load->load_id);
	args[4] = Int64GetDatum(load->retry_of);
	args[5] = JsonbPGetDatum(load->options);
	isnull[2] = load->kind != OM_LOAD_ORDERS;
	isnull[4] = load->retry_of == 0;
}

int64
om_loadpast_find_same(const OmLoad *load, bool keyed)
{
	Datum args[7];
	bool isnull[7] = {false};
	bool is_missing = true;
	Datum same = (Datum) 0;
	OmQueryScope scope;

	if (!load->has_sha256)
		return 0;
	fill_same(load, args, isnull);
	args[6] = BoolGetDatum(keyed);
	om_query_begin(&scope);
	if (om_query_run(&same_query, args, isnull) > 0)
		same = om_result_get(0, 1, &is_missing);
	om_query_end(&scope);
	return is_missing ? 0 : DatumGetInt64(same);
}

OmLoadPart
om_loadpast_find_part(const OmLoad *load)
{
	OmLoadPart part = {0};
	Datum args[6];
	bool isnull[6] = {false};
	OmQueryScope scope;

	if (!load->has_sha256)
		return part;
	fill_same(load, args, isnull);
	om_query_begin(&scope);
	if (om_query_run(&part_query, args, isnull) > 0)
	{
		bool unused;

		part.load_id = DatumGetInt64(om_result_get(0, 1, &unused));
		part.same_options = DatumGetBool(om_result_get(0, 2, &unused));
		part.done_records = DatumGetInt64(om_result_get(0, 3, &unused));
		part.done_sorted = DatumGetInt64(om_result_get(0, 4, &unused));
		part.rows = DatumGetInt64(om_result_get(0, 5, &unused));
		part.orders = DatumGetInt64(om_result_get(0, 6, &unused));
	}
	om_query_end(&scope);
	return part;
}
