-- auto_ship off: people ship with ship_order(), and holds may time out.
BEGIN;
\ir helpers.psql
SELECT no_plan();
SET LOCAL order_mgmt.auto_ship = off;

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
CREATE FUNCTION capture(quantity int DEFAULT 2) RETURNS uuid LANGUAGE sql AS
    $$SELECT order_mgmt.capture_order('ann', lines('p', quantity, 5))$$;

SELECT capture() AS first, capture(3) AS second, capture(1) AS third \gset
SELECT is(error_of(format('SELECT order_mgmt.ship_order(%L)', :'first')), 'OM005 captured',
    'an order that is not confirmed does not ship');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'first') || ' ' || outcome(:'second'), 'confirmed confirmed', 'orders stay confirmed');
SELECT is(credit('ann') || ' ' || units('p'), '100/30 10/6', 'and held');
SELECT is(rows_of('SELECT order_id, event_type FROM order_mgmt.shipment_queue ORDER BY event_id'),
    format('(%s,order_confirmed) (%s,order_confirmed) (%s,order_confirmed)', :'first', :'second', :'third'),
    'the shipment queue shows what is to be shipped');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'there is nothing else to do');
SELECT is(order_mgmt.wait_until_idle('1s'), true, 'and the pipeline is idle, though orders wait for people');

-- Out of order, with details
SELECT is(order_mgmt.ship_order(:'second', '{"parcel": "A1"}'), 'shipped', 'shipped by hand');
SELECT is(credit('ann') || ' ' || units('p'), '85/15 7/3', 'which posts its holds at once');
SELECT is((SELECT detail FROM order_mgmt.track_order(:'second') WHERE event_type = 'order_shipped'),
    '{"parcel": "A1"}', 'details go with the event');
SELECT is(error_of(format('SELECT order_mgmt.ship_order(%L)', :'second')), 'OM005 shipped', 'no order ships twice');
SELECT is(error_of(format('SELECT order_mgmt.cancel_order(%L)', :'second')), 'OM005 shipped', 'nor is cancelled then');
SELECT order_mgmt.cancel_order(:'first') \g /dev/null
SELECT is(error_of(format('SELECT order_mgmt.ship_order(%L)', :'first')), 'OM005 cancelled',
    'a cancelled order does not ship');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '85/5 7/1', 'what it held has come back');
SELECT is(error_of($$SELECT order_mgmt.ship_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$), 'OM004', 'no such order');
SELECT is(error_of($$SELECT order_mgmt.ship_order(NULL)$$), 'OM001 order_id', 'order NULL');
SELECT is(error_of(format('SELECT order_mgmt.ship_order(%L, ''[]'')', :'third')), 'OM001 detail', 'detail no object');
SELECT is(outcome(:'third'), 'confirmed', 'which ships nothing');
SELECT is(order_mgmt.ship_order(:'third', NULL), 'shipped', 'detail NULL is none');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(pending(), '0 0 0 0', 'the shipper passes what people have done');

-- Switched on again, what waits ships
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SET LOCAL order_mgmt.auto_ship = on;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'auto_ship on ships what waited');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'once');
SELECT is(story(:'id'), 'order_captured balance_held stock_held order_confirmed order_shipped', 'with one event');

-- A timeout of holds
SET LOCAL order_mgmt.auto_ship = off;
SELECT capture() AS late \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'late'), 'confirmed', 'without hold_timeout an order waits');
SET LOCAL order_mgmt.hold_timeout = '1h';
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'late'), 'confirmed', 'and with one until that is over');
SET LOCAL order_mgmt.hold_timeout = '1s';
DO $$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '20 s';
BEGIN
    LOOP
        PERFORM order_mgmt.run_pipeline();
        EXIT WHEN NOT EXISTS (SELECT FROM order_mgmt.orders WHERE status = 'confirmed')
            OR clock_timestamp() > deadline;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$$;
SELECT is(outcome(:'late'), 'cancelled {expired}', 'then it is cancelled');
SELECT cmp_ok((SELECT max(at) FILTER (WHERE event_type = 'order_cancelled')
                    - max(at) FILTER (WHERE event_type = 'order_confirmed') FROM order_mgmt.track_order(:'late')),
    '>=', interval '1 s', 'not before');
SELECT is(order_mgmt.get_order(:'late')->'events'->-2->'detail'->>'reason', 'expired', 'the event has the reason');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '70/0 4/0', 'and what it held comes back');
SELECT is(pending(), '0 0 0 0', 'nothing is left to do');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
