# Without preloading everything but workers is there: install, capture and run the pipeline in one session.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use Shop;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('plain');
$node->init;
$node->start;

my $line = q('[{"product_id": "p", "quantity": 2, "unit_price": 3}]');
is($node->safe_psql('postgres', <<SQL), 't|0.0000|shipped', 'one session, from CREATE EXTENSION to shipped');
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup() AS is_new \\gset
SELECT order_mgmt.set_account('c', 6), order_mgmt.set_stock('p', 2) \\g /dev/null
SELECT order_mgmt.capture_order('c', $line) AS id \\gset
SELECT order_mgmt.run_pipeline() \\g /dev/null
SELECT :'is_new', balance, order_mgmt.get_order_status(:'id') FROM order_mgmt.get_account('c');
SQL
is($node->safe_psql('postgres', <<SQL), 'shipped|1', 'so too in one transaction, beside others');
BEGIN;
SELECT order_mgmt.set_account('c', 6), order_mgmt.set_stock('p', 2) \\g /dev/null
SELECT order_mgmt.capture_order('c', $line) AS id \\gset
SELECT order_mgmt.run_pipeline() \\g /dev/null
COMMIT;
SELECT order_mgmt.get_order_status(:'id'), count(*) FROM order_mgmt.track_order(:'id') WHERE event_type = 'order_shipped';
SQL

# Who waits is served by another session.
my $id = $node->safe_psql('postgres', "SELECT order_mgmt.set_account('c', 6), order_mgmt.set_stock('p', 2) \\g /dev/null\n"
	  . "SELECT order_mgmt.capture_order('c', $line)");
is($node->safe_psql('postgres', "SELECT order_mgmt.wait_for_order('$id', '0.1 s')"), 'captured', 'nobody works by himself');
my $waiting = in_background($node, [ 'psql', '-XAtq', '-d', 'postgres' ], "SELECT order_mgmt.wait_for_order('$id', '60 s');\n");
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%wait_for_order%' AND pid <> pg_backend_pid()),
		'1', 60), 'somebody waits for an order');
$node->safe_psql('postgres', 'SELECT order_mgmt.run_pipeline()');
finish($waiting);
is($waiting->{out}, "shipped\n", 'and hears that it has shipped');

# So is a program that waits for events.
$node->safe_psql('postgres', q(SELECT order_mgmt.create_consumer('mailer', '{order_captured}')));
$waiting = in_background($node, [ 'psql', '-XAtq', '-d', 'postgres' ],
	"SET statement_timeout = '120 s';\nSELECT event_type, customer_id FROM order_mgmt.receive_events('mailer', wait => '1 h');\n");
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%receive_events%' AND pid <> pg_backend_pid()),
		'1', 60), 'somebody waits for events');
$node->safe_psql('postgres', "SELECT order_mgmt.capture_order('c', $line)");
finish($waiting);
is($waiting->{out}, "order_captured|c\n", 'and hears of an order');
$node->safe_psql('postgres', 'SELECT order_mgmt.run_pipeline()');

is($node->safe_psql('postgres', 'SELECT DISTINCT worker_pid IS NULL FROM order_mgmt.queues'), 't', 'queues know of no worker');
my ($status, $out, $err) = $node->psql('postgres', "LOAD 'order_mgmt'; SET order_mgmt.no_such_setting = 1");
like($err, qr/order_mgmt\.no_such_setting/, 'settings of our prefix that do not exist are refused');
($status, $out, $err) = $node->psql('postgres', "SET order_mgmt.batch_size = 0; SELECT order_mgmt.version()");
unlike($err, qr/server closed/, 'a wrong setting before the library is loaded hurts nobody');
is($node->psql('postgres', 'DROP EXTENSION order_mgmt'), 3, 'DROP EXTENSION is refused here too');

$node->safe_psql('postgres', 'CREATE DATABASE another TEMPLATE postgres');
is($node->safe_psql('another', "SELECT order_mgmt.capture_order('c', $line) \\g /dev/null\n"
	  . "SELECT order_mgmt.post_restore(), order_mgmt.run_pipeline() > 0"), 't|t', 'a copy goes on after post_restore()');
for my $database (qw(postgres another))
{
	settle($node, $database, $database);
}
$node->stop;
done_testing();
