# pg_dump while orders are under way, restored elsewhere: the copy rests until post_restore(), and then
# every order of it ends once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('origin');
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.create_consumer('mailer', '{order_shipped}')));
my $script = $node->basedir . '/capture.pgbench';
append_to_file($script, <<SQL);
\\set q random(1, 2)
SELECT order_mgmt.capture_order('c', jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', :q::int, 'unit_price', 1)), 'key ' || :client_id || ' ' || clock_timestamp());
SQL
$node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line, 'known') AS id");
my $load = in_background($node, [ 'pgbench', '-n', '-c', 3, '-T', 600, '-f', $script, 'shop' ]);
ok(becomes($node, 'shop', q(SELECT count(*) > 300 FROM order_mgmt.orders WHERE status = 'shipped'), 't', 60), 'orders ship');
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('shipper')));
ok(becomes($node, 'shop', q(SELECT count(*) > 50 FROM order_mgmt.orders WHERE status = 'confirmed'), 't', 60), 'some wait for the shipper');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('shipper'); SELECT order_mgmt.pause_consumer('stock_checker')));
ok(becomes($node, 'shop', q(SELECT count(*) > 50 FROM order_mgmt.orders WHERE status = 'captured'), 't', 60), 'some are half checked');
my $open = $node->safe_psql('shop', q(SELECT * FROM order_mgmt.receive_events('mailer', 20)));
like($open, qr/order_shipped/, 'a program has a batch under way');
my $dump = $node->basedir . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('shop') ], 'pg_dump while orders are captured');
end_early($node, $load);
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker')));
settle($node, 'shop', 'the origin');

# Into another database of the same cluster, and into another cluster.
my $other = start_server('elsewhere');
for my $case ([ $node, 'copy' ], [ $other, 'shop' ])
{
	my ($to, $database) = @$case;
	my $what = $to->name . ' ' . $database;
	$to->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
	$to->command_ok([ 'pg_restore', '-1', '-d', $to->connstr($database), $dump ], "$what: plain pg_restore -1");

	my $left = $to->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'captured'));
	cmp_ok($left, '>', 0, "$what: orders are under way");
	is($to->safe_psql($database, 'SELECT * FROM order_mgmt.check_invariants()'), '', "$what: invariants hold in the dump");
	my $new = one_order($to, $database);
	isnt($to->psql($database, 'SELECT order_mgmt.run_pipeline()'), 0, "$what: it rests, also when asked");
	is($to->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'captured')), $left + 1, "$what: nothing moves");
	is($to->safe_psql($database, 'SELECT count(worker_pid) FROM order_mgmt.queues'), '0', "$what: nobody works");
	is($to->safe_psql($database, "SELECT created FROM order_mgmt.capture_orders(jsonb_build_array(jsonb_build_object('customer_id', 'c', 'lines', ${Shop::one_line}::jsonb, 'idempotency_key', 'known')))"),
		'f', "$what: keys are known");
	is($to->safe_psql($database, q(SELECT paused FROM order_mgmt.queues WHERE consumer = 'stock_checker')), 't', "$what: who paused still does");

	my ($status, $out, $err) = $to->psql($database, "\\set VERBOSITY sqlstate\nSELECT * FROM order_mgmt.receive_events('mailer')");
	is("$out$err", 'psql:<stdin>:2: ERROR:  OM005', "$what: programs get nothing yet");

	is($to->safe_psql($database, 'SELECT order_mgmt.post_restore()'), 't', "$what: post_restore()");
	is($to->safe_psql($database, 'SELECT order_mgmt.post_restore()'), 'f', "$what: again, it is awake already");
	$to->safe_psql($database, q(SELECT order_mgmt.resume_consumer('stock_checker')));
	is($to->safe_psql($database, "SELECT order_mgmt.wait_for_order('$new', '30 s')"), 'shipped', "$what: what was captured here ships");
	settle($to, $database, $what);
	is($to->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders WHERE status <> 'shipped')), '0', "$what: all have shipped");
	is($to->safe_psql($database, q(SELECT count(*), count(DISTINCT order_id) FROM order_mgmt.events WHERE event_type = 'order_shipped')
		  =~ s/, count\(D/ = count(D/r), 't', "$what: none twice");
	is($to->safe_psql($database, q(SELECT * FROM order_mgmt.receive_events('mailer', 5))), $open, "$what: the program's batch is the one it was");
	$to->safe_psql($database, <<'SQL');
CREATE TABLE sent AS SELECT event_id FROM order_mgmt.receive_events('mailer') WITH NO DATA;
DO $$
DECLARE
    batch bigint;
BEGIN
    LOOP
        WITH new AS MATERIALIZED (SELECT * FROM order_mgmt.receive_events('mailer', 1000)),
             kept AS (INSERT INTO sent SELECT event_id FROM new)
        SELECT min(batch_id) INTO batch FROM new;
        EXIT WHEN batch IS NULL;
        PERFORM order_mgmt.acknowledge_batch('mailer', batch);
        COMMIT;
    END LOOP;
END
$$
SQL
	is($to->safe_psql($database, q(SELECT (SELECT array_agg(event_id ORDER BY event_id) FROM sent) =
		(SELECT array_agg(event_id ORDER BY event_id) FROM order_mgmt.events WHERE event_type = 'order_shipped'))), 't', "$what: it gets every shipment once");
	is($to->safe_psql($database, q(SELECT order_mgmt.setup())), 'f', "$what: it is set up");
	is($to->safe_psql($database, "SELECT order_mgmt.wait_for_order('" . one_order($to, $database) . "')"), 'shipped', "$what: business goes on");
}

# A dump of what was restored, once more: lxids go on rising from copy to copy.
my $again = $node->basedir . '/again.dump';
$other->command_ok([ 'pg_dump', '-Fc', '-f', $again, $other->connstr('shop') ], 'a dump of the copy');
$node->safe_psql('postgres', 'CREATE DATABASE third TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('third'), $again ], 'restored');
$node->safe_psql('third', 'SELECT order_mgmt.post_restore()');
is($node->safe_psql('third', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'third') . "')"), 'shipped', 'orders ship in the copy of the copy');
settle($node, 'third', 'the copy of the copy');
$other->stop;
$node->stop;
done_testing();
