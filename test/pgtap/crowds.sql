-- More orders wait for the decision on an earlier one than a batch takes: they hold up nobody else.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SET LOCAL order_mgmt.batch_size = 10;
UPDATE order_mgmt.consumers SET max_attempts = 3;
CREATE FUNCTION counts(name text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', pending, retrying, processed) FROM order_mgmt.queues WHERE consumer = name
$$;
CREATE FUNCTION capture(count bigint, product_id text, quantity bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(order_mgmt.capture_order('ann', lines(product_id, quantity))) FROM generate_series(1, count)
$$;

SELECT open_shop('ann', 10000, 'hot', 100) \g /dev/null
SELECT order_mgmt.set_stock('p', 1000) \g /dev/null
SELECT order_mgmt.pause_consumer('order_updater') \g /dev/null
SELECT capture(1, 'hot', 90) \g /dev/null
SELECT capture(100, 'hot', 20) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(counts('stock_checker'), '100 0 1', 'ten batches of orders wait for the first one');

-- Whoever comes next finds them all again, and nobody is undecided among them.
SELECT capture(5, 'p', 1) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(counts('stock_checker'), '100 0 6', 'after a restart those behind them are decided');

SELECT capture(25, 'p', 1) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS id \gset
CREATE TEMP TABLE lost AS SELECT * FROM order_mgmt.order_lines WHERE order_id = :'id';
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
SELECT capture(25, 'p', 1) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(counts('stock_checker'), '100 1 56', 'a poisoned event behind them is found, and only that is set aside');

INSERT INTO order_mgmt.order_lines SELECT * FROM lost;
SELECT hurry() \g /dev/null
SELECT order_mgmt.resume_consumer('order_updater') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(pending(), '0 0 0 0', 'nothing is left');
SELECT is((SELECT rows_of('SELECT status, count(*) FROM order_mgmt.orders GROUP BY status ORDER BY status')), '(rejected,100) (shipped,57)', 'and all ends as one order at a time would have');
SELECT invariants_hold();

-- A retry whose time has come may have to wait for an earlier order, and is woken like any other.
SELECT order_mgmt.set_stock('rare', 100) \g /dev/null
SELECT order_mgmt.pause_consumer('order_updater') \g /dev/null
SELECT capture(1, 'rare', 90) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('rare', 20)) AS id \gset
TRUNCATE lost;
INSERT INTO lost SELECT * FROM order_mgmt.order_lines WHERE order_id = :'id';
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
SELECT order_mgmt.run_pipeline() \g /dev/null
INSERT INTO order_mgmt.order_lines SELECT * FROM lost;
SELECT hurry() \g /dev/null
SELECT order_mgmt.resume_consumer('order_updater') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'rejected {insufficient_stock}', 'a retry that had to wait is decided');
SELECT is((SELECT count(*) FROM order_mgmt.retries), 0::bigint, 'and is a retry no more');
SELECT invariants_hold();

SELECT finish();
ROLLBACK;
