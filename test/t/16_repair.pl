# repair_invariants() while orders are under way: what drifts is mended, and what the workers do at the same time stays right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('repair');
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c' || n, 100000) FROM generate_series(1, 5) AS n;
	SELECT order_mgmt.set_stock('p' || n, 100000) FROM generate_series(1, 5) AS n));

my $orders = $node->basedir . '/orders.pgbench';
append_to_file($orders, <<'SQL');
\set c random(1, 5)
\set p random(1, 5)
SELECT order_mgmt.capture_order('c' || :c, jsonb_build_array(jsonb_build_object('product_id', 'p' || :p, 'quantity', 2, 'unit_price', 1.5)));
SELECT order_mgmt.adjust_stock('p' || :p, 1), order_mgmt.adjust_balance('c' || :c, 1);
DO $$ DECLARE id uuid; BEGIN FOR id IN SELECT order_id FROM order_mgmt.list_orders('c1', page_size => 2) LOOP BEGIN PERFORM order_mgmt.cancel_order(id, 'raced'); EXCEPTION WHEN SQLSTATE 'OM005' THEN NULL; END; END LOOP; END $$;
SQL
my $load = in_background($node, [ 'pgbench', '-n', '-c', 6, '-j', 2, '-T', 8, '--max-tries', 1000, '-f', $orders, 'shop' ]);
ok(becomes($node, 'shop', q(SELECT count(*) > 20 FROM order_mgmt.orders WHERE status = 'shipped'), 't', 60), 'orders ship');

# Drift of every kind that can be mended, again and again. Less than is held makes workers fail until it is mended.
my ($mended, $busy) = (0, 0);
for my $round (1 .. 6)
{
	my $n = $round % 5 + 1;
	$node->safe_psql('shop', <<"SQL");
UPDATE order_mgmt.accounts SET reserved = CASE WHEN $round % 2 = 0 THEN 0 ELSE reserved + 7 END, balance = balance + 3 WHERE customer_id = 'c$n';
UPDATE order_mgmt.stock SET reserved = CASE WHEN $round % 2 = 0 THEN reserved + 5 ELSE 0 END, on_hand = on_hand + 11 WHERE product_id = 'p$n';
WITH one AS (SELECT order_id FROM order_mgmt.orders WHERE status = 'shipped' AND settled = 3 LIMIT 1)
UPDATE order_mgmt.orders AS o SET settled = 0, trail = '{}' FROM one WHERE o.order_id = one.order_id;
SQL
	my ($status, $out, $err) = $node->psql('shop', 'SELECT invariant FROM order_mgmt.repair_invariants()');
	if ($status == 0)
	{
		$mended++;
		like($out, qr/^account_balance$/m, "round $round: the balance is mended");
		like($out, qr/^stock_on_hand$/m, "round $round: so is what is on hand");
		like($out, qr/^order_settled$/m, "round $round: and what is settled");
		like($out, qr/^order_trail$/m, "round $round: and the trail");
		is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', "round $round: nothing differs after it");
		next;
	}
	# A client and the repair may want each other's locks; then the repair gives way, and has changed nothing.
	$busy++;
	like($err, qr/did not end within/, "round $round: it gave way");
	redo if $busy < 20;
}
is($mended, 6, "mended in every round (gave way $busy times)");
is(finish($load), 0, 'the clients were not disturbed') or diag($load->{err});
settle($node, 'shop', 'under load');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.repair_invariants()'), '', 'nothing is left to mend');
is($node->safe_psql('shop', <<'SQL'), '', 'money and units add up');
SELECT customer_id FROM order_mgmt.accounts AS a WHERE balance <> (SELECT sum((detail->>'amount')::numeric) FROM order_mgmt.events AS e
	WHERE e.customer_id = a.customer_id AND event_type = 'balance_changed') - (SELECT coalesce(sum(total), 0) FROM order_mgmt.orders AS o
	WHERE o.customer_id = a.customer_id AND status = 'shipped') OR reserved <> 0
SQL

# Somebody keeps a row locked: the repair gives up, says why, and has changed nothing.
$node->safe_psql('shop', q(UPDATE order_mgmt.accounts SET reserved = reserved + 1 WHERE customer_id = 'c1'));
my $client = $node->background_psql('shop');
$client->query_safe(q(BEGIN; SELECT order_mgmt.adjust_stock('p1', 1)));
for my $dry ('true', 'false')
{
	my ($status, $out, $err) = $node->psql('shop', "\\set VERBOSITY verbose\nSELECT * FROM order_mgmt.repair_invariants($dry)");
	is($status, 3, "dry_run $dry: refused");
	like($err, qr/OM005: the work under way on "stock" did not end within 5 seconds\n.*\{"lock": "stock"\}/, '... it says what it waited for');
	is($node->safe_psql('shop', 'SELECT invariant, subject FROM order_mgmt.check_invariants()'), 'account_reserved|c1', '... nothing has changed');
}
my $order = one_order($node, 'shop');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$order')"), 'shipped', 'the shop goes on');
$client->query_safe('COMMIT');
$client->quit;
my $promised = $node->safe_psql('shop', 'SELECT * FROM order_mgmt.repair_invariants(dry_run => true)');
like($promised, qr/^account_reserved\|c1\|0\.0000\|1\.0000$/, 'a dry run');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.repair_invariants()'), $promised, 'does not lie');
like(slurp_file($node->logfile), qr/LOG:  repair_invariants\(\) called by "\w+" mended 1 values/, 'the log has it');
isnt($node->psql('shop', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM order_mgmt.repair_invariants()'), 0, 'not in REPEATABLE READ');

$node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line)") for 1 .. 3;
settle($node, 'shop', 'in the end');
unlike(slurp_file($node->logfile), qr/PANIC|XX000.*(?:vanished|unexpected)|terminated by signal/, 'nothing untoward in the log');
$node->stop;
done_testing();
