/*
 * providers.c
 *		Finding providers, and calling them so that nothing of theirs remains.
 *
 * A library is loaded when a kind that is not built in is used for the first
 * time, if setting order_mgmt.predict_providers names the kind; a session never
 * gets rid of a library again.  Before any code of it but _PG_init() and the one
 * entry point runs, its ABI is looked at.
 *
 * Whatever a provider does runs in a subtransaction.  It may raise any error,
 * change settings or forget to clean up: the subtransaction's end takes care of
 * that.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/varlena.h"

#include "attempt.h"
#include "errors.h"
#include "jsonout.h"
#include "providers.h"
#include "settings.h"

#define MAX_PROVIDERS 64
#define MAX_KIND_LENGTH 40

static const OmPredictProvider *known[MAX_PROVIDERS];
static int nknown = 0;

void
om_provider_register(const OmPredictProvider *provider)
{
	Assert(nknown < MAX_PROVIDERS);
	known[nknown++] = provider;
}

/* --- calls ---------------------------------------------------------------------------------------- */

typedef struct Call
{
	void (*work)(void *arg);
	void *arg;
} Call;

static bool
call(void *arg)
{
	const Call *self = arg;
	int level = NewGUCNestLevel();
	Oid user;
	int security_context;

	GetUserIdAndSecContext(&user, &security_context);
	self->work(self->arg);
	AtEOXact_GUC(false /* undo */, level);
	SetUserIdAndSecContext(user, security_context);
	return true;
}

ErrorData *
om_provider_attempt(void (*work)(void *arg), void *arg)
{
	Call self = {work, arg};

	return om_attempt_any(call, &self);
}

bool
om_provider_error_is_alien(const ErrorData *error)
{
	int class = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return class == ERRCODE_OPERATOR_INTERVENTION || class == ERRCODE_TRANSACTION_ROLLBACK;
}

static void
add_member(StringInfo json, const char *key, const char *value)
{
	appendStringInfoString(json, json->len > 1 ? ", " : "");
	escape_json(json, key);
	appendStringInfoString(json, ": ");
	escape_json(json, value);
}

char *
om_provider_detail(const ErrorData *error, const char *model, const char *kind)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	if (model != NULL)
		add_member(&json, "model", model);
	if (kind != NULL)
		add_member(&json, "kind", kind);
	if (error != NULL)
		add_member(&json, "error_code", unpack_sql_state(error->sqlerrcode));
	appendStringInfoChar(&json, '}');
	return json.data;
}

void
om_provider_raise(const ErrorData *error, const char *doing, const char *model, const char *kind)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
					errmsg("%s model \"%s\" (kind \"%s\") failed: %s", doing, model, kind,
						   error->message != NULL ? error->message : "no message"),
					errdetail_internal("%s", om_provider_detail(error, model, kind)),
					error->hint != NULL ? errhint("%s", error->hint) : 0,
					error->context != NULL ? errcontext_msg("%s", error->context) : 0));
}

/* --- waiting for others ---------------------------------------------------------------------------- */

/* Against these no row can be changed, or no table looked after. */
#define STRONG_LOCKS                                                 \
	(LOCKBIT_ON(ShareUpdateExclusiveLock) | LOCKBIT_ON(ShareLock) |  \
	 LOCKBIT_ON(ShareRowExclusiveLock) | LOCKBIT_ON(ExclusiveLock) | \
	 LOCKBIT_ON(AccessExclusiveLock))

static bool
has_locked_table(void)
{
	LockData *locks = GetLockStatusData();
	bool found = false;

	for (int i = 0; i < locks->nelements && !found; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		found = lock->pid == MyProcPid && lock->locktag.locktag_type == LOCKTAG_RELATION &&
				(lock->holdMask & STRONG_LOCKS) != 0;
	}
	pfree(locks->locks);
	pfree(locks);
	return found;
}

/* Whoever has no transaction id has changed no row, and locked none. */
void
om_provider_require_free(const OmPredictProvider *provider, const char *model)
{
	bool has_written;

	if ((provider->flags & OM_PROVIDER_WAITS_OUTSIDE) == 0)
		return;
	has_written = TransactionIdIsValid(GetTopTransactionIdIfAny());
	if (!has_written && !has_locked_table())
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OM_STATE),
		 errmsg("model \"%s\" (kind \"%s\") is not asked in a transaction that %s", model,
				provider->kind, has_written ? "has changed or locked rows" : "has locked a table"),
		 errdetail_internal("%s", om_provider_detail(NULL, model, provider->kind)),
		 errhint("It answers from outside the server, and others would wait for that as well. "
				 "Ask it before the transaction changes anything, in another one, or by "
				 "request_prediction().")));
}

/* --- libraries ------------------------------------------------------------------------------------ */

static void raise_provider(const char *kind, const char *problem, const char *hint)
	__attribute__((noreturn));

static void
raise_provider(const char *kind, const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_PREDICTION), errmsg("models of kind \"%s\": %s", kind, problem),
			 om_errdetail("kind", kind), errhint("%s", hint)));
}

static const OmPredictProvider *
find_known(const char *kind)
{
	for (int i = 0; i < nknown; i++)
	{
		if (strcmp(known[i]->kind, kind) == 0)
			return known[i];
	}
	return NULL;
}

/* It becomes part of a file name. */
static void
check_kind(const char *kind)
{
	size_t length = strlen(kind);

	if (length == 0 || length > MAX_KIND_LENGTH || kind[0] < 'a' || kind[0] > 'z' ||
		strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
		ereport(ERROR, (errcode(ERRCODE_OM_INVALID), errmsg("kind is not the name of a kind"),
						om_errdetail("path", "kind"),
						errhint("Lower-case letters, digits and underscores; kinds that are there "
								"without a library: %s.",
								"sql, next_basket and demand")));
}

static bool
is_allowed(const char *kind)
{
	List *names;
	ListCell *cell;

	if (om_setting_predict_providers == NULL ||
		!SplitIdentifierString(pstrdup(om_setting_predict_providers), ',', &names))
		return false;
	foreach(cell, names)
	{
		if (strcmp(lfirst(cell), kind) == 0)
			return true;
	}
	return false;
}

typedef struct Library
{
	const char *kind;
	const OmPredictProvider *provider;
} Library;

static void
load_library(void *arg)
{
	Library *library = arg;
	char *file = psprintf("%s%s", OM_PROVIDER_LIBRARY_PREFIX, library->kind);
	OmPredictProviderInit init = (OmPredictProviderInit) load_external_function(
		file, OM_PROVIDER_ENTRY, true /* signalNotFound */, NULL);

	library->provider = init(OM_PROVIDER_ABI);
}

/* What is wrong with a provider, or NULL.  Of one with another ABI only that is looked at. */
static const char *
find_fault(const OmPredictProvider *provider, const char *kind)
{
	if (provider == NULL)
		return psprintf("its library does not work with ABI %d", OM_PROVIDER_ABI);
	if (provider->abi != OM_PROVIDER_ABI)
		return psprintf("its library has ABI %d, order_mgmt has %d", provider->abi,
						OM_PROVIDER_ABI);
	if (provider->kind == NULL || strcmp(provider->kind, kind) != 0)
		return "its library is one of another kind";
	if ((provider->flags & ~(uint32) OM_PROVIDER_FLAGS) != 0)
		return "its library wants what this version cannot do";
	if (provider->predict_batch == NULL)
		return "its library cannot predict";
	if (provider->train == NULL && (provider->flags & OM_PROVIDER_UNTRAINED) == 0)
		return "its library cannot train, and its models need it";
	return NULL;
}

static const OmPredictProvider *
load_provider(const char *kind)
{
	Library library = {.kind = kind};
	ErrorData *error = om_provider_attempt(load_library, &library);
	const char *fault;

	if (error != NULL && om_provider_error_is_alien(error))
		ReThrowError(error);
	if (error != NULL)
		raise_provider(kind, psprintf("its library cannot be loaded: %s", error->message),
					   "Install the library of this kind, built for this version of order_mgmt.");
	fault = find_fault(library.provider, kind);
	if (fault != NULL)
		raise_provider(kind, fault,
					   "Build the library of this kind with the header order_mgmt.h of this "
					   "version.");
	if (nknown == MAX_PROVIDERS)
		raise_provider(kind, "too many kinds are loaded", "Use a new session.");
	om_provider_register(library.provider);
	return library.provider;
}

bool
om_provider_may_wait(const char *kind)
{
	const OmPredictProvider *provider = find_known(kind);

	return provider == NULL || (provider->flags & OM_PROVIDER_WAITS_OUTSIDE) != 0;
}

const OmPredictProvider *
om_provider_get(const char *kind)
{
	const OmPredictProvider *provider = find_known(kind);

	if (provider != NULL)
		return provider;
	check_kind(kind);
	if (!is_allowed(kind))
		raise_provider(kind, "there is none built in, and no library of it may be loaded",
					   psprintf("A superuser can add %s to order_mgmt.predict_providers.", kind));
	return load_provider(kind);
}
