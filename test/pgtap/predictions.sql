-- Asking models: inputs, rights, the log and its accuracy, and measuring.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE FUNCTION test.score(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_object('score', (input->>'x')::numeric)$$;
CREATE FUNCTION test.fail(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(1 / (input->>'zero')::int)$$;
CREATE FUNCTION test.who(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(current_user)$$;
CREATE FUNCTION test.recommend(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT '[{"product_id": "p", "score": 0.5}, {"product_id": "q", "score": 0.3}, {"product_id": "none", "score": 0.1}]'::jsonb
$$;
SELECT order_mgmt.create_model('score', 'sql', '{"function": "test.score"}'), order_mgmt.create_model('fail', 'sql', '{"function": "test.fail"}'),
    order_mgmt.create_model('who', 'sql', '{"function": "test.who"}') \g /dev/null

-- Arguments
SELECT is(error_of($$SELECT order_mgmt.predict(NULL, '{}')$$), 'OM001 model', 'no model');
SELECT is(error_of($$SELECT order_mgmt.predict('score', NULL)$$), 'OM001 input', 'no input');
SELECT is(error_of($$SELECT order_mgmt.predict('absent', '{}')$$), 'OM004', 'a model that is not there');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_batch('score', '{}')$$), 'OM001 inputs', 'inputs that are no array');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_batch('score', '3')$$), 'OM001 inputs', 'a scalar');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_batch('absent', '[]')$$), 'OM004', 'of a model that is not there');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', NULL)$$), 'OM001 query', 'no query');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', '')$$), 'OM001 query', 'an empty one');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', 'DELETE FROM order_mgmt.orders')$$), 'OM001 query', 'what is no query');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT 1) AS q; DELETE FROM pg_class; SELECT * FROM (SELECT 1')$$), '42601', 'two statements');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT 1 AS x -- a comment')$$), 'no error', 'a comment at its end');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT * FROM absent')$$), '42P01', 'a query that fails');

-- Queries
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT x, x * x AS y FROM generate_series(1, 2) AS x')$$),
    '(1,"{""x"": 1, ""y"": 1}","{""score"": 1}") (2,"{""x"": 2, ""y"": 4}","{""score"": 2}")', 'rows are objects');
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT jsonb_build_object(''x'', 7)')$$), '(1,"{""x"": 7}","{""score"": 7}")', 'one column of jsonb is the input');
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_query('score', 'SELECT 1 AS x WHERE false')$$), NULL, 'no rows');
SELECT is((SELECT (count(*), min(ordinal), max(ordinal), sum((output->>'score')::numeric))::text
    FROM order_mgmt.predict_query('score', 'SELECT x FROM generate_series(1, 10001) AS x')), '(10001,1,10001,50015001)', 'many rows');

-- Failures name the model, its kind, and what it said
CREATE FUNCTION failure(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || ' ' || detail;
END
$$;
SELECT is(failure($$SELECT order_mgmt.predict('fail', '{"zero": 0}')$$),
    'OM008 prediction by model "fail" (kind "sql") failed: division by zero {"model": "fail", "kind": "sql", "error_code": "22012"}', 'a failure');
SELECT is(order_mgmt.predict('fail', '{"zero": 1}'), '1', 'is of one call');

-- Rights: functions run as whoever asks
SELECT is(order_mgmt.predict('who', '1'), to_jsonb(current_user), 'as oneself');
CREATE ROLE test_app IN ROLE order_mgmt_app;
CREATE ROLE test_analyst IN ROLE order_mgmt_analyst;
GRANT USAGE ON SCHEMA test TO test_app, test_analyst;
CREATE TABLE test.secret (x int, label int);
CREATE FUNCTION test.read_secret(input jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(count(*)) FROM test.secret$$;
CREATE FUNCTION test.with_secret(input jsonb, model jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT model$$;
SELECT order_mgmt.create_model('secret', 'sql', '{"function": "test.read_secret"}'),
    order_mgmt.create_model('learnt', 'sql', '{"function": "test.with_secret", "train_function": "test.read_secret"}') \g /dev/null
SET LOCAL ROLE test_app;
SELECT is(order_mgmt.predict('who', '1'), '"test_app"', 'as the application');
SELECT ok(failure($$SELECT order_mgmt.predict('secret', '1')$$) LIKE 'OM008 %permission denied for table secret%42501%', 'who may not read a table does not by a model');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_query('who', 'SELECT * FROM test.secret')$$), '42501', 'nor by a query');
SELECT is(error_of($$SELECT order_mgmt.create_model('mine', 'sql', '{"function": "test.who"}')$$), '42501', 'an application makes no models');
SELECT is(error_of($$SELECT order_mgmt.set_model_options('who', '{}')$$), '42501', 'changes none');
SELECT is(error_of($$SELECT order_mgmt.train_model('learnt')$$), '42501', 'trains none');
SELECT is(error_of($$SELECT order_mgmt.deploy_model('learnt', 1)$$), '42501', 'deploys none');
SELECT is(error_of($$SELECT order_mgmt.drop_model('who')$$), '42501', 'drops none');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('who')$$), '42501', 'measures none');
SELECT is(error_of($$SELECT order_mgmt.purge_predictions()$$), '42501', 'and empties no log');
SELECT is(error_of($$SELECT model FROM order_mgmt.model_versions$$), '42501', 'the bytes of models are nobody''s');
SELECT is(error_of($$SELECT * FROM order_mgmt.prediction_log$$), '42501', 'nor does it read what others have asked');
SET LOCAL ROLE test_analyst;
SELECT ok(failure($$SELECT order_mgmt.train_model('learnt')$$) LIKE 'OM008 training model%permission denied for table secret%42501%', 'a training has the rights of whoever calls for it');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT * FROM test.secret"}')$$), '42501', 'and so has measuring');
SELECT is(error_of($$SELECT order_mgmt.create_model('mine', 'sql', '{"function": "test.who"}')$$), '42501', 'an analyst makes no models');
SELECT is(error_of($$SELECT count(*) FROM order_mgmt.prediction_log$$), 'no error', 'but reads the log');
RESET ROLE;
GRANT SELECT ON test.secret TO test_analyst;
SET LOCAL ROLE test_analyst;
SELECT is((SELECT version FROM order_mgmt.train_model('learnt')), 1::bigint, 'who may read may train');
SELECT is(order_mgmt.predict('learnt', '1'), '0', 'what was learnt answers');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION test.who(jsonb) FROM PUBLIC;
SET LOCAL ROLE test_app;
SELECT ok(failure($$SELECT order_mgmt.predict('who', '1')$$) LIKE 'OM008 %permission denied for function test.who%', 'who may not execute a function does not by a model, even one that is loaded');
RESET ROLE;

-- The log
SELECT order_mgmt.create_model('logged', 'sql', '{"function": "test.fail", "log_sample": 1, "fallback": "score"}') \g /dev/null
SELECT order_mgmt.predict('score', '{"x": 1}') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.prediction_log), 0::bigint, 'nothing is logged unless the model says so');
SELECT is(order_mgmt.predict('logged', '{"zero": 1, "customer_id": "ann"}'), '1', 'a prediction');
SELECT is(order_mgmt.predict('logged', '{"zero": 0, "x": 3}'), '{"score": 3}', 'a failure, and its fallback');
SELECT is(rows_of($$SELECT model, version, customer_id, input, output, error_code FROM order_mgmt.prediction_log ORDER BY prediction_id$$),
    '(logged,0,ann,"{""zero"": 1, ""customer_id"": ""ann""}",1,) (logged,0,,"{""x"": 3, ""zero"": 0}",,22012)', 'both are logged');
SELECT is((SELECT bool_and(duration_us >= 0 AND at <= clock_timestamp()) FROM order_mgmt.prediction_log), true, 'with time and duration');
SELECT order_mgmt.set_model_options('logged', '{"function": "test.fail", "log_sample": 0.5}') \g /dev/null
SELECT count(*) FROM order_mgmt.predict_query('logged', 'SELECT 1 AS zero FROM generate_series(1, 2000)') \g /dev/null
SELECT ok((SELECT count(*) BETWEEN 800 AND 1200 FROM order_mgmt.prediction_log), 'a part is a part');
SELECT is(order_mgmt.purge_predictions('1 day'), 0::bigint, 'young rows stay');
UPDATE order_mgmt.prediction_log SET at = at - interval '100 days' WHERE customer_id = 'ann';
SELECT is(order_mgmt.purge_predictions(), 1::bigint, 'old ones go');
SELECT ok(order_mgmt.purge_predictions('0') > 800, 'and all');
SELECT order_mgmt.set_model_options('logged', '{"function": "test.fail", "log_sample": 1}') \g /dev/null
SAVEPOINT before;
SET TRANSACTION READ ONLY;
SELECT is(order_mgmt.predict('logged', '{"zero": 1}'), '1', 'who only reads predicts, and logs nothing');
ROLLBACK TO before;

-- Accuracy: what the customer ordered next
SELECT open_shop('ann', 100, 'p', 10), open_shop('bob', 100, 'q', 10) \g /dev/null
SELECT order_mgmt.create_model('recommend', 'sql', '{"function": "test.recommend", "log_sample": 1}') \g /dev/null
SELECT order_mgmt.predict('recommend', '{"customer_id": "ann"}'), order_mgmt.predict('recommend', '{"customer_id": "bob"}'),
    order_mgmt.predict('recommend', '{"customer_id": "eve"}') \g /dev/null
SELECT is_empty('SELECT * FROM order_mgmt.prediction_accuracy', 'nobody has ordered yet');
UPDATE order_mgmt.prediction_log SET at = at - interval '1 minute';
SELECT order_mgmt.capture_order('ann', lines('p') || lines('q') || lines('r') || lines('p', 2)), order_mgmt.capture_order('bob', lines('x')) \g /dev/null
SELECT pg_sleep(0.002) \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('p')) \g /dev/null
SELECT is((SELECT (model, version, predictions, hits, round(precision::numeric, 4), round(recall::numeric, 4), hit_rate)::text FROM order_mgmt.prediction_accuracy),
    '(recommend,0,2,2,0.3333,0.3333,0.5)', 'two of three that ann ordered, none that bob ordered next');

-- Measuring
SELECT is((SELECT jsonb_object_agg(metric, round(value::numeric, 4)) FROM order_mgmt.evaluate_model('score',
        '{"query": "SELECT x, x + e AS label FROM (VALUES (1, 1), (2, -2), (3, 3), (4, 0)) AS v(x, e)"}')),
    '{"rows": 4.0000, "mae": 1.5000, "rmse": 1.8708, "wape": 0.5000, "bias": -0.5000}'::jsonb, 'a number');
SELECT is((SELECT jsonb_object_agg(metric, round(value::numeric, 4)) FROM order_mgmt.evaluate_model('score',
        '{"query": "SELECT x, label FROM (VALUES (0.1, false), (0.4, false), (0.35, true), (0.8, true), (0.9, NULL)) AS v(x, label)"}')),
    '{"rows": 4.0000, "auc": 0.7500, "log_loss": 0.4723, "accuracy": 0.7500, "precision": 1.0000, "recall": 0.5000, "threshold": 0.5000}'::jsonb, 'one of two classes');
SELECT is((SELECT jsonb_object_agg(metric, round(value::numeric, 4)) FROM order_mgmt.evaluate_model('score',
        '{"query": "SELECT x, y FROM (VALUES (0.5, 0), (0.5, 1), (0.2, 0), (0.9, 1)) AS v(x, y)", "label": "y", "threshold": 0.3, "score": "score"}') WHERE metric <> 'log_loss'),
    '{"rows": 4.0000, "auc": 0.8750, "accuracy": 0.7500, "precision": 0.6667, "recall": 1.0000, "threshold": 0.3000}'::jsonb, 'equal scores count half');
SELECT is((SELECT string_agg(metric, ' ') FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 1 AS label", "task": "regression"}')),
    'rows mae rmse wape bias', 'as it is told');
SELECT is((SELECT string_agg(metric || ' ' || value, ', ') FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 1 AS label WHERE false", "task": "regression"}')),
    'rows 0, mae NaN, rmse NaN, wape NaN, bias NaN', 'of nothing');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score')$$), 'OM001 options.query', 'no query');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x"}')$$), 'OM001 options.label', 'no label');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, ''a'' AS label"}')$$), 'OM001 options.label', 'a label that is no number');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 2 AS label", "task": "binary"}')$$), 'OM001 options.task', 'labels of more than two classes');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 2 AS label", "task": "other"}')$$), 'OM001 options.task', 'another task');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 2 AS label", "version": 3}')$$), 'OM004', 'a version that is not there');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('score', '{"query": "SELECT 1 AS x, 2 AS label", "score": "other"}')$$), 'OM001 options.score', 'outputs without that member');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('absent')$$), 'OM004', 'a model that is not there');

SELECT * FROM invariants_hold();
SELECT * FROM finish();
ROLLBACK;
