-- The queues as another session sees them, between committed steps.
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_queues;
ALTER DATABASE order_mgmt_queues SET order_mgmt.workers = off;
\connect order_mgmt_queues
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup();
SELECT balance FROM order_mgmt.set_account('ann', 100);
SELECT on_hand FROM order_mgmt.set_stock('p', 10);
CREATE VIEW contents AS
    SELECT 'balance_check_queue' AS queue, * FROM order_mgmt.balance_check_queue
    UNION ALL SELECT 'stock_check_queue', * FROM order_mgmt.stock_check_queue
    UNION ALL SELECT 'order_update_queue', * FROM order_mgmt.order_update_queue
    UNION ALL SELECT 'shipment_queue', * FROM order_mgmt.shipment_queue;
CREATE VIEW state AS SELECT consumer, pending, oldest_age IS NOT NULL AS has_age, processed, paused FROM order_mgmt.queues;
CREATE VIEW waiting AS SELECT queue, event_type, order_ref, detail FROM contents JOIN order_mgmt.orders USING (order_id)
    ORDER BY queue, event_id;

TABLE state;
SELECT count(*) FROM order_mgmt.capture_orders('[
    {"customer_id": "ann", "order_ref": "good", "lines": [{"product_id": "p", "quantity": 1, "unit_price": 1}]},
    {"customer_id": "ann", "order_ref": "bad", "lines": [{"product_id": "p", "quantity": 1, "unit_price": 1000}]}]');
TABLE state;
TABLE waiting;
SELECT order_mgmt.wait_until_idle('0');
-- One stage after the other
SELECT order_mgmt.pause_consumer(name) FROM order_mgmt.consumers;
SELECT order_mgmt.wait_until_idle('0');
SELECT order_mgmt.run_pipeline();
SELECT order_mgmt.resume_consumer('balance_checker');
SELECT order_mgmt.run_pipeline();
TABLE state;
TABLE waiting;
SELECT order_mgmt.resume_consumer('stock_checker');
SELECT order_mgmt.run_pipeline();
TABLE waiting;
SELECT order_mgmt.resume_consumer('order_updater');
SELECT order_mgmt.run_pipeline() > 0 AS ran;
TABLE waiting;
SELECT order_mgmt.resume_consumer('shipper');
SELECT order_mgmt.run_pipeline();
TABLE waiting;
TABLE state;
SELECT order_mgmt.wait_until_idle('0');
SELECT order_ref, status, reasons FROM order_mgmt.orders ORDER BY order_ref;

-- What no one has committed is in no queue.
BEGIN;
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]') IS NOT NULL AS captured;
ROLLBACK;
TABLE state;
SELECT * FROM order_mgmt.check_invariants();

\connect contrib_regression
DROP DATABASE order_mgmt_queues;
