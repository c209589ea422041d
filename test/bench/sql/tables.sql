-- The shop without order_mgmt, as all baselines have it: 1,000 accounts and products that never run out, orders and lines
-- in monthly partitions. No history of an order is kept, nothing is held, and nothing but keys is constrained.
CREATE TABLE accounts (customer_id integer PRIMARY KEY, balance numeric(18,2) NOT NULL) WITH (fillfactor = 50);
CREATE TABLE stock (product_id integer PRIMARY KEY, on_hand bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO accounts SELECT n, 1e12 FROM generate_series(1, 1000) AS n;
INSERT INTO stock SELECT n, 1000000000000 FROM generate_series(1, 1000) AS n;

CREATE TABLE orders (
    order_id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    customer_id integer NOT NULL,
    total numeric(14,2) NOT NULL,
    status text NOT NULL DEFAULT 'captured',
    balance_ok boolean,
    stock_ok boolean,
    updated_at timestamptz,
    PRIMARY KEY (order_id, created_at)
) PARTITION BY RANGE (created_at);

CREATE TABLE order_lines (
    order_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    line_no smallint NOT NULL,
    product_id integer NOT NULL,
    quantity integer NOT NULL,
    unit_price numeric(12,2) NOT NULL,
    PRIMARY KEY (order_id, created_at, line_no)
) PARTITION BY RANGE (created_at);

-- A year's worth, as many as a shop of some age has.
SELECT format('CREATE TABLE %1$s_%2$s PARTITION OF %1$s FOR VALUES FROM (%3$L) TO (%4$L) WITH (fillfactor = %5$s)',
              name, to_char(month, 'YYYY_MM'), month, month + interval '1 month', fill)
  FROM generate_series(date_trunc('month', now()) - interval '10 months',
                       date_trunc('month', now()) + interval '1 month', interval '1 month') AS month,
       (VALUES ('orders', 80), ('order_lines', 100)) AS tables(name, fill)
\gexec

-- Orders of one line that nobody has been told about yet.
CREATE FUNCTION add_orders(count integer, at timestamptz DEFAULT NULL, status text DEFAULT 'captured') RETURNS void
LANGUAGE sql AS $$
    WITH added AS (
        INSERT INTO orders (created_at, customer_id, total, status)
        SELECT coalesce(at, clock_timestamp()), 1 + floor(random() * 1000), 9.95 * (1 + floor(random() * 9)), status
          FROM generate_series(1, count)
        RETURNING order_id, created_at, total)
    INSERT INTO order_lines
    SELECT order_id, created_at, 1, 1 + floor(random() * 1000), total / 9.95, 9.95 FROM added;
$$;
