/*
 * uuid7.c
 *		Makes order ids.
 *
 * Within one backend ids rise, also when the clock stands still or steps back
 * by less than a second; after a larger step the clock is followed, so that a
 * false jump into the future does not stamp orders there for ever.  Between
 * backends the order of ids is not the order of arrival; nothing relies on it.
 */
#include "postgres.h"

#include <time.h>

#include "port/pg_bswap.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "uuid7.h"

/* One millisecond has 4096 steps of about 244 ns. */
#define STEPS_PER_MS 4096
#define STEPS_PER_SECOND (INT64CONST(1000) * STEPS_PER_MS)
#define EPOCH_DIFFERENCE_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

#define ROTATE_LEFT(x, bits) (((x) << (bits)) | ((x) >> (64 - (bits))))

static void
sip_round(uint64 v[4])
{
	v[0] += v[1];
	v[1] = ROTATE_LEFT(v[1], 13) ^ v[0];
	v[0] = ROTATE_LEFT(v[0], 32);
	v[2] += v[3];
	v[3] = ROTATE_LEFT(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTATE_LEFT(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTATE_LEFT(v[1], 17) ^ v[2];
	v[2] = ROTATE_LEFT(v[2], 32);
}

/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): without the key nobody can tell
 * a customer from a lane, or make customers share one.
 */
static uint64
siphash(const uint8 key[16], const uint8 *data, size_t length)
{
	uint64 k0;
	uint64 k1;
	uint64 v[4];
	uint64 word;
	size_t offset = 0;

	memcpy(&k0, key, sizeof(k0));
	memcpy(&k1, key + 8, sizeof(k1));
	v[0] = k0 ^ UINT64CONST(0x736f6d6570736575);
	v[1] = k1 ^ UINT64CONST(0x646f72616e646f6d);
	v[2] = k0 ^ UINT64CONST(0x6c7967656e657261);
	v[3] = k1 ^ UINT64CONST(0x7465646279746573);
	while (offset <= length)
	{
		/* The last word holds what is left and, in its top byte, the length. */
		size_t rest = Min(length - offset, 8);

		word = 0;
		memcpy(&word, data + offset, rest);
		if (rest < 8)
			word |= (uint64) (length & 0xff) << 56;
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
		offset += 8;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static int64
current_step(void)
{
	static int64 last = 0;
	struct timespec now;
	int64 step;

	clock_gettime(CLOCK_REALTIME, &now);
	step = (int64) now.tv_sec * STEPS_PER_SECOND +
		   (int64) now.tv_nsec * STEPS_PER_MS / INT64CONST(1000000);
	if (step <= last && last - step < STEPS_PER_SECOND)
		step = last + 1;
	last = step;
	return step;
}

void
om_uuid7_make(pg_uuid_t *id, const uint8 lane_key[16], const char *customer_id, int length)
{
	int64 step = current_step();
	uint64 lane = siphash(lane_key, (const uint8 *) customer_id, length) & 0xffff;
	uint64 random;
	uint64 high;
	uint64 low;

	if (!pg_strong_random(&random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bits")));
	high = ((uint64) (step / STEPS_PER_MS) << 16) | UINT64CONST(0x7000) |
		   (uint64) (step % STEPS_PER_MS);
	low = (UINT64CONST(2) << 62) | (lane << 46) | (random >> 18);
	high = pg_hton64(high);
	low = pg_hton64(low);
	memcpy(id->data, &high, sizeof(high));
	memcpy(id->data + sizeof(high), &low, sizeof(low));
}

TimestampTz
om_uuid7_time(const pg_uuid_t *id)
{
	uint64 high;

	memcpy(&high, id->data, sizeof(high));
	return ((int64) (pg_ntoh64(high) >> 16) - EPOCH_DIFFERENCE_MS) * 1000;
}
