-- Tables of users that get another name, or whose schema does: policies and archives follow.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SET LOCAL order_mgmt.clock = '2028-01-15 12:00:00+00';
SELECT no_plan();

CREATE FUNCTION tiers(of text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(partition_name || ' ' || tier, ', ' ORDER BY partition_name) FROM order_mgmt.partitions WHERE table_name = of
$$;
CREATE FUNCTION log() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', action, relation, error), ', ' ORDER BY maintenance_id) FROM order_mgmt.maintenance_log WHERE action IN ('rename table', 'forget table')
$$;

CREATE TABLE sales (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('sales', 'at', premake => 1, warm_after => '10 days', cold_after => '1 month') \g /dev/null
INSERT INTO sales VALUES ('2028-01-01', 1), ('2028-02-01', 2);
SET LOCAL order_mgmt.clock = '2028-03-12 00:00:00+00';
SELECT order_mgmt.run_maintenance() FROM generate_series(1, 4) \g /dev/null
SELECT is(tiers('test.sales'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'a table with months of all kinds');

-- Renamed
ALTER TABLE sales RENAME TO turnover;
SELECT is(rows_of($$SELECT action, object FROM order_mgmt.run_maintenance()$$), NULL, 'there is nothing to do with a table that has been renamed');
SELECT is(tiers('test.turnover'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'its months are known by the new name');
SELECT is(log(), 'rename table test.turnover it was test.sales', 'the log says so');
SELECT is(rows_of($$SELECT table_name, warm_after, cold_after FROM order_mgmt.partition_policies WHERE owner IS NOT NULL$$), '(turnover,"10 days","1 mon")', 'its policy stays');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'turnover')$$), '(1)', 'a month comes back to it');
SELECT is((SELECT sum(x) FROM turnover), 3::bigint, 'as it was');
SELECT order_mgmt.archive_month('2028-01-01', 'turnover') \g /dev/null

-- Renamed again, and asked for at once
ALTER TABLE turnover RENAME TO income;
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'income')$$), '(1)', 'whoever asks for a month need not wait for maintenance');
SELECT order_mgmt.archive_month('2028-01-01', 'income') \g /dev/null

-- Its schema renamed, with a table of the old name in its place
ALTER SCHEMA test RENAME TO old_test;
CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE TABLE test.income (at date NOT NULL, x int) PARTITION BY RANGE (at);
SET LOCAL search_path = old_test, public;
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(tiers('old_test.income'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'months follow a schema, warm ones too');
SELECT is(tiers('test.income'), NULL, 'and not what is in the place of the table');
SELECT ok(NOT order_mgmt.unmanage_table('test.income'), 'which is in nobody''s care');

-- Names in a circle
CREATE TABLE second (at date NOT NULL, x int) PARTITION BY RANGE (at);
SET LOCAL order_mgmt.clock = '2028-01-15 00:00:00+00';
SELECT order_mgmt.manage_table('second', 'at', premake => 0) \g /dev/null
INSERT INTO second VALUES ('2028-01-01', 20);
SET LOCAL order_mgmt.clock = '2028-03-12 00:00:00+00';
SELECT order_mgmt.archive_month('2028-01-01', 'second') \g /dev/null
ALTER TABLE second RENAME TO third;
ALTER TABLE income RENAME TO second;
ALTER TABLE third RENAME TO income;
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'income')$$), '(1)', 'two tables change names');
SELECT is((SELECT sum(x) FROM income), 20::bigint, 'each gets its own month');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'second')$$), '(1)', 'the other, too');
SELECT is((SELECT sum(x) FROM second), 3::bigint, 'with its rows');
SELECT is(rows_of($$SELECT table_name, cold_after FROM order_mgmt.partition_policies WHERE owner IS NOT NULL ORDER BY 1$$), '(income,) (second,"1 mon")', 'and its policy');
SELECT order_mgmt.archive_month('2028-01-01', 'second') \g /dev/null

-- In the place of one that has been dropped
DROP TABLE income;
ALTER TABLE second RENAME TO income;
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(rows_of($$SELECT table_name, cold_after FROM order_mgmt.partition_policies WHERE owner IS NOT NULL$$), '(income,"1 mon")', 'the policy of a table that is gone goes');
SELECT is((SELECT string_agg(table_name || ' ' || state, ', ' ORDER BY table_name) FROM order_mgmt.archives), 'income restored, second cold', 'its archives are not mixed with those of another');
SELECT unalike(log(), '%forget table%', 'a table that is there is not forgotten');
ALTER TABLE income RENAME TO second;
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'second')$$), '(1)', 'under its old name it has them again');

-- In another database OIDs are those of other tables: names count
UPDATE order_mgmt.followed_tables SET database_oid = 1, relid = 'order_mgmt.orders'::regclass;
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(rows_of($$SELECT relid::regclass, table_name FROM order_mgmt.followed_tables$$), '(second,second)', 'after a move to another database they are looked up by name');
DROP TABLE second;
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT alike(log(), '%forget table old_test.second there is no table of this name any more', 'one that is dropped is forgotten');
SELECT is((SELECT count(*) FROM order_mgmt.followed_tables), 0::bigint, 'and not followed');

SELECT finish();
ROLLBACK;
