-- What becomes of months by age and by use, and what the view and the log say of it.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SET LOCAL order_mgmt.clock = '2028-01-31 12:00:00+00';
SELECT no_plan();

CREATE FUNCTION plan_of(leaf text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', tier, next_action, to_char(next_action_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), 'waits: ' || waits_for)
    FROM order_mgmt.partitions WHERE partition_name = leaf
$$;
-- The rows of a table, as a hash
CREATE FUNCTION contents(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT md5(string_agg(r::text, E''\n'' ORDER BY r::text)) FROM %s AS r', relation) INTO answer;
    RETURN answer;
END
$$;

-- Ages count from the end of the month, in UTC, whatever the session's zone
CREATE TABLE ages (at timestamptz, x int) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('ages', 'at', warm_after => '1 month', cold_after => '3 months', drop_after => '1 year') \g /dev/null
SELECT is(plan_of('ages_2028_01'), 'hot make warm 2028-03-01 00:00', 'a month after the end of January');
SELECT is(plan_of('ages_2028_02'), 'hot make warm 2028-04-01 00:00', 'and of a February of 29 days');
SET LOCAL timezone = 'Pacific/Auckland';
SELECT is(plan_of('ages_2028_03'), 'hot make warm 2028-05-01 00:00', 'where clocks are put back');
SET LOCAL timezone = 'UTC';
SELECT order_mgmt.manage_table('ages', 'at', warm_after => '29 days', premake => 0) \g /dev/null
SELECT is(plan_of('ages_2028_01'), 'hot make warm 2028-03-01 00:00', '29 days are the whole of February');
SELECT order_mgmt.manage_table('ages', 'at', cold_after => '1 hour', premake => 0) \g /dev/null
SELECT is(plan_of('ages_2028_01'), 'hot archive 2028-02-01 01:00', 'hours will do');
SELECT order_mgmt.manage_table('ages', 'at', drop_after => '1 year', premake => 0) \g /dev/null
SELECT is(plan_of('ages_2028_02'), 'hot drop 2029-03-01 00:00', 'what is not archived is deleted from the table');
SELECT order_mgmt.manage_table('ages', 'at', cold_after => '1 year', drop_after => '2 years', premake => 0) \g /dev/null
SELECT is(plan_of('ages_2028_02'), 'hot archive 2029-03-01 00:00', 'else not before it is archived');
SELECT order_mgmt.manage_table('ages', 'at', premake => 0) \g /dev/null
SELECT is(plan_of('ages_2028_01'), 'hot', 'without ages it stays');
DROP TABLE ages;
SELECT is(maintained('ages'), 'forget table ages', 'a table that is dropped is forgotten');

-- Warm
CREATE ROLE regress_reader;
CREATE TABLE warm (at timestamptz NOT NULL, x int, y text, dropped int, z int GENERATED ALWAYS AS (x * 2) STORED, PRIMARY KEY (at, x)) PARTITION BY RANGE (at);
CREATE INDEX warm_y ON warm (lower(y)) WHERE y <> '';
ALTER TABLE warm DROP COLUMN dropped;
CREATE TABLE warm_jan (z int GENERATED ALWAYS AS (x * 2) STORED, y text, x int NOT NULL, at timestamptz NOT NULL, CONSTRAINT odd CHECK (x > -5)) WITH (fillfactor = 30);
ALTER TABLE warm ATTACH PARTITION warm_jan FOR VALUES FROM ('2028-01-01 00:00+00') TO ('2028-02-01 00:00+00');
CREATE INDEX ON warm_jan (x);
GRANT SELECT ON warm_jan TO regress_reader;
COMMENT ON TABLE warm_jan IS 'the first';
COMMENT ON COLUMN warm_jan.x IS 'a number';
ALTER TABLE warm_jan ALTER COLUMN x SET STATISTICS 3;
SELECT order_mgmt.manage_table('warm', 'at', premake => 2, warm_after => '1 month') \g /dev/null
INSERT INTO warm (at, x, y) SELECT '2028-01-01 00:00+00'::timestamptz + n * interval '1 hour', n, repeat('y', n % 50) FROM generate_series(0, 1500) AS n;
UPDATE warm SET y = 'z' || y WHERE x % 3 = 0;
SELECT contents('warm') AS before, pg_total_relation_size('warm_jan') AS bytes \gset
SELECT is(maintained('warm_'), NULL, 'January is not old enough');
SET LOCAL order_mgmt.clock = '2028-02-29 23:59:59.999999+00';
SELECT is(maintained('warm_'), NULL, 'nor is it a moment before');
SET LOCAL order_mgmt.clock = '2028-03-01 00:00:00+00';
SELECT is(maintained('warm_'), 'make warm warm_jan', 'at the end of February it is');
SELECT is(contents('warm'), :'before', 'the rows are the same');
SELECT is((SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = 'warm_jan'::regclass), 'fillfactor=100', 'with no room in between');
SELECT cmp_ok(pg_total_relation_size('warm_jan') * 2, '<', :bytes::bigint, 'they take less than half the space');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'warm_jan'::regclass), 2::bigint, 'indexes are those of the table');
SELECT is((SELECT count(*) FROM pg_index AS i JOIN pg_inherits ON inhrelid = indexrelid WHERE indrelid = 'warm_jan'::regclass AND indisvalid), 2::bigint, 'and belong to them');
SELECT ok(has_table_privilege('regress_reader', 'warm_jan', 'SELECT'), 'grants');
SELECT is(obj_description('warm_jan'::regclass, 'pg_class'), 'the first', 'comment');
SELECT is((SELECT col_description('warm_jan'::regclass, attnum) || ' ' || attstattarget FROM pg_attribute WHERE attrelid = 'warm_jan'::regclass AND attname = 'x'), 'a number 3', 'comment and statistics target of a column');
SELECT is(error_of($$INSERT INTO warm (at, x) VALUES ('2028-01-05', -6)$$), '23514', 'a constraint of its own');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = 'warm_jan'::regclass AND contype = 'c'), 1::bigint, 'and no other');
SELECT cmp_ok((SELECT count(*) FROM pg_stats WHERE schemaname = 'test' AND tablename = 'warm_jan'), '>=', 3::bigint, 'statistics');
INSERT INTO warm (at, x, y) VALUES ('2028-01-31 23:59:59.999999+00', 5000, 'late');
SELECT is((SELECT tableoid::regclass || ' ' || z FROM warm WHERE x = 5000), 'warm_jan 10000', 'a warm month can be written');
SELECT is(plan_of('warm_jan'), 'warm', 'the view says so');
SELECT is(rows_of($$SELECT month, rows, bytes = pg_total_relation_size('warm_jan'), duration > '0', error FROM order_mgmt.maintenance_log WHERE action = 'make warm'$$), '(2028-01-01,744,t,t,)', 'and the log');
SELECT is(maintained('warm_'), NULL, 'which it remains');
SELECT is(error_of($$SELECT order_mgmt.manage_table('warm', 'at', premake => 2, warm_after => '1 month', cold_after => '2 months', drop_after => '1 year')$$), 'no error', 'a policy is extended');
SELECT is(plan_of('warm_jan'), 'warm archive 2028-04-01 00:00', 'next it is archived');
SET LOCAL order_mgmt.clock = '2028-04-01 00:00:00+00';
SELECT is(plan_of('warm_jan'), 'warm archive 2028-04-01 00:00', 'when its time has come');
SELECT contents('warm') AS before \gset
SELECT is(maintained('warm_'), 'archive warm_jan, make warm warm_2028_02', 'it is done');
SELECT is(plan_of('warm_jan'), 'cold drop 2029-02-01 00:00', 'then it is deleted, a year after its end');
SELECT is((SELECT rows_estimate FROM order_mgmt.partitions WHERE partition_name = 'warm_jan'), 745::bigint, 'until then its rows are known');
SELECT is((SELECT min(at) FROM warm), '2028-02-01 00:00+00'::timestamptz, 'in the table they are no more');

-- Restored, and back again when nobody reads it
SELECT order_mgmt.restore_month('2028-01-01', 'warm') \g /dev/null
SELECT is(contents('warm'), :'before', 'a restored month has its rows again');
SELECT is(plan_of('warm_jan'), 'restored archive 2028-04-08 00:00', 'for seven days');
SELECT is(maintained('warm_'), NULL, 'not sooner');
SET LOCAL order_mgmt.clock = '2028-04-05 00:00:00+00';
UPDATE order_mgmt.partition_uses SET scans = -1 WHERE partition_name = 'warm_jan';
SELECT count(*) FROM warm WHERE at < '2028-02-01' \g /dev/null
UPDATE order_mgmt.partition_uses SET last_read_at = '2028-04-05 00:00:00+00' WHERE partition_name = 'warm_jan';
SELECT is(plan_of('warm_jan'), 'restored archive 2028-04-12 00:00', 'and longer where it is read');
SET LOCAL order_mgmt.clock = '2028-04-12 00:00:00+00';
SELECT is(maintained('warm_jan'), 'archive warm_jan', 'then it goes back');
SET LOCAL order_mgmt.clock = '2029-02-01 00:00:00+00';
SELECT is(maintained('warm_jan'), 'drop warm_jan', 'the end of its life');
SELECT is(plan_of('warm_jan'), NULL, 'nothing is left of it');
SELECT is((SELECT count(*) FROM order_mgmt.archives WHERE table_name = 'warm' AND month = '2028-01-01'), 0::bigint, 'in the archive neither');
DROP TABLE warm;

-- What a copy would not have stays as it is
CREATE TABLE tied (at date, x int) PARTITION BY RANGE (at);
SET LOCAL order_mgmt.clock = '2028-01-15 00:00:00+00';
SELECT order_mgmt.manage_table('tied', 'at', premake => 0, warm_after => '1 month') \g /dev/null
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER own BEFORE INSERT ON tied_2028_01 FOR EACH ROW EXECUTE FUNCTION nothing();
SET LOCAL order_mgmt.clock = '2028-03-01 00:00:00+00';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(rows_of($$SELECT action, relation, error_code, error FROM order_mgmt.maintenance_log WHERE relation = 'test.tied_2028_01' AND error IS NOT NULL$$),
    '("make warm",test.tied_2028_01,OM005,"partition ""tied_2028_01"" has triggers of its own")', 'a partition with triggers of its own');
SELECT is(plan_of('tied_2028_01'), 'hot make warm 2028-03-01 00:00', 'is as it was');
DROP TRIGGER own ON tied_2028_01;
SELECT is(maintained('tied_'), 'make warm tied_2028_01', 'until it has none');
CREATE VIEW on_leaf AS SELECT * FROM tied_2028_01;
SELECT order_mgmt.manage_table('tied', 'at', premake => 0, drop_after => '2 months') \g /dev/null
SET LOCAL order_mgmt.clock = '2028-04-01 00:00:00+00';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is((SELECT error_code FROM order_mgmt.maintenance_log WHERE relation = 'test.tied_2028_01' AND action = 'drop'), '2BP01', 'a view of a partition keeps it from being dropped');
DROP VIEW on_leaf;
SELECT is(maintained('tied_'), 'drop tied_2028_01', 'until there is none');

-- The end of life of a table that is not archived; several months wait for a run each
CREATE TABLE short (region text, at timestamp, x int) PARTITION BY LIST (region);
CREATE TABLE short_eu PARTITION OF short FOR VALUES IN ('eu') PARTITION BY RANGE (at);
CREATE TABLE short_us PARTITION OF short FOR VALUES IN ('us') PARTITION BY RANGE (at);
SET LOCAL order_mgmt.clock = '2028-11-15 00:00:00+00';
SELECT order_mgmt.manage_table('short', 'at', premake => 1, drop_after => '1 day') \g /dev/null
INSERT INTO short SELECT r, at, 1 FROM unnest('{eu,us}'::text[]) AS r, unnest('{2028-11-30 23:59:59.999999,2028-12-01}'::timestamp[]) AS at;
SET LOCAL order_mgmt.clock = '2028-12-01 23:59:59+00';
SELECT is(maintained('short_'), NULL, 'not on the day itself');
SET LOCAL order_mgmt.clock = '2028-12-02 00:00:00+00';
SET LOCAL order_mgmt.premake_months = 12;
SELECT is((SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance() WHERE action <> 'make partition'),
    'more to do months that wait for a run of their own: 2', 'none in the run that makes months of orders');
SELECT is((SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance() WHERE action <> 'make partition'),
    'drop test.short_eu_2028_11, more to do months that wait for a run of their own: 1', 'one month a run, where the caller holds the locks');
SELECT is(maintained('short_'), 'drop short_us_2028_11', 'and the rest in the next');
SELECT is(rows_of('SELECT region, at FROM short ORDER BY 1'), '(eu,"2028-12-01 00:00:00") (us,"2028-12-01 00:00:00")', 'the month is gone, in every region');
SELECT is((SELECT count(*) FROM order_mgmt.partition_uses WHERE partition_name = 'short_eu_2028_11'), 0::bigint, 'and forgotten');

-- By region and month, each goes by itself
CREATE TABLE areas (region text, at timestamp, x int) PARTITION BY LIST (region);
CREATE TABLE areas_eu PARTITION OF areas FOR VALUES IN ('eu') PARTITION BY RANGE (at);
CREATE TABLE areas_us PARTITION OF areas FOR VALUES IN ('us') PARTITION BY RANGE (at);
SET LOCAL order_mgmt.clock = '2028-11-15 00:00:00+00';
SELECT order_mgmt.manage_table('areas', 'at', premake => 0, cold_after => '1 month', stay_hot_reads => 20) \g /dev/null
SELECT maintained('areas_') \g /dev/null
UPDATE order_mgmt.partition_uses SET reads_per_day = 20 WHERE partition_name = 'areas_us_2028_11';
SET LOCAL order_mgmt.clock = '2029-01-01 00:00:00+00';
UPDATE order_mgmt.partition_uses SET since = '2029-01-01 00:00:00+00' WHERE partition_name = 'areas_us_2028_11';
SELECT maintained('areas_') \g /dev/null
SELECT is(plan_of('areas_eu_2028_11'), 'cold', 'the month of one region is archived');
SELECT isnt(to_regclass('areas_us_2028_11'), NULL, 'that of another, which is read, is not');

-- Use: what the last look saw is made up here, since counters are the server's
CREATE TABLE used (at date, x int) PARTITION BY RANGE (at);
SET LOCAL order_mgmt.clock = '2028-01-15 00:00:00+00';
SELECT order_mgmt.manage_table('used', 'at', premake => 0, warm_after => '1 month', stay_hot_reads => 20) \g /dev/null
SELECT maintained('used_') \g /dev/null
UPDATE order_mgmt.partition_uses SET scans = -60, since_scans = -60 WHERE partition_name = 'used_2028_01';
SET LOCAL order_mgmt.clock = '2028-01-15 23:00:00+00';
SELECT maintained('used_') \g /dev/null
SELECT is(rows_of($$SELECT last_read, reads_per_day FROM order_mgmt.partitions WHERE partition_name = 'used_2028_01'$$), '(,0)', 'a counter that is 0 says of no read');
UPDATE order_mgmt.partition_uses SET scans = -60 WHERE partition_name = 'used_2028_01';
SET LOCAL order_mgmt.clock = '2028-01-18 00:00:00+00';
SELECT maintained('used_') \g /dev/null
SELECT is((SELECT reads_per_day FROM order_mgmt.partitions WHERE partition_name = 'used_2028_01'), 20::float8, '60 reads in three days');
SET LOCAL order_mgmt.clock = '2028-03-01 00:00:00+00';
UPDATE order_mgmt.partition_uses SET since = '2028-03-01 00:00:00+00' WHERE partition_name = 'used_2028_01';
SELECT is(plan_of('used_2028_01'), 'hot make warm 2028-03-01 00:00 waits: it is read 20 times a day', 'a month that is read stays hot');
SELECT is(maintained('used_'), NULL, 'also when maintenance has been run');
SET LOCAL order_mgmt.clock = '2028-03-02 00:00:00+00';
SELECT is(maintained('used_'), 'make warm used_2028_01', 'until nobody reads it any more');

-- Which function reads by which index
CREATE TEMP TABLE needed_indexes AS SELECT 'order_mgmt.' || i AS index, 'SELECT order_mgmt.' || s AS statement FROM (VALUES
    ('orders_2028_03_pkey', $$get_order(:id)$$), ('order_lines_2028_03_pkey', $$get_order(:id)$$), ('event_log_2028_03_pkey', $$get_order(:id)$$),
    ('orders_2028_03_customer_id_created_at_order_id_idx', $$list_orders('ann')$$), ('orders_2028_03_order_ref_idx', $$find_orders('a ref')$$),
    ('event_log_2028_03_customer_id_event_id_idx', $$account_statement('ann')$$), ('event_log_2028_03_product_id_event_id_idx', $$stock_statement('p')$$)) AS t(i, s);
CREATE FUNCTION scans_by(statement text, index regclass) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_stat_get_xact_numscans(index);
BEGIN
    EXECUTE replace(statement, ':id', quote_literal((SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'a ref')));
    RETURN pg_stat_get_xact_numscans(index) > before;
END
$$;

-- Ours: warm as well, and still exact
SELECT open_shop('ann', 100, 'p', 100) \g /dev/null
SET LOCAL order_mgmt.clock = '2028-03-05 00:00:00+00';
SELECT order_mgmt.capture_order('ann', lines('p'), order_ref => 'a ref') AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT contents('order_mgmt.orders') || contents('order_mgmt.order_lines') || contents('order_mgmt.event_log') AS before \gset
SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 month', premake => 0) \g /dev/null
SET LOCAL order_mgmt.clock = '2028-05-01 00:00:00+00';
SELECT maintained('2028_03') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.partitions WHERE month = '2028-03-01' AND tier = 'warm' AND table_name IN ('orders', 'order_lines', 'event_log')), 3::bigint, 'the three tables of orders are warm');
SELECT is(contents('order_mgmt.orders') || contents('order_mgmt.order_lines') || contents('order_mgmt.event_log'), :'before', 'with the same rows');
SELECT is(order_mgmt.get_order_status(:'id'), 'shipped', 'the order is there');
SELECT is(order_mgmt.add_order_note(:'id', 'late') > 0, true, 'and can be noted on');
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = 'order_mgmt.orders_2028_03'::regclass), 'order_mgmt_owner', 'partitions are their owner''s');

-- Of our own indexes each is needed for reading, so a warm month has all of them
SELECT set_eq($$SELECT i.indexrelid::regclass::text FROM pg_index AS i WHERE i.indrelid IN ('order_mgmt.orders_2028_03'::regclass, 'order_mgmt.order_lines_2028_03'::regclass, 'order_mgmt.event_log_2028_03'::regclass)$$,
    $$SELECT index FROM needed_indexes$$, 'the indexes of a warm month');
SET LOCAL enable_seqscan = off;
SELECT is(scans_by(statement, index), true, statement || ' takes ' || index) FROM needed_indexes;
RESET enable_seqscan;

-- What still needs a month keeps it, and is said
SELECT order_mgmt.capture_order('ann', lines('p')) AS open_order \gset
SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '1 month', premake => 0) \g /dev/null
SET LOCAL order_mgmt.clock = '2028-07-01 00:00:00+00';
SELECT ok(bool_and(waits_for IS NOT NULL) AND count(*) = 3, 'months of orders wait while something needs them') FROM order_mgmt.partitions
    WHERE month = '2028-05-01' AND table_name IN ('orders', 'order_lines', 'event_log');
SELECT maintained('2028_05') \g /dev/null
SELECT maintained('2028_05') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.maintenance_log WHERE action = 'archive' AND relation = 'order_mgmt.orders_2028_05' AND error IS NOT NULL), 1::bigint, 'which the log says once');

-- The log is kept for a year
UPDATE order_mgmt.maintenance_log SET at = '2027-04-30' WHERE action = 'drop';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.maintenance_log WHERE action = 'drop'), 0::bigint, 'older entries go');
SELECT cmp_ok((SELECT count(*) FROM order_mgmt.maintenance_log), '>', 0::bigint, 'newer ones stay');
-- What is made is logged once only, also for our own tables
SELECT is((SELECT count(*) FROM order_mgmt.maintenance_log WHERE action = 'make partition' AND relation = 'orders_2028_05'), 1::bigint, 'months of orders are in it, too');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
