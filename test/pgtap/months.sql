-- Reading over many months: the same orders, and no more rows read than needed.
BEGIN;
\ir helpers.psql
SET LOCAL timezone = 'UTC';
SELECT no_plan();

CREATE FUNCTION make_month(month timestamptz, names text[] DEFAULT '{event_log,orders,order_lines}') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('CREATE TABLE order_mgmt.%1$I (LIKE order_mgmt.%2$I INCLUDING ALL)', name || to_char(month, '_YYYY_MM'), name);
        EXECUTE format('ALTER TABLE order_mgmt.%2$I ATTACH PARTITION order_mgmt.%1$I FOR VALUES FROM (%3$L) TO (%4$L)',
            name || to_char(month, '_YYYY_MM'), name, month, month + interval '1 month');
    END LOOP;
END
$$;
-- An order of that time, shipped a week later
CREATE FUNCTION old_order(created timestamptz, customer text, ref text, n bigint) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid := (lpad(to_hex((extract(epoch FROM created) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid;
    lxid bigint := n * 10;
BEGIN
    INSERT INTO order_mgmt.orders VALUES (id, order_mgmt.uuid_time(id), customer, ref, 'shipped', 3, 0, '{}', 2, '{}', ARRAY[lxid, lxid + 1, lxid + 2],
        created + '7 days');
    INSERT INTO order_mgmt.order_lines VALUES (id, order_mgmt.uuid_time(id), 1, 'p', 1, 2);
    INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids) VALUES
        (created, lxid, n * 1280, 'order_captured', uuid_send(id)),
        (created + '7 days', lxid + 1, n * 1280 + 128, 'order_confirmed', uuid_send(id)),
        (created + '7 days', lxid + 2, n * 1280 + 256, 'order_shipped', uuid_send(id));
    RETURN id;
END
$$;
-- Rows of orders that a statement reads, whichever month they are in
CREATE FUNCTION orders_read(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    query text := $q$SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables
        WHERE schemaname = 'order_mgmt' AND relname ~ '^orders_\d'$q$;
    before bigint;
    after bigint;
BEGIN
    EXECUTE query INTO before;
    EXECUTE statement;
    EXECUTE query INTO after;
    RETURN after - before;
END
$$;

SELECT open_shop('ann', 1000, 'p', 1000), open_shop('bob', 1000, 'p', 0), open_shop('joe', 1000, 'p', 0) \g /dev/null
-- 40 months, one of them without orders; the last orders of each month ship in the next one
SELECT make_month(m) FROM generate_series('2020-01-01'::timestamptz, '2023-04-01', '1 month') AS m WHERE m <> '2021-06-01' \g /dev/null
SELECT make_month('2021-06-01', '{event_log}') \g /dev/null
SELECT count(old_order('2020-01-01'::timestamptz + n * interval '2 days', CASE WHEN n % 100 = 0 THEN 'bob' ELSE 'ann' END,
    CASE WHEN n % 200 = 0 THEN 'twice' WHEN n = 301 THEN 'once' END, n)) AS n
    FROM generate_series(0, 599) AS n WHERE to_char('2020-01-01'::timestamptz + n * interval '2 days', 'YYYY-MM') <> '2021-06' \g /dev/null
SELECT is((SELECT count(DISTINCT tableoid) FROM order_mgmt.orders), 39::bigint, '39 months of orders');

-- Lists against plain queries
CREATE FUNCTION listed(customer text, wanted text, since timestamptz, until timestamptz, after uuid, page_size bigint) RETURNS boolean LANGUAGE sql AS $$
    SELECT ARRAY(SELECT l FROM order_mgmt.list_orders(customer, wanted, since, until, after, page_size) AS l)::text
        = ARRAY(SELECT (order_id, created_at, customer_id, order_ref, status, reasons, total, metadata, updated_at) FROM order_mgmt.orders
            WHERE (customer IS NULL OR customer_id = customer) AND (wanted IS NULL OR status = wanted)
              AND (since IS NULL OR created_at >= since) AND (until IS NULL OR created_at < until)
              AND (after IS NULL OR (created_at, order_id) < (order_mgmt.uuid_time(after), after))
            ORDER BY created_at DESC, order_id DESC LIMIT page_size)::text
$$;
SELECT order_id AS middle FROM order_mgmt.orders ORDER BY created_at OFFSET 300 LIMIT 1 \gset
SELECT ok(listed(customer, wanted, since, until, after, page_size), concat_ws(', ', 'the list', customer, wanted, since, until, after, page_size))
FROM (VALUES (NULL), ('ann'), ('bob'), ('nobody')) AS c(customer), (VALUES (NULL), ('shipped'), ('failed')) AS w(wanted),
    (VALUES (NULL::timestamptz, NULL::timestamptz), ('2021-05-20', '2021-07-10'), ('2020-02-01', '2020-03-01'), ('2019-01-01', '2019-12-31'), ('2021-06-01', NULL)) AS t(since, until),
    (VALUES (NULL), (:'middle'::uuid)) AS a(after), (VALUES (7), (10000)) AS s(page_size);

-- A page reads its own rows
SELECT is(orders_read('SELECT count(*) FROM order_mgmt.list_orders()'), 50::bigint, 'the first page reads 50 orders');
SELECT cmp_ok(orders_read(format('SELECT count(*) FROM order_mgmt.list_orders(after => %L)', :'middle')), '<=', 52::bigint, 'and so does one in the middle');
SELECT cmp_ok(orders_read($$SELECT count(*) FROM order_mgmt.list_orders('bob')$$), '<=', 6::bigint, 'those of a customer are found, however many others there are');
SELECT cmp_ok(orders_read($$SELECT count(*) FROM order_mgmt.list_orders(status => 'failed', since => '2023-03-01')$$), '<=', 31::bigint, 'a rare status reads what since leaves');

-- By reference
SELECT is(rows_of($$SELECT customer_id, created_at::date FROM order_mgmt.find_orders('twice')$$), '(bob,2020-01-01) (bob,2021-02-04) (bob,2022-03-11)', 'the oldest comes first');
SELECT is(rows_of($$SELECT customer_id FROM order_mgmt.find_orders('once', 'ann')$$), '(ann)', 'of one customer');
SELECT is((SELECT count(*) FROM order_mgmt.find_orders('once', 'bob')), 0::bigint, 'not of another');
SELECT is(orders_read($$SELECT count(*) FROM order_mgmt.find_orders('once')$$), 1::bigint, 'one row is read');

-- One order
SELECT is(orders_read(format('SELECT order_mgmt.get_order(%L)', :'middle')), 1::bigint, 'an order is one row');
SELECT is(story(:'middle'), 'order_captured order_confirmed order_shipped', 'of which everything is known');
SELECT order_id AS across FROM order_mgmt.orders WHERE created_at::date = '2020-01-31' \gset
SELECT is(story(:'across'), 'order_captured order_confirmed order_shipped', 'also across the end of a month');

-- Statements
SELECT is((SELECT count(*) || ' ' || sum(amount) || ' ' || count(DISTINCT order_id) FROM order_mgmt.account_statement('bob') WHERE kind = 'charge'), '6 -12.0000 6', 'charges of all months');
SELECT is((SELECT at::date FROM order_mgmt.account_statement('ann', page_size => 10000) WHERE order_id = :'across'), '2020-02-07'::date, 'when it shipped');
SELECT is((SELECT count(*) FROM order_mgmt.stock_statement('p', page_size => 10000) WHERE kind = 'shipment'), (SELECT count(*) FROM order_mgmt.orders), 'shipments of all months');

-- Somebody has dropped an index, or made others that begin alike: slower, or not, but the same
CREATE INDEX ON order_mgmt.orders (customer_id) WHERE status = 'failed';
CREATE INDEX ON order_mgmt.orders (order_ref) WHERE status = 'failed';
SELECT ok(listed('bob', NULL, NULL, NULL, NULL, 50), 'an index that knows some of the orders only');
DROP INDEX order_mgmt.orders_customer_idx, order_mgmt.orders_ref_idx;
SELECT ok(listed('bob', NULL, NULL, NULL, NULL, 50), 'by customer without the index');
SELECT ok(listed('bob', NULL, '2021-05-20', NULL, :'middle', 50), '... and more conditions');
SELECT is((SELECT count(*) FROM order_mgmt.find_orders('twice')), 3::bigint, 'by reference without the index');

SELECT finish();
ROLLBACK;
