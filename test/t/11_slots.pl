# Workers are dealt fairly among databases, take over each other's stages, and make do with the slots there are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

my @shops = qw(a b c d e);
my $node = start_server('slots', 'max_worker_processes = 8', 'max_logical_replication_workers = 0', 'max_parallel_workers = 8',
	'max_parallel_workers_per_gather = 8', 'order_mgmt.workers_per_database = 4');
new_shop($node, $_) for @shops;
my $script = $node->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");

my $working = q(FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker');
my $no_slot = qr/LOG:  order_mgmt found no free background worker slot/;
my $enough = qr/LOG:  order_mgmt has all the workers that it wants again/;
my $seen = 0;    # of the log

sub logged
{
	my ($line) = @_;
	my $log = substr slurp_file($node->logfile), $seen;
	return scalar(() = $log =~ /$line/g);
}
sub forget_log { $seen = -s $node->logfile; return; }

sub set
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	return time;
}

# The workers of each shop, in the order of @shops
sub counted
{
	my ($expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $counts = join ', ', map { "(SELECT count(*) $working AND datname = '$_')" } @shops;
	my $start = time;
	ok(becomes($node, 'postgres', "SELECT array_to_string(ARRAY(SELECT c FROM unnest(ARRAY[$counts]) AS c ORDER BY c), ' ')", $expected, 60), $what);
	note(sprintf '%s: after %.2f s', $what, time - $start);
	return;
}
sub all_work
{
	my ($what, $deadline) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	my %ids = map { $_ => one_order($node, $_) } @shops;
	for my $shop (@shops)
	{
		is($node->safe_psql($shop, "SELECT order_mgmt.wait_for_order('$ids{$shop}', '60 s')"), 'shipped', "$what: $shop ships");
	}
	note(sprintf '%s: an order in each of %d databases has shipped after %.2f s', $what, scalar @shops, time - $start);
	return;
}
sub stages_are_covered
{
	my ($what, @of) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(becomes($node, $_, 'SELECT count(worker_pid) FROM order_mgmt.queues', '4', 60), "$what: each stage of $_ has a worker") for @of;
	return;
}

# Seven slots for five databases that want four each
counted('1 1 1 2 2', 'seven slots: one for each database, then a second for two');
stages_are_covered('seven slots', @shops);
all_work('seven slots');
is(logged($no_slot), 1, 'the log says once that there are too few');
is(logged($enough), 0, 'and not that there are enough');

# Under load in all of them the number changes, up and down.
sub under_load
{
	my ($what, $change) = @_;
	my @load = map { in_background($node, [ 'pgbench', '-n', '-c', 1, '-t', 300, '-f', $script, $_ ]) } @shops;
	$change->();
	is(finish($_), 0, "$what: clients do not notice") for @load;
	settle($node, $_, "$what: $_") for @shops;
	return;
}
under_load('one', sub { set('order_mgmt.workers_per_database', 1); counted('1 1 1 1 1', 'a reload leaves one for each'); });
is(logged($enough), 1, 'the log says once that these are enough');
forget_log();
under_load('two', sub { set('order_mgmt.workers_per_database', 2); counted('1 1 1 2 2', 'a reload adds what there is room for'); });
is(logged($no_slot), 1, 'the log says once that there is no more');

# With three databases less there is room for all, and what others leave is taken up without a restart.
set('order_mgmt.workers_per_database', 4);
$node->safe_psql('postgres', "ALTER DATABASE $_ SET order_mgmt.workers = off") for qw(c d e);
counted('0 0 0 3 4', 'who leaves makes room');
stages_are_covered('three and four workers', qw(a b));
# One of several ends: the others take over its stages until it is back.
my ($busy) = grep { workers($node, $_) == 4 } qw(a b);
my $load = in_background($node, [ 'pgbench', '-n', '-c', 2, '-t', 500, '-f', $script, $busy ]);
for my $round (1 .. 4)
{
	my @pids = workers($node, $busy);
	kill('TERM', $pids[ $round % @pids ]);
	ok(becomes($node, 'postgres', "SELECT count(*) $working AND pid = $pids[ $round % @pids ]", '0', 60), "worker $round of $busy ends");
}
is(finish($load), 0, 'clients do not notice');
settle($node, $busy, 'workers ended under load');
$node->safe_psql('postgres', "ALTER DATABASE $_ RESET order_mgmt.workers") for qw(c d e);
counted('1 1 1 2 2', 'who comes back gets one from those who have several');
all_work('back again');

# Somebody else takes every slot: captures are taken, the log says so once, and it goes on as soon as slots are free.
set('order_mgmt.workers', 'off');
counted('0 0 0 0 0', 'workers = off for the whole server');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_mgmt%' AND backend_type <> 'order_mgmt launcher'), '0', 60), 'nor does anybody else have a slot');
$node->safe_psql('postgres', q(CREATE TABLE wide (t text); ALTER TABLE wide ALTER t SET STORAGE PLAIN, SET (parallel_workers = 7)));
$node->safe_psql('postgres', q(INSERT INTO wide SELECT repeat('x', 5000) FROM generate_series(1, 200)));
my $parallel = in_background($node, [ 'psql', '-XAtq', '-d', 'postgres' ], <<'SQL');
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET application_name = 'parallel';
SELECT count(*) FROM wide WHERE pg_sleep(60) IS NOT NULL AND t <> '';
SQL
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'), '7', 60), 'a query takes all slots');
forget_log();
set('order_mgmt.workers', 'on');
my %ids = map { $_ => one_order($node, $_) } @shops;
is($node->safe_psql('a', "SELECT order_mgmt.wait_for_order('$ids{a}', '5 s')"), 'captured', 'orders are taken and wait');
is(logged($no_slot), 1, 'while the launcher tries, the log says so once');
my $start = time;
$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'parallel' AND backend_type = 'client backend'));
for my $shop (@shops)
{
	is($node->safe_psql($shop, "SELECT order_mgmt.wait_for_order('$ids{$shop}', '60 s')"), 'shipped', "with slots free again $shop ships");
}
note(sprintf 'slots free again: orders of %d databases shipped after %.2f s', scalar @shops, time - $start);
finish($parallel);
counted('1 1 1 2 2', 'all is as it was');

# Fewer slots than databases: they take turns.
$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
forget_log();
$node->restart;
for my $round (1 .. 2)
{
	all_work("two slots, round $round");
}
is(logged($no_slot), 1, 'the log says once that there are too few');
under_load('two slots', sub { });
$node->append_conf('postgresql.conf', 'max_worker_processes = 30');
$node->restart;
counted('4 4 4 4 4', 'with slots enough each has all it wants');
all_work('slots enough');
settle($node, $_, "at the end: $_") for @shops;
unlike(slurp_file($node->logfile), qr/PANIC|ERROR:  (?!canceling)|terminated by signal/, 'nothing untoward in the log');
$node->stop;
done_testing();
