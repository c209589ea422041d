-- Options as JSON objects: numbers that no double holds, JSON null, and hints, wherever there are options.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- Path, and hint, of what a statement raises where it is OM001.
CREATE FUNCTION refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN SQLSTATE 'OM001' THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', detail::jsonb->>'path', hint);
WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;

CREATE FUNCTION echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION huge(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''1e400''::jsonb';
CREATE FUNCTION pick(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"product_id": "p", "score": 1e400}, {"product_id": "q", "score": 2}]'::jsonb $$;
SELECT order_mgmt.create_model(name, 'sql', jsonb_build_object('function', 'test.' || name)) FROM unnest('{echo,huge,pick}'::text[]) AS name \g /dev/null

-- How options get there: %L is the object.
CREATE TABLE callers (name text, statement text);
INSERT INTO callers VALUES
    ('sql', $$SELECT order_mgmt.create_model('m', 'sql', '{"function": "test.echo"}'::jsonb || %L)$$),
    ('demand', $$SELECT order_mgmt.create_model('m', 'demand', %L)$$),
    ('next_basket', $$SELECT order_mgmt.create_model('m', 'next_basket', %L)$$),
    ('evaluate', $$SELECT count(*) FROM order_mgmt.evaluate_model('echo', '{"query": "SELECT 1 AS x, 1 AS label", "score": "x"}'::jsonb || %L)$$),
    ('load', $$SELECT order_mgmt.set_load_profile('p', %L)$$),
    ('read', $$SELECT count(*) FROM order_mgmt.read_csv('text:a', %L)$$);

-- What is out of every range
SELECT is(refusal(format(statement, jsonb_build_object(key, value::jsonb))), 'options.' || key || ' ' || hint, concat_ws(' ', name, key, value))
FROM callers JOIN (VALUES ('sql', 'log_sample', 'From 0 to 1.'), ('sql', 'max_rows_per_batch', 'From 1 to 1000000.'), ('sql', 'timeout_ms', 'From 0 to 1073741823.'),
    ('demand', 'interval', 'From 0.5 to 0.99.'), ('demand', 'history_days', 'From 28 to 1092.'), ('next_basket', 'alpha', 'From 0 to 1.'),
    ('next_basket', 'within_decay', 'From 0.01 to 1.'), ('next_basket', 'neighbours', 'From 1 to 10000.'), ('evaluate', 'timeout_ms', 'From 0 to 1073741823.'),
    ('evaluate', 'version', 'From 0 to 99999999999999.'), ('evaluate', 'threshold', '0.5 is the default.'), ('load', 'max_errors', 'From 0 to 2147483647.'),
    ('load', 'batch_rows', 'From 1 to 100000.'), ('read', 'header', 'From 0 to 100.'), ('read', 'max_records', 'From 0 to 99999999999999.')) AS o(name, key, hint) USING (name)
CROSS JOIN unnest('{1e400,-1e400}'::text[]) AS value;
SELECT is(error_of($$SELECT order_mgmt.set_load_profile('p', '{"columns": {"quantity": 1e400}}')$$), 'no error', 'columns are checked with their file');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:1', options => '{"columns": {"quantity": 1e400}}')$$), 'OM001 options.columns.quantity', 'a position');

-- What is too small to be told from zero, and what is almost whole
SELECT is(refusal(format(statement, jsonb_build_object(key, value::jsonb))), expected, concat_ws(' ', name, key, value))
FROM callers JOIN (VALUES ('sql', 'log_sample', '1e-400', 'no error'), ('sql', 'keep_versions', '1e-400', 'options.keep_versions From 0 to 10000.'),
    ('demand', 'interval', '1e-400', 'options.interval From 0.5 to 0.99.'), ('evaluate', 'threshold', '1e-400', 'no error'),
    ('next_basket', 'neighbours', '7.00000000000000000000001', 'options.neighbours From 1 to 10000.'), ('load', 'batch_rows', '7.00', 'no error'),
    ('read', 'header', '1.0000000001', 'options.header From 0 to 100.')) AS o(name, key, value, expected) USING (name);
SELECT order_mgmt.drop_model('m') \g /dev/null

-- Labels, outputs and scores are no options, but numbers as well
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('echo', '{"query": "SELECT 1 AS x, 1e400 AS label", "score": "x"}')$$), 'OM001 options.label', 'a label');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('huge', '{"query": "SELECT 1 AS x, 1 AS label"}')$$), 'OM001 options.score', 'an output');
SELECT is(rows_of($$SELECT product_id, score FROM order_mgmt.predict_next_order('ann', 2, 'pick')$$), '(p,0) (q,2)', 'the score of a product');

-- What one may write is in the hint
SELECT is(refusal(format(statement, options)), expected, concat_ws(' ', name, options))
FROM callers JOIN (VALUES ('demand', '{"objective": "relative"}', 'options.objective Write one of "absolute", "unbiased".'), ('demand', '{"from": 3}', 'options.from Write one of "today", "history".'),
    ('evaluate', '{"task": "sorting"}', 'options.task Write one of "regression", "binary".'),
    ('evaluate', '{"treshold": 0.7}', 'options.treshold Options are "query", "label", "score", "task", "threshold", "version", "timeout_ms".'), ('load', '{"decimal": ";"}', 'options.decimal Write one of ".", ",".'),
    ('read', '{"stray_quotes": "drop"}', 'options.stray_quotes Write one of "refuse", "keep".'), ('sql', '{"auto_deploy": "yes"}', 'options.auto_deploy Write true or false.'),
    ('next_basket', '{"tune": 1}', 'options.tune Write true or false.'), ('load', '{"dry_run": 0}', 'options.dry_run Write true or false.'),
    ('sql', '{"functions": "x"}', 'options.functions See docs/predictions.md.'), ('demand', '{"weeks": 8}', 'options.weeks See docs/demand.md.'),
    ('next_basket', '{"folds": 5}', 'options.folds See docs/next-basket.md.')) AS o(name, options, expected) USING (name);
SELECT is(refusal($$SELECT order_mgmt.load_stock_csv('lo:1', '{"columns": {"order_ref": 1}}')$$), 'options.columns.order_ref The columns are: "product_id", "on_hand".', 'columns are listed');

-- JSON null is an option left out, but for the one that is about NULL
SELECT is(refusal(format(statement, options)), 'no error', concat_ws(' ', name, options))
FROM callers JOIN (VALUES ('sql', '{"fallback": null, "log_sample": null, "timeout_ms": null, "auto_deploy": null, "train_function": null}'),
    ('evaluate', '{"version": null, "timeout_ms": null, "task": null, "threshold": null, "label": null}'),
    ('load', '{"decimal": null, "timezone": null, "columns": null, "on_conflict": null, "max_errors": null, "dry_run": null}'),
    ('read', '{"profile": null, "header": null, "trim": null, "stray_quotes": null}')) AS o(name, options) USING (name);
SELECT is(error_of($$SELECT order_mgmt.train_model('m')$$), 'OM008', 'and there is nothing to train with');
SELECT is(rows_of($$SELECT cells FROM order_mgmt.read_csv('text:' || E',a\n', '{"null": null, "header": 0}')$$), '("{"""",a}")', 'nothing stands for NULL');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('staged', options => '{"null": null}')$$), 'OM001 options.null', 'which staged rows must not say');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:1', options => '{"profile": null}')$$), 'OM007', 'no profile: the file is looked for');

-- Escape "" is the quote, quote "" is none
SELECT is(rows_of($$SELECT cells FROM order_mgmt.read_csv('text:' || E'"a""b"\n', '{"escape": "", "header": 0}')$$), '("{""a\\""b""}")', 'an empty escape');
SELECT is(rows_of($$SELECT cells FROM order_mgmt.read_csv('text:' || E'"a"\n', '{"quote": "", "escape": "x", "header": 0}')$$), '("{""\\""a\\""""}")', 'an empty quote');

SELECT * FROM finish();
ROLLBACK;
