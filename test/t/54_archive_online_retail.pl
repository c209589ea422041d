# A year of real orders goes into files and comes back: every partition as it was before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $file = "$ENV{TESTDIR}/online-retail/online_retail.csv.gz";
plan skip_all => 'the data (../shared/data/online-retail) are not here' if !-f $file;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $node = start_server('archived_retail', 'fsync = off', 'autovacuum = off', "log_statement = 'none'", "order_mgmt.archive_directory = '$folder'");
new_shop($node, 'shop');
sub query { return $node->safe_psql('shop', $_[0]) }

query(<<"SQL");
SELECT order_mgmt.load_orders_csv('$file', 'history', '{"columns": {"order_ref": "InvoiceNo", "customer_id": "CustomerID", "product_id": "StockCode",
	"quantity": "Quantity", "unit_price": "UnitPrice", "created_at": "InvoiceDate"}}') AS id \\gset
SELECT status FROM order_mgmt.wait_for_load(:id, '5 min');
SELECT order_mgmt.wait_until_idle();
SQL
my @months = split /\n/, query(q(SELECT DISTINCT date_trunc('month', created_at, 'UTC')::date FROM order_mgmt.orders ORDER BY 1));
is(@months, 13, 'orders of thirteen months');

# Of each partition the hash of its rows, in the order of the primary key
sub hashes
{
	my %keys = (orders => 'created_at, order_id', order_lines => 'created_at, order_id, line_no', event_log => 'lxid, event_id, at');
	my @parts = split /\n/, query(q(SELECT c.relname FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid JOIN pg_namespace AS n ON n.oid = relnamespace
		WHERE nspname = 'order_mgmt' AND relkind = 'r' ORDER BY 1));
	return { map { my ($table) = /^(\w+?)_\d{4}_\d\d$/; ($_ => query("SELECT count(*) || ' ' || md5(string_agg(t::text, E'\\n' ORDER BY $keys{$table})) FROM order_mgmt.$_ AS t")) } @parts };
}

sub counts { return query('SELECT (SELECT count(*) FROM order_mgmt.orders), (SELECT count(*) FROM order_mgmt.order_lines)') }

my ($before, $rows) = (hashes(), counts());
my $sample = query('SELECT order_id FROM order_mgmt.orders ORDER BY created_at, order_id OFFSET 100 LIMIT 1');
my $shown = query("SELECT order_mgmt.get_order('$sample')");
my $hot = query(q(SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind = 'r' AND relname ~ '^(orders|order_lines|event_log)_201'));
my $cold = 0;
$cold += query("SELECT sum(bytes) FROM order_mgmt.archive_month('$_')") for @months;
is(counts(), '0|0', 'all of them are cold');
note(sprintf 'hot %d bytes, cold %d bytes: %.1f times', $hot, $cold, $hot / $cold);
cmp_ok($hot / $cold, '>=', 8, 'the files take an eighth of the partitions at most');
is(query("SELECT order_mgmt.get_order('$sample')"), $shown, 'an order is shown as before');
is(query("SELECT sum(n) FROM unnest(ARRAY[" . join(', ', map { "'$_'" } @months) . ']::date[]) AS m, LATERAL (SELECT count(*) AS n FROM order_mgmt.archived_orders(m)) AS o'),
	(split /\|/, $rows)[0], 'the files have every order');
is(query('SELECT * FROM order_mgmt.check_invariants()'), '', 'cold: invariants hold');

query("SELECT * FROM order_mgmt.restore_month('$_')") for @months;
is(counts(), $rows, 'all are back');
is_deeply(hashes(), $before, 'each partition has what it had');
is(query("SELECT order_mgmt.get_order('$sample')"), $shown, 'and an order is shown as ever');
is(query('SELECT * FROM order_mgmt.check_invariants()'), '', 'restored: invariants hold');
indexes_hold($node, 'shop');

$node->stop;
done_testing();
