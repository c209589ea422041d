# Immediate stops, killed workers and restarts under load: what was answered stays true, nothing is
# lost and nothing happens twice.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('crash', 'restart_after_crash = on', 'checkpoint_timeout = 30s');
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT count(*) FROM generate_series(1, 20) AS n, order_mgmt.set_account('c' || n, 300)));
$node->safe_psql('shop', q(SELECT count(*) FROM generate_series(1, 10) AS n, order_mgmt.set_stock('p' || n, 700)));

# Orders of many customers for many products, too many for credit and stock; some are cancelled.
my $script = $node->basedir . '/load.pgbench';
append_to_file($script, <<'SQL');
\set c random(1, 20)
\set p random(1, 10)
\set q random(1, 10)
\set x random(1, 10)
SELECT order_mgmt.capture_order('c' || :c, jsonb_build_array(jsonb_build_object('product_id', 'p' || :p, 'quantity', 1, 'unit_price', 1), jsonb_build_object('product_id', 'p' || :q, 'quantity', 2, 'unit_price', 0.5))) AS id \gset
SELECT CASE WHEN :x = 1 AND order_mgmt.get_order_status(':id') IN ('captured', 'confirmed') THEN order_mgmt.cancel_order(':id') END;
SQL
my $capture = "SELECT order_mgmt.capture_order('c1', $Shop::one_line);\n";
my $answers = "SELECT order_id || ' ' || status FROM order_mgmt.list_orders(status => 'shipped', page_size => 20);\n"
  . "SELECT order_id || ' ' || status FROM order_mgmt.list_orders(status => 'rejected', page_size => 20);\n";

# Runs load until so many more orders have come to an end, lets $crash happen, and compares.
sub crash_under_load
{
	my ($what, $orders, $crash) = @_;
	my $ended = q(SELECT count(*) FROM order_mgmt.orders WHERE status IN ('shipped', 'rejected'));
	my $before = $node->safe_psql('shop', $ended);
	my $captures = in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], $capture x 50000);
	my $reads = in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], $answers x 20000);
	my $load = in_background($node, [ 'pgbench', '-n', '-c', 2, '-t', 50000, '-f', $script, 'shop' ]);
	ok(becomes($node, 'shop', "SELECT ($ended) >= $before + $orders", 't', 60), "$what: orders come to an end");
	ok(has_written($captures, 4096, 60) && has_written($reads, 4096, 60), "$what: clients are told of it");
	$crash->();
	finish($_) for $captures, $reads, $load;
	ok(becomes($node, 'shop', q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), "$what: the rest is done afterwards");

	my %status = map { split / / } split /\n/,
	  $node->safe_psql('shop', q(SELECT order_id || ' ' || status FROM order_mgmt.orders));
	my @captured = $captures->{out} =~ /^(\S{36})\n/mg;
	my @seen = $reads->{out} =~ /^(\S{36} \w+)\n/mg;
	cmp_ok(@captured, '>', 10, "$what: clients were told of orders");
	is(scalar(grep { !exists $status{$_} } @captured), 0, "$what: each of those is there");
	cmp_ok(@seen, '>', 10, "$what: readers were told how orders ended");
	is(scalar(grep { my ($id, $was) = split / /; $status{$id} ne $was } @seen), 0, "$what: and that is how they ended");
	settle($node, 'shop', $what);
	return;
}

for my $round (1, 2)
{
	crash_under_load("immediate stop $round", 100, sub { $node->stop('immediate'); $node->start; });
}
crash_under_load('a worker killed', 100, sub {
		my ($pid) = workers($node, 'shop');
		ok(kill_process($node, $pid), 'a worker is killed');
		becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.queues WHERE worker_pid <> $pid", '4', 60)
		  or fail('no worker after the crash restart');
	});
crash_under_load('restart', 100, sub { $node->restart('fast'); });

# The launcher comes back by itself.
my $launcher = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt launcher');
my $pid = $node->safe_psql('postgres', $launcher);
kill('TERM', $pid);
ok(becomes($node, 'postgres', "SELECT count(*) FROM ($launcher) AS l WHERE pid <> $pid", '1', 60), 'an ended launcher is back');
my ($worker) = workers($node, 'shop');
kill('TERM', $worker) if $worker;
ok(becomes($node, 'shop', 'SELECT count(*) FROM order_mgmt.queues WHERE worker_pid <> ' . ($worker // 0), '4', 60),
	'and looks after its workers');
settle($node, 'shop', 'at the end');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|invisible tuple|reference leak/, 'nothing untoward in the log');
$node->stop;
done_testing();
