-- get_order, track_order, find_orders, wait_for_order.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 1.25) || lines('q', 1, 3), order_ref => 'r1',
    metadata => '{"n": 1.50}') AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null

-- get_order
SELECT order_mgmt.get_order(:'id') AS doc \gset
SELECT is((SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") FROM jsonb_object_keys(:'doc') AS key),
    'created_at customer_id events lines metadata order_id order_ref reasons status total updated_at', 'its members');
SELECT is(:'doc'::jsonb - '{lines,events,created_at,updated_at}'::text[], jsonb_build_object('order_id', :'id'::text,
    'order_ref', 'r1', 'customer_id', 'ann', 'status', 'rejected', 'reasons', '["unknown_product"]'::jsonb,
    'total', '5.5000', 'metadata', '{"n": 1.50}'::jsonb), 'the head, money as a string with 4 decimals');
SELECT is(:'doc'::jsonb->'lines',
    '[{"line_no": 1, "product_id": "p", "quantity": 2, "unit_price": "1.2500"},
      {"line_no": 2, "product_id": "q", "quantity": 1, "unit_price": "3.0000"}]', 'the lines');
SELECT is((SELECT string_agg(e->>'event_type', ' ') FROM jsonb_array_elements(:'doc'::jsonb->'events') AS e),
    'order_captured balance_held stock_refused order_rejected', 'the events, oldest first');
SELECT is(:'doc'::jsonb->'events'->2->'detail', '{"reasons": ["unknown_product"], "shortages":
    [{"product_id": "q", "requested": 1, "available": 0}]}', 'with details');
SELECT is((SELECT count(DISTINCT e->>'event_id') FROM jsonb_array_elements(:'doc'::jsonb->'events') AS e), 4::bigint,
    'and ids of their own');
SELECT is_empty(format($$SELECT * FROM jsonb_array_elements(%L::jsonb->'events') AS e
    LEFT JOIN order_mgmt.events AS v ON v.event_id = (e->>'event_id')::bigint AND v.at = (e->>'at')::timestamptz
        AND v.event_type = e->>'event_type' AND v.order_id = %L AND v.customer_id = 'ann'
    WHERE v.event_id IS NULL$$, :'doc', :'id'), 'which are those of view events');

SET LOCAL TimeZone = 'Asia/Kathmandu';
SET LOCAL DateStyle = 'German';
SET LOCAL IntervalStyle = 'sql_standard';
SET LOCAL extra_float_digits = 0;
SELECT is(order_mgmt.get_order(:'id'), :'doc'::jsonb, 'the same document under other session settings');
SELECT matches(:'doc'::jsonb->>'created_at', '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$', 'times are ISO 8601 in UTC');
SELECT is((:'doc'::jsonb->>'created_at')::timestamptz, order_mgmt.uuid_time(:'id'), 'to the millisecond of the id');
RESET TimeZone;
RESET DateStyle;
SELECT ok(order_mgmt.get_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0') IS NULL, 'NULL where there is none');
SELECT is(error_of('SELECT order_mgmt.get_order(NULL)'), 'OM001 order_id', 'order NULL');
SELECT ok(order_mgmt.get_order_status('01a1fd9f-f26b-740f-82c3-52bd8163a5c0') IS NULL, 'so too the status');
SELECT is(error_of('SELECT order_mgmt.get_order_status(NULL)'), 'OM001 order_id', 'order NULL');
SELECT is(order_mgmt.get_order(order_mgmt.capture_order('ann', lines('p')))->'order_ref', 'null', 'no reference is null');

-- track_order
SELECT is(rows_of(format($$SELECT event_type, since_previous IS NULL, since_previous >= '0', detail->'reasons'
    FROM order_mgmt.track_order(%L)$$, :'id')),
    '(order_captured,t,,) (balance_held,f,t,) (stock_refused,f,t,"[""unknown_product""]")'
    ' (order_rejected,f,t,"[""unknown_product""]")', 'track_order()');
SELECT is_empty(format($$SELECT * FROM (SELECT at, since_previous, at - lag(at) OVER (ORDER BY n) AS gap
    FROM order_mgmt.track_order(%L) WITH ORDINALITY AS t(at, event_type, since_previous, detail, n)) AS g
    WHERE since_previous IS DISTINCT FROM gap$$, :'id'), 'since_previous is the time since the event before');
SELECT is_empty($$SELECT * FROM order_mgmt.track_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$, 'no order, no rows');
SELECT is(error_of('SELECT * FROM order_mgmt.track_order(NULL)'), 'OM001 order_id', 'order NULL');

-- find_orders
SELECT order_mgmt.capture_order('bob', lines('p'), order_ref => 'r1') AS bobs \gset
SELECT order_mgmt.capture_order('bob', lines('p'), order_ref => 'R1') \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('p')) \g /dev/null
SELECT is(rows_of($$SELECT order_id FROM order_mgmt.find_orders('r1')$$), format('(%s) (%s)', :'id', :'bobs'),
    'find_orders(), oldest first');
SELECT is(rows_of($$SELECT order_id FROM order_mgmt.find_orders('r1', 'bob')$$), format('(%s)', :'bobs'), 'of one customer');
SELECT is_empty($$SELECT * FROM order_mgmt.find_orders('r')$$, 'the whole reference');
SELECT is(error_of('SELECT * FROM order_mgmt.find_orders(NULL)'), 'OM001 order_ref', 'reference NULL');

-- wait_for_order
SELECT is(order_mgmt.wait_for_order(:'id', '0'), 'rejected', 'an order that is final is not waited for');
SELECT is(error_of(format('SELECT order_mgmt.wait_for_order(%L)', :'bobs')), 'OM005',
    'an order of this very transaction cannot be waited for');
SELECT is(error_of($$SELECT order_mgmt.wait_for_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$), 'OM004', 'no such order');
SELECT is(error_of('SELECT order_mgmt.wait_for_order(NULL)'), 'OM001 order_id', 'order NULL');
SELECT is(error_of(format($$SELECT order_mgmt.wait_for_order(%L, '-1 s')$$, :'id')), 'OM001 timeout', 'timeout negative');
SELECT is(error_of(format($$SELECT order_mgmt.wait_for_order(%L, NULL)$$, :'id')), 'OM001 timeout', 'timeout NULL');
SELECT is(error_of($$SELECT order_mgmt.wait_until_idle()$$), 'OM005',
    'nor the pipeline, while it has events that nobody else can see');
SELECT is(error_of($$SELECT order_mgmt.wait_until_idle('-1 s')$$), 'OM001 timeout', 'its timeout negative');

SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
