-- What belongs to one partition itself: what a new month has of it, what goes with a month to another
-- tier and back, and what keeps a month where it is.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SET LOCAL order_mgmt.clock = '2028-01-15 12:00:00+00';
SELECT no_plan();

-- Everything that a partition has
CREATE FUNCTION traits(leaf regclass) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', relacl, relrowsecurity, relforcerowsecurity, relreplident, obj_description(oid, 'pg_class')) FROM pg_class WHERE oid = leaf
    UNION ALL SELECT 'option ' || o FROM pg_class AS c, unnest(reloptions) AS o WHERE oid = leaf AND o !~ '^fillfactor'
    UNION ALL SELECT 'toast ' || o FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid, unnest(t.reloptions) AS o WHERE c.oid = leaf
    UNION ALL SELECT concat_ws(' ', attname, attnotnull, attstattarget, attacl, (SELECT string_agg(o, ' ') FROM unnest(attoptions) AS o WHERE o ~ '^n_'), col_description(leaf, attnum),
        (SELECT pg_get_expr(adbin, leaf) FROM pg_attrdef WHERE adrelid = leaf AND adnum = attnum)) FROM pg_attribute WHERE attrelid = leaf AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE conrelid = leaf AND contype <> 'n'
    UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = leaf
    ORDER BY 1
$$;
CREATE FUNCTION indexes(leaf regclass) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text COLLATE "C") FROM pg_index WHERE indrelid = leaf
$$;
CREATE FUNCTION empty_tables() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(conrelid::regclass::text, ' ') FROM pg_constraint WHERE conname = 'om_cold_month'
$$;

-- Indexes that only partitions have are there for hot months
CREATE TABLE seen (at timestamptz NOT NULL, x int NOT NULL, y text, z float8, PRIMARY KEY (at, x)) PARTITION BY RANGE (at);
CREATE INDEX seen_y ON seen (y);
COMMENT ON COLUMN seen.y IS 'of all months';
SELECT order_mgmt.manage_table('seen', 'at', premake => 0, warm_after => '1 month') \g /dev/null
CREATE INDEX ON seen_2028_01 (x) WHERE y <> '';
CREATE UNIQUE INDEX "one, only" ON seen_2028_01 (lower(y), z) WITH (fillfactor = 80);
ALTER TABLE seen_2028_01 ADD CONSTRAINT apart EXCLUDE USING btree (x WITH =);
INSERT INTO seen SELECT '2028-01-01 00:00+00'::timestamptz + n * interval '1 minute', n, n, n FROM generate_series(1, 1000) AS n;
SET LOCAL order_mgmt.clock = '2028-02-15 12:00:00+00';
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(indexes('seen_2028_02'), 'seen_2028_02_lower_z_idx seen_2028_02_pkey seen_2028_02_x_excl seen_2028_02_x_idx seen_2028_02_y_idx', 'a month that is made has those of the youngest');

-- All that belongs to a partition
CREATE ROLE regress_reader;
CREATE FUNCTION fits(x int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT x > 0';
ALTER TABLE seen_2028_01 SET (fillfactor = 60, autovacuum_enabled = off, toast.autovacuum_vacuum_threshold = 77);
ALTER TABLE seen_2028_01 ADD CONSTRAINT "of January" CHECK (test.fits(x) AND z <> 0.1::float8 + 0.2::float8 AND y <> 'a''b\c' AND at > '2027-12-31 01:02:03.000004+00');
ALTER TABLE seen_2028_01 ADD CONSTRAINT "of new rows" CHECK (z <> 77) NOT VALID;
ALTER TABLE seen_2028_01 ALTER COLUMN y SET NOT NULL, ALTER COLUMN y SET DEFAULT 'own''s', ALTER COLUMN x SET STATISTICS 7, ALTER COLUMN x SET (n_distinct = -0.5);
ALTER TABLE seen_2028_01 REPLICA IDENTITY FULL;
ALTER TABLE seen_2028_01 ENABLE ROW LEVEL SECURITY;
ALTER TABLE seen_2028_01 FORCE ROW LEVEL SECURITY;
GRANT SELECT ON seen_2028_01 TO regress_reader WITH GRANT OPTION;
GRANT UPDATE (y) ON seen_2028_01 TO PUBLIC;
COMMENT ON TABLE seen_2028_01 IS 'it''s January';
COMMENT ON COLUMN seen_2028_01.z IS 'z of January';
CREATE TEMP TABLE before AS SELECT traits('seen_2028_01');
DELETE FROM before WHERE traits ~ 'INDEX seen_2028_01_x_idx '; -- not needed for reading
SET LOCAL order_mgmt.clock = '2028-03-01 00:00:00+00';
SELECT is(maintained('seen_2028_01'), 'make warm seen_2028_01', 'the month becomes warm');
SELECT is(indexes('seen_2028_01'), '"one, only" apart seen_2028_01_pkey seen_2028_01_y_idx', 'of its own indexes those stay that keep rows from being alike');
SELECT results_eq($$SELECT traits('seen_2028_01')$$, 'TABLE before', 'and all else that it has');
SELECT is((SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE oid = 'seen_2028_01'::regclass), 'fillfactor=100 autovacuum_enabled=off', 'but for the room in its pages');
SELECT is(error_of($$INSERT INTO seen VALUES ('2028-01-30', 2, 'b', 1)$$), '23P01', 'a constraint that is an index works');
SELECT is(error_of($$INSERT INTO seen VALUES ('2028-01-30', 0, 'b', 1)$$), '23514', 'so does one that is not');

-- To a file and back
CREATE TEMP TABLE kept AS SELECT count(*), md5(string_agg(s::text, ',' ORDER BY x)) FROM seen AS s;
SELECT order_mgmt.archive_month('2028-01-01', 'seen') \g /dev/null
SELECT is(empty_tables(), 'seen_2028_01_cold', 'what the month has stays with an empty table');
SELECT is(error_of($$INSERT INTO seen_2028_01_cold VALUES (now(), 1, 'a', 1)$$), '23514', 'which remains empty');
SELECT is((SELECT count(*) FROM order_mgmt.partitions WHERE partition_name ~ 'cold'), 0::bigint, 'and is no month');
ALTER TABLE seen ALTER COLUMN z SET DEFAULT 5;
ALTER TABLE seen ALTER COLUMN z DROP DEFAULT;
SELECT order_mgmt.restore_month('2028-01-01', 'seen') \g /dev/null
SELECT results_eq($$SELECT traits('seen_2028_01')$$, 'TABLE before', 'it comes back with all that it had');
SELECT results_eq($$SELECT count(*), md5(string_agg(s::text, ',' ORDER BY x)) FROM seen AS s$$, 'TABLE kept', 'and its rows');
SELECT is(empty_tables(), NULL, 'the empty table is gone');

-- What is run for an owner comes from a table of this owner
SELECT order_mgmt.archive_month('2028-01-01', 'seen') \g /dev/null
ALTER TABLE seen_2028_01_cold OWNER TO regress_reader;
SELECT order_mgmt.restore_month('2028-01-01', 'seen') \g /dev/null
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = 'seen_2028_01'::regclass AND conname = 'of January'), 0::bigint, 'the table of another is not believed');
SELECT is((SELECT relowner::regrole::text FROM pg_class WHERE oid = 'seen_2028_01_cold'::regclass), 'regress_reader', 'and is left alone');
DROP TABLE seen_2028_01_cold;

-- A constraint of the table for new rows only is one in a copy, too: old rows stay, and are found
CREATE TABLE doubtful (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE doubtful_2028_01 PARTITION OF doubtful FOR VALUES FROM ('2028-01-01') TO ('2028-02-01');
INSERT INTO doubtful VALUES ('2028-01-01', -1), ('2028-01-02', 1);
ALTER TABLE doubtful ADD CONSTRAINT positive CHECK (x > 0) NOT VALID, ADD CONSTRAINT "not 7" CHECK (x <> 7) NOT VALID;
SELECT order_mgmt.manage_table('doubtful', 'at', premake => 0, warm_after => '1 month') \g /dev/null
SELECT is(maintained('doubtful_2028_01'), 'make warm doubtful_2028_01', 'a month with a row that a constraint for new rows would refuse becomes warm');
SELECT is((SELECT count(*) FROM doubtful WHERE x < 0), 1::bigint, 'the row is found');
SELECT is((SELECT string_agg(conname || ' ' || convalidated, ', ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'doubtful_2028_01'::regclass AND contype = 'c'), 'not 7 false, positive false', 'nobody believes the constraint');
SELECT is(error_of($$INSERT INTO doubtful VALUES ('2028-01-03', 0)$$), '23514', 'which holds for new rows');
SELECT order_mgmt.archive_month('2028-01-01', 'doubtful') \g /dev/null
SELECT is(error_of($$SELECT * FROM order_mgmt.restore_month('2028-01-01', 'doubtful')$$), 'no error', 'it comes back from a file as well');
SELECT is((SELECT count(*) FROM doubtful WHERE x < 0), 1::bigint, 'with the row');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = 'doubtful_2028_01'::regclass AND contype = 'c' AND NOT convalidated), 2::bigint, 'and the constraints');
DROP TABLE doubtful;

-- A month that has what the others have leaves nothing behind; the end of life takes what was left
CREATE TABLE plain (at date NOT NULL, x int) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('plain', 'at', premake => 1, cold_after => '1 month', drop_after => '3 months') \g /dev/null
GRANT SELECT ON plain_2028_03, plain_2028_04 TO regress_reader;
SET LOCAL order_mgmt.clock = '2028-05-01 00:00:00+00';
SELECT is(maintained('plain_'), 'archive plain_2028_03', 'a month like the others is archived');
SELECT is(empty_tables(), NULL, 'and leaves no table');
SELECT order_mgmt.restore_month('2028-03-01', 'plain') \g /dev/null
SELECT ok(has_table_privilege('regress_reader', 'plain_2028_03', 'SELECT'), 'it has what the youngest has');
COMMENT ON TABLE plain_2028_04 IS 'April';
SET LOCAL order_mgmt.clock = '2028-06-01 00:00:00+00';
SELECT maintained('plain_') \g /dev/null
SELECT is(empty_tables(), 'plain_2028_04_cold', 'another keeps its comment');
SET LOCAL order_mgmt.clock = '2028-08-01 00:00:00+00';
SELECT maintained('plain_') \g /dev/null
SELECT is(rows_of($$SELECT state, month FROM order_mgmt.archives WHERE table_name = 'plain' AND month = '2028-04-01'$$), NULL, 'until its end');
SELECT is(empty_tables(), NULL, 'with which that goes, too');

-- Names are free to choose
CREATE TABLE a234567890123456789012345678901234567890123456789012345 (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE a2345678901234567890123456789012345678901234567890123456_older PARTITION OF a234567890123456789012345678901234567890123456789012345 FOR VALUES FROM ('2028-01-01') TO ('2028-02-01');
COMMENT ON TABLE a2345678901234567890123456789012345678901234567890123456_older IS 'long';
SELECT order_mgmt.archive_month('2028-01-01', 'a234567890123456789012345678901234567890123456789012345') \g /dev/null
SELECT order_mgmt.restore_month('2028-01-01', 'a234567890123456789012345678901234567890123456789012345') \g /dev/null
SELECT is(obj_description('a2345678901234567890123456789012345678901234567890123456_older'::regclass, 'pg_class'), 'long', 'also where a name is as long as can be');

-- What keeps a month where it is
CREATE TABLE tied (at date NOT NULL, x int NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE tied_1 PARTITION OF tied FOR VALUES FROM ('2028-01-01') TO ('2028-02-01');
CREATE TABLE others (x int PRIMARY KEY);
CREATE FUNCTION refusal(ties text, unties text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text := 'no error';
BEGIN
    EXECUTE ties;
    BEGIN
        PERFORM order_mgmt.archive_month('2028-01-01', 'tied');
    EXCEPTION WHEN SQLSTATE 'OM005' THEN
        answer := SQLERRM;
    END;
    EXECUTE unties;
    RETURN answer;
END
$$;
SELECT is(refusal(ties, unties), 'partition "tied_1" has ' || what, what) FROM (VALUES
    ('ALTER TABLE tied_1 ADD CONSTRAINT fk FOREIGN KEY (x) REFERENCES others', 'ALTER TABLE tied_1 DROP CONSTRAINT fk', 'a foreign key of its own'),
    ('CREATE UNIQUE INDEX one ON tied_1 (x); CREATE TABLE points (x int REFERENCES tied_1 (x))', 'DROP TABLE points; DROP INDEX one', 'a foreign key that points at it'),
    ('ALTER TABLE tied ADD UNIQUE (at, x); CREATE TABLE points (at date, x int, FOREIGN KEY (at, x) REFERENCES tied (at, x))', 'DROP TABLE points; ALTER TABLE tied DROP CONSTRAINT tied_at_x_key', 'a foreign key that points at it through its table'),
    ('CREATE VIEW january AS SELECT x FROM tied_1', 'DROP VIEW january', 'a view that reads it'),
    ('CREATE SEQUENCE own OWNED BY tied_1.x', 'DROP SEQUENCE own', 'a sequence of its own'),
    ('CREATE UNIQUE INDEX one ON tied_1 (x); ALTER TABLE tied_1 REPLICA IDENTITY USING INDEX one', 'ALTER TABLE tied_1 REPLICA IDENTITY DEFAULT; DROP INDEX one', 'an index as its replica identity'),
    ('SET LOCAL client_min_messages = error; CREATE PUBLICATION regress_publication FOR TABLE tied_1', 'DROP PUBLICATION regress_publication', 'a place in a publication'),
    ('CREATE RULE own AS ON INSERT TO tied_1 DO NOTHING', 'DROP RULE own ON tied_1', 'rules of its own')) AS t(ties, unties, what);
-- What the table itself has is no obstacle
ALTER TABLE tied ADD CONSTRAINT fk FOREIGN KEY (x) REFERENCES others;
SELECT is(refusal('SELECT 1', 'SELECT 1'), 'no error', 'a foreign key of the table goes with all of its months');
SELECT is(rows_of($$SELECT rows FROM order_mgmt.restore_month('2028-01-01', 'tied')$$), '(0)', 'and comes back');

-- Months of one table that cannot be moved leave those of others their turn
CREATE TABLE before_others (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE then_others (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
DO $$
BEGIN
    FOR n IN 1 .. 5 LOOP
        EXECUTE format('CREATE TABLE before_%s PARTITION OF before_others FOR VALUES FROM (%L) TO (%L)', n, '2027-01-01'::date + n * interval '1 month', '2027-02-01'::date + n * interval '1 month');
        EXECUTE format('CREATE TRIGGER own BEFORE INSERT ON before_%s FOR EACH ROW EXECUTE FUNCTION nothing()', n);
    END LOOP;
END
$$;
CREATE TABLE then_1 PARTITION OF then_others FOR VALUES FROM ('2027-01-01') TO ('2027-02-01');
SELECT order_mgmt.manage_table(t, 'at', premake => 0, cold_after => '1 month') FROM unnest('{before_others,then_others}'::regclass[]) AS t \g /dev/null
SELECT is(maintained('then_1'), 'archive then_1', 'months that cannot be moved keep no others');
SELECT is((SELECT string_agg(relation, ' ' ORDER BY relation) FROM order_mgmt.maintenance_log WHERE relation ~ 'before_' AND error_code = 'OM005'), 'test.before_1 test.before_2 test.before_3',
    'though they are tried first');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
