/*
 * api_types.c
 *		Small immutable functions that constraints and views are made of.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "api_arguments.h"
#include "names.h"
#include "uuid7.h"

static bool
is_word(text *word, const char *const *names, int count)
{
	return om_names_find(names, count, VARDATA_ANY(word), VARSIZE_ANY_EXHDR(word)) >= 0;
}

/* uuid_time(uuid) → timestamptz */
OM_FUNCTION(om_uuid_time)
{
	PG_RETURN_TIMESTAMPTZ(om_uuid7_time(PG_GETARG_UUID_P(0)));
}

/* is_order_status(text) → boolean */
OM_FUNCTION(om_is_order_status)
{
	PG_RETURN_BOOL(is_word(PG_GETARG_TEXT_PP(0), om_status_names, OM_STATUS_COUNT));
}

/* is_event_type(text) → boolean */
OM_FUNCTION(om_is_event_type)
{
	PG_RETURN_BOOL(is_word(PG_GETARG_TEXT_PP(0), om_event_names, OM_EVENT_COUNT));
}

/* unpack_orders(bytea) → (ordinal, order_id) */
OM_FUNCTION(om_unpack_orders)
{
	bytea *packed = PG_GETARG_BYTEA_PP(0);
	int count = VARSIZE_ANY_EXHDR(packed) / sizeof(pg_uuid_t);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < count; i++)
	{
		pg_uuid_t id;
		Datum values[2] = {Int64GetDatum(i + 1), UUIDPGetDatum(&id)};
		bool isnull[2] = {false, false};

		memcpy(&id, VARDATA_ANY(packed) + i * sizeof(pg_uuid_t), sizeof(id));
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
