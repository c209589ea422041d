-- replace_order links two orders in one transaction; notes belong to orders in any state.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 5), order_ref => 'ref 7', metadata => '{"gift": true}') AS old \gset
SELECT order_mgmt.replace_order(:'old', lines('p', 3, 5), 'swap') AS new \gset
SELECT is(outcome(:'old') || ' ' || outcome(:'new'), 'cancelled captured', 'the old one is cancelled, a new one captured');
SELECT is(rows_of(format('SELECT customer_id, order_ref, total, metadata FROM order_mgmt.orders WHERE order_id = %L', :'new')),
    format('(ann,"ref 7",15.0000,"{""gift"": true, ""replaces"": ""%s""}")', :'old'),
    'the new one inherits customer, reference and metadata, and names the old one');
SELECT is((SELECT detail->>'replaced_by' FROM order_mgmt.track_order(:'old') WHERE event_type = 'order_cancelled'),
    :'new', 'the old one names the new one');
SELECT is(order_mgmt.replace_order(:'old', lines('p', 3, 5), 'swap'), :'new', 'repeated with its key it is the same order');
SELECT is(error_of(format('SELECT order_mgmt.replace_order(%L, lines(''p'', 4, 5), ''swap'')', :'old')),
    'OM002 idempotency_key', 'with other lines it is another request');
SELECT is(error_of(format('SELECT order_mgmt.replace_order(%L, lines(''p'', 4, 5))', :'old')), 'OM005 cancelled',
    'what has been cancelled cannot be replaced');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'old') || ' ' || outcome(:'new'), 'cancelled shipped', 'only the new one ships');
SELECT is(credit('ann') || ' ' || units('p'), '85/0 7/0', 'and nothing stays held for the old one');

SELECT is(error_of(format('SELECT order_mgmt.replace_order(%L, lines(''p''), ''late'')', :'new')), 'OM005 shipped',
    'a shipped order is not replaced');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders('ann')), 2::bigint, 'and nothing is captured in its place');
SELECT is(error_of(format('SELECT order_mgmt.replace_order(%L, ''[]'')', :'new')), 'OM001 lines', 'lines are checked');
SELECT is(error_of($$SELECT order_mgmt.replace_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0', lines('p'))$$), 'OM004',
    'no such order');
SELECT is(error_of($$SELECT order_mgmt.replace_order(NULL, lines('p'))$$), 'OM001 order_id', 'order NULL');

-- A confirmed order gives its unit to the one that replaces it
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.set_stock('p', 1) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 1, 5)) AS old \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'old'), 'confirmed', 'the last unit is held');
SELECT order_mgmt.replace_order(:'old', lines('p', 1, 5) || lines('p', 0 + 0 + 1, 0)) AS more \gset
SET LOCAL order_mgmt.auto_ship = on;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'more'), 'rejected {insufficient_stock}', 'a replacement that asks for too much is refused');
SELECT is(outcome(:'old'), 'cancelled', 'the old one stays cancelled');
SELECT is(units('p'), '1/0', 'and its unit is free');

-- Notes
SELECT order_mgmt.add_order_note(:'more', 'called', '{"by": "eve", "note": "not this"}') AS event \gset
SELECT is(rows_of(format('SELECT event_id, detail FROM order_mgmt.events WHERE event_type = ''order_noted'' AND order_id = %L', :'more')),
    format('(%s,"{""by"": ""eve"", ""note"": ""called""}")', :'event'), 'a note is an event with an id and details');
SELECT is(outcome(:'more'), 'rejected {insufficient_stock}', 'and changes nothing else');
SELECT order_mgmt.add_order_note(:'new', 'one') \g /dev/null
SELECT order_mgmt.add_order_note(:'new', 'two') \g /dev/null
SELECT is(story(:'new'), 'order_captured balance_held stock_held order_confirmed order_shipped order_noted order_noted',
    'an order may have several, also when it has shipped');
SELECT order_mgmt.capture_order('ann', lines('p', 1, 5)) AS id \gset
SELECT order_mgmt.add_order_note(:'id', 'early', NULL) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'a note before the checks is in nobody''s way');
SELECT is(error_of(format('SELECT order_mgmt.add_order_note(%L, NULL)', :'id')), 'OM001 note', 'note NULL');
SELECT is(error_of(format('SELECT order_mgmt.add_order_note(%L, ''x'', ''[]'')', :'id')), 'OM001 detail', 'detail no object');
SELECT is(error_of($$SELECT order_mgmt.add_order_note('01a1fd9f-f26b-740f-82c3-52bd8163a5c0', 'x')$$), 'OM004', 'no such order');
SELECT is(error_of($$SELECT order_mgmt.add_order_note(NULL, 'x')$$), 'OM001 order_id', 'order NULL');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
