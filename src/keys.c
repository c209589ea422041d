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
 *
 * A key is looked for and inserted under a lock of its own (one of 65,536, by
 * hash), which is let go at once: whoever comes next finds the row, although it
 * is not committed yet, and waits for its transaction without that lock.  So a
 * transaction holds one such lock at most, never while it waits, and needs no
 * speculative insertion.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "port/pg_bswap.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "faults.h"
#include "installation.h"
#include "jsonout.h"
#include "keys.h"
#include "locks.h"
#include "names.h"
#include "relations.h"
#include "rotation.h"
#include "siphash.h"
#include "tables.h"

/* Columns of tables idempotency_keys_N */
enum
{
	COLUMN_KEY_HASH = 1,
	COLUMN_REQUEST_HASH,
	COLUMN_ORDER_ID,
	COLUMN_RESULT,
	COLUMN_AT,
	NCOLUMNS = COLUMN_AT
};

static const char *const kind_names[] = {"capture", "balance", "stock"};

/* Which table this transaction writes to. */
static int current_slot = 0;

/*
 * What is remembered until somebody says that it has changed: the current table,
 * and others that were empty.  Nobody writes to a table that is not current.
 */
static Oid rotations = InvalidOid;
static bool empty[OM_ROTATION_MAX_SLOTS];

static void
relation_changed(Oid relid)
{
	if (relid == rotations || relid == InvalidOid)
		rotations = InvalidOid;
}

void
om_keys_init(void)
{
	om_relations_watch(relation_changed);
}

/*
 * 128 bits: two hashes under the key of the installation, told apart by the
 * second byte.  No customer_id, which is hashed under that key too, begins with
 * a zero byte.
 */
static void
hash_text(char *text, int length, uint8 hash[OM_KEY_HASH_SIZE])
{
	const uint8 *key = om_installation_get()->lane_key;

	for (int half = 0; half < 2; half++)
	{
		uint64 bits;

		text[1] = (char) half;
		bits = pg_hton64(om_siphash(key, (const uint8 *) text, length));
		memcpy(hash + half * sizeof(bits), &bits, sizeof(bits));
	}
}

static void
hash_parts(const char *const *parts, int nparts, uint8 hash[OM_KEY_HASH_SIZE])
{
	StringInfoData text;

	initStringInfo(&text);
	appendBinaryStringInfo(&text, "\0\0", 2);
	for (int i = 0; i < nparts; i++)
	{
		/* The length goes first, so that parts cannot run into each other. */
		int32 length = parts[i] == NULL ? -1 : (int32) strlen(parts[i]);
		uint32 stored = pg_hton32((uint32) length);

		appendBinaryStringInfo(&text, (const char *) &stored, sizeof(stored));
		if (length > 0)
			appendBinaryStringInfo(&text, parts[i], length);
	}
	hash_text(text.data, text.len, hash);
	pfree(text.data);
}

void
om_key_make(OmKey *key, OmKeyKind kind, const char *subject, const char *name,
			const char *const *request, int nparts)
{
	const char *identity[3] = {kind_names[kind], subject, name};

	hash_parts(identity, lengthof(identity), key->key_hash);
	hash_parts(request, nparts, key->request_hash);
	key->name = name;
}

static void
look_up_current(void)
{
	/* Set first: a change that arrives during the look-up must not be lost. */
	rotations = om_relation_get("rotations");
	memset(empty, 0, sizeof(empty));
	current_slot = om_rotation_current(&om_rotation_keys);
}

void
om_keys_begin(void)
{
	do
	{
		if (!OidIsValid(rotations))
			look_up_current();
		LockRelationOid(om_rotation_table(&om_rotation_keys, current_slot), RowExclusiveLock);
		OM_FAULT_POINT("keys/table-locked");
	} while (!OidIsValid(rotations));
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

static bool
find_in_table(int slot, const OmKey *key, Snapshot snapshot, OmKeyRecord *record)
{
	OmTable *table = om_table_open(om_rotation_table(&om_rotation_keys, slot), AccessShareLock);
	Datum value = PointerGetDatum(hash_to_bytea(key->key_hash));
	HeapTuple row = NULL;

	if (slot != current_slot && RelationGetNumberOfBlocks(table->rel) == 0)
		empty[slot] = OidIsValid(rotations);
	else
		row = om_table_find(table, &value, snapshot);
	if (row != NULL)
		read_record(table, row, key, record);
	om_table_close(table);
	return row != NULL;
}

/*
 * In REPEATABLE READ a key that the snapshot does not show must not be found:
 * its insert then fails with 40001, as any concurrent change would.
 */
static bool
find(const OmKey *key, bool in_current, OmKeyRecord *record)
{
	Snapshot snapshot = NULL;
	bool found = false;

	for (int slot = 0; slot < om_rotation_keys.nslots && !found; slot++)
	{
		if (slot == current_slot ? !in_current : empty[slot])
			continue;
		if (snapshot == NULL)
			snapshot = RegisterSnapshot(om_current_snapshot());
		found = find_in_table(slot, key, snapshot, record);
	}
	if (snapshot != NULL)
		UnregisterSnapshot(snapshot);
	return found;
}

bool
om_key_find(const OmKey *key, OmKeyRecord *record)
{
	return find(key, true /* in_current */, record);
}

bool
om_key_find_older(const OmKey *key, OmKeyRecord *record)
{
	return find(key, false /* in_current */, record);
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

static OmLock
lock_of_key(const OmKey *key)
{
	uint16 hash;

	memcpy(&hash, key->key_hash, sizeof(hash));
	return (OmLock) (OM_LOCK_KEY_FIRST + hash);
}

/* Inserts the row unless there is one with its key; *writer is who is just writing that one. */
static bool
insert_if_absent(OmTable *table, OmLock lock, const Datum *values, const bool *isnull,
				 TransactionId *writer)
{
	bool exists;

	om_lock_acquire(lock);
	exists = om_table_has_key(table, values, writer);
	if (!exists)
		om_table_insert(table, values, isnull, NCOLUMNS);
	om_lock_release(lock);
	return !exists;
}

static void
require_visible(const OmKey *key)
{
	OmKeyRecord record;

	if (!om_key_find(key, &record))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent use of idempotency key"
							   " \"%s\"",
							   key->name),
						errhint("Run the transaction again.")));
}

bool
om_key_insert(const OmKey *key, const pg_uuid_t *order_id, Numeric result)
{
	OmTable *table =
		om_table_open(om_rotation_table(&om_rotation_keys, current_slot), RowExclusiveLock);
	Datum values[NCOLUMNS] = {PointerGetDatum(hash_to_bytea(key->key_hash)),
							  PointerGetDatum(hash_to_bytea(key->request_hash)),
							  UUIDPGetDatum(order_id), NumericGetDatum(result),
							  TimestampTzGetDatum(GetCurrentTimestamp())};
	bool isnull[NCOLUMNS] = {false, false, order_id == NULL, result == NULL, false};
	TransactionId writer;
	bool inserted;

	OM_FAULT_POINT("keys/before-insert");
	while (!(inserted = insert_if_absent(table, lock_of_key(key), values, isnull, &writer)) &&
		   TransactionIdIsValid(writer))
		XactLockTableWait(writer, table->rel, NULL, XLTW_None);
	om_table_close(table);
	OM_FAULT_POINT("keys/inserted");
	if (!inserted && IsolationUsesXactSnapshot())
		require_visible(key);
	return inserted;
}
