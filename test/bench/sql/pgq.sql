-- PgQ as it is meant to be used: the two checks are consumers of one queue, verdicts and shipments go through two more.
-- An event is five text fields (id, time, and three that differ), which parse faster than JSON would.
CREATE EXTENSION pgq;
SELECT count(pgq.create_queue(queue)) FROM unnest('{captured,checked,confirmed}'::text[]) AS queue \g /dev/null
SELECT pgq.register_consumer(queue, consumer)
  FROM (VALUES ('captured', 'balance'), ('captured', 'stock'), ('checked', 'updater'), ('confirmed', 'shipper'))
       AS c(queue, consumer) \g /dev/null
SELECT pgq.set_queue_config(queue, parameter, value)
  FROM unnest('{captured,checked,confirmed}'::text[]) AS queue,
       (VALUES ('ticker_max_lag', '50 ms'), ('ticker_idle_period', '1 s')) AS p(parameter, value) \g /dev/null

CREATE TABLE backlog (n bigint, order_id uuid, created_at timestamptz, customer_id integer, total numeric(14,2),
                      product_id integer, quantity integer);
CREATE FUNCTION number_orders() RETURNS void LANGUAGE sql AS $$
    INSERT INTO backlog
    SELECT row_number() OVER (ORDER BY created_at), order_id, created_at, customer_id, total, product_id, quantity
      FROM orders JOIN order_lines USING (order_id, created_at);
    CREATE INDEX ON backlog (n);
$$;
-- Tells of a slice of them and closes it with a tick, so that it becomes a batch.
CREATE FUNCTION enqueue_orders(first bigint, count bigint) RETURNS void LANGUAGE sql AS $$
    SELECT count(pgq.insert_event('captured', 'order', order_id::text, created_at::text, customer_id::text, total::text,
                                  product_id || ' ' || quantity))
      FROM backlog WHERE n >= first AND n < first + count;
$$;

CREATE FUNCTION check_balance(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    b bigint := pgq.next_batch('captured', 'balance');
    handled bigint;
BEGIN
    IF b IS NULL THEN RETURN 0; END IF;
    SELECT count(pgq.insert_event('checked', 'balance', e.ev_data, e.ev_extra1,
                                  (SELECT balance >= e.ev_extra3::numeric FROM accounts
                                    WHERE customer_id = e.ev_extra2::integer)::text, NULL, NULL))
      INTO handled FROM pgq.get_batch_events(b) AS e;
    PERFORM pgq.finish_batch(b);
    RETURN 1 + handled;
END $$;

CREATE FUNCTION check_stock(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    b bigint := pgq.next_batch('captured', 'stock');
    handled bigint;
BEGIN
    IF b IS NULL THEN RETURN 0; END IF;
    SELECT count(pgq.insert_event('checked', 'stock', e.ev_data, e.ev_extra1,
                                  (SELECT on_hand >= split_part(e.ev_extra4, ' ', 2)::integer FROM stock
                                    WHERE product_id = split_part(e.ev_extra4, ' ', 1)::integer)::text, NULL, NULL))
      INTO handled FROM pgq.get_batch_events(b) AS e;
    PERFORM pgq.finish_batch(b);
    RETURN 1 + handled;
END $$;

CREATE FUNCTION join_verdicts(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    b bigint := pgq.next_batch('checked', 'updater');
    handled bigint;
BEGIN
    IF b IS NULL THEN RETURN 0; END IF;
    WITH verdicts AS (
        SELECT ev_data::uuid AS order_id, ev_extra1::timestamptz AS created_at,
               bool_and(ev_extra2::boolean) FILTER (WHERE ev_type = 'balance') AS balance_ok,
               bool_and(ev_extra2::boolean) FILTER (WHERE ev_type = 'stock') AS stock_ok
          FROM pgq.get_batch_events(b) GROUP BY ev_data, ev_extra1),
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
        RETURNING o.order_id, o.created_at, o.status)
    SELECT count(CASE WHEN status = 'confirmed'
                      THEN pgq.insert_event('confirmed', 'order', order_id::text, created_at::text, NULL, NULL, NULL) END)
      INTO handled FROM joined;
    PERFORM pgq.finish_batch(b);
    RETURN 1 + handled;
END $$;

CREATE FUNCTION ship(batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    b bigint := pgq.next_batch('confirmed', 'shipper');
    handled bigint;
BEGIN
    IF b IS NULL THEN RETURN 0; END IF;
    WITH taken AS MATERIALIZED (
        SELECT ev_data::uuid AS order_id, ev_extra1::timestamptz AS created_at FROM pgq.get_batch_events(b)),
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
    PERFORM pgq.finish_batch(b);
    RETURN 1 + handled;
END $$;
