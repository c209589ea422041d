/*
 * Row types of results.  They are members of the extension; the data tables,
 * which setup() makes, are not, so nothing here depends on a table.
 */
CREATE TYPE order_mgmt.account AS (
    customer_id text,
    name text,
    email text,
    metadata jsonb,
    balance numeric,
    reserved numeric,
    created_at timestamptz,
    updated_at timestamptz
);
COMMENT ON TYPE order_mgmt.account IS 'A customer and its credit.';
COMMENT ON COLUMN order_mgmt.account.customer_id IS 'Customer.';
COMMENT ON COLUMN order_mgmt.account.name IS 'Name, for people.';
COMMENT ON COLUMN order_mgmt.account.email IS 'E-mail address.';
COMMENT ON COLUMN order_mgmt.account.metadata IS 'Whatever the application keeps with the customer.';
COMMENT ON COLUMN order_mgmt.account.balance IS 'Credit, in currency units.';
COMMENT ON COLUMN order_mgmt.account.reserved IS 'Part of it that is held for orders under way.';
COMMENT ON COLUMN order_mgmt.account.created_at IS 'Time at which the account was made.';
COMMENT ON COLUMN order_mgmt.account.updated_at IS 'Time of the last change.';
REVOKE ALL ON TYPE order_mgmt.account FROM PUBLIC;
GRANT USAGE ON TYPE order_mgmt.account TO order_mgmt_reader;

CREATE TYPE order_mgmt.product AS (
    product_id text,
    name text,
    unit_price numeric,
    metadata jsonb,
    on_hand bigint,
    reserved bigint,
    available bigint,
    created_at timestamptz,
    updated_at timestamptz
);
COMMENT ON TYPE order_mgmt.product IS 'A product with its stock; on_hand, reserved and available are null where it has none.';
COMMENT ON COLUMN order_mgmt.product.product_id IS 'Product.';
COMMENT ON COLUMN order_mgmt.product.name IS 'Name, for people.';
COMMENT ON COLUMN order_mgmt.product.unit_price IS 'Price of order lines that give none, in currency units.';
COMMENT ON COLUMN order_mgmt.product.metadata IS 'Whatever the application keeps with the product.';
COMMENT ON COLUMN order_mgmt.product.on_hand IS 'Units there.';
COMMENT ON COLUMN order_mgmt.product.reserved IS 'Units of them that are held for orders under way.';
COMMENT ON COLUMN order_mgmt.product.available IS 'Units that can still be sold.';
COMMENT ON COLUMN order_mgmt.product.created_at IS 'Time at which the product was made.';
COMMENT ON COLUMN order_mgmt.product.updated_at IS 'Time of the last change.';
REVOKE ALL ON TYPE order_mgmt.product FROM PUBLIC;
GRANT USAGE ON TYPE order_mgmt.product TO order_mgmt_reader;
