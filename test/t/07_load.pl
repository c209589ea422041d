# Many clients: every protocol of pgbench, hot products and customers in shuffled order, one to four workers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('load');
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('hot' || n, 1500) FROM generate_series(1, 5) AS n;
	SELECT order_mgmt.set_stock('hot' || n, 2000) FROM generate_series(1, 5) AS n));

# Runs pgbench; no transaction may fail.
sub bench
{
	my ($what, @options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $run = in_background($node, [ 'pgbench', '-n', '--failures-detailed', @options, 'shop' ]);
	is(finish($run), 0, "$what: pgbench ends well") or diag($run->{err});
	like($run->{out}, qr/number of failed transactions: 0 /, "$what: no transaction failed");
	is($run->{err} =~ s/^pgbench.*(?:vacuum|version).*\n//gmr, '', "$what: no error");
	return;
}

my $single = $node->basedir . '/single.pgbench';
append_to_file($single, <<'SQL');
\set q random(1, 3)
SELECT order_mgmt.capture_order('c', jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', :q::int, 'unit_price', 1)));
SQL
for my $protocol (qw(simple extended prepared))
{
	bench($protocol, '-M', $protocol, '-c', 4, '-t', 150, '-f', $single);
}
settle($node, 'shop', 'protocols');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.list_orders('c', 'shipped', page_size => 10000))), '1800', 'each captured its orders');

# Sixteen who capture three of five hot products in any order for five hot customers, while others cancel
# what they find, add stock, and pay in.
my $hot = $node->basedir . '/hot.pgbench';
append_to_file($hot, <<'SQL');
\set c random(1, 5)
\set a random(1, 5)
\set b random(1, 5)
\set d random(1, 5)
SELECT order_mgmt.capture_order('hot' || :c::int, jsonb_build_array(jsonb_build_object('product_id', 'hot' || :a, 'quantity', 1, 'unit_price', 1), jsonb_build_object('product_id', 'hot' || :b, 'quantity', 2, 'unit_price', 0.25), jsonb_build_object('product_id', 'hot' || :d, 'quantity', 1, 'unit_price', 0)));
SQL
my $batch = $node->basedir . '/batch.pgbench';
append_to_file($batch, <<'SQL');
\set c random(1, 5)
\set p random(1, 5)
\set k random(1, 300)
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'hot' || :c, 'idempotency_key', 'k' || (:k + n * 7) % 50, 'lines', jsonb_build_array(jsonb_build_object('product_id', 'hot' || :p, 'quantity', 1, 'unit_price', 1)))) FROM generate_series(1, 5) AS n));
SQL
my $cancel = $node->basedir . '/cancel.pgbench';
append_to_file($cancel, <<'SQL');
\set c random(1, 5)
DO $$ DECLARE id uuid; BEGIN FOR id IN SELECT order_id FROM order_mgmt.list_orders('hot1', page_size => 3) LOOP BEGIN PERFORM order_mgmt.cancel_order(id, 'raced'); EXCEPTION WHEN SQLSTATE 'OM005' THEN NULL; END; END LOOP; END $$;
SELECT order_mgmt.add_order_note(order_id, 'seen') FROM order_mgmt.list_orders('hot' || :c, page_size => 2);
SQL
my $adjust = $node->basedir . '/adjust.pgbench';
append_to_file($adjust, <<'SQL');
\set c random(1, 5)
\set p random(1, 5)
SELECT order_mgmt.adjust_stock('hot' || :p, 1);
SELECT order_mgmt.adjust_balance('hot' || :c, 0.5, 'pay', 'pay' || :p || clock_timestamp());
SQL
for my $number (1, 2, 4)
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET order_mgmt.workers_per_database = $number");
	$node->reload;
	ok(becomes($node, 'shop', 'SELECT count(DISTINCT worker_pid), count(worker_pid) FROM order_mgmt.queues', "$number|4", 60), "$number workers take over, every stage has one");
	bench("$number workers", '-c', 16, '-j', 2, '-T', 6, '-f', "$hot\@10", '-f', "$batch\@1", '-f', "$cancel\@4", '-f', "$adjust\@1");
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', "$number workers: orders ship");
	settle($node, 'shop', "$number workers");
}
cmp_ok($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'cancelled')), '>', 0, 'some were cancelled');
cmp_ok($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'rejected')), '>', 0, 'some were refused');
cmp_ok($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.list_orders('hot1', 'shipped'))), '>', 0, 'some have shipped');

# Clients that run the pipeline themselves beside the workers
my $run = $node->basedir . '/run.pgbench';
append_to_file($run, "BEGIN;\nSELECT order_mgmt.capture_order('c', $Shop::one_line);\nSELECT order_mgmt.run_pipeline();\nCOMMIT;\n");
bench('beside workers', '-c', 4, '-t', 100, '-f', $run);
settle($node, 'shop', 'beside workers');
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'shop', 'SELECT count(worker_pid) FROM order_mgmt.queues', '0', 60), 'workers are off');
bench('without workers', '-c', 4, '-t', 100, '-f', $run);
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
settle($node, 'shop', 'without workers');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|XX000|invisible tuple|reference leak|deadlock detected/, 'nothing untoward in the log');
$node->stop;
done_testing();
