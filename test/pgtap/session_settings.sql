-- Whatever a session has set, orders are captured, checked, shipped and read in the same way.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 1000, 'p', 1000) \g /dev/null
-- The life of an order, as one line, without what differs from order to order.
CREATE FUNCTION life() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id uuid := order_mgmt.capture_order('ann', test.lines('p', 2, 1.5) || test.lines('p', 1, 0.0001),
                                        order_ref => 'r', metadata => '{"a": 1.0}');
BEGIN
    PERFORM order_mgmt.run_pipeline();
    PERFORM order_mgmt.adjust_balance('ann', 3.0001);
    PERFORM order_mgmt.adjust_stock('p', 3);
    PERFORM order_mgmt.run_maintenance();
    RETURN pg_catalog.concat_ws(' ', order_mgmt.get_order(id)->>'total', order_mgmt.get_order(id)->'lines',
        order_mgmt.get_order(id)->>'metadata', test.story(id), test.credit('ann'), test.units('p'),
        (SELECT pg_catalog.count(*) FROM order_mgmt.check_invariants()),
        (SELECT pg_catalog.count(*) > 0 FROM order_mgmt.list_orders('ann', 'shipped', pg_catalog.now() - interval '1 s')),
        (SELECT balance_after = 1000 FROM order_mgmt.account_statement('ann', page_size => 10000) ORDER BY event_id DESC LIMIT 1),
        (SELECT on_hand_after = 1000 FROM order_mgmt.stock_statement('p', page_size => 10000) ORDER BY event_id DESC LIMIT 1));
END
$$;
SELECT life() AS life \gset
SELECT is(:'life'::text, '3.0001 [{"line_no": 1, "quantity": 2, "product_id": "p", "unit_price": "1.5000"}, {"line_no": 2, '
    '"quantity": 1, "product_id": "p", "unit_price": "0.0001"}] {"a": 1.0} order_captured balance_held stock_held '
    'order_confirmed order_shipped 1000/0 1000/0 0 t t t', 'the life of an order');

CREATE FUNCTION life_with(setting text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
    before text := current_setting(setting);
BEGIN
    PERFORM set_config(setting, value, true);
    answer := test.life();
    PERFORM set_config(setting, before, true);
    RETURN answer;
END
$$;
SELECT is(life_with(setting, value), :'life'::text, setting || ' = ' || value) FROM (VALUES
    ('DateStyle', 'SQL, DMY'), ('DateStyle', 'German'), ('DateStyle', 'Postgres, MDY'),
    ('TimeZone', 'America/St_Johns'), ('TimeZone', 'Pacific/Apia'), ('IntervalStyle', 'iso_8601'),
    ('bytea_output', 'escape'), ('extra_float_digits', '-15'), ('lc_numeric', 'C'), ('lc_monetary', 'C'),
    ('standard_conforming_strings', 'off'), ('backslash_quote', 'off'), ('escape_string_warning', 'off'),
    ('quote_all_identifiers', 'on'), ('array_nulls', 'off'), ('transform_null_equals', 'on'),
    ('enable_indexscan', 'off'), ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('enable_partition_pruning', 'off'),
    ('constraint_exclusion', 'off'), ('plan_cache_mode', 'force_generic_plan'), ('plan_cache_mode', 'force_custom_plan'),
    ('force_parallel_mode', 'on'), ('jit_above_cost', '0'), ('work_mem', '64kB'),
    ('default_table_access_method', 'heap'), ('check_function_bodies', 'off'), ('xmloption', 'document'),
    ('session_replication_role', 'replica'), ('session_replication_role', 'local'), ('row_security', 'off'),
    ('synchronous_commit', 'off'), ('default_transaction_isolation', 'serializable'), ('statement_timeout', '1min'),
    ('client_encoding', 'LATIN1'), ('search_path', ''), ('search_path', 'pg_temp, test')
    ) AS s(setting, value);

-- Objects of a hostile session
CREATE FUNCTION test.coalesce_total(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 0';
CREATE FUNCTION test.uuid_time(uuid) RETURNS timestamptz LANGUAGE sql AS $$SELECT 'infinity'::timestamptz$$;
CREATE FUNCTION test.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT 'epoch'::timestamptz$$;
CREATE FUNCTION test.count(text) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
CREATE FUNCTION test.text_eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR test.= (LEFTARG = text, RIGHTARG = text, FUNCTION = test.text_eq);
CREATE TEMPORARY TABLE orders (nothing int);
CREATE TEMPORARY TABLE accounts (nothing int);
SELECT is(life_with('search_path', 'test, pg_temp, pg_catalog, order_mgmt'), :'life'::text, 'functions, operators and tables of that name elsewhere');
DROP OPERATOR test.= (text, text);

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
