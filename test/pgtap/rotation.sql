-- Ticks and cursors are kept in tables that take turns: a table is emptied only when nobody needs a row of it.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 1000, 'p', 1000) \g /dev/null
CREATE FUNCTION capture_and_run() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id uuid := order_mgmt.capture_order('ann', test.lines('p'));
BEGIN
    PERFORM order_mgmt.run_pipeline();
    RETURN test.story(id);
END
$$;
CREATE FUNCTION maintain() RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(action || ' ' || object, ', ' ORDER BY object), 'nothing') FROM order_mgmt.run_maintenance()
    WHERE action <> 'make partition'
$$;
CREATE FUNCTION slot(family text) RETURNS int LANGUAGE sql AS $$SELECT slot FROM order_mgmt.rotations WHERE name = family$$;
-- Appends rows to the current table of cursors until it is due: what a million batches do.
CREATE FUNCTION grow_cursors(consumer_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current regclass := 'order_mgmt.cursor_log_' || slot('cursor_log');
BEGIN
    WHILE pg_relation_size(current) < 2048 * 8192 LOOP
        EXECUTE format('INSERT INTO %s SELECT c.consumer, c.seq + n, c.tick_id, c.base, c.target, c.lxid, c.event_id,
            c.processed, c.seq + n, c.at FROM (SELECT * FROM order_mgmt.cursor_log_0 UNION ALL
            SELECT * FROM order_mgmt.cursor_log_1) AS c, generate_series(1, 20000) AS n
            WHERE c.consumer = $1 ORDER BY c.seq DESC, n LIMIT 20000', current) USING consumer_name;
    END LOOP;
END
$$;

CREATE TABLE story AS SELECT 'order_captured balance_held stock_held order_confirmed order_shipped'::text AS whole;
SELECT is(capture_and_run(), whole, 'before') FROM story;
SELECT is(maintain(), 'nothing', 'nothing is due');
SELECT slot('cursor_log') AS first \gset
SELECT grow_cursors('shipper') \g /dev/null
SELECT is(maintain(), 'rotate cursor_log', 'a table that has grown gives way to the next');
SELECT isnt(slot('cursor_log'), :first, 'which is another');
SELECT is(capture_and_run(), whole, 'orders go on across it') FROM story;
SELECT is(order_mgmt.run_pipeline(), 0::bigint, 'each handled once');

-- One consumer stands still: its position is in the table that would be emptied next.
SELECT order_mgmt.pause_consumer('stock_checker') \g /dev/null
SELECT grow_cursors('shipper') \g /dev/null
CREATE TABLE positions AS SELECT consumer, max(seq) AS seq FROM (SELECT * FROM order_mgmt.cursor_log_0 UNION ALL
    SELECT * FROM order_mgmt.cursor_log_1) AS c GROUP BY 1;
DELETE FROM order_mgmt.cursor_log_0 WHERE slot('cursor_log') = 0 AND consumer = 'stock_checker';
DELETE FROM order_mgmt.cursor_log_1 WHERE slot('cursor_log') = 1 AND consumer = 'stock_checker';
SELECT is(maintain(), 'nothing', 'a table with the position of a consumer is not emptied');
SELECT order_mgmt.resume_consumer('stock_checker') \g /dev/null
SELECT capture_and_run() \g /dev/null
SELECT is(maintain(), 'rotate cursor_log', 'until that has moved on');
SELECT is(slot('cursor_log'), :first, 'back to the first one');
SELECT is((SELECT count(DISTINCT consumer) FROM (SELECT consumer FROM order_mgmt.cursor_log_0 UNION ALL
    SELECT consumer FROM order_mgmt.cursor_log_1) AS c), 4::bigint, 'every consumer still has a position');
SELECT is(capture_and_run(), whole, 'orders go on') FROM story;

-- A verdict that waits for its partner holds the table in which the updater would begin again.
SELECT order_mgmt.pause_consumer('stock_checker') \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS half \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT grow_cursors('shipper') \g /dev/null
SELECT maintain() \g /dev/null
SELECT grow_cursors('shipper') \g /dev/null
SELECT maintain() \g /dev/null
SELECT order_mgmt.resume_consumer('stock_checker') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'half'), 'shipped', 'an order that waited for a verdict across it ships');

SELECT is(pending(), '0 0 0 0', 'nothing is left to do');
SELECT finish();
ROLLBACK;
