# A load is killed ten times: every row of the file is loaded or refused, and none of them twice.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(usleep);

use constant { ORDERS => 20_000, KILLS => 10 };

# Every commit waits before it is flushed, so that a load of some hundred batches is under way for as long as the test
# wants it, however slow that is; see hurry().
my $node = start_server('load_crash', 'fsync = on', 'commit_delay = 100000', 'commit_siblings = 0', 'restart_after_crash = on', "log_statement = 'none'");
my $file = $node->basedir . '/orders.csv';
my %expected = write_file($file);

# Orders of one to three rows. Every 50th is wrong, and the last row of every 40th comes at the end.
sub write_file
{
	my ($path) = @_;
	my %counts = (rows => 0, refused => 0, orders => 0);
	my ($text, $late) = ("order_ref,customer_id,product_id,quantity,unit_price,created_at\n", '');
	for my $n (1 .. ORDERS)
	{
		my $day = sprintf '2024-%02d-%02d', 1 + $n % 12, 1 + $n % 28;
		my @rows = map { join(',', "ref$n", 'c' . $n % 100, "p$_", ($n % 50 == 0 && $_ == 1 ? 'many' : $_), '1.00', $day) . "\n" } 1 .. 1 + $n % 3;
		$late .= pop @rows if $n % 40 == 0 && @rows > 1;
		$text .= join '', @rows;
		$counts{rows} += 1 + $n % 3;
		$counts{ $n % 50 == 0 ? 'refused' : 'orders' } += $n % 50 == 0 ? 1 + $n % 3 : 1;
	}
	append_to_file($path, $text . $late);
	return %counts;
}

my ($done, $state) = map { "SELECT $_ FROM order_mgmt.loads WHERE load_id = 1" } 'done_records + done_sorted', 'status';
my $loader = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader');

# From now on commits wait no more, or again.
sub hurry
{
	my ($microseconds) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET commit_delay = $microseconds");
	$node->reload;
	return;
}

# Waits until more has been committed than before; what that is, or nothing when the load has ended.
sub progress_beyond
{
	my ($database, $before) = @_;
	my $deadline = time + 180;
	while (time < $deadline)
	{
		my ($status, $out) = $node->psql($database, "$done; $state");
		if (defined $status && $status == 0)
		{
			my ($now, $word) = split /\n/, $out;
			return if $word eq 'done' || $word eq 'failed';
			return $now if $now > $before;
		}
		usleep(5_000);
	}
	die 'the load does not go on';
}

# In turn: the loader's process, and the server, killed or stopped at once.
sub strike
{
	my ($database, $turn) = @_;
	if ($turn % 2)
	{
		my ($status, $pid) = $node->psql($database, $loader);
		return 0 if $status != 0 || $pid eq '';
		kill 'KILL', $pid;
	}
	elsif ($turn % 4)
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		kill_server($node);
	}
	return 1;
}

# Loads the file as orders of this mode, whatever happens meanwhile.
sub load_through_kills
{
	my ($database, $mode, $wanted) = @_;
	my ($position, $kills) = (0, 0);
	new_shop($node, $database);
	$node->safe_psql($database, "SELECT order_mgmt.load_orders_csv('$file', '$mode', '{\"batch_rows\": 100}')");
	while ($kills < $wanted)
	{
		$position = progress_beyond($database, $position) // last;
		usleep(rand 5_000);
		$kills += strike($database, $kills);
	}
	is($kills, $wanted, "$mode: it was killed that often");
	ok(becomes($node, 'postgres', 'ALTER SYSTEM SET commit_delay = 0', '', 120), "$mode: the server is back");
	hurry(0);
	ok(becomes($node, $database, $state, 'done', 120), "$mode: and comes to its end");
	is($node->safe_psql($database, 'SELECT rows_read, rows_loaded, rows_rejected, rows_skipped, orders_loaded FROM order_mgmt.loads'),
		join('|', $expected{rows}, $expected{rows} - $expected{refused}, $expected{refused}, 0, $expected{orders}), "$mode: every row is counted once");
	is($node->safe_psql($database, 'SELECT count(*), count(DISTINCT order_ref) FROM order_mgmt.orders'), "$expected{orders}|$expected{orders}", "$mode: every order is there once");
	is($node->safe_psql($database, 'SELECT count(*) FROM order_mgmt.order_lines'), $expected{rows} - $expected{refused}, "$mode: with all its lines");
	is($node->safe_psql($database, 'SELECT count(*), count(DISTINCT row_no) FROM order_mgmt.load_errors'), "$expected{refused}|$expected{refused}", "$mode: every refused row has its error");
	settle($node, $database, $mode);
	indexes_hold($node, $database);
	hurry(100_000);
	return;
}

load_through_kills('history', 'history', KILLS);
load_through_kills('capture', 'capture', 4);

# --- a load that is cancelled, and asked for again -------------------------------------------------------------
# Its rows have no references, so only the position tells what is there.
new_shop($node, 'again');
my $anonymous = $node->basedir . '/anonymous.csv';
append_to_file($anonymous, "customer_id,product_id,quantity,unit_price,created_at\n" . join '', map { "c$_,p,1,1,2024-03-05\n" } 1 .. 20_000);
my $ask = "SELECT order_mgmt.load_orders_csv('$anonymous', 'history', '{\"batch_rows\": 50}')";
$node->safe_psql('again', $ask);
progress_beyond('again', 0);
$node->safe_psql('again', 'SELECT order_mgmt.cancel_load(1)');
hurry(0);
is($node->safe_psql('again', q(SELECT status, rows_loaded > 0, rows_loaded < 20000 FROM order_mgmt.wait_for_load(1, '60 s'))), 'cancelled|t|t', 'again: it is cancelled in the middle');
$node->safe_psql('again', $ask);
is($node->safe_psql('again', q(SELECT status, rows_read, rows_loaded + rows_skipped, rows_skipped = (SELECT rows_loaded FROM order_mgmt.loads WHERE load_id = 1) FROM order_mgmt.wait_for_load(2, '60 s'))),
	'done|20000|20000|t', 'again: the next one goes on where that has ended');
is($node->safe_psql('again', 'SELECT count(*), count(DISTINCT customer_id) FROM order_mgmt.orders'), '20000|20000', 'again: every row is there once');
$node->safe_psql('again', $ask);
is($node->safe_psql('again', q(SELECT status, rows_read FROM order_mgmt.wait_for_load(3, '60 s'))), 'done|0', 'again: and a third one finds nothing to do');

# --- a file that changes while it is loaded -----------------------------------------------------------------
# What has been committed is accounted for, and no more is claimed.
my $growing = $node->basedir . '/growing.csv';
append_to_file($growing, slurp_file($file));
for my $change ([ 'grows', sub { append_to_file($growing, "late,c,p,1,1,2024-01-01\n"); } ], [ 'shrinks', sub { truncate $growing, 100_000 or die $!; } ])
{
	my ($what, $do) = @$change;
	new_shop($node, $what);
	hurry(100_000);
	$node->safe_psql($what, "SELECT order_mgmt.load_orders_csv('$growing', 'history', '{\"batch_rows\": 200}')");
	ok(becomes($node, $what, $state, 'writing', 60), "$what: it is being written");
	$do->();
	hurry(0);
	is($node->safe_psql($what, q(SELECT status, error_code FROM order_mgmt.wait_for_load(1, '2 min'))), 'failed|OM007', "$what: the load says so");
	is($node->safe_psql($what, 'SELECT (SELECT count(*) FROM order_mgmt.orders) - orders_loaded, (SELECT count(*) FROM order_mgmt.order_lines) - rows_loaded FROM order_mgmt.loads'),
		'0|0', "$what: what it has loaded is what it counts");
	is($node->safe_psql($what, 'SELECT * FROM order_mgmt.check_invariants()'), '', "$what: invariants hold");
}

$node->stop;
done_testing();
