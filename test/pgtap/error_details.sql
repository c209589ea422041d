-- Every error of ours has a JSON object for programs in DETAIL, and a sentence for people in HINT.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 10, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p'), 'k') AS own \gset
SELECT order_mgmt.adjust_balance('ann', 1, 'r', 'k'), order_mgmt.adjust_stock('p', 1, 'r', 'k') \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS shipped \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS captured \gset

-- '' when both are as they should be, else what is wrong
CREATE FUNCTION flaw(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    detail text;
    hint text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(', ', CASE WHEN state NOT LIKE 'OM00_' THEN state END,
        CASE WHEN detail NOT LIKE '{"%}' OR jsonb_typeof(detail::jsonb) <> 'object' THEN 'DETAIL: ' || detail END,
        CASE WHEN hint !~ '^[A-Z].*\S' THEN 'HINT: ' || hint END);
END
$$;
SELECT is(flaw(statement), '', statement) FROM unnest(ARRAY[
    $$SELECT order_mgmt.capture_order('ann', '[]')$$,
    $$SELECT order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 1, "unit_price": 1, "a\"b": 1}]')$$,
    $$SELECT order_mgmt.capture_order('ann', lines('p', 2), 'k')$$,
    $$SELECT * FROM order_mgmt.capture_orders('[7]', 'reject_all')$$,
    $$SELECT * FROM order_mgmt.capture_orders('[]', 'x')$$,
    $$SELECT order_mgmt.preview_order(NULL, '[]')$$,
    $$SELECT order_mgmt.adjust_balance('ann', 2, 'r', 'k')$$,
    $$SELECT order_mgmt.adjust_stock('p', 2, 'r', 'k')$$,
    $$SELECT order_mgmt.adjust_balance('nobody', 2)$$,
    $$SELECT order_mgmt.adjust_stock('nothing', 2)$$,
    $$SELECT order_mgmt.adjust_balance('ann', -1000)$$,
    $$SELECT order_mgmt.adjust_stock('p', -1000)$$,
    $$SELECT order_mgmt.set_account('ann', -1)$$,
    $$SELECT order_mgmt.set_stock('p', -1)$$,
    $$SELECT order_mgmt.set_product('p', unit_price => -1)$$,
    $$SELECT order_mgmt.delete_account('ann')$$,
    $$SELECT order_mgmt.delete_account('nobody')$$,
    $$SELECT order_mgmt.cancel_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$,
    format($$SELECT order_mgmt.cancel_order(%L)$$, :'shipped'),
    format($$SELECT order_mgmt.ship_order(%L)$$, :'captured'),
    format($$SELECT order_mgmt.replace_order(%L, lines('p'))$$, :'shipped'),
    format($$SELECT order_mgmt.add_order_note(%L, NULL)$$, :'shipped'),
    format($$SELECT order_mgmt.wait_for_order(%L)$$, :'captured'),
    $$SELECT order_mgmt.wait_for_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$,
    $$SELECT order_mgmt.wait_until_idle()$$,
    $$SELECT order_mgmt.get_order(NULL)$$,
    $$SELECT * FROM order_mgmt.list_orders(status => 'x')$$,
    $$SELECT * FROM order_mgmt.list_accounts(page_size => 0)$$,
    $$SELECT order_mgmt.pause_consumer('nobody')$$,
    $$SELECT * FROM order_mgmt.queue_contents('nobody')$$,
    $$SELECT order_mgmt.run_pipeline(0)$$,
    $$SELECT order_mgmt.teardown('x')$$]) AS statement;

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
