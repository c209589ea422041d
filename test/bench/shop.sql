-- Enough of everything in both worlds: the benchmark is about speed, and every order ships.
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup() \g /dev/null
SELECT count(*) FROM generate_series(1, 1000) AS n, order_mgmt.set_account('C' || n, balance => 1e12) \g /dev/null
SELECT count(*) FROM generate_series(1, 1000) AS n, order_mgmt.set_stock('P' || n, 1000000000) \g /dev/null
INSERT INTO peer.accounts SELECT 'C' || n, 1e16 FROM generate_series(1, 1000) AS n;
INSERT INTO peer.stock SELECT 'P' || n, 1000000000 FROM generate_series(1, 1000) AS n;
VACUUM ANALYZE;
