-- Tables of users whose months are looked after: which can be, what is made, with whose rights.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SET LOCAL order_mgmt.clock = '2028-02-29 23:30:00+00';
SELECT no_plan();

CREATE FUNCTION months(parent regclass) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(right(inhrelid::regclass::text, 7), ' ' ORDER BY inhrelid::regclass::text COLLATE "C")
    FROM pg_inherits WHERE inhparent = parent
$$;
CREATE FUNCTION bounds(leaf regclass) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(pg_get_expr(relpartbound, oid), '^FOR VALUES FROM \(''(.*)''\) TO \(''(.*)''\)$', '\1 \2') FROM pg_class WHERE oid = leaf
$$;
-- Done by maintenance, without what it does for our own tables
CREATE FUNCTION maintained() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance() WHERE object !~ '^(event_log|orders|order_lines)_'
$$;
CREATE FUNCTION refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', error_of(statement), SQLERRM, CASE WHEN message = '' THEN 'but no hint' END);
END
$$;

-- Columns of each type
CREATE TABLE by_zoned (at timestamptz, x int) PARTITION BY RANGE (at);
CREATE TABLE by_plain (at timestamp, x int) PARTITION BY RANGE (at);
CREATE TABLE by_day (at date, x int GENERATED ALWAYS AS IDENTITY, y int GENERATED ALWAYS AS (extract(year FROM at)) STORED,
    z text DEFAULT 'z' CHECK (z <> ''), PRIMARY KEY (at, x)) PARTITION BY RANGE (at);
SELECT ok(order_mgmt.manage_table('by_zoned', 'at'), 'a table is given into care');
SELECT is(months('by_zoned'), '2028_02 2028_03 2028_04 2028_05', 'which makes its months at once');
SELECT ok(NOT order_mgmt.manage_table('by_zoned', 'at'), 'the second time changes nothing');
SELECT ok(order_mgmt.manage_table('by_zoned', 'at', premake => 1), 'unless the policy is another');
SELECT ok(order_mgmt.manage_table('by_plain', 'at', premake => 0), 'without months ahead');
SELECT is(months('by_plain'), '2028_02', 'there is this one');
SELECT ok(order_mgmt.manage_table('by_day', 'at', premake => NULL), 'premake NULL');
SELECT is(months('by_day'), '2028_02 2028_03 2028_04 2028_05', 'is what the setting says');
SELECT is(bounds('by_zoned_2028_02'), '2028-02-01 00:00:00+00 2028-03-01 00:00:00+00', 'bounds of a timestamptz');
SELECT is(bounds('by_plain_2028_02'), '2028-02-01 00:00:00 2028-03-01 00:00:00', 'of a timestamp');
SELECT is(bounds('by_day_2028_02'), '2028-02-01 2028-03-01', 'of a date');
INSERT INTO by_day (at) VALUES ('2028-02-29'), ('2028-03-01');
SELECT is(rows_of('SELECT tableoid::regclass, at, x, y, z FROM by_day ORDER BY x'), '(by_day_2028_02,2028-02-29,1,2028,z) (by_day_2028_03,2028-03-01,2,2028,z)',
    'rows have their defaults, generated values and identities');

-- A session in another zone, with other formats, makes the same months, also over the end of a year
SET LOCAL timezone = 'America/St_Johns';
SET LOCAL datestyle = 'SQL, DMY';
SELECT order_mgmt.manage_table('by_zoned', 'at', premake => 12), order_mgmt.manage_table('by_day', 'at', premake => 12) \g /dev/null
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SELECT is(months('by_zoned'), '2028_02 2028_03 2028_04 2028_05 2028_06 2028_07 2028_08 2028_09 2028_10 2028_11 2028_12 2029_01 2029_02',
    'it is still February in UTC');
SELECT is(bounds('by_zoned_2028_12'), '2028-12-01 00:00:00+00 2029-01-01 00:00:00+00', 'the end of a year');
SELECT is(bounds('by_zoned_2028_03'), '2028-03-01 00:00:00+00 2028-04-01 00:00:00+00', 'a month in which clocks are put forward');
SELECT is(bounds('by_day_2029_02'), '2029-02-01 2029-03-01', 'a February of 28 days');

-- Missed runs, and a clock that jumps
SET LOCAL order_mgmt.clock = '2028-03-01 00:00:00+00';
SELECT is(maintained(), 'make partition test.by_day_2029_03, make partition test.by_plain_2028_03, make partition test.by_zoned_2029_03', 'a month later each gets one more');
SET LOCAL order_mgmt.clock = '2028-07-31 23:59:59.999999+00';
SELECT order_mgmt.manage_table('by_plain', 'at', premake => 1) \g /dev/null
SELECT is(months('by_plain'), '2028_02 2028_03 2028_04 2028_05 2028_06 2028_07 2028_08', 'what was missed is made good');
SELECT order_mgmt.run_maintenance() \g /dev/null
SET LOCAL order_mgmt.clock = '2099-01-01 00:00:00+00';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(right(months('by_plain'), 23), '2028_08 2099_01 2099_02', 'a clock that jumps by decades makes the months of its time only');
SET LOCAL order_mgmt.clock = '2028-07-31 23:59:59.999999+00';
SELECT is(maintained(), NULL, 'and back, there is nothing to do');

-- Region by month
CREATE TABLE sales (region text, at timestamptz, x int, PRIMARY KEY (region, at, x)) PARTITION BY LIST (region);
CREATE TABLE sales_eu PARTITION OF sales FOR VALUES IN ('de', 'fr') PARTITION BY RANGE (at);
CREATE TABLE sales_us PARTITION OF sales FOR VALUES IN ('us') PARTITION BY RANGE (at);
SELECT ok(order_mgmt.manage_table('sales', 'at', premake => 1), 'a table by list of tables by month');
SELECT is(months('sales_eu') || ', ' || months('sales_us'), '2028_07 2028_08, 2028_07 2028_08', 'each gets its months');
CREATE TABLE sales_jp PARTITION OF sales FOR VALUES IN ('jp') PARTITION BY RANGE (at);
SELECT is(maintained(), 'make partition test.sales_jp_2028_07, make partition test.sales_jp_2028_08', 'also one that comes later');
INSERT INTO sales VALUES ('jp', '2028-08-31 23:59:59+00', 1);
SELECT is((SELECT tableoid::regclass::text FROM sales), 'sales_jp_2028_08', 'where rows find their place');
SELECT is((SELECT count(*) FROM order_mgmt.partitions WHERE table_name LIKE 'test.sales%'), 6::bigint, 'the view knows them');

-- Storage, rights and row security are those of the months before
CREATE ROLE regress_owner LOGIN;
CREATE ROLE regress_reader;
GRANT CREATE, USAGE ON SCHEMA test TO regress_owner;
GRANT order_mgmt_operator TO regress_owner;
SET LOCAL ROLE regress_owner;
CREATE TABLE own (at date, x int, y int) PARTITION BY RANGE (at);
CREATE INDEX ON own (x);
CREATE TABLE own_2028_07 PARTITION OF own FOR VALUES FROM ('2028-07-01') TO ('2028-08-01') WITH (fillfactor = 70, autovacuum_enabled = off);
GRANT SELECT, DELETE ON own_2028_07 TO regress_reader WITH GRANT OPTION;
GRANT UPDATE (y) ON own_2028_07 TO PUBLIC;
ALTER TABLE own_2028_07 ENABLE ROW LEVEL SECURITY;
ALTER TABLE own_2028_07 ALTER COLUMN y SET STATISTICS 7;
SELECT ok(order_mgmt.manage_table('own', 'at', premake => 1), 'an owner who is an operator');
RESET ROLE;
SELECT is((SELECT relowner::regrole || ' ' || array_to_string(reloptions, ',') || ' ' || relacl::text || ' ' || relrowsecurity FROM pg_class WHERE oid = 'own_2028_08'::regclass),
    (SELECT relowner::regrole || ' ' || array_to_string(reloptions, ',') || ' ' || relacl::text || ' ' || relrowsecurity FROM pg_class WHERE oid = 'own_2028_07'::regclass),
    'owner, storage parameters, grants and row security');
SELECT is((SELECT attacl::text || ' ' || attstattarget FROM pg_attribute WHERE attrelid = 'own_2028_08'::regclass AND attname = 'y'), '{=w/regress_owner} 7', 'and those of columns');
SELECT is((SELECT count(*) FROM pg_index WHERE indrelid = 'own_2028_08'::regclass), 1::bigint, 'indexes');

-- Maintenance by somebody else works with the rights of the owner
CREATE TABLE seen (who name, superuser text);
GRANT INSERT ON seen TO PUBLIC;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE FUNCTION spy() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.seen VALUES (current_user, (SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user));
END
$$;
CREATE EVENT TRIGGER spy ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'GRANT') EXECUTE FUNCTION spy();
SET LOCAL order_mgmt.clock = '2028-08-01 00:00:00+00';
SELECT is(maintained(), 'make partition test.by_day_2029_08, make partition test.by_plain_2028_09, make partition test.by_zoned_2029_08, '
    'make partition test.own_2028_09, make partition test.sales_eu_2028_09, make partition test.sales_jp_2028_09, make partition test.sales_us_2028_09',
    'maintenance by a superuser');
DROP EVENT TRIGGER spy;
SELECT cmp_ok((SELECT count(*) FROM seen WHERE who = 'regress_owner'), '>', 0::bigint, 'did the work on the table as its owner');
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = 'own_2028_09'::regclass), 'regress_owner', 'whose the month is');

-- Names that are too long, of which what fits is the same
CREATE TABLE a234567890123456789012345678901234567890123456789012345678901_1 (at date) PARTITION BY RANGE (at);
CREATE TABLE a234567890123456789012345678901234567890123456789012345678901_2 (at date) PARTITION BY RANGE (at);
CREATE TABLE "ääääääääääääääääääääääääääääää" (at date) PARTITION BY RANGE (at);
CREATE TABLE "odd ""name; DROP TABLE seen" (at date) PARTITION BY RANGE (at);
SELECT ok(order_mgmt.manage_table(t, 'at', premake => 0), 'a table with the name ' || t) FROM unnest(ARRAY[
    'a234567890123456789012345678901234567890123456789012345678901_1', 'a234567890123456789012345678901234567890123456789012345678901_2',
    '"ääääääääääääääääääääääääääääää"', '"odd ""name; DROP TABLE seen"']::regclass[]) AS t;
SELECT is((SELECT count(DISTINCT relname) FROM pg_class WHERE relname ~ '^a2345.*_[0-9a-f]{8}_2028_08$'), 2::bigint, 'names are cut, and stay apart');
SELECT is((SELECT max(octet_length(relname)) FROM pg_class WHERE relname LIKE 'ää%_2028_08'), 63, 'between characters');
SELECT is(months('"odd ""name; DROP TABLE seen"'), '028_08"', 'any name will do');

-- What cannot be managed
CREATE TABLE plain (at date);
CREATE TABLE hashed (at date) PARTITION BY HASH (at);
CREATE TABLE two_columns (at date, x int) PARTITION BY RANGE (at, x);
CREATE TABLE by_expression (at date) PARTITION BY RANGE ((at + 1));
CREATE TABLE by_number (at int) PARTITION BY RANGE (at);
CREATE TABLE with_default (at date) PARTITION BY RANGE (at);
CREATE TABLE with_default_rest PARTITION OF with_default DEFAULT;
CREATE TABLE by_year (at date) PARTITION BY RANGE (at);
CREATE TABLE by_year_2027 PARTITION OF by_year FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
CREATE TABLE of_old (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE of_old_past PARTITION OF of_old FOR VALUES FROM (MINVALUE) TO ('2028-01-01 00:00+00');
CREATE TABLE local_months (at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE local_months_08 PARTITION OF local_months FOR VALUES FROM ('2028-08-01 00:00+02') TO ('2028-09-01 00:00+02');
CREATE TABLE by_month_and_list (at date, r text) PARTITION BY RANGE (at);
CREATE TABLE by_month_and_list_08 PARTITION OF by_month_and_list FOR VALUES FROM ('2028-08-01') TO ('2028-09-01') PARTITION BY LIST (r);
CREATE TABLE of_plain (r text, at date) PARTITION BY LIST (r);
CREATE TABLE of_plain_x PARTITION OF of_plain FOR VALUES IN ('x');
SELECT is(refusal(format('SELECT order_mgmt.manage_table(%L, %L)', t, c)), format('OM001 %s %s', path, message), message)
FROM (VALUES ('plain', 'at', 'relation', 'table test.plain is not partitioned'),
    ('hashed', 'at', 'relation', 'table test.hashed is partitioned by hash'),
    ('two_columns', 'at', 'time_column', 'table test.two_columns is not partitioned by column "at" alone'),
    ('by_expression', 'at', 'time_column', 'table test.by_expression is not partitioned by column "at" alone'),
    ('by_number', 'at', 'time_column', 'column "at" of table test.by_number is of type integer'),
    ('by_zoned', 'x', 'time_column', 'table test.by_zoned is not partitioned by column "x" alone'),
    ('with_default', 'at', 'relation', 'table test.with_default has a DEFAULT partition'),
    ('by_year', 'at', 'relation', 'partition by_year_2027 of table test.by_year does not hold a month'),
    ('of_old', 'at', 'relation', 'partition of_old_past of table test.of_old does not hold a month'),
    ('local_months', 'at', 'relation', 'partition local_months_08 of table test.local_months does not hold a month'),
    ('by_month_and_list', 'at', 'relation', 'partition by_month_and_list_08 of table test.by_month_and_list is no plain table'),
    ('of_plain', 'at', 'relation', 'table test.of_plain_x is not partitioned')) AS v(t, c, path, message);
CREATE TEMPORARY TABLE passing (at date) PARTITION BY RANGE (at);
SELECT is(error_of($$SELECT order_mgmt.manage_table('passing', 'at')$$), 'OM001 relation', 'a temporary table');
SELECT is(error_of($$SELECT order_mgmt.manage_table('sales_eu', 'at')$$), 'OM001 relation', 'a part of a table');
SELECT is(error_of(format('SELECT order_mgmt.manage_table(%L, %L, %s)', 'by_zoned', 'at', arguments)), 'OM001 ' || path, arguments)
FROM (VALUES ('premake => -1', 'premake'), ('premake => 121', 'premake'), ('premake => 9223372036854775807', 'premake'),
    ($$warm_after => '0'$$, 'warm_after'), ($$cold_after => '-1 day'$$, 'cold_after'), ($$drop_after => '1001 years'$$, 'drop_after'),
    ($$warm_after => '2 months', cold_after => '2 months'$$, 'cold_after'), ($$cold_after => '2 years', drop_after => '1 year'$$, 'drop_after'),
    ($$warm_after => '2 years', drop_after => '1 year'$$, 'drop_after'), ('stay_hot_reads => 0', 'stay_hot_reads'),
    ('restored_for => NULL', 'restored_for'), ($$lock_timeout => '-1 s'$$, 'lock_timeout')) AS v(arguments, path);
SELECT is(error_of('SELECT order_mgmt.manage_table(NULL, ''at'')'), 'OM001 relation', 'no table');
SELECT is(error_of('SELECT order_mgmt.manage_table(''by_zoned'', NULL)'), 'OM001 time_column', 'no column');
SELECT is(error_of('SELECT order_mgmt.manage_table(4294967295::regclass, ''at'')'), 'OM001 relation', 'a table that is none');
SELECT is(error_of($$SELECT order_mgmt.manage_table('by_zoned', 'at', warm_tablespace => 'nowhere')$$), '42704', 'a tablespace that is none');
SELECT is(rows_of($$SELECT premake FROM order_mgmt.partition_policies WHERE table_name = 'by_zoned'$$), '(12)', 'none of which has changed anything');

-- Rights
SET LOCAL ROLE regress_owner;
SELECT is(error_of($$SELECT order_mgmt.manage_table('by_zoned', 'at')$$), '42501', 'a table of somebody else');
SELECT is(error_of($$SELECT order_mgmt.unmanage_table('by_zoned')$$), '42501', '... cannot be taken out either');
SELECT is(error_of($$SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '1 year', drop_after => '5 years')$$), '42501', 'deleting orders takes an administrator');
SELECT is(error_of($$SELECT order_mgmt.manage_table('own', 'at', warm_tablespace => 'pg_global')$$), '42501', 'a tablespace where the owner may not create');
SELECT ok(order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '3 months'), 'an operator sets the policy of orders');
RESET ROLE;

-- Our own tables share one policy
SELECT is(rows_of($$SELECT table_name, premake, warm_after FROM order_mgmt.partition_policies WHERE owner IS NULL ORDER BY 1$$),
    '(event_log,3,"3 mons") (order_lines,3,"3 mons") (orders,3,"3 mons")', 'for all three of them');
SELECT is(error_of($$SELECT order_mgmt.manage_table('order_mgmt.event_log', 'created_at')$$), 'OM001 time_column', 'by their column');
SELECT is(error_of($$SELECT order_mgmt.manage_table('order_mgmt.event_log', 'at', drop_after => '1 year')$$), 'OM001 drop_after', 'what is to be deleted is archived first');
SELECT is(error_of($$SELECT order_mgmt.manage_table('order_mgmt.accounts', 'created_at')$$), 'OM001 relation', 'no other table of ours');
SELECT is(error_of($$SELECT order_mgmt.unmanage_table('order_mgmt.orders')$$), 'OM001 relation', 'which are always looked after');
SELECT ok(order_mgmt.manage_table('order_mgmt.order_lines', 'created_at', premake => NULL), 'any of them stands for all');
SELECT is(rows_of($$SELECT DISTINCT premake, warm_after FROM order_mgmt.partition_policies WHERE owner IS NULL$$), '(,)', 'and the policy is set as a whole');

-- Out of care
SELECT ok(order_mgmt.unmanage_table('sales'), 'a table is taken out');
SELECT ok(NOT order_mgmt.unmanage_table('sales'), 'the second time it is out');
SELECT is((SELECT count(*) FROM sales), 1::bigint, 'it stays as it is');

-- A table that is changed, dropped or given away later stops nothing else
SELECT ok(order_mgmt.unmanage_table(t), t || ' is taken out') FROM unnest('{by_day,by_plain,a234567890123456789012345678901234567890123456789012345678901_1,
    a234567890123456789012345678901234567890123456789012345678901_2,"ääääääääääääääääääääääääääääää"}'::regclass[]) AS t;
CREATE TABLE by_zoned_rest PARTITION OF by_zoned DEFAULT;
ALTER TABLE own OWNER TO CURRENT_USER;
DROP TABLE "odd ""name; DROP TABLE seen";
CREATE TABLE late (at date) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('late', 'at', premake => 0) \g /dev/null
SET LOCAL order_mgmt.clock = '2029-05-05 00:00:00+00';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(rows_of($$SELECT relation, error FROM order_mgmt.maintenance_log WHERE action = 'forget table'$$), '("test.""odd """"name; DROP TABLE seen""","there is no table of this name any more")', 'one that is dropped is forgotten');
SELECT is(rows_of($$SELECT error_code, relation FROM order_mgmt.maintenance_log WHERE error IS NOT NULL AND action = 'make partition' ORDER BY error_code, relation COLLATE "C"$$),
    '(OM001,test.by_zoned) (OM005,test.own)', 'the log says which two stay as they are');
SELECT is(right(months('late'), 7), '2029_05', 'the other gets its months');
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.maintenance_log WHERE error IS NOT NULL AND action = 'make partition'), 2::bigint, 'it is not said again and again');
SELECT is((SELECT count(*) FROM order_mgmt.partitions WHERE table_name = 'test.late'), 10::bigint, 'nor do they stop the view');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
