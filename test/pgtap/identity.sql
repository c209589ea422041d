-- Order ids: UUIDs of version 7 that hold the time and the customer's lane.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE TABLE ids AS
    SELECT ordinal, 'c' || (ordinal - 1) % 20 AS customer_id, order_id FROM order_mgmt.capture_orders(
        (SELECT jsonb_agg(jsonb_build_object('customer_id', 'c' || n % 20, 'lines', lines('p')))
         FROM generate_series(0, 999) AS n));
ALTER TABLE ids ADD hex text GENERATED ALWAYS AS (replace(order_id::text, '-', '')) STORED;
-- The variant (2 bits) and the lane (16 bits) begin the second half of the id.
CREATE VIEW laned AS SELECT *, substring(('x' || substr(hex, 17, 5))::bit(20) FROM 3 FOR 16)::bit(16)::int AS lane
    FROM ids;

SELECT is((SELECT count(DISTINCT order_id) FROM ids), 1000::bigint, 'every id is another');
SELECT is_empty($$SELECT * FROM ids WHERE substr(hex, 13, 1) <> '7'$$, 'version 7');
SELECT is_empty($$SELECT * FROM ids WHERE substr(hex, 17, 1) !~ '[89ab]'$$, 'variant of RFC 9562');
SELECT is_empty($$SELECT * FROM (SELECT order_id, lag(order_id) OVER (ORDER BY ordinal) AS previous FROM ids) AS i
    WHERE order_id <= previous$$, 'ids of one session rise');
SELECT is_empty('SELECT customer_id FROM laned GROUP BY 1 HAVING count(DISTINCT lane) <> 1',
    'all orders of a customer have one lane');
SELECT cmp_ok((SELECT count(DISTINCT lane) FROM laned), '>=', 18::bigint, 'customers have different lanes');
SELECT cmp_ok((SELECT count(DISTINCT substr(hex, 22)) FROM ids), '=', 1000::bigint, 'the rest is random');

SELECT is_empty($$SELECT * FROM order_mgmt.orders
    WHERE created_at <> to_timestamp(('x' || substr(replace(order_id::text, '-', ''), 1, 12))::bit(48)::bigint
                                     / 1000.0)$$, 'created_at is the time inside the id');
SELECT is_empty('SELECT * FROM order_mgmt.orders WHERE created_at <> order_mgmt.uuid_time(order_id)',
    'uuid_time() reads it');
SELECT is_empty($$SELECT * FROM order_mgmt.orders
    WHERE created_at NOT BETWEEN now() - interval '1 s' AND clock_timestamp() + interval '1 s'$$,
    'it is the time of the capture');
SELECT is_empty($$SELECT * FROM order_mgmt.orders WHERE tableoid <>
    ('order_mgmt.orders_' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY_MM'))::regclass$$,
    'an order lies in the partition of its month');
SELECT is_empty($$SELECT * FROM order_mgmt.order_lines WHERE tableoid <>
    ('order_mgmt.order_lines_' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY_MM'))::regclass$$,
    'and so do its lines');
SELECT is(error_of($$UPDATE order_mgmt.orders SET created_at = created_at + interval '1 ms'$$), '23514',
    'the time of an order cannot be another than that of its id');
SELECT is(order_mgmt.uuid_time('01a1fd9f-f26b-740f-82c3-52bd8163a5c0'), '2026-11-21 10:21:20.363+00'::timestamptz,
    'uuid_time() of a known id');
SELECT is(order_mgmt.get_order_status('01a1fd9f-f26b-740f-82c3-52bd8163a5c0'), NULL::text, 'an id of nobody');
SELECT is(order_mgmt.get_order_status('00000000-0000-0000-0000-000000000000'), NULL::text, 'an id before all months');
SELECT is(order_mgmt.get_order_status('ffffffff-ffff-ffff-ffff-ffffffffffff'), NULL::text, 'an id after all months');
SELECT is(error_of($$SELECT order_mgmt.cancel_order('ffffffff-ffff-ffff-ffff-ffffffffffff')$$), 'OM004',
    'nor is there anything to cancel');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
