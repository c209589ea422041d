-- Creates or changes a product. NULL keeps, '' clears the name, metadata replaces. unit_price, in
-- currency units, is the default of order lines without a price.
CREATE FUNCTION order_mgmt.set_product(
    product_id text,
    name text DEFAULT NULL,
    unit_price numeric DEFAULT NULL,
    metadata jsonb DEFAULT NULL
)
RETURNS order_mgmt.product
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_product';
COMMENT ON FUNCTION order_mgmt.set_product(text, text, numeric, jsonb) IS
    'Creates or changes a product: NULL keeps, '''' clears, metadata replaces; unit_price in currency units. Returns the product. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.set_product(text, text, numeric, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_product(text, text, numeric, jsonb) TO order_mgmt_operator;

-- A product with its stock; no row when there is none.
CREATE FUNCTION order_mgmt.get_product(
    product_id text
)
RETURNS SETOF order_mgmt.product
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_get_product';
COMMENT ON FUNCTION order_mgmt.get_product(text) IS
    'A product with its stock; no row when there is none. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.get_product(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.get_product(text) TO order_mgmt_reader;

-- Products in the order of product_id, all or those named, after the given one.
CREATE FUNCTION order_mgmt.list_products(
    product_ids text[] DEFAULT NULL,
    after text DEFAULT NULL,
    page_size bigint DEFAULT 50
)
RETURNS SETOF order_mgmt.product
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_list_products';
COMMENT ON FUNCTION order_mgmt.list_products(text[], text, bigint) IS
    'Products by product_id, all or those named, beginning after the given one; page_size 1 to 10000 rows. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.list_products(text[], text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.list_products(text[], text, bigint) TO order_mgmt_reader;

-- Sets the units on hand, creating the product when it is new; the difference becomes an event.
-- Errors: OM001, OM005 below what is held.
CREATE FUNCTION order_mgmt.set_stock(
    product_id text,
    on_hand bigint
)
RETURNS TABLE (
    product_id text,
    on_hand bigint,
    reserved bigint,
    updated_at timestamptz
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_stock';
COMMENT ON FUNCTION order_mgmt.set_stock(text, bigint) IS
    'Sets the units on hand of a product, which is created when new. Returns its stock. Errors: OM001, OM005 (below what is held), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.set_stock(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_stock(text, bigint) TO order_mgmt_operator;

-- Adds delta units (may be negative) to the stock and returns what is on hand then. Repeated with
-- the same idempotency_key it returns the first result and changes nothing.
CREATE FUNCTION order_mgmt.adjust_stock(
    product_id text,
    delta bigint,
    reason text DEFAULT NULL,
    idempotency_key text DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_adjust_stock';
COMMENT ON FUNCTION order_mgmt.adjust_stock(text, bigint, text, text) IS
    'Adds delta units to the stock of a product; returns units on hand. Errors: OM001, OM002 (key used with another request), OM004, OM005 (below what is held), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.adjust_stock(text, bigint, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.adjust_stock(text, bigint, text, text) TO order_mgmt_operator;

-- Everything that changed the stock of a product, oldest first: adjustments and shipments (kind),
-- with the units on hand after each. Reads the order lines of all months: for administration.
CREATE FUNCTION order_mgmt.stock_statement(
    product_id text,
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    after bigint DEFAULT NULL,
    page_size bigint DEFAULT 50
)
RETURNS TABLE (
    event_id bigint,
    at timestamptz,
    kind text,
    quantity bigint,
    on_hand_after bigint,
    order_id uuid,
    reason text
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_stock_statement';
COMMENT ON FUNCTION order_mgmt.stock_statement(text, timestamptz, timestamptz, bigint, bigint) IS
    'Changes of the stock of a product, oldest first: kind adjustment or shipment, quantity and on_hand_after in units; since <= at < until, beginning after event_id. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.stock_statement(text, timestamptz, timestamptz, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.stock_statement(text, timestamptz, timestamptz, bigint, bigint) TO order_mgmt_reader;
