# Much behind one consumer, and one poisoned event among many: what goes on meanwhile, and how it ends.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

my $node = start_server('backlog', 'fsync = off', "log_statement = 'none'");
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c' || n, 1000000), order_mgmt.set_stock('p' || n, 1000000) FROM generate_series(0, 9) AS n));

# Captures so many orders, some thousand in a call
sub capture
{
	my ($number, $ref) = @_;
	$node->safe_psql('shop', <<"SQL");
DO \$\$ BEGIN
	FOR start IN 0 .. $number - 1 BY 5000 LOOP
		PERFORM count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'c' || n % 10, 'order_ref', '$ref',
			'lines', jsonb_build_array(jsonb_build_object('product_id', 'p' || n % 7, 'quantity', 1, 'unit_price', 1))))
			FROM generate_series(start, least(start + 5000, $number) - 1) AS n), 'reject_all');
		COMMIT;
	END LOOP;
END \$\$;
SQL
	return;
}

sub queue
{
	my ($consumer, $column) = @_;
	return "SELECT $column FROM order_mgmt.queues WHERE consumer = '$consumer'";
}

# The whole view, timed
sub note_queues
{
	my ($what) = @_;
	my $start = time;
	$node->safe_psql('shop', 'SELECT * FROM order_mgmt.queues');
	note(sprintf '%s: queues answers in %.2f s', $what, time - $start);
	return;
}

# --- one poisoned event among a thousand ----------------------------------------------------------
$node->safe_psql('shop', q(UPDATE order_mgmt.consumers SET max_attempts = 5, backoff_base = '2 s', backoff_cap = '2 s' WHERE name = 'stock_checker';
	SELECT order_mgmt.pause_consumer('stock_checker')));
capture(1000, 'thousand');
my $poison = $node->safe_psql('shop', q(SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'thousand' ORDER BY order_id OFFSET 500 LIMIT 1));
$node->safe_psql('shop', "CREATE TABLE lost AS SELECT * FROM order_mgmt.order_lines WHERE order_id = '$poison'; DELETE FROM order_mgmt.order_lines WHERE order_id = '$poison'");
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker')));
ok(becomes($node, 'shop', q(SELECT count(*) FROM order_mgmt.orders WHERE order_ref = 'thousand' AND status = 'shipped'), '999', 60), 'one is poisoned: the other 999 ship');
my ($meanwhile, $retried) = (0, 0);
until ($node->safe_psql('shop', queue('stock_checker', 'dead')) == 1 || $meanwhile == 1000)
{
	$retried ||= $node->safe_psql('shop', queue('stock_checker', 'retrying')) == 1;
	my $id = $node->safe_psql('shop', 'SELECT order_mgmt.capture_order(' . ($meanwhile % 2 ? q('c0') : q('c')) . ", $Shop::one_line)");
	my $status = $node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')");
	$meanwhile++;
	next if $status eq 'shipped';
	fail("while it is tried again, an order is $status");
	last;
}
ok($retried, 'it is tried again');
cmp_ok($meanwhile, '>', 0, "meanwhile others ship ($meanwhile)");
is($node->safe_psql('shop', 'SELECT consumer, order_id, attempts, error_code FROM order_mgmt.dead_letters'), "stock_checker|$poison|5|XX001", 'then it is a dead letter');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$poison')"), 'failed', 'and its order has failed');
$node->safe_psql('shop', 'INSERT INTO order_mgmt.order_lines SELECT * FROM lost');
settle($node, 'shop', 'poisoned');
is($node->safe_psql('shop', q(SELECT order_mgmt.replay_dead_letters('stock_checker'))), '1', 'mended, it is taken up again');
ok(becomes($node, 'shop', "SELECT order_mgmt.get_order_status('$poison')", 'shipped', 60), 'and ships');
is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.events WHERE order_id = '$poison' AND event_type = 'order_shipped'"), '1', 'once');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.dead_letters'), '0', 'no dead letter is left');
settle($node, 'shop', 'mended');

# --- nobody works ---------------------------------------------------------------------------------
# Some orders have a row of the log each, others share one: what nobody has read is estimated all the same.
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer(name) FROM order_mgmt.consumers));
capture(20000, 'before');
$node->safe_psql('shop', <<"SQL");
DO \$\$ BEGIN
	FOR n IN 1 .. 6000 LOOP
		PERFORM order_mgmt.capture_order('c', $Shop::one_line);
		COMMIT;
	END LOOP;
END \$\$;
SQL
capture(20000, 'after');
$node->safe_psql('shop', q(SELECT order_mgmt.adjust_balance('c1', 1), order_mgmt.adjust_balance('c2', 1)));
my $estimate = $node->safe_psql('shop', queue('balance_checker', 'pending'));
cmp_ok(abs($estimate - 46000), '<', 4600, "nobody works: of 46,000 events $estimate are pending");
is($node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('0'))), 't', 'for which nobody waits');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('shipper')));
ok(becomes($node, 'shop', queue('balance_checker', 'pending'), '46000', 60), 'when one has looked through them, the number is exact');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer(name) FROM order_mgmt.consumers));
ok(becomes($node, 'shop', 'SELECT sum(pending) FROM order_mgmt.queues', '0', 60), 'and then they are worked off');
settle($node, 'shop', 'worked off');

# --- 100,000 events behind ------------------------------------------------------------------------
# A stage is paused, and a program never asks for its events.
$node->safe_psql('shop', q(SELECT order_mgmt.create_consumer('program', '{order_captured}'); SELECT order_mgmt.pause_consumer('stock_checker')));
my $start = time;
capture(100000, 'many');
note(sprintf '100,000 orders captured in %.1f s', time - $start);
ok(becomes($node, 'shop', queue('balance_checker', 'pending'), '0', 60), 'a stage is paused: the other check goes on');
note(sprintf 'and checked %.1f s after the first', time - $start);
note_queues('100,000 behind');
is($node->safe_psql('shop', queue('stock_checker', 'pending')), '100000', '100,000 events are behind it');
is($node->safe_psql('shop', queue('program', 'pending')), '100000', 'and as many behind a program that never comes');
new_shop($node, 'other');
is($node->safe_psql('other', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'other') . "')"), 'shipped', 'another shop ships');
my $id = $node->safe_psql('shop', q(SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'many' ORDER BY order_id OFFSET 50000 LIMIT 1));
is($node->safe_psql('shop', "SELECT order_mgmt.cancel_order('$id')"), 'cancelled', 'an order in the middle can be cancelled');
ok(becomes($node, 'shop', queue('order_updater', 'pending'), '0', 60), 'and the updater sees it');
$start = time;
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker')));
ok(becomes($node, 'shop', queue('stock_checker', 'pending'), '0', 60), 'resumed, it catches up');
note(sprintf 'it caught up in %.1f s', time - $start);
settle($node, 'shop', 'caught up');
note(sprintf 'all is shipped after %.1f s', time - $start);
is($node->safe_psql('shop', q(SELECT status, count(*) FROM order_mgmt.orders WHERE order_ref = 'many' GROUP BY status ORDER BY 1)), "cancelled|1\nshipped|99999", 'everything else has shipped');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.receive_events('program', 1000))), '1000', 'the program gets what waited for it');
note_queues('at rest');
unlike(slurp_file($node->logfile), qr/PANIC|XX000/, 'nothing untoward in the log');
$node->stop;
done_testing();
