/*
 * api_faults.c
 *		Lets tests reach what SQL cannot; empty in a normal build.
 *
 * No script of the extension mentions this: a test that runs on the library
 * with fault points declares the function itself.
 */
#include "postgres.h"

#include "faults.h"

#ifdef OM_FAULT_POINTS

#include <signal.h>

#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "utils/builtins.h"

#include "api_arguments.h"
#include "inflight.h"

/* test_inflight(action text, consumer text, nevents integer, event_id bigint) → text */
OM_FUNCTION(om_test_inflight)
{
	static OmInflight *slot = NULL;
	char *action = text_to_cstring(PG_GETARG_TEXT_PP(0));
	OmSuspicion suspicion;

	if (strcmp(action, "attach") == 0)
	{
		slot = om_inflight_attach(text_to_cstring(PG_GETARG_TEXT_PP(1)));
		pqsignal(SIGQUIT, om_inflight_sigquit);
	}
	else if (strcmp(action, "begin") == 0)
		om_inflight_begin(slot, PG_GETARG_INT32(2), PG_GETARG_INT64(3));
	else if (strcmp(action, "end") == 0)
		om_inflight_end(slot);
	else if (strcmp(action, "abort") == 0)
		om_inflight_abort(slot);
	else if (strcmp(action, "forget") == 0)
		om_inflight_forget(slot);
	suspicion = om_inflight_review(slot);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(
		"%s%d suspect, event " INT64_FORMAT " crashed %d times", slot == NULL ? "no slot, " : "",
		suspicion.nevents, suspicion.event_id, suspicion.crashes)));
}

#endif
