-- Loads orders from CSV, once the transaction has committed: source is a path on the server (needs
-- pg_read_server_files), 'upload:UUID', 'lo:OID' or 'staged'; mode is 'capture' (the orders are checked
-- like any other) or 'history' (they have been shipped already). Returns the load_id, for
-- wait_for_load() and table loads. Where no worker runs, the file is loaded by the call, and in its
-- transaction.
CREATE FUNCTION order_mgmt.load_orders_csv(
    source text,
    mode text DEFAULT 'capture',
    options jsonb DEFAULT '{}'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_load_orders_csv';
COMMENT ON FUNCTION order_mgmt.load_orders_csv(text, text, jsonb) IS
    'Loads orders from CSV in the background once the transaction has committed; returns the load_id. Without workers the call itself loads them. Errors: OM001, OM006, 42501; without workers also those that end a load, OM007 among them.';
REVOKE ALL ON FUNCTION order_mgmt.load_orders_csv(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.load_orders_csv(text, text, jsonb) TO order_mgmt_operator;

-- The same for accounts, products and stock: new ones are added, those that are there are changed.
CREATE FUNCTION order_mgmt.load_accounts_csv(
    source text,
    options jsonb DEFAULT '{}'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_load_accounts_csv';
COMMENT ON FUNCTION order_mgmt.load_accounts_csv(text, jsonb) IS
    'Loads accounts from CSV as load_orders_csv() does orders; returns the load_id. Errors: as there.';
REVOKE ALL ON FUNCTION order_mgmt.load_accounts_csv(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.load_accounts_csv(text, jsonb) TO order_mgmt_operator;

-- The same for products.
CREATE FUNCTION order_mgmt.load_products_csv(
    source text,
    options jsonb DEFAULT '{}'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_load_products_csv';
COMMENT ON FUNCTION order_mgmt.load_products_csv(text, jsonb) IS
    'Loads products from CSV as load_orders_csv() does orders; returns the load_id. Errors: as there.';
REVOKE ALL ON FUNCTION order_mgmt.load_products_csv(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.load_products_csv(text, jsonb) TO order_mgmt_operator;

-- The same for stock.
CREATE FUNCTION order_mgmt.load_stock_csv(
    source text,
    options jsonb DEFAULT '{}'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_load_stock_csv';
COMMENT ON FUNCTION order_mgmt.load_stock_csv(text, jsonb) IS
    'Loads stock from CSV as load_orders_csv() does orders; returns the load_id. Errors: as there.';
REVOKE ALL ON FUNCTION order_mgmt.load_stock_csv(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.load_stock_csv(text, jsonb) TO order_mgmt_operator;

-- Waits until a load has ended, or the time is up, and returns how far it is; that it has failed is
-- in its row.
CREATE FUNCTION order_mgmt.wait_for_load(
    load_id bigint,
    timeout interval DEFAULT '1h'
)
RETURNS order_mgmt.load
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_wait_for_load';
COMMENT ON FUNCTION order_mgmt.wait_for_load(bigint, interval) IS
    'Waits until a load has ended or the time is up; returns its row. Errors: OM001, OM004, OM005 (the load belongs to this very transaction; REPEATABLE READ), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.wait_for_load(bigint, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.wait_for_load(bigint, interval) TO order_mgmt_app;

-- Ends a load, at its next commit if it runs. What it has committed stays, and its row says how much
-- that is. False: it has ended before.
CREATE FUNCTION order_mgmt.cancel_load(
    load_id bigint
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_cancel_load';
COMMENT ON FUNCTION order_mgmt.cancel_load(bigint) IS
    'Ends a load that is queued or runs; false when it has ended already. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.cancel_load(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.cancel_load(bigint) TO order_mgmt_operator;

-- Loads the refused rows of a load that has ended again: those that it has kept, or as csv the same
-- rows mended, with their header (see rejected_csv()). Returns the new load_id.
CREATE FUNCTION order_mgmt.retry_load(
    load_id bigint,
    csv text DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_retry_load';
COMMENT ON FUNCTION order_mgmt.retry_load(bigint, text) IS
    'Loads the refused rows of a load again, as they were or mended (csv); returns the new load_id. Errors: OM001, OM004, OM005 (it has not ended, has refused nothing, or has not kept a row as it was), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.retry_load(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.retry_load(bigint, text) TO order_mgmt_operator;

-- The refused rows of a load as CSV, header first, each once and in the order of the file. A WARNING
-- tells when some are not kept as the file had them (longer than 8 kB, or not valid in their
-- encoding).
CREATE FUNCTION order_mgmt.rejected_csv(
    load_id bigint
)
RETURNS SETOF text
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_rejected_csv';
COMMENT ON FUNCTION order_mgmt.rejected_csv(bigint) IS
    'Refused rows of a load as CSV, after the header of its file. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.rejected_csv(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.rejected_csv(bigint) TO order_mgmt_app;
