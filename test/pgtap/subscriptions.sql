-- subscribe() and unsubscribe(): what they accept, and delivery by run_pipeline() to the caller's own.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE TABLE test.seen (consumer text, event jsonb);
CREATE FUNCTION test.first(event jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO test.seen VALUES ('first', event)$$;
CREATE FUNCTION test.second(event jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.seen VALUES ('second', event);
    IF event->>'customer_id' = 'bad' AND event->>'order_id' IS NOT NULL THEN
        RAISE 'not %', event->>'customer_id' USING ERRCODE = 'P0042';
    END IF;
    RETURN 1;
END $$;
CREATE FUNCTION test."Odd name"(event jsonb) RETURNS text LANGUAGE sql AS $$SELECT 'x'::text$$;
CREATE FUNCTION test.many(event jsonb) RETURNS SETOF text LANGUAGE sql AS $$SELECT 'x'::text$$;
CREATE FUNCTION test.no_jsonb(event text) RETURNS void LANGUAGE sql AS $$SELECT$$;
CREATE FUNCTION test.nothing() RETURNS void LANGUAGE sql AS $$SELECT$$;
CREATE PROCEDURE test.procedure(event jsonb) LANGUAGE sql AS $$SELECT$$;

-- What is refused
SELECT is(error_of($$SELECT order_mgmt.subscribe(NULL, 'test.first')$$), 'OM001 name', 'no name');
SELECT is(error_of($$SELECT order_mgmt.subscribe('', 'test.first')$$), 'OM001 name', 'an empty name');
SELECT is(error_of($$SELECT order_mgmt.subscribe(repeat('x', 65), 'test.first')$$), 'OM001 name', 'a long name');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', NULL)$$), 'OM001 handler', 'no handler');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'a.b.c')$$), 'OM001 handler', 'no name of a function');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first(text)')$$), 'OM001 handler', 'another argument');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first(jsonb')$$), 'OM001 handler', 'half a signature');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', '')$$), 'OM001 handler', 'an empty handler');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.absent')$$), 'OM004', 'a function that is not there');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.no_jsonb')$$), 'OM004', 'one of another argument');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.nothing')$$), 'OM004', 'one without argument');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.procedure')$$), 'OM004', 'a procedure');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.many')$$), 'OM001 handler', 'one that returns rows');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'pg_catalog.jsonb_agg')$$), 'OM004', 'an aggregate of other arguments');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first', '{order_captured,nonsense}')$$), 'OM001 event_types[1]', 'a type that is none');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first', '{}')$$), 'OM001 event_types', 'no type');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first', max_attempts => 0)$$), 'OM001 max_attempts', 'no attempt');
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first', start_at => 'infinity')$$), 'OM001 start_at', 'never');
SELECT is(error_of($$SELECT order_mgmt.subscribe('shipper', 'test.first')$$), 'OM005', 'the name of a built-in consumer');
SELECT is(error_of($$SELECT order_mgmt.unsubscribe('shipper')$$), 'OM005', 'a built-in consumer is not to be unsubscribed');
SELECT is(error_of($$SELECT order_mgmt.unsubscribe('nobody')$$), 'OM004', 'nor one that is not there');
SELECT is(error_of('SELECT order_mgmt.unsubscribe(NULL)'), 'OM001 name', 'nor NULL');

-- Roles: who may not log in, or not call the function
CREATE ROLE test_nologin IN ROLE order_mgmt_operator;
CREATE ROLE test_login LOGIN IN ROLE order_mgmt_operator;
CREATE ROLE test_reader LOGIN IN ROLE order_mgmt_app;
GRANT USAGE ON SCHEMA test TO PUBLIC;
REVOKE EXECUTE ON FUNCTION test.first(jsonb) FROM PUBLIC;
SET LOCAL ROLE test_nologin;
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.second')$$), 'OM005', 'a role without LOGIN');
SET LOCAL ROLE test_reader;
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.second')$$), '42501', 'a role that is no operator');
SET LOCAL ROLE test_login;
SELECT is(error_of($$SELECT order_mgmt.subscribe('a', 'test.first')$$), '42501', 'a function that it may not execute');
SELECT is(order_mgmt.subscribe('others', 'test.second'), true, 'one that it may');
RESET ROLE;
SELECT is(error_of($$SELECT order_mgmt.subscribe('others', 'test.second')$$), 'OM005', 'the subscription of another');

-- What is stored
SELECT is(order_mgmt.subscribe('odd', 'test."Odd name"'), true, 'a name to be quoted');
SELECT is(order_mgmt.subscribe('first', 'first', '{order_captured}'), true, 'a name of the search_path');
SELECT is(order_mgmt.subscribe('second', 'test.second(JSONB)', max_attempts => 2), true, 'a signature');
SELECT is(rows_of($$SELECT name, kind, handler, owner = current_user, event_types, max_attempts FROM order_mgmt.consumers
    WHERE kind = 'handler' AND name <> 'others' ORDER BY name$$),
    '(first,handler,"test.first(jsonb)",t,{order_captured},20) (odd,handler,"test.""Odd name""(jsonb)",t,,20) (second,handler,"test.second(jsonb)",t,,2)',
    'is qualified');
SELECT is(order_mgmt.subscribe('first', 'test.first(jsonb)', '{order_captured}'), false, 'the same again');
SELECT is(error_of($$SELECT order_mgmt.subscribe('first', 'test.second', '{order_captured}')$$), 'OM005', 'another handler');
SELECT is(error_of($$SELECT order_mgmt.subscribe('first', 'test.first')$$), 'OM005', 'other types');
SELECT is(error_of($$SELECT order_mgmt.subscribe('first', 'test.first', '{order_captured}', 3)$$), 'OM005', 'other attempts');

-- Delivery
SELECT open_shop('ann', 100, 'p', 10), open_shop('bad', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p', 2, 5)) AS id \gset
CREATE FUNCTION deliveries() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(consumer || ' ' || (event->>'event_type'), ', ' ORDER BY consumer, (event->>'event_id')::bigint)
    FROM test.seen WHERE event->>'order_id' IS NOT NULL
$$;
SELECT is((SELECT pending FROM order_mgmt.queues WHERE consumer = 'first'), 1::bigint, 'view queues counts what is pending');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(deliveries(), 'first order_captured, second order_captured, second balance_held, second stock_held, second order_confirmed, second order_shipped',
    'run_pipeline() delivers each event to the subscriptions of the caller');
SELECT is((SELECT event - 'event_id' - 'at' FROM test.seen WHERE consumer = 'first'),
    jsonb_build_object('event_type', 'order_captured', 'order_id', :'id', 'customer_id', 'ann', 'product_id', NULL, 'detail', '{}'::jsonb),
    'the event');
SELECT is((SELECT count(*) FROM test.seen WHERE event->>'event_type' IN ('balance_changed', 'stock_changed')), 3::bigint, 'changes of accounts and stock too');
SELECT is(rows_of($$SELECT consumer, pending, oldest_age, retrying, dead, processed, failed, worker_pid, paused FROM order_mgmt.queues WHERE consumer = 'first'$$),
    '(first,0,,0,0,1,0,,f)', 'view queues');
SELECT is((SELECT pending > 0 FROM order_mgmt.queues WHERE consumer = 'others'), true, 'what belongs to other roles waits');
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'nothing is delivered twice');
SELECT order_mgmt.cancel_order(order_mgmt.capture_order('ann', lines('p'))) \g /dev/null
SELECT cmp_ok(order_mgmt.run_pipeline(3), '<=', 4::bigint, 'max_events counts for handlers as well');
SELECT order_mgmt.run_pipeline() \g /dev/null

-- Failure: effects undone, tried again, given up
TRUNCATE test.seen;
UPDATE order_mgmt.consumers SET backoff_base = '1 us', backoff_cap = '1 us' WHERE name = 'second';
SELECT order_mgmt.capture_order('bad', lines('p')) AS bad \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM test.seen WHERE consumer = 'second'), 0::bigint, 'what a failed handler did is undone');
SELECT is(outcome(:'bad'), 'shipped', 'it does not touch the order');
DO $$ BEGIN FOR i IN 1 .. 3 LOOP PERFORM pg_sleep(0.001); PERFORM order_mgmt.run_pipeline(); END LOOP; END $$;
SELECT is(rows_of($$SELECT consumer, event_id IS NOT NULL, order_id, attempts, error_code, message FROM order_mgmt.dead_letters
    WHERE payload->>'event_type' = 'order_captured'$$), format('(second,t,%s,2,P0042,"not bad")', :'bad'), 'then it is a dead letter');
SELECT is((SELECT count(*) FROM order_mgmt.retries), 0::bigint, 'and no retry');
SELECT is((SELECT dead FROM order_mgmt.queues WHERE consumer = 'second'), (SELECT count(*) FROM order_mgmt.dead_letters), 'view queues counts it');
SELECT is((SELECT count(*) FROM test.seen WHERE consumer = 'first'), 1::bigint, 'the other subscription has had it');

-- A pause
SELECT is(order_mgmt.pause_consumer('first'), true, 'paused');
SELECT order_mgmt.capture_order('ann', lines('p')) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM test.seen WHERE consumer = 'first'), 1::bigint, 'it gets nothing');
SELECT is(order_mgmt.resume_consumer('first'), true, 'resumed');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM test.seen WHERE consumer = 'first'), 2::bigint, 'it gets what waited');

-- Never as another than the session's own user
SELECT order_mgmt.capture_order('ann', lines('p')) \g /dev/null
GRANT INSERT ON test.seen TO test_login;
SELECT pending FROM order_mgmt.queues WHERE consumer = 'others' \gset
SET LOCAL ROLE test_login;
SELECT order_mgmt.run_pipeline() \g /dev/null
RESET ROLE;
SELECT cmp_ok((SELECT pending FROM order_mgmt.queues WHERE consumer = 'others'), '>=', :pending::bigint, 'after SET ROLE nobody is called');

-- A handler may run the pipeline, and end its own subscription; the event is still handled once.
CREATE SEQUENCE test.calls;
CREATE FUNCTION test.deep(event jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT nextval('test.calls');
    INSERT INTO test.seen VALUES ('deep', event);
    SELECT order_mgmt.run_pipeline();
    SELECT order_mgmt.unsubscribe('deep');
$$;
SELECT order_mgmt.subscribe('deep', 'deep', '{order_noted}') \g /dev/null
SELECT order_mgmt.add_order_note(:'id', 'x') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT last_value || ' ' || count(*) FROM test.calls, test.seen WHERE consumer = 'deep' GROUP BY last_value), '1 1', 'a handler that runs the pipeline is not called from there');
SELECT is((SELECT count(*) FROM order_mgmt.consumers WHERE name = 'deep'), 0::bigint, 'it may end its own subscription');

-- A handler that is gone
SELECT order_mgmt.capture_order('ann', lines('p')) \g /dev/null
DROP FUNCTION test.first(jsonb);
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT pending FROM order_mgmt.queues WHERE consumer = 'first'), 1::bigint, 'without its function a subscription waits');

-- The end
SELECT is(order_mgmt.unsubscribe('second'), true, 'unsubscribed');
SELECT is(error_of($$SELECT order_mgmt.unsubscribe('second')$$), 'OM004', 'once');
SELECT is((SELECT count(*) FROM order_mgmt.queues WHERE consumer = 'second'), 0::bigint, 'it is gone');
SELECT is(order_mgmt.unsubscribe('others'), true, 'an administrator may end those of others');
SET LOCAL ROLE test_login;
SELECT is(error_of($$SELECT order_mgmt.unsubscribe('odd')$$), '42501', 'who is none may not');
RESET ROLE;

-- The example
SELECT set_config('search_path', 'public, test', true) \g /dev/null
\ir ../../docs/examples/notify_on_capture.sql
UPDATE order_mgmt.accounts SET email = 'ann@example.com' WHERE customer_id = 'ann';
SELECT order_mgmt.capture_order('ann', lines('p', 2, 3)) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.dead_letters WHERE consumer IN ('notify_captured', 'write_confirmation')), 0::bigint, 'the example works');
SELECT is(rows_of('SELECT recipient, subject, body LIKE $$Order % of %, 6.0000 in total.$$ FROM message_outbox ORDER BY event_id DESC LIMIT 1'),
    '(ann@example.com,"We have received your order",t)', 'it writes a message');
SELECT is((SELECT sum(pending) FROM order_mgmt.queues WHERE consumer IN ('notify_captured', 'write_confirmation')), 0::numeric, 'and notifies');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
