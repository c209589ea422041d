-- Months that go to files and come back, seen from one transaction: what is written, what is still
-- read, and what stands in the way.
BEGIN;
\i helpers.psql
SELECT plan(44);

SET LOCAL order_mgmt.clock = '2020-03-31 23:00+00';
SELECT open_shop('ann', 1000, 'p', 1000), open_shop('bob', 1000, 'q', 1) \g /dev/null
CREATE TEMP TABLE made AS SELECT n, order_mgmt.capture_order(CASE WHEN n % 2 = 0 THEN 'ann' ELSE 'bob' END, lines('p', n, 1.25),
    order_ref => CASE n WHEN 1 THEN ' ' WHEN 2 THEN E'a,"b"\n\r\\.' WHEN 3 THEN '\.' WHEN 4 THEN 'é — 漢字' WHEN 5 THEN 'NULL' END,
    metadata => jsonb_build_object('n', n, 'text', E'"quoted", \\ and \t\n')) AS id FROM generate_series(1, 20) AS n;
INSERT INTO made SELECT 21, order_mgmt.capture_order('ann', lines('q', 5));
SELECT is(order_mgmt.run_pipeline() > 0, true, 'orders of a month are shipped or rejected');
-- This one is cancelled, and noted, in the next month
INSERT INTO made SELECT 22, order_mgmt.capture_order('bob', lines('p', 3));
SET LOCAL order_mgmt.clock = '2020-04-01 01:00+00';
SELECT order_mgmt.cancel_order(id, 'too late') FROM made WHERE n = 22 \g /dev/null
SELECT order_mgmt.add_order_note((SELECT id FROM made WHERE n = 1), 'a note') \g /dev/null

SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2020-03-01')$$), 'OM005', 'a month that has just ended stays');
SET LOCAL order_mgmt.clock = '2020-04-02 01:00+00';
SELECT pg_stat_get_xact_numscans('order_mgmt.orders_2020_03'::regclass) AS scans \gset
SELECT throws_like($$SELECT * FROM order_mgmt.archive_month('2020-03-01')$$, '%have not given back what they held', 'a month with holds of cancelled orders stays');
SELECT is(pg_stat_get_xact_numscans('order_mgmt.orders_2020_03'::regclass), :scans::bigint, 'that it was looked at for this is no use of it');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null

-- What there is
CREATE TEMP TABLE seen AS SELECT n, id, order_mgmt.get_order(id) AS answer, story(id) AS story, order_mgmt.get_order_status(id) AS status FROM made;
CREATE TEMP TABLE orders_seen AS SELECT * FROM order_mgmt.list_orders(until => '2020-04-01', page_size => 1000);
CREATE TEMP TABLE events_seen AS SELECT * FROM order_mgmt.events WHERE at < '2020-04-01';
CREATE FUNCTION content(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SELECT count(*) || %L || md5(string_agg(r::text, %L ORDER BY r::text)) FROM %s AS r', ' ', E'\n', relation) INTO answer;
    RETURN answer;
END
$$;
CREATE TEMP TABLE contents AS SELECT t, content(('order_mgmt.' || t || '_2020_03')::regclass) FROM unnest('{event_log,orders,order_lines}'::text[]) AS t;
CREATE TEMP TABLE shapes AS SELECT t, (SELECT string_agg(pg_get_indexdef(i.indexrelid), E'\n' ORDER BY pg_get_indexdef(i.indexrelid)) FROM pg_index AS i WHERE i.indrelid = ('order_mgmt.' || t || '_2020_03')::regclass) AS indexes,
    (SELECT string_agg(conname || ' ' || pg_get_constraintdef(c.oid), E'\n' ORDER BY conname) FROM pg_constraint AS c WHERE c.conrelid = ('order_mgmt.' || t || '_2020_03')::regclass) AS constraints,
    pg_get_expr(r.relpartbound, r.oid) AS bound, r.relowner::regrole::text AS owner
    FROM unnest('{event_log,orders,order_lines}'::text[]) AS t JOIN pg_class AS r ON r.oid = ('order_mgmt.' || t || '_2020_03')::regclass;

-- A month goes
SELECT is(rows_of($$SELECT relation, rows FROM order_mgmt.archive_month('2020-03-17')$$),
    format('(order_mgmt.event_log,%s) (order_mgmt.orders,22) (order_mgmt.order_lines,22)', (SELECT split_part(content, ' ', 1) FROM contents WHERE t = 'event_log')),
    'archive_month() says what went');
SELECT is(to_regclass('order_mgmt.orders_2020_03'), NULL, 'the partition is gone');
SELECT is((SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2020-04-01'), 0::bigint, 'and its rows with it');
SELECT is(rows_of($$SELECT a.table_name, a.state, a.rows = r.rows FROM order_mgmt.archives AS a JOIN order_mgmt.archive_month('2020-03-01') AS r ON r.file = a.file ORDER BY 1$$),
    '(event_log,cold,t) (order_lines,cold,t) (orders,cold,t)', 'archived again, it says the same');
SELECT is((SELECT string_agg(partition_name || ' ' || lower_bound || ' ' || upper_bound, ', ' ORDER BY 1) FROM order_mgmt.archives WHERE table_name = 'orders'),
    'orders_2020_03 2020-03-01 00:00:00+00 2020-04-01 00:00:00+00', 'the registry knows the partition');
SELECT is((SELECT key || first_key[2:2] || last_key[2:2] FROM order_mgmt.archives WHERE table_name = 'orders'),
    ARRAY['created_at', 'order_id', (SELECT min(id::text) FROM made), (SELECT max(id::text) FROM made)], 'and its keys');

-- And is still read
SELECT is((SELECT count(*) FROM seen WHERE order_mgmt.get_order(id) IS DISTINCT FROM answer), 0::bigint, 'get_order() answers as before');
SELECT is((SELECT count(*) FROM seen WHERE story(id) IS DISTINCT FROM seen.story), 0::bigint, 'so does track_order()');
SELECT is((SELECT story(id) FROM made WHERE n = 22), 'order_captured order_cancelled balance_held stock_held order_released', 'with events of a month that is here');
SELECT is((SELECT story(id) LIKE '%order_shipped order_noted' FROM made WHERE n = 1), true, 'as many as there are');
SELECT is((SELECT count(*) FROM seen WHERE order_mgmt.get_order_status(id) IS DISTINCT FROM status), 0::bigint, 'so does get_order_status()');
SELECT is((SELECT order_mgmt.wait_for_order(id, '1s') FROM made WHERE n = 1), 'shipped', 'and wait_for_order()');
SELECT is(order_mgmt.get_order('0170f000-0000-7000-8000-000000000000'), NULL, 'an order that never was is none');
SELECT set_eq($$SELECT * FROM order_mgmt.archived_orders('2020-03-01')$$, 'SELECT * FROM orders_seen', 'archived_orders() lists all');
SELECT results_eq($$SELECT order_id FROM order_mgmt.archived_orders('2020-03-01')$$, 'SELECT id FROM made WHERE n <= 22 ORDER BY n', 'oldest first');
SELECT set_eq($$SELECT * FROM order_mgmt.archived_orders('2020-03-31', 'bob')$$, $$SELECT * FROM orders_seen WHERE customer_id = 'bob'$$, 'those of a customer');
SELECT results_eq($$SELECT order_id, metadata FROM order_mgmt.archived_orders('2020-03-01', order_id => (SELECT id FROM made WHERE n = 4))$$, 'SELECT order_id, metadata FROM orders_seen WHERE order_id = (SELECT id FROM made WHERE n = 4)', 'or one');
SELECT is_empty($$SELECT * FROM order_mgmt.archived_orders('2020-03-01', 'ann', (SELECT id FROM made WHERE n = 3))$$, 'or none');
SELECT set_eq($$SELECT * FROM order_mgmt.archived_events('2020-03-01')$$, 'SELECT * FROM events_seen', 'archived_events() lists all');
SELECT set_eq($$SELECT * FROM order_mgmt.archived_events('2020-03-01', (SELECT id FROM made WHERE n = 7))$$, 'SELECT * FROM events_seen WHERE order_id = (SELECT id FROM made WHERE n = 7)', 'those of one order');
SELECT invariants_hold('invariants hold without the month');

-- What would change it is refused
SELECT is(error_of(format('SELECT order_mgmt.cancel_order(%L)', (SELECT id FROM made WHERE n = 1))), 'OM005 shipped', 'an archived order cannot be cancelled');
SELECT is((SELECT order_mgmt.cancel_order(id) FROM made WHERE n = 22), 'cancelled', 'unless it is cancelled');
SELECT throws_like(format('SELECT order_mgmt.add_order_note(%L, %L)', (SELECT id FROM made WHERE n = 1), 'x'), 'month 2020-03 has been archived', 'nor be given a note');
SET LOCAL order_mgmt.clock = '2020-03-31 12:00+00';
SELECT throws_like($$SELECT order_mgmt.capture_order('ann', lines('p'))$$, 'month 2020-03 has been archived', 'no order comes into an archived month');
SET LOCAL order_mgmt.clock = '2020-06-02 01:00+00';
SELECT is(error_of($$SELECT * FROM order_mgmt.archived_orders('2020-04-01')$$), 'OM004', 'a month that is here is not in an archive');
SELECT is(error_of($$SELECT * FROM order_mgmt.archived_events('2019-04-01')$$), 'OM004', 'nor is one that never was');
SELECT is(error_of('SELECT * FROM order_mgmt.archive_month(NULL)'), 'OM001 month', 'NULL is no month');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('infinity')$$), 'OM001 month', 'nor is infinity');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2019-01-01')$$), 'OM004', 'what is not there cannot go');
SELECT is(error_of($$SELECT * FROM order_mgmt.archive_month('2020-04-01', 'pg_class')$$), 'OM001 relation', 'nor can a table without partitions');

-- A month comes back
SELECT is((SELECT count(*) FROM order_mgmt.restore_month('2020-03-01')), 3::bigint, 'restore_month() brings three tables back');
SELECT is((SELECT count(*) FROM contents WHERE content(('order_mgmt.' || t || '_2020_03')::regclass) IS DISTINCT FROM content), 0::bigint, 'with the same content');
SELECT is((SELECT count(*) FROM shapes AS s JOIN pg_class AS r ON r.oid = ('order_mgmt.' || t || '_2020_03')::regclass
    WHERE pg_get_expr(r.relpartbound, r.oid) = bound AND r.relowner::regrole::text = owner
    AND (SELECT string_agg(pg_get_indexdef(i.indexrelid), E'\n' ORDER BY pg_get_indexdef(i.indexrelid)) FROM pg_index AS i WHERE i.indrelid = r.oid) = indexes
    AND (SELECT string_agg(conname || ' ' || pg_get_constraintdef(c.oid), E'\n' ORDER BY conname) FROM pg_constraint AS c WHERE c.conrelid = r.oid) = constraints),
    3::bigint, 'indexes, constraints, bounds and owner');
SELECT is((SELECT count(*) FROM seen WHERE order_mgmt.get_order(id) IS DISTINCT FROM answer), 0::bigint, 'and the same answers');
SELECT is(rows_of($$SELECT state, count(*) FROM order_mgmt.archives GROUP BY 1$$), '(restored,3)', 'the registry says so');
SELECT invariants_hold('invariants hold with the month');
SELECT is(rows_of($$SELECT count(*) FROM order_mgmt.restore_month('2020-03-01')$$), '(3)', 'restored again, it stays as it is');
-- Older months go first
SELECT throws_like($$SELECT * FROM order_mgmt.archive_month('2020-04-01')$$, '%older months go first%', 'a month waits for older ones');

-- What drop_after has dropped is over for good
SELECT order_mgmt.archive_month('2020-03-01') \g /dev/null
DELETE FROM order_mgmt.archives WHERE month = '2020-03-01';
SET LOCAL order_mgmt.clock = '2020-03-31 12:00+00';
SELECT throws_like($$SELECT order_mgmt.capture_order('ann', lines('p'))$$, 'month 2020-03 has been archived and dropped', 'no order comes into a month that has been dropped');

SELECT * FROM finish();
ROLLBACK;
