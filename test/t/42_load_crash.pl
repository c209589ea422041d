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

my $node = start_server('load_crash', 'fsync = off', 'restart_after_crash = on', "log_statement = 'none'");
new_shop($node, 'shop');
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

# Waits until more has been committed than before; what that is, or nothing when the load has ended.
sub progress_beyond
{
	my ($before) = @_;
	my $deadline = time + 60;
	while (time < $deadline)
	{
		my ($status, $out) = $node->psql('shop', "$done; $state");
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

# In turn: the loader's process, and the whole server.
sub strike
{
	my ($turn) = @_;
	if ($turn % 2)
	{
		my ($status, $pid) = $node->psql('shop', $loader);
		return 0 if $status != 0 || $pid eq '';
		kill 'KILL', $pid;
	}
	else
	{
		$node->stop('immediate');
		$node->start;
	}
	return 1;
}

$node->safe_psql('shop', "SELECT order_mgmt.load_orders_csv('$file', 'history', '{\"batch_rows\": 100}')");
my ($position, $kills) = (0, 0);
while ($kills < KILLS)
{
	$position = progress_beyond($position) // last;
	usleep(rand 5_000);
	$kills += strike($kills);
}
is($kills, KILLS, 'it was killed that often');
ok(becomes($node, 'shop', $state, 'done', 120), 'and comes to its end');
is($node->safe_psql('shop', 'SELECT rows_read, rows_loaded, rows_rejected, rows_skipped, orders_loaded FROM order_mgmt.loads'),
	join('|', $expected{rows}, $expected{rows} - $expected{refused}, $expected{refused}, 0, $expected{orders}), 'every row is counted once');
is($node->safe_psql('shop', 'SELECT count(*), count(DISTINCT order_ref) FROM order_mgmt.orders'), "$expected{orders}|$expected{orders}", 'every order is there once');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.order_lines'), $expected{rows} - $expected{refused}, 'with all its lines');
is($node->safe_psql('shop', 'SELECT count(*), count(DISTINCT row_no) FROM order_mgmt.load_errors'), "$expected{refused}|$expected{refused}", 'every refused row has its error');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
indexes_hold($node, 'shop');

$node->stop;
done_testing();
