/*
 * api_deadletters.c
 *		Dead letters: taken up again, or thrown away.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "api_arguments.h"
#include "deadletters.h"
#include "errors.h"
#include "jsonout.h"
#include "plans.h"

/* NULL stands for an argument that is. */
static ArrayType *
get_ids(FunctionCallInfo fcinfo, int n)
{
	ArrayType *ids;

	if (PG_ARGISNULL(n))
		return NULL;
	ids = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(ids) > 1 || array_contains_nulls(ids))
		om_arg_raise("dead_letter_ids", "is not a list of ids");
	return ids;
}

static OmQuery known_query = {
	.sql = "SELECT 1 FROM order_mgmt.consumers WHERE name = $1"
		   " UNION ALL SELECT 1 FROM order_mgmt.dead_letters WHERE consumer = $1 LIMIT 1",
	.nargs = 1,
	.types = {TEXTOID}};

static void
require_consumer(const char *name)
{
	OmQueryScope scope;
	Datum arg = CStringGetTextDatum(name);
	bool known;

	om_query_begin(&scope);
	known = om_query_run(&known_query, &arg, NULL) > 0;
	om_query_end(&scope);
	if (!known)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no consumer \"%s\"", name),
						om_errdetail("consumer", name),
						errhint("SELECT name FROM order_mgmt.consumers lists them; '*' stands for "
								"every one.")));
}

/* replay_dead_letters(consumer, dead_letter_ids) → bigint */
OM_FUNCTION(om_replay_dead_letters)
{
	char *consumer = om_arg_text(fcinfo, 0);
	bool every;

	om_arg_require(fcinfo, 0, "consumer");
	om_api_begin_write("replay_dead_letters()");
	every = strcmp(consumer, "*") == 0;
	if (!every)
		require_consumer(consumer);
	PG_RETURN_INT64(om_dead_letters_replay(every ? NULL : consumer, get_ids(fcinfo, 1)));
}

/* replay_dead_letter(dead_letter_id) → boolean */
OM_FUNCTION(om_replay_dead_letter)
{
	om_arg_require(fcinfo, 0, "dead_letter_id");
	om_api_begin_write("replay_dead_letter()");
	PG_RETURN_BOOL(om_dead_letter_replay(PG_GETARG_INT64(0)));
}

/* discard_dead_letters(dead_letter_ids, reason) → bigint */
OM_FUNCTION(om_discard_dead_letters)
{
	char *reason = om_arg_text(fcinfo, 1);

	om_arg_require(fcinfo, 0, "dead_letter_ids");
	om_arg_require(fcinfo, 1, "reason");
	om_api_begin_write("discard_dead_letters()");
	if (reason[0] == '\0')
		om_arg_raise("reason", "is empty");
	PG_RETURN_INT64(om_dead_letters_discard(get_ids(fcinfo, 0), reason));
}
