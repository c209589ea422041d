-- One poisoned event is retried, then kept as a dead letter; its order fails, and a replay takes it up again.
BEGIN;
\ir helpers.psql
SELECT no_plan();

UPDATE order_mgmt.consumers SET max_attempts = 3, backoff_base = '10 s', backoff_cap = '15 s';
CREATE FUNCTION letters() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', consumer, attempts, error_code, payload->>'event_type'), ', ' ORDER BY dead_letter_id)
    FROM order_mgmt.dead_letters
$$;
CREATE FUNCTION counts(name text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', pending, retrying, dead, failed) FROM order_mgmt.queues WHERE consumer = name
$$;
-- Runs the pipeline, every retry at once, until there is none any more.
CREATE PROCEDURE run_all() LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '30 s';
    handled bigint;
BEGIN
    LOOP
        handled := order_mgmt.run_pipeline();
        EXIT WHEN handled = 0 AND NOT EXISTS (SELECT FROM order_mgmt.retries) OR clock_timestamp() > deadline;
        PERFORM hurry();
    END LOOP;
END
$$;

-- ---------- a check that fails ----------
SELECT open_shop('ann', 1000, 'p', 1000) \g /dev/null
CREATE TEMP TABLE batch AS
SELECT ordinal, order_id FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'lines', lines('p')))
                                                          FROM generate_series(1, 1000)));
SELECT order_id AS id FROM batch WHERE ordinal = 500 \gset
-- An order without lines is nothing that a stock checker can decide on.
CREATE TEMP TABLE lost AS SELECT * FROM order_mgmt.order_lines WHERE order_id = :'id';
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE status = 'shipped'), 999::bigint, 'one poisoned event in a batch of 1,000: the other 999 ship');
SELECT is(outcome(:'id'), 'captured', 'its order waits');
SELECT is((SELECT rows_of('SELECT consumer, attempts, error_code, event_type FROM order_mgmt.retries')), '(stock_checker,1,XX001,order_captured)', 'for the next attempt');
SELECT is(counts('stock_checker'), '0 1 0 1', 'queues shows it as retrying');
SELECT ok((SELECT due BETWEEN last_failed_at + interval '7.5 s' AND last_failed_at + interval '10 s' FROM order_mgmt.retries),
    'its next attempt is due after the back-off, of which a quarter is left to chance');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT attempts FROM order_mgmt.retries), 1::bigint, 'not before');
SELECT hurry() \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT ok((SELECT due BETWEEN last_failed_at + interval '11.25 s' AND last_failed_at + interval '15 s' FROM order_mgmt.retries),
    'it doubles up to the cap');
CALL run_all();
SELECT is(letters(), 'stock_checker 3 XX001 order_captured', 'after three attempts it is a dead letter');
SELECT is((SELECT order_id FROM order_mgmt.dead_letters), :'id'::uuid, 'that names the order');
SELECT matches((SELECT message FROM order_mgmt.dead_letters), 'does not exist', 'and the error');
SELECT is(counts('stock_checker'), '0 0 1 3', 'queues shows it as dead');
SELECT is(outcome(:'id'), 'failed', 'its order has failed');
SELECT is(story(:'id'), 'order_captured balance_held order_failed stock_refused order_released', 'its story');
SELECT is(credit('ann'), '1/0', 'what it held has been released');
SELECT is(order_mgmt.get_order(:'id')->'events'->2->'detail'->>'consumer', 'stock_checker', 'the event says who gave up');
SELECT is(error_of(format($$SELECT order_mgmt.cancel_order(%L)$$, :'id')), 'OM005 failed', 'what has failed is not cancelled');

-- ---------- replay ----------
SELECT dead_letter_id AS letter FROM order_mgmt.dead_letters \gset
SELECT is(error_of('SELECT order_mgmt.replay_dead_letter(-1)'), 'OM004', 'no such dead letter');
SELECT is(error_of('SELECT order_mgmt.replay_dead_letter(NULL)'), 'OM001 dead_letter_id', 'none named');
SELECT is(error_of('SELECT order_mgmt.replay_dead_letters(NULL)'), 'OM001 consumer', 'no consumer named');
SELECT is(error_of($$SELECT order_mgmt.replay_dead_letters('nobody')$$), 'OM004', 'no such consumer');
SELECT is(order_mgmt.replay_dead_letters('shipper'), 0::bigint, 'another consumer has none');
SELECT is(order_mgmt.replay_dead_letters('stock_checker', '{-1}'), 0::bigint, 'nor has it others');
SELECT is(order_mgmt.replay_dead_letter(:letter), true, 'taken up again, though nothing was mended');
CALL run_all();
SELECT is(outcome(:'id'), 'failed', 'it fails again');
SELECT is(letters(), 'stock_checker 3 XX001 order_captured', 'with all its attempts');
INSERT INTO order_mgmt.order_lines SELECT * FROM lost;
SELECT is(order_mgmt.replay_dead_letters('*'), 1::bigint, 'taken up again, with those of every consumer');
SELECT is(outcome(:'id'), 'captured', 'the order is open again');
SELECT is(letters(), NULL, 'and the dead letter is gone');
CALL run_all();
SELECT is(outcome(:'id'), 'shipped', 'this time it ships');
SELECT is((SELECT round FROM order_mgmt.orders WHERE order_id = :'id'), 2::smallint, 'in its third round');
SELECT is(credit('ann') || ' ' || units('p'), '0/0 0/0', 'once');
SELECT invariants_hold('invariants hold after a replay');

-- ---------- mended while it is retried ----------
UPDATE order_mgmt.consumers SET max_attempts = 20;
SELECT open_shop('bob', 10, 'q', 10) \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('q')) AS id \gset
TRUNCATE lost;
INSERT INTO lost SELECT * FROM order_mgmt.order_lines WHERE order_id = :'id';
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
SELECT order_mgmt.run_pipeline() \g /dev/null
INSERT INTO order_mgmt.order_lines SELECT * FROM lost;
CALL run_all();
SELECT is(outcome(:'id'), 'shipped', 'what is mended in time ships without anybody''s help');
SELECT is(counts('stock_checker'), '0 0 0 0', 'and leaves nothing behind');

-- ---------- a retry that has to wait for an earlier order ----------
SELECT open_shop('poor', 1, 's', 10) \g /dev/null
SELECT open_shop('rich', 10, 's', 10) \g /dev/null
SELECT order_mgmt.capture_order('poor', lines('s', 8)) AS first \gset
SELECT order_mgmt.capture_order('rich', lines('s', 8)) AS id \gset
TRUNCATE lost;
INSERT INTO lost SELECT * FROM order_mgmt.order_lines WHERE order_id IN (:'first', :'id');
DELETE FROM order_mgmt.order_lines WHERE order_id IN (:'first', :'id');
SELECT order_mgmt.run_pipeline() \g /dev/null
INSERT INTO order_mgmt.order_lines SELECT * FROM lost;
SELECT hurry() \g /dev/null
-- The first order is held, the second waits for it; then the first is rejected.
SELECT cmp_ok(order_mgmt.run_pipeline(), '>', 0::bigint, 'events that are handled at last count as handled');
SELECT is(outcome(:'first') || ', ' || outcome(:'id'), 'rejected {insufficient_balance}, shipped', 'a retry that waited for an earlier order goes on as soon as that is decided');

-- ---------- cancelled meanwhile ----------
UPDATE order_mgmt.consumers SET max_attempts = 3;
SELECT order_mgmt.capture_order('bob', lines('q')) AS id \gset
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.cancel_order(:'id') \g /dev/null
CALL run_all();
SELECT is(outcome(:'id'), 'cancelled', 'a cancelled order stays cancelled');
SELECT is(story(:'id'), 'order_captured balance_held order_cancelled stock_refused order_released', 'is settled all the same');
SELECT is(credit('bob'), '9/0', 'and gets back what it held');
SELECT is(order_mgmt.replay_dead_letters('*'), 0::bigint, 'there is nothing to take up');
SELECT is(letters(), NULL, 'so the dead letter goes');
DELETE FROM order_mgmt.orders WHERE order_id = :'id';
DELETE FROM order_mgmt.event_log WHERE order_ids = uuid_send(:'id');

-- ---------- shipping that fails ----------
SELECT open_shop('cid', 10, 'r', 10) \g /dev/null
SELECT order_mgmt.pause_consumer('shipper') \g /dev/null
SELECT order_mgmt.capture_order('cid', lines('r', 2)) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
-- What is held is less than what is to be posted.
UPDATE order_mgmt.stock SET reserved = 1 WHERE product_id = 'r';
SELECT order_mgmt.resume_consumer('shipper') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT rows_of('SELECT consumer, attempts FROM order_mgmt.retries')), '(shipper,1)', 'a shipment that fails is tried again');
UPDATE order_mgmt.stock SET reserved = 2 WHERE product_id = 'r';
CALL run_all();
SELECT is(outcome(:'id'), 'shipped', 'and goes out when the hold is right again');
SELECT order_mgmt.pause_consumer('shipper') \g /dev/null
SELECT order_mgmt.capture_order('cid', lines('r', 2)) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
DELETE FROM order_mgmt.accounts WHERE customer_id = 'cid';
SELECT order_mgmt.resume_consumer('shipper') \g /dev/null
CALL run_all();
SELECT matches(letters(), '^shipper 3 .*order_updater 3 ', 'what cannot be shipped fails, and what cannot be released is a dead letter, too');
SELECT is(outcome(:'id'), 'failed', 'its order has failed');
SELECT is(error_of($$SELECT order_mgmt.replay_dead_letter((SELECT min(dead_letter_id) FROM order_mgmt.dead_letters))$$), 'OM005', 'before it is settled it is not taken up');

-- ---------- discard ----------
SELECT is(error_of($$SELECT order_mgmt.discard_dead_letters(NULL, 'x')$$), 'OM001 dead_letter_ids', 'none named');
SELECT is(error_of($$SELECT order_mgmt.discard_dead_letters('{1}', '')$$), 'OM001 reason', 'no reason');
SELECT is(order_mgmt.discard_dead_letters('{-1}', 'not there'), 0::bigint, 'no such dead letter');
SELECT is(order_mgmt.discard_dead_letters((SELECT array_agg(dead_letter_id) FROM order_mgmt.dead_letters), 'the customer has gone'), 2::bigint, 'thrown away');
SELECT matches(order_mgmt.get_order(:'id')->'events'->-1->'detail'->>'note', 'discarded: the customer has gone', 'with a note');
SELECT is(letters(), NULL, 'none is left');

-- An order that is no more
SELECT open_shop('dee', 10, 'r', 10) \g /dev/null
SELECT order_mgmt.capture_order('dee', lines('r')) AS id \gset
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
CALL run_all();
DELETE FROM order_mgmt.orders WHERE order_id = :'id';
SELECT is(error_of($$SELECT order_mgmt.replay_dead_letter((SELECT dead_letter_id FROM order_mgmt.dead_letters))$$), 'OM005', 'what has lost its order is not taken up');
SELECT is(order_mgmt.discard_dead_letters((SELECT array_agg(dead_letter_id) FROM order_mgmt.dead_letters), 'lost'), 1::bigint, 'but can be thrown away');

SELECT finish();
ROLLBACK;
