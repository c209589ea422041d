-- preview_order says what would happen, and then just that happens.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 10, 'p', 5), open_shop('bob', 0, 'q', 0) \g /dev/null
SELECT order_mgmt.set_product('p', unit_price => 2) \g /dev/null
SELECT order_mgmt.preview_order('ann', lines('p', 4, 2.5)) AS doc \gset
SELECT is(:'doc'::jsonb, '{"passes": true, "total": "10.0000", "reasons": [], "shortages": []}', 'an order that passes');
SELECT is(order_mgmt.preview_order('ann', lines('p', 3) || lines('p', 3)),
    '{"passes": false, "total": "6.0000", "reasons": ["insufficient_stock"],
      "shortages": [{"product_id": "p", "requested": 6, "available": 5}]}', 'lines of one product are added up');
SELECT is(order_mgmt.preview_order('ann', '[{"product_id": "p", "quantity": 6}]'),
    '{"passes": false, "total": "12.0000", "reasons": ["insufficient_balance", "insufficient_stock"],
      "shortages": [{"customer_id": "ann", "requested": "12.0000", "available": "10.0000"},
                    {"product_id": "p", "requested": 6, "available": 5}]}', 'both reasons, at the price of the product');
SELECT is(order_mgmt.preview_order('eve', lines('x'))->'reasons', '["unknown_account", "unknown_product"]', 'unknown ones');
SELECT is(error_of($$SELECT order_mgmt.preview_order('ann', lines('p', 0))$$), 'OM001 lines[0].quantity', 'lines are checked');
SELECT is(error_of($$SELECT order_mgmt.preview_order(NULL, lines('p'))$$), 'OM001 customer_id', 'customer NULL');
SELECT is(error_of($$SELECT order_mgmt.preview_order('ann', NULL)$$), 'OM001 lines', 'lines NULL');
SELECT is((SELECT count(*) FROM order_mgmt.orders), 0::bigint, 'nothing is captured');
SELECT is(credit('ann') || ' ' || units('p'), '10/0 5/0', 'nor held');

-- What is held counts as gone
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.capture_order('ann', lines('p', 3, 1)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(order_mgmt.preview_order('ann', lines('p', 3, 3))->'shortages',
    '[{"customer_id": "ann", "requested": "9.0000", "available": "7.0000"},
      {"product_id": "p", "requested": 3, "available": 2}]', 'what is held is not available');
SET LOCAL order_mgmt.auto_ship = on;
SELECT order_mgmt.run_pipeline() \g /dev/null

-- A hundred orders: each is previewed, captured and run
SELECT setseed(0.5) \g /dev/null
CREATE TABLE trial AS SELECT n, CASE WHEN n % 11 = 0 THEN 'eve' ELSE 'c' || n % 5 END AS customer,
        lines('s' || n % 3, 1 + (n * 7) % 4, round(random()::numeric, 2)) || lines('s' || n % 4, 1, 0.1) AS lines
    FROM generate_series(1, 100) AS n;
SELECT count(*) FROM generate_series(0, 4) AS n, order_mgmt.set_account('c' || n, 10) \g /dev/null
SELECT count(*) FROM generate_series(0, 2) AS n, order_mgmt.set_stock('s' || n, 40) \g /dev/null
CREATE TABLE verdict (n int, foretold text, came text);
DO $$
DECLARE
    this record;
    doc jsonb;
    id uuid;
BEGIN
    FOR this IN SELECT * FROM trial ORDER BY n LOOP
        doc := order_mgmt.preview_order(this.customer, this.lines);
        id := order_mgmt.capture_order(this.customer, this.lines, expected_total => (doc->>'total')::numeric);
        PERFORM order_mgmt.run_pipeline();
        INSERT INTO verdict VALUES (this.n, CASE WHEN (doc->>'passes')::boolean THEN 'shipped'
            ELSE 'rejected ' || translate(doc->>'reasons', '[] "', '{}') END, test.outcome(id));
    END LOOP;
END
$$;
SELECT is_empty('SELECT * FROM verdict WHERE foretold <> came', 'a hundred previews come true');
SELECT ok((SELECT count(DISTINCT came) >= 4 FROM verdict), 'of several kinds');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
