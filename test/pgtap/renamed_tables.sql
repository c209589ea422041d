-- Tables of users that get another name, or whose schema does: policies and archives stay until their owner moves them.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SET LOCAL order_mgmt.clock = '2028-01-15 12:00:00+00';
SELECT no_plan();

CREATE FUNCTION tiers(of text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', partition_name, tier), ', ' ORDER BY partition_name) FROM order_mgmt.partitions WHERE table_name = of
$$;
CREATE FUNCTION lost() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(table_name || ': ' || waits_for, ', ' ORDER BY table_name) FROM order_mgmt.partitions WHERE month IS NULL
$$;
CREATE FUNCTION log() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', action, relation, error), ', ' ORDER BY maintenance_id) FROM order_mgmt.maintenance_log
     WHERE action IN ('rename table', 'find table', 'forget table')
$$;
CREATE FUNCTION maintain() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance()
$$;
CREATE FUNCTION policies() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', table_schema || '.' || table_name, cold_after), ', ' ORDER BY table_schema, table_name)
      FROM order_mgmt.partition_policies WHERE owner IS NOT NULL
$$;
CREATE FUNCTION archived() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', schema_name || '.' || table_name, month, state), ', ' ORDER BY schema_name, table_name, month) FROM order_mgmt.archives
$$;
-- SQLSTATE and message
CREATE FUNCTION refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN concat_ws(' ', sqlstate, sqlerrm);
END
$$;
-- A table with a row in January, which is archived
CREATE PROCEDURE archive_one(name text, x int) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (at date NOT NULL, x int) PARTITION BY RANGE (at)', name);
    EXECUTE format('CREATE TABLE %s_jan PARTITION OF %s FOR VALUES FROM (''2028-01-01'') TO (''2028-02-01'')', name, name);
    EXECUTE format('INSERT INTO %s VALUES (''2028-01-01'', %s)', name, x);
    PERFORM order_mgmt.archive_month('2028-01-01', name);
END
$$;

CREATE TABLE sales (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('sales', 'at', premake => 1, warm_after => '10 days', cold_after => '1 month') \g /dev/null
INSERT INTO sales VALUES ('2028-01-01', 1), ('2028-02-01', 2);
SET LOCAL order_mgmt.clock = '2028-03-12 00:00:00+00';
SELECT order_mgmt.run_maintenance() FROM generate_series(1, 4) \g /dev/null
SELECT is(tiers('test.sales'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'a table with months of all kinds');
SELECT is(lost(), NULL, 'and none that cannot be found');

-- Renamed: nothing moves by itself, and it is said
ALTER TABLE sales RENAME TO turnover;
SELECT is(lost(), 'test.sales: the table is called test.turnover now: rename_managed_table() moves policy and archives there', 'a table that has been renamed is shown');
SELECT is(maintain(), NULL, 'and left alone');
SELECT is(log(), 'find table test.sales the table is called test.turnover now: rename_managed_table() moves policy and archives there', 'the log says so');
SELECT is(maintain(), NULL, 'and again');
SELECT is(log(), 'find table test.sales the table is called test.turnover now: rename_managed_table() moves policy and archives there', 'but once');
SELECT is(policies(), 'test.sales 1 mon', 'its policy is not forgotten');
SELECT is(order_mgmt.rename_managed_table('sales', 'turnover'), 1::bigint, 'its owner moves policy and archives');
SELECT is(tiers('test.turnover'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'its months are known by the new name');
SELECT is(lost(), NULL, 'nothing is left behind');
SELECT alike(log(), '%, rename table test.turnover it was test.sales', 'the log says so');
SELECT is(policies(), 'test.turnover 1 mon', 'its policy is the same');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'turnover')$$), '(1)', 'a month comes back to it');
SELECT is((SELECT sum(x) FROM turnover), 3::bigint, 'as it was');
SELECT order_mgmt.archive_month('2028-01-01', 'turnover') \g /dev/null

-- Refused
SELECT is(refusal($$SELECT order_mgmt.rename_managed_table('sales', 'turnover')$$), 'OM004 no policy and no archive stands under the name test.sales', 'the second time nothing is there');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('turnover', 'turnover')$$), 'OM001 old_name', 'the name that it has');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('a.b.c', 'turnover')$$), 'OM001 old_name', 'a name in another database');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('order_mgmt.orders', 'turnover')$$), 'OM001 old_name', 'archives of orders');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('turnover', 'order_mgmt.orders')$$), 'OM001 new_name', 'to orders');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('sales', 'sales_2028_03')$$), 'OM001 new_name', 'to a partition');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('sales', 4294967295::regclass)$$), 'OM001 new_name', 'to no table');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table(NULL, 'turnover')$$), 'OM001 old_name', 'no name');
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('sales', NULL)$$), 'OM001 new_name', 'no table');

-- A new policy under the new name is what its owner has said last
ALTER TABLE turnover RENAME TO income;
SELECT ok(order_mgmt.manage_table('income', 'at', premake => 0, cold_after => '1 year'), 'given into care under its new name');
SELECT maintain() \g /dev/null
SELECT is(policies(), 'test.income 1 year, test.turnover 1 mon', 'neither policy overrules the other');
SELECT is(order_mgmt.rename_managed_table('turnover', 'income'), 1::bigint, 'archives come after it');
SELECT is(policies(), 'test.income 1 year', 'and the new policy stays');

-- Its schema renamed, with a table of the old name in its place
ALTER SCHEMA test RENAME TO old_test;
CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET LOCAL search_path = old_test, public;
SELECT maintain() \g /dev/null
SELECT alike(lost(), 'test.income: the table is called old_test.income now%', 'a schema is renamed');
SELECT is(order_mgmt.rename_managed_table('test.income', 'income'), 1::bigint, 'what is in it is moved by its full name');
SELECT is(tiers('old_test.income'), 'sales_2028_01 cold, sales_2028_02 warm, sales_2028_03 hot, sales_2028_04 hot', 'warm months stay warm');
CREATE TABLE test.income (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT maintain() \g /dev/null
SELECT ok(NOT order_mgmt.unmanage_table('test.income'), 'what is in its place is in nobody''s care');

-- A chain: what is at the end was dropped and left archives
CALL archive_one('a', 1);
CALL archive_one('b', 2);
CALL archive_one('c', 3);
DROP TABLE c;
ALTER TABLE b RENAME TO c;
ALTER TABLE a RENAME TO b;
SELECT maintain() \g /dev/null
CALL archive_one('d', 4);
SELECT is((SELECT count(*) FROM order_mgmt.archives WHERE table_name IN ('a', 'b', 'c', 'd') AND state = 'cold'), 4::bigint, 'names in a chain keep nobody from archiving');
SELECT is(lost(), 'old_test.a: the table is called old_test.b now: rename_managed_table() moves policy and archives there', 'the one that is nowhere is shown');
SELECT is(refusal($$SELECT order_mgmt.rename_managed_table('b', 'c')$$), 'OM005 there are archives of month 2028-01 under both names, old_test.b and old_test.c', 'archives are not mixed');
SELECT is(refusal($$SELECT order_mgmt.rename_managed_table('a', 'b')$$), 'OM005 there are archives of month 2028-01 under both names, old_test.a and old_test.b', 'nor are these');
SELECT is((SELECT count(*) FROM order_mgmt.archives WHERE table_name IN ('a', 'b', 'c')), 3::bigint, 'nothing has moved');
CREATE TABLE dropped (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT is(order_mgmt.rename_managed_table('c', 'dropped'), 1::bigint, 'those of the table that is gone go first');
SELECT is(order_mgmt.rename_managed_table('b', 'c'), 1::bigint, 'then the next');
SELECT is(order_mgmt.rename_managed_table('a', 'b'), 1::bigint, 'and the last');
SELECT order_mgmt.restore_month('2028-01-01', t) FROM unnest('{b,c,dropped}'::regclass[]) AS t \g /dev/null
SELECT is(rows_of('SELECT (SELECT x FROM b), (SELECT x FROM c), (SELECT x FROM dropped)'), '(1,2,3)', 'each has its own month');

-- Whoever may make tables cannot carry off what belongs to others
CREATE ROLE victim;
CREATE ROLE thief;
GRANT order_mgmt_operator TO victim, thief;
CREATE SCHEMA shared;
GRANT ALL ON SCHEMA shared TO victim, thief;
GRANT USAGE ON SCHEMA old_test TO PUBLIC;
SET LOCAL ROLE victim;
CALL archive_one('shared.t', 5);
DROP TABLE shared.t;
SET LOCAL ROLE thief;
CREATE TABLE shared.t (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.restore_month('2028-01-01', 'shared.t')$$), 'OM005', 'a table of the same name gets nothing');
ALTER TABLE shared.t RENAME TO z;
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(rows_of($$SELECT table_name FROM order_mgmt.archives WHERE schema_name = 'shared'$$), '(t)', 'nor by another name');
SELECT is(refusal($$SELECT order_mgmt.rename_managed_table('shared.t', 'shared.z')$$), '42501 what stands under the name shared.t does not belong to the owner of table shared.z', 'nor when it asks');
CREATE TABLE shared.t (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE shared.t_feb PARTITION OF shared.t FOR VALUES FROM ('2028-02-01') TO ('2028-03-01');
SELECT order_mgmt.archive_month('2028-02-01', 'shared.t') \g /dev/null
SELECT order_mgmt.manage_table('shared.t', 'at', premake => 0) \g /dev/null
SET LOCAL ROLE victim;
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('shared.t', 'shared.z')$$), '42501', 'a table of another');
CREATE TABLE shared.mine (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT is(order_mgmt.rename_managed_table('shared.t', 'shared.mine'), 1::bigint, 'the owner gets what is his');
SELECT is(rows_of($$SELECT table_name, month FROM order_mgmt.archives WHERE schema_name = 'shared' ORDER BY 1$$), '(mine,2028-01-01) (t,2028-02-01)', 'and no more');
SELECT is(rows_of($$SELECT table_name FROM order_mgmt.partition_policies WHERE table_schema = 'shared'$$), '(t)', 'nor a policy of another');
SELECT order_mgmt.restore_month('2028-01-01', 'shared.mine') \g /dev/null
SELECT is((SELECT x FROM shared.mine), 5, 'his month comes back to it');
RESET ROLE;
CREATE ROLE admin;
GRANT USAGE ON SCHEMA shared TO admin;
GRANT order_mgmt_admin TO admin;
SET LOCAL ROLE admin;
SELECT is(error_of($$SELECT order_mgmt.rename_managed_table('shared.t', 'shared.mine')$$), '42501', 'nor does an admin give one what is another''s');
SELECT is(order_mgmt.rename_managed_table('shared.t', 'shared.z'), 1::bigint, 'but may do it for the owner');
RESET ROLE;
SELECT is(rows_of($$SELECT table_name FROM order_mgmt.partition_policies WHERE table_schema = 'shared'$$), '(z)', 'with the policy');
-- One with a policy has been renamed, and another has its name
SET LOCAL ROLE thief;
ALTER TABLE shared.z RENAME TO y;
SET LOCAL ROLE victim;
CREATE TABLE shared.z (at date NOT NULL, x int) PARTITION BY RANGE (at);
RESET ROLE;
SELECT alike(lost(), '%shared.z: the table is called shared.y now%', 'whose name another has taken is shown, too');

-- In another database OIDs are those of other tables: names count
UPDATE order_mgmt.known_tables SET database_oid = 1, relid = 'order_mgmt.orders'::regclass;
SELECT maintain() \g /dev/null
SELECT is(rows_of($$SELECT relid::regclass FROM order_mgmt.known_tables WHERE database_oid <> 1$$), '(income)', 'after a move to another database managed tables are looked up by name');
DROP TABLE income;
SELECT maintain() \g /dev/null
SELECT alike(log(), '%forget table old_test.income there is no table of this name any more%', 'one that is dropped is forgotten');
SELECT alike(lost(), '%old_test.income: there is no table of this name any more%', 'but its archives are not');
SELECT is((SELECT count(*) FROM order_mgmt.partition_policies WHERE table_name = 'income'), 0::bigint, 'only its policy');
SELECT is((SELECT count(*) FROM order_mgmt.known_tables WHERE table_name = 'turnover'), 0::bigint, 'names that nothing stands under are not remembered');

SELECT finish();
ROLLBACK;
