-- Months are made ahead, by maintenance and at need, and the tables stay plain tables of their owner.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- From this one on: setup() may have been called in the last.
CREATE FUNCTION months(parent regclass) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(right(inhrelid::regclass::text, 7), ' ' ORDER BY inhrelid::regclass::text COLLATE "C")
    FROM pg_inherits WHERE inhparent = parent AND right(inhrelid::regclass::text, 7) >= to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')
$$;
CREATE FUNCTION months_from(first timestamptz, ahead int) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(to_char(m, 'YYYY_MM'), ' ' ORDER BY m)
    FROM generate_series(date_trunc('month', first AT TIME ZONE 'UTC'),
                         date_trunc('month', first AT TIME ZONE 'UTC') + make_interval(months => ahead), '1 month') AS m
$$;
-- As if the months ahead had not been made.
CREATE FUNCTION drop_months(after int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid FROM pg_inherits
        WHERE inhparent IN ('order_mgmt.orders'::regclass, 'order_mgmt.order_lines'::regclass, 'order_mgmt.event_log'::regclass)
          AND right(inhrelid::regclass::text, 7) > coalesce(right(months_from(now(), after), 7), '') LOOP
        EXECUTE format('DROP TABLE %s', leaf);
    END LOOP;
END
$$;

SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(months('order_mgmt.orders'), months_from(now(), 3), 'orders: this month and three more');
SELECT is(months('order_mgmt.order_lines'), months_from(now(), 3), 'order_lines: the same');
SELECT is(months('order_mgmt.event_log'), months_from(now(), 3), 'event_log: the same');
SELECT is_empty('SELECT * FROM order_mgmt.run_maintenance()', 'when nothing is due nothing is done');

SET LOCAL order_mgmt.premake_months = 5;
SELECT is((SELECT count(*) FROM order_mgmt.run_maintenance() WHERE action = 'make partition'), 6::bigint,
    'two months more are six partitions');
SELECT is(months('order_mgmt.orders'), months_from(now(), 5), 'they are there');
SELECT is_empty($$SELECT * FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'order_mgmt.orders'::regclass)
    AND relowner <> 'order_mgmt_owner'::regrole$$, 'and belong to the owner of the data');
SELECT is(rows_of($$SELECT DISTINCT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'orders_'
    || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')$$),
    format('("FOR VALUES FROM (''%s'') TO (''%s'')")', date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',
           (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'), 'bounds are UTC');
SELECT is((SELECT count(*) FROM pg_constraint WHERE conrelid = ('order_mgmt.orders_' || right(months('order_mgmt.orders'), 7))::regclass
    AND contype = 'c'), (SELECT count(*) FROM pg_constraint WHERE conrelid = 'order_mgmt.orders'::regclass AND contype = 'c'),
    'a partition has the constraints of its table');

-- A clock in another zone makes the same months
SET LOCAL TimeZone = 'Pacific/Kiritimati';
SET LOCAL DateStyle = 'SQL, DMY';
SET LOCAL order_mgmt.premake_months = 7;
SELECT is((SELECT count(*) FROM order_mgmt.run_maintenance() WHERE action = 'make partition'), 6::bigint, 'under another TimeZone');
RESET TimeZone;
RESET DateStyle;
SELECT is(months('order_mgmt.orders'), months_from(now(), 7), 'the same months');
SELECT is_empty($$SELECT * FROM pg_class AS c JOIN pg_inherits ON inhrelid = c.oid WHERE inhparent = 'order_mgmt.orders'::regclass
    AND pg_get_expr(relpartbound, c.oid) NOT LIKE 'FOR VALUES FROM (''____-__-01 00:00:00+00'') TO (''____-__-01 00:00:00+00'')'$$,
    'with the same bounds');

-- A capture makes the month that it misses
SELECT drop_months(-1) \g /dev/null
SELECT is(months('order_mgmt.orders'), NULL::text, 'no month is left');
SELECT open_shop('ann', 10, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS id \gset
SELECT is(months('order_mgmt.orders'), months_from(now(), 0), 'a capture makes its own');
SELECT is(order_mgmt.get_order_status(:'id'), 'captured', 'and is there');
SELECT is((SELECT count(*) FROM order_mgmt.run_maintenance() WHERE action = 'make partition'), 21::bigint, 'maintenance makes the rest');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
