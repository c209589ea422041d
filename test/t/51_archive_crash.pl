# A month of orders, and one of a user's table by list and month whose partitions have something of their own,
# is archived and restored while, at every fault point on the way, the process is killed, the whole server
# ends, or an error is raised: every row is in the table or in the archive, none in both, all answers are the
# same, what belongs to a partition is there, and no file is left that nobody names.
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

# What is moved: the arguments, its rows of "archives", and what is asked about it; see below.
my $orders = { name => 'orders', arguments => q('2024-01-01'), archives => q(schema_name = 'order_mgmt'), points => qr{^(?:archivedamounts|archivefile|archiving|monthswap|restoring)/} };
my $user = { name => 'a table of a user', arguments => q('2024-01-01', 'public.readings'), archives => q(schema_name = 'public'), points => qr{^(?:archivefile|archiving|monthswap|monthtraits|restoring)/} };
my $subject = $orders;
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

$orders->{queries} = {
	answers => q(SELECT count(*), md5(string_agg(order_mgmt.get_order(order_id)::text, ' ' ORDER BY order_id)) FROM public.ids),
	rows => join(' UNION ALL ', map {
			qq(SELECT '$_', (SELECT count(*) FROM order_mgmt.$_) + coalesce((SELECT sum(rows) FROM order_mgmt.archives WHERE table_name = '$_' AND state = 'cold'), 0))
		} qw(event_log orders order_lines)),
	invariants => 'SELECT * FROM order_mgmt.check_invariants()',
};
$orders->{is_here} = q(SELECT to_regclass('order_mgmt.orders_2024_01') IS NOT NULL);
$orders->{content} = {
	orders => q(SELECT md5(string_agg(o::text, ' ' ORDER BY created_at, order_id)) FROM order_mgmt.orders AS o),
	order_lines => q(SELECT md5(string_agg(l::text, ' ' ORDER BY created_at, order_id, line_no)) FROM order_mgmt.order_lines AS l),
	event_log => q(SELECT md5(string_agg(e::text, ' ' ORDER BY lxid, event_id)) FROM order_mgmt.event_log AS e),
};

# --- a month of a user's table, two lists of it ------------------------------------------------------------------

$node->safe_psql('shop', <<'SQL');
CREATE TABLE public.readings (region text, at date NOT NULL, x int) PARTITION BY LIST (region);
CREATE TABLE public.readings_eu PARTITION OF public.readings FOR VALUES IN ('eu') PARTITION BY RANGE (at);
CREATE TABLE public.readings_us PARTITION OF public.readings FOR VALUES IN ('us') PARTITION BY RANGE (at);
CREATE TABLE public.eu_1 PARTITION OF public.readings_eu FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE public.eu_2 PARTITION OF public.readings_eu FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE public.us_1 PARTITION OF public.readings_us FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE public.us_2 PARTITION OF public.readings_us FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE INDEX ON public.readings (x);
ALTER TABLE public.eu_1 ADD CONSTRAINT odd CHECK (x > 0);
ALTER TABLE public.us_1 ADD CONSTRAINT later CHECK (x < 0) NOT VALID;
CREATE UNIQUE INDEX once ON public.us_1 (x);
GRANT SELECT ON public.eu_1 TO PUBLIC;
COMMENT ON TABLE public.us_1 IS 'January';
ALTER TABLE public.us_1 DROP CONSTRAINT later;
INSERT INTO public.readings SELECT r, date '2024-01-01' + n % 60, n FROM generate_series(1, 500) AS n, unnest('{eu,us}'::text[]) AS r;
ALTER TABLE public.us_1 ADD CONSTRAINT later CHECK (x < 0) NOT VALID;
SQL
$user->{queries} = {
	rows => q(SELECT (SELECT count(*) FROM public.readings) + coalesce((SELECT sum(rows) FROM order_mgmt.archives WHERE schema_name = 'public' AND state = 'cold'), 0)),
	others => q(SELECT md5(string_agg(r::text, ' ' ORDER BY r)) FROM public.readings AS r WHERE at >= '2024-02-01'),
	tables => q(SELECT count(*) FROM pg_class WHERE relname LIKE 'om\_moving%'),
	kept => q(SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE '%\_cold' AND relkind = 'r') = (SELECT count(*) FROM order_mgmt.archives WHERE schema_name = 'public' AND state = 'cold')),
};
$user->{is_here} = q(SELECT to_regclass('public.eu_1') IS NOT NULL);
$user->{content} = {
	rows => q(SELECT md5(string_agg(r::text, ' ' ORDER BY r)) FROM public.readings AS r),
	constraints => q(SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid IN ('public.eu_1'::regclass, 'public.us_1'::regclass) ORDER BY 1, 2),
	grants => q(SELECT relname, array_to_string(relacl, ' '), obj_description(oid) FROM pg_class WHERE relname IN ('eu_1', 'us_1') ORDER BY 1),
	indexes => q(SELECT indexrelid::regclass, indisunique FROM pg_index WHERE indrelid IN ('public.eu_1'::regclass, 'public.us_1'::regclass) ORDER BY indexrelid::regclass::text),
};
my $twice = q(SELECT count(*) FROM order_mgmt.archives AS a WHERE state = 'cold' AND to_regclass(schema_name || '.' || partition_name) IS NOT NULL);
my $named = q(SELECT count(*) FROM order_mgmt.archives);

sub ask { my ($query) = @_; return $node->safe_psql('shop', $query); }

sub half { return "SELECT count(DISTINCT state) > 1 FROM order_mgmt.archives WHERE $subject->{archives}"; }

for my $of ($orders, $user)
{
	for my $kind (qw(queries content))
	{
		$of->{before}{$kind}{$_} = ask($of->{$kind}{$_}) for keys %{ $of->{$kind} };
	}
}

# Those of a kind of questions that are answered otherwise than at first
sub changed
{
	my ($kind) = @_;
	return grep { ask($subject->{$kind}{$_}) ne $subject->{before}{$kind}{$_} } sort keys %{ $subject->{$kind} };
}

sub files { my @found; find(sub { push @found, $File::Find::name if -f }, $directory); return @found; }

sub all_is_well
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @wrong = changed('queries');
	push @wrong, 'a month in two places' if ask($twice) ne '0';
	push @wrong, 'a half' if ask(half()) ne 'f';
	push @wrong, changed('content') if ask($subject->{is_here}) eq 't';
	ask('SELECT count(*) FROM order_mgmt.run_maintenance()');
	my $files = () = files();
	push @wrong, "$files files" if $files != 2 * ask($named);
	is(join(', ', @wrong), '', "$subject->{name}, $what: every row is there once, and no file too many");
	return;
}

sub state_now { return ask("SELECT coalesce(min(state), 'none') FROM order_mgmt.archives WHERE $subject->{archives}"); }

sub statement { my ($step) = @_; return "SELECT count(*) FROM order_mgmt.${step}_month($subject->{arguments})"; }

sub do_it
{
	my ($step) = @_;
	ask(statement($step));
	return;
}

# --- ten kills and more ------------------------------------------------------------------------------------------

# The process dies there; or it stands still while the server ends at once.
sub strike
{
	my ($step, $point, $kind) = @_;
	my $log = -s $node->logfile;
	arm($point, $kind eq 'process' ? 'kill' : 'stop', 'client');
	my $run = Shop::in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], statement($step));
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
	# It may answer for a moment before it has noticed.
	$node->wait_for_log(qr/ready to accept connections/, $log) if $fired;
	return $fired;
}

# From where a step begins
sub go_back
{
	my ($step) = @_;
	my $from = $step eq 'archive' ? 'restore' : 'archive';
	do_it($from) if state_now() ne 'none' && state_now() ne $after{$from};
	return;
}

for my $of ($orders, $user)
{
	$subject = $of;
	my @ours = map { $_->{name} } grep { $_->{name} =~ $of->{points} } @points;
	my %reached;
	my $kills = 0;
	for my $step (qw(archive restore))
	{
		for my $point (@ours)
		{
			go_back($step);
			my $kind = $kills % 2 ? 'server' : 'process';
			my $was  = state_now();
			next if !strike($step, $point, $kind);
			$reached{$point} = 1;
			$kills++;
			is(state_now(), $was, "$of->{name}, $step, $kind ends at $point: nothing has happened");
			all_is_well("$step, $kind ends at $point");
			do_it($step);
			is(state_now(), $after{$step}, "$of->{name}, $step, $kind ends at $point: the next one does it");
		}
		all_is_well($step);
	}
	is(join(' ', grep { !$reached{$_} } @ours), '', "$of->{name}: every fault point was reached");
	cmp_ok($kills, '>=', 10, 'by ten kills at least');
}

# --- an error leaves nothing either --------------------------------------------------------------------------

for my $of ($orders, $user)
{
	$subject = $of;
	for my $step (qw(archive restore))
	{
		my $errors = 0;
		for my $point (grep { $_->{name} =~ $of->{points} && !$_->{nofail} } @points)
		{
			go_back($step);
			my $was = state_now();
			arm($point->{name}, 'error', 'client');
			my ($status) = $node->psql('shop', statement($step));
			my $fired = look($point->{name})->{fired};
			disarm($point->{name});
			next if !$fired;
			$errors++;
			isnt($status, 0, "$of->{name}, $step: an error at $point->{name}");
			my $files = () = files();
			is($files . ' ' . state_now(), 2 * ask($named) . " $was", "$of->{name}, $step: an error at $point->{name} leaves no file");
		}
		cmp_ok($errors, '>=', 5, "$of->{name}, $step: five errors at least");
		all_is_well("$step, after errors");
	}
}
indexes_hold($node, 'shop');
$node->stop;
done_testing();
