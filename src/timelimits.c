/*
 * timelimits.c
 *		A timer that cancels what runs, as a cancellation by the user does.
 *
 * Limits may lie inside each other; the timer runs for the nearest.  One that
 * strikes while a cancellation is pending already leaves that to the user who
 * has asked for it.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "timelimits.h"

static TimestampTz nearest = 0;
static volatile sig_atomic_t has_struck = false;
static volatile uint32 nstrikes = 0;

static void
strike(void)
{
	if (QueryCancelPending)
		return;
	has_struck = true;
	nstrikes++;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

uint32
om_timelimit_strikes(void)
{
	return nstrikes;
}

static TimeoutId
timer(void)
{
	static TimeoutId id = MAX_TIMEOUTS;

	if (id == MAX_TIMEOUTS)
		id = RegisterTimeout(USER_TIMEOUT, strike);
	return id;
}

/* A time that has passed strikes at once. */
static void
run_until(TimestampTz deadline)
{
	nearest = deadline;
	if (deadline != 0)
		enable_timeout_at(timer(), deadline);
}

void
om_timelimit_begin(OmTimeLimit *limit, int ms)
{
	/* Whoever has not ended his, because of an error, is no more. */
	if (nearest != 0 && !has_struck && !get_timeout_active(timer()))
		nearest = 0;
	if (nearest == 0)
		has_struck = false;
	limit->outer = nearest;
	limit->deadline = ms == 0 ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	if (limit->deadline != 0 && (nearest == 0 || limit->deadline < nearest))
		run_until(limit->deadline);
}

bool
om_timelimit_end(OmTimeLimit *limit)
{
	bool mine = limit->deadline != 0 && nearest == limit->deadline;
	bool struck = false;

	if (!mine)
		return false;
	disable_timeout(timer(), false /* keep_indicator */);
	if (has_struck)
	{
		/* One that came too late must not hit what follows. */
		struck = true;
		has_struck = false;
		QueryCancelPending = false;
	}
	run_until(limit->outer);
	return struck;
}
