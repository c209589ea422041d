-- check_invariants() finds drift of every kind that is planted here, and nothing else.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10), open_shop('bob', 100, 'q', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 5)) AS shipped \gset
SELECT order_mgmt.capture_order('ann', lines('p', 100, 1)) AS rejected \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.capture_order('ann', lines('p', 3, 5)) AS confirmed \gset
SELECT order_mgmt.capture_order('ann', lines('p', 1, 1)) AS cancelled \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.cancel_order(:'cancelled') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 1, 1)) AS captured \gset
SELECT invariants_hold('they hold with orders in every state');

-- The invariants that a change breaks, each with its subject; nothing is left of the change.
CREATE FUNCTION broken_by(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    BEGIN
        EXECUTE change;
        SELECT string_agg(format('%s %s: %s <> %s', invariant, subject, expected, actual), ', '
                          ORDER BY invariant, subject, expected) INTO answer
        FROM order_mgmt.check_invariants();
        RAISE EXCEPTION USING ERRCODE = 'TEST1';
    EXCEPTION WHEN SQLSTATE 'TEST1' THEN
        RETURN coalesce(answer, 'nothing');
    END;
END
$$;

SELECT is(broken_by('SELECT 1'), 'nothing', 'no change breaks nothing');
SELECT is(broken_by($$UPDATE order_mgmt.accounts SET reserved = reserved + 1 WHERE customer_id = 'ann'$$),
    'account_reserved ann: 15.0000 <> 16.0000', 'credit held for nothing');
SELECT is(broken_by($$UPDATE order_mgmt.accounts SET reserved = 0 WHERE customer_id = 'ann'$$),
    'account_reserved ann: 15.0000 <> 0.0000', 'credit not held');
SELECT is(broken_by($$UPDATE order_mgmt.accounts SET reserved = 0.0001 WHERE customer_id = 'bob'$$),
    'account_reserved bob: 0 <> 0.0001', 'of somebody without orders');
SELECT is(broken_by($$UPDATE order_mgmt.stock SET reserved = reserved - 1 WHERE product_id = 'p'$$),
    'stock_reserved p: 3 <> 2', 'stock not held');
SELECT is(broken_by($$UPDATE order_mgmt.stock SET reserved = 1 WHERE product_id = 'q'$$),
    'stock_reserved q: 0 <> 1', 'stock held for nothing');
SELECT is(broken_by($$UPDATE order_mgmt.accounts SET balance = balance + 5 WHERE customer_id = 'ann'$$),
    'account_balance ann: 90.0000 <> 95.0000', 'money out of nowhere');
SELECT is(broken_by($$UPDATE order_mgmt.stock SET on_hand = on_hand - 1 WHERE product_id = 'p'$$),
    'stock_on_hand p: 8 <> 7', 'units that vanish');
SELECT is(broken_by(format('UPDATE order_mgmt.orders SET total = 1.5 WHERE order_id = %L', :'captured')),
    format('order_total %s: 1.0000 <> 1.5000', :'captured'), 'a total that is not that of the lines');
SELECT matches(broken_by(format('UPDATE order_mgmt.order_lines SET quantity = 4 WHERE order_id = %L', :'confirmed')),
    'order_total .*stock_reserved p: 4 <> 3', 'a quantity that changes');
SELECT is(broken_by(format('DELETE FROM order_mgmt.order_lines WHERE order_id = %L', :'captured')),
    format('order_total %s: -1 <> 1.0000', :'captured'), 'lines that vanish');
SELECT matches(broken_by(format('DELETE FROM order_mgmt.orders WHERE order_id = %L', :'captured')),
    'event_without_order .*order_line_without_order', 'an order that vanishes');
SELECT is(broken_by(format('UPDATE order_mgmt.orders SET status = ''shipped'', settled = 3 WHERE order_id = %L', :'cancelled')),
    'account_balance ann: 89.0000 <> 90.0000, order_status ' || :'cancelled' || ': cancelled <> shipped, stock_on_hand p: 7 <> 8',
    'a status that no event led to');
SELECT is(broken_by(format('UPDATE order_mgmt.orders SET status = ''confirmed'' WHERE order_id = %L', :'captured')),
    format('order_status %s: captured <> confirmed', :'captured'), 'an order confirmed by hand');
SELECT matches(broken_by(format('UPDATE order_mgmt.orders SET settled = 0 WHERE order_id = %L', :'shipped')),
    'account_reserved ann: 25.0000 <> 15.0000, final_order_settled ' || :'shipped' || ': 3 <> 0', 'a hold that is said not to be settled');
SELECT matches(broken_by($$INSERT INTO order_mgmt.event_log SELECT at, lxid, event_id + 1, event_type, order_ids,
    customer_id, product_id, detail FROM order_mgmt.event_log WHERE event_type = 'order_shipped'$$),
    'event_once ' || :'shipped' || ' order_shipped: 1 <> 2', 'an order that ships twice');
SELECT matches(broken_by($$DELETE FROM order_mgmt.event_log WHERE event_type = 'order_shipped'$$),
    'order_status ' || :'shipped' || ': confirmed <> shipped', 'an event that vanishes');
SELECT matches(broken_by($$DELETE FROM order_mgmt.event_log WHERE event_type = 'balance_changed' AND customer_id = 'bob'$$),
    'account_balance bob: 0 <> 100.0000', 'a change of balance that vanishes');
SELECT matches(broken_by($$UPDATE order_mgmt.event_log SET event_type = 'balance_held' WHERE event_type = 'stock_refused'$$),
    'order_history ' || :'rejected', 'a history that is not possible');
SELECT matches(broken_by($$UPDATE order_mgmt.event_log SET detail = '{"quantity": 7}' WHERE event_type = 'stock_changed' AND product_id = 'q'$$),
    'stock_on_hand q: 7 <> 10', 'a change of stock that is not what it was');
-- The cursor of the updater jumps over verdicts: nobody will ever decide that order.
SELECT matches(broken_by($$
    SELECT order_mgmt.pause_consumer('order_updater');
    SELECT order_mgmt.run_pipeline();
    SELECT order_mgmt.capture_order('ann', lines('p', 1, 1));
    SELECT order_mgmt.run_pipeline();
    INSERT INTO order_mgmt.cursor_log_0 SELECT c.consumer, c.seq + 1, n.tick_id, n.base, n.target, n.lxid, n.event_id,
        c.processed, c.seq + 1, 0, c.at
    FROM (SELECT * FROM order_mgmt.cursor_log_0 WHERE consumer = 'order_updater' ORDER BY seq DESC LIMIT 1) AS c,
         (SELECT * FROM order_mgmt.cursor_log_0 WHERE consumer = 'stock_checker' ORDER BY seq DESC LIMIT 1) AS n;
    SELECT order_mgmt.resume_consumer('order_updater');
    SELECT order_mgmt.run_pipeline()$$), 'consumer_events order_updater.*order_moves_on ' || :'captured', 'an order that was left behind');

-- What the database itself does not let happen
SELECT is(error_of($$UPDATE order_mgmt.accounts SET reserved = 101 WHERE customer_id = 'bob'$$), '23514', 'more held than there is');
SELECT is(error_of($$UPDATE order_mgmt.accounts SET reserved = -1 WHERE customer_id = 'bob'$$), '23514', 'less than nothing held');
SELECT is(error_of($$UPDATE order_mgmt.stock SET on_hand = 2 WHERE product_id = 'p'$$), '23514', 'less on hand than is held');
SELECT is(error_of($$UPDATE order_mgmt.stock SET reserved = -1 WHERE product_id = 'q'$$), '23514', 'less than no units held');
SELECT is(error_of($$UPDATE order_mgmt.orders SET status = 'open'$$), '23514', 'an unknown status');
SELECT is(error_of($$UPDATE order_mgmt.event_log SET event_type = 'thing_happened'$$), '23514', 'an unknown event');
SELECT is(error_of($$UPDATE order_mgmt.order_lines SET quantity = 0$$), '23514', 'a line of nothing');
SELECT is(error_of($$UPDATE order_mgmt.order_lines SET unit_price = -1$$), '23514', 'a negative price');
SELECT is(error_of($$UPDATE order_mgmt.orders SET total = -1$$), '23514', 'a negative total');

SELECT is((SELECT count(*) FROM order_mgmt.check_invariants("full" => true)), 0::bigint, 'check_invariants(true)');
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
