# Maintenance moves months of tables of users, one of them by list and month, while at every fault point on the way
# the session or the worker that does it is killed: every row is in the table or in the archive and none in both, all
# come to the tier that is due, with the same rows, and no file or table is left behind.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use Forgery;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my @points    = find_points("$FindBin::RealBin/../../src");
my $directory = PostgreSQL::Test::Utils::tempdir();
my $node      = start_faulty_server('maintenance_crash', \@points, "order_mgmt.archive_directory = '$directory'", 'autovacuum = off');
my @ours      = grep { m{^(?:archivefile|archiving|maintenance|maintworker|monthswap|restoring|warming)/} } map { $_->{name} } @points;

# In the one database sessions run maintenance, in the other workers do.
my %database = (client => 'by_hand', worker => 'by_itself');
for my $kind (sort keys %database)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database{$kind}");
	$node->safe_psql('postgres', "ALTER DATABASE $database{$kind} SET order_mgmt.workers = off") if $kind eq 'client';
	$node->safe_psql($database{$kind}, 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
}
my $shop;      # the database
my $round = 0; # part of the names of its tables

sub ask { my ($query) = @_; return $node->safe_psql($shop, $query); }

my %policies = (
	warm => q(warm_after => '1 month'),
	cold => q(cold_after => '1 month', restored_for => '100 years'),
	drop => q(drop_after => '1 month'),
);
my %tiers = (warm => 'warm warm warm', cold => 'cold cold cold', restored => 'restored restored restored', drop => '');

# Three old months with rows, in two tables
sub make_tables
{
	$round++;
	ask(<<"SQL");
CREATE TABLE public.sales$round (at date, n int, t text, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE TABLE public.sales${round}_old PARTITION OF public.sales$round FOR VALUES FROM ('2010-01-01') TO ('2010-02-01');
CREATE TABLE public.readings$round (region text, at timestamptz, n int, t text, PRIMARY KEY (region, at, n)) PARTITION BY LIST (region);
CREATE TABLE public.readings${round}_n PARTITION OF public.readings$round FOR VALUES IN ('n') PARTITION BY RANGE (at);
CREATE TABLE public.readings${round}_s PARTITION OF public.readings$round FOR VALUES IN ('s') PARTITION BY RANGE (at);
CREATE TABLE public.readings${round}_n_old PARTITION OF public.readings${round}_n FOR VALUES FROM ('2010-01-01 00:00+00') TO ('2010-02-01 00:00+00');
CREATE TABLE public.readings${round}_s_old PARTITION OF public.readings${round}_s FOR VALUES FROM ('2010-01-01 00:00+00') TO ('2010-02-01 00:00+00');
INSERT INTO public.sales$round SELECT '2010-01-01'::date + n % 31, n, md5(n::text) FROM generate_series(1, 300) AS n;
INSERT INTO public.readings$round SELECT r, '2010-01-01 00:00+00'::timestamptz + n * interval '1 hour', n, md5(n::text) FROM unnest('{n,s}'::text[]) AS r, generate_series(1, 300) AS n;
SQL
	return;
}

sub forget_tables
{
	ask("SELECT order_mgmt.unmanage_table('public.sales$round'), order_mgmt.unmanage_table('public.readings$round')");
	ask("DROP TABLE public.sales$round, public.readings$round; DELETE FROM order_mgmt.archives WHERE schema_name = 'public'");
	return;
}

# Both or neither, whenever a worker dies
sub manage
{
	my ($move) = @_;
	return join ' ', 'BEGIN;', (map { "SELECT order_mgmt.manage_table('public.$_$round', 'at', premake => 0, $policies{$move});" } qw(readings sales)), 'COMMIT;';
}

sub is_managed { return ask("SELECT count(*) FROM order_mgmt.partition_policies WHERE table_name IN ('readings$round', 'sales$round')"); }

# As a script, and what it comes to
sub script_of
{
	my ($move) = @_;
	return join ' ', map { "SELECT count(*) FROM order_mgmt.restore_month('2010-01-01', 'public.$_$round');" } qw(readings sales) if $move eq 'restored';
	return manage($move) . ' SELECT count(*) FROM order_mgmt.run_maintenance();' x 4;
}

sub tiers_now { return ask("SELECT coalesce(string_agg(tier, ' '), '') FROM order_mgmt.partitions WHERE month = '2010-01-01'"); }
sub content { return ask("SELECT count(*) || md5(string_agg(s::text, ' ' ORDER BY at, n)) FROM public.sales$round AS s UNION ALL SELECT count(*) || md5(string_agg(r::text, ' ' ORDER BY region, at, n)) FROM public.readings$round AS r"); }
sub rows_now { return ask("SELECT (SELECT count(*) FROM public.sales$round) + (SELECT count(*) FROM public.readings$round) + coalesce((SELECT sum(rows) FROM order_mgmt.archives WHERE state = 'cold' AND schema_name = 'public'), 0)"); }
sub left_behind { return ask(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'om\_moving%')); }

# Those that no row of archives names go with the next run that finds nobody else at it
sub files_are_named
{
	my $oid = ask(q(SELECT oid FROM pg_database WHERE datname = current_database()));
	my $deadline = time + 60;
	my ($named, $files);
	do
	{
		ask('SELECT count(*) FROM order_mgmt.run_maintenance()');
		$named = 2 * ask('SELECT count(*) FROM order_mgmt.archives');
		$files = () = glob("$directory/*-$oid/*/*");
	} until $files == $named || time > $deadline;
	return $files == $named;
}

# Whatever is left to do is done, by hand or by itself.
sub complete
{
	my ($move, $kind) = @_;
	my $deadline = time + 60;
	while (tiers_now() ne $tiers{$move} && time < $deadline)
	{
		if ($kind eq 'client') { $node->psql($shop, script_of($move)); }
		else { usleep(20_000); }
	}
	return tiers_now();
}

# One move, at which somebody dies if a point is given; '' when all is well in the end.
sub run_round
{
	my ($move, $kind, $point, $nth) = @_;
	my @wrong;
	$shop = $database{$kind};
	make_tables();
	my $before = content();
	if ($move eq 'restored')
	{
		ask(script_of('cold'));
		push @wrong, 'not archived: ' . tiers_now() if tiers_now() ne $tiers{cold};
	}
	my $log = -s $node->logfile;
	arm($point, 'kill', $kind, $nth) if $point;
	my $run = Shop::in_background($node, [ 'psql', '-XAtq', '-d', $shop ], $kind eq 'client' ? script_of($move) : manage($move));
	my $deadline = time + 60;
	usleep(2_000) until $point && look($point)->{fired} || ($kind eq 'client' || !$point) && !$run->{harness}->pumpable || time > $deadline;
	my $fired = $point && look($point)->{fired};
	push @wrong, 'nobody came there' if $point && !$fired;
	finish($run);
	disarm($point) if $point;
	$node->wait_for_log(qr/ready to accept connections/, $log) if $fired;
	push @wrong, 'of 900 rows there are ' . rows_now() if $kind eq 'client' && $move ne 'drop' && rows_now() != 900;
	push @wrong, 'a table of a move is left' if $kind eq 'client' && left_behind() != 0;
	# The worker may have come there at its own start, before anything was managed.
	ask(manage($move)) if $kind eq 'worker' && !is_managed();
	my $tiers = complete($move, $kind);
	push @wrong, "tiers are $tiers" if $tiers ne $tiers{$move};
	push @wrong, 'a file nobody knows' if !files_are_named();
	if ($move eq 'cold')
	{
		push @wrong, 'rows in two places' if ask("SELECT (SELECT count(*) FROM public.sales$round) + (SELECT count(*) FROM public.readings$round)") != 0;
		ask(script_of('restored'));
	}
	push @wrong, 'other rows' if ($move eq 'drop' ? rows_now() != 0 : content() ne $before);
	push @wrong, 'a table of a move is left in the end' if left_behind() != 0;
	push @wrong, ask('SELECT * FROM order_mgmt.check_invariants()') || ();
	forget_tables();
	return join ', ', @wrong;
}

# --- without a fault: who comes where ------------------------------------------------------------------------------

my @moves = ([ 'warm', 'client' ], [ 'cold', 'client' ], [ 'restored', 'client' ], [ 'drop', 'client' ], [ 'warm', 'worker' ], [ 'cold', 'worker' ], [ 'drop', 'worker' ]);
my %hits;
for (@moves)
{
	my ($move, $kind) = @$_;
	my %before = map { $_ => look($_)->{$kind} } @ours;
	is(run_round($move, $kind), '', "$move by a $kind");
	$hits{"$move $kind"} = { map { $_ => look($_)->{$kind} - $before{$_} } @ours };
}

# --- a kill at each ---------------------------------------------------------------------------------------------

# The rounds themselves archive and restore by a client, so points count only where the move leads to them.
my %leads = (
	warm => qr{^(?:maintenance|maintworker|monthswap|warming)/},
	cold => qr{^(?:archivefile|archiving|maintenance|maintworker|monthswap/(?:before|locked|dropped|swapped))},
	restored => qr{^(?:restoring|monthswap)},
	drop => qr{^(?:maintenance/|maintworker|monthswap/(?:locked|dropped))},
);
my %struck;
my $kills = 0;
for (@moves)
{
	my ($move, $kind) = @$_;
	for my $point (grep { $_ =~ $leads{$move} && $hits{"$move $kind"}{$_} } @ours)
	{
		# What both come to is tried by one of them, first with the table by list, then with the other.
		next if $struck{"$move $point"} && $point !~ m{^(?:maintenance|warming)/};
		$struck{"$move $point"} = $struck{$point} = 1;
		my $nth = $kills % 2 && $hits{"$move $kind"}{$point} >= 3 && $move ne 'restored' ? 3 : 1;
		is(run_round($move, $kind, $point, $nth), '', "$move by a $kind, killed at $point" . ($nth > 1 ? ' later' : ''));
		$kills++;
	}
}
is(join(' ', grep { !$struck{$_} } @ours), '', 'every fault point was reached');
cmp_ok($kills, '>=', 40, 'by forty kills at least');

# --- a file that is not what was written ------------------------------------------------------------------------

$shop = $database{client};
make_tables();
my $before = content();
arm('archivefile/written', 'stop', 'client');
my $run = Shop::in_background($node, [ 'psql', '-XAtq', '-d', $shop, '-v', 'VERBOSITY=sqlstate' ], "SELECT count(*) FROM order_mgmt.archive_month('2010-01-01', 'public.sales$round');");
my $deadline = time + 60;
usleep(2_000) until look('archivefile/written')->{fired} || time > $deadline;
my ($file, @others) = glob("$directory/*/public.sales$round/*.tmp");
is(scalar(@others), 0, 'one file is being written');
my $good = slurp_file($file);
my $bad = forge($good);
open my $out, '>:raw', $file or die "$file: $!";
print $out $bad;
close $out;
ok(length $bad == length $good && $bad ne $good, 'other rows of the same length take their place');
disarm('archivefile/written');
finish($run);
like($run->{err}, qr/XX001/, 'what has been written is read again, and refused');
is(content(), $before, 'nothing is dropped');
is(ask(q(SELECT count(*) FROM order_mgmt.archives)), '0', 'or said to be archived');
ok(files_are_named(), 'and no file is left');
indexes_hold($node, $shop);
$node->stop;
done_testing();
