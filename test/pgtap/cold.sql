-- Sums and counts stay right while months leave the database and come back; what is wrong elsewhere is still found.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SELECT no_plan();

CREATE FUNCTION go(month date) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM order_mgmt.archive_month(month)';
CREATE FUNCTION back(month date) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM order_mgmt.restore_month(month)';
CREATE FUNCTION clock(at timestamptz) RETURNS void LANGUAGE sql AS $$ SELECT set_config('order_mgmt.clock', at::text, true) $$;

-- Three months of 2024: changes, shipments, refusals; orders of the last millisecond that are shipped in the next month
SELECT clock('2024-01-01') \g /dev/null
SELECT open_shop('ann', 1000, 'p', 1000), open_shop('bob', 500, 'q', 500), open_shop('once', 7, 'once', 7) \g /dev/null
CREATE FUNCTION ignore(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT order_mgmt.subscribe('early', 'test.ignore') \g /dev/null
CREATE TABLE captured (order_id uuid, what text);
CREATE FUNCTION order_at(at timestamptz, what text, shipped timestamptz DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM clock(at);
    INSERT INTO captured VALUES (order_mgmt.capture_order('ann', lines('p', 2, 5) || lines('q', 1, 1), idempotency_key => what), what);
    PERFORM clock(coalesce(shipped, at)), order_mgmt.run_pipeline();
END
$$;
SELECT order_at('2024-01-10', 'january'), order_at('2024-01-31 23:59:59.999', 'across', '2024-02-01 00:00:00.5') \g /dev/null
SELECT clock('2024-02-01') \g /dev/null
SELECT order_mgmt.adjust_balance('ann', 50, 'between'), order_mgmt.adjust_stock('p', 5, 'between'), order_mgmt.adjust_balance('once', -7) \g /dev/null
SELECT order_at('2024-02-10', 'february') \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 100000)) AS refused \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_at('2024-02-29 23:59:59.999', 'leap day', '2024-03-01 00:00'), order_at('2024-03-10', 'march') \g /dev/null
SELECT order_mgmt.adjust_balance('ann', -1, 'later'), order_mgmt.adjust_stock('q', -1, 'later') \g /dev/null
SELECT order_at('2024-04-01', 'april') \g /dev/null
SELECT clock('2024-04-10') \g /dev/null
SELECT order_id AS january FROM captured WHERE what = 'january' \gset
SELECT order_id AS march FROM captured WHERE what = 'march' \gset
SELECT order_mgmt.add_order_note(:'january', 'written later') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
-- Orders of a year ago, loaded today: their events are of today
SELECT 'lo:' || lo_from_bytea(0, convert_to(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nold,ann,p,3,2,2023-11-30T23:59:59Z\n', 'UTF8')) AS file \gset
SELECT order_mgmt.load_orders_csv(:'file', 'history') AS load_id \gset
SELECT status FROM order_mgmt.wait_for_load(:load_id) \gset load_
SELECT is(:'load_status'::text, 'done', 'orders of a year ago are loaded');
SELECT invariants_hold('they hold before anything goes');
CREATE FUNCTION statements() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'ann ' || s::text FROM order_mgmt.account_statement('ann') AS s
    UNION ALL SELECT 'p ' || s::text FROM order_mgmt.stock_statement('p') AS s
    UNION ALL SELECT 'q ' || s::text FROM order_mgmt.stock_statement('q') AS s
$$;
CREATE TABLE movement AS SELECT 'account' AS kind, event_id, at, balance_after FROM order_mgmt.account_statement('ann')
    UNION ALL SELECT p, event_id, at, on_hand_after FROM unnest('{p,q}'::text[]) AS p, order_mgmt.stock_statement(p);
CREATE TABLE statement AS SELECT * FROM statements() AS line;
CREATE FUNCTION queue(name text) RETURNS text LANGUAGE sql AS $$ SELECT pending || ' ' || processed FROM order_mgmt.queues WHERE consumer = name $$;
CREATE TABLE queue AS SELECT consumer, pending, processed FROM order_mgmt.queues;

-- Every set of months that may be away, in and out of order
CREATE FUNCTION same_statements(description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT is_empty($q$SELECT * FROM statements() AS line EXCEPT SELECT line FROM statement$q$, description || ': statements show what they have shown');
    RETURN NEXT is_empty(format($q$SELECT kind, event_id FROM movement WHERE date_trunc('month', at) NOT IN (SELECT month FROM order_mgmt.archived_months)
        EXCEPT (SELECT 'account', event_id FROM order_mgmt.account_statement('ann') UNION ALL SELECT p, event_id FROM unnest('{p,q}'::text[]) AS p, order_mgmt.stock_statement(p))$q$),
        description || ': all of the months that are here');
    RETURN NEXT invariants_hold(description || ': invariants hold');
    RETURN NEXT is_empty('SELECT consumer, pending, processed FROM order_mgmt.queues EXCEPT SELECT * FROM queue', description || ': nothing becomes pending');
    RETURN NEXT is_empty('SELECT * FROM order_mgmt.repair_invariants()', description || ': there is nothing to mend');
END
$$;
SELECT go('2023-11-01') \g /dev/null
SELECT same_statements('without what was loaded');
SELECT go('2024-01-01') \g /dev/null
SELECT same_statements('without January');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_id = :'january'), 0::bigint, 'its orders are gone indeed');
SELECT go('2024-02-01') \g /dev/null
SELECT same_statements('without January and February');
SELECT is((SELECT balance_after || ' ' || at FROM order_mgmt.account_statement('ann', page_size => 1)), '1006.0000 2024-03-01 00:00:00+00', 'the statement begins in March with the balance of then');
SELECT back('2024-01-01') \g /dev/null
SELECT same_statements('without February');
SELECT back('2024-02-01'), back('2023-11-01') \g /dev/null
SELECT same_statements('with all of them again');
SELECT set_eq('SELECT * FROM statements()', 'SELECT line FROM statement', 'statements are whole again');
SELECT is((SELECT count(*) FROM order_mgmt.archived_amounts) + (SELECT count(*) FROM order_mgmt.archived_movements) + (SELECT count(*) FROM order_mgmt.archived_months), 0::bigint,
    'and nothing is kept of the archive');
SELECT go('2023-11-01'), go('2024-01-01'), go('2024-02-01'), go('2024-03-01') \g /dev/null
SELECT same_statements('without any of them');

-- What is wrong is found, with months in the archive
CREATE FUNCTION differs(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE change;
    SELECT coalesce(string_agg(DISTINCT invariant, ' ' ORDER BY invariant), 'nothing') INTO answer FROM order_mgmt.check_invariants();
    RAISE EXCEPTION 'take it back' USING ERRCODE = 'OMTST', DETAIL = answer;
EXCEPTION WHEN SQLSTATE 'OMTST' THEN
    GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_DETAIL;
    RETURN answer;
END
$$;
CREATE FUNCTION event(type text, id uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids)
    VALUES (now(), pg_current_xact_id()::text::bigint, nextval('order_mgmt.event_ids'), type, uuid_send(id))
$$;
CREATE FUNCTION id_at(at timestamptz) RETURNS uuid LANGUAGE sql AS $$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid $$;
SELECT is(differs(change), finds, what) FROM (VALUES
    ('SELECT 1', 'nothing', 'no change'),
    ($$UPDATE order_mgmt.accounts SET balance = balance + 1 WHERE customer_id = 'ann'$$, 'account_balance', 'money out of nowhere'),
    ($$UPDATE order_mgmt.accounts SET balance = 7 WHERE customer_id = 'once'$$, 'account_balance', 'of somebody whose events are all in the archive'),
    ($$UPDATE order_mgmt.stock SET on_hand = on_hand - 1 WHERE product_id = 'p'$$, 'stock_on_hand', 'units that vanish'),
    ($$DELETE FROM order_mgmt.accounts WHERE customer_id = 'ann'$$, 'account_balance', 'an account that vanishes'),
    ($$UPDATE order_mgmt.archived_amounts SET amount = amount + 1 WHERE kind = 'product' AND key = 'q' AND month = '2024-01-01'$$, 'stock_on_hand', 'a sum that changes'),
    ($$DELETE FROM order_mgmt.archived_months WHERE month = '2024-01-01'$$, 'consumer_counts consumer_events event_without_order key_without_order order_history', 'a month that is forgotten'),
    ($$SELECT event('order_noted', id_at('2023-12-31 23:59:59.999'))$$, 'event_without_order order_history', 'an event without an order, in a month before'),
    ($$SELECT event('order_noted', id_at('2024-04-01 00:00'))$$, 'event_without_order order_history', 'and in a month after'),
    ($$SELECT event('order_noted', id_at('2024-01-01 00:00'))$$, 'nothing', 'which may be an order of the archive'),
    ($$UPDATE order_mgmt.archived_months SET last_event_id = 1000000 WHERE month = '2024-01-01'$$, 'event_ids_ahead', 'ids that will be given again')) AS t(change, finds, what);
SELECT is((SELECT string_agg(invariant || ' ' || subject || ' ' || expected, ', ') FROM order_mgmt.repair_invariants()), NULL, 'nothing to mend');
UPDATE order_mgmt.accounts SET balance = balance + 1 WHERE customer_id = 'once';
SELECT is(rows_of('SELECT invariant, subject, expected, actual FROM order_mgmt.repair_invariants()'), '(account_balance,once,0.0000,1.0000)', 'a repair knows what is in the archive');

-- Consumers that are made meanwhile
SELECT order_mgmt.create_consumer('now'), order_mgmt.create_consumer('all', start_at => '2000-01-01'),
    order_mgmt.create_consumer('refusals', ARRAY['stock_refused'], start_at => '2000-01-01') \g /dev/null
SELECT invariants_hold('consumers count what is gone as passed');
SELECT is(queue('all'), (SELECT count(*) || ' 0' FROM order_mgmt.events), 'they begin with the oldest month that is here');
SELECT back('2024-02-01') \g /dev/null
SELECT invariants_hold('counts are right when a month comes back before a position');
SELECT back('2024-01-01'), back('2024-03-01') \g /dev/null
SELECT invariants_hold('and when the others do');

SELECT finish();
ROLLBACK;
