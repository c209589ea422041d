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
