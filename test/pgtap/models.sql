-- Models: made, trained, deployed, changed and dropped; and what the view shows.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE FUNCTION test.twice(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb((input->>'x')::numeric * 2)$$;
CREATE FUNCTION test.batch(inputs jsonb[]) RETURNS jsonb[] LANGUAGE sql AS $$SELECT array_agg(to_jsonb(cardinality(inputs)))
    FROM unnest(inputs)$$;
CREATE FUNCTION test.rows(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS $$SELECT i FROM unnest(inputs) WITH ORDINALITY AS i(i, n) ORDER BY n$$;
CREATE FUNCTION test.few(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS $$SELECT inputs[1]$$;
CREATE FUNCTION test.nothing(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT NULL::jsonb$$;
CREATE FUNCTION test.number(input jsonb) RETURNS numeric LANGUAGE sql AS $$SELECT 1$$;
CREATE PROCEDURE test.procedure(input jsonb) LANGUAGE sql AS $$SELECT 1$$;
CREATE TABLE test.source (x numeric);
INSERT INTO test.source VALUES (1), (3);
CREATE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('mean', avg(x), 'request', request, 'metrics', jsonb_build_object('rows', count(*))) FROM test.source
$$;
CREATE FUNCTION test.apply(input jsonb, model jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN model IS NULL THEN '"untrained"' ELSE to_jsonb((model->>'mean')::numeric * (input->>'x')::numeric) END
$$;

-- What is refused
SELECT is(error_of($$SELECT order_mgmt.create_model(NULL, 'sql')$$), 'OM001 name', 'no name');
SELECT is(error_of($$SELECT order_mgmt.create_model('', 'sql')$$), 'OM001 name', 'an empty name');
SELECT is(error_of($$SELECT order_mgmt.create_model(repeat('x', 65), 'sql')$$), 'OM001 name', 'a long name');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', NULL)$$), 'OM001 kind', 'no kind');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'No kind')$$), 'OM001 kind', 'what is no kind');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', repeat('k', 41))$$), 'OM001 kind', 'a long kind');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'nonsense')$$), 'OM008', 'a kind that is not there');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', NULL)$$), 'OM001 options', 'no options');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', '[]')$$), 'OM001 options', 'options that are no object');
SELECT is(error_of(format($$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.twice"}'::jsonb || %L)$$, options)), 'OM001 ' || path, 'options ' || options)
FROM (VALUES ('{"fallback": 3}', 'options.fallback'), ('{"fallback": ""}', 'options.fallback'), ('{"log_sample": 1.5}', 'options.log_sample'),
    ('{"log_sample": "1"}', 'options.log_sample'), ('{"max_rows_per_batch": 0}', 'options.max_rows_per_batch'), ('{"max_rows_per_batch": 1.5}', 'options.max_rows_per_batch'),
    ('{"timeout_ms": -1}', 'options.timeout_ms'), ('{"auto_deploy": 1}', 'options.auto_deploy'), ('{"keep_versions": -1}', 'options.keep_versions'),
    ('{"function": "twice"}', 'options.function'), ('{"function": "a.b.c"}', 'options.function'), ('{"function": null}', 'options.function'), ('{"function": 3}', 'options.function'),
    ('{"function": "test.number"}', 'options.function'), ('{"colour": "red"}', 'options.colour'), ('{"function": "test.apply", "train_function": "learn"}', 'options.train_function')) AS v(options, path);
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.absent"}')$$), 'OM004', 'a function that is not there');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.procedure"}')$$), 'OM004', 'a procedure');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.twice", "train_function": "test.learn"}')$$), 'OM004', 'a function that takes no model');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.apply", "train_function": "test.absent"}')$$), 'OM004', 'a training function that is not there');
SELECT is_empty('SELECT * FROM order_mgmt.models', 'none has been made');

-- A kind that needs no training
SELECT is(order_mgmt.create_model('twice', 'sql', '{"function": "test.twice"}'), true, 'made');
SELECT is(order_mgmt.create_model('twice', 'sql', '{"function": "test.twice"}'), false, 'the same again');
SELECT is(error_of($$SELECT order_mgmt.create_model('twice', 'sql', '{"function": "test.nothing"}')$$), 'OM005', 'other options');
SELECT is(rows_of('SELECT name, kind, version, deployed, options, trained_at, metrics, bytes FROM order_mgmt.models'),
    '(twice,sql,0,t,"{""function"": ""test.twice""}",,{},0)', 'the view shows it');
SELECT is(order_mgmt.predict('twice', '{"x": 21}'), '42', 'it predicts');
SELECT is(error_of($$SELECT * FROM order_mgmt.train_model('twice')$$), 'OM008', 'it has nothing to train');
SELECT is(order_mgmt.deploy_model('twice', 0), false, 'it is deployed');
SELECT is(error_of($$SELECT order_mgmt.deploy_model('twice', 1)$$), 'OM004', 'there is no version 1');
SELECT is(error_of($$SELECT order_mgmt.deploy_model('twice', NULL)$$), 'OM001 version', 'no version');

-- Batches: the function gets as many inputs as the option says
SELECT order_mgmt.create_model('batch', 'sql', '{"function": "test.batch", "max_rows_per_batch": 3}'),
    order_mgmt.create_model('rows', 'sql', '{"function": "test.rows", "max_rows_per_batch": 3}'),
    order_mgmt.create_model('few', 'sql', '{"function": "test.few"}'),
    order_mgmt.create_model('nothing', 'sql', '{"function": "test.nothing"}') \g /dev/null
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_batch('batch', '[1, 2, 3, 4, 5, 6, 7]')$$), '(1,3) (2,3) (3,3) (4,3) (5,3) (6,3) (7,1)', 'three, three and one');
SELECT is(rows_of($$SELECT ordinal, output FROM order_mgmt.predict_query('batch', 'SELECT * FROM generate_series(1, 4)')$$), '(1,3) (2,3) (3,3) (4,1)', 'of a query too');
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_batch('rows', '[1, "a", null, [2], {"x": 3}]')$$), '(1,1) (2,"""a""") (3,null) (4,[2]) (5,"{""x"": 3}")', 'any JSON goes in');
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_batch('rows', '[]')$$), NULL, 'none is none');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_batch('few', '[1, 2]')$$), 'OM008', 'too few outputs');
SELECT order_mgmt.set_model_options('few', '{"function": "test.few", "fallback": "batch"}') \g /dev/null
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_batch('few', '[1, 2, 3, 4]')$$), '(1,3) (2,3) (3,3) (4,1)', 'a fallback gets as many as it wants');
SELECT is(order_mgmt.predict('nothing', '1'), 'null', 'NULL is JSON null');

-- Training
SELECT is(order_mgmt.create_model('mean', 'sql', '{"function": "test.apply", "train_function": "test.learn", "keep_versions": 2}'), true, 'with a training function');
SELECT is(order_mgmt.predict('mean', '{"x": 5}'), '"untrained"', 'which it does not need');
SELECT is((SELECT (m.name, m.kind, m.version, m.deployed, m.metrics)::text FROM order_mgmt.train_model('mean') AS m), '(mean,sql,1,t,"{""rows"": 2}")', 'trained');
SELECT is(order_mgmt.predict('mean', '{"x": 5}'), '10.0000000000000000', 'it predicts otherwise');
INSERT INTO test.source VALUES (8);
SELECT is((SELECT m.version FROM order_mgmt.train_model('mean') AS m), 2::bigint, 'trained again');
SELECT is(order_mgmt.predict('mean', '{"x": 5}')::numeric, 20::numeric, 'with what there is now');
SELECT is(order_mgmt.deploy_model('mean', 1), true, 'the way back');
SELECT is(order_mgmt.predict('mean', '{"x": 5}')::numeric, 10::numeric, 'predicts as before');
SELECT is(rows_of($$SELECT version, deployed FROM order_mgmt.models WHERE name = 'mean' ORDER BY version$$), '(1,t) (2,f)', 'the view shows both');
SELECT is((SELECT bytes > 50 AND trained_by = current_user AND trained_with = options AND trained_at <= clock_timestamp() FROM order_mgmt.models
    WHERE name = 'mean' AND version = 2), true, 'and what there is to say of them');
SELECT is(order_mgmt.deploy_model('mean', 0), true, 'all the way back');
SELECT is(order_mgmt.predict('mean', '{"x": 5}'), '"untrained"', 'it is untrained');
SELECT is(rows_of($$SELECT version, deployed FROM order_mgmt.models WHERE name = 'mean' ORDER BY version$$), '(0,t) (1,f) (2,f)', 'the view shows all three');

-- auto_deploy, and versions that are kept
SELECT is(order_mgmt.set_model_options('mean', '{"function": "test.apply", "train_function": "test.learn", "keep_versions": 2, "auto_deploy": false}'), true, 'other options');
SELECT is(order_mgmt.set_model_options('mean', '{"function": "test.apply", "train_function": "test.learn", "keep_versions": 2, "auto_deploy": false}'), false, 'the same');
SELECT is((SELECT (m.version, m.deployed)::text FROM order_mgmt.train_model('mean') AS m), '(3,f)', 'a version to look at first');
SELECT order_mgmt.deploy_model('mean', 1) \g /dev/null
SELECT order_mgmt.train_model('mean') FROM generate_series(1, 3) \g /dev/null
SELECT is(rows_of($$SELECT version, deployed FROM order_mgmt.models WHERE name = 'mean' ORDER BY version$$), '(1,t) (4,f) (5,f) (6,f)', 'the newest, so many before it, and the one that is deployed are kept');
SELECT is(error_of($$SELECT order_mgmt.deploy_model('mean', 2)$$), 'OM004', 'others are gone');
SELECT is(error_of($$SELECT order_mgmt.set_model_options('mean', '{"function": "test.absent"}')$$), 'OM004', 'options are checked');
SELECT is(error_of($$SELECT order_mgmt.set_model_options('absent', '{}')$$), 'OM004', 'of a model that is there');

-- What is rolled back was never trained
SAVEPOINT before;
SELECT order_mgmt.set_model_options('mean', '{"function": "test.apply", "train_function": "test.learn"}'), order_mgmt.train_model('mean') \g /dev/null
SELECT is(order_mgmt.predict('mean', '{"x": 5}')::numeric, 20::numeric, 'version 7');
ROLLBACK TO before;
SELECT is(order_mgmt.predict('mean', '{"x": 5}')::numeric, 10::numeric, 'has never been');
DELETE FROM test.source WHERE x = 8;
INSERT INTO test.source VALUES (20);
SELECT is((SELECT m.version FROM order_mgmt.train_model('mean') AS m), 7::bigint, 'another version 7');
SELECT order_mgmt.deploy_model('mean', 7) \g /dev/null
SELECT is(order_mgmt.predict('mean', '{"x": 5}')::numeric, 40::numeric, 'is another');

-- Bytes that are no JSON
SAVEPOINT damaged;
UPDATE order_mgmt.model_versions SET model = '\xffffff2f' WHERE name = 'mean';
SELECT order_mgmt.set_model_options('mean', options || '{"keep_versions": 3}') FROM order_mgmt.models WHERE name = 'mean' AND deployed \g /dev/null
SELECT is(error_of($$SELECT order_mgmt.predict('mean', '{"x": 5}')$$), 'OM008', 'bytes that are no JSON');
ROLLBACK TO damaged;

-- Trained again by a job, which lends nobody the powers of a superuser
SELECT is(error_of($$SELECT order_mgmt.retrain_models('0')$$), 'OM005', 'a superuser trains by name only');
CREATE ROLE test_analyst IN ROLE order_mgmt_analyst;
GRANT USAGE ON SCHEMA test TO test_analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA test TO test_analyst;
SELECT count(DISTINCT name) AS trained FROM order_mgmt.model_versions \gset
SET LOCAL ROLE test_analyst;
SELECT is(order_mgmt.retrain_models(), 0::bigint, 'none is a day old');
SELECT is(order_mgmt.retrain_models('0'), :trained::bigint, 'all are older than nothing');
SELECT is((SELECT max(version) FROM order_mgmt.models WHERE name = 'mean'), 8::bigint, 'and have a version more');
RESET ROLE;
SAVEPOINT before_failure;
CREATE OR REPLACE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN RAISE 'no data'; END$$;
SET LOCAL client_min_messages = error;
SET LOCAL ROLE test_analyst;
SELECT is(order_mgmt.retrain_models('0'), :trained::bigint - 1, 'one that fails does not stop the others');
SELECT is((SELECT max(version) FROM order_mgmt.models WHERE name = 'mean'), 8::bigint, 'and stays as it was');
ROLLBACK TO before_failure;
SELECT is(error_of($$SELECT order_mgmt.retrain_models(NULL)$$), 'OM001 older', 'older than what?');
SAVEPOINT by_operator;
CREATE ROLE test_operator IN ROLE order_mgmt_operator;
GRANT USAGE ON SCHEMA test TO test_operator;
SET LOCAL client_min_messages = error;
SET LOCAL ROLE test_operator;
SELECT is(error_of($$SELECT order_mgmt.train_model('mean')$$), '42501', 'an operator trains nothing of his choice');
SELECT is(order_mgmt.retrain_models(), 0::bigint, 'but may train again what is old');
SELECT is(order_mgmt.retrain_models('0'), 0::bigint, 'with his own rights: what he may not read he does not train with');
RESET ROLE;
GRANT SELECT ON ALL TABLES IN SCHEMA test TO test_operator;
SET LOCAL ROLE test_operator;
SELECT is(order_mgmt.retrain_models('0'), :trained::bigint, 'with what he may read he does');
SELECT is((SELECT trained_by FROM order_mgmt.models WHERE name = 'mean' AND version = 9), 'test_operator', 'which the version says');
RESET ROLE;
ROLLBACK TO by_operator;

-- Dropping
SELECT is(order_mgmt.drop_model('mean'), true, 'dropped');
SELECT is(error_of($$SELECT order_mgmt.predict('mean', '{}')$$), 'OM004', 'it does not predict');
SELECT is(error_of($$SELECT order_mgmt.drop_model('mean')$$), 'OM004', 'nor is it there to be dropped');
SELECT is(error_of($$SELECT * FROM order_mgmt.train_model('mean')$$), 'OM004', 'or trained');
SELECT is((SELECT count(*) FROM order_mgmt.model_versions WHERE name = 'mean'), 0::bigint, 'its versions are gone');
SELECT order_mgmt.create_model('mean', 'sql', '{"function": "test.twice"}') \g /dev/null
SELECT is(order_mgmt.predict('mean', '{"x": 5}'), '10', 'another of that name is another');

-- A function that is replaced
CREATE OR REPLACE FUNCTION test.twice(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb((input->>'x')::numeric * 3)$$;
SELECT is(order_mgmt.predict('twice', '{"x": 5}'), '15', 'is used as it is now');
DROP FUNCTION test.twice;
CREATE FUNCTION test.twice(inputs jsonb[]) RETURNS jsonb[] LANGUAGE sql AS $$SELECT array_agg(to_jsonb((i->>'x')::numeric * 4)) FROM unnest(inputs) AS i$$;
SELECT is(order_mgmt.predict('twice', '{"x": 5}'), '20', 'also where it gets a batch now');
DROP FUNCTION test.twice;
CREATE FUNCTION test.twice(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS $$SELECT to_jsonb((i->>'x')::numeric * 5) FROM unnest(inputs) AS i$$;
SELECT is(order_mgmt.predict('twice', '{"x": 5}'), '25', 'or returns rows');
DROP FUNCTION test.nothing;
SELECT is(error_of($$SELECT order_mgmt.predict('nothing', '1')$$), 'OM008', 'one that is dropped is a failure');

SELECT * FROM finish();
ROLLBACK;
