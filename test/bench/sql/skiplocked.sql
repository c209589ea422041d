-- The pipeline as one writes it by hand: a table per queue, and workers that take rows with SKIP LOCKED.
-- A call is a batch and a transaction. What a check needs travels in the queue, so no check looks at an order.
CREATE TABLE balance_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL, created_at timestamptz NOT NULL, customer_id integer NOT NULL, total numeric(14,2) NOT NULL);
CREATE TABLE stock_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL, created_at timestamptz NOT NULL, product_id integer NOT NULL, quantity integer NOT NULL);
CREATE TABLE verdict_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id uuid NOT NULL, created_at timestamptz NOT NULL, about_stock boolean NOT NULL, ok boolean NOT NULL);
CREATE TABLE ship_queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id uuid NOT NULL, created_at timestamptz NOT NULL);

CREATE FUNCTION enqueue_orders() RETURNS void LANGUAGE sql AS $$
    INSERT INTO balance_queue (order_id, created_at, customer_id, total)
    SELECT order_id, created_at, customer_id, total FROM orders WHERE status = 'captured' ORDER BY created_at;
    INSERT INTO stock_queue (order_id, created_at, product_id, quantity)
    SELECT order_id, created_at, product_id, quantity FROM order_lines ORDER BY created_at;
$$;

CREATE FUNCTION check_balance(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    handled bigint;
BEGIN
    WITH taken AS (
        DELETE FROM balance_queue
         WHERE id = ANY (ARRAY(SELECT id FROM balance_queue ORDER BY id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING order_id, created_at, customer_id, total)
    INSERT INTO verdict_queue (order_id, created_at, about_stock, ok)
    SELECT order_id, created_at, false,
           (SELECT balance >= taken.total FROM accounts WHERE accounts.customer_id = taken.customer_id)
      FROM taken;
    GET DIAGNOSTICS handled = ROW_COUNT;
    RETURN handled;
END $$;

CREATE FUNCTION check_stock(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    handled bigint;
BEGIN
    WITH taken AS (
        DELETE FROM stock_queue
         WHERE id = ANY (ARRAY(SELECT id FROM stock_queue ORDER BY id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING order_id, created_at, product_id, quantity)
    INSERT INTO verdict_queue (order_id, created_at, about_stock, ok)
    SELECT order_id, created_at, true,
           (SELECT on_hand >= taken.quantity FROM stock WHERE stock.product_id = taken.product_id)
      FROM taken;
    GET DIAGNOSTICS handled = ROW_COUNT;
    RETURN handled;
END $$;

-- An order whose two verdicts lie in one batch is updated once.
CREATE FUNCTION join_verdicts(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    handled bigint;
BEGIN
    WITH taken AS (
        DELETE FROM verdict_queue
         WHERE id = ANY (ARRAY(SELECT id FROM verdict_queue ORDER BY id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING order_id, created_at, about_stock, ok),
    verdicts AS (
        SELECT order_id, created_at,
               bool_and(ok) FILTER (WHERE NOT about_stock) AS balance_ok,
               bool_and(ok) FILTER (WHERE about_stock) AS stock_ok
          FROM taken GROUP BY order_id, created_at),
    joined AS (
        UPDATE orders AS o
           SET balance_ok = coalesce(v.balance_ok, o.balance_ok),
               stock_ok = coalesce(v.stock_ok, o.stock_ok),
               status = CASE coalesce(v.balance_ok, o.balance_ok) AND coalesce(v.stock_ok, o.stock_ok)
                            WHEN true THEN 'confirmed'
                            WHEN false THEN 'rejected'
                            ELSE o.status END
          FROM verdicts AS v
         WHERE o.order_id = v.order_id AND o.created_at = v.created_at
        RETURNING o.order_id, o.created_at, o.status),
    told AS (
        INSERT INTO ship_queue (order_id, created_at)
        SELECT order_id, created_at FROM joined WHERE status = 'confirmed')
    SELECT count(*) INTO handled FROM taken;
    RETURN handled;
END $$;

CREATE FUNCTION ship(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    handled bigint;
BEGIN
    WITH taken AS (
        DELETE FROM ship_queue
         WHERE id = ANY (ARRAY(SELECT id FROM ship_queue ORDER BY id LIMIT batch FOR UPDATE SKIP LOCKED))
        RETURNING order_id, created_at),
    shipped AS (
        UPDATE orders AS o SET status = 'shipped', updated_at = clock_timestamp()
          FROM taken
         WHERE o.order_id = taken.order_id AND o.created_at = taken.created_at
        RETURNING o.customer_id, o.total),
    debited AS (
        UPDATE accounts AS a SET balance = balance - s.total
          FROM (SELECT customer_id, sum(total) AS total FROM shipped GROUP BY customer_id) AS s
         WHERE a.customer_id = s.customer_id),
    taken_out AS (
        UPDATE stock AS k SET on_hand = on_hand - l.quantity
          FROM (SELECT product_id, sum(quantity) AS quantity
                  FROM taken JOIN order_lines USING (order_id, created_at) GROUP BY product_id) AS l
         WHERE k.product_id = l.product_id)
    SELECT count(*) INTO handled FROM taken;
    RETURN handled;
END $$;
