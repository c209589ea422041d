/*
 * api_accounts.c
 *		Customers and their credit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "api_arguments.h"
#include "archivedamounts.h"
#include "errors.h"
#include "eventlog.h"
#include "installation.h"
#include "jsonout.h"
#include "keys.h"
#include "ledger.h"
#include "money.h"
#include "plans.h"

#define ACCOUNT_COLUMNS \
	"customer_id::text, name, email, metadata, balance, reserved, created_at, updated_at"

static OmQuery ensure_query = {
	.sql = "INSERT INTO order_mgmt.accounts (customer_id, metadata, balance, reserved, created_at,"
		   " updated_at) VALUES ($1, '{}', 0, 0, pg_catalog.clock_timestamp(),"
		   " pg_catalog.clock_timestamp()) ON CONFLICT (customer_id) DO NOTHING",
	.nargs = 1,
	.types = {TEXTOID}};

/* NULL keeps, '' clears, metadata replaces. */
static OmQuery describe_query = {
	.sql = "UPDATE order_mgmt.accounts SET name = nullif(coalesce($2, name), ''),"
		   " email = nullif(coalesce($3, email), ''), metadata = coalesce($4, metadata),"
		   " updated_at = pg_catalog.clock_timestamp() WHERE customer_id = $1",
	.nargs = 4,
	.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID}};

static OmQuery get_query = {.sql = "SELECT " ACCOUNT_COLUMNS
								   " FROM order_mgmt.accounts WHERE customer_id = $1",
							.nargs = 1,
							.types = {TEXTOID}};

static OmQuery list_query = {
	.sql = "SELECT " ACCOUNT_COLUMNS " FROM order_mgmt.accounts"
		   " WHERE customer_id > coalesce($1, '') ORDER BY customer_id LIMIT $2",
	.nargs = 2,
	.types = {TEXTOID, INT8OID}};

static OmQuery in_flight_query = {.sql = "SELECT 1 FROM order_mgmt.orders WHERE customer_id = $1"
										 " AND status IN ('captured', 'confirmed') LIMIT 1",
								  .nargs = 1,
								  .types = {TEXTOID}};

static OmQuery forget_orders_query = {
	.sql = "UPDATE order_mgmt.orders SET metadata = '{}' WHERE customer_id = $1"
		   " AND metadata <> '{}'",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery delete_query = {.sql = "DELETE FROM order_mgmt.accounts WHERE customer_id = $1",
							   .nargs = 1,
							   .types = {TEXTOID}};

/*
 * Adjustments are events of the account; charges are the orders it was shipped. OFFSET 0 has
 * their events looked up by lxid, order by order, not by reading the log for each.
 *
 * Of months in the archive nothing is shown, but what they came to counts for all that comes
 * after them; orders of theirs that were shipped in a month that is here are shown.
 */
static OmQuery statement_query = {
	.sql = "WITH charges AS MATERIALIZED ("
		   "  SELECT " OM_ARCHIVED_AMOUNTS_EVENT(
			   "l") ", l.at, -o.total AS amount, o.order_id, o.updated_at"
					"   FROM order_mgmt.orders AS o CROSS JOIN LATERAL"
					"    order_mgmt.shipment_of(o.order_id, o.trail, o.created_at, "
					"o.updated_at) AS "
					"l"
					"   WHERE o.customer_id = $1 AND o.status = 'shipped' AND (o.settled & "
					"4) = 0),"
					" unseen AS MATERIALIZED (SELECT month AS at, amount FROM hidden"
					"  UNION ALL SELECT updated_at, amount FROM charges WHERE event_id IS "
					"NULL)"
					" SELECT event_id, at, kind, amount, balance_after + coalesce((SELECT "
					"sum(u.amount)"
					"  FROM unseen AS u WHERE u.at < s.at), 0), order_id, reason FROM ("
					" SELECT *, sum(amount) OVER (ORDER BY event_id) AS balance_after FROM "
					"("
					"  SELECT l.event_id, l.at, 'adjustment'::text AS kind,"
					"   (l.detail->>'amount')::numeric AS amount, NULL::uuid AS order_id,"
					"   l.detail->>'reason' AS reason FROM order_mgmt.event_log AS l"
					"   WHERE l.customer_id = $1 AND l.event_type = 'balance_changed'"
					"  UNION ALL"
					"  SELECT event_id, at, 'charge', amount, order_id, NULL FROM charges"
					"   WHERE event_id IS NOT NULL"
					"  UNION ALL"
					"  SELECT event_id, at, 'charge', amount, order_id, NULL FROM shown)"
					"  AS movements) AS s"
					" WHERE event_id > coalesce($4, 0) AND at >= coalesce($2, '-infinity')"
					" AND at < coalesce($3, 'infinity') ORDER BY event_id LIMIT $5",
	.nargs = 5,
	.types = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID},
	.plan_once = true};

static void
ensure_account(Datum customer_id)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	om_query_run(&ensure_query, &customer_id, NULL);
	om_query_end(&scope);
}

static void
log_change(const char *customer_id, int64 delta, int64 balance, const char *reason)
{
	OmLogWriter *log = om_log_begin();
	OmJson json = {0};

	om_json_open_object(&json);
	om_json_key(&json, "amount");
	om_json_money(&json, delta);
	om_json_key(&json, "balance");
	om_json_money(&json, balance);
	om_json_key(&json, "reason");
	om_json_string(&json, reason);
	om_json_close_object(&json);
	om_log_change(log, OM_EVENT_BALANCE_CHANGED, CStringGetTextDatum(customer_id),
				  om_json_result(&json));
	om_log_end(log);
}

static void
raise_unknown(const char *customer_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_NOT_FOUND), errmsg("there is no account \"%s\"", customer_id),
			 om_errdetail("customer_id", customer_id),
			 errhint("Create it with order_mgmt.set_account().")));
}

/* Changes the balance of a locked account, with its event. */
static void
change_balance(OmLedgerEntry *account, int64 delta, const char *reason)
{
	if (!om_ledger_adjust(account, OM_LEDGER_ACCOUNTS, delta))
		ereport(
			ERROR,
			(errcode(ERRCODE_OM_STATE),
			 errmsg("the balance of \"%s\" would not cover what is held, or be out of range",
					account->key),
			 errdetail_internal("{\"balance\": \"%s\", \"reserved\": \"%s\"}",
								om_money_to_string(account->total),
								om_money_to_string(account->reserved)),
			 errhint("A balance is at least what is held for orders under way, and below 10^14.")));
	if (delta != 0)
		log_change(account->key, delta, account->total, reason);
}

/* Applications may describe customers, not give them credit. */
static void
require_operator(void)
{
	if (!has_privs_of_role(GetUserId(), get_role_oid("order_mgmt_operator", false)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to set a balance"),
						errhint("That takes role order_mgmt_operator; leave balance out to change "
								"the other columns.")));
}

/* set_account(customer_id, balance, name, email, metadata) → account */
OM_FUNCTION(om_set_account)
{
	char *customer_id = om_arg_id(fcinfo, 0, "customer_id");
	Datum key = CStringGetTextDatum(customer_id);
	bool isnull[4] = {false, PG_ARGISNULL(2), PG_ARGISNULL(3), PG_ARGISNULL(4)};
	Datum args[4] = {key, PG_GETARG_DATUM(2), PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};
	OmQueryScope scope;

	om_api_begin_write("set_account()");
	(void) om_arg_object(fcinfo, 4, "metadata");
	if (!PG_ARGISNULL(1))
	{
		require_operator();
		if (om_arg_money(fcinfo, 1, "balance") < 0)
			om_arg_raise("balance", "is negative");
	}
	ensure_account(key);
	CommandCounterIncrement();
	if (!PG_ARGISNULL(1))
	{
		OmLedger *accounts = om_ledger_lock(OM_LEDGER_ACCOUNTS, &customer_id, 1, OM_LEDGER_WAIT);
		OmLedgerEntry *account = om_ledger_entry(accounts, customer_id);

		if (!account->exists)
			raise_unknown(customer_id); /* deleted by another at this very moment */
		change_balance(account, om_arg_money(fcinfo, 1, "balance") - account->total, "set_account");
		om_ledger_write(accounts);
		CommandCounterIncrement();
	}
	if (!isnull[1] || !isnull[2] || !isnull[3])
	{
		om_query_begin(&scope);
		om_query_run(&describe_query, args, isnull);
		om_query_end(&scope);
	}
	return om_query_return_row(fcinfo, &get_query, &key, NULL);
}

/* get_account(customer_id) → account */
OM_FUNCTION(om_get_account)
{
	Datum key = CStringGetTextDatum(om_arg_id(fcinfo, 0, "customer_id"));

	(void) om_installation_get();
	return om_query_return_set(fcinfo, &get_query, &key, NULL);
}

/* list_accounts(after, page_size) → account */
OM_FUNCTION(om_list_accounts)
{
	Datum args[2] = {PG_GETARG_DATUM(0), Int64GetDatum(om_arg_page_size(fcinfo, 1))};
	bool isnull[2] = {PG_ARGISNULL(0), false};

	(void) om_installation_get();
	return om_query_return_set(fcinfo, &list_query, args, isnull);
}

/* adjust_balance(customer_id, delta, reason, idempotency_key) → numeric */
OM_FUNCTION(om_adjust_balance)
{
	char *customer_id = om_arg_id(fcinfo, 0, "customer_id");
	int64 delta = om_arg_money(fcinfo, 1, "delta");
	char *reason = om_arg_text(fcinfo, 2);
	char *name = om_arg_key(fcinfo, 3);
	OmLedger *accounts;
	OmLedgerEntry *account;
	OmKey key;
	OmKeyRecord record;

	om_api_begin_write("adjust_balance()");
	/* The lock on the account also keeps a second use of its keys waiting. */
	accounts = om_ledger_lock(OM_LEDGER_ACCOUNTS, &customer_id, 1, OM_LEDGER_WAIT);
	account = om_ledger_entry(accounts, customer_id);
	if (!account->exists)
		raise_unknown(customer_id);
	if (name != NULL)
	{
		const char *request[2] = {om_money_to_string(delta), reason};

		om_keys_begin();
		om_key_make(&key, OM_KEY_BALANCE, customer_id, name, request, lengthof(request));
		if (om_key_find(&key, &record))
		{
			om_key_require_same(&record, name);
			om_ledger_write(accounts);
			PG_RETURN_DATUM(record.result);
		}
	}
	change_balance(account, delta, reason);
	om_ledger_write(accounts);
	if (name != NULL)
		om_key_insert(&key, NULL, om_money_to_numeric(account->total));
	PG_RETURN_NUMERIC(om_money_to_numeric(account->total));
}

/* account_statement(customer_id, since, until, after, page_size) → movements */
OM_FUNCTION(om_account_statement)
{
	Datum args[5] = {CStringGetTextDatum(om_arg_id(fcinfo, 0, "customer_id")), PG_GETARG_DATUM(1),
					 PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
					 Int64GetDatum(om_arg_page_size(fcinfo, 4))};
	bool isnull[5] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2), PG_ARGISNULL(3), false};

	(void) om_installation_get();
	return om_archived_amounts_return_set(fcinfo, "account", &statement_query, args, isnull);
}

/* delete_account(customer_id) → boolean */
OM_FUNCTION(om_delete_account)
{
	char *customer_id = om_arg_id(fcinfo, 0, "customer_id");
	Datum key = CStringGetTextDatum(customer_id);
	OmLedger *accounts;
	OmLedgerEntry *account;
	OmQueryScope scope;
	bool in_flight;

	om_api_begin_write("delete_account()");
	accounts = om_ledger_lock(OM_LEDGER_ACCOUNTS, &customer_id, 1, OM_LEDGER_WAIT);
	account = om_ledger_entry(accounts, customer_id);
	if (!account->exists)
		raise_unknown(customer_id);
	om_query_begin(&scope);
	in_flight = om_query_run(&in_flight_query, &key, NULL) > 0;
	om_query_end(&scope);
	if (in_flight || account->reserved != 0)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("account \"%s\" has orders under way", customer_id),
						om_errdetail("customer_id", customer_id),
						errhint("Wait until they are final, or cancel them.")));
	/* The last event closes the account, so that its history adds up to nothing. */
	change_balance(account, -account->total, "delete_account");
	om_ledger_write(accounts);
	om_query_begin(&scope);
	om_query_run(&forget_orders_query, &key, NULL);
	om_query_run(&delete_query, &key, NULL);
	om_query_end(&scope);
	PG_RETURN_BOOL(true);
}
