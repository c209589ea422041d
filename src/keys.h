/*
 * keys.h
 *		Idempotency keys: the same request twice has one effect.
 */
#ifndef OM_KEYS_H
#define OM_KEYS_H

#include "postgres.h"

#include "utils/numeric.h"
#include "utils/uuid.h"

#define OM_KEY_HASH_SIZE 16

typedef enum OmKeyKind
{
	OM_KEY_CAPTURE,
	OM_KEY_BALANCE,
	OM_KEY_STOCK
} OmKeyKind;

typedef struct OmKey
{
	uint8 key_hash[OM_KEY_HASH_SIZE];
	uint8 request_hash[OM_KEY_HASH_SIZE];
	const char *name; /* as the caller of om_key_make() has it */
} OmKey;

typedef struct OmKeyRecord
{
	bool same_request;
	pg_uuid_t order_id; /* of a capture */
	Datum result;       /* of an adjustment: numeric */
} OmKeyRecord;

/* To be called when the library is loaded. */
extern void om_keys_init(void);

/* Fills in the hashes; request parts may be NULL. */
extern void om_key_make(OmKey *key, OmKeyKind kind, const char *subject, const char *name,
						const char *const *request, int nparts);

/* Must precede the calls below: after it no rotation can happen until the end of the transaction. */
extern void om_keys_begin(void);

/* True when the key has been used before. */
extern bool om_key_find(const OmKey *key, OmKeyRecord *record);

/* The same, but not in the table that om_key_insert() writes to, which looks there itself. */
extern bool om_key_find_older(const OmKey *key, OmKeyRecord *record);

/* OM002 when the key was used with another request. */
extern void om_key_require_same(const OmKeyRecord *record, const char *name);

/*
 * Records the first use of a key, waiting for another transaction that is just
 * doing the same; false when that one has committed, and om_key_find() shows it.
 */
extern bool om_key_insert(const OmKey *key, const pg_uuid_t *order_id, Numeric result);

#endif /* OM_KEYS_H */
