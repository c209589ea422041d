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

#include "clock.h"
#include "errors.h"
#include "siphash.h"
#include "uuid7.h"

/* One millisecond has 4096 steps of about 244 ns. */
#define STEPS_PER_MS 4096
#define STEPS_PER_SECOND (INT64CONST(1000) * STEPS_PER_MS)
#define EPOCH_DIFFERENCE_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

/*
 * Random bits for this many ids are fetched at once; fetching takes longer than
 * all the rest.  Nobody is kept from guessing ids by them alone.
 */
#define POOL_SIZE 64

static uint64
random_bits(void)
{
	static uint64 pool[POOL_SIZE];
	static int left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bits")));
		left = POOL_SIZE;
	}
	return pool[--left];
}

static int64
real_step(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64) now.tv_sec * STEPS_PER_SECOND +
		   (int64) now.tv_nsec * STEPS_PER_MS / INT64CONST(1000000);
}

static int64
set_step(void)
{
	int64 us = om_clock_now() - om_uuid7_epoch();

	return us / 1000 * STEPS_PER_MS + us % 1000 * STEPS_PER_MS / 1000;
}

static int64
current_step(void)
{
	static int64 last = 0;
	static uint64 clock = 0;
	int64 step = om_clock_is_set() ? set_step() : real_step();

	if (clock != om_clock_changes())
		last = 0; /* to be set back is no accident */
	clock = om_clock_changes();
	if (step <= last && last - step < STEPS_PER_SECOND)
		step = last + 1;
	last = step;
	return step;
}

static void
make_id(pg_uuid_t *id, int64 step, const uint8 lane_key[16], const char *customer_id, int length)
{
	uint64 lane = om_siphash(lane_key, (const uint8 *) customer_id, length) & 0xffff;
	uint64 random = random_bits();
	uint64 high;
	uint64 low;

	high = ((uint64) (step / STEPS_PER_MS) << 16) | UINT64CONST(0x7000) |
		   (uint64) (step % STEPS_PER_MS);
	low = (UINT64CONST(2) << 62) | (lane << 46) | (random >> 18);
	high = pg_hton64(high);
	low = pg_hton64(low);
	memcpy(id->data, &high, sizeof(high));
	memcpy(id->data + sizeof(high), &low, sizeof(low));
}

void
om_uuid7_make(pg_uuid_t *id, const uint8 lane_key[16], const char *customer_id, int length)
{
	make_id(id, current_step(), lane_key, customer_id, length);
}

void
om_uuid7_make_at(pg_uuid_t *id, TimestampTz at, int ordinal, const uint8 lane_key[16],
				 const char *customer_id, int length)
{
	int64 ms = (at - om_uuid7_epoch()) / 1000;

	make_id(id, ms * STEPS_PER_MS + Min(ordinal, STEPS_PER_MS - 1), lane_key, customer_id, length);
}

TimestampTz
om_uuid7_epoch(void)
{
	return -EPOCH_DIFFERENCE_MS * 1000;
}

TimestampTz
om_uuid7_time(const pg_uuid_t *id)
{
	uint64 high;

	memcpy(&high, id->data, sizeof(high));
	return ((int64) (pg_ntoh64(high) >> 16) - EPOCH_DIFFERENCE_MS) * 1000;
}
