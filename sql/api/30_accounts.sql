-- Creates or changes an account. NULL keeps what is there, '' clears name or email, metadata
-- replaces. balance is the new balance in currency units; the difference becomes an event. Only
-- order_mgmt_operator may give a balance. Errors: OM001, OM005 below what is held, 42501.
CREATE FUNCTION order_mgmt.set_account(
    customer_id text,
    balance numeric DEFAULT NULL,
    name text DEFAULT NULL,
    email text DEFAULT NULL,
    metadata jsonb DEFAULT NULL
)
RETURNS order_mgmt.account
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_account';
COMMENT ON FUNCTION order_mgmt.set_account(text, numeric, text, text, jsonb) IS
    'Creates or changes an account: NULL keeps, '''' clears, metadata replaces; balance in currency units, up to 4 decimals (role order_mgmt_operator only). Returns the account. Errors: OM001, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.set_account(text, numeric, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_account(text, numeric, text, text, jsonb) TO order_mgmt_app;

-- The account of a customer; no row when there is none.
CREATE FUNCTION order_mgmt.get_account(
    customer_id text
)
RETURNS SETOF order_mgmt.account
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_get_account';
COMMENT ON FUNCTION order_mgmt.get_account(text) IS
    'The account of a customer; no row when there is none. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.get_account(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.get_account(text) TO order_mgmt_reader;

-- Accounts in the order of customer_id, after the given one. page_size: 1 to 10000 rows.
CREATE FUNCTION order_mgmt.list_accounts(
    after text DEFAULT NULL,
    page_size bigint DEFAULT 50
)
RETURNS SETOF order_mgmt.account
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_list_accounts';
COMMENT ON FUNCTION order_mgmt.list_accounts(text, bigint) IS
    'Accounts by customer_id, beginning after the given one; page_size 1 to 10000 rows. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.list_accounts(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.list_accounts(text, bigint) TO order_mgmt_reader;

-- Adds delta (currency units, may be negative) to a balance and returns the new one. Repeated
-- with the same idempotency_key it returns the first result and changes nothing.
-- Errors: OM001, OM002, OM004 no such account, OM005 below what is held.
CREATE FUNCTION order_mgmt.adjust_balance(
    customer_id text,
    delta numeric,
    reason text DEFAULT NULL,
    idempotency_key text DEFAULT NULL
)
RETURNS numeric
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_adjust_balance';
COMMENT ON FUNCTION order_mgmt.adjust_balance(text, numeric, text, text) IS
    'Adds delta, in currency units, to a balance; returns the new balance. Errors: OM001, OM002 (key used with another request), OM004, OM005 (below what is held), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.adjust_balance(text, numeric, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.adjust_balance(text, numeric, text, text) TO order_mgmt_operator;

-- Everything that changed a balance, oldest first: adjustments and the charges of shipped orders
-- (kind), with the balance after each. since <= at < until; after: an event_id.
CREATE FUNCTION order_mgmt.account_statement(
    customer_id text,
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    after bigint DEFAULT NULL,
    page_size bigint DEFAULT 50
)
RETURNS TABLE (
    event_id bigint,
    at timestamptz,
    kind text,
    amount numeric,
    balance_after numeric,
    order_id uuid,
    reason text
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_account_statement';
COMMENT ON FUNCTION order_mgmt.account_statement(text, timestamptz, timestamptz, bigint, bigint) IS
    'Changes of a balance, oldest first: kind adjustment or charge, amount and balance_after in currency units; since <= at < until, beginning after event_id. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.account_statement(text, timestamptz, timestamptz, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.account_statement(text, timestamptz, timestamptz, bigint, bigint) TO order_mgmt_reader;

-- Deletes an account and erases personal data: name, email and metadata of the account, metadata
-- of its orders. Orders and events stay, under the customer_id alone.
-- Errors: OM004, OM005 while orders are under way.
CREATE FUNCTION order_mgmt.delete_account(
    customer_id text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_delete_account';
COMMENT ON FUNCTION order_mgmt.delete_account(text) IS
    'Deletes an account and erases its personal data, also from its orders; history stays. Errors: OM001, OM004, OM005 (orders under way), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.delete_account(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.delete_account(text) TO order_mgmt_operator;
