-- What is changed on a table counts from the next call of a session that has used it before.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
CREATE FUNCTION capture(customer text DEFAULT 'ann', ref text DEFAULT NULL, key text DEFAULT NULL) RETURNS uuid
LANGUAGE sql AS $$ SELECT order_mgmt.capture_order(customer, lines('p'), key, ref) $$;
CREATE FUNCTION capture_two(ref1 text, ref2 text) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM order_mgmt.capture_orders(jsonb_build_array(
        jsonb_build_object('customer_id', 'ann', 'order_ref', ref1, 'lines', lines('p')),
        jsonb_build_object('customer_id', 'ann', 'order_ref', ref2, 'lines', lines('p') || lines('p'))))
$$;
CREATE FUNCTION leaf(name text) RETURNS text LANGUAGE sql AS $$
    SELECT format('order_mgmt.%s_%s', name, to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))
$$;
CREATE FUNCTION change(name text, how text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s %s', leaf(name), how);
    RETURN how;
END
$$;
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE sql AS $$ SELECT test.error_of(statement) $$;

SELECT isnt(capture(key => 'before'), NULL, 'the session has captured before');
SELECT is(capture_two('a', 'b'), 2::bigint, 'one by one and in a batch');

-- Constraints
SELECT change('orders', $$ADD CONSTRAINT not_eve CHECK (customer_id <> 'eve')$$) \g /dev/null
SELECT is(attempt($$SELECT capture('eve')$$), '23514', 'a new constraint of a partition holds');
SELECT isnt(capture(), NULL, 'for what it forbids, and after an error');
SELECT change('orders', 'DROP CONSTRAINT not_eve') \g /dev/null
SELECT isnt(capture('eve'), NULL, 'until it is dropped');

CREATE FUNCTION is_welcome(customer text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT customer <> 'ann' OR true $$;
GRANT USAGE ON SCHEMA test TO order_mgmt_owner;
SELECT change('orders', 'ADD CONSTRAINT welcome CHECK (test.is_welcome(customer_id))') \g /dev/null
SELECT isnt(capture(), NULL, 'a constraint may call a function');
CREATE OR REPLACE FUNCTION is_welcome(customer text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT customer <> 'ann' $$;
SELECT is(attempt($$SELECT capture()$$), '23514', 'and follows it when the function is replaced');
SELECT change('orders', 'DROP CONSTRAINT welcome') \g /dev/null

SELECT change('order_lines', 'ADD CONSTRAINT small CHECK (quantity < 0) NOT VALID') \g /dev/null
SELECT is(attempt($$SELECT capture_two('c', 'd')$$), '23514', 'constraints hold for rows that are written together');
SELECT change('order_lines', 'DROP CONSTRAINT small') \g /dev/null
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_ref IN ('c', 'd')), 0::bigint, 'none of which is there');

SELECT change('event_log', 'ADD CONSTRAINT silent CHECK (event_id < 0) NOT VALID') \g /dev/null
SELECT is(attempt($$SELECT capture()$$), '23514', 'those of the log hold');
SELECT change('event_log', 'DROP CONSTRAINT silent') \g /dev/null
ALTER TABLE order_mgmt.idempotency_keys_0 ADD CONSTRAINT none CHECK (order_id IS NULL) NOT VALID;
SELECT is(attempt($$SELECT capture(key => 'k')$$), '23514', 'and those of the keys');
ALTER TABLE order_mgmt.idempotency_keys_0 DROP CONSTRAINT none;

-- Columns
ALTER TABLE order_mgmt.order_lines ADD COLUMN twice integer GENERATED ALWAYS AS (quantity * 2) STORED;
ALTER TABLE order_mgmt.orders ADD COLUMN remark text DEFAULT 'none';
SELECT capture_two('e', 'f') \g /dev/null
SELECT is((SELECT array_agg(l.twice) FROM order_mgmt.order_lines AS l JOIN order_mgmt.orders USING (created_at, order_id)
            WHERE order_ref IN ('e', 'f')), '{2,2,2}', 'a generated column is computed');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_ref IN ('e', 'f') AND remark IS NULL), 2::bigint, 'others are null');
ALTER TABLE order_mgmt.order_lines DROP COLUMN twice;
ALTER TABLE order_mgmt.orders DROP COLUMN remark;
SELECT is(capture_two('g', 'h'), 2::bigint, 'and dropped again');

-- Indexes
SELECT format('CREATE UNIQUE INDEX once ON %s (order_ref)', leaf('orders')) \gexec
SELECT is(capture_two('i', 'j'), 2::bigint, 'a new index takes rows');
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE order_ref IN ('i', 'j')), 2::bigint, 'that are found by it');
SELECT is(attempt($$SELECT capture(ref => 'i')$$), '23505', 'and holds');
SELECT is(attempt($$SELECT capture_two('k', 'k')$$), '23505', 'also among rows that are written together');
DROP INDEX order_mgmt.once;
SELECT isnt(capture(ref => 'i'), NULL, 'until it is dropped');
SET LOCAL enable_seqscan = on;

-- Tables
SELECT isnt(capture(key => 'kept'), NULL, 'a key');
SELECT format('ALTER TABLE %s SET (fillfactor = 50)', leaf('orders')) \gexec
TRUNCATE order_mgmt.idempotency_keys_0;
SELECT isnt(capture(key => 'kept'), NULL, 'that was removed can be used again');
SELECT is((SELECT count(*) FROM order_mgmt.idempotency_keys_0), 1::bigint, 'in the emptied table');

CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
SELECT format('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION nothing()', leaf('orders')) \gexec
SELECT is(attempt($$SELECT capture()$$), 'OM005', 'a trigger is refused');
SELECT format('DROP TRIGGER t ON %s', leaf('orders')) \gexec
SELECT isnt(capture(), NULL, 'until it is dropped');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
