-- check_invariants() finds drift of every kind, and nothing else; repair_invariants() mends what follows from the log.
BEGIN;
\ir helpers.psql
SET LOCAL client_min_messages = error;    -- a repair warns of what it must leave
SELECT no_plan();

-- Orders in every state that the pipeline leads to
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

-- For the changes below
CREATE FUNCTION event(type text, id uuid, detail jsonb DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids, detail)
    VALUES (now(), pg_current_xact_id()::text::bigint, nextval('order_mgmt.event_ids'), type, uuid_send(id), detail)
$$;
CREATE FUNCTION hold(credit numeric, units bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE order_mgmt.accounts SET reserved = reserved + credit WHERE customer_id = 'ann';
    UPDATE order_mgmt.stock SET reserved = reserved + units WHERE product_id = 'p';
$$;
CREATE FUNCTION post(credit numeric, units bigint) RETURNS void LANGUAGE sql AS $$
    SELECT hold(-credit, -units);
    UPDATE order_mgmt.accounts SET balance = balance - credit WHERE customer_id = 'ann';
    UPDATE order_mgmt.stock SET on_hand = on_hand - units WHERE product_id = 'p';
$$;
CREATE FUNCTION becomes(id uuid, to_status text, to_settled int, to_round int DEFAULT 0) RETURNS void LANGUAGE sql AS $$
    UPDATE order_mgmt.orders SET status = to_status, settled = to_settled, round = to_round WHERE order_id = id
$$;
-- The balance check is given up, and the stock check holds.
CREATE FUNCTION give_up(id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT event('balance_refused', id, '{"reasons": []}'), event('order_failed', id), becomes(id, 'failed', 0);
    SELECT event('stock_held', id), hold(0, 1);
$$;
CREATE FUNCTION release(id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT event('order_released', id), becomes(id, 'failed', 3), hold(0, -1);
$$;
CREATE FUNCTION replay(id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT give_up(id), release(id), event('order_captured', id, '{"round": 1}'), becomes(id, 'captured', 0, 1)
$$;
CREATE FUNCTION hold_again(id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT replay(id), event('balance_held', id, '{"round": 1}'), event('stock_held', id, '{"round": 1}'), hold(1, 1)
$$;
CREATE FUNCTION confirm_again(id uuid) RETURNS void LANGUAGE sql AS $$
    SELECT hold_again(id), event('order_confirmed', id, '{"round": 1}'), becomes(id, 'confirmed', 0, 1)
$$;

-- finds: every row of check_invariants(), in order. mends: every row of repair_invariants(), which then
-- leaves nothing to find; where it mends nothing, all is as it was. * stands for anything.
CREATE TABLE planted (invariant text, what text, change text, finds text, mends text, n int GENERATED ALWAYS AS IDENTITY);
INSERT INTO planted (invariant, what, change, finds, mends) VALUES
    (NULL, 'no change', 'SELECT 1', '', NULL),
-- amounts
    ('account_reserved', 'credit held for nothing',
        $$UPDATE order_mgmt.accounts SET reserved = reserved + 1 WHERE customer_id = 'ann'$$,
        'account_reserved ann: 15.0000 <> 16.0000', 'account_reserved ann: 15.0000 <> 16.0000'),
    ('account_reserved', 'credit not held',
        $$UPDATE order_mgmt.accounts SET reserved = 0 WHERE customer_id = 'ann'$$,
        'account_reserved ann: 15.0000 <> 0.0000', 'account_reserved ann: 15.0000 <> 0.0000'),
    ('account_reserved', 'of somebody without orders',
        $$UPDATE order_mgmt.accounts SET reserved = 0.0001 WHERE customer_id = 'bob'$$,
        'account_reserved bob: 0 <> 0.0001', 'account_reserved bob: 0.0000 <> 0.0001'),
    ('account_balance', 'money out of nowhere',
        $$UPDATE order_mgmt.accounts SET balance = balance + 5 WHERE customer_id = 'ann'$$,
        'account_balance ann: 90.0000 <> 95.0000', 'account_balance ann: 90.0000 <> 95.0000'),
    ('account_balance', 'both amounts of an account',
        $$UPDATE order_mgmt.accounts SET balance = 20, reserved = 20 WHERE customer_id = 'ann'$$,
        'account_balance ann: 90.0000 <> 20.0000, account_reserved ann: 15.0000 <> 20.0000',
        'account_balance ann: 90.0000 <> 20.0000, account_reserved ann: 15.0000 <> 20.0000'),
    ('account_balance', 'a change of balance that is not what it was',
        $$UPDATE order_mgmt.event_log SET detail = '{"amount": 7}' WHERE event_type = 'balance_changed' AND customer_id = 'bob'$$,
        'account_balance bob: 7 <> 100.0000', 'account_balance bob: 7.0000 <> 100.0000'),
    ('account_balance', 'a balance that the log knows nothing of',
        $$DELETE FROM order_mgmt.event_log WHERE event_type = 'balance_changed' AND customer_id = 'bob'$$,
        'account_balance bob: 0 <> 100.0000, consumer_counts *', NULL),
    ('account_balance', 'less money than is held',
        $$UPDATE order_mgmt.event_log SET detail = '{"amount": 20}' WHERE event_type = 'balance_changed' AND customer_id = 'ann'$$,
        'account_balance ann: 10.0000 <> 90.0000', NULL),
    ('account_balance', 'an account that vanishes', $$DELETE FROM order_mgmt.accounts WHERE customer_id = 'ann'$$,
        'account_balance ann: 90.0000 <> , account_reserved ann: 15.0000 <> ', NULL),
    ('account_covers_reserved', 'more held than there is',
        $$ALTER TABLE order_mgmt.accounts DROP CONSTRAINT accounts_balance_covers_reserved;
          UPDATE order_mgmt.accounts SET reserved = 101 WHERE customer_id = 'bob'$$,
        'account_covers_reserved bob: 101.0000 <> 100.0000, account_reserved bob: 0 <> 101.0000',
        'account_reserved bob: 0.0000 <> 101.0000'),
    ('stock_reserved', 'units not held', $$UPDATE order_mgmt.stock SET reserved = reserved - 1 WHERE product_id = 'p'$$,
        'stock_reserved p: 3 <> 2', 'stock_reserved p: 3 <> 2'),
    ('stock_reserved', 'units held for nothing', $$UPDATE order_mgmt.stock SET reserved = 1 WHERE product_id = 'q'$$,
        'stock_reserved q: 0 <> 1', 'stock_reserved q: 0 <> 1'),
    ('stock_on_hand', 'units that vanish', $$UPDATE order_mgmt.stock SET on_hand = on_hand - 1 WHERE product_id = 'p'$$,
        'stock_on_hand p: 8 <> 7', 'stock_on_hand p: 8 <> 7'),
    ('stock_on_hand', 'a change of stock that is not what it was',
        $$UPDATE order_mgmt.event_log SET detail = '{"quantity": 7}' WHERE event_type = 'stock_changed' AND product_id = 'q'$$,
        'stock_on_hand q: 7 <> 10', 'stock_on_hand q: 7 <> 10'),
    ('stock_on_hand', 'stock that vanishes', $$DELETE FROM order_mgmt.stock WHERE product_id = 'p'$$,
        'stock_on_hand p: 8 <> , stock_reserved p: 3 <> ', NULL),
    ('stock_covers_reserved', 'more units held than there are',
        $$ALTER TABLE order_mgmt.stock DROP CONSTRAINT stock_on_hand_covers_reserved;
          UPDATE order_mgmt.stock SET reserved = 11 WHERE product_id = 'q'$$,
        'stock_covers_reserved q: 11 <> 10, stock_reserved q: 0 <> 11', 'stock_reserved q: 0 <> 11'),
    ('stock_without_product', 'a product that vanishes', $$DELETE FROM order_mgmt.products WHERE product_id = 'q'$$,
        'stock_without_product q: true <> false', NULL),
    ('account_reserved', 'all at once',
        $$UPDATE order_mgmt.accounts SET reserved = reserved + 2; UPDATE order_mgmt.stock SET reserved = reserved + 2$$,
        'account_reserved ann: 15.0000 <> 17.0000, account_reserved bob: 0 <> 2.0000, stock_reserved p: 3 <> 5, stock_reserved q: 0 <> 2',
        'account_reserved ann: 15.0000 <> 17.0000, account_reserved bob: 0.0000 <> 2.0000, stock_reserved p: 3 <> 5, stock_reserved q: 0 <> 2');

-- Orders. What hangs on one that cannot be trusted is left alone; what does not is mended.
CREATE FUNCTION plant(invariant text, what text, change text, finds text, mends text DEFAULT NULL) RETURNS void LANGUAGE sql
AS 'INSERT INTO planted (invariant, what, change, finds, mends) VALUES ($1, $2, $3, $4, $5)';
\o /dev/null
SELECT plant('order_total', 'a total that is not that of the lines',
    format('UPDATE order_mgmt.orders SET total = 1.5 WHERE order_id = %L', :'captured'),
    format('order_total %s: 1.0000 <> 1.5000', :'captured'));
SELECT plant('order_total', 'a quantity that changes',
    format('UPDATE order_mgmt.order_lines SET quantity = 4 WHERE order_id = %L', :'confirmed'),
    format('order_total %s: 20.0000 <> 15.0000, stock_reserved p: 4 <> 3', :'confirmed'));
SELECT plant('order_without_lines', 'lines that vanish',
    format('DELETE FROM order_mgmt.order_lines WHERE order_id = %L', :'captured'),
    format('order_without_lines %s: true <> false', :'captured'));
SELECT plant('order_line_without_order', 'an order that vanishes',
    format('DELETE FROM order_mgmt.orders WHERE order_id = %L', :'captured'),
    format('event_without_order %1$s: true <> false, order_line_without_order %1$s: true <> false', :'captured'));
SELECT plant('event_without_order', 'an order that vanishes with its lines',
    format('DELETE FROM order_mgmt.orders WHERE order_id = %1$L; DELETE FROM order_mgmt.order_lines WHERE order_id = %1$L', :'shipped'),
    format('account_balance ann: 100.0000 <> 90.0000, event_without_order %s: true <> false, stock_on_hand p: 10 <> 8', :'shipped'));
SELECT plant('order_line_numbers', 'a line that has vanished',
    format('UPDATE order_mgmt.order_lines SET line_no = 3 WHERE order_id = %L', :'captured'),
    format('order_line_numbers %s: 3 <> 1', :'captured'));
SELECT plant('order_time', 'an order at another time',
    format($$ALTER TABLE order_mgmt.orders DROP CONSTRAINT orders_created_at_is_that_of_id;
             UPDATE order_mgmt.orders SET created_at = created_at + '1 ms' WHERE order_id = %L$$, :'captured'),
    format('event_without_order %1$s: true <> false, order_line_without_order %1$s: true <> false, '
           'order_time %1$s: * <> *, order_without_lines %1$s: true <> false', :'captured'));
SELECT plant('order_without_events', 'a capture that vanishes',
    format($$DELETE FROM order_mgmt.event_log WHERE event_type = 'order_captured' AND order_ids = uuid_send(%L)$$, :'captured'),
    format('order_moves_on %1$s: pending at balance_checker <> captured, '
           'order_moves_on %1$s: pending at stock_checker <> captured, order_without_events %1$s: true <> false', :'captured'));
SELECT plant('order_round', 'a round that has not begun',
    format('UPDATE order_mgmt.orders SET round = 1 WHERE order_id = %L', :'captured'),
    format('order_history %1$s: failed and settled before the next round <> order_captured, order_round %1$s: 0 <> 1', :'captured'));
SELECT plant('order_status', 'a status that no event led to',
    format($$UPDATE order_mgmt.orders SET status = 'shipped', settled = 3 WHERE order_id = %L$$, :'cancelled'),
    format('account_balance ann: 89.0000 <> 90.0000, order_status %s: cancelled <> shipped, stock_on_hand p: 7 <> 8', :'cancelled'));
SELECT plant('order_status', 'an order confirmed by hand',
    format($$UPDATE order_mgmt.orders SET status = 'confirmed' WHERE order_id = %L$$, :'captured'),
    format('order_moves_on %1$s: pending at shipper <> confirmed, order_status %1$s: captured <> confirmed', :'captured'));
SELECT plant('order_status', 'a shipment that vanishes',
    $$DELETE FROM order_mgmt.event_log WHERE event_type = 'order_shipped'$$,
    format('consumer_counts *, order_status %s: confirmed <> shipped', :'shipped'));
SELECT plant('order_settled', 'a hold that is said not to be settled',
    format('UPDATE order_mgmt.orders SET settled = 0 WHERE order_id = %L', :'shipped'),
    format('account_reserved ann: 25.0000 <> 15.0000, order_settled %s: 3 <> 0, stock_reserved p: 5 <> 3', :'shipped'),
    format('order_settled %s: 3 <> 0', :'shipped'));
SELECT plant('order_settled', 'a hold that is said to be settled, and one that is not held',
    format($$UPDATE order_mgmt.orders SET settled = 1 WHERE order_id = %L;
             UPDATE order_mgmt.stock SET reserved = 0 WHERE product_id = 'p'$$, :'confirmed'),
    format('account_reserved ann: 0 <> 15.0000, order_settled %s: 0 <> 1, stock_reserved p: 3 <> 0', :'confirmed'),
    format('order_settled %s: 0 <> 1, stock_reserved p: 3 <> 0', :'confirmed'));
SELECT plant('order_settled', 'a verdict settled that is still to come',
    format($$SELECT order_mgmt.cancel_order(%1$L); UPDATE order_mgmt.orders SET settled = 2 WHERE order_id = %1$L$$, :'captured'),
    format('order_settled %s: 0 <> 2', :'captured'), format('order_settled %s: 0 <> 2', :'captured'));
SELECT plant('order_trail', 'a trail that is lost',
    format($$UPDATE order_mgmt.orders SET trail = '{}' WHERE order_id = %L$$, :'shipped'),
    format('order_trail %s: {%s} <> {}', :'shipped', pg_current_xact_id()),
    format('order_trail %s: {%s} <> {}', :'shipped', pg_current_xact_id()));
SELECT plant('order_updated_at', 'a change before its events',
    format($$UPDATE order_mgmt.orders SET updated_at = '2020-01-01Z' WHERE order_id = %L$$, :'shipped'),
    format('order_updated_at %s: * <> 2020-01-01 *', :'shipped'), format('order_updated_at %s: * <> 2020-01-01 *', :'shipped'));
SELECT plant('order_reasons', 'reasons of an order that was not refused',
    format($$UPDATE order_mgmt.orders SET reasons = '{expired}' WHERE order_id = %L$$, :'captured'),
    format('order_reasons %s: {} <> {expired}', :'captured'));
SELECT plant('order_reasons', 'reasons that are lost',
    format($$UPDATE order_mgmt.orders SET reasons = '{}' WHERE order_id = %L$$, :'rejected'),
    format('order_reasons %s: {insufficient_balance,insufficient_stock} <> {}', :'rejected'));
SELECT plant('order_reasons', 'a cancelled order that is said to have expired',
    format($$UPDATE order_mgmt.orders SET reasons = '{expired}' WHERE order_id = %L$$, :'cancelled'),
    format('order_reasons %s: {} <> {expired}', :'cancelled'));
SELECT plant('rejection_reasons', 'a refusal that says something else',
    $$UPDATE order_mgmt.event_log SET detail = '{"reasons": ["unknown_account"]}' WHERE event_type = 'balance_refused'$$,
    format('rejection_reasons %s: {insufficient_stock,unknown_account} <> {insufficient_balance,insufficient_stock}', :'rejected'));

-- Histories, each against one rule
SELECT plant('order_history', 'a verdict before the capture',
    format($$UPDATE order_mgmt.event_log SET event_id = nextval('order_mgmt.event_ids') WHERE event_type = 'order_captured' AND order_ids = uuid_send(%L)$$, :'rejected'),
    format('*order_history %s: begins with order_captured <> *_refused *_refused order_rejected order_captured', :'rejected'));
SELECT plant('order_history', 'held and refused by one check',
    format($$SELECT event('balance_held', %L)$$, :'rejected'),
    format('order_history %s: one verdict on the balance <> order_captured * order_rejected balance_held', :'rejected'));
SELECT plant('order_history', 'held and refused by the other',
    format($$SELECT event('stock_held', %L)$$, :'rejected'),
    format('order_history %s: one verdict on the stock <> order_captured * order_rejected stock_held', :'rejected'));
SELECT plant('order_history', 'confirmed without a verdict',
    format($$SELECT event('order_confirmed', %1$L), event('balance_held', %1$L), becomes(%1$L, 'confirmed', 0), hold(1, 0)$$, :'captured'),
    format('order_history %s: order_confirmed after balance_held and stock_held <> order_captured order_confirmed balance_held', :'captured'));
SELECT plant('order_history', 'rejected without a refusal',
    format($$SELECT event('balance_held', %1$L), event('stock_held', %1$L), event('order_rejected', %1$L), becomes(%1$L, 'rejected', 3)$$, :'captured'),
    format('order_history %s: order_rejected after two verdicts, one of them a refusal <> order_captured balance_held stock_held order_rejected', :'captured'));
SELECT plant('order_history', 'shipped without having been confirmed',
    format($$SELECT event('order_shipped', %1$L), event('order_noted', %1$L, '{"round": "none"}')$$, :'captured'),
    format('order_history %1$s: order_shipped after order_confirmed <> order_captured order_shipped, order_status %1$s: shipped <> captured', :'captured'));
SELECT plant('order_history', 'shipped and cancelled',
    format($$SELECT event('order_cancelled', %L)$$, :'shipped'),
    format('order_history %s: one end <> order_captured * order_shipped order_cancelled', :'shipped'));
SELECT plant('order_history', 'confirmed after it was cancelled',
    format($$SELECT event('order_cancelled', %1$L), event('balance_held', %1$L), event('stock_held', %1$L), event('order_confirmed', %1$L),
             becomes(%1$L, 'cancelled', 0), hold(1, 1)$$, :'captured'),
    format('order_history %s: order_confirmed before its end <> order_captured order_cancelled balance_held stock_held order_confirmed', :'captured'));
SELECT plant('order_history', 'released without an end',
    format($$SELECT event('order_released', %L)$$, :'confirmed'),
    format('*order_history %s: order_released after two verdicts and a cancellation or failure <> *order_released, order_settled *', :'confirmed'));
SELECT plant('order_history', 'a round that begins while the last one is held',
    format($$SELECT give_up(%1$L), hold(0, -1), event('order_captured', %1$L, '{"round": 1}'), becomes(%1$L, 'captured', 0, 1)$$, :'captured'),
    format('order_history %s: failed and settled before the next round <> order_captured balance_refused order_failed stock_held', :'captured'));

-- Rounds: legal ...
SELECT plant(NULL, 'a check that was given up', format('SELECT give_up(%L)', :'captured'), '');
SELECT plant(NULL, '... whose order has been released', format('SELECT give_up(%1$L), release(%1$L)', :'captured'), '');
SELECT plant(NULL, '... and replayed', format('SELECT replay(%L)', :'captured'), '');
SELECT plant(NULL, '... and held again', format('SELECT hold_again(%L)', :'captured'), '');
SELECT plant(NULL, '... and confirmed', format('SELECT confirm_again(%L)', :'captured'), '');
SELECT plant(NULL, '... and shipped', format($$SELECT confirm_again(%1$L), event('order_shipped', %1$L), becomes(%1$L, 'shipped', 3, 1), post(1, 1)$$, :'captured'), '');
SELECT plant(NULL, '... or cancelled', format($$SELECT confirm_again(%1$L), event('order_cancelled', %1$L, '{"from": "confirmed", "round": 1}'),
    becomes(%1$L, 'cancelled', 3, 1), event('order_released', %1$L, '{"round": 1}'), hold(-1, -1)$$, :'captured'), '');
SELECT plant(NULL, '... or failed once more', format($$SELECT confirm_again(%1$L), event('order_failed', %1$L, '{"round": 1}'),
    becomes(%1$L, 'failed', 3, 1), event('order_released', %1$L, '{"round": 1}'), hold(-1, -1)$$, :'captured'), '');
-- ... and not
SELECT plant('account_reserved', 'a hold of another round',
    format('SELECT hold_again(%1$L); UPDATE order_mgmt.accounts SET reserved = reserved - 1 WHERE customer_id = ''ann''', :'captured'),
    'account_reserved ann: 16.0000 <> 15.0000', 'account_reserved ann: 16.0000 <> 15.0000');
SELECT plant('stock_reserved', 'a hold of an earlier round that was kept',
    format('SELECT replay(%L), hold(0, 1)', :'captured'), 'stock_reserved p: 3 <> 4', 'stock_reserved p: 3 <> 4');
SELECT plant('event_once', 'two verdicts in one round',
    format($$SELECT hold_again(%1$L), event('stock_held', %1$L, '{"round": 1}')$$, :'captured'),
    format('event_once %s stock_held round 1: 1 <> 2', :'captured'));
SELECT plant('order_status', 'the status of an earlier round',
    format($$SELECT replay(%1$L), becomes(%1$L, 'failed', 3, 1)$$, :'captured'),
    format('order_settled %1$s: 0 <> 3, order_status %1$s: captured <> failed', :'captured'));

-- Events, keys, consumers
SELECT plant('event_once', 'an order that ships twice', format($$SELECT event('order_shipped', %L)$$, :'shipped'),
    format('event_once %s order_shipped: 1 <> 2', :'shipped'));
SELECT plant('event_once', '... and what hangs on it is left',
    format($$SELECT event('order_shipped', %L); UPDATE order_mgmt.accounts SET reserved = reserved + 1$$, :'shipped'),
    format('account_reserved ann: 15.0000 <> 16.0000, account_reserved bob: 0 <> 1.0000, event_once %s order_shipped: 1 <> 2', :'shipped'),
    'account_reserved bob: 0.0000 <> 1.0000');
SELECT plant('event_without_order', 'an event of nobody', $$SELECT event('order_noted', '01a1fe26-5117-7134-b3b6-029e8e006333')$$,
    'event_without_order 01a1fe26-5117-7134-b3b6-029e8e006333: true <> false, '
    'order_history 01a1fe26-5117-7134-b3b6-029e8e006333: begins with order_captured <> ');
SELECT plant('event_subject', 'a change of nothing',
    $$INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, product_id, detail)
      VALUES (now(), 1, nextval('order_mgmt.event_ids'), 'balance_changed', 'p', '{"amount": 1}')$$,
    'consumer_counts *, event_subject *: customer_id <> product_id');
SELECT plant('event_subject', 'an event about half an order, which leaves nothing to be derived',
    $$INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids)
      VALUES (now(), 1, nextval('order_mgmt.event_ids'), 'order_noted', '\x0123');
      UPDATE order_mgmt.accounts SET reserved = 1 WHERE customer_id = 'bob'$$,
    'account_reserved bob: 0 <> 1.0000, event_subject *: order_ids <> broken order_ids');
SELECT plant('event_id_once', 'two events with one id',
    $$INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, product_id, detail)
      SELECT at, lxid - 1, event_id, 'stock_changed', 'q', '{"quantity": 0}' FROM order_mgmt.event_log WHERE event_type = 'order_shipped'$$,
    'consumer_counts *, event_id_once *: 1 <> 2');
SELECT plant('event_ids_ahead', 'an id that is still to come',
    $$INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, product_id, detail)
      VALUES (now(), 1, 1000000000, 'stock_changed', 'q', '{"quantity": 0}')$$,
    'consumer_counts *, event_ids_ahead event_ids: 1000000000 <> *');
SELECT plant('key_without_order', 'a key that leads nowhere',
    $$INSERT INTO order_mgmt.idempotency_keys_3 VALUES ('\x0a', '\x0b', '01a1fe26-5117-7134-b3b6-029e8e006333', NULL, now())$$,
    'key_without_order 0a: 01a1fe26-5117-7134-b3b6-029e8e006333 <> ');
SELECT plant('key_once', 'a key in two tables',
    $$INSERT INTO order_mgmt.idempotency_keys_2 VALUES ('\x0a', '\x0b', NULL, 1, now());
      INSERT INTO order_mgmt.idempotency_keys_1 VALUES ('\x0a', '\x0b', NULL, 2, now())$$, 'key_once 0a: 1 <> 2');
-- The cursor of the updater jumps over verdicts: nobody will ever decide that order.
SELECT plant(v, 'an order that was left behind', $$
    SELECT order_mgmt.pause_consumer('order_updater');
    SELECT order_mgmt.run_pipeline();
    SELECT order_mgmt.capture_order('ann', lines('p', 1, 1));
    SELECT order_mgmt.run_pipeline();
    INSERT INTO order_mgmt.cursor_log_0 SELECT c.consumer, c.seq + 1, n.tick_id, n.base, n.target, n.lxid, n.event_id,
        c.processed, c.seq + 1, 0, c.at, n.passed
    FROM (SELECT * FROM order_mgmt.cursor_log_0 WHERE consumer = 'order_updater' ORDER BY seq DESC LIMIT 1) AS c,
         (SELECT * FROM order_mgmt.cursor_log_0 WHERE consumer = 'stock_checker' ORDER BY seq DESC LIMIT 1) AS n;
    SELECT order_mgmt.resume_consumer('order_updater');
    SELECT order_mgmt.run_pipeline()$$,
    format('consumer_events order_updater: * <> *, order_moves_on %s: pending at order_updater <> captured*', :'captured'))
FROM unnest('{consumer_events,order_moves_on}'::text[]) AS v;
-- A consumer has passed an event that is not there.
SELECT plant('consumer_counts', 'a wrong count', $$
    UPDATE order_mgmt.cursor_log_0 AS c SET passed[1] = passed[1] + 1
    WHERE consumer = 'shipper' AND seq = (SELECT max(seq) FROM order_mgmt.cursor_log_0 WHERE consumer = 'shipper')$$,
    'consumer_counts shipper order_captured: 5 <> 6');
\o

SELECT results_eq('SELECT DISTINCT invariant FROM planted WHERE invariant IS NOT NULL ORDER BY 1',
    'SELECT invariant FROM order_mgmt.list_invariants() ORDER BY 1', 'there is a planted case of every invariant');
SELECT results_eq('SELECT DISTINCT invariant FROM planted WHERE mends ~ (invariant || $$ $$) ORDER BY 1',
    'SELECT invariant FROM order_mgmt.list_invariants() WHERE mended ORDER BY 1', '... and of every one that can be mended');

CREATE FUNCTION rows_text(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format($q$SELECT string_agg(format('%%s %%s: %%s <> %%s', invariant, subject, expected, actual), ', '
        ORDER BY invariant, subject, expected) FROM (%s) AS q$q$, query) INTO answer;
    RETURN coalesce(answer, '');
END
$$;
-- What is found after a change, and after each kind of repair; nothing is left of the change.
CREATE FUNCTION tried(change text, OUT seen text, OUT promised text, OUT still_seen text, OUT mended text,
                      OUT left_over text, OUT mended_again text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    seen := rows_text('SELECT * FROM order_mgmt.check_invariants()');
    promised := rows_text('SELECT * FROM order_mgmt.repair_invariants(dry_run => true)');
    still_seen := rows_text('SELECT * FROM order_mgmt.check_invariants()');
    mended := rows_text('SELECT * FROM order_mgmt.repair_invariants()');
    left_over := rows_text('SELECT * FROM order_mgmt.check_invariants()');
    mended_again := rows_text('SELECT * FROM order_mgmt.repair_invariants()');
    RAISE EXCEPTION USING ERRCODE = 'TEST1';
EXCEPTION WHEN SQLSTATE 'TEST1' THEN
    NULL;
END
$$;
CREATE TABLE results AS SELECT p.*, t.* FROM planted AS p, LATERAL tried(p.change) AS t;

SELECT alike(seen, replace(finds, '*', '%'), coalesce(invariant, 'legal') || ': ' || what) FROM results ORDER BY n;
SELECT ok(invariant IS NULL OR ', ' || seen LIKE '%, ' || invariant || ' %', coalesce(invariant, 'legal') || ' has its name') FROM results ORDER BY n;
SELECT alike(mended, replace(coalesce(mends, ''), '*', '%'), 'mended: ' || what) FROM results ORDER BY n;
SELECT is(promised, mended, 'a dry run says the same: ' || what) FROM results ORDER BY n;
SELECT is(still_seen, seen, '... and changes nothing: ' || what) FROM results ORDER BY n;
SELECT is(left_over, CASE WHEN mends IS NULL THEN seen WHEN invariant = 'event_once' THEN
    regexp_replace(seen, 'account_reserved bob[^,]*, ', '') ELSE '' END, 'left: ' || what) FROM results ORDER BY n;
SELECT is(mended_again, '', 'once is enough: ' || what) FROM results ORDER BY n;

-- A repair leaves its trace
UPDATE order_mgmt.accounts SET balance = 95, reserved = 16 WHERE customer_id = 'ann';
UPDATE order_mgmt.stock SET reserved = 5 WHERE product_id = 'p';
UPDATE order_mgmt.orders SET settled = 0 WHERE order_id = :'shipped';
SELECT results_eq('SELECT * FROM order_mgmt.repair_invariants() ORDER BY 1',
    format($$VALUES ('account_balance', 'ann', '90.0000', '95.0000'), ('account_reserved', 'ann', '15.0000', '16.0000'),
        ('order_settled', %L, '3', '0'), ('stock_reserved', 'p', '3', '5')$$, :'shipped'), 'a repair');
SELECT is((SELECT detail FROM order_mgmt.events WHERE customer_id = 'ann' AND event_type = 'balance_changed' ORDER BY event_id DESC LIMIT 1),
    '{"amount": "0.0000", "balance": "90.0000", "reason": "repair_invariants", "mended": [
        {"invariant": "account_balance", "expected": "90.0000", "actual": "95.0000"},
        {"invariant": "account_reserved", "expected": "15.0000", "actual": "16.0000"}]}'::jsonb, 'an event of the account');
SELECT is((SELECT detail FROM order_mgmt.events WHERE product_id = 'p' AND event_type = 'stock_changed' ORDER BY event_id DESC LIMIT 1),
    '{"quantity": 0, "on_hand": 8, "reason": "repair_invariants", "mended": [
        {"invariant": "stock_reserved", "expected": "3", "actual": "5"}]}'::jsonb, 'an event of the product');
SELECT is((SELECT detail FROM order_mgmt.track_order(:'shipped') WHERE event_type = 'order_noted'),
    '{"note": "repair_invariants", "mended": [{"invariant": "order_settled", "expected": "3", "actual": "0"}]}'::jsonb, 'a note on the order');
SELECT is((SELECT string_agg(amount || ' ' || balance_after || ' ' || coalesce(reason, ''), ', ') FROM order_mgmt.account_statement('ann')),
    '100.0000 100.0000 set_account, -10.0000 90.0000 , 0.0000 90.0000 repair_invariants', 'a line of the statement');
SELECT is((SELECT string_agg(quantity || ' ' || on_hand_after || ' ' || coalesce(reason, ''), ', ') FROM order_mgmt.stock_statement('p')),
    '10 10 set_stock, -2 8 , 0 8 repair_invariants', 'of both');

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

SELECT is(error_of('SELECT * FROM order_mgmt.repair_invariants(NULL)'), 'OM001 dry_run', 'repair or not: one must say');
SELECT is((SELECT count(*) FROM order_mgmt.check_invariants("full" => true)), 0::bigint, 'check_invariants(true)');
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
