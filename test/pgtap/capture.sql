-- capture_order: what is taken, what is stored, and what is refused with which path.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT order_mgmt.set_product('priced', unit_price => 2.5) \g /dev/null
SELECT order_mgmt.set_product('unpriced') \g /dev/null

-- What is stored
SELECT order_mgmt.capture_order('ann',
    '[{"product_id": "b", "quantity": 2, "unit_price": 0.125},
      {"product_id": "a", "quantity": 1, "unit_price": "3.0001"},
      {"product_id": "b", "quantity": 3.0, "unit_price": 0},
      {"product_id": "priced", "quantity": 4}]',
    order_ref => 'ref 1', metadata => '{"gift": true}', expected_total => 13.2501) AS id \gset
SELECT is(rows_of(format('SELECT status, reasons, customer_id, order_ref, total, metadata
    FROM order_mgmt.list_orders(''ann'') WHERE order_id = %L', :'id')),
    '(captured,{},ann,"ref 1",13.2501,"{""gift"": true}")', 'an order is stored as it was sent');
SELECT is(rows_of(format('SELECT line_no, product_id, quantity, unit_price FROM order_mgmt.order_lines
    WHERE order_id = %L ORDER BY line_no', :'id')),
    '(1,b,2,0.1250) (2,a,1,3.0001) (3,b,3,0.0000) (4,priced,4,2.5000)',
    'lines keep their order, a product may have two, a missing price is that of the product');
SELECT is(story(:'id'), 'order_captured', 'a capture is one event');
SELECT order_mgmt.set_product('priced', unit_price => 99) \g /dev/null
SELECT is((SELECT unit_price FROM order_mgmt.order_lines WHERE order_id = :'id' AND line_no = 4),
    2.5, 'a later change of the price leaves the order alone');

-- Limits that are still good
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', lines('a', 2147483647, 0))$$), 'no error',
    'the largest quantity');
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', lines('a', 1, 99999999999999.9999))$$),
    'no error', 'the largest total');
SELECT is(error_of($$SELECT order_mgmt.capture_order(repeat('é', 64), lines(repeat('ü', 64)))$$),
    'no error', 'ids of 64 characters, however many bytes');
SELECT is(error_of($$SELECT order_mgmt.capture_order('nobody knows', lines('nor this'))$$), 'no error',
    'unknown customers and products are for the checks to refuse');
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', lines('a'), metadata => NULL)$$), 'no error',
    'metadata NULL is an empty object');
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', lines('a', 3, 1.5), expected_total => 4.50)$$),
    'no error', 'an expected total may have fewer decimals');
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann',
    '[{"product_id": "a", "quantity": 1, "unit_price": 1, "unit_price": 2}]', expected_total => 2)$$),
    'no error', 'of a key written twice the last counts, as in jsonb');

SELECT order_mgmt.capture_order('ann',
    (SELECT jsonb_agg(jsonb_build_object('product_id', 'p' || n % 7, 'quantity', n, 'unit_price', 0.001))
     FROM generate_series(1, 1114) AS n)) AS id \gset
SELECT is(rows_of(format('SELECT count(*), sum(quantity), min(line_no), max(line_no)
    FROM order_mgmt.order_lines WHERE order_id = %L', :'id')),
    '(1114,621055,1,1114)', 'an order of 1,114 lines');
SELECT is(order_mgmt.get_order(:'id')->>'total', '621.0550', 'prices with 3 decimals add up exactly');

-- What is refused: arguments, SQLSTATE, path
CREATE TABLE refused (what text, customer_id text, lines jsonb, expected text, idempotency_key text,
    order_ref text, metadata jsonb DEFAULT '{}', expected_total numeric);
INSERT INTO refused (what, customer_id, lines, expected) VALUES
    ('customer NULL', NULL, lines('a'), 'customer_id'),
    ('customer empty', '', lines('a'), 'customer_id'),
    ('customer of 65 characters', repeat('x', 65), lines('a'), 'customer_id'),
    ('lines NULL', 'ann', NULL, 'lines'),
    ('lines are JSON null', 'ann', 'null', 'lines'),
    ('lines are an object', 'ann', '{"product_id": "a", "quantity": 1}', 'lines'),
    ('lines are a scalar', 'ann', '"a"', 'lines'),
    ('no lines', 'ann', '[]', 'lines'),
    ('a line that is no object', 'ann', '[7]', 'lines[0]'),
    ('a line that is null', 'ann', lines('a') || 'null', 'lines[1]'),
    ('a line that is an array', 'ann', lines('a') || '[[]]', 'lines[1]'),
    ('no product', 'ann', '[{"quantity": 1, "unit_price": 1}]', 'lines[0].product_id'),
    ('product null', 'ann', '[{"product_id": null, "quantity": 1, "unit_price": 1}]', 'lines[0].product_id'),
    ('product empty', 'ann', lines('a') || lines(''), 'lines[1].product_id'),
    ('product is a number', 'ann', '[{"product_id": 1, "quantity": 1, "unit_price": 1}]', 'lines[0].product_id'),
    ('product of 65 characters', 'ann', lines(repeat('é', 65)), 'lines[0].product_id'),
    ('no quantity', 'ann', '[{"product_id": "a", "unit_price": 1}]', 'lines[0].quantity'),
    ('quantity null', 'ann', '[{"product_id": "a", "quantity": null, "unit_price": 1}]', 'lines[0].quantity'),
    ('quantity 0', 'ann', lines('a', 0), 'lines[0].quantity'),
    ('quantity negative', 'ann', lines('a') || lines('a') || lines('b', -1), 'lines[2].quantity'),
    ('quantity a fraction', 'ann', '[{"product_id": "a", "quantity": 1.5, "unit_price": 1}]', 'lines[0].quantity'),
    ('quantity a tiny fraction', 'ann', '[{"product_id": "a", "quantity": 1.00000001, "unit_price": 1}]', 'lines[0].quantity'),
    ('quantity too large', 'ann', lines('a', 2147483648, 0), 'lines[0].quantity'),
    ('quantity enormous', 'ann', '[{"product_id": "a", "quantity": 1e400, "unit_price": 0}]', 'lines[0].quantity'),
    ('quantity a string', 'ann', '[{"product_id": "a", "quantity": "1", "unit_price": 1}]', 'lines[0].quantity'),
    ('quantity a boolean', 'ann', '[{"product_id": "a", "quantity": true, "unit_price": 1}]', 'lines[0].quantity'),
    ('price missing, product unknown', 'ann', '[{"product_id": "a", "quantity": 1}]', 'lines[0].unit_price'),
    ('price missing, product without one', 'ann', lines('a') || '[{"product_id": "unpriced", "quantity": 1}]', 'lines[1].unit_price'),
    ('price null, product unknown', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": null}]', 'lines[0].unit_price'),
    ('price negative', 'ann', lines('a', 1, -0.01), 'lines[0].unit_price'),
    ('price with 5 decimals', 'ann', lines('a', 1, 0.00005), 'lines[0].unit_price'),
    ('price too large', 'ann', lines('a', 1, 100000000000000), 'lines[0].unit_price'),
    ('price enormous', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": 1e300}]', 'lines[0].unit_price'),
    ('price no number', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": "cheap"}]', 'lines[0].unit_price'),
    ('price NaN', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": "NaN"}]', 'lines[0].unit_price'),
    ('price an empty string', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": ""}]', 'lines[0].unit_price'),
    ('price a negative string', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": "-1"}]', 'lines[0].unit_price'),
    ('price an object', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": {}}]', 'lines[0].unit_price'),
    ('unknown key', 'ann', '[{"product_id": "a", "quantity": 1, "unit_price": 1, "colour": "red"}]', 'lines[0].colour'),
    ('known key in capitals', 'ann', '[{"Product_ID": "a", "quantity": 1, "unit_price": 1}]', 'lines[0].Product_ID'),
    ('total overflows in one line', 'ann', lines('a') || lines('a', 2, 99999999999999), 'lines[1]'),
    ('total overflows in the sum', 'ann', lines('a', 1, 99999999999999.9999) || lines('b', 1, 0.0001), 'lines[1]'),
    ('total overflows an int64', 'ann', lines('a', 2147483647, 99999999999999), 'lines[0]');
INSERT INTO refused (what, customer_id, lines, expected, idempotency_key, order_ref, metadata, expected_total) VALUES
    ('key too long', 'ann', lines('a'), 'idempotency_key', repeat('k', 1000), NULL, '{}', NULL),
    ('reference too long', 'ann', lines('a'), 'order_ref', NULL, repeat('r', 1000), '{}', NULL),
    ('metadata an array', 'ann', lines('a'), 'metadata', NULL, NULL, '[]', NULL),
    ('metadata a scalar', 'ann', lines('a'), 'metadata', NULL, NULL, '"x"', NULL),
    ('metadata JSON null', 'ann', lines('a'), 'metadata', NULL, NULL, 'null', NULL),
    ('expected total differs', 'ann', lines('a', 3, 1.5), 'expected_total', NULL, NULL, '{}', 4.51),
    ('expected total with 5 decimals', 'ann', lines('a', 3, 1.5), 'expected_total', NULL, NULL, '{}', 4.50001),
    ('expected total NaN', 'ann', lines('a', 3, 1.5), 'expected_total', NULL, NULL, '{}', 'NaN'),
    ('expected total infinite', 'ann', lines('a', 3, 1.5), 'expected_total', NULL, NULL, '{}', 'Infinity');

SELECT count(*) AS orders_before FROM order_mgmt.orders \gset
SELECT is(error_of(format('SELECT order_mgmt.capture_order(%L, %L, %L, %L, %L, %L)', customer_id, lines,
        idempotency_key, order_ref, metadata, expected_total)), 'OM001 ' || expected, 'refused: ' || what)
FROM refused;
SELECT is(error_of($$SELECT order_mgmt.capture_order('ann', '[{"product_id": "a\u0000b", "quantity": 1}]')$$),
    '22P05', 'refused: a NUL does not even become jsonb');
SELECT is((SELECT count(*) FROM order_mgmt.orders), :orders_before::bigint, 'what was refused left no order');
SELECT matches((SELECT total::text || ' ' || quantity FROM order_mgmt.orders JOIN order_mgmt.order_lines
    USING (order_id, created_at) WHERE customer_id = 'ann' AND quantity = 2147483647),
    '^0.0000 2147483647$', 'limits arrive as sent');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
