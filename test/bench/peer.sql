-- What order_mgmt is measured against: the same pipeline written by hand with queue tables and
-- SKIP LOCKED, one batch a call. It holds and posts credit and stock as order_mgmt does, but keeps
-- no history, and decides a batch by running sums instead of order by order.
CREATE SCHEMA peer;
SET search_path = peer;

CREATE TABLE accounts (customer_id text COLLATE "C" PRIMARY KEY, balance bigint NOT NULL,
                       reserved bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE stock (product_id text COLLATE "C" PRIMARY KEY, on_hand bigint NOT NULL,
                    reserved bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TABLE orders (order_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                     created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                     customer_id text COLLATE "C" NOT NULL, total bigint NOT NULL,
                     status text NOT NULL DEFAULT 'captured',
                     balance_ok boolean, stock_ok boolean) WITH (fillfactor = 50);
CREATE TABLE order_lines (order_id uuid, line_no integer, product_id text COLLATE "C" NOT NULL,
                          quantity integer NOT NULL, unit_price bigint NOT NULL,
                          PRIMARY KEY (order_id, line_no));
CREATE TABLE balance_queue (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid NOT NULL);
CREATE TABLE stock_queue (LIKE balance_queue INCLUDING ALL);
CREATE TABLE verdict_queue (LIKE balance_queue INCLUDING ALL, balance_ok boolean, stock_ok boolean);
CREATE TABLE ship_queue (LIKE balance_queue INCLUDING ALL);

CREATE FUNCTION check_balance(batch integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH taken AS (
        DELETE FROM peer.balance_queue
         WHERE id = ANY (ARRAY(SELECT id FROM peer.balance_queue ORDER BY id LIMIT batch
                                  FOR UPDATE SKIP LOCKED))
        RETURNING id, order_id),
    wanted AS (
        SELECT id, order_id, customer_id, total,
               sum(total) OVER (PARTITION BY customer_id ORDER BY id) AS so_far
          FROM taken JOIN peer.orders USING (order_id)),
    decided AS (
        SELECT w.*, coalesce(so_far <= balance - reserved, false) AS ok
          FROM wanted AS w LEFT JOIN peer.accounts USING (customer_id)),
    held AS (
        UPDATE peer.accounts AS a SET reserved = reserved + d.total
          FROM (SELECT customer_id, sum(total) AS total FROM decided WHERE ok GROUP BY 1) AS d
         WHERE a.customer_id = d.customer_id),
    told AS (
        INSERT INTO peer.verdict_queue (order_id, balance_ok) SELECT order_id, ok FROM decided ORDER BY id)
    SELECT count(*) FROM decided;
$$;

CREATE FUNCTION check_stock(batch integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH taken AS (
        DELETE FROM peer.stock_queue
         WHERE id = ANY (ARRAY(SELECT id FROM peer.stock_queue ORDER BY id LIMIT batch
                                  FOR UPDATE SKIP LOCKED))
        RETURNING id, order_id),
    wanted AS (
        SELECT id, order_id, product_id, sum(quantity) AS quantity,
               sum(sum(quantity)) OVER (PARTITION BY product_id ORDER BY id) AS so_far
          FROM taken JOIN peer.order_lines USING (order_id)
         GROUP BY id, order_id, product_id),
    decided AS (
        SELECT id, order_id, bool_and(coalesce(so_far <= on_hand - reserved, false)) AS ok
          FROM wanted LEFT JOIN peer.stock USING (product_id)
         GROUP BY id, order_id),
    held AS (
        UPDATE peer.stock AS s SET reserved = reserved + w.quantity
          FROM (SELECT product_id, sum(quantity) AS quantity
                  FROM wanted JOIN decided USING (id) WHERE ok GROUP BY 1) AS w
         WHERE s.product_id = w.product_id),
    told AS (
        INSERT INTO peer.verdict_queue (order_id, stock_ok) SELECT order_id, ok FROM decided ORDER BY id)
    SELECT count(*) FROM decided;
$$;

-- Rejected orders' holds are not released here: the benchmark rejects none.
CREATE FUNCTION join_verdicts(batch integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH taken AS (
        DELETE FROM peer.verdict_queue
         WHERE id = ANY (ARRAY(SELECT id FROM peer.verdict_queue ORDER BY id LIMIT batch
                                  FOR UPDATE SKIP LOCKED))
        RETURNING *),
    verdicts AS (
        SELECT order_id, bool_and(balance_ok) AS balance_ok, bool_and(stock_ok) AS stock_ok
          FROM taken GROUP BY order_id),
    joined AS (
        UPDATE peer.orders AS o
           SET balance_ok = coalesce(v.balance_ok, o.balance_ok),
               stock_ok = coalesce(v.stock_ok, o.stock_ok),
               status = CASE
                   WHEN coalesce(v.balance_ok, o.balance_ok) AND coalesce(v.stock_ok, o.stock_ok)
                   THEN 'confirmed'
                   WHEN NOT coalesce(v.balance_ok, o.balance_ok, true)
                     OR NOT coalesce(v.stock_ok, o.stock_ok, true)
                   THEN 'rejected'
                   ELSE o.status END
          FROM verdicts AS v WHERE o.order_id = v.order_id
        RETURNING o.order_id, o.status),
    told AS (
        INSERT INTO peer.ship_queue (order_id) SELECT order_id FROM joined WHERE status = 'confirmed')
    SELECT count(*) FROM taken;
$$;

CREATE FUNCTION ship(batch integer) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    WITH taken AS (
        DELETE FROM peer.ship_queue
         WHERE id = ANY (ARRAY(SELECT id FROM peer.ship_queue ORDER BY id LIMIT batch
                                  FOR UPDATE SKIP LOCKED))
        RETURNING order_id),
    shipped AS (
        UPDATE peer.orders AS o SET status = 'shipped'
          FROM taken WHERE o.order_id = taken.order_id
        RETURNING o.order_id, o.customer_id, o.total),
    debited AS (
        UPDATE peer.accounts AS a SET balance = balance - s.total, reserved = reserved - s.total
          FROM (SELECT customer_id, sum(total) AS total FROM shipped GROUP BY 1) AS s
         WHERE a.customer_id = s.customer_id),
    taken_out AS (
        UPDATE peer.stock AS k SET on_hand = on_hand - l.quantity, reserved = reserved - l.quantity
          FROM (SELECT product_id, sum(quantity) AS quantity
                  FROM taken JOIN peer.order_lines USING (order_id) GROUP BY 1) AS l
         WHERE k.product_id = l.product_id)
    SELECT count(*) FROM taken;
$$;

-- All stages in turn, a commit a batch, until nothing is left.
CREATE PROCEDURE drain(batch integer) LANGUAGE plpgsql AS $$
DECLARE
    handled bigint;
BEGIN
    LOOP
        handled := peer.check_balance(batch);
        COMMIT;
        handled := handled + peer.check_stock(batch);
        COMMIT;
        handled := handled + peer.join_verdicts(batch);
        COMMIT;
        handled := handled + peer.ship(batch);
        COMMIT;
        EXIT WHEN handled = 0;
    END LOOP;
END $$;
