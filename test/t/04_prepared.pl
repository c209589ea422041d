# Two-phase commit: a prepared capture is handled after COMMIT PREPARED, once, also across a restart.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Shop;
use Test::More;

my $node = start_server('prepared', 'max_prepared_transactions = 10');
new_shop($node, 'shop');

sub prepare
{
	my ($name) = @_;
	my $id = $node->safe_psql('shop', <<SQL);
BEGIN;
SELECT order_mgmt.capture_order('c', $Shop::one_line, order_ref => '$name');
PREPARE TRANSACTION '$name';
SQL
	chomp $id;
	return $id;
}
# An order captured later has shipped, so the workers have been past the prepared one.
sub others_ship
{
	return is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'others ship meanwhile');
}
sub shipped_once
{
	my ($id, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')"), 'shipped', "$what: it ships");
	is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.track_order('$id')"), '5', "$what: once");
	return;
}

my $id = prepare('one');
others_ship();
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id') IS NULL"), 't', 'a prepared order is not there');
ok(becomes($node, 'shop', q(SELECT sum(pending) FROM order_mgmt.queues), '0', 60), 'nor in a queue');
$node->safe_psql('shop', q(COMMIT PREPARED 'one'));
shipped_once($id, 'committed');

$id = prepare('two');
$node->safe_psql('shop', q(ROLLBACK PREPARED 'two'));
others_ship();
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.find_orders('two'))), '0', 'rolled back, it leaves nothing');

# From another database of the cluster it cannot be ended; from another session of this one it can.
$id = prepare('three');
isnt($node->psql('postgres', q(COMMIT PREPARED 'three')), 0, 'another database cannot end it');
$node->safe_psql('shop', q(COMMIT PREPARED 'three'));
shipped_once($id, 'ended by another session');

# Across restarts
my @ids = map { prepare($_) } qw(four five six);
others_ship();
$node->safe_psql('shop', q(COMMIT PREPARED 'four'));
$node->stop('immediate');
$node->start;
shipped_once($ids[0], 'committed just before an immediate stop');
others_ship();
$node->safe_psql('shop', q(COMMIT PREPARED 'five'));
shipped_once($ids[1], 'committed after it');
$node->restart;
others_ship();
$node->safe_psql('shop', q(ROLLBACK PREPARED 'six'));
others_ship();
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.find_orders('six'))), '0', 'rolled back after it');

# An idempotency key of a prepared transaction is taken until that ends.
$node->safe_psql('shop', <<SQL);
BEGIN;
SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key');
PREPARE TRANSACTION 'seven';
SQL
my $repeat = in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ],
	"SELECT created FROM order_mgmt.capture_orders(jsonb_build_array(jsonb_build_object('customer_id', 'c', 'lines', ${Shop::one_line}::jsonb, 'idempotency_key', 'key')));\n");
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'), '1', 60), 'the same key waits');
$node->safe_psql('shop', q(COMMIT PREPARED 'seven'));
finish($repeat);
is($repeat->{out}, "f\n", 'and finds the order that was prepared');

# What run_pipeline() did in a prepared transaction
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer(name) FROM order_mgmt.consumers));
my $own = $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line)");
$node->safe_psql('shop', q(ALTER DATABASE shop SET order_mgmt.workers = off));
ok(becomes($node, 'shop', q(SELECT count(*) FROM order_mgmt.queues WHERE worker_pid IS NOT NULL), '0', 60), 'workers are off');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer(name) FROM order_mgmt.consumers));
my ($status, $out, $err) = $node->psql('shop', q(BEGIN; SELECT order_mgmt.run_pipeline(); PREPARE TRANSACTION 'run'));
SKIP:
{
	skip 'a transaction that ran the pipeline cannot be prepared', 3 if $status != 0;
	is($node->safe_psql('shop', q(SELECT order_mgmt.run_pipeline())), '0', 'a prepared run keeps the stages to itself');
	$node->safe_psql('shop', q(COMMIT PREPARED 'run'));
	shipped_once($own, 'run by a prepared transaction');
}
$node->safe_psql('shop', q(ALTER DATABASE shop RESET order_mgmt.workers));
settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
