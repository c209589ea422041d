/*
 * keys.c
 *		The idempotency keys of the last weeks.
 *
 * Four tables take turns, each for a third of the retention, and are emptied
 * as a whole.  Everybody inserts into the current one, whose primary key makes
 * two concurrent uses of a key wait for each other, and looks into the others.
 * A rotation takes SHARE ROW EXCLUSIVE on the table it leaves, so a writer that
 * holds its lock and finds the table still current knows that nobody writes
 * the same key elsewhere.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "errors.h"
#include "faults.h"
#include "jsonout.h"
#include "keys.h"
#include "names.h"
#include "plans.h"
#include "rotation.h"
#include "tables.h"

/* Columns of tables idempotency_keys_N */
enum
{
	COLUMN_KEY_HASH = 1,
	COLUMN_REQUEST_HASH,
	COLUMN_ORDER_ID,
	COLUMN_RESULT,
	COLUMN_AT
};

static const char *const kind_names[] = {"capture", "balance", "stock"};

/* Which table this transaction writes to. */
static int current_slot = 0;

#define INSERT_KEY(slot)                                     \
	"INSERT INTO order_mgmt.idempotency_keys_" slot          \
	" (key_hash, request_hash, order_id, result, at)"        \
	" VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())" \
	" ON CONFLICT (key_hash) DO NOTHING"
#define INSERT_QUERY(slot)                                                                        \
	{                                                                                             \
		.sql = INSERT_KEY(slot), .nargs = 4, .types = { BYTEAOID, BYTEAOID, UUIDOID, NUMERICOID } \
	}

static OmQuery insert_queries[] = {INSERT_QUERY("0"), INSERT_QUERY("1"), INSERT_QUERY("2"),
								   INSERT_QUERY("3")};

static void
hash_parts(const char *const *parts, int nparts, uint8 hash[OM_KEY_HASH_SIZE])
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	bool ok = context != NULL && pg_cryptohash_init(context) >= 0;

	for (int i = 0; i < nparts && ok; i++)
	{
		/* The length goes first, so that parts cannot run into each other. */
		int32 length = parts[i] == NULL ? -1 : (int32) strlen(parts[i]);

		ok = pg_cryptohash_update(context, (uint8 *) &length, sizeof(length)) >= 0 &&
			 pg_cryptohash_update(context, (const uint8 *) parts[i], Max(length, 0)) >= 0;
	}
	ok = ok && pg_cryptohash_final(context, digest, sizeof(digest)) >= 0;
	if (!ok)
		elog(ERROR, "could not compute SHA-256");
	pg_cryptohash_free(context);
	memcpy(hash, digest, OM_KEY_HASH_SIZE);
}

void
om_key_make(OmKey *key, OmKeyKind kind, const char *subject, const char *name,
			const char *const *request, int nparts)
{
	const char *identity[3] = {kind_names[kind], subject, name};

	hash_parts(identity, lengthof(identity), key->key_hash);
	hash_parts(request, nparts, key->request_hash);
}

void
om_keys_begin(void)
{
	for (;;)
	{
		current_slot = om_rotation_current(&om_rotation_keys, NULL);
		LockRelationOid(om_rotation_table(&om_rotation_keys, current_slot), RowExclusiveLock);
		OM_FAULT_POINT("keys/table-locked");
		if (om_rotation_current(&om_rotation_keys, NULL) == current_slot)
			return;
	}
}

static bytea *
hash_to_bytea(const uint8 *hash)
{
	bytea *result = palloc(VARHDRSZ + OM_KEY_HASH_SIZE);

	SET_VARSIZE(result, VARHDRSZ + OM_KEY_HASH_SIZE);
	memcpy(VARDATA(result), hash, OM_KEY_HASH_SIZE);
	return result;
}

static void
read_record(OmTable *table, HeapTuple row, const OmKey *key, OmKeyRecord *record)
{
	bytea *request = DatumGetByteaPP(om_row_get_not_null(table, row, COLUMN_REQUEST_HASH));
	bool isnull;
	Datum order_id = om_row_get(table, row, COLUMN_ORDER_ID, &isnull);

	memset(record, 0, sizeof(*record));
	if (!isnull)
		record->order_id = *DatumGetUUIDP(order_id);
	record->result = om_row_get(table, row, COLUMN_RESULT, &isnull);
	record->same_request = memcmp(VARDATA_ANY(request), key->request_hash, OM_KEY_HASH_SIZE) == 0;
}

/*
 * In REPEATABLE READ a key that the snapshot does not show must not be found:
 * its insert then fails with 40001, as any concurrent change would.
 */
bool
om_key_find(const OmKey *key, OmKeyRecord *record)
{
	Datum value = PointerGetDatum(hash_to_bytea(key->key_hash));
	Snapshot snapshot = RegisterSnapshot(om_current_snapshot());
	bool found = false;

	for (int slot = 0; slot < om_rotation_keys.nslots && !found; slot++)
	{
		OmTable *table = om_table_open(om_rotation_table(&om_rotation_keys, slot), AccessShareLock);
		HeapTuple row = om_table_find(table, &value, snapshot);

		found = row != NULL;
		if (found)
			read_record(table, row, key, record);
		om_table_close(table);
	}
	UnregisterSnapshot(snapshot);
	return found;
}

void
om_key_require_same(const OmKeyRecord *record, const char *name)
{
	if (!record->same_request)
		ereport(ERROR, (errcode(ERRCODE_OM_KEY_REUSED),
						errmsg("idempotency key \"%s\" has been used with another request", name),
						om_errdetail("path", "idempotency_key"),
						errhint("Use a new key for a new request; send the same request to repeat "
								"the first one.")));
}

bool
om_key_insert(const OmKey *key, const pg_uuid_t *order_id, Numeric result)
{
	OmQueryScope scope;
	Datum args[4] = {PointerGetDatum(hash_to_bytea(key->key_hash)),
					 PointerGetDatum(hash_to_bytea(key->request_hash)), UUIDPGetDatum(order_id),
					 NumericGetDatum(result)};
	bool isnull[4] = {false, false, order_id == NULL, result == NULL};
	uint64 inserted;

	om_query_begin(&scope);
	OM_FAULT_POINT("keys/before-insert");
	inserted = om_query_run(&insert_queries[current_slot], args, isnull);
	om_query_end(&scope);
	OM_FAULT_POINT("keys/inserted");
	return inserted > 0;
}
