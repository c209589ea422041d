-- Errors as clients see them: one of each SQLSTATE, with DETAIL for programs and HINT for people.
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_errors;
ALTER DATABASE order_mgmt_errors SET order_mgmt.workers = off;
\connect order_mgmt_errors
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;
\set VERBOSITY default

-- OM006
SELECT order_mgmt.get_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0');
\echo :LAST_ERROR_SQLSTATE

SELECT order_mgmt.setup();
SELECT balance FROM order_mgmt.set_account('ann', 100);
SELECT on_hand FROM order_mgmt.set_stock('p', 10);

-- OM001: a request
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}, {"product_id": "p", "quantity": 0}]');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1, "quote\"d": 1}]');
SELECT order_mgmt.capture_order(NULL, NULL);
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 3, "unit_price": 1.5}]', expected_total => 4);
SELECT * FROM order_mgmt.capture_orders('[{"customer_id": "ann", "lines": []}]', 'reject_all');
SELECT ordinal, error_code, path, message FROM order_mgmt.capture_orders('[{"customer_id": "ann", "lines": []}, 7]');
-- OM001: an argument
SELECT * FROM order_mgmt.list_orders(page_size => 0);
\echo :LAST_ERROR_SQLSTATE

-- OM002
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]', 'k') IS NOT NULL AS captured;
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 2, "unit_price": 1}]', 'k');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.adjust_balance('ann', 1, idempotency_key => 'k');
SELECT order_mgmt.adjust_balance('ann', 2, idempotency_key => 'k');
\echo :LAST_ERROR_SQLSTATE

-- OM004
SELECT order_mgmt.cancel_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.adjust_balance('nobody', 1);
SELECT order_mgmt.adjust_stock('nothing', 1);
SELECT order_mgmt.pause_consumer('nobody');

-- OM005
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT order_mgmt.cancel_order(order_id) FROM order_mgmt.list_orders('ann');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.ship_order(order_id) FROM order_mgmt.list_orders('ann');
SELECT order_mgmt.adjust_balance('ann', -1000);
SELECT order_mgmt.adjust_stock('p', -1000);
BEGIN;
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]') AS id \gset
SELECT order_mgmt.delete_account('ann');
ROLLBACK;
BEGIN;
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]') AS id \gset
SELECT order_mgmt.wait_for_order(:'id');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT order_mgmt.run_pipeline();
ROLLBACK;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing AFTER UPDATE ON order_mgmt.accounts FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT order_mgmt.adjust_balance('ann', 1);
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER nothing ON order_mgmt.accounts;
ALTER TABLE order_mgmt.stock ENABLE ROW LEVEL SECURITY;
SELECT order_mgmt.adjust_stock('p', 1);
ALTER TABLE order_mgmt.stock DISABLE ROW LEVEL SECURITY;
CREATE RULE nothing AS ON UPDATE TO order_mgmt.stock DO ALSO NOTHING;
SELECT order_mgmt.adjust_stock('p', 1);
DROP RULE nothing ON order_mgmt.stock;

-- Errors of PostgreSQL itself
SET ROLE order_mgmt_app;
SELECT order_mgmt.set_account('ann', 1000000);
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
BEGIN READ ONLY;
SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT order_mgmt.run_pipeline();
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT count(*) FROM order_mgmt.list_orders();
SELECT order_mgmt.get_order_status(order_id) FROM order_mgmt.list_orders();
SELECT balance FROM order_mgmt.get_account('ann');
SELECT order_mgmt.preview_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]');
SELECT count(*) FROM order_mgmt.queues;
SELECT * FROM order_mgmt.check_invariants();
COMMIT;

-- OM001: an option; OM007: a file
SELECT * FROM order_mgmt.read_csv('text:a', '{"delimiter": ", "}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM order_mgmt.read_csv('text:a', '{"seperator": ","}');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM order_mgmt.read_csv('/no/such/file.csv');
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM order_mgmt.read_csv('file.csv');
\echo :LAST_ERROR_SQLSTATE

-- A repeated request answers without a word besides.
RESET client_min_messages;
SELECT order_mgmt.adjust_balance('ann', 1, idempotency_key => 'k');
SELECT order_mgmt.adjust_stock('p', 1, idempotency_key => 'k');
SELECT order_mgmt.adjust_stock('p', 1, idempotency_key => 'k');

SELECT * FROM order_mgmt.check_invariants();
\connect contrib_regression
DROP DATABASE order_mgmt_errors;
