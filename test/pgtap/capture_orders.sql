-- capture_orders: many orders in one call, each judged by itself or all together.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- One element of the array.
CREATE FUNCTION element(customer_id text, key text DEFAULT NULL, quantity int DEFAULT 1) RETURNS jsonb
LANGUAGE sql AS $$
    SELECT jsonb_build_object('customer_id', customer_id, 'lines', lines('p', quantity, 2),
                              'idempotency_key', key)
$$;

SELECT is(error_of('SELECT * FROM order_mgmt.capture_orders(NULL)'), 'OM001 orders', 'orders NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.capture_orders('{}')$$), 'OM001 orders', 'orders an object');
SELECT is(error_of($$SELECT * FROM order_mgmt.capture_orders('"x"')$$), 'OM001 orders', 'orders a scalar');
SELECT is(error_of($$SELECT * FROM order_mgmt.capture_orders('null')$$), 'OM001 orders', 'orders JSON null');
SELECT is(error_of($$SELECT * FROM order_mgmt.capture_orders('[]', 'ignore')$$), 'OM001 on_error',
    'an unknown on_error');
SELECT is(error_of($$SELECT * FROM order_mgmt.capture_orders('[]', NULL)$$), 'OM001 on_error', 'on_error NULL');
SELECT is_empty($$SELECT * FROM order_mgmt.capture_orders('[]')$$, 'no orders, no rows');

-- reject_failed: the valid ones are captured
SELECT jsonb_build_array(
    element('ann') || '{"order_ref": "r", "metadata": {"k": [1]}, "expected_total": "2.0000"}',
    element('ann', NULL, 0),
    '[]'::jsonb,
    element('bob') || '{"colour": "red"}',
    element('bob') || '{"customer_id": 5}',
    element('bob') || '{"lines": null}',
    element('bob') || '{"lines": "x"}',
    element('bob') || '{"metadata": []}',
    element('bob') || '{"expected_total": 3}',
    element('bob') - 'customer_id',
    element('bob') || '{"idempotency_key": 1}',
    element('bob') || '{"lines": [{"product_id": "p", "quantity": 1, "unit_price": 1, "tax": 2}]}',
    element('eve')) AS batch \gset
CREATE TABLE answer AS SELECT * FROM order_mgmt.capture_orders(:'batch');
SELECT is(rows_of('SELECT ordinal, error_code, path FROM answer WHERE ordinal <> 3 ORDER BY ordinal'),
    '(1,,) (2,OM001,lines[0].quantity) (4,OM001,colour) (5,OM001,customer_id) (6,OM001,lines)'
    ' (7,OM001,lines) (8,OM001,metadata) (9,OM001,expected_total) (10,OM001,customer_id)'
    ' (11,OM001,idempotency_key) (12,OM001,lines[0].tax) (13,,)',
    'each element is judged by itself, ordinals count from 1, paths are of the element');
SELECT is((SELECT error_code FROM answer WHERE ordinal = 3), 'OM001', 'an element that is no object');
SELECT is(rows_of($$SELECT created, order_id IS NOT NULL, message IS NULL FROM answer WHERE ordinal IN (1, 2)$$),
    '(t,t,t) (f,f,f)', 'a captured order has an id, a refused one a message');
SELECT is(rows_of($$SELECT customer_id, order_ref, total, metadata FROM answer JOIN order_mgmt.orders
    USING (order_id) ORDER BY ordinal$$),
    '(ann,r,2.0000,"{""k"": [1]}") (eve,,2.0000,{})', 'only the valid ones are there');

-- reject_all: one bad apple
SELECT is(error_of(format('SELECT * FROM order_mgmt.capture_orders(%L, %L)',
    jsonb_build_array(element('all'), element('all', NULL, -1), element('all') || '{"x": 1}'), 'reject_all')),
    'OM001 orders[1].lines[0].quantity', 'reject_all raises the first problem with its place');
SELECT is(error_of(format('SELECT * FROM order_mgmt.capture_orders(%L, %L)', '[7]', 'reject_all')),
    'OM001 orders[0]', 'the place of an element that is no object');
SELECT is_empty($$SELECT * FROM order_mgmt.orders WHERE customer_id = 'all'$$, 'and captures none');
SELECT is((SELECT count(*) FROM order_mgmt.capture_orders(
    jsonb_build_array(element('all'), element('all')), 'reject_all')), 2::bigint, 'reject_all captures all');

-- Keys
SELECT is(rows_of(format('SELECT ordinal, created, error_code, path FROM order_mgmt.capture_orders(%L)',
    jsonb_build_array(element('kim', 'a'), element('kim', 'b'), element('kim', 'a'), element('kim', 'a', 2),
                      element('lee', 'a'), element('kim'), element('kim')))),
    '(1,t,,) (2,t,,) (3,f,,) (4,f,OM002,idempotency_key) (5,t,,) (6,t,,) (7,t,,)',
    'of two elements with one key the first is captured, the second repeats it or is refused');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE customer_id = 'kim'), 4::bigint, 'no order twice');
SELECT is(rows_of(format('SELECT created, order_id = order_mgmt.capture_order(''kim'', lines(''p'', 1, 2), ''b'')
    FROM order_mgmt.capture_orders(%L)', jsonb_build_array(element('kim', 'b')))),
    '(f,t)', 'a key counts for both functions');
SELECT is(rows_of(format('SELECT count(*), count(DISTINCT order_id), count(*) FILTER (WHERE created)
    FROM order_mgmt.capture_orders(%L)', jsonb_build_array(element('max', 'a'), element('max', 'a')))),
    '(2,1,1)', 'both rows name the one order');
SELECT is(error_of(format('SELECT * FROM order_mgmt.capture_orders(%L, %L)',
    jsonb_build_array(element('zoe', 'z'), element('kim', 'a', 3)), 'reject_all')),
    'OM002 orders[1].idempotency_key', 'reject_all and a used key');
SELECT is_empty($$SELECT * FROM order_mgmt.orders WHERE customer_id = 'zoe'$$, 'nor then is any captured');

-- More orders than one row of the log holds
SELECT open_shop('many', 600, 'm', 300) \g /dev/null
CREATE TABLE many AS SELECT * FROM order_mgmt.capture_orders(
    (SELECT jsonb_agg(element('many') || jsonb_build_object('lines', lines('m', 1, 2))) FROM generate_series(1, 300)));
SELECT is(rows_of($$SELECT count(*), count(DISTINCT event_id), count(DISTINCT order_id)
    FROM order_mgmt.events WHERE event_type = 'order_captured' AND order_id IN (SELECT order_id FROM many)$$),
    '(300,300,300)', 'each of 300 orders has an event with an id of its own');
SELECT ok(order_mgmt.run_pipeline() > 300, 'they are handled');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders('many', 'shipped', page_size => 1000)), 300::bigint,
    'and all shipped');
SELECT is(credit('many') || ' ' || units('m'), '0/0 0/0', 'to the last unit');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
