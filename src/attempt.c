/*
 * attempt.c
 *		Subtransactions around what may fail.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "attempt.h"
#include "errors.h"

static bool
lies_in_data(int sqlstate)
{
	int class = ERRCODE_TO_CATEGORY(sqlstate);

	return class == ERRCODE_DATA_EXCEPTION || class == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		   class == ERRCODE_PROGRAM_LIMIT_EXCEEDED || sqlstate == ERRCODE_OM_INVALID ||
		   sqlstate == ERRCODE_OM_STATE;
}

ErrorData *
om_attempt_any(bool (*work)(void *arg), void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (work(arg))
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

typedef struct Attempt
{
	void (*work)(void *arg);
	void *arg;
	bool keep;
} Attempt;

static bool
do_attempt(void *arg)
{
	const Attempt *attempt = arg;

	attempt->work(attempt->arg);
	return attempt->keep;
}

ErrorData *
om_attempt(void (*work)(void *arg), void *arg, bool keep)
{
	Attempt attempt = {work, arg, keep};
	ErrorData *error = om_attempt_any(do_attempt, &attempt);

	if (error != NULL && !lies_in_data(error->sqlerrcode))
		ReThrowError(error);
	return error;
}
