-- list_orders: newest first, page by page, without gap or repetition.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 40, 'p', 1000) \g /dev/null
-- Many orders of the same millisecond: they are captured in one call.
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object(
    'customer_id', CASE WHEN n % 3 = 0 THEN 'bob' ELSE 'ann' END, 'lines', lines('p'), 'order_ref', n::text))
    FROM generate_series(1, 97) AS n)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT cmp_ok((SELECT count(DISTINCT created_at) FROM order_mgmt.orders), '<', 97::bigint, 'some times are equal');

-- All pages of a listing, in their order; a page must be full unless it is the last one.
CREATE FUNCTION pages(page_size bigint, customer text DEFAULT NULL, wanted text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL)
RETURNS TABLE (page int, n bigint, order_id uuid) LANGUAGE plpgsql AS $$
DECLARE
    last uuid;
    found_rows bigint;
BEGIN
    page := 0;
    LOOP
        page := page + 1;
        RETURN QUERY SELECT pages.page, l.n, l.order_id
            FROM order_mgmt.list_orders(customer, wanted, since, until, last, page_size)
            WITH ORDINALITY AS l(order_id, created_at, customer_id, order_ref, status, reasons, total, metadata,
                                 updated_at, n);
        GET DIAGNOSTICS found_rows = ROW_COUNT;
        EXIT WHEN found_rows < page_size OR page > 200;
        SELECT (array_agg(l.order_id))[page_size] INTO last
            FROM order_mgmt.list_orders(customer, wanted, since, until, last, page_size) AS l;
    END LOOP;
END
$$;
-- True when the pages together are what a plain query gives.
CREATE FUNCTION complete(page_size bigint, customer text DEFAULT NULL, wanted text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL) RETURNS boolean LANGUAGE sql AS $$
    SELECT (SELECT array_agg(order_id ORDER BY page, n) FROM pages(page_size, customer, wanted, since, until))
        IS NOT DISTINCT FROM
        (SELECT array_agg(order_id ORDER BY created_at DESC, order_id DESC) FROM order_mgmt.orders
         WHERE (customer IS NULL OR customer_id = customer) AND (wanted IS NULL OR status = wanted)
           AND (since IS NULL OR created_at >= since) AND (until IS NULL OR created_at < until))
$$;

SELECT is((SELECT count(*) FROM order_mgmt.list_orders()), 50::bigint, '50 orders a page');
SELECT is((SELECT max(page) FROM pages(10)), 10, '97 orders are ten pages of 10');
SELECT ok(complete(10), 'pages of 10');
SELECT ok(complete(1), 'pages of 1');
SELECT ok(complete(97), 'a page that is just full');
SELECT ok(complete(1000), 'one page of all');
SELECT ok(complete(7, 'ann'), 'of one customer');
SELECT ok(complete(7, NULL, 'rejected'), 'of one status');
SELECT ok(complete(7, 'ann', 'shipped'), 'of one customer and status');
SELECT is((SELECT count(*) FROM pages(7, 'ann', 'shipped')), 40::bigint, 'which are as many as the credit allowed');
SELECT is((SELECT count(*) FROM pages(7, 'nobody')), 0::bigint, 'of nobody');

-- since <= created_at < until
SELECT created_at AS at FROM order_mgmt.orders ORDER BY created_at OFFSET 48 LIMIT 1 \gset
SELECT ok(complete(5, NULL, NULL, :'at'), 'since, which is included');
SELECT ok(complete(5, NULL, NULL, NULL, :'at'), 'until, which is not');
SELECT ok(complete(5, 'ann', 'shipped', :'at'::timestamptz - interval '1 ms', :'at'::timestamptz + interval '1 ms'), 'both');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders(since => :'at', until => :'at')), 0::bigint, 'an empty span');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders(since => '-infinity', until => 'infinity', page_size => 1000)),
    97::bigint, 'an endless span');

-- A cursor needs no order behind it
SELECT is((SELECT count(*) FROM order_mgmt.list_orders(after => 'ffffffff-ffff-7fff-bfff-ffffffffffff', page_size => 1000)),
    97::bigint, 'after an id above all');
SELECT is((SELECT count(*) FROM order_mgmt.list_orders(after => '00000000-0000-7000-8000-000000000000')), 0::bigint,
    'after an id below all');

SELECT is(error_of('SELECT * FROM order_mgmt.list_orders(page_size => 0)'), 'OM001 page_size', 'page of 0');
SELECT is(error_of('SELECT * FROM order_mgmt.list_orders(page_size => -1)'), 'OM001 page_size', 'page of -1');
SELECT is(error_of('SELECT * FROM order_mgmt.list_orders(page_size => 10001)'), 'OM001 page_size', 'page of 10,001');
SELECT is(error_of('SELECT * FROM order_mgmt.list_orders(page_size => NULL)'), 'OM001 page_size', 'page of NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.list_orders(status => 'open')$$), 'OM001 status', 'an unknown status');
SELECT is(rows_of($$SELECT status, reasons, total FROM order_mgmt.list_orders('bob', page_size => 1)$$),
    '(rejected,{unknown_account},1.0000)', 'the columns of an order');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
