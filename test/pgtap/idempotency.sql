-- Idempotency keys: the same request twice has one effect; two equal orders without a key are two.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.set_product('p', unit_price => 5) \g /dev/null
CREATE FUNCTION capture(quantity int, key text, ref text DEFAULT NULL, metadata jsonb DEFAULT '{}',
    expected numeric DEFAULT NULL, customer text DEFAULT 'ann') RETURNS uuid LANGUAGE sql AS $$
    SELECT order_mgmt.capture_order(customer,
        jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', quantity)), key, ref, metadata, expected)
$$;

SELECT isnt(capture(1, NULL), capture(1, NULL), 'two equal orders without a key are two orders');

SELECT capture(1, 'k') AS id \gset
SELECT is(capture(1, 'k'), :'id', 'the same request with the same key is the same order');
SELECT is(order_mgmt.capture_order(lines => '[ {"quantity":1,  "product_id":"p"} ]', customer_id => 'ann',
    idempotency_key => 'k'), :'id', 'also when its JSON is laid out otherwise');
SELECT is(story(:'id'), 'order_captured', 'captured once');
SELECT is(error_of($$SELECT capture(2, 'k')$$), 'OM002 idempotency_key', 'other lines');
SELECT is(error_of($$SELECT capture(1, 'k', 'ref')$$), 'OM002 idempotency_key', 'another reference');
SELECT is(error_of($$SELECT capture(1, 'k', NULL, '{"a": 1}')$$), 'OM002 idempotency_key', 'other metadata');
SELECT is(error_of($$SELECT capture(1, 'k', NULL, '{}', 5)$$), 'OM002 idempotency_key', 'another expectation');
SELECT is(error_of($$SELECT capture(0, 'k')$$), 'OM001 lines[0].quantity',
    'a malformed request is malformed, whatever its key');
SELECT isnt(capture(1, 'k', customer => 'bob'), :'id', 'the key of another customer is another key');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('ann', 1, NULL, 'k')$$), 'no error',
    'nor is that of an adjustment the same');

-- The request as it was sent counts, not what became of it
SELECT order_mgmt.set_product('p', unit_price => 6) \g /dev/null
SELECT is(capture(1, 'k'), :'id', 'the price of the product has changed meanwhile');
SELECT order_mgmt.set_product('p', unit_price => 5) \g /dev/null
SELECT capture(1, 'k2', NULL, '{}', 5) AS expected_id \gset
SELECT order_mgmt.set_product('p', unit_price => 6) \g /dev/null
SELECT is(error_of($$SELECT capture(1, 'k2', NULL, '{}', 5)$$), 'no error',
    'an expected total that fitted the first time is no reason to refuse the second');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'the order has shipped');
SELECT is(capture(1, 'k'), :'id', 'its key still names it');
SELECT is(outcome(:'id'), 'shipped', 'and captures nothing');

-- A capture that was rolled back has used no key
SAVEPOINT attempt;
SELECT capture(3, 'r') AS rolled_back \gset
ROLLBACK TO SAVEPOINT attempt;
SELECT is(order_mgmt.get_order_status(:'rolled_back'), NULL::text, 'rolled back, the order is not there');
SELECT capture(4, 'r') AS again \gset
SELECT isnt(:'again'::uuid, :'rolled_back'::uuid, 'and its key is free for another request');

-- Keys are kept for idempotency_retention, in tables that take turns
SET LOCAL order_mgmt.idempotency_retention = 30;
CREATE FUNCTION ten_days_later() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_mgmt.rotations SET since = since - interval '10 days' WHERE name = 'idempotency_keys';
    RETURN (SELECT string_agg(action || ' ' || object, ',') FROM order_mgmt.run_maintenance());
END
$$;
-- A month may have begun since setup().
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT capture(1, 'old') AS old \gset
SELECT is(ten_days_later(), 'rotate idempotency_keys', 'after ten days another table takes the keys');
SELECT is(capture(1, 'old'), :'old', 'a key of the table before is still known');
SELECT is(error_of($$SELECT capture(2, 'old')$$), 'OM002 idempotency_key', 'with its request');
SELECT is(ten_days_later() || capture(1, 'old'), 'rotate idempotency_keys' || :'old', 'after twenty days');
SELECT is(ten_days_later() || capture(1, 'old'), 'rotate idempotency_keys' || :'old', 'after thirty days');
SELECT is(ten_days_later(), 'rotate idempotency_keys', 'after forty days');
SELECT isnt(capture(1, 'old'), :'old', 'it is forgotten');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
