-- predict_next_order and predict_next_orders, kind next_basket: each algorithm by numbers computed by hand.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- One order with these products.
CREATE FUNCTION orders(customer text, products text) RETURNS uuid LANGUAGE sql AS $$
    SELECT order_mgmt.capture_order(customer, (SELECT jsonb_agg(jsonb_build_object('product_id', p, 'quantity', 1,
        'unit_price', 1)) FROM regexp_split_to_table(products, '') AS p))
$$;
-- Products and scores, best first.
CREATE FUNCTION next(customer text, model text, k bigint DEFAULT 10) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(product_id || ' ' || trim_scale(round(score::numeric, 5)), ', ' ORDER BY rank)
    FROM order_mgmt.predict_next_order(customer, k, model)
$$;
CREATE FUNCTION make(model text, options jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT order_mgmt.create_model(model, 'next_basket', options || '{"tune": false}');
    SELECT metrics FROM order_mgmt.train_model(model)
$$;
CREATE FUNCTION metric(model text, options jsonb, metric text) RETURNS numeric LANGUAGE sql AS $$
    SELECT round(e.value::numeric, 5) FROM order_mgmt.evaluate_model(model, options) AS e WHERE e.metric = metric.metric
$$;

SELECT order_mgmt.set_account(c, 1000) FROM unnest('{ann,bob,cat,dan,eve}'::text[]) AS c \g /dev/null
SELECT order_mgmt.set_stock(p, 1000) FROM unnest('{b,c,d,e,z}'::text[]) AS p \g /dev/null
-- Before a model is there.
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann')$$), 'OM004', 'there is no model yet');
CREATE FUNCTION hint_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS answer = PG_EXCEPTION_HINT;
    RETURN answer;
END
$$;
SELECT is(hint_of($$SELECT * FROM order_mgmt.predict_next_order('ann')$$),
    $$SELECT order_mgmt.create_model('next_basket', 'next_basket'), then SELECT * FROM order_mgmt.train_model('next_basket').$$,
    'the hint says how to make one');
SELECT order_mgmt.create_model('next_basket', 'next_basket') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann')$$), 'OM005', 'and then it is to be trained');
SELECT order_mgmt.train_model('next_basket') \g /dev/null
SELECT is(next('ann', 'next_basket'), NULL, 'who has learnt from nothing predicts nothing');

-- ann: zb, zc, z; bob: zb, bd; cat: c, cd; dan: e. Eight orders; z is in 4 of them, b and c in 3, d in 2, e in 1.
SELECT orders('ann', 'zb'), orders('bob', 'zb'), orders('cat', 'c'), orders('dan', 'e') \g /dev/null
SELECT orders('ann', 'zc'), orders('bob', 'bd'), orders('cat', 'cd') \g /dev/null
SELECT orders('ann', 'z') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE status = 'shipped'), 8::bigint, 'the shop has shipped eight orders');

-- --- global_frequency: the share of all orders, the smaller id first where it is equal ---
SELECT is(make('global', '{"algorithm": "global_frequency"}') - '{recall@10,ndcg@10}'::text[],
    '{"algorithm": "global_frequency", "customers": 4, "orders": 8, "products": 5, "validated_on": 1}',
    'training says what it has learnt from');
SELECT is(next('ann', 'global'), 'z 0.5, b 0.375, c 0.375, d 0.25, e 0.125', 'global_frequency');
SELECT is(next('dan', 'global', 2), 'z 0.5, b 0.375', 'the same for everybody, k of them');

-- --- personal_frequency: the share of his own orders, then what others order ---
SELECT make('personal', '{"algorithm": "personal_frequency"}') \g /dev/null
SELECT is(next('ann', 'personal'), 'z 1, b 0.33333, c 0.33333, d 0, e 0', 'personal_frequency');
SELECT is(next('bob', 'personal'), 'b 1, d 0.5, z 0.5, c 0, e 0', 'with the smaller id first where it is equal');
SELECT make('ties', '{"algorithm": "personal_popularity_ties"}') \g /dev/null
SELECT is(next('bob', 'ties'), 'b 1, z 0.5, d 0.5, c 0, e 0', 'or the more popular one: z is in 4 orders, d in 2');

-- --- tifu_knn: groups 2, both decays 1/2, alpha 1/2, one neighbour ---
-- ann's groups are (zb) and (zc, z). zb: 1/2 group decay / 2 groups = 1/4; zc: 1/2 within decay / 2 baskets / 2 groups
-- = 1/8; z: 1 / 2 / 2 = 1/4. So ann = z 5/8, b 1/4, c 1/8; bob = z 1/4, b 3/4, d 1/2; cat = c 3/4, d 1/2; dan = e 1.
-- Squares of distances from ann: bob 0.65625, cat 1.09375, dan 1.46875. Bob is the nearest:
-- z (5/8 + 1/4) / 2, b (1/4 + 3/4) / 2, c 1/8 / 2, d 1/2 / 2.
SELECT make('tifu', '{"algorithm": "tifu_knn", "groups": 2, "within_decay": 0.5, "group_decay": 0.5, "alpha": 0.5,
    "neighbours": 1}') \g /dev/null
SELECT is(next('ann', 'tifu'), 'b 0.5, z 0.4375, d 0.25, c 0.0625, e 0', 'tifu_knn');
-- Nobody shares e with dan, so the shortest vector is the nearest: ann's, 0.46875.
SELECT is(next('dan', 'tifu'), 'e 0.5, z 0.3125, b 0.125, c 0.0625, d 0', 'who shares nothing may be nearest');
-- Two neighbours of ann, bob and cat: their mean is z 1/8, b 3/8, c 3/8, d 1/2.
SELECT make('tifu2', '{"algorithm": "tifu_knn", "groups": 2, "within_decay": 0.5, "group_decay": 0.5, "alpha": 0.5,
    "neighbours": 2}') \g /dev/null
SELECT is(next('ann', 'tifu2'), 'z 0.375, b 0.3125, c 0.25, d 0.25, e 0', 'the mean of two neighbours');
-- Its bytes with others in their place: groups at 9, group_decay at 19.
CREATE FUNCTION damaged(place int, others bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    whole CONSTANT bytea NOT NULL := (SELECT model FROM order_mgmt.model_versions WHERE name = 'tifu2');
    answer text;
BEGIN
    UPDATE order_mgmt.model_versions SET model = overlay(whole PLACING others FROM place) WHERE name = 'tifu2';
    PERFORM order_mgmt.set_model_options('tifu2', jsonb_build_object('algorithm', 'tifu_knn', 'timeout_ms', 60000 + 256 * place + get_byte(others, 0)));
    answer := error_of('SELECT * FROM order_mgmt.predict_next_order(''ann'', 5, ''tifu2'')');
    UPDATE order_mgmt.model_versions SET model = whole WHERE name = 'tifu2';
    RETURN answer;
END
$$;
SELECT is(damaged(19, '\x80808080808080f03f'), 'no error', 'group_decay 1 is none that is damaged');
SELECT is(damaged(19, '\x9ceb81c0c887f99b7e'), 'OM008', 'group_decay 1e300 is');
SELECT is(damaged(19, '\x81808080808080fc7f'), 'OM008', 'and NaN');
SELECT is(damaged(9, '\x00'), 'OM008', 'and no groups');

-- --- as the authors' programs do it ---
-- TIFU-KNN: zb, zc, z decay by 1/4, 1/2, 1 over the whole history; groups (zb) and (zc, z) by 1/2, 1. So ann = z 7/16, b 1/16,
-- c 1/8; bob = z 1/8, b 5/8, d 1/2; cat = c 5/8, d 1/2. Of dan's two groups there is one, the first: e 1/2.
-- Squares of distances from ann: bob 0.6797, cat 0.6953, dan 0.4609.
SELECT make('tifu_code', '{"algorithm": "tifu_knn_code", "groups": 2, "within_decay": 0.5, "group_decay": 0.5, "alpha": 0.5,
    "neighbours": 1}') \g /dev/null
SELECT is(next('ann', 'tifu_code'), 'e 0.25, z 0.21875, c 0.0625, b 0.03125, d 0', 'tifu_knn_code');
-- GP-TopFreq: equal products in the order of their first appearance, then what others order.
SAVEPOINT first_orders;
SELECT orders('fay', p) FROM unnest('{d,b,z}'::text[]) AS p \g /dev/null
SELECT make('topfreq', '{"algorithm": "gp_topfreq"}') \g /dev/null
SELECT is(next('fay', 'topfreq'), 'd 0.33333, b 0.33333, z 0.33333, c 0, e 0', 'gp_topfreq');
ROLLBACK TO first_orders;

-- --- up_cf: of the last 2 orders, ann = z 1, c 1/2; bob = b 1, d 1/2, z 1/2; cat = c 1, d 1/2; dan = e 1 ---
-- ann and bob have had 3 products each, 2 in common; cat 2, 1 in common with ann. Asymmetry 1/2:
-- bob 2 / sqrt(3 * 3) = 0.66667, cat 1 / sqrt(3 * 2) = 0.40825.
SELECT make('upcf', '{"algorithm": "up_cf", "recency": 2, "asymmetry": 0.5, "locality": 1}') \g /dev/null
SELECT is(next('ann', 'upcf'), 'z 1.33333, c 0.90825, b 0.66667, d 0.53746, e 0', 'up_cf');
-- Asymmetry 1: divided by ann's 3 products alone; locality 2: squared. bob 4/9, cat 1/9.
SELECT make('upcf2', '{"algorithm": "up_cf", "recency": 2, "asymmetry": 1, "locality": 2}') \g /dev/null
SELECT is(next('ann', 'upcf2'), 'z 1.22222, c 0.61111, b 0.44444, d 0.27778, e 0', 'asymmetry and locality');
-- Asymmetry 0: divided by the other's products. bob 2/3, cat 1/2; of the last order only: ann = z 1, bob = b 1, d 1, cat = c 1, d 1.
SELECT make('upcf3', '{"algorithm": "up_cf", "recency": 1, "asymmetry": 0, "locality": 1}') \g /dev/null
SELECT is(next('ann', 'upcf3'), 'd 1.16667, z 1, b 0.66667, c 0.5, e 0', 'recency 1 knows the last order only');

-- --- the blend ---
SELECT order_mgmt.train_model('next_basket') \g /dev/null
SELECT is((SELECT array_agg(product_id ORDER BY product_id) FROM order_mgmt.predict_next_order('ann')),
    '{b,c,d,e,z}', 'the blend ranks every product, each once');
SELECT is((SELECT product_id FROM order_mgmt.predict_next_order('ann', 1)), 'z', 'what was in all of his orders comes first');
SELECT is((SELECT count(*) FROM order_mgmt.predict_next_order('ann') AS a JOIN order_mgmt.predict_next_order('ann') AS b
    ON b.rank = a.rank + 1 AND b.score > a.score), 0::bigint, 'scores descend');
SELECT order_mgmt.train_model('next_basket') \g /dev/null
SELECT is((SELECT count(DISTINCT model) FROM order_mgmt.model_versions WHERE name = 'next_basket' AND version > 1),
    1::bigint, 'the same orders make the same model');

-- --- metrics: the last orders held back are ann z, bob bd, cat cd; dan has no other ---
-- From ann zb, zc; bob zb; cat c: the first are z, b, c: one hit each. Recall@1 (1 + 1/2 + 1/2) / 3. One hit at rank 1
-- counts 1; the best list for two products 1 + 1 / log2(3) = 1.63093. NDCG@1 (1 + 2 / 1.63093) / 3; with
-- one product at most in the best list 1. The second are b, z, z: no hit.
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'customers'), 3::numeric, 'who has ordered once is not measured');
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'recall@1'), 0.66667, 'recall@1');
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'ndcg@1'), 0.74210, 'ndcg@1');
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'ndcg_min@1'), 1.00000, 'ndcg_min@1');
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'recall@2'), 0.66667, 'recall@2');
SELECT is(metric('personal', '{"k": [1, 2], "folds": 1}', 'ndcg_min@2'), 0.74210, 'ndcg_min@2');
-- global_frequency from z 3, b 2, c 2: z, b, c, nothing else; bob's b is at rank 2, cat's c at 3, ann's z at 1.
-- NDCG@3 (1 + (1 / log2(3)) / 1.63093 + (1 / log2(4)) / 1.63093) / 3.
SELECT is(metric('global', '{"k": [3], "folds": 1}', 'recall@3'), 0.66667, 'recall@3 by popularity');
SELECT is(metric('global', '{"k": [3], "folds": 1}', 'ndcg@3'), 0.56448, 'a hit counts less the later it comes');
-- Two folds: ann and cat, bob (by their numbers). Recall@1 of personal: 3/4 and 1/2.
SELECT is(metric('personal', '{"k": [1], "folds": 2}', 'recall@1'), 0.62500, 'the mean over folds');
SELECT is(metric('personal', '{"k": [1], "folds": 2}', 'recall@1_sd'), 0.17678, 'and how far they scatter');
SELECT is(metric('personal', '{"k": [1], "folds": 2, "each_fold": true}', 'recall@1_fold_2'), 0.50000, 'each of them');

-- --- what has been ordered since the training counts ---
SELECT orders('ann', 'e') AS order_id \gset
SELECT is(next('ann', 'personal'), 'z 0.75, b 0.25, c 0.25, e 0.25, d 0', 'an order counts as soon as it is captured');
SELECT order_mgmt.cancel_order(:'order_id') \g /dev/null
SELECT is(next('ann', 'personal'), 'z 1, b 0.33333, c 0.33333, d 0, e 0', 'until it is cancelled');
SELECT orders('ann', 'de') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(next('ann', 'personal'), 'z 0.75, b 0.25, c 0.25, d 0.25, e 0.25', 'what was shipped a moment ago counts');
SELECT order_mgmt.capture_order('ann', lines('b', 5, 1000)) AS order_id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'order_id'), 'rejected {insufficient_balance}', 'an order is rejected');
SELECT is(next('ann', 'personal'), 'z 0.75, b 0.25, c 0.25, d 0.25, e 0.25', 'and does not count');
SELECT order_mgmt.train_model('global') \g /dev/null
SELECT is(next('ann', 'global', 3), 'z 0.44444, b 0.33333, c 0.33333', 'nor in training');
-- Products that the model has never seen.
SELECT orders('ann', 'ax') \g /dev/null
SELECT is(next('ann', 'personal', 7), 'z 0.6, a 0.2, b 0.2, c 0.2, d 0.2, e 0.2, x 0.2', 'new products take their places');
SELECT cmp_ok((SELECT rank FROM order_mgmt.predict_next_order('ann', 7) WHERE product_id = 'x'), '<=', 7::bigint,
    'the blend knows them too');

-- --- customers whom the model does not know ---
SELECT is(next('nobody', 'personal'), 'z 0.5, b 0.375, c 0.375, d 0.25, e 0.125', 'a stranger gets what is popular');
SELECT is((SELECT product_id FROM order_mgmt.predict_next_order('nobody', 1)), 'z', 'whatever the algorithm');
SELECT orders('eve', 'd') \g /dev/null
SELECT is(next('eve', 'personal', 2), 'd 1, z 0', 'until his first order');

-- --- many at once ---
SELECT is(rows_of($$SELECT * FROM order_mgmt.predict_next_orders('{dan,nobody}', 1, 'personal')$$),
    '(dan,1,e,1) (nobody,1,z,0.5)', 'several customers');
SELECT is((SELECT array_agg(DISTINCT customer_id ORDER BY customer_id) FROM order_mgmt.predict_next_orders(k => 1)),
    '{ann,bob,cat,dan}', 'all that the model knows');
SELECT is_empty($$SELECT * FROM order_mgmt.predict_next_orders('{}')$$, 'nobody');
-- More than fifty share the reading of new orders.
SELECT orders('c' || n, chr(97 + n % 7) || chr(105 + n % 3)) FROM generate_series(1, 60) AS n \g /dev/null
SELECT orders('c' || n, chr(97 + n % 5)) FROM generate_series(1, 60) AS n \g /dev/null
SELECT order_mgmt.train_model('next_basket') \g /dev/null
SELECT orders('c' || n, chr(97 + n % 4) || 'y') FROM generate_series(1, 60, 2) AS n \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.predict_next_orders(k => 5)), 325::bigint, 'sixty-five customers');
SELECT results_eq($$SELECT * FROM order_mgmt.predict_next_orders(k => 5) ORDER BY 1, 2$$,
    $$SELECT c.id COLLATE "default", n.* FROM (SELECT DISTINCT customer_id FROM order_mgmt.orders) AS c (id),
      order_mgmt.predict_next_order(c.id, 5) AS n ORDER BY 1, 2$$, 'each predicted as by himself');
SELECT order_mgmt.set_model_options('next_basket', '{"max_rows_per_batch": 7}') \g /dev/null
SELECT results_eq($$SELECT * FROM order_mgmt.predict_next_orders(k => 5) ORDER BY 1, 2$$,
    $$SELECT c.id COLLATE "default", n.* FROM (SELECT DISTINCT customer_id FROM order_mgmt.orders) AS c (id),
      order_mgmt.predict_next_order(c.id, 5) AS n ORDER BY 1, 2$$, 'in small batches, too');

-- --- what is learnt: in this shop nobody orders anything twice, and all go through the same products ---
SELECT orders('s' || n, p) FROM generate_series(1, 120) AS n, LATERAL (SELECT p, o FROM regexp_split_to_table('pqrstuv', '')
    WITH ORDINALITY AS x (p, o) WHERE o <= 3 + n % 5 ORDER BY o) AS l \g /dev/null
SELECT order_mgmt.create_model('sequence', 'next_basket') \g /dev/null
SELECT order_mgmt.train_model('sequence') \g /dev/null
SELECT is((SELECT array_agg(DISTINCT n.product_id) FROM generate_series(5, 120, 5) AS s (n),
    order_mgmt.predict_next_order('s' || s.n, 1, 'sequence') AS n), '{s}', 'who has had p, q and r is offered s');
SELECT is((SELECT product_id FROM order_mgmt.predict_next_order('s5', 1, 'ties')), 'p', 'which personal frequency never does');
-- What is measured is measured on customers who had no part in it, by their ids.
SELECT is((SELECT (metrics->>'learnt_from')::int + (metrics->>'validated_on')::int <= 185 AND (metrics->>'validated_on')::int BETWEEN 20 AND 60
    AND (metrics->>'learnt_from')::int BETWEEN 100 AND 165 FROM order_mgmt.models WHERE name = 'sequence'), true, 'some learn, others measure');
SELECT is((SELECT metrics->'features' FROM order_mgmt.models WHERE name = 'sequence') @> '["near", "popular"]', true, 'the metrics show what is looked at');
SELECT order_mgmt.create_model('blind', 'next_basket', '{"without": ["near", "length"]}') \g /dev/null
SELECT is((SELECT metrics->'features' ?| '{near,length}' FROM order_mgmt.train_model('blind')), false, 'without what it is not to look at');

-- --- options ---
SELECT make('few', '{"algorithm": "global_frequency", "min_orders": 4}') \g /dev/null
SELECT is((SELECT array_agg(DISTINCT left(customer_id, 1)) FROM order_mgmt.predict_next_orders(NULL, 1, 'few')),
    '{a,s}', 'customers with fewer orders are not learnt from');
SELECT make('short', '{"algorithm": "personal_frequency", "max_history": 2}') \g /dev/null
SELECT is(next('ann', 'short', 4), 'a 0.5, d 0.5, e 0.5, x 0.5', 'the newest orders only');
SAVEPOINT cancelled;
SELECT orders('nix', p) FROM unnest('{c,b,d}'::text[]) AS p \g /dev/null
SELECT order_mgmt.cancel_order(orders('nix', 'e')) FROM generate_series(1, 5) \g /dev/null
SELECT is(next('nix', 'short', 2), 'b 0.5, d 0.5', 'of those that count, however many were cancelled since');
ROLLBACK TO cancelled;
SELECT make('past', jsonb_build_object('algorithm', 'personal_frequency', 'until', (SELECT created_at FROM order_mgmt.orders
    WHERE order_id = :'order_id'))) \g /dev/null
SELECT is(next('ann', 'past', 5), 'z 0.75, b 0.25, c 0.25, d 0.25, e 0.25', 'as it was at a time, whatever came later');
SELECT make('recent', jsonb_build_object('algorithm', 'personal_frequency', 'since', (SELECT created_at FROM order_mgmt.orders
    WHERE order_id = :'order_id'))) \g /dev/null
SELECT is(next('ann', 'recent', 2), 'a 1, x 1', 'nothing from before a time');
SELECT is((SELECT metrics->>'alpha' IS NOT NULL AND (metrics->>'groups')::int > 0 FROM order_mgmt.models WHERE name = 'tifu'),
    true, 'the metrics show the parameters');
SELECT order_mgmt.create_model('tuned', 'next_basket', '{"algorithm": "up_cf"}') \g /dev/null
SELECT is((SELECT (metrics->>'locality')::numeric IN (1, 2, 5, 10, 25) FROM order_mgmt.train_model('tuned')), true,
    'parameters are chosen in training');

-- --- history: orders of the past come from the model, newer ones from the tables, none from both ---
CREATE FUNCTION load_history(rows text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    source text := 'lo:' || lo_from_bytea(0, convert_to(
        E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n' || rows, 'UTF8'));
BEGIN
    RETURN order_mgmt.load_orders_csv(source, 'history');
END
$$;
SELECT load_history(E'g1,gus,m,1,1,2019-05-01\ng2,gus,m,1,1,2019-06-01\ng2,gus,n,1,1,2019-06-01\n') \g /dev/null
SELECT order_mgmt.train_model('personal') \g /dev/null
SELECT is(next('gus', 'personal', 2), 'm 1, n 0.5', 'history is learnt from');
SELECT orders('gus', 'no') \g /dev/null
SELECT is(next('gus', 'personal', 3), 'm 0.66667, n 0.66667, o 0.33333', 'and new orders come behind it');
SELECT is((SELECT string_agg(product_id, ' ' ORDER BY rank) FROM order_mgmt.predict_next_orders(NULL, 3, 'personal')
    WHERE customer_id = 'gus'), 'm n o', 'for many at once, too');
SELECT order_mgmt.train_model('personal') \g /dev/null
SELECT is(next('gus', 'personal', 3), 'm 0.66667, n 0.66667, o 0.33333', 'the same when they have been learnt');
SELECT load_history(E'g3,gus,l,1,1,2019-05-02\n') \g /dev/null
SELECT is(next('gus', 'personal', 3), 'm 0.66667, n 0.66667, o 0.33333', 'history that comes later');
SELECT order_mgmt.train_model('personal') \g /dev/null
SELECT is(next('gus', 'personal', 4), 'm 0.5, n 0.5, l 0.25, o 0.25', 'counts from the next training on');

-- --- updates: a new version from the one that is deployed, by what is new ---
SAVEPOINT updates;
CREATE FUNCTION set_clock(ago interval) RETURNS void LANGUAGE sql AS $$
    SELECT set_config('order_mgmt.clock', (now() - ago)::text, true)
$$;
-- All but what says how old the version is.
CREATE FUNCTION content(model text) RETURNS bytea LANGUAGE sql AS $$
    SELECT substr(v.model, 1, length(v.model) - 16) FROM order_mgmt.model_versions AS v WHERE v.name = content.model ORDER BY version DESC LIMIT 1
$$;
CREATE FUNCTION update_of(model text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce('version ' || (metrics->>'update_of') || ', read ' || (metrics->>'orders_read'), metrics->>'anew_because_of', 'anew')
    FROM order_mgmt.update_model(model)
$$;
SELECT set_clock('30 days') \g /dev/null
SELECT orders('u' || n, chr(97 + n % 7) || chr(110 + n % 5)) FROM generate_series(1, 40) AS n, generate_series(1, 3) \g /dev/null
SELECT set_clock('2 hours') \g /dev/null
SELECT orders('u' || n, 'kl') FROM generate_series(1, 10) AS n \g /dev/null
SELECT is(update_of('few'), 'min_orders', 'customers with too few orders would be unknown') FROM order_mgmt.train_model('few');
SELECT order_mgmt.create_model(m, 'next_basket', o) FROM (VALUES ('up', '{"tune": false}'::jsonb), ('full', '{"tune": false}'),
    ('up2', '{"tune": false, "max_history": 3}'), ('full2', '{"tune": false, "max_history": 3}'), ('learnt', '{}')) AS v (m, o) \g /dev/null
SELECT is(update_of('up'), 'version', 'the first version is trained');
SELECT count(*) FROM order_mgmt.train_model('up2') AS a, order_mgmt.train_model('learnt') AS b \g /dev/null
-- Orders of two hours ago are on their way still: all since are read again, and one of them is cancelled meanwhile.
RESET order_mgmt.clock;
SELECT set_clock('0') \g /dev/null
SELECT orders('u' || n, 'vw') FROM generate_series(5, 15) AS n \g /dev/null
SELECT orders('newcomer', 'xyz') \g /dev/null
SELECT order_mgmt.cancel_order(order_id) FROM order_mgmt.orders WHERE customer_id IN ('u1', 'u2') AND created_at > now() - interval '3 hours' \g /dev/null
SELECT count(*) AS open FROM order_mgmt.orders WHERE created_at > now() - interval '3 hours' AND status IN ('captured', 'confirmed', 'shipped') \gset
SELECT is(update_of('up'), format('version 1, read %s', :open), 'the next one goes on from it, and reads what has been ordered since');
SELECT order_mgmt.train_model('full') \g /dev/null
SELECT is(content('up') = content('full'), true, 'it is the same as one of which everything was read');
SELECT results_eq($$SELECT * FROM order_mgmt.predict_next_orders(NULL, 5, 'up')$$, $$SELECT * FROM order_mgmt.predict_next_orders(NULL, 5, 'full')$$,
    'and predicts the same');
SELECT sum(least(n, 3)) AS open3 FROM (SELECT count(*) AS n FROM order_mgmt.orders WHERE created_at > now() - interval '3 hours'
    AND status IN ('captured', 'confirmed', 'shipped') GROUP BY customer_id) AS c \gset
SELECT is(update_of('up2'), format('version 1, read %s', :open3 + 6), 'where older orders had made room for one that was cancelled they are read');
SELECT order_mgmt.train_model('full2') \g /dev/null
SELECT is(content('up2') = content('full2'), true, 'and it is the same');
SELECT is((SELECT count(DISTINCT substr(model, 1, 300)) FROM order_mgmt.model_versions WHERE name = 'learnt'), 1::bigint, 'weights that have been learnt are kept')
FROM update_of('learnt');
SELECT is((SELECT metrics->'recall@10' IS NOT NULL FROM order_mgmt.models WHERE name = 'learnt' AND version = 2), true, 'it is measured how good they are now');
SELECT is(update_of('up'), format('version 2, read %s', :open), 'and on from there');
-- When that will not do.
SAVEPOINT before;
SELECT load_history(E'g9,gus,l,1,1,2019-05-02\n') \g /dev/null
SELECT is(update_of('up'), 'history', 'history has been loaded, of whatever time');
SELECT is(update_of('up'), format('version 4, read %s', :open), 'which is known then');
ROLLBACK TO before;
SELECT order_mgmt.set_model_options('up', '{"tune": false, "groups": 3}') \g /dev/null
SELECT is(update_of('up'), 'options', 'the options are others');
SELECT order_mgmt.set_model_options('up', '{"tune": false, "update_days": 0}') \g /dev/null
SELECT is((SELECT array_agg(update_of('up')) FROM generate_series(1, 2)), '{options,age}', 'no update is wanted');
SELECT orders('crowd' || n, 'kv') FROM generate_series(1, 400) AS n \g /dev/null
SELECT is((SELECT array_agg(left(update_of('up2'), 7)) FROM generate_series(1, 2)), '{version,growth}', 'more has come than the weights were learnt from');
SELECT is(update_of('up2'), format('version 4, read %s', :open3 + 400), 'and what was trained anew is gone on from');
SELECT is(error_of($$SELECT order_mgmt.update_model('none')$$), 'OM004', 'no such model');
-- An order that had failed is taken up again later.
UPDATE order_mgmt.orders SET status = 'shipped' WHERE status IN ('captured', 'confirmed');
UPDATE order_mgmt.orders SET status = 'failed' WHERE customer_id = 'u3' AND created_at > now() - interval '3 hours';
SELECT order_mgmt.create_model(m, 'next_basket', '{"tune": false}') FROM (VALUES ('again'), ('whole')) AS v (m) \g /dev/null
SELECT order_mgmt.train_model('again') \g /dev/null
UPDATE order_mgmt.orders SET status = 'shipped' WHERE status = 'failed';
SELECT is(left(update_of('again'), 9), 'version 1', 'an order that was replayed since does not need a training');
SELECT order_mgmt.train_model('whole') \g /dev/null
SELECT is(content('again') = content('whole'), true, 'it is there');
ROLLBACK TO updates;

-- --- a long history whose weights fade to nothing ---
SELECT orders('hal', CASE WHEN n = 1 THEN 'h' ELSE 'i' END || chr(1000 + n)) FROM generate_series(1, 130) AS n \g /dev/null
SELECT orders('ida', CASE WHEN n = 1 THEN 'h' ELSE 'j' END || chr(1000 + n)) FROM generate_series(1, 130) AS n \g /dev/null
SELECT make('faint', '{"algorithm": "tifu_knn", "groups": 100, "group_decay": 0.01, "within_decay": 0.01, "max_history": 1000,
    "neighbours": 3}') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.predict_next_order('hal', 100, 'faint') WHERE score > 0), 100::bigint, 'faint weights are weights');

-- --- in JSON ---
SELECT is((SELECT jsonb_path_query_array(order_mgmt.predict('global', '{"customer_id": "ann", "k": 2}'), '$[*].product_id')),
    '["z", "b"]', 'predict() answers the same');
SELECT is(error_of($$SELECT order_mgmt.predict('global', '{"k": 2}')$$), 'OM008', 'and wants a customer');
SELECT make('logged', '{"algorithm": "personal_frequency", "log_sample": 1}') \g /dev/null
SELECT next('gus', 'logged', 1) \g /dev/null
SELECT is(rows_of($$SELECT model, customer_id, input->>'k', output->0->>'product_id' FROM order_mgmt.prediction_log$$),
    '(logged,gus,1,m)', 'predictions are logged where the model wants it');
SELECT make('backed', '{"algorithm": "personal_frequency", "fallback": "global"}') \g /dev/null
SELECT is(next('gus', 'backed', 2), next('gus', 'personal', 2), 'a model with a fallback answers the same');
-- A function of the user's own will do as well.
CREATE FUNCTION pick(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_array(jsonb_build_object('product_id', 'of ' || (input->>'customer_id'), 'score', 0.5))
$$;
SELECT order_mgmt.create_model('own', 'sql', '{"function": "test.pick"}') \g /dev/null
SELECT is(next('ann', 'own'), 'of ann 0.5', 'models of other kinds are asked in JSON');
CREATE FUNCTION wrong(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"answer": 42}'::jsonb $$;
SELECT order_mgmt.create_model('wrong', 'sql', '{"function": "test.wrong"}') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann', 1, 'wrong')$$), 'OM008', 'and must answer with products');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_orders(NULL, 1, 'own')$$), 'OM001 customer_ids',
    'they do not know all customers');

-- --- errors ---
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order(NULL)$$), 'OM001 customer_id', 'no customer');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann', 0)$$), 'OM001 k', 'k is too small');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann', 101)$$), 'OM001 k', 'k is too large');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_orders('{ann,NULL}')$$), 'OM001 customer_ids', 'a customer is missing');
SELECT is(error_of($$SELECT * FROM order_mgmt.predict_next_order('ann', 1, 'none')$$), 'OM004', 'no such model');
SELECT is(error_of(format('SELECT order_mgmt.create_model(''x'', ''next_basket'', %L)', o)), 'OM001 options.' || p, o)
FROM (VALUES ('{"algorithm": "magic"}', 'algorithm'), ('{"neighbours": 0}', 'neighbours'), ('{"alpha": 1.5}', 'alpha'),
      ('{"groups": 2.5}', 'groups'), ('{"tune": "yes"}', 'tune'), ('{"without": ["nearby"]}', 'without'), ('{"without": "near"}', 'without'), ('{"update_days": -1}', 'update_days'), ('{"since": 4}', 'since'), ('{"neighbors": 4}', 'neighbors')) AS w (o, p);
SELECT is(error_of(format('SELECT order_mgmt.evaluate_model(''global'', %L)', o)), 'OM001 options.' || p, o)
FROM (VALUES ('{"k": [0]}', 'k'), ('{"k": [1e400]}', 'k'), ('{"k": [5, 5]}', 'k'), ('{"k": []}', 'k'), ('{"k": 5}', 'k'), ('{"folds": 0}', 'folds'),
      ('{"fold": 3}', 'fold')) AS w (o, p);

-- --- who may ---
GRANT USAGE ON SCHEMA test TO order_mgmt_app, order_mgmt_analyst;
SET LOCAL ROLE order_mgmt_app;
SELECT is((SELECT count(*) FROM order_mgmt.predict_next_order('ann', 3)), 3::bigint, 'an application may predict');
SELECT is((SELECT count(*) FROM order_mgmt.predict_next_orders('{ann}', 3)), 3::bigint, 'for several, too');
SELECT is(error_of($$SELECT order_mgmt.train_model('global')$$), '42501', 'but not train');
RESET ROLE;
SET LOCAL ROLE order_mgmt_analyst;
SELECT is((SELECT name FROM order_mgmt.train_model('personal')), 'personal', 'an analyst may');
RESET ROLE;
SELECT is((SELECT count(*) FROM pg_proc AS p, aclexplode(p.proacl) AS a WHERE p.proname LIKE 'predict\_next\_order%'
    AND a.grantee = 0), 0::bigint, 'nobody else may predict');
SELECT invariants_hold();
SELECT * FROM finish();
ROLLBACK;
