/*
 * secrets.c
 *		The rows of "model_secrets".
 *
 * No message of ours contains a value, or a part of one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "errors.h"
#include "jsonout.h"
#include "plans.h"
#include "secrets.h"

static OmQuery set_query = {
	.sql = "INSERT INTO order_mgmt.model_secrets AS s SELECT $1, $2, $3, t.now, t.now"
		   " FROM (SELECT pg_catalog.clock_timestamp() AS now) AS t ON CONFLICT (name)"
		   " DO UPDATE SET value = excluded.value, changed_by = excluded.changed_by,"
		   " updated_at = excluded.updated_at RETURNING s.created_at = s.updated_at",
	.nargs = 3,
	.types = {TEXTOID, JSONBOID, TEXTOID}};

static OmQuery drop_query = {
	.sql = "DELETE FROM order_mgmt.model_secrets WHERE name = $1", .nargs = 1, .types = {TEXTOID}};

static OmQuery read_query = {.sql = "SELECT value FROM order_mgmt.model_secrets WHERE name = $1",
							 .nargs = 1,
							 .types = {TEXTOID}};

/* --- what a secret may be --------------------------------------------------------------------- */

/* Becomes part of a request: one line, not empty. */
static bool
is_line(const JsonbValue *value)
{
	if (value->type != jbvString || value->val.string.len == 0)
		return false;
	for (int i = 0; i < value->val.string.len; i++)
	{
		unsigned char c = value->val.string.val[i];

		if (c < ' ' || c == 0x7f)
			return false;
	}
	return true;
}

static bool
is_header_name(const JsonbValue *name)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (int i = 0; i < name->val.string.len; i++)
	{
		if (memchr(allowed, name->val.string.val[i], sizeof(allowed) - 1) == NULL)
			return false;
	}
	return name->val.string.len > 0;
}

static bool
are_headers(const JsonbValue *value)
{
	JsonbIterator *iterator;
	JsonbValue item;
	JsonbIteratorToken token;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return false;
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true /* skip_nested */)) != WJB_DONE)
	{
		if (token == WJB_KEY && !is_header_name(&item))
			return false;
		if (token == WJB_VALUE && !is_line(&item))
			return false;
	}
	return true;
}

static bool
is_member(const JsonbValue *key, const char *name)
{
	return (size_t) key->val.string.len == strlen(name) &&
		   memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

static const char *
find_fault_of_member(const JsonbValue *key, const JsonbValue *value)
{
	static const char *const lines[] = {"access_key_id", "secret_access_key", "session_token",
										"bearer"};

	if (is_member(key, "headers"))
		return are_headers(value) ? NULL : "headers is no object of names and lines of text";
	for (int i = 0; i < (int) lengthof(lines); i++)
	{
		if (is_member(key, lines[i]))
			return is_line(value) ? NULL : psprintf("%s is not a line of text", lines[i]);
	}
	return "it has a member that is not known";
}

static bool
has_member(Jsonb *value, const char *name)
{
	JsonbValue buffer;

	return getKeyJsonValueFromContainer(&value->root, name, strlen(name), &buffer) != NULL;
}

const char *
om_secret_find_fault(Jsonb *value)
{
	JsonbIterator *iterator;
	JsonbValue key = {.type = jbvNull};
	JsonbValue item;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(value) || JB_ROOT_COUNT(value) == 0)
		return "it is no JSON object with members";
	if (has_member(value, "access_key_id") != has_member(value, "secret_access_key") ||
		(has_member(value, "session_token") && !has_member(value, "access_key_id")))
		return "access_key_id and secret_access_key belong together";
	iterator = JsonbIteratorInit(&value->root);
	while ((token = JsonbIteratorNext(&iterator, &item, true /* skip_nested */)) != WJB_DONE)
	{
		const char *fault = token == WJB_VALUE ? find_fault_of_member(&key, &item) : NULL;

		if (fault != NULL)
			return fault;
		if (token == WJB_KEY)
			key = item;
	}
	return NULL;
}

/* --- rows ------------------------------------------------------------------------------------- */

bool
om_secret_set(const char *name, Jsonb *value)
{
	Datum args[3] = {CStringGetTextDatum(name), JsonbPGetDatum(value),
					 CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))};

	return om_query_change_says(&set_query, args);
}

bool
om_secret_drop(const char *name)
{
	Datum arg = CStringGetTextDatum(name);

	return om_query_change(&drop_query, &arg) > 0;
}

Jsonb *
om_model_secret(const char *name)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum arg = CStringGetTextDatum(name);
	OmQueryScope scope;
	Jsonb *value;
	bool isnull;

	om_query_begin(&scope);
	if (om_query_read(&read_query, &arg, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no secret \"%s\"", name),
				 om_errdetail("secret", name),
				 errhint("An administrator can make it with order_mgmt.set_model_secret().")));
	caller = MemoryContextSwitchTo(caller);
	value = DatumGetJsonbPCopy(om_result_get(0, 1, &isnull));
	MemoryContextSwitchTo(caller);
	om_query_end(&scope);
	return value;
}
