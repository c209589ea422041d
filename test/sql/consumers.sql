-- Programs outside the server: batches, from one committed step to the next.
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_consumers;
ALTER DATABASE order_mgmt_consumers SET order_mgmt.workers = off;
\connect order_mgmt_consumers
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup();
SELECT balance FROM order_mgmt.set_account('ann', 100);
SELECT on_hand FROM order_mgmt.set_stock('p', 1000);
CREATE FUNCTION capture(ref text, quantity bigint DEFAULT 1) RETURNS text LANGUAGE sql AS $$
    SELECT ref FROM order_mgmt.capture_order('ann', jsonb_build_array(jsonb_build_object(
        'product_id', 'p', 'quantity', quantity, 'unit_price', 1)), NULL, ref)
$$;
-- What comes, without numbers that differ from run to run; the batch is kept.
CREATE TABLE last (batch_id bigint, event_id bigint, ref text);
CREATE FUNCTION receive(consumer text, max_events bigint DEFAULT 100, wait interval DEFAULT '0')
RETURNS TABLE (ref text, event_type text, customer_id text, product_id text, attempts bigint) LANGUAGE sql AS $$
    TRUNCATE last;
    WITH got AS MATERIALIZED (SELECT * FROM order_mgmt.receive_events(consumer, max_events, wait) WITH ORDINALITY),
         kept AS (INSERT INTO last SELECT g.batch_id, g.event_id, o.order_ref FROM got AS g
                  LEFT JOIN order_mgmt.orders AS o USING (order_id))
    SELECT o.order_ref, g.event_type, g.customer_id, g.product_id, g.attempts
    FROM got AS g LEFT JOIN order_mgmt.orders AS o USING (order_id) ORDER BY g.ordinality
$$;
CREATE FUNCTION acknowledge(consumer text) RETURNS boolean LANGUAGE sql AS $$
    SELECT order_mgmt.acknowledge_batch(consumer, (SELECT min(batch_id) FROM last))
$$;
CREATE FUNCTION reject(consumer text, which text) RETURNS boolean LANGUAGE sql AS $$
    SELECT order_mgmt.reject_event(consumer, (SELECT event_id FROM last WHERE ref = which), 'cannot reach ' || which)
$$;

-- From now on
SELECT capture('before');
SELECT order_mgmt.create_consumer('mailer', '{order_shipped,order_rejected}');
SELECT order_mgmt.create_consumer('mailer', '{order_rejected,order_shipped,order_shipped}');
SELECT order_mgmt.create_consumer('all');
SELECT name, kind, handler, owner = current_user AS own, event_types, max_attempts, backoff_base, backoff_cap, paused, start_at
FROM order_mgmt.consumers WHERE kind = 'external' ORDER BY name;
SELECT * FROM receive('mailer');
SELECT capture('one'), capture('two'), capture('much', 1000);
SELECT * FROM receive('mailer');
SELECT order_mgmt.run_pipeline() > 0 AS ran;

-- The same batch, whatever the size asked for, until it is acknowledged
SELECT * FROM receive('mailer', 2);
SELECT * FROM receive('mailer', 1);
SELECT * FROM receive('mailer');
SELECT capture('three'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT * FROM receive('mailer');
BEGIN;
SELECT acknowledge('mailer');
SELECT * FROM receive('mailer', 1);
ROLLBACK;
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');
SELECT acknowledge('mailer');
SELECT * FROM receive('mailer', 1);
SELECT acknowledge('mailer');
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');
SELECT * FROM receive('mailer');
-- Receiving and acknowledging in one transaction, one after the other
BEGIN;
SELECT ref, event_type FROM receive('all', 3);
SELECT acknowledge('all');
SELECT ref, event_type FROM receive('all', 1);
SELECT acknowledge('all');
COMMIT;
SELECT ref, event_type FROM receive('all', 2);
SELECT acknowledge('all');

-- What cannot be handled comes again, before what is new; then it is a dead letter
SELECT order_mgmt.set_retry_policy('mailer', 3, '1 ms', '1 ms');
SELECT order_mgmt.set_retry_policy('mailer', 3, '1 ms', '1 ms');
SELECT capture('good'), capture('poison'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT * FROM receive('mailer');
SELECT reject('mailer', 'poison');
\set VERBOSITY sqlstate
SELECT reject('mailer', 'poison');
\set VERBOSITY terse
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');
SELECT capture('next'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT pg_sleep(greatest(extract(epoch FROM due - clock_timestamp()), 0)) IS NULL AS due, consumer, event_type, attempts,
    error_code, message, batch_id FROM order_mgmt.retries;
SELECT * FROM receive('mailer');
SELECT batch_id = (SELECT min(batch_id) FROM last) AS in_batch FROM order_mgmt.retries;
SELECT reject('mailer', 'poison');
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');
SELECT * FROM receive('mailer', wait => '20 s');
SELECT * FROM receive('mailer');
SELECT reject('mailer', 'poison');
SELECT consumer, attempts, error_code, message, payload->>'event_type' AS event_type FROM order_mgmt.dead_letters;
SELECT count(*) FROM order_mgmt.retries;
-- A batch of which nothing is left ends by itself, or is acknowledged
SELECT batch_id AS emptied FROM last \gset
SELECT * FROM receive('mailer');
BEGIN;
SELECT order_mgmt.acknowledge_batch('mailer', :emptied);
ROLLBACK;
SELECT capture('after'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');
-- One that is handled at the second attempt leaves nothing behind
SELECT capture('shy'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT * FROM receive('mailer');
SELECT order_mgmt.set_retry_policy('mailer', 3, '300 ms', '300 ms');
SELECT reject('mailer', 'shy');
SELECT * FROM receive('mailer', wait => '20 s');
SELECT acknowledge('mailer');
SELECT count(*) FROM order_mgmt.retries;

-- A pause
SELECT order_mgmt.pause_consumer('mailer');
SELECT capture('late'), order_mgmt.run_pipeline() > 0 AS ran;
SELECT * FROM receive('mailer');
SELECT order_mgmt.resume_consumer('mailer');
SELECT * FROM receive('mailer');
SELECT order_mgmt.pause_consumer('mailer');
SELECT * FROM receive('mailer');
SELECT order_mgmt.resume_consumer('mailer');
SELECT * FROM receive('mailer');
SELECT acknowledge('mailer');

-- From a time of the past: exactly there
SELECT at AS since FROM order_mgmt.events WHERE event_type = 'order_captured' ORDER BY at OFFSET 4 LIMIT 1 \gset
SELECT order_mgmt.create_consumer('late riser', '{order_captured}', :'since');
SELECT order_mgmt.create_consumer('archivist', '{order_captured}', '-infinity');
SELECT order_mgmt.create_consumer('tomorrow', '{order_captured}', now() + interval '1 day');
SELECT ref FROM receive('late riser');
SELECT count(*) FROM receive('archivist');
SELECT (SELECT count(*) FROM receive('late riser', 2)) = (SELECT count(*) FROM order_mgmt.events
    WHERE event_type = 'order_captured' AND at >= :'since') AS all_of_them;
SELECT count(*) FROM receive('tomorrow');
SELECT capture('today');
SELECT count(*) FROM receive('tomorrow');
-- Events that are not about orders
SELECT order_mgmt.create_consumer('stock', '{stock_changed,balance_changed}');
SELECT order_mgmt.adjust_stock('p', 5), order_mgmt.adjust_balance('ann', 5);
SELECT * FROM receive('stock');

-- An event packed with others into one row of the log can be the end of a batch
SELECT order_mgmt.create_consumer('packed', '{balance_held}');
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'order_ref', 'n' || n,
    'lines', '[{"product_id": "p", "quantity": 1, "unit_price": 0}]'::jsonb)) FROM generate_series(10, 20) AS n));
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT string_agg(ref, ' ') FROM receive('packed', 4);
SELECT string_agg(ref, ' ') FROM receive('packed', 4);
SELECT acknowledge('packed');
SELECT string_agg(ref, ' ') FROM receive('packed', 5);
SELECT acknowledge('packed');
SELECT string_agg(ref, ' ') FROM receive('packed');
SELECT acknowledge('packed');
SELECT string_agg(ref, ' ') FROM receive('packed');

-- A consumer that is made again under its name takes no answers to the one before
SELECT batch_id AS old FROM order_mgmt.receive_events('stock') LIMIT 1 \gset
SELECT order_mgmt.drop_consumer('stock');
SELECT order_mgmt.create_consumer('stock', '{stock_changed}');
SELECT order_mgmt.adjust_stock('p', 5);
SELECT * FROM receive('stock');
SELECT order_mgmt.acknowledge_batch('stock', :old);
SELECT * FROM receive('stock');

SELECT * FROM order_mgmt.check_invariants();

\connect postgres
DROP DATABASE order_mgmt_consumers;
