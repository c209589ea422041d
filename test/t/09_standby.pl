# A hot standby answers and changes nothing; promoted, it goes on where the primary stopped.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

my $primary = start_server('primary', 'wal_level = replica', 'max_wal_senders = 5', 'hot_standby = on');
new_shop($primary, 'shop');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my $id = one_order($primary, 'shop');
$primary->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')");
settle($primary, 'shop', 'primary');
$primary->wait_for_catchup($standby);

# Reading
for my $query ("SELECT order_mgmt.get_order('$id')", "SELECT order_mgmt.get_order_status('$id')", "SELECT count(*) FROM order_mgmt.track_order('$id')",
	'SELECT count(*) FROM order_mgmt.list_orders()', q(SELECT balance FROM order_mgmt.get_account('c')), q(SELECT on_hand FROM order_mgmt.get_product('p')),
	q(SELECT count(*) FROM order_mgmt.account_statement('c')), q(SELECT count(*) FROM order_mgmt.stock_statement('p')),
	'SELECT count(*) FROM order_mgmt.events', 'SELECT count(*) FROM order_mgmt.check_invariants()', "SELECT order_mgmt.preview_order('c', $Shop::one_line)",
	'SELECT consumer, pending, paused FROM order_mgmt.queues', 'SELECT count(*) FROM order_mgmt.shipment_queue', "SELECT order_mgmt.wait_for_order('$id', '1 s')",
	"SELECT count(*) FROM order_mgmt.find_orders('x', 'c')", q(SELECT count(*) FROM order_mgmt.list_accounts()), q(SELECT count(*) FROM order_mgmt.list_products()),
	'SELECT count(*) FROM order_mgmt.balance_check_queue', 'SELECT count(*) FROM order_mgmt.stock_check_queue', 'SELECT count(*) FROM order_mgmt.order_update_queue',
	q(SELECT order_mgmt.wait_until_idle('1 s')), 'SELECT * FROM order_mgmt.version()')
{
	is($standby->safe_psql('shop', $query), $primary->safe_psql('shop', $query), "the standby answers $query");
}
# Writing
for my $query ("SELECT order_mgmt.capture_order('c', $Shop::one_line)", "SELECT order_mgmt.capture_order('c', $Shop::one_line, 'key')",
	"SELECT order_mgmt.cancel_order('$id')", "SELECT order_mgmt.add_order_note('$id', 'x')", 'SELECT order_mgmt.run_pipeline()',
	q(SELECT order_mgmt.adjust_balance('c', 1)), q(SELECT order_mgmt.set_account('d')), q(SELECT order_mgmt.set_stock('p', 5)),
	"SELECT * FROM order_mgmt.capture_orders(jsonb_build_array(jsonb_build_object('customer_id', 'c', 'lines', ${Shop::one_line}::jsonb)))",
	"SELECT order_mgmt.replace_order('$id', $Shop::one_line)", "SELECT order_mgmt.ship_order('$id')", q(SELECT order_mgmt.set_product('p', 'x')), q(SELECT order_mgmt.adjust_stock('p', 1)),
	q(SELECT order_mgmt.delete_account('c')), q(SELECT order_mgmt.resume_consumer('shipper')), 'SELECT order_mgmt.post_restore()', q(SELECT order_mgmt.teardown('drop all order data')),
	q(SELECT order_mgmt.pause_consumer('shipper')), 'SELECT order_mgmt.run_maintenance()', 'SELECT order_mgmt.setup()',
	q(SELECT order_mgmt.create_consumer('x')), q(SELECT * FROM order_mgmt.receive_events('x')), q(SELECT order_mgmt.acknowledge_batch('x', 1)),
	q(SELECT order_mgmt.reject_event('x', 1, 'no')), q(SELECT order_mgmt.subscribe('x', 'x')), q(SELECT order_mgmt.unsubscribe('x')), q(SELECT order_mgmt.set_retry_policy('shipper', 5)),
	q(SELECT order_mgmt.replay_dead_letters('*')), 'SELECT * FROM order_mgmt.repair_invariants()')
{
	my (undef, undef, $err) = $standby->psql('shop', "\\set VERBOSITY verbose\n$query");
	like($err, qr/ERROR:  25006/, "the standby refuses $query");
}
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_mgmt%')), '0', 'nobody works on a standby');

# Whatever else there is, today or later: with arguments that are all NULL a call may be an error, but none of ours.
my @signatures = split /\n/, $standby->safe_psql('shop', q(SELECT p.oid::regprocedure::text || '|' || coalesce((SELECT string_agg('NULL::' || format_type(t, NULL), ', ' ORDER BY n)
	FROM unnest(p.proargtypes) WITH ORDINALITY AS a(t, n)), '') FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid WHERE e.extname = 'order_mgmt' ORDER BY 1));
cmp_ok(@signatures, '>', 30, 'the functions of order_mgmt');
my @internal;
for my $signature (@signatures)
{
	my ($name, $arguments) = $signature =~ /^(.*?)\(.*\|(.*)$/;
	my (undef, undef, $err) = $standby->psql('shop', "\\set VERBOSITY verbose\nSELECT * FROM $name($arguments)");
	push @internal, "$name: $err" if $err =~ /XX000|server closed|terminated/;
}
is(join("\n", @internal), '', 'none fails on the standby for a reason of its own');

# Promotion of a synchronous standby under load: what clients have been told holds there too.
$primary->safe_psql('postgres', q(ALTER SYSTEM SET synchronous_standby_names = '*'));
$primary->reload;
ok(becomes($primary, 'postgres', 'SELECT sync_state FROM pg_stat_replication', 'sync', 60), 'the standby is synchronous');
$primary->safe_psql('postgres', 'CHECKPOINT');    # so the checkpointer knows, too, and commits wait
my $captures = in_background($primary, [ 'psql', '-XAtq', '-d', 'shop' ], "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n" x 50000);
my $reads = in_background($primary, [ 'psql', '-XAtq', '-d', 'shop' ], "SELECT order_id FROM order_mgmt.list_orders(status => 'shipped', page_size => 20);\n" x 20000);
my $script = $primary->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");
my $load = in_background($primary, [ 'pgbench', '-n', '-c', 3, '-T', 60, '-f', $script, 'shop' ]);
ok(becomes($standby, 'shop', q(SELECT count(*) > 200 FROM order_mgmt.orders WHERE status = 'shipped'), 't', 60), 'orders ship, as the standby sees');
ok(has_written($captures, 4096, 60) && has_written($reads, 4096, 60), 'clients are told of it');
$primary->stop('immediate');
finish($_) for $load, $captures, $reads;
my $start = time;
$standby->safe_psql('postgres', 'SELECT pg_promote()');
ok(becomes($standby, 'shop', 'SELECT count(worker_pid) FROM order_mgmt.queues', '4', 60), 'promoted, it has workers');
is($standby->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($standby, 'shop') . "')"), 'shipped', 'and ships');
note(sprintf 'from pg_promote() to the first order shipped: %.2f s', time - $start);
settle($standby, 'shop', 'the promoted standby');
note(sprintf 'from pg_promote() to all orders ended: %.2f s', time - $start);
my %status = map { split / / } split /\n/, $standby->safe_psql('shop', q(SELECT order_id || ' ' || status FROM order_mgmt.orders));
my @told = $captures->{out} =~ /^(\S{36})\n/mg;
cmp_ok(@told, '>', 10, 'clients were told of orders');
is(scalar(grep { !exists $status{$_} } @told), 0, 'each of those is there');
my %seen = map { $_ => 1 } $reads->{out} =~ /^(\S{36})\n/mg;
cmp_ok(keys %seen, '>', 10, 'readers were told of shipped ones');
is(scalar(grep { ($status{$_} // '') ne 'shipped' } keys %seen), 0, 'and shipped they are');
indexes_hold($standby, 'shop');
$standby->stop;
done_testing();
