-- Captures an order and returns its id; the checks follow when the transaction has committed.
-- lines: [{"product_id", "quantity", "unit_price"}, ...], unit_price defaulting to the product's.
-- The same request with the same key (per customer) returns the first order's id.
-- Errors: OM001 with the path in DETAIL, OM002, OM006.
CREATE FUNCTION order_mgmt.capture_order(
    customer_id text,
    lines jsonb,
    idempotency_key text DEFAULT NULL,
    order_ref text DEFAULT NULL,
    metadata jsonb DEFAULT '{}',
    expected_total numeric DEFAULT NULL
)
RETURNS uuid
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_capture_order';
COMMENT ON FUNCTION order_mgmt.capture_order(text, jsonb, text, text, jsonb, numeric) IS
    'Captures an order: lines is a JSON array of {product_id, quantity, unit_price}, prices in currency units. Returns the order id, of the first order when idempotency_key repeats it. Errors: OM001, OM002, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.capture_order(text, jsonb, text, text, jsonb, numeric) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.capture_order(text, jsonb, text, text, jsonb, numeric) TO order_mgmt_app;

-- Captures many orders in one transaction. orders: [{customer_id, lines, idempotency_key?,
-- order_ref?, metadata?, expected_total?}, ...]. on_error: reject_failed captures the valid ones and
-- reports the others, reject_all raises the first problem and captures none.
CREATE FUNCTION order_mgmt.capture_orders(
    orders jsonb,
    on_error text DEFAULT 'reject_failed'
)
RETURNS TABLE (
    ordinal bigint,
    order_id uuid,
    created boolean,
    error_code text,
    path text,
    message text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_capture_orders';
COMMENT ON FUNCTION order_mgmt.capture_orders(jsonb, text) IS
    'Captures an array of orders; one row each, with order_id or error_code, path and message. on_error: reject_failed or reject_all. created is false where a key repeats an order. Errors: OM001, OM002 (reject_all), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.capture_orders(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.capture_orders(jsonb, text) TO order_mgmt_app;

-- Would this order pass now? Returns {passes, total, reasons, shortages}; changes nothing.
CREATE FUNCTION order_mgmt.preview_order(
    customer_id text,
    lines jsonb
)
RETURNS jsonb
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_preview_order';
COMMENT ON FUNCTION order_mgmt.preview_order(text, jsonb) IS
    'Would this order pass now? Returns {passes, total, reasons, shortages: [{product_id or customer_id, requested, available}]}; changes nothing. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.preview_order(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.preview_order(text, jsonb) TO order_mgmt_reader;

-- Cancels an order and captures another with these lines for the same customer, in one
-- transaction, linked both ways (metadata.replaces, detail.replaced_by). Returns the new id.
CREATE FUNCTION order_mgmt.replace_order(
    order_id uuid,
    lines jsonb,
    idempotency_key text DEFAULT NULL
)
RETURNS uuid
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_replace_order';
COMMENT ON FUNCTION order_mgmt.replace_order(uuid, jsonb, text) IS
    'Cancels an order and captures its replacement in one transaction; returns the new order id. Errors: OM001, OM002, OM004, OM005 (not captured or confirmed), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.replace_order(uuid, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.replace_order(uuid, jsonb, text) TO order_mgmt_app;
