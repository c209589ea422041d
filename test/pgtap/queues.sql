-- Queues, their views, and pauses. What other transactions have committed is in the regression test
-- of that name; here the events are the transaction's own.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT is(rows_of('SELECT consumer, pending, oldest_age, worker_pid, paused FROM order_mgmt.queues ORDER BY consumer'),
    '(balance_checker,0,,,f) (order_updater,0,,,f) (shipper,0,,,f) (stock_checker,0,,,f)', 'four consumers, idle');
SELECT is(rows_of('SELECT name, kind, paused FROM order_mgmt.consumers ORDER BY name'),
    '(balance_checker,built-in,f) (order_updater,built-in,f) (shipper,built-in,f) (stock_checker,built-in,f)',
    'table consumers has them');
SELECT is(order_mgmt.wait_until_idle('1 s'), true, 'idle');

SELECT is(error_of($$SELECT order_mgmt.pause_consumer('nobody')$$), 'OM004', 'pause nobody');
SELECT is(error_of($$SELECT order_mgmt.resume_consumer('nobody')$$), 'OM004', 'resume nobody');
SELECT is(error_of('SELECT order_mgmt.pause_consumer(NULL)'), 'OM001 name', 'pause NULL');
SELECT is(error_of('SELECT order_mgmt.resume_consumer(NULL)'), 'OM001 name', 'resume NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.queue_contents('nobody')$$), 'OM001 consumer', 'the queue of nobody');
SELECT is(error_of('SELECT * FROM order_mgmt.queue_contents(NULL)'), 'OM001 consumer', 'the queue of NULL');

-- Pauses
SELECT is(order_mgmt.pause_consumer('balance_checker'), true, 'pausing it');
SELECT is(order_mgmt.pause_consumer('balance_checker'), false, 'again, it already does');
SELECT is((SELECT paused FROM order_mgmt.queues WHERE consumer = 'balance_checker'), true, 'the view shows it');
SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 5)) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'captured', 'a paused consumer does nothing, whoever runs the pipeline');
SELECT is(credit('ann') || ' ' || units('p'), '100/0 10/2', 'the others go on');
SELECT is(order_mgmt.wait_until_idle('1 s'), true, 'what it has before it does not count as work');
SELECT is(order_mgmt.resume_consumer('balance_checker'), true, 'resuming it');
SELECT is(order_mgmt.resume_consumer('balance_checker'), false, 'again, it already does');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'it goes on where it stopped');

-- The views, one consumer after the other, each pausing in its turn
CREATE FUNCTION contents() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ',
        (SELECT string_agg('balance:' || event_type, ' ' ORDER BY event_id) FROM order_mgmt.balance_check_queue),
        (SELECT string_agg('stock:' || event_type, ' ' ORDER BY event_id) FROM order_mgmt.stock_check_queue),
        (SELECT string_agg('update:' || event_type, ' ' ORDER BY event_id) FROM order_mgmt.order_update_queue),
        (SELECT string_agg('ship:' || event_type, ' ' ORDER BY event_id) FROM order_mgmt.shipment_queue))
$$;
SELECT count(*) FROM order_mgmt.consumers, order_mgmt.pause_consumer(name) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 5)) AS id \gset
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'all pause');
SELECT is(pending(), '1 1 0 0', 'queues count what waits');
SELECT is(contents(), 'balance:order_captured stock:order_captured', 'and the views show it');
SELECT is((SELECT oldest_age >= '0' FROM order_mgmt.queues WHERE consumer = 'stock_checker'), true, 'with the age of the oldest');
SELECT is((SELECT order_id FROM order_mgmt.balance_check_queue), :'id'::uuid, 'of which order');
SELECT order_mgmt.resume_consumer('balance_checker'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(contents(), 'stock:order_captured update:balance_held', 'balance_checker has been');
SELECT order_mgmt.resume_consumer('stock_checker'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(contents(), 'update:balance_held update:stock_held', 'stock_checker has been');
SELECT order_mgmt.resume_consumer('order_updater'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(contents(), 'ship:order_confirmed', 'order_updater has been');
SELECT order_mgmt.resume_consumer('shipper'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(contents(), '', 'shipper has been');
SELECT is(pending(), '0 0 0 0', 'nothing waits');
SELECT cmp_ok((SELECT min(processed) FROM order_mgmt.queues), '>=', 2::bigint, 'each has handled both orders');

-- A note is nobody's work
SELECT order_mgmt.add_order_note(:'id', 'x') \g /dev/null
SELECT is(pending(), '0 0 0 0', 'a note waits for nobody');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'nor is it handled');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
