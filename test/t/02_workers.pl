# Workers ship what is captured, come back when they are ended, and lose nothing by it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('workers', 'max_prepared_transactions = 5');
new_shop($node, 'shop');
ok(becomes($node, 'shop', 'SELECT count(DISTINCT worker_pid) FROM order_mgmt.queues WHERE worker_pid IS NOT NULL', '1', 60),
	'setup() starts a worker');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped',
	'who waits for an order sees it shipped');
is($node->safe_psql('shop', <<SQL), 'OM005', 'who waits for an order of his own transaction hears so at once');
BEGIN;
SELECT order_mgmt.capture_order('c', $Shop::one_line) AS id \\gset
\\set ON_ERROR_STOP off
SELECT order_mgmt.wait_for_order(:'id');
\\echo :LAST_ERROR_SQLSTATE
SQL

# Ended, it is back, and works.
for my $end ('pg_terminate_backend', 'SIGTERM')
{
	my ($pid) = workers($node, 'shop');
	ok($pid, "$end: there is a worker");
	$end eq 'SIGTERM' ? kill('TERM', $pid) : $node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	my $id = one_order($node, 'shop');
	ok(becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.queues WHERE worker_pid <> $pid", '4', 60), "$end: another one takes its place");
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')"), 'shipped', "$end: what was captured meanwhile ships");
}
settle($node, 'shop', 'after both');

# Ended again and again under load
my $script = $node->basedir . '/capture.pgbench';
PostgreSQL::Test::Utils::append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");
my $load = in_background($node, [ 'pgbench', '-n', '-c', 2, '-t', 1500, '-f', $script, 'shop' ]);
for my $round (1 .. 10)
{
	my ($pid) = workers($node, 'shop');
	kill('TERM', $pid) if $pid;
	becomes($node, 'postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop' AND pid <> "
		  . ($pid // 0), 't', 60) or fail("round $round: no worker came back");
}
is(finish($load), 0, 'clients do not notice');
settle($node, 'shop', 'ended ten times under load');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.list_orders('c', 'shipped', page_size => 10000))), '3003', 'all orders have shipped');

# Ended several times while an order waits for its second verdict
sub end_worker
{
	my ($pid) = workers($node, 'shop');
	kill('TERM', $pid);
	return becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.queues WHERE worker_pid <> $pid", '4', 60);
}
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('stock_checker')));
my $half = one_order($node, 'shop');
my $handled = q(SELECT pending FROM order_mgmt.queues WHERE consumer = 'order_updater');
my $processed = q(SELECT processed FROM order_mgmt.queues WHERE consumer = 'order_updater');
ok(becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.track_order('$half') UNION ALL $handled", "1\n0", 60)
	  || becomes($node, 'shop', q(SELECT reserved FROM order_mgmt.get_account('c')), '1.0000', 60), 'credit is held, stock is not checked');
for my $round (1 .. 3)
{
	my $before = $node->safe_psql('shop', $processed);
	ok(end_worker(), "ended for the $round. time in between");
	# Something for the updater to move on with
	$node->safe_psql('shop', "SELECT order_mgmt.cancel_order('" . one_order($node, 'shop') . "')");
	becomes($node, 'shop', "SELECT processed > $before FROM order_mgmt.queues WHERE consumer = 'order_updater'", 't', 60);
}
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker')));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$half')"), 'shipped', 'the order ships when both verdicts are in');
ok(becomes($node, 'shop', q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), 'and the pipeline comes to rest');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');

# A pause survives a restart of the server.
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('balance_checker')));
$node->restart;
my $waits = one_order($node, 'shop');
ok(becomes($node, 'shop', q(SELECT pending FROM order_mgmt.queues WHERE consumer = 'stock_checker'), '0', 60), 'after a restart the others work');
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$waits')"), 'captured', 'and who paused still does');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('balance_checker')));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$waits')"), 'shipped', 'until he is resumed');

# A client in an open transaction must not stop the shop for the others.
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('slow', 100), order_mgmt.set_account('other', 100)));
my $client = $node->background_psql('shop');
$client->query_safe(q(BEGIN; SELECT order_mgmt.adjust_balance('slow', 1)));
my @ids = split /\n/, $node->safe_psql('shop',
	"SELECT order_mgmt.capture_order(c, $Shop::one_line) FROM unnest('{slow,other}'::text[]) AS c");
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$ids[1]')"), 'shipped',
	'while one customer is being changed, orders of others ship');
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$ids[0]')"), 'captured', 'his own waits');
ok(becomes($node, 'shop', q(SELECT pending FROM order_mgmt.queues WHERE consumer = 'balance_checker'), '1', 60), 'and is shown as waiting');
$client->query_safe('COMMIT');
$client->quit;
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$_')"), 'shipped', 'afterwards all ship') for @ids;

# Whoever locks in another order than a worker does not pay for it: a worker waits for no client.
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('a', 100), order_mgmt.set_account('b', 100)));
$client = $node->background_psql('shop', on_error_stop => 0);
$client->query_safe(q(BEGIN; SELECT order_mgmt.adjust_balance('b', 1, 'in the wrong order')));
@ids = split /\n/, $node->safe_psql('shop',
	"SELECT order_id FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', c, 'lines', ${Shop::one_line}::jsonb)) FROM unnest('{a,b}'::text[]) AS c))");
ok(becomes($node, 'shop', "SELECT order_mgmt.get_order_status('$ids[0]')", 'shipped', 60), 'the order of the account that is free ships');
like($client->query(q(SELECT order_mgmt.adjust_balance('a', 1))), qr/^101|^100/, 'a client that locks two accounts in the wrong order gets both');
is($client->query(q(COMMIT; SELECT count(*) FROM order_mgmt.account_statement('b') WHERE reason = 'in the wrong order')), '1', 'and commits');
$client->query('ROLLBACK');
$client->quit;
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$_')"), 'shipped', 'the orders ship') for @ids;

# auto_ship off: workers confirm, people ship, and what nobody ships expires by itself.
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.auto_ship = off));
my $by_hand = one_order($node, 'shop');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$by_hand')"), 'confirmed', 'with auto_ship off a wait ends with confirmed');
is($node->safe_psql('shop', "SELECT order_mgmt.ship_order('$by_hand')"), 'shipped', 'shipped by hand');
my $forgotten = one_order($node, 'shop');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$forgotten')"), 'confirmed', 'another one is forgotten');
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.hold_timeout = '1s'));
ok(becomes($node, 'shop', "SELECT status, reasons FROM order_mgmt.list_orders() WHERE order_id = '$forgotten'", 'cancelled|{expired}', 60), 'its hold times out');
my $later = one_order($node, 'shop');
ok(becomes($node, 'shop', "SELECT status, reasons FROM order_mgmt.list_orders() WHERE order_id = '$later'", 'cancelled|{expired}', 60), 'so does a later one');
$node->safe_psql('postgres', q(ALTER DATABASE shop RESET order_mgmt.hold_timeout));
my $waiting = one_order($node, 'shop');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$waiting')"), 'confirmed', 'one more waits');
$node->safe_psql('postgres', q(ALTER DATABASE shop RESET order_mgmt.auto_ship));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$waiting')"), 'shipped', 'until auto_ship is on again');

# A capture that is rolled back leaves nothing and wakes nobody.
settle($node, 'shop', 'before the rollback');
my $ticks = 'SELECT sum(n) FROM (SELECT count(*) AS n FROM order_mgmt.ticks_0 UNION ALL SELECT count(*) FROM order_mgmt.ticks_1) AS t';
my $before = $node->safe_psql('shop', $ticks);
$node->safe_psql('shop', "BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line, 'k', 'rolled back'); ROLLBACK");
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.find_orders('rolled back'))), '0', 'rolled back, no order is there');
is($node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('0'))), 't', 'nothing is to be done for it');
one_order($node, 'shop');
settle($node, 'shop', 'after the rollback');
cmp_ok($node->safe_psql('shop', $ticks), '>', $before, 'a capture that is committed makes the worker look');
$before = $node->safe_psql('shop', $ticks);
$node->safe_psql('shop', "BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line); ROLLBACK") for 1 .. 20;
is($node->safe_psql('shop', $ticks), $before, 'twenty that are rolled back do not');

# Taken down and set up again under the eyes of its worker, the shop opens anew.
$node->safe_psql('shop', q(SELECT order_mgmt.teardown('drop all order data')));
$node->safe_psql('shop', q(SELECT order_mgmt.setup()));
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c', 1000); SELECT order_mgmt.set_stock('p', 1000)));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'after teardown() and setup() orders ship');
settle($node, 'shop', 'at the end');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|invisible tuple|reference leak/, 'nothing untoward in the log');

$node->stop;
done_testing();
