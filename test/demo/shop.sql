-- A shop, out of files as another system would export them: 500 accounts and 205 products, and the first
-- orders of the day. Every 12th account has little credit, every 15th product little stock, and the last 5
-- products are in the catalogue but in no stock. Orders also come from the unknown accounts C501 to C503.
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup() \g /dev/null
SELECT setseed(0.5) \g /dev/null

COPY (SELECT format('C%s', n) AS customer_id, format('Customer %s', n) AS name,
             CASE WHEN n % 12 = 0 THEN 1000 ELSE 1000000 END AS balance
        FROM generate_series(1, 500) AS n)
  TO STDOUT (FORMAT csv, HEADER) \g :files/accounts.csv

COPY (SELECT format('P%s', n) AS product_id, format('Product %s', n) AS name,
             (1 + 40 * random() ^ 3)::numeric(18, 2) AS unit_price
        FROM generate_series(1, 205) AS n)
  TO STDOUT (FORMAT csv, HEADER) \g :files/products.csv

COPY (SELECT format('P%s', n) AS product_id, CASE WHEN n % 15 = 0 THEN 50 ELSE 1000000 END AS on_hand
        FROM generate_series(1, 200) AS n)
  TO STDOUT (FORMAT csv, HEADER) \g :files/stock.csv

-- Semicolons, other names, two lines an order, and three rows that are wrong.
COPY (SELECT format('WEB-%s', n) AS "Order", format('C%s', 1 + n % 503) AS "Customer", format('P%s', 1 + (n * line) % 205) AS "Article",
             CASE WHEN n % 400 = 7 AND line = 1 THEN 'a dozen' ELSE line::text END AS "Pieces"
        FROM generate_series(1, 1000) AS n, generate_series(1, 2) AS line ORDER BY n, line)
  TO STDOUT (FORMAT csv, HEADER, DELIMITER ';') \g :files/orders.csv

SELECT order_mgmt.load_accounts_csv(source => :'files' || '/accounts.csv') \g /dev/null
SELECT order_mgmt.load_products_csv(source => :'files' || '/products.csv') \g /dev/null
SELECT order_mgmt.load_stock_csv(source => :'files' || '/stock.csv') \g /dev/null
SELECT order_mgmt.load_orders_csv(
    source => :'files' || '/orders.csv',
    options => '{"delimiter": ";",
                 "columns": {"order_ref": "Order", "customer_id": "Customer", "product_id": "Article", "quantity": "Pieces"}}') AS first_orders \gset
SELECT order_mgmt.wait_for_load(:first_orders) \g /dev/null

SELECT kind, rows_read, rows_loaded, rows_rejected, orders_loaded FROM order_mgmt.loads ORDER BY load_id;
SELECT row_no, column_name, message FROM order_mgmt.load_errors ORDER BY row_no LIMIT 2;
