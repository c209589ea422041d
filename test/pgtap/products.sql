-- Products and stock: set, get, list, adjust, statement.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- set_product: NULL keeps, '' clears, metadata replaces
SELECT is(rows_of($$SELECT product_id, name, unit_price, metadata, on_hand, reserved, available FROM order_mgmt.set_product('p')$$),
    '(p,,,{},,,)', 'a new product has no price and no stock');
SELECT is(rows_of($$SELECT name, unit_price, metadata FROM order_mgmt.set_product('p', 'Pen', 1.25, '{"a": 1}')$$),
    '(Pen,1.2500,"{""a"": 1}")', 'everything set');
SELECT is(rows_of($$SELECT name, unit_price, metadata FROM order_mgmt.set_product('p')$$), '(Pen,1.2500,"{""a"": 1}")', 'NULL keeps');
SELECT is(rows_of($$SELECT name, unit_price, metadata FROM order_mgmt.set_product('p', '', 0, '{"b": 2}')$$),
    '(,0.0000,"{""b"": 2}")', 'an empty string clears, metadata replaces, price 0 is a price');
SELECT is(error_of('SELECT order_mgmt.set_product(NULL)'), 'OM001 product_id', 'product NULL');
SELECT is(error_of($$SELECT order_mgmt.set_product('')$$), 'OM001 product_id', 'product empty');
SELECT is(error_of($$SELECT order_mgmt.set_product(repeat('x', 65))$$), 'OM001 product_id', 'product of 65 characters');
SELECT is(error_of($$SELECT order_mgmt.set_product('p', unit_price => -1)$$), 'OM001 unit_price', 'price negative');
SELECT is(error_of($$SELECT order_mgmt.set_product('p', unit_price => 0.00001)$$), 'OM001 unit_price', 'price with 5 decimals');
SELECT is(error_of($$SELECT order_mgmt.set_product('p', unit_price => 1e14)$$), 'OM001 unit_price', 'price too large');
SELECT is(error_of($$SELECT order_mgmt.set_product('p', metadata => '1')$$), 'OM001 metadata', 'metadata no object');

-- Stock
SELECT is(rows_of($$SELECT product_id, on_hand, reserved FROM order_mgmt.set_stock('q', 10)$$), '(q,10,0)',
    'set_stock() makes the product');
SELECT is(rows_of($$SELECT product_id, name, on_hand, reserved, available FROM order_mgmt.get_product('q')$$), '(q,,10,0,10)', 'get_product()');
SELECT is_empty($$SELECT * FROM order_mgmt.get_product('none')$$, 'no row where there is none');
SELECT is(error_of('SELECT order_mgmt.get_product(NULL)'), 'OM001 product_id', 'product NULL');
SELECT is(error_of($$SELECT order_mgmt.set_stock('q', -1)$$), 'OM001 on_hand', 'on_hand negative');
SELECT is(error_of($$SELECT order_mgmt.set_stock('q', NULL)$$), 'OM001 on_hand', 'on_hand NULL');
SELECT is(error_of($$SELECT order_mgmt.set_stock('new', -1)$$) || (SELECT count(*) FROM order_mgmt.get_product('new')),
    'OM001 on_hand0', 'what is refused leaves no product');
SELECT is(order_mgmt.adjust_stock('q', 5, 'delivery'), 15::bigint, 'adjust_stock() returns what is on hand');
SELECT is(order_mgmt.adjust_stock('q', -15), 0::bigint, 'down to nothing');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('q', -1)$$), 'OM005', 'but not below');
SELECT is(order_mgmt.adjust_stock('q', 8, 'count', 'k1'), 8::bigint, 'with a key');
SELECT is(order_mgmt.adjust_stock('q', 1), 9::bigint, 'another one');
SELECT is(order_mgmt.adjust_stock('q', 8, 'count', 'k1'), 8::bigint, 'repeated it gives its first answer');
SELECT is(units('q'), '9/0', 'and changes nothing');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('q', 7, 'count', 'k1')$$), 'OM002 idempotency_key', 'another delta with that key');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('none', 1)$$), 'OM004', 'no such product');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('p', 1)$$), 'OM004', 'a product without stock');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('q', NULL)$$), 'OM001 delta', 'delta NULL');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('q', 9223372036854775807)$$), 'OM005', 'out of range');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock(NULL, 1)$$), 'OM001 product_id', 'product NULL');

-- Held stock cannot be taken away
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.set_account('ann', 100) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('q', 1) || lines('q', 3)) AS held \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(rows_of($$SELECT on_hand, reserved, available FROM order_mgmt.get_product('q')$$), '(9,4,5)', 'four of nine are held');
SELECT is(error_of($$SELECT order_mgmt.adjust_stock('q', -6)$$), 'OM005', 'not below what is held');
SELECT is(error_of($$SELECT order_mgmt.set_stock('q', 3)$$), 'OM005', 'nor by set_stock()');
SELECT is(order_mgmt.adjust_stock('q', -5), 4::bigint, 'down to what is held');
SELECT order_mgmt.ship_order(:'held') \g /dev/null
SELECT is(units('q'), '0/0', 'which is then gone');
SET LOCAL order_mgmt.auto_ship = on;

-- The statement adds up
SELECT order_mgmt.adjust_stock('q', 6, 'delivery') \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('q', 2)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(rows_of($$SELECT kind, quantity, on_hand_after, reason, order_id IS NOT NULL FROM order_mgmt.stock_statement('q')$$),
    '(adjustment,10,10,set_stock,f) (adjustment,5,15,delivery,f) (adjustment,-15,0,,f) (adjustment,8,8,count,f)'
    ' (adjustment,1,9,,f) (adjustment,-5,4,,f) (shipment,-4,0,,t) (adjustment,6,6,delivery,f) (shipment,-2,4,,t)',
    'every change of a stock, oldest first; lines of one product are one shipment');
SELECT is((SELECT sum(quantity) FROM order_mgmt.stock_statement('q')), (SELECT on_hand FROM order_mgmt.get_product('q'))::numeric,
    'they add up to what is on hand');
CREATE TABLE statement AS SELECT row_number() OVER () AS n, * FROM order_mgmt.stock_statement('q');
SELECT is(rows_of(format('SELECT event_id, on_hand_after FROM order_mgmt.stock_statement(''q'', after => %s, page_size => 2)',
    (SELECT event_id FROM statement WHERE n = 6))),
    (SELECT string_agg(format('(%s,%s)', event_id, on_hand_after), ' ' ORDER BY n) FROM statement WHERE n IN (7, 8)),
    'a page of it goes on after an event');
SELECT is(rows_of(format('SELECT event_id, on_hand_after FROM order_mgmt.stock_statement(''q'', since => %L, until => %L)',
    (SELECT at FROM statement WHERE n = 3), (SELECT at FROM statement WHERE n = 5))),
    (SELECT string_agg(format('(%s,%s)', event_id, on_hand_after), ' ' ORDER BY n) FROM statement WHERE n IN (3, 4)),
    'since is included, until is not');
SELECT is_empty($$SELECT * FROM order_mgmt.stock_statement('none')$$, 'nothing has no statement');
SELECT is(error_of('SELECT order_mgmt.stock_statement(NULL)'), 'OM001 product_id', 'product NULL');

-- list_products
SELECT count(*) FROM unnest('{Zebra,a}'::text[]) AS c, order_mgmt.set_product(c) \g /dev/null
SELECT is(rows_of('SELECT product_id, on_hand FROM order_mgmt.list_products()'), '(Zebra,) (a,) (p,) (q,4)', 'in order of bytes');
SELECT is(rows_of($$SELECT product_id FROM order_mgmt.list_products(after => 'Zebra', page_size => 2)$$), '(a) (p)', 'a page');
SELECT is(rows_of($$SELECT product_id FROM order_mgmt.list_products('{q,none,a}')$$), '(a) (q)', 'those that are named');
SELECT is(rows_of($$SELECT product_id FROM order_mgmt.list_products('{q,a}', 'a')$$), '(q)', 'a page of those');
SELECT is_empty($$SELECT * FROM order_mgmt.list_products('{}')$$, 'none named');
SELECT is(error_of('SELECT order_mgmt.list_products(page_size => 0)'), 'OM001 page_size', 'page of 0');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
