-- Months begin and end in UTC, whatever the session's zone: with a clock that is set, at the ends of days, months and years.
BEGIN;
\ir helpers.psql
SELECT no_plan();
SELECT open_shop('ann', 1000000, 'p', 1000000) \g /dev/null

-- The setting
SELECT is(error_of(format('SET order_mgmt.clock = %L', value)), '22023', value || ' is no time for the clock')
FROM unnest('{now,today,infinity,2028-02-30,noon,1969-12-31 23:59:59+00,9999-01-01 00:00+00,2028-01-01 25:00,x}'::text[]) AS value;
SET LOCAL order_mgmt.clock = '2028-02-29 12:00+02';
SELECT is(order_mgmt.uuid_time(order_mgmt.capture_order('ann', lines('p'))), '2028-02-29 10:00+00', 'an order is dated by the clock');
SET LOCAL order_mgmt.clock = '';
SELECT cmp_ok(order_mgmt.uuid_time(order_mgmt.capture_order('ann', lines('p'))), '>', clock_timestamp() - interval '1 min',
    'the empty word is the clock of the server');
GRANT USAGE ON SCHEMA test TO order_mgmt_admin;
SET LOCAL ROLE order_mgmt_admin;
SELECT is(error_of($$SET order_mgmt.clock = '2028-01-01'$$), '42501', 'nobody but superusers sets it');
RESET ROLE;

-- Boundaries
CREATE TABLE boundary (at timestamptz, what text);
SET LOCAL timezone = 'UTC';
INSERT INTO boundary VALUES
    ('2027-02-28 23:59:59.999', 'the end of a February'), ('2027-03-01 00:00', 'the first of March'),
    ('2027-12-31 23:59:59.999', 'the end of a year'), ('2028-01-01 00:00', 'a new year'),
    ('2028-02-28 23:59:59.999', 'the 28th of a leap year'), ('2028-02-29 00:00', 'the 29th begins'),
    ('2028-02-29 23:59:59.999', 'the 29th ends'), ('2028-03-01 00:00', 'March of a leap year'),
    ('2028-03-26 00:59:59.999', 'before summer time in Europe'), ('2028-03-26 01:00', 'summer time in Europe'),
    ('2028-10-29 00:30', '2:30 in Berlin, for the first time'), ('2028-10-29 01:30', '2:30 in Berlin, again'),
    ('2028-10-31 23:59:59.999', 'the end of October'), ('2028-11-01 00:00', 'November'),
    ('2028-11-05 05:30', '1:30 in New York, for the first time'), ('2028-11-05 06:30', '1:30 in New York, again'),
    ('2100-02-28 23:59:59.999', 'a year that is no leap year'), ('2100-03-01 00:00', 'its March');
CREATE TABLE captured (order_id uuid, at timestamptz, what text, zone text);
CREATE FUNCTION capture_at(moment timestamptz, what text, zone text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('order_mgmt.clock', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS"+00"'), true), set_config('timezone', zone, true);
    INSERT INTO captured VALUES (order_mgmt.capture_order('ann', lines('p')), moment, what, zone);
    PERFORM order_mgmt.run_pipeline();
END
$$;
SELECT capture_at(at, what, zone) FROM boundary, unnest('{UTC,America/New_York,Europe/Berlin,Asia/Kolkata,Pacific/Kiritimati,Pacific/Niue,Australia/Lord_Howe}'::text[]) AS zone
ORDER BY random() \g /dev/null
SET LOCAL timezone = 'UTC';
CREATE FUNCTION month_of(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT to_char(at AT TIME ZONE 'UTC', '_YYYY_MM') $$;
SELECT is_empty($$SELECT c.*, o.created_at, o.tableoid::regclass FROM captured AS c LEFT JOIN order_mgmt.orders AS o USING (order_id)
    WHERE (o.created_at, o.tableoid) IS DISTINCT FROM (c.at, ('order_mgmt.orders' || month_of(c.at))::regclass::oid)$$, 'orders lie in the months of UTC');
SELECT is_empty($$SELECT c.*, n.tableoid::regclass FROM captured AS c LEFT JOIN order_mgmt.order_lines AS n USING (order_id)
    WHERE n.tableoid IS DISTINCT FROM ('order_mgmt.order_lines' || month_of(c.at))::regclass::oid$$, 'so do lines');
SELECT is_empty($$SELECT DISTINCT l.at, l.tableoid::regclass FROM order_mgmt.event_log AS l
    WHERE l.tableoid IS DISTINCT FROM ('order_mgmt.event_log' || month_of(l.at))::regclass::oid$$, 'so do events');
SELECT is((SELECT count(DISTINCT l.at) FROM order_mgmt.event_log AS l JOIN boundary AS b ON b.at = l.at), (SELECT count(*) FROM boundary), 'which are dated by the clock, too');

-- What was captured there is found, in any zone and by any clock
CREATE FUNCTION found(c captured, moment text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('timezone', c.zone, true), set_config('order_mgmt.clock', moment, true);
    RETURN concat_ws(' ', order_mgmt.get_order(c.order_id)->>'status', story(c.order_id),
        (SELECT count(*) FROM order_mgmt.list_orders(since => c.at, until => c.at + interval '1 ms', page_size => 100) AS l WHERE l.order_id = c.order_id),
        (SELECT count(*) FROM order_mgmt.list_orders(until => c.at, page_size => 1000) AS l WHERE l.order_id = c.order_id),
        (SELECT count(*) FROM order_mgmt.account_statement('ann', since => c.at, until => c.at + interval '1 ms', page_size => 100) AS s WHERE s.order_id = c.order_id));
END
$$;
SELECT is((SELECT string_agg(DISTINCT found(c, moment), ', ') FROM captured AS c),
    'shipped order_captured balance_held stock_held order_confirmed order_shipped 1 0 1', 'all of them are found, the clock being at ' || coalesce(nullif(moment, ''), 'today'))
FROM unnest(ARRAY['', '2027-03-01 00:00+00']) AS moment;
SELECT invariants_hold();

-- Months ahead
SET LOCAL order_mgmt.clock = '2030-12-31 23:59:59.999+00';
SET LOCAL timezone = 'Pacific/Kiritimati';
SELECT is(rows_of($$SELECT object FROM order_mgmt.run_maintenance() WHERE action = 'make partition' AND object LIKE 'orders%' ORDER BY 1$$),
    '(orders_2030_12) (orders_2031_01) (orders_2031_02) (orders_2031_03)', 'maintenance makes the months that come next in UTC');
SET LOCAL order_mgmt.clock = '2031-01-01 00:00+00';
SELECT is(rows_of($$SELECT object FROM order_mgmt.run_maintenance() WHERE action = 'make partition' AND object LIKE 'orders%'$$), '(orders_2031_04)', 'one more a moment later');
SET LOCAL order_mgmt.clock = '2032-06-15 00:00+00';
SELECT is(rows_of($$SELECT object FROM order_mgmt.run_maintenance() WHERE action = 'make partition' AND object LIKE 'event_log%' ORDER BY 1$$),
    '(event_log_2032_06) (event_log_2032_07) (event_log_2032_08) (event_log_2032_09)', 'after a year without maintenance what is needed now');
SELECT is_empty($$SELECT * FROM order_mgmt.run_maintenance() WHERE action = 'make partition'$$, 'and nothing twice');

-- Ids of a large batch run ahead of the clock, here past the end of the month: what happens to an order is not older than it
SET LOCAL order_mgmt.clock = '2033-01-31 23:59:59.999+00';
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'ann', 'lines', lines('p'))) FROM generate_series(1, 5000))) \g /dev/null
SELECT is(rows_of($$SELECT tableoid::regclass, count(*) FROM order_mgmt.orders WHERE created_at BETWEEN '2033-01-01' AND '2034-01-01' GROUP BY 1 ORDER BY 1$$),
    '(order_mgmt.orders_2033_01,4096) (order_mgmt.orders_2033_02,904)', 'a millisecond has 4096 ids');
SELECT is_empty($$SELECT o.order_id FROM order_mgmt.orders AS o JOIN order_mgmt.events AS e USING (order_id) WHERE o.created_at BETWEEN '2033-02-01' AND '2034-01-01' AND e.at < o.created_at$$,
    'no event is older than its order');
SELECT is((SELECT count(*) FROM order_mgmt.orders AS o WHERE created_at BETWEEN '2033-02-01' AND '2034-01-01' AND story(order_id) <> 'order_captured'), 0::bigint, 'and each is found');

-- A clock that is set back is followed at once
SET LOCAL order_mgmt.clock = '2033-01-31 23:59:59.500+00';
SELECT is(order_mgmt.uuid_time(order_mgmt.capture_order('ann', lines('p'))), '2033-01-31 23:59:59.500+00', 'back by half a second');
SELECT order_mgmt.run_pipeline() \g /dev/null
SET LOCAL order_mgmt.clock = '2026-01-01 00:00+00';
SELECT is(order_mgmt.uuid_time(order_mgmt.capture_order('ann', lines('p'))), '2026-01-01 00:00+00', 'back by years, into a month that is made on the spot');
SELECT is(order_mgmt.run_pipeline(), 5::bigint, 'which is read as well');
SELECT invariants_hold();

SELECT finish();
ROLLBACK;
