-- Bytes of models that somebody has changed: whatever they are, an answer or OM008, and the session lives on.
-- MODEL_BYTES_ROUNDS=n tries more of them.
BEGIN;
\ir helpers.psql
SELECT no_plan();
\set rounds 60
\getenv rounds MODEL_BYTES_ROUNDS

-- A part of them is flipped, lost, doubled, or overwritten; at the beginning more often than elsewhere.
CREATE FUNCTION mutate(model bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    at int := floor(power(random(), 1 + 3 * round(random())) * length(model));
BEGIN
    RETURN CASE floor(random() * 8)
        WHEN 0 THEN set_byte(model, at, floor(random() * 256)::int)
        WHEN 1 THEN set_bit(model, at * 8::bigint, 1 - get_bit(model, at * 8::bigint))
        WHEN 2 THEN substr(model, 1, at)
        WHEN 3 THEN model || substr(model, at + 1)
        WHEN 4 THEN overlay(model PLACING decode(repeat('ff', 1 + floor(random() * 9)::int), 'hex') FROM at + 1)
        WHEN 5 THEN overlay(model PLACING decode(repeat('00', 1 + floor(random() * 9)::int), 'hex') FROM at + 1)
        WHEN 6 THEN substr(model, 1, at) || substr(model, at + 2 + floor(random() * 8)::int)
        ELSE substr(model, 1, at) || decode(md5(random()::text), 'hex') || substr(model, at + 1)
    END;
END
$$;

-- Asks a model as often, each time with other bytes; what it says that it should not, and how often it did what.
CREATE FUNCTION attack(model text, rounds int, VARIADIC questions text[]) RETURNS TABLE (good bigint, bad bigint, wrong text) LANGUAGE plpgsql AS $$
DECLARE
    bytes bytea := (SELECT v.model FROM order_mgmt.model_versions AS v WHERE v.name = attack.model ORDER BY v.version DESC LIMIT 1);
    given jsonb := (SELECT d.options FROM order_mgmt.model_definitions AS d WHERE d.name = attack.model);
    tried bytea;
    question text;
    said text;
BEGIN
    good := 0;
    bad := 0;
    PERFORM setseed(0.5);
    FOR i IN 1 .. rounds LOOP
        tried := mutate(bytes);
        UPDATE order_mgmt.model_versions AS v SET model = tried WHERE v.name = attack.model;
        PERFORM order_mgmt.set_model_options(attack.model, given || jsonb_build_object('keep_versions', i % 10000));
        FOREACH question IN ARRAY questions LOOP
            said := error_of(format(question, attack.model));
            good := good + (said = 'no error')::int;
            bad := bad + (said LIKE 'OM008%')::int;
            IF said <> 'no error' AND said NOT LIKE 'OM008%' THEN
                wrong := concat_ws(E'\n', wrong, format('%s: %s with %s', question, said, left(encode(tried, 'hex'), 400)));
            END IF;
        END LOOP;
    END LOOP;
    UPDATE order_mgmt.model_versions AS v SET model = bytes WHERE v.name = attack.model;
    PERFORM order_mgmt.set_model_options(attack.model, given || '{"keep_versions": 10000}');
    RETURN NEXT;
END
$$;

-- Shops with some history
SELECT order_mgmt.set_stock('p' || n, 100) FROM generate_series(0, 19) AS n \g /dev/null
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price, created_at)
SELECT format('%s-%s', c, o), 'c' || c, 'p' || (c * 7 + o * o + l * 3) % 20, 1 + (c + o + l) % 4, 1, '2026-01-05'::timestamptz + o * interval '5 days' + c * interval '1 hour'
FROM generate_series(1, 30) AS c, generate_series(1, 12) AS o, generate_series(1, 3) AS l;
SELECT order_mgmt.load_orders_csv('staged', 'history') \g /dev/null

CREATE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '{"a": [1, 2.5, "x\u00e4", null, true], "b": {"c": {"d": []}}}'::jsonb$$;
CREATE FUNCTION test.apply(input jsonb, model jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT model || input$$;
SELECT order_mgmt.create_model('sql', 'sql', '{"function": "test.apply", "train_function": "test.learn"}'), order_mgmt.train_model('sql') \g /dev/null
SELECT order_mgmt.create_model(a, 'next_basket', jsonb_build_object('algorithm', a)), order_mgmt.train_model(a)
FROM unnest('{blend,tifu_knn,up_cf,personal_frequency}'::text[]) AS a \g /dev/null
SELECT order_mgmt.create_model('demand', 'demand', '{"from": "history"}'), order_mgmt.train_model('demand') \g /dev/null

CREATE TABLE test.results AS
SELECT 'sql' AS model, a.* FROM attack('sql', :rounds, 'SELECT order_mgmt.predict(%L, ''{"x": 1}'')') AS a
UNION ALL SELECT m, a.* FROM unnest('{blend,tifu_knn,up_cf,personal_frequency}'::text[]) AS m, attack(m, :rounds, 'SELECT * FROM order_mgmt.predict_next_orders(NULL, 5, %L)',
    'SELECT * FROM order_mgmt.predict_next_order(''nobody'', 100, %L)', 'SELECT order_mgmt.predict(%L, ''{"customer_id": "c1"}'')', 'SELECT * FROM order_mgmt.evaluate_model(%L, ''{"folds": 1}'')') AS a
UNION ALL SELECT 'demand', a.* FROM attack('demand', :rounds, 'SELECT * FROM order_mgmt.forecast_demand(NULL, 40, %L)', 'SELECT * FROM order_mgmt.suggest_reorder(28, %L)',
    'SELECT order_mgmt.predict(%L, ''{"product_id": "p1", "days": 366}'')') AS a;
SELECT is(wrong, NULL, model || ': an answer or OM008') FROM test.results;
SELECT ok(bad > 0, model || ': some bytes are refused') FROM test.results;
SELECT ok(good > 0, model || ': some are as good as others') FROM test.results;

-- Empty, and what a byte alone may be
CREATE FUNCTION odd(model text, bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_mgmt.model_versions AS v SET model = bytes WHERE v.name = odd.model;
    PERFORM order_mgmt.set_model_options(odd.model, d.options || jsonb_build_object('keep_versions', length(bytes) * 300 + CASE WHEN length(bytes) > 0 THEN get_byte(bytes, 0) ELSE 299 END))
    FROM order_mgmt.model_definitions AS d WHERE d.name = odd.model;
    RETURN error_of(format('SELECT order_mgmt.predict(%L, ''{"customer_id": "c1", "product_id": "p1"}'')', model));
END
$$;
SELECT is((SELECT string_agg(DISTINCT odd(m, b), ' ') FROM unnest('{\\x,\\x00,\\xff,\\x80,\\x4f,\\x4f4d,\\x0000000000000000}'::bytea[]) AS b), 'OM008', m || ': hardly any bytes')
FROM unnest('{blend,demand}'::text[]) AS m;

SELECT invariants_hold();
SELECT * FROM finish();
ROLLBACK;
