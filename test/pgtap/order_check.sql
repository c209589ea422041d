-- A model's score as a check of orders: off by default, asked by the balance checker, without rights, and no model stops the shop.
BEGIN;
\ir helpers.psql
SELECT no_plan();

GRANT USAGE ON SCHEMA test TO order_mgmt_reader;
CREATE FUNCTION test.risk(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('score', (input->>'total')::numeric / 100, 'user', current_user, 'limit', current_setting('order_mgmt.predict_timeout'))
$$;
CREATE FUNCTION test.batch(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('score', 0, 'inputs', cardinality(inputs)) FROM unnest(inputs)
$$;
CREATE FUNCTION test.fail(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(1 / 0)$$;
CREATE FUNCTION test.picky(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT to_jsonb((input->>'total')::numeric / 100 / ((input->>'total')::numeric - 13))
$$;
CREATE FUNCTION test.words(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '"high"'::jsonb$$;
CREATE FUNCTION test.slow(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(pg_sleep(600)::text)$$;
CREATE FUNCTION test.writes(input jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$
    SELECT to_jsonb(9) FROM order_mgmt.set_account('written', 1)
$$;
CREATE FUNCTION test.conflicts(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE serialization_failure;
END
$$;
CREATE FUNCTION test.cancels(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE query_canceled;
END
$$;
CREATE FUNCTION test.stores(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(lo_from_bytea(0, 'x')::bigint)$$;
CREATE FUNCTION test.makes(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMPORARY TABLE made (x int);
    RETURN to_jsonb(9);
END
$$;
CREATE TEMPORARY TABLE mine (x int);
GRANT ALL ON mine TO order_mgmt_reader;
CREATE FUNCTION test.fills(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        INSERT INTO pg_temp.mine VALUES (1);
    EXCEPTION WHEN division_by_zero THEN
        RETURN NULL;
    END;
    RETURN to_jsonb(9);
END
$$;
CREATE FUNCTION test.opens(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('transaction_read_only', 'off', false);
    RETURN to_jsonb(9);
END
$$;
-- Calls are counted, also those that fail.
SET LOCAL track_functions = 'pl';
CREATE FUNCTION test.tick() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$;
CREATE FUNCTION ticks() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_xact_user_functions WHERE schemaname = 'test' AND funcname = 'tick'
$$;
CREATE FUNCTION test.hangs(inputs jsonb[]) RETURNS jsonb[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.tick();
    PERFORM pg_sleep(600);
    RETURN inputs;
END
$$;
CREATE FUNCTION test.down(inputs jsonb[]) RETURNS jsonb[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.tick();
    RAISE 'down';
END
$$;
CREATE FUNCTION test.finds(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('score', (input->>'total')::numeric / 100, 'settings', jsonb_agg(current_setting(name) ORDER BY n))
    FROM unnest('{search_path,row_security,lock_timeout,TimeZone,DateStyle,order_mgmt.predict_timeout,transaction_read_only}'::text[]) WITH ORDINALITY AS s (name, n), pg_sleep(0.02)
$$;
CREATE TABLE test.secrets (who text);
INSERT INTO test.secrets VALUES ('reader'), ('others');
ALTER TABLE test.secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON test.secrets TO order_mgmt_reader USING (who = 'reader');
GRANT SELECT ON test.secrets TO order_mgmt_reader;
CREATE FUNCTION test.reads(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(string_agg(who, ' ') = 'reader') FROM test.secrets$$;
CREATE FUNCTION test.escapes(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RESET ROLE;
    RETURN to_jsonb(9);
END
$$;
SELECT order_mgmt.create_model(name, 'sql', jsonb_build_object('function', 'test.' || name, 'log_sample', 1))
    FROM unnest('{risk,batch,fail,picky,words,slow,writes,conflicts,escapes,cancels,stores,makes,fills,opens,hangs,down,finds,reads}'::text[]) AS name \g /dev/null
CREATE VIEW test.asked AS SELECT model, input, output FROM order_mgmt.prediction_log;
SELECT open_shop('ann', 10000, 'p', 10000) \g /dev/null
CREATE FUNCTION capture(quantity bigint) RETURNS uuid LANGUAGE sql AS $$
    SELECT order_mgmt.capture_order('ann', test.lines('p', quantity), metadata => '{"from": "web"}')
$$;
-- What becomes of an order of so many
CREATE FUNCTION decided(quantity bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id uuid := capture(quantity);
BEGIN
    PERFORM order_mgmt.run_pipeline();
    RETURN test.outcome(id);
END
$$;

SELECT is(decided(90), 'shipped', 'off by default');
SELECT is((SELECT count(*) FROM test.asked), 0::bigint, 'nobody is asked');

SET LOCAL order_mgmt.check_model = 'risk';
SET LOCAL order_mgmt.check_threshold = 0.5;
SELECT capture(20) AS good \gset
SELECT capture(60) AS bad \gset
SELECT is((SELECT count(*) FROM test.asked), 0::bigint, 'a capture asks nobody');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'good'), 'shipped', 'a low score passes');
SELECT is(outcome(:'bad'), 'rejected {high_risk}', 'a high one does not');
SELECT is((SELECT input - 'order_id' FROM test.asked WHERE input->>'order_id' = :'bad'),
    '{"order_ref": null, "customer_id": "ann", "total": "60.0000", "metadata": {"from": "web"}, "lines": [{"product_id": "p", "quantity": 60, "unit_price": "1.0000"}]}'::jsonb,
    'the model sees the order');
SELECT is(story(:'bad'), 'order_captured balance_refused stock_held order_rejected', 'it is refused as any other');
SELECT is(rows_of(format($$SELECT event_type, detail FROM order_mgmt.track_order(%L) WHERE detail <> '{}'$$, :'bad')),
    '(balance_refused,"{""model"": ""risk"", ""score"": 0.6, ""reasons"": [""high_risk""], ""threshold"": 0.5}") (order_rejected,"{""reasons"": [""high_risk""]}")',
    'the log says why');
SELECT is(credit('ann') || ' ' || units('p'), '9890/0 9890/0', 'what the other check held is released');
SELECT is(rows_of($$SELECT order_id, reasons FROM order_mgmt.list_orders(status => 'rejected')$$), format('(%s,{high_risk})', :'bad'), 'it is listed');
SELECT is((SELECT order_mgmt.get_order(:'bad')->'reasons'), '["high_risk"]'::jsonb, 'and shown');
SELECT is(decided(50), 'rejected {high_risk}', 'the threshold itself is refused');
SELECT is(decided(99999), 'rejected {insufficient_stock,high_risk}', 'the check of stock has its say, too');
SELECT * FROM invariants_hold();

-- A batch is one question
SET LOCAL order_mgmt.check_model = 'batch';
SELECT order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'lines', lines('p', q))) FROM unnest('{10,70,30,0}'::bigint[]) AS q)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(rows_of($$SELECT output->>'inputs' AS n, count(*) FROM test.asked WHERE model = 'batch' GROUP BY 1$$), '(3,3)', 'all orders of a batch are asked about at once');

-- One that waits for credit is asked about once, one that is cancelled not at all
SET LOCAL order_mgmt.check_model = 'risk';
SET LOCAL order_mgmt.check_threshold = 1e6;
DELETE FROM order_mgmt.prediction_log;
SELECT order_mgmt.pause_consumer('order_updater') \g /dev/null
SELECT capture(6000) AS holds \gset
SELECT capture(6000) AS waits \gset
SELECT capture(7) AS cancelled \gset
SELECT order_mgmt.cancel_order(:'cancelled') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT waiting > 0 FROM order_mgmt.cursor_log_0 WHERE consumer = 'balance_checker' ORDER BY seq DESC LIMIT 1), true, 'one waits for what another holds');
SELECT order_mgmt.cancel_order(:'holds') \g /dev/null
SELECT order_mgmt.resume_consumer('order_updater') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'waits'), 'shipped', 'and gets it in the end');
SELECT is((SELECT count(*) FROM test.asked WHERE input->>'order_id' = :'waits'), 1::bigint, 'it is asked about once');
SELECT is((SELECT count(*) FROM test.asked WHERE input->>'order_id' = :'cancelled'), 0::bigint, 'what is cancelled is not asked about');
SELECT is(outcome(:'cancelled'), 'cancelled', 'and stays cancelled');
SET LOCAL order_mgmt.check_threshold = 0.5;
SELECT order_mgmt.adjust_balance('ann', 10000), order_mgmt.adjust_stock('p', 10000) \g /dev/null
SELECT * FROM invariants_hold();

-- Cancelled after it was refused, before that was decided
SELECT order_mgmt.pause_consumer('order_updater') \g /dev/null
SELECT capture(60) AS late \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(order_mgmt.cancel_order(:'late'), 'cancelled', 'an order that the model has refused can be cancelled');
SELECT order_mgmt.resume_consumer('order_updater') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'late'), 'cancelled', 'and stays cancelled');
SELECT is(units('p') LIKE '%/0' AND credit('ann') LIKE '%/0', true, 'nothing stays held');
SELECT * FROM invariants_hold();

-- Preview
SELECT is(order_mgmt.preview_order('ann', lines('p', 60)), '{"passes": false, "total": "60.0000", "reasons": ["high_risk"], "shortages": []}', 'a preview asks the model');
SELECT is(order_mgmt.preview_order('ann', lines('p', 20)), '{"passes": true, "total": "20.0000", "reasons": [], "shortages": []}', 'a low score passes');
SELECT is(order_mgmt.preview_order('ann', lines('p', 99999))->'reasons', '["insufficient_balance", "insufficient_stock", "high_risk"]', 'all reasons are shown');
SELECT is((SELECT input - 'lines' FROM test.asked WHERE input->'order_id' = 'null' LIMIT 1),
    '{"order_id": null, "order_ref": null, "customer_id": "ann", "total": "60.0000", "metadata": {}}'::jsonb, 'the model sees that there is no order');

-- The model has the rights of a reader and changes nothing
SELECT is((SELECT string_agg(DISTINCT output->>'user', ' ') FROM test.asked), 'order_mgmt_reader', 'whoever asks');
SELECT is((SELECT string_agg(DISTINCT output->>'limit', ' ') FROM test.asked), '5s', 'and a time limit');
SELECT is(current_setting('order_mgmt.predict_timeout') || ' ' || current_user, '0 ' || session_user, 'which end with its answer');
SET LOCAL client_min_messages = error;
SET LOCAL order_mgmt.check_on_failure = 'retry';
SET LOCAL order_mgmt.check_model = 'writes';
SELECT is(decided(60), 'captured', 'a model that writes fails');
SELECT is((SELECT count(*) FROM order_mgmt.get_account('written')), 0::bigint, 'nothing is written');
SELECT is((SELECT error_code || ' ' || message FROM order_mgmt.retries), 'OM008 prediction by model "writes" (kind "sql") failed: cannot execute set_account() in a read-only transaction', 'and says why');
SET LOCAL order_mgmt.check_model = 'escapes';
SELECT hurry();
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT attempts || ' ' || message FROM order_mgmt.retries), '2 prediction by model "escapes" (kind "sql") failed: cannot set parameter "role" within security-definer function', 'it does not get out');
SET LOCAL order_mgmt.check_model = 'conflicts';
SELECT hurry();
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT attempts || ' ' || error_code || ' ' || message FROM order_mgmt.retries), '3 OM008 serialization_failure', 'one that wants the transaction to be run again has failed like any other');
SET LOCAL order_mgmt.check_model = 'cancels';
SELECT hurry();
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT attempts || ' ' || error_code || ' ' || message FROM order_mgmt.retries), '4 OM008 query_canceled', 'one that says that somebody has cancelled has, too');
-- What it may not do; what it says is in retries
CREATE FUNCTION said(model text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('order_mgmt.check_model', model, true);
    PERFORM test.hurry();
    PERFORM order_mgmt.run_pipeline();
    RETURN (SELECT error_code || ' ' || message FROM order_mgmt.retries);
END
$$;
SELECT matches(said('stores'), '^OM008 prediction by model "stores" .*(may only read|read-only transaction)', 'it leaves no large object');
SELECT is((SELECT count(*) FROM pg_largeobject_metadata), 0::bigint, 'none');
SELECT matches(said('makes'), '^OM008 .*(security-restricted operation|read-only transaction)', 'it makes no temporary table');
SELECT matches(said('fills'), '^OM008 .*may only read', 'nor fills one');
SELECT is((SELECT count(*) FROM mine), 0::bigint, 'it stays empty');
SELECT matches(said('opens'), '^OM008 .*cannot set transaction read-write mode inside a read-only transaction', 'and cannot make it otherwise');
SET LOCAL order_mgmt.check_model = 'risk';
SELECT hurry();
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT reasons FROM order_mgmt.list_orders('ann', page_size => 1)), '{high_risk}', 'it is asked about again, and refused');
SELECT is((SELECT count(*) FROM order_mgmt.retries), 0::bigint, 'and out of the way');
SELECT * FROM invariants_hold();

-- Tried again until it is given up, and taken up again
SELECT order_mgmt.set_retry_policy('balance_checker', max_attempts => 2) \g /dev/null
SET LOCAL order_mgmt.check_model = 'picky';
SELECT capture(13) AS beyond \gset
SELECT capture(17) AS beside \gset
SELECT capture(14) AS risky \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'beyond') || ', ' || outcome(:'beside') || ', ' || outcome(:'risky'), 'captured, shipped, shipped', 'an order that is beyond the model takes none along');
SELECT hurry();
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'beyond'), 'failed', 'its check is given up');
SELECT is((SELECT consumer || ' ' || error_code FROM order_mgmt.dead_letters), 'balance_checker OM008', 'with a dead letter');
SET LOCAL order_mgmt.check_threshold = 0.1;
SET LOCAL order_mgmt.check_model = 'risk';
SELECT order_mgmt.replay_dead_letters('balance_checker') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'beyond'), 'rejected {high_risk}', 'taken up again it is asked about again');
SELECT is((SELECT detail->>'round' FROM order_mgmt.track_order(:'beyond') WHERE event_type = 'balance_refused' AND detail ? 'model'), '1', 'in its next round');
SELECT is(units('p') LIKE '%/0' AND credit('ann') LIKE '%/0', true, 'nothing stays held');
SELECT * FROM invariants_hold();

-- Or passed over
SET LOCAL order_mgmt.check_on_failure = 'pass';
SET LOCAL order_mgmt.check_model = 'fail';
SELECT is(decided(60), 'shipped', 'a model that fails lets orders pass');
SET LOCAL order_mgmt.check_model = 'words';
SELECT is(decided(60), 'shipped', 'one without a score too');
SET LOCAL order_mgmt.check_model = 'absent';
SELECT is(decided(60), 'shipped', 'and one that is not there');
SET LOCAL order_mgmt.check_model = 'cancels';
SELECT is(decided(60), 'shipped', 'and one that says that somebody has cancelled');
SET LOCAL order_mgmt.check_model = 'conflicts';
SELECT is(decided(60), 'shipped', 'or wants the transaction to be run again');
SELECT order_mgmt.set_model_options('slow', '{"function": "test.slow", "timeout_ms": 20}') \g /dev/null
SET LOCAL order_mgmt.check_model = 'slow';
SELECT is(decided(60), 'shipped', 'and one that takes too long');
SELECT is(order_mgmt.preview_order('ann', lines('p', 60))->'passes', 'true', 'a preview passes as well');
SET LOCAL order_mgmt.check_model = 'picky';
SET LOCAL order_mgmt.check_threshold = 0.1;
SELECT capture(13) AS beyond \gset
SELECT capture(99) AS beside \gset
SELECT capture(14) AS risky \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'beyond') || ', ' || outcome(:'beside') || ', ' || outcome(:'risky'), 'shipped, shipped, rejected {high_risk}', 'only the order that is beyond the model passes unchecked');
SELECT order_mgmt.set_model_options('fail', '{"function": "test.fail", "fallback": "risk"}') \g /dev/null
SET LOCAL order_mgmt.check_model = 'fail';
SELECT is(decided(60), 'rejected {high_risk}', 'a fallback checks for it');

-- Many at a time: of 1000 orders two are beyond the model, and what is behind them is checked
CREATE FUNCTION capture_many(many int) RETURNS void LANGUAGE sql AS $$
    SELECT order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'order_ref', many || '-' || n,
        'lines', test.lines('p', CASE WHEN n IN (0, 499) THEN 13 WHEN n = 998 THEN 14 ELSE 1 END)) ORDER BY n) FROM generate_series(0, many - 1) AS n));
$$;
SELECT order_mgmt.adjust_balance('ann', 100000), order_mgmt.adjust_stock('p', 100000) \g /dev/null
SET LOCAL order_mgmt.check_model = 'picky';
SELECT capture_many(1000);
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(rows_of($$SELECT status, count(*), string_agg(order_ref, ' ') FILTER (WHERE status = 'rejected') FROM order_mgmt.orders WHERE order_ref LIKE '1000-%' GROUP BY 1 ORDER BY 1$$),
    '(rejected,1,1000-998) (shipped,999,)', 'two that are beyond the model let no others pass');
SELECT is((SELECT count(*) FROM test.asked WHERE model = 'picky' AND input->>'order_ref' LIKE '1000-%'), 998::bigint, 'all but these have been checked');
-- One that fails for all of them is left alone soon, one that hangs at once
SET LOCAL order_mgmt.check_model = 'down';
SELECT ticks() AS before \gset
SELECT capture_many(200);
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(ticks() - :before, 16::bigint, 'a model that is down is called 16 times');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_ref LIKE '200-%' AND status = 'shipped'), 200::bigint, 'and all pass');
SELECT order_mgmt.set_model_options('hangs', '{"function": "test.hangs", "timeout_ms": 20}') \g /dev/null
SET LOCAL order_mgmt.check_model = 'hangs';
SELECT ticks() AS before \gset
SELECT capture_many(100);
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(ticks() - :before, 1::bigint, 'one that hangs is called once');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_ref LIKE '100-%' AND status = 'shipped'), 100::bigint, 'and all pass');

-- Row security holds for the model
SET LOCAL order_mgmt.check_model = 'reads';
SELECT is(decided(60), 'rejected {high_risk}', 'a model sees the rows that policies leave to a reader');

-- Who runs the pipeline has no say in it either
CREATE ROLE test_operator IN ROLE order_mgmt_operator;
SET LOCAL order_mgmt.check_model = 'finds';
SELECT capture(60) AS risky \gset
SET LOCAL ROLE test_operator;
SET LOCAL order_mgmt.predict_timeout = '1ms';
SET LOCAL search_path = public;
SET LOCAL row_security = off;
SET LOCAL lock_timeout = '1ms';
SET LOCAL TimeZone = 'Asia/Tokyo';
SET LOCAL DateStyle = 'German';
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT public.is(concat_ws(' ', current_user, current_setting('search_path'), current_setting('row_security'), current_setting('lock_timeout'), current_setting('TimeZone'),
    current_setting('order_mgmt.predict_timeout'), current_setting('transaction_read_only')), 'test_operator public off 1ms Asia/Tokyo 1ms off', 'an operator has his settings');
RESET ROLE;
SET LOCAL search_path = test, public;
RESET order_mgmt.predict_timeout;
RESET row_security;
RESET lock_timeout;
RESET TimeZone;
RESET DateStyle;
SELECT is(outcome(:'risky'), 'rejected {high_risk}', 'who gets no order past the model by them');
SELECT is((SELECT output->'settings' FROM test.asked WHERE model = 'finds'), '["pg_catalog, pg_temp", "on", "0", "UTC", "ISO, MDY", "5s", "on"]', 'it has its own');
SET LOCAL order_mgmt.check_model = 'risk';
SELECT * FROM invariants_hold();

-- Who captures has no say in it
CREATE ROLE test_app IN ROLE order_mgmt_app;
SET LOCAL ROLE test_app;
SELECT is(order_mgmt.capture_order('ann', '[{"product_id": "p", "quantity": 60, "unit_price": 1}]') IS NULL, false, 'an application captures');
RESET ROLE;
CREATE FUNCTION pg_temp.try(setting text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SET LOCAL ROLE test_app';
    EXECUTE setting;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
SELECT is(pg_temp.try('SET order_mgmt.check_model = '''''), '42501', 'it does not switch the check off');
SELECT is(pg_temp.try('SET order_mgmt.check_threshold = 9'), '42501', 'nor raises the threshold');
SELECT is(pg_temp.try('SET order_mgmt.check_on_failure = retry'), '42501', 'nor says what happens when the model fails');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT reasons FROM order_mgmt.list_orders('ann', page_size => 1)), '{high_risk}', 'its orders are checked');
SELECT is((SELECT string_agg(DISTINCT status, ' ') FROM order_mgmt.orders), 'cancelled rejected shipped', 'every order has ended');
SELECT * FROM invariants_hold();
SELECT * FROM finish();
ROLLBACK;
