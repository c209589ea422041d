-- Demand: forecasts and reorders of a shop small enough to reckon by hand.
--
-- Twenty weeks, Monday to Sunday: "daily" sells 7 units every day, "monday" 21 every Monday, and one of
-- four "rare" products 8 on each Monday, in turn. So the shop has 9 order lines every week, 3 of them on Mondays.
BEGIN;
\ir helpers.psql
SELECT no_plan();
SET LOCAL order_mgmt.clock = '2030-05-27 08:00+00';

-- Units on some days together, to 4 decimals.
CREATE FUNCTION forecast(product text, since date DEFAULT '-infinity', until date DEFAULT 'infinity', model text DEFAULT 'demand')
RETURNS numeric LANGUAGE sql AS $$
    SELECT round(sum(expected)::numeric, 4) FROM order_mgmt.forecast_demand(product, 28, model) WHERE day >= since AND day < until
$$;
CREATE FUNCTION measured(model text, wanted text, options jsonb DEFAULT '{"weeks": 4, "top": 6}') RETURNS numeric LANGUAGE sql AS $$
    SELECT round(value::numeric, 6) FROM order_mgmt.evaluate_model(model, options) WHERE metric = wanted
$$;

-- Options
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"algorithm": "arima"}')$$), 'OM001 options.algorithm', 'an unknown algorithm');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"objective": 1}')$$), 'OM001 options.objective', 'an objective that is no word');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"interval": 1}')$$), 'OM001 options.interval', 'an interval that holds everything');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"validation_weeks": 1.5}')$$), 'OM001 options.validation_weeks', 'half a week');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"history_days": 7}')$$), 'OM001 options.history_days', 'a history of a week');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"from": "now"}')$$), 'OM001 options.from', 'an unknown start');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand', '{"intervall": 0.8}')$$), 'OM001 options.intervall', 'an unknown option');

-- Before there is anything to learn from
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand()$$), 'OM004', 'no model');
SELECT is(order_mgmt.create_model('demand', 'demand'), true, 'a model is made');
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand()$$), 'OM005', 'that is not trained yet');
SELECT is(error_of($$SELECT * FROM order_mgmt.suggest_reorder()$$), 'OM005', 'nor can it suggest anything');
SELECT is(error_of($$SELECT order_mgmt.train_model('demand')$$), 'OM008', 'and cannot be, without any orders');

-- The shop
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price, created_at)
SELECT 'r' || row_number() OVER (), 'ann', product, units, 1, (day + time '12:00') || '+00' FROM (
    SELECT 'daily' AS product, 7 AS units, day::date FROM generate_series(date '2030-01-07', date '2030-05-26', '1 day') AS day
    UNION ALL SELECT 'monday', 21, day::date FROM generate_series(date '2030-01-07', date '2030-05-26', '7 days') AS day
    UNION ALL SELECT 'rare' || (day::date - date '2030-01-07') / 7 % 4, 8, day::date
    FROM generate_series(date '2030-01-07', date '2030-05-26', '7 days') AS day) AS l;
SELECT order_mgmt.load_orders_csv('staged', 'history') AS load \gset
SELECT is((SELECT orders_loaded FROM order_mgmt.wait_for_load(:load)), 180::bigint, 'its history is loaded');
SELECT is((SELECT metrics - 'validation_wape' FROM order_mgmt.train_model('demand')),
    '{"products": 6, "first_day": "2030-01-07", "last_day": "2030-05-26"}', 'and learnt');

-- Weeks as they always were; a weekday is that of the product's lines and of 30 lines of the whole shop.
-- daily: 20 of 140 lines on a Monday, so 49 * (20 + 30 * 3/9) / 170; other days 49 * (20 + 30 * 1/9) / 170.
-- monday: 21 * (20 + 30 * 3/9) / 50; other days 21 * (30 * 1/9) / 50.
SELECT is(forecast('daily'), 196.0000, 'four weeks of a product sold every day');
SELECT is(forecast('daily', '2030-05-27', '2030-05-28'), 8.6471, 'a Monday of it');
SELECT is(forecast('daily', '2030-06-04', '2030-06-05'), 6.7255, 'a Tuesday');
SELECT is(forecast('monday'), 84.0000, 'four weeks of a product sold on Mondays');
SELECT is(forecast('monday', '2030-06-10', '2030-06-11'), 12.6000, 'a Monday of it');
SELECT is(forecast('monday', '2030-06-16', '2030-06-17'), 1.4000, 'a Sunday');
SELECT is((SELECT array_agg(DISTINCT product_id) FROM order_mgmt.forecast_demand()), '{daily,monday,rare0,rare1,rare2,rare3}', 'without a name all products are forecast');
SELECT is((SELECT array[min(day), max(day)] FROM order_mgmt.forecast_demand('daily')), '{2030-05-27,2030-06-23}'::date[], 'from today for 28 days');
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand('daily', 366)), 366::bigint, 'up to 366 days');
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand() WHERE NOT (0 <= low AND low <= expected AND expected <= high)), 0::bigint, 'every day lies in its interval');
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand('daily') WHERE low < expected AND expected < high), 28::bigint, 'which is not empty');
SELECT is(order_mgmt.predict('demand', '{"product_id": "daily", "days": 14}') - '{low,high}'::text[],
    '{"product_id": "daily", "from": "2030-05-27", "days": 14, "expected": 98}', 'predict() sums days up');

-- Without weeks to measure by, an interval is that of theory: 7 order lines are expected in a week, and with
-- b = 2 ^ (floor(log2 7) + 1/2) the factor is 1 -+ z(0.9) * sqrt(2 / b); 14 lines in two weeks.
SELECT order_mgmt.create_model('theory', 'demand', '{"validation_weeks": 0}') \g /dev/null
SELECT is((SELECT metrics->'validation_wape' FROM order_mgmt.train_model('theory')), 'null', 'a model that measures nothing');
CREATE FUNCTION range_of(product text, days bigint, model text) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s', round((p->>'low')::numeric, 1), round((p->>'high')::numeric, 1))
    FROM order_mgmt.predict(model, jsonb_build_object('product_id', product, 'days', days)) AS p
$$;
SELECT is(range_of('daily', 7, 'theory'), '11.7 86.3', 'has the interval of a week by theory');
SELECT is(range_of('daily', 14, 'theory'), '45.2 150.8', 'and of two');
SELECT order_mgmt.drop_model('theory') \g /dev/null

-- The past and the future of the clock
SET LOCAL order_mgmt.clock = '2030-06-05 08:00+00';
SELECT is((SELECT min(day) FROM order_mgmt.forecast_demand('daily')), '2030-06-05', 'days begin with today');
SELECT is(forecast('daily', '2030-06-10', '2030-06-11'), 8.6471, 'and know which weekday they are');
SELECT is(order_mgmt.create_model('history', 'demand', '{"from": "history"}'), true, 'or with the end of the history');
SELECT count(*) FROM order_mgmt.train_model('history') \g /dev/null
SELECT is((SELECT min(day) FROM order_mgmt.forecast_demand('daily', model => 'history')), '2030-05-27', 'where an option says so');
SET LOCAL order_mgmt.clock = '2030-05-20 08:00+00';
SELECT is((SELECT min(day) FROM order_mgmt.forecast_demand('daily')), '2030-05-27', 'but never before it');
SELECT is((SELECT metrics->>'last_day' FROM order_mgmt.train_model('history')), '2030-05-19', 'a training leaves the present day out');
SET LOCAL order_mgmt.clock = '2030-05-27 08:00+00';

-- The baselines. Last week it was the turn of rare3.
SELECT order_mgmt.create_model('average', 'demand', '{"algorithm": "moving_average"}'), order_mgmt.create_model('naive', 'demand', '{"algorithm": "seasonal_naive"}') \g /dev/null
SELECT count(*) FROM order_mgmt.train_model('average') AS a, order_mgmt.train_model('naive') AS n \g /dev/null
SELECT is(forecast('rare' || n, model => 'average'), 8.0000, 'the moving average of rare' || n) FROM generate_series(0, 3) AS n;
SELECT is(rows_of($$SELECT n, forecast('rare' || n, model => 'naive') FROM generate_series(0, 3) AS n$$),
    '(0,0.0000) (1,0.0000) (2,0.0000) (3,32.0000)', 'the seasonal naive repeats the last week');
SELECT is(forecast('rare3', '2030-06-03', '2030-06-04', 'naive'), 8.0000, 'day by day');

-- Of four weeks each rare product sells in one: the average is off by 6 + 2 + 2 + 2 units, the last week by 8 + 8, nothing by 8.
-- All six products together sell 4 * 78 units.
SELECT is(measured('demand', 'wape_moving_average'), round(4 * 12 / 312.0, 6), 'the error of the moving average');
SELECT is(measured('demand', 'wape_seasonal_naive'), round(4 * 16 / 312.0, 6), 'the error of the seasonal naive');
SELECT is(measured('demand', 'wape'), round(4 * 8 / 312.0, 6), 'ours is less');
SELECT is(measured('demand', 'bias'), round(-4 * 8 / 312.0, 6), 'because it expects what is most likely');
SELECT is(measured('average', 'wape'), round(4 * 12 / 312.0, 6), 'a model is measured by its own algorithm');
SELECT is(measured('demand', 'wape', '{"weeks": 4, "top": 2}'), 0.000000, 'the two that sell most are certain');
SELECT is(measured('demand', 'products'), 6.000000, 'as many products were measured');
SELECT is(measured('demand', 'weeks'), 4.000000, 'in as many weeks');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('demand', '{"weeks": 17}')$$), 'OM008', 'a history that is too short');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('demand', '{"weeks": "all"}')$$), 'OM001 options.weeks', 'weeks that are no number');
SELECT is(error_of($$SELECT * FROM order_mgmt.evaluate_model('demand', '{"week": 4}')$$), 'OM001 options.week', 'an option that there is not');
SELECT order_mgmt.create_model('unbiased', 'demand', '{"objective": "unbiased"}') \g /dev/null
SELECT count(*) FROM order_mgmt.train_model('unbiased') \g /dev/null
SELECT cmp_ok((SELECT sum(expected) FROM order_mgmt.forecast_demand(model => 'unbiased') WHERE product_id LIKE 'rare%'), '>', 16::double precision,
    'an unbiased model expects most of the 32 units of the rare ones');
SELECT is(forecast('rare0') + forecast('rare1') + forecast('rare2') + forecast('rare3'), 0.0000, 'of which each is most likely not to sell');

-- Outliers, orders that do not count, and new products
SET LOCAL order_mgmt.clock = '2030-05-26 18:00+00';
SELECT order_mgmt.set_stock('gone', 100), order_mgmt.set_stock('kept', 100), order_mgmt.set_account('bob', 1000) \g /dev/null
SELECT order_mgmt.cancel_order(order_mgmt.capture_order('bob', lines('gone', 5))) \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('kept', 5)) \g /dev/null
SET LOCAL order_mgmt.clock = '2030-05-27 08:00+00';
SELECT order_mgmt.capture_order('bob', lines('today', 5)) \g /dev/null
SELECT is((SELECT metrics->>'products' FROM order_mgmt.train_model('demand')), '7', 'neither cancelled orders nor those of today count');
SELECT cmp_ok(forecast('kept'), '>', 0::numeric, 'a product that is new is expected to be ordered again');
SELECT is(rows_of($$SELECT count(*), count(expected), count(low), count(high) FROM order_mgmt.forecast_demand('gone')$$), '(28,0,0,0)', 'of a product without orders nothing is known');
SELECT is_empty($$SELECT * FROM order_mgmt.forecast_demand('none')$$, 'what is no product has no days');
SELECT is(order_mgmt.predict('demand', '{"product_id": "none"}'),
    '{"product_id": "none", "from": "2030-05-27", "days": 28, "expected": null, "low": null, "high": null}', 'nor a prediction');
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price, created_at)
VALUES ('by mistake', 'ann', 'daily', 80995, 1, '2030-05-22 09:00+00'), ('new', 'ann', 'late', 100000, 1, '2030-05-23 09:00+00');
SELECT order_mgmt.load_orders_csv('staged', 'history') AS load \gset
SELECT count(*) FROM order_mgmt.train_model('demand') AS d, order_mgmt.train_model('average') AS a \g /dev/null
SELECT cmp_ok(forecast('daily'), '<', 600::numeric, 'one order of 80,995 units is not taken for demand');
SELECT cmp_ok(forecast('daily', model => 'average'), '>', 80000::numeric, 'as the moving average does');
SELECT is(measured('average', 'wape', '{"weeks": 1, "top": 2}'), round(80995 / (80995 + 49 + 21.0), 6), 'what came in a week is known neither to those who forecast it nor to those who choose the products');

-- Reorder: what is missing for the upper end of the interval
SELECT order_mgmt.deploy_model('demand', 1) \g /dev/null
SELECT order_mgmt.set_stock('daily', 50), order_mgmt.set_stock('monday', 100000) \g /dev/null
CREATE FUNCTION missing(product text, available numeric, days bigint DEFAULT 28) RETURNS bigint LANGUAGE sql AS $$
    SELECT ceil((order_mgmt.predict('demand', jsonb_build_object('product_id', product, 'days', days))->>'high')::numeric - available)::bigint
$$;
SELECT cmp_ok(missing('daily', 50), '>', 146::bigint, 'more than expected is to be in stock');
SELECT is(rows_of($$SELECT product_id, on_hand, reserved, round(expected::numeric, 4), reorder = missing('daily', 50) FROM order_mgmt.suggest_reorder() WHERE product_id = 'daily'$$),
    '(daily,50,0,196.0000,t)', 'what is missing is what is likely at most less what is there');
SELECT is(rows_of($$SELECT product_id, on_hand, round(expected::numeric, 4), reorder FROM order_mgmt.suggest_reorder() WHERE product_id = 'monday'$$),
    '(monday,100000,84.0000,0)', 'nothing is missing where there is enough');
SELECT is(rows_of($$SELECT product_id, on_hand, expected, reorder FROM order_mgmt.suggest_reorder() WHERE product_id IN ('gone', 'kept')$$),
    '(gone,100,,0) (kept,100,,0)', 'nor where nothing is known');
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.capture_order('bob', lines('daily', 20)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is((SELECT reorder = missing('daily', 30) AND reserved = 20 FROM order_mgmt.suggest_reorder() WHERE product_id = 'daily'), true, 'what is reserved is gone');
SELECT is((SELECT reorder FROM order_mgmt.suggest_reorder(7) WHERE product_id = 'daily'), missing('daily', 30, 7), 'for a week it is less');
SELECT is((SELECT array_agg(product_id) FROM order_mgmt.suggest_reorder()), '{daily,gone,kept,monday}', 'all products in stock, by their ids');

-- Wrong arguments
SELECT is(error_of(format('SELECT * FROM order_mgmt.forecast_demand(days => %s)', n)), 'OM001 days', 'days: ' || n) FROM unnest('{0,-1,367,"NULL"}'::text[]) AS n;
SELECT is(error_of('SELECT * FROM order_mgmt.suggest_reorder(0)'), 'OM001 days', 'no days to reorder for');
SELECT is(error_of('SELECT * FROM order_mgmt.suggest_reorder(NULL)'), 'OM001 days', 'days NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => NULL)$$), 'OM001 model', 'model NULL');
CREATE FUNCTION test.one(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT ''1''::jsonb';
SELECT order_mgmt.create_model('other', 'sql', '{"function": "test.one"}') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'other')$$), 'OM001 model', 'a model of another kind');
SELECT is(error_of($$SELECT * FROM order_mgmt.suggest_reorder(model => 'other')$$), 'OM001 model', 'suggests nothing either');
SELECT is(error_of($$SELECT order_mgmt.predict('demand', '{"days": 7}')$$), 'OM008', 'a prediction of nothing');
SELECT is(error_of($$SELECT order_mgmt.predict('demand', '[]')$$), 'OM008', 'an input that is no object');
SELECT is(error_of($$SELECT order_mgmt.predict('demand', '{"product_id": "daily", "days": 1000}')$$), 'OM008', 'a prediction of too many days');

-- Bytes that are no model
UPDATE order_mgmt.model_versions SET model = '\x00' WHERE name = 'average';
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'average')$$), 'OM008', 'bytes that are no model') FROM order_mgmt.deploy_model('average', 1);
UPDATE order_mgmt.model_versions SET model = substr(model, 1, 1000) WHERE name = 'naive';
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'naive')$$), 'OM008', 'half a model') FROM order_mgmt.set_model_options('naive', '{}');
UPDATE order_mgmt.model_versions SET model = overlay(model PLACING '\x80000000' FROM 9) WHERE name = 'history';
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'history')$$), 'OM008', 'a history that ends before all time') FROM order_mgmt.set_model_options('history', '{"from": "history", "interval": 0.7}');

-- Where a model fails its fallback answers, if it is of the same kind; and what answers is logged
SELECT order_mgmt.set_model_options('naive', '{"fallback": "other"}') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'naive')$$), 'OM008', 'a fallback of another kind does not know days');
SELECT is(error_of($$SELECT * FROM order_mgmt.suggest_reorder(model => 'naive')$$), 'OM008', 'nor reorders');
SELECT order_mgmt.set_model_options('naive', '{"fallback": "demand", "log_sample": 1}') \g /dev/null
SELECT set_eq($$SELECT * FROM order_mgmt.forecast_demand(model => 'naive')$$, $$SELECT * FROM order_mgmt.forecast_demand(model => 'demand')$$, 'one of this kind answers');
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand('daily', 3, 'naive')), 3::bigint, 'about one product too');
SELECT set_eq($$SELECT * FROM order_mgmt.suggest_reorder(model => 'naive')$$, $$SELECT * FROM order_mgmt.suggest_reorder(model => 'demand')$$, 'and suggests what to reorder');
SELECT order_mgmt.set_model_options('demand', '{"log_sample": 1, "max_rows_per_batch": 2}') \g /dev/null
SELECT count(*) FROM order_mgmt.forecast_demand('daily', 7) \g /dev/null
SELECT is((SELECT output FROM order_mgmt.prediction_log WHERE model = 'demand'), order_mgmt.predict('demand', '{"product_id": "daily", "days": 7}'), 'and answers, as predict() gives them');
DELETE FROM order_mgmt.prediction_log;
SELECT count(*) FROM order_mgmt.forecast_demand() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.prediction_log), (SELECT count(DISTINCT product_id) FROM order_mgmt.forecast_demand()), 'one for each product');
DELETE FROM order_mgmt.prediction_log;
SELECT count(*) FROM order_mgmt.suggest_reorder() \g /dev/null
SELECT is((SELECT string_agg(input->>'product_id', ' ' ORDER BY prediction_id) FROM order_mgmt.prediction_log), 'daily gone kept monday', 'that was asked about');
SELECT order_mgmt.set_model_options('demand', '{}') \g /dev/null
SELECT order_mgmt.create_model('new', 'demand') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand(model => 'new')$$), 'OM005', 'one that has not been trained');
SELECT order_mgmt.set_model_options('new', '{"fallback": "demand"}') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand('daily', model => 'new')), 28::bigint, 'has a fallback too');

-- Who may do what
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET LOCAL ROLE order_mgmt_reader;
SELECT is((SELECT count(*) FROM order_mgmt.forecast_demand('daily')), 28::bigint, 'who reads may ask');
SELECT is((SELECT count(*) FROM order_mgmt.suggest_reorder()), 4::bigint, 'and what to reorder');
SELECT is(error_of($$SELECT order_mgmt.train_model('demand')$$), '42501', 'but not train');
SET LOCAL ROLE order_mgmt_analyst;
SELECT is((SELECT deployed FROM order_mgmt.train_model('demand')), true, 'an analyst trains with what he may read');
SELECT is(error_of($$SELECT order_mgmt.create_model('m', 'demand')$$), '42501', 'but makes no models');
RESET ROLE;
CREATE ROLE nobody_at_all;
GRANT USAGE ON SCHEMA order_mgmt TO nobody_at_all;
SET LOCAL ROLE nobody_at_all;
SELECT is(error_of($$SELECT * FROM order_mgmt.forecast_demand()$$), '42501', 'PUBLIC may not ask');
SELECT is(error_of($$SELECT * FROM order_mgmt.suggest_reorder()$$), '42501', 'about nothing');
RESET ROLE;

SELECT invariants_hold();
SELECT * FROM finish();
ROLLBACK;
