# Real data: 541,909 rows of a wholesaler's export, dirty as exports are, as history and through the checks.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $file = "$ENV{TESTDIR}/online-retail/online_retail.csv.gz";
plan skip_all => 'the data (../shared/data/online-retail) are not here' if !-f $file;

my $node = start_server('online_retail', 'fsync = off', 'autovacuum = off', "log_statement = 'none'");
my $mapping = q({"columns": {"order_ref": "InvoiceNo", "customer_id": "CustomerID", "product_id": "StockCode",
	"quantity": "Quantity", "unit_price": "UnitPrice", "created_at": "InvoiceDate"}});

# What must come out, computed by SQL from what COPY reads.
sub make_expectation
{
	my ($database) = @_;
	$node->safe_psql($database, <<"SQL");
CREATE TABLE raw (n bigint GENERATED ALWAYS AS IDENTITY, invoice text, code text, description text, quantity text, at text, price text, customer text, country text);
COPY raw (invoice, code, description, quantity, at, price, customer, country) FROM PROGRAM 'gunzip -c $file' (FORMAT csv, HEADER);
CREATE TABLE expected AS SELECT *, first_value(at) OVER (PARTITION BY invoice ORDER BY n)::timestamp AT TIME ZONE 'UTC' AS created_at
FROM (SELECT *, bool_and(customer IS NOT NULL AND quantity::int > 0 AND price::numeric >= 0) OVER (PARTITION BY invoice)
	AND min(customer) OVER (PARTITION BY invoice) = max(customer) OVER (PARTITION BY invoice) AS is_good FROM raw) AS r;
SQL
	return;
}

# Loads the file and waits; what has become of its rows.
sub load
{
	my ($database, $mode) = @_;
	return $node->safe_psql($database, <<"SQL");
SELECT order_mgmt.load_orders_csv('$file', '$mode', '$mapping') AS id \\gset
SELECT status, rows_read, rows_loaded, rows_rejected, orders_loaded FROM order_mgmt.wait_for_load(:id, '5 min');
SQL
}

my $expected_rows = q(SELECT 'done', count(*), count(*) FILTER (WHERE is_good), count(*) FILTER (WHERE NOT is_good),
	count(DISTINCT invoice) FILTER (WHERE is_good) FROM expected);
my $sums = 'date_trunc(\'month\', created_at) AS month, count(*), sum(%s)';

# --- history ---------------------------------------------------------------------------------------
new_shop($node, 'history');
make_expectation('history');
is($node->safe_psql('history', 'SELECT count(*), sum(quantity::int * price::numeric) FROM raw'), '541909|9747747.934', 'the file is the one that is meant');
is(load('history', 'history'), $node->safe_psql('history', $expected_rows), 'every row is loaded or refused');
is($node->safe_psql('history', 'SELECT ' . sprintf($sums, 'quantity * unit_price') . ' FROM order_mgmt.order_lines GROUP BY 1 ORDER BY 1'),
	$node->safe_psql('history', 'SELECT ' . sprintf($sums, 'quantity::int * price::numeric(18, 4)') . ' FROM expected WHERE is_good GROUP BY 1 ORDER BY 1'),
	'each month has its lines and its sum');
is($node->safe_psql('history', q(SELECT count(*) FROM order_mgmt.order_lines WHERE tableoid <> to_regclass('order_mgmt.order_lines_' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY_MM')))),
	'0', 'every line is in the partition of its month');
is($node->safe_psql('history', 'SELECT count(DISTINCT row_no) FROM order_mgmt.load_errors'),
	$node->safe_psql('history', 'SELECT count(*) FROM expected WHERE NOT is_good'), 'every refused row has an error');
is($node->safe_psql('history', q(SELECT count(*) FILTER (WHERE column_name = 'customer_id' AND error_code = '23502'),
	count(*) FILTER (WHERE column_name = 'quantity'), count(*) FILTER (WHERE column_name = 'unit_price') FROM order_mgmt.load_errors)),
	$node->safe_psql('history', q(SELECT count(*) FILTER (WHERE customer IS NULL), count(*) FILTER (WHERE quantity::int < 0), count(*) FILTER (WHERE price::numeric < 0) FROM raw)),
	'with the reason');
is($node->safe_psql('history', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
is($node->safe_psql('history', "SELECT order_mgmt.load_orders_csv('$file', 'history', '$mapping') AS id \\gset\nSELECT status, rows_read FROM order_mgmt.wait_for_load(:id, '5 min')"),
	'done|0', 'the same file again loads nothing');

# --- through the checks --------------------------------------------------------------------------------
new_shop($node, 'capture');
make_expectation('capture');
$node->safe_psql('capture', <<'SQL');
SELECT count(*) FROM (SELECT DISTINCT customer FROM raw WHERE customer IS NOT NULL) AS c,
	order_mgmt.set_account(customer, CASE WHEN hashtext(customer) % 5 = 0 THEN 100 ELSE 1e9 END);
SELECT count(*) FROM (SELECT DISTINCT code FROM raw) AS p, order_mgmt.set_stock(code, CASE WHEN hashtext(code) % 50 = 0 THEN 500 ELSE 1000000000 END);
SQL
is(load('capture', 'capture'), $node->safe_psql('capture', $expected_rows), 'captured, every row is loaded or refused');
settle($node, 'capture', 'the orders of a year');
is($node->safe_psql('capture', q(SELECT string_agg(status, ' ' ORDER BY status) FROM (SELECT DISTINCT status FROM order_mgmt.orders) AS s)), 'rejected shipped', 'some for want of credit or stock are refused');
indexes_hold($node, 'capture');

$node->stop;
done_testing();
