/*
 * uuid7.h
 *		Order ids: UUID version 7 (RFC 9562) with the customer's lane.
 *
 *		48 bits  milliseconds since 1970
 *		 4 bits  version
 *		12 bits  fraction of the millisecond, in 1/4096
 *		 2 bits  variant
 *		16 bits  lane: keyed hash of the customer id
 *		46 bits  random
 */
#ifndef OM_UUID7_H
#define OM_UUID7_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

extern void om_uuid7_make(pg_uuid_t *id, const uint8 lane_key[16], const char *customer_id,
						  int length);

/* The id of something that happened in the past, in its order among others of the same millisecond. */
extern void om_uuid7_make_at(pg_uuid_t *id, TimestampTz at, int ordinal, const uint8 lane_key[16],
							 const char *customer_id, int length);

/* The first time that an id can hold. */
extern TimestampTz om_uuid7_epoch(void);

/* The time inside an id, to the millisecond. */
extern TimestampTz om_uuid7_time(const pg_uuid_t *id);

#endif /* OM_UUID7_H */
