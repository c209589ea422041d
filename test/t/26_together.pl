# All stages in one transaction: that it is used, what is written, and that it comes to the same as
# the stages one by one when it is interrupted, refused, or mixed with them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('together', 'fsync = off', 'restart_after_crash = on', 'autovacuum = off', "log_statement = 'none'");
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c' || n, 1000000), order_mgmt.set_stock('p' || n, 1000000) FROM generate_series(0, 9) AS n));
settle($node, 'shop', 'an empty shop');

my $pause = 'SELECT count(order_mgmt.pause_consumer(name)) FROM order_mgmt.consumers';
my $resume = 'SELECT count(order_mgmt.resume_consumer(name)) FROM order_mgmt.consumers';

# So many orders in one transaction, every tenth too dear; call by call when they are few.
sub capture
{
	my ($number) = @_;
	$node->safe_psql('shop', <<"SQL");
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'c' || n % 10,
	'lines', jsonb_build_array(jsonb_build_object('product_id', 'p' || n % 7, 'quantity', 1, 'unit_price', CASE WHEN n % 10 = 3 THEN 2000000 ELSE 1 END))))
	FROM generate_series(1, $number) AS n), 'reject_all');
SQL
	return;
}

# Versions of rows that were replaced so far: orders, accounts, stock
sub replaced
{
	my $counts = q(SELECT coalesce(sum(n_tup_upd) FILTER (WHERE relname LIKE 'orders%'), 0), sum(n_tup_upd) FILTER (WHERE relname = 'accounts'),
		sum(n_tup_upd) FILTER (WHERE relname = 'stock') FROM pg_stat_user_tables);
	$node->restart;    # statistics of all processes are in
	return split /\|/, $node->safe_psql('shop', $counts);
}

my $places = q(SELECT count(DISTINCT (tick_id, base, target, lxid, event_id)) FROM (SELECT DISTINCT ON (consumer) * FROM order_mgmt.cursor_log_0
	WHERE consumer IN ('balance_checker', 'stock_checker', 'order_updater', 'shipper') ORDER BY consumer, seq DESC) AS c);

# --- one by one, each order is written twice; together, once ----------------------------------------
my @before = replaced();
$node->safe_psql('shop', $pause);
capture(1000);
$node->safe_psql('shop', $resume);
settle($node, 'shop', 'together');
is($node->safe_psql('shop', $places), '1', 'all stages stand at the same place');
my @after = replaced();
is($after[0] - $before[0], 1000, 'each order is written once');
is($after[1] - $before[1], 9, 'so is each account that has paid');
is($after[2] - $before[2], 7, 'and each row of stock');
is($node->safe_psql('shop', q(SELECT string_agg(event_type, ' ') FROM order_mgmt.track_order((SELECT order_id FROM order_mgmt.orders WHERE status = 'shipped' LIMIT 1)))),
	'order_captured balance_held stock_held order_confirmed order_shipped', 'nothing is missing in its trail');
is($node->safe_psql('shop', q(SELECT count(*) FROM (SELECT order_id, event_type FROM order_mgmt.events WHERE order_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1) AS twice)), '0', 'nothing has happened twice');

# --- in the middle of a window ------------------------------------------------------------------------
# Thousands behind in one window, and small batches: each position carries what was seen ahead.
$node->safe_psql('shop', 'ALTER DATABASE shop SET order_mgmt.batch_size = 100');
for my $round (1 .. 3)
{
	settle($node, 'shop', "round $round: before");
	$node->safe_psql('shop', $pause);
	capture(6000);
	my $shipped = 'SELECT count(*) FROM order_mgmt.orders WHERE status = \'shipped\'';
	my $so_far = $node->safe_psql('shop', $shipped);
	$node->safe_psql('shop', $resume);
	ok(becomes($node, 'shop', "SELECT ($shipped) > $so_far", 't', 60), "round $round: it goes on");
	if ($round == 1)
	{
		my ($pid) = workers($node, 'shop');
		ok(kill_process($node, $pid), 'a worker is killed, and the server is back');
	}
	elsif ($round == 2)
	{
		$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('shipper')));
		capture(500);
		ok(becomes($node, 'shop', q(SELECT count(*) > 0 FROM order_mgmt.orders WHERE status = 'confirmed'), 't', 60), 'while the shipper is paused, orders are confirmed');
		$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('shipper')));
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	settle($node, 'shop', "round $round: after");
}
is($node->safe_psql('shop', $places), '1', 'all stages stand at the same place again');
is($node->safe_psql('shop', q(SELECT sum(pending) || ' ' || sum(retrying) || ' ' || sum(dead) FROM order_mgmt.queues)), '0 0 0', 'nothing is left in a queue');
is($node->safe_psql('shop', q(SELECT max(cardinality(base)) > 14 FROM order_mgmt.cursor_log_0)), 't', 'positions did carry what was seen ahead');
$node->safe_psql('shop', 'ALTER DATABASE shop RESET order_mgmt.batch_size');

# --- an order that cannot be handled --------------------------------------------------------------------
$node->safe_psql('shop', q(UPDATE order_mgmt.consumers SET max_attempts = 2, backoff_base = '10 ms', backoff_cap = '10 ms' WHERE name = 'stock_checker'));
my $poison = $node->safe_psql('shop', <<"SQL");
SET client_min_messages = error;
BEGIN;
SELECT order_mgmt.capture_order('c', $Shop::one_line) AS id \\gset
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
COMMIT;
SELECT :'id';
SQL
capture(300);
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$poison', '30 s')"), 'failed', 'it fails');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.dead_letters)), '1', 'and is a dead letter');
$node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s')));
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.orders WHERE status IN ('captured', 'confirmed'))), '0', 'all others have come to their end');
$node->safe_psql('shop', "INSERT INTO order_mgmt.order_lines SELECT order_id, created_at, 1, 'p', 1, 1 FROM order_mgmt.orders WHERE order_id = '$poison'");
is($node->safe_psql('shop', q(SELECT order_mgmt.replay_dead_letters('stock_checker'))), '1', 'mended, it is taken up again');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$poison', '30 s')"), 'shipped', 'and ships');
settle($node, 'shop', 'after the failure');

# --- beside an old snapshot --------------------------------------------------------------------------------
# It keeps all versions of a row, but the worker knows where it has put the newest: it asks the index once.
my $probes = q(SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname = 'stock_pkey');
my $moves = q(SELECT sum(n_tup_upd - n_tup_hot_upd) FROM pg_stat_user_tables WHERE relname = 'stock');
$node->safe_psql('shop', 'VACUUM FULL order_mgmt.stock');
$node->safe_psql('shop', 'ALTER DATABASE shop SET order_mgmt.batch_size = 20');
$node->restart;
my ($probed, $moved) = map { $node->safe_psql('shop', $_) } $probes, $moves;
my $old = $node->background_psql('shop');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM order_mgmt.orders');
$node->safe_psql('shop', $pause);
capture(10_000);
$node->safe_psql('shop', $resume);
$node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s')));
$old->quit;
$node->restart;
cmp_ok($node->safe_psql('shop', $moves) - $moved, '>', 20, 'rows have moved on to new pages');
cmp_ok($node->safe_psql('shop', $probes) - $probed, '<', 20, 'and were found there without the index');
$node->safe_psql('shop', 'ALTER DATABASE shop RESET order_mgmt.batch_size');
settle($node, 'shop', 'after the old snapshot');

# --- in turn with clients -------------------------------------------------------------------------------
# run_pipeline() goes stage by stage, and by horizons of its own.
$node->safe_psql('shop', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'the worker has left');
capture(2000);
is($node->safe_psql('shop', q(SELECT order_mgmt.run_pipeline() > 0)), 't', 'run_pipeline() goes on with what others have captured');
settle($node, 'shop', 'a client alone');

# What the transaction has captured itself comes among what others have, and after it more.
capture(1500);
$node->safe_psql('shop', <<"SQL");
BEGIN;
SELECT count(order_mgmt.capture_order('c', $Shop::one_line)) FROM generate_series(1, 1500);
SELECT order_mgmt.run_pipeline(400);
SELECT order_mgmt.run_pipeline();
SELECT order_mgmt.capture_order('c', $Shop::one_line);
SELECT order_mgmt.run_pipeline();
COMMIT;
SELECT order_mgmt.run_pipeline();
SQL
settle($node, 'shop', 'own orders among others');
is($node->safe_psql('shop', q(SELECT count(*) FROM (SELECT order_id, event_type FROM order_mgmt.events WHERE order_id IS NOT NULL AND detail->'round' IS NULL GROUP BY 1, 2 HAVING count(*) > 1) AS twice)), '0', 'nothing has happened twice');
$node->safe_psql('shop', "BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line); SELECT order_mgmt.run_pipeline(); ROLLBACK");
capture(700);
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
settle($node, 'shop', 'after a rollback');
$node->safe_psql('shop', 'ALTER DATABASE shop RESET order_mgmt.workers');
capture(500);
settle($node, 'shop', 'with a worker again');
indexes_hold($node, 'shop');

$node->stop;
done_testing();
