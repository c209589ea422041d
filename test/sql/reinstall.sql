-- DROP EXTENSION ... CASCADE costs constraints and a view, never data; a new CREATE EXTENSION and
-- setup() mend them, and orders that were under way go on.
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_reinstall;
ALTER DATABASE order_mgmt_reinstall SET order_mgmt.workers = off;
\connect order_mgmt_reinstall
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup();

SELECT customer_id, balance FROM order_mgmt.set_account('ann', 100);
SELECT product_id, on_hand FROM order_mgmt.set_stock('p', 10);
CREATE FUNCTION capture(ref text, key text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT ref FROM order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 5}]', key, ref)
$$;
SELECT capture('shipped', 'k');
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT order_mgmt.pause_consumer('stock_checker');
SELECT capture('half checked');
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT capture('captured');

CREATE TABLE before AS SELECT * FROM pg_constraint WHERE connamespace = 'order_mgmt'::regnamespace;
CREATE TABLE orders_before AS SELECT * FROM order_mgmt.orders;

DROP EXTENSION order_mgmt CASCADE;
SELECT order_ref, status, total FROM order_mgmt.orders ORDER BY created_at, order_id;
SELECT customer_id, balance, reserved FROM order_mgmt.accounts;
SELECT product_id, on_hand, reserved FROM order_mgmt.stock;
SELECT count(*) FROM order_mgmt.event_log;
SELECT conrelid::regclass AS relation, conname FROM before JOIN pg_class AS c ON c.oid = conrelid
WHERE NOT relispartition AND conname NOT IN (SELECT conname FROM pg_constraint WHERE connamespace = 'order_mgmt'::regnamespace)
ORDER BY 2;

CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup();
-- All constraints are back, also on the partitions.
SELECT conrelid::regclass AS relation, conname FROM before EXCEPT
    SELECT conrelid::regclass, conname FROM pg_constraint WHERE connamespace = 'order_mgmt'::regnamespace;
SELECT count(*) FROM pg_constraint WHERE connamespace = 'order_mgmt'::regnamespace AND NOT convalidated;
TABLE orders_before EXCEPT TABLE order_mgmt.orders;
SELECT event_type, customer_id FROM order_mgmt.events ORDER BY event_id;
SELECT has_table_privilege('order_mgmt_reader', 'order_mgmt.events', 'SELECT') AS readers_see_events;

-- Orders go on, keys are remembered, the pause holds.
SELECT created FROM order_mgmt.capture_orders(
    '[{"customer_id": "ann", "lines": [{"product_id": "p", "quantity": 1, "unit_price": 5}], "order_ref": "shipped", "idempotency_key": "k"}]');
SELECT consumer, pending, paused FROM order_mgmt.queues;
SELECT order_mgmt.resume_consumer('stock_checker');
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT order_ref, status, (SELECT count(*) FROM order_mgmt.track_order(order_id)) AS events FROM order_mgmt.orders ORDER BY created_at, order_id;
SELECT balance, reserved FROM order_mgmt.get_account('ann');
SELECT * FROM order_mgmt.check_invariants();

\connect contrib_regression
DROP DATABASE order_mgmt_reinstall;
