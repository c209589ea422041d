# pg_upgrade, and a plain dump, of a shop with orders in every state: each order ends right afterwards, and once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

my @settings = ("shared_preload_libraries = 'order_mgmt'", 'max_worker_processes = 20', 'max_connections = 40', '');
my $old = start_server('old');
new_shop($old, 'shop');
$old->safe_psql('shop', q(SELECT order_mgmt.set_account('poor', 1.5), order_mgmt.set_stock('rare', 2)));
my $script = $old->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");
my $capture_keyed = "SELECT created FROM order_mgmt.capture_orders(jsonb_build_array(jsonb_build_object('customer_id', 'c', 'lines', ${Shop::one_line}::jsonb, 'idempotency_key', 'known')))";

my $states = q(SELECT string_agg(status || ' ' || n, ', ' ORDER BY status) FROM (SELECT status, count(*) AS n FROM order_mgmt.orders GROUP BY 1) AS s);

# Leaves a shop with orders shipped, rejected, cancelled, confirmed and parked, half checked, and just captured; stopped under load.
sub leave_in_mid_flight
{
	my ($node) = @_;
	my $line = sub { my ($product) = @_; return qq('[{"product_id": "$product", "quantity": 1, "unit_price": 1}]') };
	$node->safe_psql('shop', $capture_keyed);
	$node->safe_psql('shop', 'SELECT order_mgmt.capture_order(' . "'poor', " . $line->('p') . ') FROM generate_series(1, 3)');
	$node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('30 s')));
	$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.auto_ship = off');
	my @parked = split /\n/, $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', " . $line->('rare') . ') FROM generate_series(1, 3)');
	push @parked, split /\n/, $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 20)");
	ok(becomes($node, 'shop', q(SELECT count(*) >= 21 FROM order_mgmt.orders WHERE status = 'confirmed'), 't', 60), 'orders are confirmed and parked');
	$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('stock_checker')));
	my @half = split /\n/, $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 20)");
	ok(becomes($node, 'shop', q(SELECT pending FROM order_mgmt.queues WHERE consumer = 'balance_checker'), '0', 60), 'others are half checked');
	$node->safe_psql('shop', "SELECT order_mgmt.cancel_order('$_')") for $half[0], $parked[-1];
	my $load = in_background($node, [ 'pgbench', '-n', '-c', 2, '-T', 60, '-R', 500, '-f', $script, 'shop' ]);
	my $known = $node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.orders');
	ok(becomes($node, 'shop', "SELECT count(*) > $known + 50 FROM order_mgmt.orders", 't', 60), 'and more are being captured');
	my $start = time;
	$node->stop('fast');
	note(sprintf 'fast stop under load: %.2f s', time - $start);
	finish($load);
	return;
}

sub upgrade
{
	my ($from, $name, @more) = @_;
	my $to = PostgreSQL::Test::Cluster->new($name);
	$to->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
	$to->append_conf('postgresql.conf', join "\n", @settings, @more, '');
	my ($bindir) = map { chomp; $_ } qx(pg_config --bindir);
	my $directory = PostgreSQL::Test::Utils::tempdir();
	my $start = time;
	chdir $directory or die "chdir $directory: $!";
	command_ok([ 'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $from->data_dir, '-D', $to->data_dir,
			'-p', $from->port, '-P', $to->port, '-s', $directory ], "pg_upgrade to $name");
	note(sprintf 'pg_upgrade: %.1f s', time - $start);
	$to->start;
	return $to;
}

# What was under way ends.
sub finish_in
{
	my ($node, $database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	$node->safe_psql('postgres', "ALTER DATABASE $database SET order_mgmt.auto_ship = on");
	$node->safe_psql($database, q(SELECT order_mgmt.resume_consumer('stock_checker')));
	is($node->safe_psql($database, "SELECT order_mgmt.wait_for_order('" . one_order($node, $database) . "', '30 s')"), 'shipped', "$what: what is captured here ships");
	settle($node, $database, $what);
	note(sprintf '%s: all is done after %.2f s', $what, time - $start);
	is($node->safe_psql($database, q(SELECT count(*) = count(DISTINCT order_id) FROM order_mgmt.events WHERE event_type = 'order_shipped')), 't', "$what: none twice");
	is($node->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders AS o WHERE status = 'shipped' AND NOT EXISTS
		(SELECT FROM order_mgmt.track_order(o.order_id) WHERE event_type = 'order_shipped'))), '0', "$what: what is shipped has been shipped");
	is($node->safe_psql($database, $capture_keyed), 'f', "$what: keys are known");
	is($node->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders AS o WHERE status NOT IN ('shipped', 'cancelled', 'rejected'))), '0', "$what: every order has ended");
	is($node->safe_psql($database, q(SELECT balance || ' ' || reserved FROM order_mgmt.get_account('poor'))), '0.5000 0.0000', "$what: no more than the credit is spent");
	is($node->safe_psql($database, q(SELECT on_hand || ' ' || reserved FROM order_mgmt.get_product('rare'))), '0 0', "$what: no more than the stock is sold");
	return;
}

leave_in_mid_flight($old);
my $new = upgrade($old, 'upgraded');
my $before = $new->safe_psql('shop', $states);
like($before, qr/cancelled \d+, captured \d+, confirmed \d+, rejected \d+, shipped \d+/, "orders in every state: $before");
is($new->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold in what was upgraded');
one_order($new, 'shop');
isnt($new->psql('shop', 'SELECT order_mgmt.run_pipeline()'), 0, 'it rests');
is($new->safe_psql('shop', 'SELECT count(worker_pid) FROM order_mgmt.queues'), '0', 'nobody works');
is($new->safe_psql('shop', q(SELECT order_mgmt.post_restore())), 't', 'until post_restore()');
finish_in($new, 'shop', 'upgraded');

# Once more, with the setting that waives the rest; before it, a plain dump of the same.
$new->safe_psql('shop', q(SELECT order_mgmt.set_account('poor', 1.5), order_mgmt.set_stock('rare', 2)));
leave_in_mid_flight($new);
$new->start;
my $dump = $new->basedir . '/shop.sql';
$new->command_ok([ 'pg_dump', '-f', $dump, $new->connstr('shop') ], 'a plain dump');
$new->stop;
my $newest = upgrade($new, 'newest', 'order_mgmt.resume_after_restore = on');
finish_in($newest, 'shop', 'upgraded with resume_after_restore');
like(slurp_file($newest->logfile), qr/LOG:  order_mgmt data of another cluster found in database "shop"; order_mgmt\.resume_after_restore is on/, 'the log says why it has not rested');

# The same under another name beside it, which rests: a clone must not ship.
$newest->safe_psql('postgres', 'ALTER SYSTEM SET order_mgmt.resume_after_restore = off');
$newest->reload;
$newest->safe_psql('postgres', 'CREATE DATABASE clone TEMPLATE template0');
$newest->command_ok([ 'psql', '-Xq', '-1', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $newest->connstr('clone'), '-f', $dump ], 'the plain dump in one transaction');
$before = $newest->safe_psql('clone', $states);
is($newest->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($newest, 'shop') . "', '30 s')"), 'shipped', 'beside it the shop goes on');
is($newest->safe_psql('clone', $states), $before, 'the clone does nothing');
is($newest->safe_psql('clone', 'SELECT order_mgmt.post_restore()'), 't', 'until post_restore()');
finish_in($newest, 'clone', 'the clone');

# The shop replaced by its own dump
$dump = $newest->basedir . '/shop.dump';
$newest->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $newest->connstr('shop') ], 'a dump of the shop');
one_order($newest, 'shop');
$newest->command_ok([ 'pg_restore', '--clean', '--create', '-d', $newest->connstr('postgres'), $dump ], 'pg_restore --clean --create beside its workers');
is($newest->safe_psql('shop', 'SELECT order_mgmt.post_restore()'), 't', 'it rests until post_restore()');
finish_in($newest, 'shop', 'replaced by its dump');
indexes_hold($newest, $_) for qw(shop clone);
unlike(slurp_file($_->logfile), qr/PANIC|XX000|terminated by signal/, 'nothing untoward in the log of ' . $_->name) for $old, $new, $newest;
$newest->stop;
done_testing();
