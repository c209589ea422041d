-- run_pipeline() handles what its own transaction captured, exactly once, whatever is rolled back.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 1000, 'p', 100) \g /dev/null
CREATE FUNCTION capture(ref text, quantity int DEFAULT 1) RETURNS uuid LANGUAGE sql AS
    $$SELECT order_mgmt.capture_order('ann', lines('p', quantity), order_ref => ref)$$;
-- The orders of this test, in the order of capture, with the number of their events.
CREATE FUNCTION orders() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(order_ref || ' ' || status || ' ' || (SELECT count(*) FROM order_mgmt.track_order(order_id)),
                      ', ' ORDER BY order_ref) FROM order_mgmt.orders WHERE customer_id = 'ann'
$$;

SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'nothing to do');
SELECT capture('1') \g /dev/null
SELECT is(order_mgmt.run_pipeline(), 5::bigint, 'an order is two checks, two verdicts, one confirmation');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'and then nothing');
SELECT capture('2') \g /dev/null
SELECT capture('3') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(orders(), '1 shipped 5, 2 shipped 5, 3 shipped 5', 'several captures and runs in one transaction');

-- Rolled back together
SAVEPOINT s;
SELECT capture('4') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(units('p'), '96/0', 'captured and shipped after a savepoint');
ROLLBACK TO SAVEPOINT s;
SELECT is(units('p'), '97/0', 'rolled back, it has not shipped');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'nor is there anything left of it');
SELECT capture('5') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(orders(), '1 shipped 5, 2 shipped 5, 3 shipped 5, 5 shipped 5', 'the next capture is handled');

-- Captured before the savepoint, handled after it
SELECT capture('6') \g /dev/null
SAVEPOINT s;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(units('p'), '95/0', 'handled');
ROLLBACK TO SAVEPOINT s;
SELECT is(units('p'), '96/0', 'not handled, after all');
SELECT is(pending(), '1 1 0 0', 'so it is still to do');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(units('p'), '95/0', 'handled again');

-- Captured in a savepoint that is kept, between others that are not
SAVEPOINT a;
SELECT capture('7') \g /dev/null
SAVEPOINT b;
SELECT capture('8') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
ROLLBACK TO SAVEPOINT b;
SELECT capture('9') \g /dev/null
RELEASE SAVEPOINT a;
SAVEPOINT c;
SELECT capture('no') \g /dev/null
ROLLBACK TO SAVEPOINT c;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(right(orders(), 37), '6 shipped 5, 7 shipped 5, 9 shipped 5', 'what was kept is handled once, the rest not at all');

-- In an exception block, as a function may do it
DO $$
BEGIN
    PERFORM capture('x');
    PERFORM order_mgmt.run_pipeline();
    RAISE EXCEPTION 'never mind';
EXCEPTION WHEN raise_exception THEN
    PERFORM capture('y');
END
$$;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(right(orders(), 24), '9 shipped 5, y shipped 5', 'a block that failed has left nothing');

-- Step by step: each call goes on where the last one stopped
SELECT capture('z1') AS z1, capture('z2') AS z2 \gset
SELECT is(order_mgmt.run_pipeline(1), 1::bigint, 'a call may stop after one event');
SELECT isnt(pending(), '2 2 0 0', 'having handled it');
DO $$
BEGIN
    FOR i IN 1..40 LOOP
        EXIT WHEN order_mgmt.run_pipeline(1) = 0;
    END LOOP;
END
$$;
SELECT is(outcome(:'z1') || ' ' || outcome(:'z2'), 'shipped shipped', 'orders ship in steps of one event');
SELECT is(pending(), '0 0 0 0', 'and nothing is left to do');
SELECT is(story(:'z1'), 'order_captured balance_held stock_held order_confirmed order_shipped', 'nothing happened twice');
SELECT capture('z3') AS z3, capture('z4') AS z4 \gset
DO $$
BEGIN
    FOR i IN 1..40 LOOP
        EXIT WHEN order_mgmt.run_pipeline(2) = 0;
    END LOOP;
END
$$;
SELECT is(outcome(:'z3') || ' ' || outcome(:'z4'), 'shipped shipped', 'orders ship in steps of two events');

-- With batches of one order
SET LOCAL order_mgmt.batch_size = 1;
SELECT count(*) FROM generate_series(1, 5) AS n, capture('batch ' || n) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.list_orders('ann', 'captured')), 0::bigint, 'batches of one order');
RESET order_mgmt.batch_size;

SELECT is(error_of('SELECT order_mgmt.run_pipeline(0)'), 'OM001 max_events', 'max_events 0');
SELECT is(error_of('SELECT order_mgmt.run_pipeline(-1)'), 'OM001 max_events', 'max_events negative');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders('ann', page_size => 100) WHERE status <> 'shipped'), 0::bigint,
    'everything has shipped');
SELECT is(credit('ann'), trim_scale(1000 - (SELECT sum(total) FROM order_mgmt.orders WHERE customer_id = 'ann')) || '/0',
    'and been paid');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
