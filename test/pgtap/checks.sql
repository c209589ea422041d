-- The two checks: who passes, who is refused and why, and that a refusal gives back what was held.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE FUNCTION run() RETURNS bigint LANGUAGE sql AS 'SELECT order_mgmt.run_pipeline()';
CREATE FUNCTION shortages(id uuid) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(detail->>'shortages', ' ' ORDER BY event_type) FROM order_mgmt.track_order(id)
    WHERE event_type LIKE '%refused'
$$;
CREATE FUNCTION submit(customer text, lines jsonb) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := order_mgmt.capture_order(customer, lines);
BEGIN
    PERFORM order_mgmt.run_pipeline();
    RETURN id;
END
$$;

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT submit('ann', lines('p', 4, 2.5)) AS id \gset
SELECT is(outcome(:'id'), 'shipped', 'an order that fits ships');
SELECT is(credit('ann') || ' ' || units('p'), '90/0 6/0', 'it is paid and gone, and nothing stays held');
SELECT is(story(:'id'), 'order_captured balance_held stock_held order_confirmed order_shipped',
    'the story of an order that ships');

-- The whole of it
SELECT submit('ann', lines('p', 6, 15)) AS id \gset
SELECT is(outcome(:'id'), 'shipped', 'an order that uses up credit and stock exactly ships');
SELECT is(credit('ann') || ' ' || units('p'), '0/0 0/0', 'to nothing');
SELECT order_mgmt.set_stock('p', 10) \g /dev/null
SELECT submit('ann', lines('p', 1, 0)) AS id \gset
SELECT is(outcome(:'id'), 'shipped', 'balance 0 is a balance: what costs nothing ships');
SELECT submit('ann', lines('p', 1, 0.0001)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {insufficient_balance}', 'a ten-thousandth too much does not');
SELECT is(shortages(:'id'), '[{"available": "0.0000", "requested": "0.0001", "customer_id": "ann"}]',
    'what was asked for and what there was, money as strings');

-- Two lines of one product
SELECT open_shop('bob', 100, 'q', 5) \g /dev/null
SELECT submit('bob', lines('q', 3) || lines('q', 3)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {insufficient_stock}', 'two lines of a product are checked as their sum');
SELECT is(shortages(:'id'), '[{"available": 5, "requested": 6, "product_id": "q"}]', 'which is what is reported');
SELECT is(credit('bob') || ' ' || units('q'), '100/0 5/0', 'credit held for it has come back');
SELECT is(story(:'id'), 'order_captured balance_held stock_refused order_rejected', 'and so it went');
SELECT submit('bob', lines('q', 2) || lines('q', 3)) AS id \gset
SELECT is(outcome(:'id'), 'shipped', 'a sum that fits ships');
SELECT is(units('q'), '0/0', 'as the sum');

-- Both, none, nobody
SELECT submit('bob', lines('q', 1, 1000)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {insufficient_balance,insufficient_stock}', 'both reasons are given');
SELECT is(order_mgmt.get_order(:'id')->'events'->-1->'detail'->'reasons',
    '["insufficient_balance", "insufficient_stock"]', 'also with the event');
SELECT submit('nobody', lines('p', 1, 1)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {unknown_account}', 'an unknown account is a refusal');
SELECT is(shortages(:'id'), '[{"available": "0.0000", "requested": "1.0000", "customer_id": "nobody"}]', 'with what was asked for');
SELECT is(units('p'), '9/0', 'stock held for it has come back');
SELECT submit('bob', lines('nothing', 1, 1)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {unknown_product}', 'an unknown product is a refusal');
SELECT order_mgmt.set_product('described', unit_price => 1) \g /dev/null
SELECT submit('bob', '[{"product_id": "described", "quantity": 1}]') AS id \gset
SELECT is(outcome(:'id'), 'rejected {unknown_product}', 'a product without a stock row is unknown to the check');
SELECT submit('nobody', lines('nothing', 1, 1)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {unknown_account,unknown_product}', 'both unknown');
SELECT submit('nobody', lines('nothing', 1, 0)) AS id \gset
SELECT is(outcome(:'id'), 'rejected {unknown_account,unknown_product}', 'also when it costs nothing');

-- Several products: all or none
SELECT order_mgmt.set_stock('r', 1), order_mgmt.set_stock('s', 1), order_mgmt.set_stock('t', 0) \g /dev/null
SELECT submit('bob', lines('t') || lines('s', 2) || lines('r') || lines('u')) AS id \gset
SELECT is(outcome(:'id'), 'rejected {insufficient_stock,unknown_product}', 'some products are short');
SELECT is(shortages(:'id'), '[{"available": 1, "requested": 2, "product_id": "s"},'
    ' {"available": 0, "requested": 1, "product_id": "t"},'
    ' {"available": 0, "requested": 1, "product_id": "u"}]', 'all of them are named, in order');
SELECT is(units('r') || ' ' || units('s'), '1/0 1/0', 'and nothing is held of the others');

-- In one batch, in the order of arrival
SELECT open_shop('cid', 5, 'v', 5) \g /dev/null
CREATE TABLE batch AS SELECT * FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object(
    'customer_id', 'cid', 'lines', lines('v', quantity))) FROM unnest('{2,2,2,1}'::int[]) AS quantity));
SELECT run() \g /dev/null
SELECT is((SELECT string_agg(outcome(order_id), ' ' ORDER BY ordinal) FROM batch),
    'shipped shipped rejected {insufficient_balance,insufficient_stock} shipped',
    'first come, first served; a smaller order may still fit after a refusal');
SELECT is(credit('cid') || ' ' || units('v'), '0/0 0/0', 'neither oversold nor over credit');

-- What an undecided order holds may come back: waiting for that is promised, refusing at once is not.
SELECT open_shop('poor', 0, 'last', 1), open_shop('rich', 100, 'last', 1) \g /dev/null
SELECT order_mgmt.capture_order('poor', lines('last')) \g /dev/null
SELECT order_mgmt.capture_order('rich', lines('last')) AS id \gset
SELECT run() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'no false refusal: the unit held for an order that cannot pay is sold to the next');

-- What several orders wait for may add up to more than one amount can be.
SELECT open_shop('rich', 99999999999999, 'pearl', 100) \g /dev/null
SELECT order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'rich', 'lines', lines('pearl', 1, 90000000000000), 'order_ref', 'pearl'))
                                  FROM generate_series(1, 12))) \g /dev/null
SELECT run() \g /dev/null
SELECT is((SELECT string_agg(status, ' ' ORDER BY status) FROM order_mgmt.orders WHERE order_ref = 'pearl'),
    repeat('rejected ', 11) || 'shipped', 'sums beyond the largest amount decide rightly');
SELECT is((SELECT sum(failed) FROM order_mgmt.queues), 0::numeric, 'without any failure');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
