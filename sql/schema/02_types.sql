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

CREATE TYPE order_mgmt.load AS (
    load_id bigint,
    kind text,
    mode text,
    source text,
    options jsonb,
    started_by text,
    status text,
    bytes_total bigint,
    bytes_read bigint,
    rows_read bigint,
    rows_loaded bigint,
    rows_rejected bigint,
    rows_skipped bigint,
    orders_loaded bigint,
    orders_skipped bigint,
    errors bigint,
    sha256 bytea,
    retry_of bigint,
    created_at timestamptz,
    started_at timestamptz,
    updated_at timestamptz,
    finished_at timestamptz,
    rows_per_second double precision,
    estimated_end timestamptz,
    error_code text,
    error text
);
COMMENT ON TYPE order_mgmt.load IS 'A load of a CSV file, and how far it is.';
COMMENT ON COLUMN order_mgmt.load.load_id IS 'Load.';
COMMENT ON COLUMN order_mgmt.load.kind IS 'What the file holds: orders, accounts, products or stock.';
COMMENT ON COLUMN order_mgmt.load.mode IS 'What becomes of orders: capture or history.';
COMMENT ON COLUMN order_mgmt.load.source IS 'Where the file is.';
COMMENT ON COLUMN order_mgmt.load.options IS 'How it is read and what is done with it.';
COMMENT ON COLUMN order_mgmt.load.started_by IS 'Role that asked for it.';
COMMENT ON COLUMN order_mgmt.load.status IS 'queued, reading, writing, done, failed or cancelled.';
COMMENT ON COLUMN order_mgmt.load.bytes_total IS 'Size of the file, as far as it is known.';
COMMENT ON COLUMN order_mgmt.load.bytes_read IS 'Bytes of it that have been read.';
COMMENT ON COLUMN order_mgmt.load.rows_read IS 'Rows that have been read.';
COMMENT ON COLUMN order_mgmt.load.rows_loaded IS 'Rows that have been written.';
COMMENT ON COLUMN order_mgmt.load.rows_rejected IS 'Rows that have been refused.';
COMMENT ON COLUMN order_mgmt.load.rows_skipped IS 'Rows that were there already.';
COMMENT ON COLUMN order_mgmt.load.orders_loaded IS 'Orders that have been written.';
COMMENT ON COLUMN order_mgmt.load.orders_skipped IS 'Orders that were there already.';
COMMENT ON COLUMN order_mgmt.load.errors IS 'Rows of load_errors.';
COMMENT ON COLUMN order_mgmt.load.sha256 IS 'Hash of the file.';
COMMENT ON COLUMN order_mgmt.load.retry_of IS 'Load whose refused rows are tried again.';
COMMENT ON COLUMN order_mgmt.load.created_at IS 'Time at which it was asked for.';
COMMENT ON COLUMN order_mgmt.load.started_at IS 'Time at which it began.';
COMMENT ON COLUMN order_mgmt.load.updated_at IS 'Time of the last change of this row.';
COMMENT ON COLUMN order_mgmt.load.finished_at IS 'Time at which it ended.';
COMMENT ON COLUMN order_mgmt.load.rows_per_second IS 'Rows done per second: since the last start, in the end on the whole.';
COMMENT ON COLUMN order_mgmt.load.estimated_end IS 'When the present status will have passed, if it goes on like this.';
COMMENT ON COLUMN order_mgmt.load.error_code IS 'SQLSTATE of the error that ended it.';
COMMENT ON COLUMN order_mgmt.load.error IS 'Message of that error, with its hint.';
REVOKE ALL ON TYPE order_mgmt.load FROM PUBLIC;
GRANT USAGE ON TYPE order_mgmt.load TO order_mgmt_reader;

CREATE TYPE order_mgmt.model AS (
    name text,
    kind text,
    version bigint,
    deployed boolean,
    options jsonb,
    trained_at timestamptz,
    metrics jsonb
);
COMMENT ON TYPE order_mgmt.model IS 'A version of a model.';
COMMENT ON COLUMN order_mgmt.model.name IS 'Model.';
COMMENT ON COLUMN order_mgmt.model.kind IS 'What it is: sql, next_basket, demand, or a kind that is a library.';
COMMENT ON COLUMN order_mgmt.model.version IS 'Number of the training, from 1; 0: not trained.';
COMMENT ON COLUMN order_mgmt.model.deployed IS 'Whether this version predicts.';
COMMENT ON COLUMN order_mgmt.model.options IS 'Options of the model.';
COMMENT ON COLUMN order_mgmt.model.trained_at IS 'Time at which the version was trained.';
COMMENT ON COLUMN order_mgmt.model.metrics IS 'How good it is, as its training has measured it.';
REVOKE ALL ON TYPE order_mgmt.model FROM PUBLIC;
GRANT USAGE ON TYPE order_mgmt.model TO order_mgmt_reader;
