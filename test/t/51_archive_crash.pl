# A month is archived and restored while, at every fault point on the way, the process is killed, or the
# whole server ends: every row is in the table or in the archive, none in both, all answers are the same,
# and no file is left that nobody names.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use File::Find;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(usleep);

my @points    = find_points("$FindBin::RealBin/../../src");
my $directory = PostgreSQL::Test::Utils::tempdir();
my $node      = start_faulty_server('archive_crash', \@points, "order_mgmt.archive_directory = '$directory'", 'autovacuum = off', 'fsync = on');

my %statements = (
	archive => q(SELECT count(*) FROM order_mgmt.archive_month('2024-01-01')),
	restore => q(SELECT count(*) FROM order_mgmt.restore_month('2024-01-01')),
);
my %after = (archive => 'cold', restore => 'restored');

# --- a month of orders, and what is known of it ------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.clock = '2024-01-20 12:00+00'));
$node->safe_psql('shop', q(CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup(), order_mgmt.set_account('c', 1000000), order_mgmt.set_stock('p', 1000000)));
$node->safe_psql('shop', "SELECT count(order_mgmt.capture_order('c', $Shop::one_line, order_ref => 'r' || n)) FROM generate_series(1, 150) AS n; SELECT order_mgmt.run_pipeline()");
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.clock = '2024-09-20 12:00+00'));
$node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line); SELECT order_mgmt.run_pipeline()");
$node->safe_psql('shop', 'CREATE TABLE public.ids AS SELECT order_id FROM order_mgmt.orders');

my %queries = (
	answers => q(SELECT count(*), md5(string_agg(order_mgmt.get_order(order_id)::text, ' ' ORDER BY order_id)) FROM public.ids),
	rows => join(' UNION ALL ', map {
			qq(SELECT '$_', (SELECT count(*) FROM order_mgmt.$_) + coalesce((SELECT sum(rows) FROM order_mgmt.archives WHERE table_name = '$_' AND state = 'cold'), 0))
		} qw(event_log orders order_lines)),
	invariants => 'SELECT * FROM order_mgmt.check_invariants()',
);
my %content = (
	orders => q(SELECT md5(string_agg(o::text, ' ' ORDER BY created_at, order_id)) FROM order_mgmt.orders AS o),
	order_lines => q(SELECT md5(string_agg(l::text, ' ' ORDER BY created_at, order_id, line_no)) FROM order_mgmt.order_lines AS l),
	event_log => q(SELECT md5(string_agg(e::text, ' ' ORDER BY lxid, event_id)) FROM order_mgmt.event_log AS e),
);
my $twice = q(SELECT count(*) FROM order_mgmt.archives AS a WHERE state = 'cold' AND to_regclass('order_mgmt.' || partition_name) IS NOT NULL);
my $named = q(SELECT count(*) FROM order_mgmt.archives);
my $half  = q(SELECT count(DISTINCT state) > 1 FROM order_mgmt.archives);

sub ask { my ($query) = @_; return $node->safe_psql('shop', $query); }

my %before = map { $_ => ask($queries{$_}) } keys %queries;
my %held   = map { $_ => ask($content{$_}) } keys %content;

sub files { my @found; find(sub { push @found, $File::Find::name if -f }, $directory); return @found; }

sub all_is_well
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @wrong = grep { ask($queries{$_}) ne $before{$_} } sort keys %queries;
	push @wrong, 'a month in two places' if ask($twice) ne '0';
	push @wrong, 'a half' if ask($half) ne 'f';
	push @wrong, grep { ask($content{$_}) ne $held{$_} } sort keys %content if ask(q(SELECT to_regclass('order_mgmt.orders_2024_01') IS NOT NULL)) eq 't';
	ask('SELECT count(*) FROM order_mgmt.run_maintenance()');
	my $files = () = files();
	push @wrong, "$files files" if $files != 2 * ask($named);
	is(join(', ', @wrong), '', "$what: every row is there once, and no file too many");
	return;
}

sub state_now { return ask(q(SELECT coalesce(min(state), 'none') FROM order_mgmt.archives)); }

sub do_it
{
	my ($step) = @_;
	ask($statements{$step});
	return;
}

# --- ten kills and more ------------------------------------------------------------------------------------------

sub is_up
{
	my $deadline = time + 60;
	# A psql that is turned away may be gone before it has been given its statement.
	until ((eval { $node->psql('shop', 'SELECT 1') } // 1) == 0)
	{
		return 0 if time > $deadline;
		usleep(20_000);
	}
	return 1;
}

# The process dies there; or it stands still while the server ends at once.
sub strike
{
	my ($step, $point, $kind) = @_;
	arm($point, $kind eq 'process' ? 'kill' : 'stop', 'client');
	my $run = Shop::in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], $statements{$step});
	my $deadline = time + 60;
	usleep(2_000) until look($point)->{fired} || !$run->{harness}->pumpable || time > $deadline;
	my $fired = look($point)->{fired};
	if ($kind eq 'server' && $fired)
	{
		$node->stop('immediate');
		disarm($point);
		$node->start;
	}
	finish($run);
	disarm($point);
	is_up() or die 'the server does not come back';
	return $fired;
}

my @ours = map { $_->{name} } grep { $_->{name} =~ m{^(?:archivedamounts|archivefile|archiving|monthswap)/} } @points;
my %reached;
my $kills = 0;
for my $step (qw(archive restore))
{
	my $from = $step eq 'archive' ? 'restore' : 'archive';
	for my $point (@ours)
	{
		do_it($from) if state_now() ne 'none' && state_now() ne $after{$from};
		my $kind = $kills % 2 ? 'server' : 'process';
		my $was  = state_now();
		next if !strike($step, $point, $kind);
		$reached{$point} = 1;
		$kills++;
		is(state_now(), $was, "$step, $kind ends at $point: nothing has happened");
		all_is_well("$step, $kind ends at $point");
		do_it($step);
		is(state_now(), $after{$step}, "$step, $kind ends at $point: the next one does it");
	}
	all_is_well($step);
}
is(join(' ', grep { !$reached{$_} } @ours), '', 'every fault point was reached');
cmp_ok($kills, '>=', 10, 'by ten kills at least');

# --- an error leaves nothing either --------------------------------------------------------------------------

do_it('archive');
do_it('restore');
for my $point (grep { !m{removed|restored|filled|twin|attached} } @ours)
{
	arm($point, 'error', 'client');
	my ($status) = $node->psql('shop', $statements{archive});
	disarm($point);
	isnt($status, 0, "an error at $point");
	my $files = () = files();
	is($files, 2 * ask($named), "an error at $point leaves no file");
}
all_is_well('after errors');
indexes_hold($node, 'shop');
$node->stop;
done_testing();
