-- A month whose archive has been dropped, and into which orders were loaded afterwards, as earlier versions let them be:
-- it goes again, comes back, and goes once more, and all sums stay what they are.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SELECT no_plan();

CREATE FUNCTION go(month date) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(relation || ' ' || rows, ', ' ORDER BY relation::text) FROM order_mgmt.archive_month(month) $$;
CREATE FUNCTION back(month date) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(relation || ' ' || rows, ', ' ORDER BY relation::text) FROM order_mgmt.restore_month(month) $$;
CREATE FUNCTION clock(at timestamptz) RETURNS void LANGUAGE sql AS $$ SELECT set_config('order_mgmt.clock', at::text, true) $$;
CREATE FUNCTION drop_archive(of_month date) RETURNS bigint LANGUAGE sql AS $$ WITH gone AS (DELETE FROM order_mgmt.archives WHERE month = of_month AND state = 'cold' RETURNING 1) SELECT count(*) FROM gone $$;

-- What earlier versions did for a load of past orders
CREATE FUNCTION refill(ref text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    file oid;
    load bigint;
BEGIN
    FOR i IN 1 .. 2 LOOP
        EXECUTE format('CREATE TABLE order_mgmt.%1$s_2024_01 (LIKE order_mgmt.%1$s INCLUDING ALL); ALTER TABLE order_mgmt.%1$s_2024_01 OWNER TO order_mgmt_owner;'
            ' ALTER TABLE order_mgmt.%1$s ATTACH PARTITION order_mgmt.%1$s_2024_01 FOR VALUES FROM (%2$L) TO (%3$L)', ('{orders,order_lines}'::text[])[i], '2024-01-01', '2024-02-01');
    END LOOP;
    file := lo_from_bytea(0, convert_to(format(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n%s,ann,p,3,2,2024-01-20T10:00:00Z\n', ref), 'UTF8'));
    load := order_mgmt.load_orders_csv('lo:' || file, 'history');
    RETURN (SELECT status FROM order_mgmt.wait_for_load(load));
END
$$;

SELECT clock('2024-01-01') \g /dev/null
SELECT open_shop('ann', 1000, 'p', 1000) \g /dev/null
SELECT clock('2024-01-10'), order_mgmt.capture_order('ann', lines('p', 2, 5), idempotency_key => 'kept'), order_mgmt.run_pipeline() \g /dev/null
SELECT clock('2024-01-31 23:59:59.999'), order_mgmt.capture_order('ann', lines('p', 1, 7)) AS across \gset
SELECT clock('2024-02-01 00:00:00.5'), order_mgmt.run_pipeline() \g /dev/null
SELECT clock('2024-02-10'), order_mgmt.capture_order('ann', lines('p', 4, 1)), order_mgmt.run_pipeline(), order_mgmt.adjust_balance('ann', 3) \g /dev/null
SELECT clock('2024-04-10'), order_mgmt.capture_order('ann', lines('p', 1, 1)), order_mgmt.run_pipeline() \g /dev/null
CREATE FUNCTION statements() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'ann ' || s::text FROM order_mgmt.account_statement('ann') AS s UNION ALL SELECT 'p ' || s::text FROM order_mgmt.stock_statement('p') AS s
$$;

SELECT is(go('2024-01-01'), 'order_mgmt.event_log 8, order_mgmt.order_lines 2, order_mgmt.orders 2', 'January goes');
CREATE TABLE statement AS SELECT * FROM statements() AS line;
CREATE FUNCTION all_is_well(description text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT invariants_hold(description || ': invariants hold');
    RETURN NEXT is_empty('SELECT * FROM statements() AS line EXCEPT SELECT line FROM statement', description || ': statements show what they have shown');
    RETURN NEXT is((SELECT sum(pending) FROM order_mgmt.queues), 0::numeric, description || ': nothing becomes pending');
    RETURN NEXT is_empty('SELECT * FROM order_mgmt.repair_invariants()', description || ': there is nothing to mend');
END
$$;
SELECT is(drop_archive('2024-01-01'), 3::bigint, 'its archive is dropped');
SELECT is(refill('late'), 'done', 'orders are loaded into it');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_is_well('with a month that was gone for good');

SELECT is(go('2024-01-01'), 'order_mgmt.order_lines 1, order_mgmt.orders 1', 'it goes again');
SELECT all_is_well('without it');
SELECT isnt(go('2024-02-01'), NULL, 'and so does the next one');
SELECT all_is_well('without the next one');
SELECT is((SELECT order_mgmt.get_order_status(:'across')), NULL, 'what was dropped is gone');
SELECT is(back('2024-01-01'), 'order_mgmt.order_lines 1, order_mgmt.orders 1', 'it comes back');
SELECT is((SELECT string_agg(order_ref, ' ') FROM order_mgmt.orders WHERE created_at < '2024-02-01'), 'late', 'as it was');
SELECT all_is_well('with it');
SELECT isnt(back('2024-02-01'), NULL, 'so does the next one');
SELECT all_is_well('with both');
SELECT is(go('2024-01-01'), 'order_mgmt.order_lines 1, order_mgmt.orders 1', 'it goes once more');
SELECT all_is_well('without it again');

SELECT is(drop_archive('2024-01-01'), 2::bigint, 'its archive is dropped again');
SELECT is(refill('later'), 'done', 'and orders are loaded');
SELECT is(go('2024-01-01'), 'order_mgmt.order_lines 1, order_mgmt.orders 1', 'it goes for the third time');
SELECT all_is_well('without all that was in it');
SELECT is((SELECT count(*) FROM order_mgmt.archived_months), 2::bigint, 'what is kept of all that is gone for good is kept together');
SELECT isnt(go('2024-02-01'), NULL, 'later months go');
SELECT all_is_well('without two months');
UPDATE order_mgmt.archived_amounts SET amount = amount + 1 WHERE kind = 'account' AND month > '2024-01-01' AND month < '2024-01-02';
SELECT is((SELECT string_agg(invariant, ' ') FROM order_mgmt.check_invariants()), 'account_balance', 'and what is kept is proven');

SELECT finish();
ROLLBACK;
