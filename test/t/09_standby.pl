# A hot standby answers and changes nothing; promoted, it goes on where the primary stopped.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $primary = start_server('primary', 'wal_level = replica', 'max_wal_senders = 5', 'hot_standby = on');
new_shop($primary, 'shop');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $id = one_order($primary, 'shop');
$primary->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')");
settle($primary, 'shop', 'primary');
$primary->wait_for_catchup($standby);

# Reading
for my $query ("SELECT order_mgmt.get_order('$id')", "SELECT order_mgmt.get_order_status('$id')", "SELECT count(*) FROM order_mgmt.track_order('$id')",
	'SELECT count(*) FROM order_mgmt.list_orders()', q(SELECT balance FROM order_mgmt.get_account('c')), q(SELECT on_hand FROM order_mgmt.get_product('p')),
	q(SELECT count(*) FROM order_mgmt.account_statement('c')), q(SELECT count(*) FROM order_mgmt.stock_statement('p')),
	'SELECT count(*) FROM order_mgmt.events', 'SELECT count(*) FROM order_mgmt.check_invariants()', "SELECT order_mgmt.preview_order('c', $Shop::one_line)",
	'SELECT consumer, pending, paused FROM order_mgmt.queues', 'SELECT count(*) FROM order_mgmt.shipment_queue', "SELECT order_mgmt.wait_for_order('$id', '1 s')",
	q(SELECT order_mgmt.wait_until_idle('1 s')), 'SELECT * FROM order_mgmt.version()')
{
	is($standby->safe_psql('shop', $query), $primary->safe_psql('shop', $query), "the standby answers $query");
}
# Writing
for my $query ("SELECT order_mgmt.capture_order('c', $Shop::one_line)", "SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key')",
	"SELECT order_mgmt.cancel_order('$id')", "SELECT order_mgmt.add_order_note('$id', 'x')", 'SELECT order_mgmt.run_pipeline()',
	q(SELECT order_mgmt.adjust_balance('c', 1)), q(SELECT order_mgmt.set_account('d')), q(SELECT order_mgmt.set_stock('p', 5)),
	q(SELECT order_mgmt.pause_consumer('shipper')), 'SELECT order_mgmt.run_maintenance()', 'SELECT order_mgmt.setup()')
{
	my (undef, undef, $err) = $standby->psql('shop', "\\set VERBOSITY verbose\n$query");
	like($err, qr/ERROR:  25006/, "the standby refuses $query");
}
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_mgmt%')), '0', 'nobody works on a standby');

# Promotion under load
my $script = $primary->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");
my $load = in_background($primary, [ 'pgbench', '-n', '-c', 3, '-T', 30, '-f', $script, 'shop' ]);
ok(becomes($standby, 'shop', q(SELECT count(*) > 200 FROM order_mgmt.orders WHERE status = 'shipped'), 't', 30), 'orders ship, as the standby sees');
$primary->stop('immediate');
finish($load);
$standby->promote;
ok(becomes($standby, 'shop', 'SELECT count(worker_pid) FROM order_mgmt.queues', '4', 10), 'promoted, it has workers');
is($standby->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($standby, 'shop') . "')"), 'shipped', 'and ships');
settle($standby, 'shop', 'the promoted standby');
$standby->stop;
done_testing();
