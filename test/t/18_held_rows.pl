# A client that keeps a row locked delays only what touches that row. How much slower the others get is printed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('held', 'fsync = off', "log_statement = 'none'");
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c' || n, 1000000), order_mgmt.set_stock('p' || n, 1000000) FROM generate_series(1, 20) AS n;
	SELECT order_mgmt.set_account('hot', 1000000), order_mgmt.set_stock('hot', 1000000)));

# Orders of a phase that somebody else's lock is in the way of, or all the others: WHERE ...
my %touched = (
	free => 'false',
	stock => q(EXISTS (SELECT FROM order_mgmt.order_lines AS l WHERE l.order_id = o.order_id AND product_id = 'hot')),
	account => q(o.customer_id = 'hot'),
	map { $_ => q(o.metadata ? 'held') } qw(note regret cancel));

# Comes at its times, however long an answer takes. One in ten orders is for hot, one in ten asks for hot.
sub load
{
	my ($phase) = @_;
	my $script = $node->basedir . "/$phase.pgbench";
	append_to_file($script, <<"SQL");
\\set c random(0, 20)
\\set p random(1, 22)
\\set q random(1, 20)
SELECT order_mgmt.capture_order(CASE WHEN :c < 2 THEN 'hot' ELSE 'c' || :c END, jsonb_build_array(jsonb_build_object('product_id', CASE WHEN :p > 20 THEN 'hot' ELSE 'p' || :p END, 'quantity', 1, 'unit_price', 1), jsonb_build_object('product_id', 'p' || :q, 'quantity', 1, 'unit_price', 1)), order_ref => '$phase');
SQL
	my $run = in_background($node, [ 'pgbench', '-n', '-c', 4, '-R', 300, '-T', 4, '-f', $script, 'shop' ]);
	is(finish($run), 0, "$phase: every order is taken") or diag($run->{err});
	return;
}

sub count_orders
{
	my ($phase, $where) = @_;
	return "SELECT count(*) FROM order_mgmt.orders AS o WHERE order_ref = '$phase' AND $where";
}

my %before;

# p50 and p99 of the others, in ms from capture to shipment, and how they compare with nobody holding anything
sub note_times
{
	my ($phase) = @_;
	my @now = split /\|/, $node->safe_psql('shop', <<"SQL");
SELECT round(p[1]::numeric, 1), round(p[2]::numeric, 1) FROM (
	SELECT percentile_cont('{0.5,0.99}'::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM s.at - c.at) * 1000) AS p
	FROM order_mgmt.orders AS o
	JOIN order_mgmt.events AS c ON c.order_id = o.order_id AND c.event_type = 'order_captured'
	JOIN order_mgmt.events AS s ON s.order_id = o.order_id AND s.event_type = 'order_shipped'
	WHERE order_ref = '$phase' AND NOT ($touched{$phase})) AS t
SQL
	%before = (p50 => $now[0], p99 => $now[1]) if $phase eq 'free';
	note(sprintf '%s held: p50 %s ms, p99 %s ms: %.2f and %.2f times that of nobody', $phase eq 'free' ? 'nothing' : $phase, @now, $now[0] / $before{p50}, $now[1] / $before{p99});
	return;
}

sub others_ship
{
	my ($phase) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(becomes($node, 'shop', count_orders($phase, "NOT ($touched{$phase}) AND status <> 'shipped'"), '0', 60), "$phase: what does not touch it ships meanwhile");
	cmp_ok($node->safe_psql('shop', count_orders($phase, "status = 'shipped'")), '>', 300, "$phase: and that is much");
	return;
}

load('free');
others_ship('free');
note_times('free');
settle($node, 'shop', 'free');

# A product, then an account
for my $held ([ 'stock', q(SELECT order_mgmt.adjust_stock('hot', -1)) ], [ 'account', q(SELECT order_mgmt.adjust_balance('hot', -1)) ])
{
	my ($phase, $lock) = @$held;
	my $client = $node->background_psql('shop');
	$client->query_safe("BEGIN; $lock");
	load($phase);
	others_ship($phase);
	my $waiting = $node->safe_psql('shop', count_orders($phase, $touched{$phase}));
	cmp_ok($waiting, '>', 10, "$phase: some touch it");
	is($node->safe_psql('shop', count_orders($phase, "($touched{$phase}) AND status = 'captured'")), $waiting, "$phase: these wait");
	$client->query_safe('COMMIT');
	$client->quit;
	ok(becomes($node, 'shop', count_orders($phase, "status = 'shipped' AND ($touched{$phase})"), $waiting, 60), "$phase: afterwards they ship");
	note_times($phase);
	settle($node, 'shop', $phase);
}

# One order: a note that is being written, and a cancellation that is taken back or comes true
for my $held ([ 'note', q(add_order_note('%s', 'wait')), 'COMMIT', 'shipped' ], [ 'regret', q(cancel_order('%s')), 'ROLLBACK', 'shipped' ], [ 'cancel', q(cancel_order('%s')), 'COMMIT', 'cancelled' ])
{
	my ($phase, $lock, $end, $status) = @$held;
	$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('order_updater')));
	my $id = $node->safe_psql('shop', qq(SELECT order_mgmt.capture_order('hot', '[{"product_id": "hot", "quantity": 1, "unit_price": 1}]', order_ref => '$phase', metadata => '{"held": true}')));
	my $client = $node->background_psql('shop');
	$client->query_safe('BEGIN; SELECT order_mgmt.' . sprintf $lock, $id);
	$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('order_updater')));
	load($phase);
	others_ship($phase);
	is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id')"), 'captured', "$phase: the order itself waits");
	$client->query_safe($end);
	$client->quit;
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')"), $status, "$phase: after $end it is $status");
	note_times($phase);
	settle($node, 'shop', $phase);
}

# Eight clients change several products and accounts in one transaction, in an order of their own: the workers'
# or the very opposite. They have it in common, so whoever gets a deadlock has it with a worker.
my %common = (ascending => [ 'account', 1 .. 3, 'stock', 1 .. 3 ], descending => [ 'stock', 3, 2, 1, 'account', 3, 2, 1 ]);
for my $order (sort keys %common)
{
	my $script = $node->basedir . "/$order.pgbench";
	my $what;
	append_to_file($script, "\\set n1 random(1, 7)\n\\set n2 random(8, 14)\n\\set n3 random(15, 20)\nBEGIN;\n");
	for (@{ $common{$order} })
	{
		$what = $_ if /\D/;
		append_to_file($script, $what eq 'stock' ? "SELECT order_mgmt.adjust_stock('p' || lpad(:n$_\::text, 2, '0'), 1);\n" : "SELECT order_mgmt.adjust_balance('c' || lpad(:n$_\::text, 2, '0'), 1);\n") unless /\D/;
	}
	append_to_file($script, "COMMIT;\n");
	append_to_file("$script.capture", <<'SQL');
\set c random(1, 20)
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'c' || lpad((1 + (:c + n) % 20)::text, 2, '0'), 'lines', (SELECT jsonb_agg(jsonb_build_object('product_id', 'p' || lpad((1 + (:c * 3 + n * m) % 20)::text, 2, '0'), 'quantity', 1, 'unit_price', 1)) FROM generate_series(1, 3) AS m))) FROM generate_series(1, 10) AS n));
SQL
	$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c' || lpad(n::text, 2, '0'), 1000000), order_mgmt.set_stock('p' || lpad(n::text, 2, '0'), 1000000) FROM generate_series(1, 20) AS n)) if $order eq 'ascending';
	my $captures = in_background($node, [ 'pgbench', '-n', '-c', 2, '-R', 100, '-T', 5, '-f', "$script.capture", 'shop' ]);
	my $adjusts = in_background($node, [ 'pgbench', '-n', '-c', 8, '-T', 5, '-f', $script, 'shop' ]);
	is(finish($adjusts), 0, "$order: eight clients adjust several keys") or diag($adjusts->{err});
	like($adjusts->{out}, qr/number of failed transactions: 0 /, "$order: none fails");
	is(finish($captures), 0, "$order: others capture") or diag($captures->{err});
	settle($node, 'shop', $order);
}
my $log = slurp_file($node->logfile);
unlike($log, qr/deadlock detected|40P01/, 'nobody met a deadlock');
unlike($log, qr/PANIC|XX000/, 'nothing untoward in the log');
$node->stop;
done_testing();
