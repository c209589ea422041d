# Who commits late is not skipped: open and prepared transactions, across thousands of others, restarts of the
# workers, crashes and stops of the server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = start_server('late', 'max_prepared_transactions = 10', 'order_mgmt.workers_per_database = 4', 'restart_after_crash = on');
new_shop($node, 'shop');
my $script = $node->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");

my $ticks = 'SELECT max(tick_id) FROM (SELECT tick_id FROM order_mgmt.ticks_0 UNION ALL SELECT tick_id FROM order_mgmt.ticks_1) AS t';
my $shipped = q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'shipped');

sub many_commit
{
	my ($count) = @_;
	my $before = $node->safe_psql('shop', "SELECT ($ticks) || ' ' || ($shipped)");
	my $load = in_background($node, [ 'pgbench', '-n', '-c', 4, '-t', $count / 4, '-f', $script, 'shop' ]);
	is(finish($load), 0, "$count others commit");
	is($node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s'))), 't', 'and have been handled');
	my ($tick, $orders) = split / /, $before;
	# Slow workers have taken many at a time: then more come, one after the other.
	my $more = 0;
	for (; $more < 50 && $node->safe_psql('shop', $ticks) <= $tick + 10; $more++)
	{
		$node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "', '60 s')");
	}
	cmp_ok($node->safe_psql('shop', $ticks), '>', $tick + 10, 'many ticks have passed');
	is($node->safe_psql('shop', $shipped), $orders + $count + $more, 'all those orders have shipped');
	return;
}
sub end_workers
{
	my @pids = workers($node, 'shop');
	kill('TERM', @pids);
	my $list = join ', ', @pids;
	ok(becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.queues WHERE worker_pid NOT IN ($list)", '4', 60), 'all workers are new');
	return;
}
sub ship_soon
{
	my ($what, @ids) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	for my $id (@ids)
	{
		is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id', '30 s')"), 'shipped', "$what: it ships");
		is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.track_order('$id')"), '5', "$what: once");
	}
	note(sprintf '%s: %d orders have shipped after %.2f s', $what, scalar @ids, time - $start);
	return;
}
sub crash
{
	my $start = time;
	kill_server($node);
	note(sprintf 'SIGKILL of the postmaster to connections: %.2f s', time - $start);
	return;
}
sub writer
{
	my ($before, $after) = @_;
	my $session = $node->background_psql('shop');
	$session->query_safe("BEGIN; $before");
	my $id = $session->query_safe("SELECT order_mgmt.capture_order('c', $Shop::one_line)");
	$session->query_safe($after) if $after ne '';
	return ($session, $id);
}

# Three writers stay open; they commit in another order than they began, and one not at all.
my ($first, $first_id) = writer('SELECT 1', '');
many_commit(400);
my ($second, $second_id) = writer('SAVEPOINT a', 'RELEASE a; SAVEPOINT b; SELECT order_mgmt.add_order_note(order_id, $$x$$) FROM order_mgmt.list_orders(page_size => 1); ROLLBACK TO b');
my ($third, $third_id) = writer('SELECT 1', '');
many_commit(2000);
end_workers();
$second->query_safe('COMMIT');
ship_soon('the second of three writers, committed after 2000 others', $second_id);
many_commit(2000);
$first->query_safe('COMMIT');
$third->query_safe('ROLLBACK');
ship_soon('the first of three writers, committed after 4400 others', $first_id);
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$third_id') IS NULL"), 't', 'who rolls back leaves nothing');
$_->quit for $first, $second, $third;
settle($node, 'shop', 'late writers');

# Prepared, and then the postmaster is killed.
my @ids;
for my $name (qw(one two three))
{
	push @ids, $node->safe_psql('shop', "BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key $name'); PREPARE TRANSACTION '$name'");
}
many_commit(400);
my $load = in_background($node, [ 'pgbench', '-n', '-c', 4, '-t', 20000, '-f', $script, 'shop' ]);
my $now = $node->safe_psql('shop', $shipped);
ok(becomes($node, 'shop', "SELECT ($shipped) > $now + 100", 't', 60), 'orders ship');
crash();
finish($load);
$node->safe_psql('shop', q(COMMIT PREPARED 'one'));
ship_soon('prepared before the crash, committed after it', $ids[0]);
$node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s')));
many_commit(400);
end_workers();
crash();
$node->safe_psql('shop', q(COMMIT PREPARED 'two'));
$node->safe_psql('shop', q(ROLLBACK PREPARED 'three'));
ship_soon('prepared before two crashes', $ids[1]);
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$ids[2]') IS NULL"), 't', 'rolled back, it leaves nothing');
is($node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key two')"), $ids[1], 'its key is known');
isnt($node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key three')"), $ids[2], 'the other key is free again');
settle($node, 'shop', 'prepared transactions');

# Stops: of every kind, with four workers, clients at work and a worker that waits for a client.
for my $mode (qw(fast immediate))
{
	my $holder = $node->background_psql('shop', on_error_stop => 0);
	$holder->query_safe(q(BEGIN; SELECT order_mgmt.adjust_balance('c', 1)));
	$load = in_background($node, [ 'pgbench', '-n', '-c', 4, '-t', 20000, '-f', $script, 'shop' ]);
	my $orders = 'SELECT count(*) FROM order_mgmt.orders';
	$now = $node->safe_psql('shop', $orders);
	ok(becomes($node, 'shop', "SELECT ($orders) > $now + 200", 't', 60), "$mode stop: clients capture");
	my $left = $node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.orders WHERE status IN ('captured', 'confirmed')));
	cmp_ok($left, '>', 100, "$mode stop: orders are under way");
	my $start = time;
	$node->stop($mode);
	note(sprintf '%s stop: %.2f s', $mode, time - $start);
	finish($load);
	eval { $holder->quit };
	$start = time;
	$node->start;
	settle($node, 'shop', "$mode stop");
	note(sprintf '%s stop: %d orders and more were under way, all ended %.2f s after the start', $mode, $left, time - $start);
}
indexes_hold($node, 'shop');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|TRAP|invisible tuple/, 'nothing untoward in the log');
$node->stop;
done_testing();
