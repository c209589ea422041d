-- A model's score as a check of orders: off by default, asked by who captures, and no model stops the shop.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE TABLE test.asked (input jsonb);
CREATE FUNCTION test.risk(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO test.asked VALUES (input);
    SELECT jsonb_build_object('score', (input->>'total')::numeric / 100)
$$;
CREATE FUNCTION test.fail(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(1 / 0)$$;
CREATE FUNCTION test.words(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '"high"'::jsonb$$;
SELECT order_mgmt.create_model('risk', 'sql', '{"function": "test.risk"}'), order_mgmt.create_model('fail', 'sql', '{"function": "test.fail"}'),
    order_mgmt.create_model('words', 'sql', '{"function": "test.words"}') \g /dev/null
SELECT open_shop('ann', 1000, 'p', 1000) \g /dev/null
CREATE FUNCTION capture(quantity bigint, key text DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    SELECT order_mgmt.capture_order('ann', test.lines('p', quantity), key, metadata => '{"from": "web"}')
$$;

SELECT capture(90) AS id \gset
SELECT is((SELECT count(*) FROM test.asked), 0::bigint, 'off by default');
SELECT is(outcome(:'id'), 'captured', 'and the order is captured');

SET LOCAL order_mgmt.check_model = 'risk';
SET LOCAL order_mgmt.check_threshold = 0.5;
SELECT capture(20) AS good \gset
SELECT capture(60) AS bad \gset
SELECT is(outcome(:'good'), 'captured', 'a low score passes');
SELECT is(outcome(:'bad'), 'cancelled', 'a high one does not');
SELECT is((SELECT input - 'order_id' FROM test.asked WHERE input->>'order_id' = :'bad'),
    '{"order_ref": null, "customer_id": "ann", "total": "60.0000", "metadata": {"from": "web"}, "lines": [{"product_id": "p", "quantity": 60, "unit_price": "1.0000"}]}'::jsonb,
    'the model sees the order');
SELECT is((SELECT detail->>'reason' FROM order_mgmt.track_order(:'bad') WHERE event_type = 'order_cancelled'), 'model "risk": score 0.6 reaches 0.5', 'the log says why');
SELECT is(outcome(capture(50)), 'cancelled', 'the threshold itself is refused');

-- Batches ask once for all; a repetition is not asked about
DELETE FROM test.asked;
CREATE TABLE test.batch AS SELECT * FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'lines', lines('p', q)))
    FROM unnest('{10,70,30,0}'::bigint[]) AS q));
SELECT is(rows_of('SELECT c.ordinal, c.created, o.status FROM test.batch AS c LEFT JOIN order_mgmt.orders AS o USING (order_id) ORDER BY 1'), '(1,t,captured) (2,t,cancelled) (3,t,captured) (4,f,)', 'each of a batch by itself');
SELECT is((SELECT count(*) FROM test.asked), 3::bigint, 'but for those that are no orders');
SELECT capture(11, 'key') AS first \gset
SELECT is(capture(11, 'key'), :'first', 'again');
SELECT is((SELECT count(*) FROM test.asked), 4::bigint, 'is asked about once');
SELECT order_mgmt.replace_order(:'good', lines('p', 80)) AS replaced \gset
SELECT is(outcome(:'replaced'), 'cancelled', 'a replacement is an order too');

-- What was refused holds nothing in the end
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'bad'), 'cancelled', 'it stays cancelled');
SELECT is(credit('ann') || ' ' || units('p'), '859/0 859/0', 'and only the others are shipped');
SELECT * FROM invariants_hold();

-- A model that fails
SET LOCAL client_min_messages = error;
SET LOCAL order_mgmt.check_model = 'fail';
SELECT is(outcome(capture(60)), 'captured', 'a model that fails lets orders pass');
SET LOCAL order_mgmt.check_model = 'words';
SELECT is(outcome(capture(60)), 'captured', 'one without a score too');
SET LOCAL order_mgmt.check_model = 'absent';
SELECT is(outcome(capture(60)), 'captured', 'and one that is not there');
SELECT order_mgmt.set_model_options('fail', '{"function": "test.fail", "fallback": "risk"}') \g /dev/null
SET LOCAL order_mgmt.check_model = 'fail';
SELECT is(outcome(capture(60)), 'cancelled', 'a fallback checks for it');
SELECT order_mgmt.set_model_options('fail', '{"function": "test.fail"}') \g /dev/null

-- The model has the rights of who captures, who has no say in it
CREATE ROLE test_app IN ROLE order_mgmt_app;
SET LOCAL order_mgmt.check_model = 'risk';
GRANT USAGE ON SCHEMA test TO test_app;
SET LOCAL ROLE test_app;
SELECT is(error_of($$SET order_mgmt.check_model = ''$$), '42501', 'an application does not switch it off');
SELECT is(error_of($$SET order_mgmt.check_threshold = 9$$), '42501', 'nor raises the threshold');
SELECT is((SELECT status FROM order_mgmt.list_orders('ann', page_size => 1)), 'cancelled', 'what was last');
SELECT capture(60) AS id \gset
SELECT is(outcome(:'id'), 'captured', 'a function that may not write fails');
RESET ROLE;
GRANT INSERT ON test.asked TO test_app;
SET LOCAL ROLE test_app;
SELECT is(outcome(capture(60)), 'cancelled', 'one that may checks');
RESET ROLE;

SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT * FROM invariants_hold();
SELECT * FROM finish();
ROLLBACK;
