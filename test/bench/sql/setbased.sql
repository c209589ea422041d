-- The limit: one statement that checks and ships all that is queued, and empties both queues, by running sums. Uses the
-- tables of skiplocked.sql. It serves nobody meanwhile, holds nothing, and keeps no record of what it did.
CREATE FUNCTION ship_everything() RETURNS bigint LANGUAGE sql SET enable_nestloop = off SET work_mem = '256MB' AS $$
    WITH to_pay AS (
        DELETE FROM balance_queue RETURNING order_id, created_at, customer_id, total),
    to_pick AS (
        DELETE FROM stock_queue RETURNING order_id, created_at, product_id, quantity),
    paid AS (
        SELECT p.order_id, p.created_at, p.customer_id, p.total,
               a.balance >= sum(p.total) OVER (PARTITION BY p.customer_id ORDER BY p.created_at, p.order_id
                                               ROWS UNBOUNDED PRECEDING) AS ok
          FROM to_pay AS p JOIN accounts AS a USING (customer_id)),
    picked AS (
        SELECT p.order_id, p.product_id, p.quantity,
               s.on_hand >= sum(p.quantity) OVER (PARTITION BY p.product_id ORDER BY p.created_at, p.order_id
                                                  ROWS UNBOUNDED PRECEDING) AS ok
          FROM to_pick AS p JOIN stock AS s USING (product_id)),
    decided AS MATERIALIZED (
        SELECT paid.order_id, paid.created_at, customer_id, total, product_id, quantity,
               paid.ok AS balance_ok, picked.ok AS stock_ok
          FROM paid JOIN picked USING (order_id)),
    debited AS (
        UPDATE accounts AS a SET balance = balance - d.total
          FROM (SELECT customer_id, sum(total) AS total
                  FROM decided WHERE balance_ok AND stock_ok GROUP BY customer_id) AS d
         WHERE a.customer_id = d.customer_id),
    taken_out AS (
        UPDATE stock AS s SET on_hand = on_hand - d.quantity
          FROM (SELECT product_id, sum(quantity) AS quantity
                  FROM decided WHERE balance_ok AND stock_ok GROUP BY product_id) AS d
         WHERE s.product_id = d.product_id),
    updated AS (
        UPDATE orders AS o
           SET balance_ok = d.balance_ok, stock_ok = d.stock_ok, updated_at = clock_timestamp(),
               status = CASE WHEN d.balance_ok AND d.stock_ok THEN 'shipped' ELSE 'rejected' END
          FROM decided AS d
         WHERE o.order_id = d.order_id AND o.created_at = d.created_at
        RETURNING 1)
    SELECT count(*) FROM updated;
$$;
