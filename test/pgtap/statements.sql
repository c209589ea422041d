-- Several calls in one statement: each sees what the ones before it have done.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.get_order(order_mgmt.capture_order('ann', lines('p', 2, 1.5), metadata => '{"a": 1}')) AS doc \gset
SELECT is(:'doc'::jsonb->>'status', 'captured', 'get_order(capture_order()) answers in one statement');
SELECT is(:'doc'::jsonb->'lines', '[{"line_no": 1, "quantity": 2, "product_id": "p", "unit_price": "1.5000"}]',
    'with the lines');
SELECT is(:'doc'::jsonb->'events'->0->>'event_type', 'order_captured', 'and the event');
SELECT is(order_mgmt.get_order_status(order_mgmt.capture_order('ann', lines('p'))), 'captured', 'get_order_status()');
SELECT is((SELECT count(*) FROM order_mgmt.track_order(order_mgmt.capture_order('ann', lines('p')))), 1::bigint,
    'track_order()');
SELECT is(rows_of('SELECT a = b FROM (SELECT order_mgmt.capture_order(''ann'', lines(''p''), ''k'') AS a,'
    ' order_mgmt.capture_order(''ann'', lines(''p''), ''k'') AS b) AS t'), '(t)', 'one key twice in one statement');
SELECT is(rows_of('SELECT (order_mgmt.set_account(''ann'', 100 + n)).balance FROM generate_series(1, 3) AS n'),
    '(101.0000) (102.0000) (103.0000)', 'set_account()');
SELECT is(rows_of('SELECT (order_mgmt.set_stock(''p'', 20 + n)).on_hand FROM generate_series(1, 3) AS n'),
    '(21) (22) (23)', 'set_stock()');

SELECT is(error_of($$SELECT order_mgmt.adjust_stock('p', 1, 'r', 'k1') FROM generate_series(1, 3)$$), 'no error',
    'adjust_stock() with one key');
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', lines('p')), order_mgmt.run_pipeline(),
    order_mgmt.adjust_stock('p', 1), order_mgmt.run_pipeline()$$), 'no error', 'capture, run, adjust');

SELECT is(error_of($$SELECT order_mgmt.adjust_balance('ann', 1) FROM generate_series(1, 3)$$), 'no error',
    'adjust_balance() for several rows of one customer');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('p', 1) FROM generate_series(1, 3)$$), 'no error',
    'adjust_stock() for several rows of one product');
SELECT is(error_of($$SELECT order_mgmt.cancel_order(order_mgmt.capture_order('ann', lines('p')))$$), 'no error',
    'cancel_order(capture_order())');
SELECT is(error_of($$SELECT order_mgmt.add_order_note(order_mgmt.capture_order('ann', lines('p')), 'x')$$), 'no error',
    'add_order_note(capture_order())');
SELECT is(error_of($$SELECT order_mgmt.replace_order(order_mgmt.capture_order('ann', lines('p')), lines('p', 2))$$),
    'no error', 'replace_order(capture_order())');
SELECT is(error_of($$SELECT order_mgmt.set_product('new', unit_price => 3),
    order_mgmt.capture_order('ann', '[{"product_id": "new", "quantity": 1}]')$$), 'no error',
    'capture_order() at a price that was set just before');

SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(pending(), '0 0 0 0', 'nothing is left to do');
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
