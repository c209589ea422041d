-- Months of tables of one's own go to files and come back: by region and month, without a primary key, with
-- values of many types, and with columns that have come and gone.
BEGIN;
\i helpers.psql
SELECT plan(57);
SET LOCAL order_mgmt.clock = '2024-06-02';
SET LOCAL datestyle = 'ISO';
SET LOCAL timezone = 'Asia/Kathmandu';
SET LOCAL bytea_output = 'escape';
SET LOCAL intervalstyle = 'iso_8601';
SET LOCAL extra_float_digits = 0;

CREATE FUNCTION content(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT count(*) || %L || md5(string_agg(r::text, %L ORDER BY r::text)) FROM %s AS r', ' ', E'\n', relation) INTO answer;
    RETURN answer;
END
$$;

-- One table by region and month
CREATE TYPE mood AS ENUM ('sad', 'so, so', 'glad');
CREATE TABLE sales (region text NOT NULL, gone text, day date NOT NULL, n bigint NOT NULL, ratio double precision, mood mood, raw bytea, span interval,
    words text[], twice bigint GENERATED ALWAYS AS (n * 2) STORED, at timestamptz, PRIMARY KEY (region, day, n)) PARTITION BY LIST (region);
CREATE INDEX sales_mood ON sales (mood) WHERE mood IS NOT NULL;
CREATE TABLE "sales EU" PARTITION OF sales FOR VALUES IN ('eu', 'e"u') PARTITION BY RANGE (day);
CREATE TABLE sales_us PARTITION OF sales FOR VALUES IN ('us') PARTITION BY RANGE (day);
CREATE TABLE "eu/2024 01" PARTITION OF "sales EU" FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE eu_2024_02 PARTITION OF "sales EU" FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE us_2024_01 PARTITION OF sales_us FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
ALTER TABLE sales DROP COLUMN gone;
INSERT INTO sales (region, day, n, ratio, mood, raw, span, words, at) SELECT (ARRAY['eu', 'e"u', 'us'])[1 + n % 3], '2024-01-01'::date + n % 31, n, CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' WHEN 2 THEN 0.1::float8 + 0.2::float8 WHEN 3 THEN 1e-300 END,
    (enum_range(NULL::mood))[1 + n % 4], CASE WHEN n % 2 = 0 THEN decode(md5(n::text), 'hex') ELSE '' END, n * interval '1 month 1.5 seconds', ARRAY['a,b', '"', NULL, '', E'\n'], '2024-03-31 01:59:59.999999+00'::timestamptz + n * interval '1 hour'
    FROM generate_series(1, 300) AS n;
INSERT INTO sales (region, day, n, at) SELECT 'us', '2024-01-31', 400 + n, a::timestamptz FROM unnest('{-infinity,infinity,0044-03-15 12:00+00 BC,0001-01-01 00:00+00,
    0001-12-31 23:59:59.000001+00 BC,9999-12-31 23:59:59.999999+00,10000-01-01 00:00+00,1999-12-31 23:59:59.5+00,2000-01-01 00:00+00,1969-12-31 23:59:59.100+00}'::text[]) WITH ORDINALITY AS t(a, n);
INSERT INTO sales (region, day, n) VALUES ('eu', '2024-02-29', 1);
ANALYZE sales;
CREATE TEMP TABLE times AS SELECT n, at FROM sales WHERE n > 400;
SET LOCAL datestyle = 'German';

SELECT is(rows_of($$SELECT relation, rows FROM order_mgmt.archive_month('2024-01-31', 'sales')$$), '("""sales EU""",200) (sales_us,110)', 'a month of all regions goes');
SELECT is((SELECT count(*) FROM sales), 1::bigint, 'and only this month');
SELECT is((SELECT count(*) FROM order_mgmt.archives WHERE file ~ '/test\.sales%20EU/2024-01\.1\.csv\.zst$'), 1::bigint, 'files have names that are safe');
SELECT is(rows_of($$SELECT count(*) FROM order_mgmt.archive_month('2024-01-01', 'sales')$$), '(2)', 'again, it says the same');
ALTER TABLE sales DROP COLUMN span;
ALTER TABLE sales ADD COLUMN later text NOT NULL DEFAULT 'now';
ALTER TABLE sales ADD COLUMN last text;
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-01-01', 'sales')$$), 'OM005', 'values have no place in a table without their column');
ALTER TABLE sales ADD COLUMN span interval;
SELECT is(rows_of($$SELECT relation, rows FROM order_mgmt.restore_month('2024-01-01', 'sales')$$), '("""sales EU""",200) (sales_us,110)', 'it comes back');
SELECT is((SELECT count(*) FROM sales), 311::bigint, 'with all rows');
SELECT is((SELECT string_agg(DISTINCT concat_ws(' ', later, last), ',') FROM sales), 'now', 'new columns have their defaults');
SELECT is((SELECT md5(string_agg((region, day, n, ratio, mood, raw, words, twice, at)::text, E'\n' ORDER BY n, region)) FROM sales WHERE n = twice / 2), (SELECT md5(string_agg((region, day, n, ratio, mood, raw, words, twice, at)::text, E'\n' ORDER BY n, region)) FROM sales), 'generated columns as they were');
SELECT is((SELECT count(*) FROM sales JOIN times USING (n, at)), 10::bigint, 'times of every kind, too');
SELECT is((SELECT count(*) FROM sales WHERE ratio = 0.1::float8 + 0.2::float8 AND words = ARRAY['a,b', '"', NULL, '', E'\n']), 60::bigint, 'values come back to the last bit');
SELECT is((SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid WHERE i.indrelid = '"eu/2024 01"'::regclass), 'eu/2024 01_mood_idx, eu/2024 01_pkey', 'indexes have their usual names');
SELECT is((SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '"eu/2024 01"'::regclass), 'FOR VALUES FROM (''01.01.2024'') TO (''01.02.2024'')', 'and bounds the same');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conname ~ 'moving'), 0::bigint, 'nothing of the move is left');
SELECT lives_ok($$INSERT INTO sales (region, day, n) VALUES ('us', '2024-01-05', 999)$$, 'rows can be added');

-- The same content, where nothing has changed in between
CREATE TEMP TABLE kept2 AS SELECT content('sales') AS whole;
SELECT order_mgmt.archive_month('2024-01-01', 'sales') \g /dev/null
SELECT order_mgmt.restore_month('2024-01-01', 'sales') \g /dev/null
SELECT is(content('sales'), (SELECT whole FROM kept2), 'archived and restored, the content is the same');

-- Without a primary key: by time
CREATE TABLE readings (at timestamp NOT NULL, value numeric) PARTITION BY RANGE (at);
CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE readings_2 PARTITION OF readings DEFAULT;
INSERT INTO readings SELECT '2024-02-29 23:59:59.999999'::timestamp - n * interval '1 minute', nullif(n, 7) / 3.0 FROM generate_series(0, 999) AS n;
CREATE TEMP TABLE kept3 AS SELECT content('readings') AS whole;
SELECT is(rows_of($$SELECT relation, rows FROM order_mgmt.archive_month('2024-02-01', 'readings')$$), '(readings,1000)', 'a table without a primary key goes');
SELECT is(rows_of($$SELECT key, first_key, first_at, last_at FROM order_mgmt.archives WHERE table_name = 'readings'$$), '({at},"{""2024-02-29 07:20:59.999999""}","2024-02-29 07:20:59.999999","2024-02-29 23:59:59.999999")', 'by its time');
SELECT order_mgmt.restore_month('2024-02-01', 'readings') \g /dev/null
SELECT is(content('readings'), (SELECT whole FROM kept3), 'and comes back');

-- An empty month
CREATE TABLE empty (at timestamptz NOT NULL PRIMARY KEY) PARTITION BY RANGE (at);
CREATE TABLE empty_1 PARTITION OF empty FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.archive_month('2024-02-01', 'empty')$$), '(0)', 'an empty month goes');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2024-02-01', 'empty')$$), '(0)', 'and comes back');
SELECT isnt(to_regclass('empty_1'), NULL, 'as an empty table');

-- What is refused
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('294277-01-01', 'empty')$$), 'OM001 month', 'a month later than all times');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('5874897-12-31', 'empty')$$), 'OM001 month', 'much later');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('294276-12-31', 'empty')$$), 'OM004', 'the last of all months is not there');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2024-05-01', 'empty')$$), 'OM004', 'a month that is not there');
CREATE TABLE empty_2 PARTITION OF empty FOR VALUES FROM ('2024-06-01 00:00+00') TO ('2024-07-01 00:00+00');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2024-06-01', 'empty')$$), 'OM005', 'a month that is not over');
CREATE TABLE by_number (n int) PARTITION BY RANGE (n);
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2024-05-01', 'by_number')$$), 'OM001 relation', 'a table that is not partitioned by time');
GRANT USAGE ON SCHEMA test TO order_mgmt_operator;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA test TO order_mgmt_operator;
SET LOCAL ROLE order_mgmt_operator;
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2024-02-01', 'empty')$$), '42501', 'a table of somebody else');
SELECT is(error_of($$SELECT * FROM order_mgmt.restore_month('2024-02-01', 'empty')$$), '42501', 'also on its way back');
RESET ROLE;

-- What its owner has written runs with the owner's rights, whoever restores the table
GRANT CREATE ON SCHEMA test TO order_mgmt_operator;
CREATE FUNCTION seen_by() RETURNS text LANGUAGE sql AS 'SELECT current_user::text';
CREATE DOMAIN owned AS int CHECK (VALUE < 0 OR test.seen_by() = 'order_mgmt_operator');
SET LOCAL ROLE order_mgmt_operator;
CREATE TABLE owned_months (at timestamptz NOT NULL, n owned) PARTITION BY RANGE (at);
CREATE TABLE owned_months_1 PARTITION OF owned_months FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');
INSERT INTO owned_months VALUES ('2024-02-02', 1);
RESET ROLE;
SELECT order_mgmt.archive_month('2024-02-01', 'owned_months') \g /dev/null
ALTER TABLE owned_months ADD COLUMN who text DEFAULT test.seen_by();
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'owned_months')$$), 'no error', 'types of a table are used as by its owner');
SELECT is(rows_of($$SELECT n, who FROM owned_months$$), '(1,order_mgmt_operator)', 'so are defaults');

-- A generated column that has come since
SELECT order_mgmt.archive_month('2024-02-01', 'owned_months') \g /dev/null
ALTER TABLE owned_months ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) STORED;
SELECT order_mgmt.restore_month('2024-02-01', 'owned_months') \g /dev/null
SELECT is(rows_of($$SELECT n, who, twice FROM owned_months$$), '(1,order_mgmt_operator,2)', 'a generated column that has come since is worked out');

-- What only the archive has is not written over
SELECT order_mgmt.archive_month('2024-02-01', 'owned_months') \g /dev/null
CREATE TABLE again PARTITION OF owned_months FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');
ALTER TABLE again OWNER TO order_mgmt_operator;
INSERT INTO owned_months VALUES ('2024-02-03', -3);
SELECT is(error_of($$SELECT order_mgmt.archive_month('2024-02-01', 'owned_months')$$), 'OM005', 'a month that is in an archive is not archived again');
SELECT is(rows_of($$SELECT state, rows FROM order_mgmt.archives WHERE table_name = 'owned_months'$$), '(cold,1)', 'its archive stays');
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'owned_months')$$), 'OM005', 'nor does it come back beside another partition');

-- A table of the same name, of somebody else
DROP TABLE owned_months;
CREATE TABLE owned_months (at timestamptz NOT NULL, n int, who text, twice int) PARTITION BY RANGE (at);
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'owned_months')$$), 'no error', 'a superuser may have the rows of others');
SELECT order_mgmt.archive_month('2024-02-01', 'owned_months') \g /dev/null
ALTER TABLE owned_months OWNER TO order_mgmt_operator;
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'owned_months')$$), 'OM005', 'others do not get them with the name of the table');

-- A table that has changed since
CREATE TABLE changed (at timestamptz NOT NULL, n int, word text) PARTITION BY RANGE (at);
CREATE TABLE changed_1 PARTITION OF changed FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');
INSERT INTO changed VALUES ('2024-02-02', 7), ('2024-02-03', NULL);
SELECT order_mgmt.archive_month('2024-02-01', 'changed') \g /dev/null
ALTER TABLE changed RENAME COLUMN n TO number;
SELECT throws_like($$SELECT order_mgmt.restore_month('2024-02-01', 'changed')$$, '%no column "n" any more%', 'a column of another name is not left empty');
ALTER TABLE changed RENAME COLUMN number TO n;
ALTER TABLE changed ALTER COLUMN n SET NOT NULL;
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'changed')$$), '23502', 'NOT NULL holds for what comes back');
ALTER TABLE changed ALTER COLUMN n DROP NOT NULL;
ALTER TABLE changed ADD CONSTRAINT small CHECK (n < 7);
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'changed')$$), '23514', 'so do constraints');
ALTER TABLE changed DROP CONSTRAINT small;
SELECT is(error_of($$SELECT order_mgmt.restore_month('2024-02-01', 'changed')$$), 'no error', 'without them it comes back');
SELECT is((SELECT count(*) FROM changed), 2::bigint, 'as a whole');

-- What belongs to the partition itself
CREATE TABLE changed_2 PARTITION OF changed FOR VALUES FROM ('2024-03-01 00:00+00') TO ('2024-04-01 00:00+00');
GRANT SELECT ON changed_1, changed_2 TO order_mgmt_operator;
ALTER TABLE changed_1 ENABLE ROW LEVEL SECURITY;
ALTER TABLE changed_2 ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON changed_1 USING (false);
SELECT throws_like($$SELECT order_mgmt.archive_month('2024-02-01', 'changed')$$, '%has policies of its own', 'a policy of a partition''s own is not lost');
DROP POLICY none ON changed_1;
SELECT order_mgmt.archive_month('2024-02-01', 'changed') \g /dev/null
SELECT order_mgmt.restore_month('2024-02-01', 'changed') \g /dev/null
SELECT is(has_table_privilege('order_mgmt_operator', 'changed_1', 'SELECT'), true, 'grants are as those of the youngest partition');
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'changed_1'::regclass), true, 'so is row security');

-- Names of files lead nowhere but below the directory
CREATE TABLE led_astray (at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE led_astray_1 PARTITION OF led_astray FOR VALUES FROM ('2024-02-01 00:00+00') TO ('2024-03-01 00:00+00');
SELECT order_mgmt.archive_month('2024-02-01', 'led_astray') \g /dev/null
CREATE TEMP TABLE right_file AS SELECT file FROM order_mgmt.archives WHERE table_name = 'led_astray';
CREATE FUNCTION with_file(name text, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE order_mgmt.archives SET file = name WHERE table_name = 'led_astray';
    RETURN error_of(statement);
END
$$;
SELECT is(with_file(name, $$SELECT order_mgmt.restore_month('2024-02-01', 'led_astray')$$), 'XX001', name || ' is refused') FROM right_file, unnest(ARRAY[
    '/etc/passwd', '../' || file, replace(file, '/test', '/../test'), replace(file, '/test', '/./test'), replace(file, '/test', '//test'), '', '..', file || '/', '.hidden']) AS name;
SELECT is(with_file(file, $$SELECT order_mgmt.restore_month('2024-02-01', 'led_astray')$$), 'no error', 'the right name is not') FROM right_file;
-- Nor is anything removed elsewhere when the month is archived again
SELECT is(with_file(split_part(file, '/', 1) || '/../' || file, $$SELECT order_mgmt.archive_month('2024-02-01', 'led_astray')$$), 'XX001', 'an earlier file is not removed elsewhere') FROM right_file;

SELECT * FROM finish();
ROLLBACK;
