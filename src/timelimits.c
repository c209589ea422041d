/*
 * timelimits.c
 *		A timer that cancels what runs, as a cancellation by the user does.
 *
 * Limits may lie inside each other; the timer runs for the nearest.  One that
 * strikes while a cancellation is pending already leaves that to the user who
 * has asked for it.
 *
 * What runs under a limit is a subtransaction: what was cancelled leaves nothing.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "errors.h"
#include "providers.h"
#include "timelimits.h"

typedef struct TimeLimit
{
	TimestampTz deadline; /* 0: there is none */
	TimestampTz outer;    /* that of the limit around this one */
} TimeLimit;

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

static void
begin(TimeLimit *limit, int ms)
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

/*
 * True when it has struck: a cancellation of the statement (57014) raised since
 * begin() was its own, not the user's.
 */
static bool
end(const TimeLimit *limit)
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

/* --- attempts ------------------------------------------------------------------------------------- */

typedef struct Timed
{
	TimeLimit limit;
	int ms;
	bool begun;
	bool limited;
	void (*work)(void *arg);
	void *arg;
} Timed;

/* How deep models may ask each other; each level takes several subtransactions. */
#define MAX_DEPTH 16

static int depth = 0;

static void
run_timed(void *arg)
{
	Timed *timed = arg;

	timed->begun = true;
	if (++depth > MAX_DEPTH)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("models ask each other more than %d deep", MAX_DEPTH),
						errhint("One of them asks itself.")));
	begin(&timed->limit, timed->ms);
	timed->limited = true;
	timed->work(timed->arg);
}

ErrorData *
om_timelimit_attempt(int ms, void (*work)(void *arg), void *arg, bool *struck)
{
	Timed timed = {.ms = ms, .work = work, .arg = arg};
	ErrorData *error = om_provider_attempt(run_timed, &timed);

	*struck = timed.limited && end(&timed.limit);
	if (timed.begun)
		depth--;
	*struck = *struck && error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	if (*struck)
	{
		error->sqlerrcode = ERRCODE_OM_PREDICTION;
		error->message = psprintf("no answer within %d ms", ms);
		error->hint = pstrdup("The limit is option timeout_ms of the model, or setting "
							  "order_mgmt.predict_timeout.");
	}
	return error;
}
