/*
 * signatures.c
 *		Names of handlers: functions with one argument of type jsonb.
 *
 * They are kept as text, schema and all: a column of type regprocedure would
 * make pg_upgrade refuse, and an OID says nothing after a restore.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "errors.h"
#include "jsonout.h"
#include "signatures.h"

static void
raise_handler(const char *message)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_OM_INVALID), errmsg_internal("handler %s", message),
		 om_errdetail("path", "handler"),
		 errhint("Name a function with one argument of type jsonb, like public.notify(jsonb).")));
}

/* The name without the argument, which must be jsonb where it is given. */
static List *
parse(const char *text)
{
	char *name = pstrdup(text);
	char *arguments = strrchr(name, '(');
	List *parts;
	List *names = NIL;
	ListCell *cell;

	if (arguments != NULL)
	{
		*arguments++ = '\0';
		if (pg_strcasecmp(arguments, "jsonb)") != 0 &&
			pg_strcasecmp(arguments, "pg_catalog.jsonb)") != 0)
			raise_handler("takes other arguments than one of type jsonb");
	}
	if (!SplitIdentifierString(name, '.', &parts) || parts == NIL || list_length(parts) > 2)
		raise_handler("is not the name of a function");
	foreach(cell, parts)
		names = lappend(names, makeString(lfirst(cell)));
	return names;
}

Oid
om_signature_find(const char *text)
{
	Oid jsonb = JSONBOID;

	return LookupFuncName(parse(text), 1, &jsonb, true /* missing_ok */);
}

char *
om_signature_name(const char *text)
{
	List *names = parse(text);

	return list_length(names) == 1
			 ? pstrdup(quote_identifier(strVal(linitial(names))))
			 : quote_qualified_identifier(strVal(linitial(names)), strVal(lsecond(names)));
}

Oid
om_signature_require(const char *text, char **stored)
{
	Oid function = om_signature_find(text);
	Form_pg_proc form;
	HeapTuple tuple;
	bool fits;

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_OM_NOT_FOUND),
				 errmsg("there is no function \"%s\" with one argument of type jsonb", text),
				 om_errdetail("handler", text), errhint("Create it first, or name its schema.")));
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	form = (Form_pg_proc) GETSTRUCT(tuple);
	fits = form->prokind == PROKIND_FUNCTION && !form->proretset &&
		   (form->prorettype == VOIDOID || get_typtype(form->prorettype) != TYPTYPE_PSEUDO);
	*stored =
		psprintf("%s(jsonb)", quote_qualified_identifier(get_namespace_name(form->pronamespace),
														 NameStr(form->proname)));
	ReleaseSysCache(tuple);
	if (!fits)
		raise_handler("is not a plain function that returns one value or void");
	if (!om_may_execute(function))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function %s", *stored),
						errhint("GRANT EXECUTE ON FUNCTION %s TO %s;", *stored,
								quote_identifier(GetUserNameFromId(GetUserId(), false)))));
	return function;
}
