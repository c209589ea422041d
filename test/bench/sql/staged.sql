-- A CSV load as one writes it by hand: everything comes in as text, one statement finds what is wrong, one writes the rest.
CREATE UNLOGGED TABLE stage (
    line bigint GENERATED ALWAYS AS IDENTITY,
    order_id uuid NOT NULL DEFAULT gen_random_uuid(),
    order_ref text,
    customer_id text,
    product_id text,
    quantity text,
    unit_price text,
    created_at text
);
CREATE TABLE rejects (line bigint NOT NULL, reason text NOT NULL, row_as_json jsonb NOT NULL);
ALTER TABLE orders ADD order_ref text;

CREATE FUNCTION load_stage() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rejects
    SELECT line, reason, to_jsonb(checked)
      FROM (SELECT s.*, CASE
                WHEN s.quantity !~ '^[1-9][0-9]{0,8}$' THEN 'quantity'
                WHEN s.unit_price !~ '^[0-9]{1,10}([.][0-9]{1,4})?$' THEN 'unit_price'
                WHEN s.created_at !~ '^20[0-9]{2}-(0[1-9]|1[0-2])-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]' THEN 'created_at'
                WHEN a.customer_id IS NULL THEN 'customer_id'
                WHEN p.product_id IS NULL THEN 'product_id'
                WHEN row_number() OVER (PARTITION BY s.order_ref ORDER BY s.line) > 1 THEN 'order_ref' END AS reason
              FROM stage AS s
              LEFT JOIN accounts AS a ON a.customer_id = s.customer_id::integer
              LEFT JOIN stock AS p ON p.product_id = s.product_id::integer) AS checked
     WHERE reason IS NOT NULL;
    WITH good AS MATERIALIZED (
        SELECT order_id, order_ref, customer_id::integer AS customer_id, product_id::integer AS product_id,
               quantity::integer AS quantity, unit_price::numeric(12,2) AS unit_price, created_at::timestamptz AS created_at
          FROM stage AS s WHERE NOT EXISTS (SELECT FROM rejects AS r WHERE r.line = s.line)),
    captured AS (
        INSERT INTO orders (order_id, created_at, customer_id, total, status, order_ref)
        SELECT order_id, created_at, customer_id, quantity * unit_price, 'shipped', order_ref FROM good)
    INSERT INTO order_lines SELECT order_id, created_at, 1, product_id, quantity, unit_price FROM good;
END
$$;
