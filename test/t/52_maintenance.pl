# Maintenance by itself: a worker of its own moves months by policy, gives up where somebody reads for long, and
# holds up nobody; not preloaded, a session does it all.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('maintenance', 'autovacuum = off');
my $slow = PostgreSQL::Test::Utils::tempdir();
my $archive = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "ALTER SYSTEM SET order_mgmt.archive_directory = '$archive'; SELECT pg_reload_conf()");
$node->safe_psql('postgres', "CREATE TABLESPACE slow LOCATION '$slow'");
new_shop($node, 'shop');

# What time it is in the shop; workers begin anew with it
sub set_clock
{
	my ($time) = @_;
	$node->safe_psql('postgres', "ALTER DATABASE shop SET order_mgmt.clock = '$time+00'");
	return;
}

sub sql { return $node->safe_psql('shop', $_[0]) }

# Waits until a query gives the expected answer
sub reaches
{
	my ($query, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(becomes($node, 'shop', $query, $expected, 60), $what);
}

my $maintainers = q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt maintenance' AND datname = 'shop');

# Begins a transaction with run_maintenance(), which the worker may be at just now; what has been done
sub run_alone
{
	my ($session) = @_;
	my $deadline = time + 60;
	for (;;)
	{
		my $done = $session->query_safe('BEGIN; SELECT action, object FROM order_mgmt.run_maintenance()');
		return $done if $done !~ /^busy/ || time > $deadline;
		$session->query_safe('ROLLBACK');
	}
}

# Rows of the three tables as a hash each
my $contents = join ' UNION ALL ', map { "SELECT md5(string_agg(r::text, E'\\n' ORDER BY r::text)) FROM order_mgmt.$_ AS r" } qw(orders order_lines event_log);

# An idle database without policies starts nothing
is(sql(q(SELECT count(*) FROM order_mgmt.maintenance_log WHERE action <> 'make partition' AND action <> 'rotate')), '0', 'without a policy there is nothing to do');
is(sql($maintainers), '0', 'and nobody to do it');

# --- warm ------------------------------------------------------------------------------------------------

set_clock('2028-01-31 23:00:00');
sql("SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 200)");
settle($node, 'shop', 'January');
my $before = sql($contents);
is($node->psql('shop', q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 month', warm_tablespace => 'slow'))), 3,
	'a tablespace in which the owner of the tables may not create is refused');
$node->safe_psql('postgres', 'GRANT CREATE ON TABLESPACE slow TO order_mgmt_owner');
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 month', warm_tablespace => 'slow')));
set_clock('2028-03-01 00:00:00');
reaches(q(SELECT count(*) FROM order_mgmt.partitions WHERE month = '2028-01-01' AND tier = 'warm'), '3', 'January becomes warm by itself');
is(sql(q(SELECT string_agg(DISTINCT spcname, ' ') FROM pg_class AS c LEFT JOIN pg_tablespace AS t ON t.oid = reltablespace WHERE relname ~ '2028_01')), 'slow',
	'its tables and indexes are in the other tablespace');
is(sql($contents), $before, 'with the same rows');
reaches($maintainers, '0', 'the worker leaves when it is done');
settle($node, 'shop', 'warm');

# --- a long reader -------------------------------------------------------------------------------------------

# Somebody reads the month that is to move; maintenance gives up and says so, and captures go on all the while:
# they begin and end while one transaction has the month and tries to exchange it.
set_clock('2028-02-15 00:00:00');
sql("SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 50)");
settle($node, 'shop', 'February');
my $reader = $node->background_psql('shop');
$reader->query_safe('BEGIN; SELECT count(*) FROM order_mgmt.orders_2028_02');
set_clock('2028-04-01 00:00:00');
my $trial = q(SELECT coalesce((SELECT virtualtransaction FROM pg_locks WHERE relation = to_regclass('order_mgmt.orders_2028_02') AND mode = 'ShareLock' AND granted), 'none'));
my $client = $node->background_psql('shop');
my $inside = 0;
$client->query_safe(q(SET statement_timeout = '60 s'));
for my $captured (1 .. 20000)
{
	my ($before, undef, $after) = split /\n/, $client->query_safe("$trial; SELECT order_mgmt.capture_order('c', $Shop::one_line); $trial");
	$inside++ if $before eq $after && $before ne 'none';
	last if $client->query_safe(q(SELECT count(*) FROM order_mgmt.maintenance_log WHERE relation = 'order_mgmt.orders_2028_02' AND error_code = '55P03')) > 0;
}
$client->quit;
like(sql(q(SELECT error FROM order_mgmt.maintenance_log WHERE relation = 'order_mgmt.orders_2028_02' AND error_code = '55P03')), qr/is being used/,
	'beside a long reader maintenance gives up, and says so');
cmp_ok($inside, '>', 2, 'captures begin and end while it tries');
is(sql(q(SELECT tier FROM order_mgmt.partitions WHERE partition_name = 'orders_2028_02')), 'hot', 'the month is where it was');
is(sql(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'om_moving%')), '0', 'nothing is left of the copy');
my ($status, $out) = $node->psql('shop', q(SELECT action FROM order_mgmt.run_maintenance() WHERE action IN ('give up', 'busy')));
like($out, qr/^(give up|busy)$/, 'so does a session');
$reader->query_safe('COMMIT');
$reader->quit;
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 month', warm_tablespace => 'slow', premake => 2)));
reaches(q(SELECT count(*) FROM order_mgmt.partitions WHERE month = '2028-02-01' AND tier = 'warm'), '3', 'it succeeds next time: a changed policy is one');
settle($node, 'shop', 'after a long reader');

# --- two at a time --------------------------------------------------------------------------------------------

reaches($maintainers, '0', 'nobody is at it');
my $first = $node->background_psql('shop');
run_alone($first);
is(sql('SELECT action, object FROM order_mgmt.run_maintenance()'), 'busy|maintenance is under way in another session', 'of two runs the second says that the first is at it');
$first->query_safe('COMMIT');
is(sql(q(SELECT count(*) FROM order_mgmt.run_maintenance())), '0', 'afterwards there is nothing to do');

# Who has only looked is in nobody's way
sql(q(SELECT order_mgmt.create_consumer('program', start_at => '2000-01-01')));
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '1 month', premake => 2)));
reaches(q(SELECT waits_for FROM order_mgmt.partitions WHERE table_name = 'orders' ORDER BY month LIMIT 1), 'consumer "program" has not read all of its events', 'a month waits for a consumer');
reaches($maintainers, '0', 'nobody is at it');
is(run_alone($first) =~ s/^more to do.*\n?//gmr, '', 'a run finds nothing that it may do');
my $looker = $first->query_safe('SELECT pg_backend_pid()');
is(sql("SELECT count(*) FROM pg_locks JOIN pg_class ON oid = relation WHERE pid = $looker AND relname ~ '^(orders|order_lines|event_log)'"), '0', 'and leaves no lock on the tables behind');
my (undef, undef, $refused) = $node->psql('shop', q(SET statement_timeout = '60 s'; SELECT order_mgmt.archive_month('2028-02-01')));
like($refused, qr/older months go first/, 'nor does who archives by hand wait for it');
$first->query_safe('COMMIT');
$first->quit;
sql(q(SELECT order_mgmt.drop_consumer('program')));
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 month', warm_tablespace => 'slow', premake => 2)));
reaches($maintainers, '0', 'nobody is at it');

# --- a table of a user, beside one that is broken ----------------------------------------------------------

$node->safe_psql('shop', <<'SQL');
CREATE ROLE maker LOGIN;
GRANT order_mgmt_operator TO maker;
GRANT CREATE ON SCHEMA public TO maker;
SET ROLE maker;
CREATE TABLE public.readings (region text, at timestamptz, v int, PRIMARY KEY (region, at)) PARTITION BY LIST (region);
CREATE TABLE public.readings_n PARTITION OF public.readings FOR VALUES IN ('n') PARTITION BY RANGE (at);
CREATE TABLE public.readings_s PARTITION OF public.readings FOR VALUES IN ('s') PARTITION BY RANGE (at);
CREATE TABLE public.broken (at date) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('public.broken', 'at', premake => 0);
SELECT order_mgmt.manage_table('public.readings', 'at', premake => 1, warm_after => '10 days', cold_after => '1 month', drop_after => '2 months', restored_for => '3 days');
CREATE TABLE public.broken_rest PARTITION OF public.broken DEFAULT;
INSERT INTO public.readings SELECT r, '2028-04-01 00:00+00'::timestamptz + n * interval '1 minute', n FROM unnest('{n,s}'::text[]) AS r, generate_series(1, 2000) AS n;
SQL
my $readings = q(SELECT md5(string_agg(r::text, E'\n' ORDER BY region, at)) FROM public.readings AS r);
my $april = sql($readings);
set_clock('2028-05-11 00:00:00');
my $tiers = q(SELECT string_agg(tier, ' ' ORDER BY partition_name COLLATE "C") FROM order_mgmt.partitions WHERE table_name LIKE 'public.readings%' AND month = '2028-04-01');
reaches($tiers, 'warm warm', 'the months of a user become warm');
reaches(q(SELECT count(*) FROM pg_class WHERE relname ~ '^readings_[ns]_2028_06$' AND relowner = 'maker'::regrole), '2', 'and are made ahead, for their owner');
reaches(q(SELECT error_code FROM order_mgmt.maintenance_log WHERE relation = 'public.broken'), 'OM001', 'one that cannot be looked after is logged, and stops no other');
is(sql($readings), $april, 'with the same rows');

# Cold, back for reading, cold again, and gone
set_clock('2028-06-01 00:00:00');
reaches($tiers, 'cold cold', 'after a month they are archived');
is(sql(q(SELECT count(*) FROM public.readings)), '0', 'and no more in the table');
is(sql(q(SELECT sum(rows) FROM order_mgmt.maintenance_log WHERE action = 'archive' AND relation LIKE 'public.readings%')), '4000', 'the log says how many rows');
sql(q(SELECT * FROM order_mgmt.restore_month('2028-04-01', 'public.readings')));
is(sql($tiers), 'restored restored', 'they come back on demand');
is(sql($readings), $april, 'as they were');
my $back = q(SELECT DISTINCT next_action || ' ' || (next_action_at > now() - interval '1 day') FROM order_mgmt.partitions WHERE tier = 'restored');
like(sql($back), qr/^archive /, 'next they are archived again');
$first = $node->background_psql('shop');
$first->query_safe('BEGIN');
$first->query_safe(q(SELECT count(*) FROM order_mgmt.restore_month('2028-04-01', 'public.readings')));
set_clock('2028-06-20 00:00:00');
reaches(q(SELECT count(*) > 0 FROM order_mgmt.maintenance_log WHERE action = 'archive' AND error_code = '55P03' AND error ~ 'another session'), 't', 'but not while somebody else moves months');
$first->query_safe('COMMIT');
$first->quit;
# What has changed is looked at at once
sql(q(SELECT order_mgmt.manage_table('public.readings', 'at', premake => 1, warm_after => '10 days', cold_after => '1 month', drop_after => '2 months', restored_for => '2 days')));
reaches($tiers, 'cold cold', 'which is done when nobody has read them for a while');
set_clock('2028-07-01 00:00:00');
reaches("SELECT coalesce(($tiers), 'gone')", 'gone', 'at the end of their life they are deleted');
sql('SELECT order_mgmt.run_maintenance()');
is(scalar(my @files = glob("$archive/*/public.readings*/2028-04*")), 0, 'and so are their files, by the next run');

# --- ours: cold, with all that is derived from them -------------------------------------------------------------

sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '2 months', premake => 1)));
reaches(q(SELECT string_agg(DISTINCT tier, ' ') FROM order_mgmt.partitions WHERE month = '2028-01-01' AND table_name IN ('orders', 'order_lines', 'event_log')), 'cold', 'orders are archived as well');
settle($node, 'shop', 'cold');
is(sql("SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'and the shop is open');

# --- tables that are locked --------------------------------------------------------------------------------------

# Neither process waits for them: the one goes on with orders, the other ends, while they are locked.
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '2 months', premake => 3)));
reaches($maintainers, '0', 'nobody is at it');
my $locker = $node->background_psql('shop');
$locker->query_safe('BEGIN; LOCK TABLE order_mgmt.orders IN SHARE UPDATE EXCLUSIVE MODE; LOCK TABLE public.readings IN ACCESS EXCLUSIVE MODE');
set_clock('2028-07-02 00:00:00');
reaches(q(SELECT error_code || ' ' || error FROM order_mgmt.maintenance_log WHERE relation = 'orders_2028_10'), '55P03 its table is being used; the next run tries again', 'a month ahead is not waited for');
reaches(q(SELECT count(*) FROM order_mgmt.maintenance_log WHERE relation = 'public.readings' AND error_code = '55P03'), '1', 'nor is a table of a user');
is(sql(q(SELECT to_regclass('order_mgmt.event_log_2028_10') IS NOT NULL AND to_regclass('order_mgmt.orders_2028_10') IS NULL)), 't', 'others get theirs');
is(sql("SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "', '60 s')"), 'shipped', 'orders are shipped meanwhile');
reaches($maintainers, '0', 'and maintenance ends');
is($locker->query_safe('COMMIT'), '', 'then the tables are free');
$locker->quit;
like(sql(q(SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance())), qr/make partition orders_2028_10/, 'and the next run makes it');

# One month of a user's table that is locked keeps all of its months, and is said to; those of others move.
sql(<<'SQL');
CREATE TABLE public.aside (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE public.beside (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE public.aside_2028_06 PARTITION OF public.aside FOR VALUES FROM ('2028-06-01') TO ('2028-07-01');
CREATE TABLE public.beside_2028_06 PARTITION OF public.beside FOR VALUES FROM ('2028-06-01') TO ('2028-07-01');
INSERT INTO public.aside VALUES ('2028-06-01', 1);
INSERT INTO public.beside VALUES ('2028-06-01', 1);
SELECT order_mgmt.manage_table(t::regclass, 'at', premake => 0, cold_after => '20 days', drop_after => '21 days', lock_timeout => lasts::interval)
FROM (VALUES ('public.aside', '100 ms'), ('public.beside', '1 hour')) AS v(t, lasts);
COMMENT ON TABLE public.beside_2028_06 IS 'June';
SQL
reaches($maintainers, '0', 'nobody is at it');
$locker = $node->background_psql('shop');
$locker->query_safe('BEGIN; LOCK TABLE public.aside_2028_06 IN ACCESS EXCLUSIVE MODE');
set_clock('2028-07-21 12:00:00');
my $moved = q(SELECT coalesce(string_agg(table_name, ' ' ORDER BY table_name), 'none') FROM order_mgmt.archives WHERE month = '2028-06-01' AND table_name IN ('aside', 'beside'));
reaches($moved, 'beside', 'beside a month that is locked others move');
reaches(q(SELECT error_code || ' ' || error FROM order_mgmt.maintenance_log WHERE relation = 'public.aside' AND action = 'look at months'), '55P03 table public.aside or one of its months is being used', 'which the log says');
reaches($maintainers, '0', 'and nobody waits for it');
like(sql(q(SET lock_timeout = '1 h'; SELECT action || ' ' || object FROM order_mgmt.run_maintenance())), qr/^give up look at months public\.aside: /m, 'nor does a session that would');
$locker->query_safe('COMMIT');
$locker->quit;
like(sql(q(SELECT action || ' ' || object FROM order_mgmt.run_maintenance())), qr/^archive public\.aside_2028_06$/m, 'later it moves');

# What an archived month had of its own is an empty table; who reads that for long keeps the month, and nobody else
$reader = $node->background_psql('shop');
$reader->query_safe('BEGIN; SELECT count(*) FROM public.beside_2028_06_cold');
(undef, undef, $refused) = $node->psql('shop', q(SET statement_timeout = '60 s'; SELECT order_mgmt.restore_month('2028-06-01', 'public.beside')));
like($refused, qr/ERROR:.*is being used/, 'it does not come back');
set_clock('2028-07-22 12:00:00');
reaches(q(SELECT error_code || ' ' || error FROM order_mgmt.maintenance_log WHERE relation = 'public.beside_2028_06' AND action = 'drop'), '55P03 the month could not be moved: table "beside" is being used', 'nor does it go, and it is not waited for as long as the policy would');
reaches($moved, 'beside', 'another goes');
reaches($maintainers, '0', 'and maintenance ends');
$reader->query_safe('COMMIT');
$reader->quit;
like(sql(q(SELECT action || ' ' || object FROM order_mgmt.run_maintenance())), qr/^drop public\.beside_2028_06$/m, 'then it goes');
is(sql(q(SELECT to_regclass('public.beside_2028_06_cold') IS NULL)), 't', 'with what it had');
sql('SELECT order_mgmt.unmanage_table(t) FROM unnest(ARRAY[$$public.aside$$, $$public.beside$$]::regclass[]) AS t; DROP TABLE public.aside, public.beside');

# --- not preloaded ------------------------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
sql(q(SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', warm_after => '1 day', premake => 1)));
set_clock('2028-08-10 00:00:00');
my @done;
for my $run (1 .. 40)
{
	my $more = sql(q(SELECT string_agg(action || ' ' || object, ', ') FROM order_mgmt.run_maintenance()));
	push @done, $more;
	last if $more !~ /more to do/;
}
like("@done", qr/make warm order_mgmt\.orders_2028_07/, 'without workers a session does it, a month a call');
like("@done", qr/make partition public\.readings_n_2028_09/, 'for tables of users, too');
is(sql(q(SELECT DISTINCT tier FROM order_mgmt.partitions WHERE month = '2028-07-01' AND table_name IN ('orders', 'order_lines', 'event_log'))), 'warm', 'until all is done');

# A backlog: a transaction per month, as many as are asked for
sub call
{
	my ($arguments, $before) = @_;
	my ($status, $out, $err) = $node->psql('shop', ($before // '') . "CALL order_mgmt.archive_due($arguments)", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $status == 0 ? $out : $err =~ /(?:ERROR:\s+)(\w+)/ ? $1 : $err;
}
sql('SELECT order_mgmt.unmanage_table(t) FROM unnest(ARRAY[$$public.readings$$, $$public.broken$$]::regclass[]) AS t');
sql(<<'SQL');
CREATE TABLE public.backlog (at date, v int) PARTITION BY RANGE (at);
SELECT order_mgmt.manage_table('public.backlog', 'at', premake => 0);
DO $$
BEGIN
    FOR n IN 0 .. 7 LOOP
        EXECUTE format('CREATE TABLE public.backlog_%s PARTITION OF public.backlog FOR VALUES FROM (%L) TO (%L)', n, '2027-01-01'::date + n * interval '1 month', '2027-02-01'::date + n * interval '1 month');
    END LOOP;
END
$$;
INSERT INTO public.backlog SELECT '2027-01-01'::date + n, n FROM generate_series(0, 242) AS n;
SELECT order_mgmt.manage_table('public.backlog', 'at', premake => 0, cold_after => '1 month');
SQL
my $cold = q(SELECT count(*), sum(rows), count(DISTINCT xmin::text) FROM order_mgmt.archives WHERE table_name = 'backlog');
is(call('2'), '2', 'two months of a backlog');
is(sql($cold), '2|59|2', 'are archived in two transactions');
is(call(q(budget => '0')), '0', 'none where there is no time');
is(call('1', 'BEGIN; '), '2D000', 'it cannot be part of a transaction');
is(call('0'), 'OM001', 'nor move no month');
is(call('budget => NULL'), 'OM001', 'nor go on without end by chance');
$reader = $node->background_psql('shop');
run_alone($reader);
is(call(''), '0', 'while another session is at it, it leaves that to it');
$reader->query_safe('ROLLBACK');
$reader->query_safe('BEGIN; SELECT count(*) FROM public.backlog_2');
is(call('3'), '3', 'a long reader keeps one month');
is(sql(q(SELECT relation FROM order_mgmt.maintenance_log WHERE relation LIKE 'public.backlog%' AND error_code = '55P03')), 'public.backlog_2', 'which the log says');
$reader->query_safe('COMMIT');
$reader->quit;
my @both = map { in_background($node, [ 'psql', '-X', '-q', '-A', '-t', '-d', 'shop', '-c', 'CALL order_mgmt.archive_due()' ]) } 1 .. 2;
finish($_) for @both;
is(sql($cold), '8|243|8', 'two at once work it off, and do nothing twice');
is(call(''), '0', 'then there is nothing to do');
is(sql('SELECT count(*) FROM public.backlog'), '0', 'nothing is in two places');
is(sql('SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
$node->stop;
done_testing();
