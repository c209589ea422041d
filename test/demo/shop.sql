-- A shop: 500 accounts and 205 products. Every 12th account has little credit, every 15th product
-- little stock, and the last 5 products are in the catalogue but in no stock. Orders also come from
-- the unknown accounts C501 to C503.
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup() \g /dev/null
SELECT setseed(0.5) \g /dev/null

SELECT count(*)
  FROM generate_series(1, 500) AS n,
       order_mgmt.set_account(
           customer_id => format('C%s', n),
           name => format('Customer %s', n),
           balance => CASE WHEN n % 12 = 0 THEN 1000 ELSE 1000000 END) \g /dev/null

SELECT count(*)
  FROM generate_series(1, 205) AS n,
       order_mgmt.set_product(
           product_id => format('P%s', n),
           name => format('Product %s', n),
           unit_price => (1 + 40 * random() ^ 3)::numeric(18, 2)) \g /dev/null

SELECT count(*)
  FROM generate_series(1, 200) AS n,
       order_mgmt.set_stock(
           product_id => format('P%s', n),
           on_hand => CASE WHEN n % 15 = 0 THEN 50 ELSE 1000000 END) \g /dev/null

SELECT (SELECT count(*) FROM order_mgmt.accounts) AS accounts,
       (SELECT count(*) FROM order_mgmt.products) AS products,
       (SELECT count(*) FROM order_mgmt.stock) AS in_stock;
