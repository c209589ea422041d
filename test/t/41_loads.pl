# Loads as jobs: when they run, how they end, and that they go on after whatever ends their process.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my @points = find_points("$FindBin::RealBin/../../src");
my $node = start_faulty_server('loads', \@points, 'max_prepared_transactions = 2', 'max_connections = 40');
my $directory = PostgreSQL::Test::Utils::tempdir();
new_shop($node, 'shop');

# A file of so many orders, every tenth of which is refused; its path
sub write_file
{
	my ($name, $rows) = @_;
	append_to_file("$directory/$name.csv", join '', "order_ref,customer_id,product_id,quantity,unit_price\n",
		map { "$name-$_,c,p," . ($_ % 10 ? 1 : 'bad') . ",1\n" } 1 .. $rows);
	return "$directory/$name.csv";
}

# A call that asks for a load, one row a batch so that there is time for mishaps
sub call
{
	my ($path) = @_;
	return qq(order_mgmt.load_orders_csv('$path', options => '{"batch_rows": 1}'));
}

sub ask { return $node->safe_psql('shop', 'SELECT ' . call($_[0])) }
sub cancel { return $node->safe_psql('shop', "SELECT order_mgmt.cancel_load($_[0])") }
sub outcome
{
	my ($id) = @_;
	return $node->safe_psql('shop', "SELECT concat_ws(' ', status, rows_read, rows_loaded, rows_rejected, error_code) FROM order_mgmt.wait_for_load($id, '100 s')");
}

# Waits until a query gives the expected answer
sub reaches
{
	my ($query, $expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(becomes($node, 'shop', $query, $expected, 60), $what);
}

sub loaders { return "SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader' AND datname = 'shop'" }

# The worker is to stand still after so many commits more: at one of two points in turn, so that it does
# not run away between being let go here and stopped there
my @stops = ('loads/after-commit', 'loads/before-commit');
sub arm_next
{
	my ($commits) = @_;
	@stops = reverse @stops;
	arm($stops[0], 'stop', 'worker', $commits);
	return;
}

# It may leave where it stood, and stands there now
sub reach
{
	my $deadline = time + 60;
	disarm($stops[1]);
	usleep(1000) until look($stops[0])->{fired} || time > $deadline;
	die 'no load goes on' if !look($stops[0])->{fired};
	return;
}

sub hold
{
	arm_next(@_);
	return reach();
}

# Asks for a load, which stands still after so many commits; its id
sub ask_and_hold
{
	my ($path, $commits) = @_;
	arm_next($commits);
	my $id = ask($path);
	reach();
	return $id;
}

sub let_go { return disarm($stops[0]) }

# How many rows a load has done
sub rows_of { return $node->safe_psql('shop', "SELECT rows_loaded + rows_rejected FROM order_mgmt.loads WHERE load_id = $_[0]") }

# What a load says of itself is what there is: errors, and orders
sub counts_hold
{
	my ($id, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql('shop', <<SQL), '', "$what: its row tells what has been done");
SELECT 'errors' FROM order_mgmt.loads AS l WHERE load_id = $id AND errors || ' ' || rows_rejected <>
    (SELECT count(*) || ' ' || count(DISTINCT row_no) FROM order_mgmt.load_errors AS e WHERE e.load_id = l.load_id)
UNION ALL SELECT 'error_no' FROM order_mgmt.load_errors WHERE load_id = $id HAVING max(error_no) <> count(*)
UNION ALL SELECT 'orders' FROM order_mgmt.loads WHERE source = (SELECT source FROM order_mgmt.loads WHERE load_id = $id)
    GROUP BY source HAVING sum(orders_loaded) <>
    (SELECT count(*) FROM order_mgmt.orders WHERE split_part(order_ref, '-', 1) = regexp_replace(source, '^.*/(.*)[.]csv\$', '\\1'));
SQL
}

# Ends the server's process that runs the load; the server restarts
sub kill_loader
{
	return kill_process($node, $node->safe_psql('shop', loaders()));
}

# After the commit, not before, and not after a rollback
my $small = write_file('small', 50);
$node->safe_psql('shop', "BEGIN; SELECT @{[ call($small) ]}; ROLLBACK;");
my $here = qq(psql -XAtq -d shop -c);
is($node->safe_psql('shop', <<SQL), "0\nnobody", 'before the commit nothing is seen of a load, nor of its worker');
BEGIN;
SELECT @{[ call($small) ]} AS id \\gset
\\! $here "SELECT count(*) FROM order_mgmt.loads; SELECT coalesce(max(pid)::text, 'nobody') FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader'"
COMMIT;
SQL
my $first = $node->safe_psql('shop', 'SELECT max(load_id) FROM order_mgmt.loads');
is(outcome($first), 'done 50 45 5', 'after it the load runs');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.loads'), '1', 'what was rolled back does not');
counts_hold($first, 'done');
reaches('SELECT count(*) FROM (' . loaders() . ') AS l', '0', 'the worker ends when nothing is left');

$node->safe_psql('shop', "BEGIN; SELECT @{[ call(write_file('prepared', 20)) ]}; PREPARE TRANSACTION 'load';");
my $prepared = $first + 2;
$node->safe_psql('shop', "COMMIT PREPARED 'load'");
reaches("SELECT status FROM order_mgmt.loads WHERE source LIKE '%/prepared.csv'", 'done', 'COMMIT PREPARED starts it as well');

# Those that fail are no hindrance
$node->safe_psql('shop', "SELECT order_mgmt.load_orders_csv('$directory/nowhere.csv')");
my $nowhere = $node->safe_psql('shop', 'SELECT max(load_id) FROM order_mgmt.loads');
like(outcome($nowhere), qr/^failed 0 0 0 OM007$/, 'a file that is not there: the load fails, and wait_for_load() says so');
like($node->safe_psql('shop', "SELECT error FROM order_mgmt.loads WHERE load_id = $nowhere"), qr/nowhere\.csv.*\nHINT: /s, 'with message and hint');

# One after the other
my ($one, $two) = split /\n/, $node->safe_psql('shop', "BEGIN; SELECT @{[ call(write_file('one', 60)) ]}; SELECT @{[ call(write_file('two', 30)) ]}; COMMIT;");
is(outcome($two), 'done 30 27 3', 'two loads of one transaction: the second is done');
is($node->safe_psql('shop', "SELECT a.status, a.finished_at <= b.started_at FROM order_mgmt.loads AS a, order_mgmt.loads AS b WHERE a.load_id = $one AND b.load_id = $two"),
	'done|t', 'after the first');

# Cancelled
my $long = write_file('long', 300);
my $waiting;
my $running = ask_and_hold($long, 20);
$waiting = ask(write_file('waiting', 10));
like($node->safe_psql('shop', q(SELECT query FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader')), qr/^load $running: (?:reading|writing), \d+ rows/, 'pg_stat_activity tells how far a load is');
is(cancel($waiting), 't', 'a load that waits for its turn is cancelled');
hold(3);
is(outcome($waiting), 'cancelled 0 0 0 57014', 'while another runs');
is($node->safe_psql('shop', "BEGIN; SELECT order_mgmt.cancel_load($running); ROLLBACK;"), 't', 'a cancellation that is rolled back');
hold(3);
pass('is none: the load goes on');
is(cancel($running), 't', 'a load that runs is cancelled');
let_go();
like(outcome($running), qr/^cancelled \d+ \d+ \d+ 57014$/, 'and ends');
cmp_ok(rows_of($running), '<', 300, 'before it is done');
counts_hold($running, 'cancelled');
is(cancel($running), 'f', 'once');
reaches('SELECT count(*) FROM order_mgmt.load_cancels', '0', 'no request is left');

my $ended = ask_and_hold(write_file('ended', 100), 20);
$node->safe_psql('shop', "SELECT pg_cancel_backend(pid) FROM (@{[ loaders() ]}) AS l");
like(outcome($ended), qr/^cancelled \d+ \d+ \d+ 57014$/, 'pg_cancel_backend() cancels as well');
counts_hold($ended, 'cancelled by its process');

# A client that has asked and does not commit keeps nobody from working
my $open = ask_and_hold(write_file('open', 30), 5);
my $client = in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], <<SQL);
BEGIN;
SELECT order_mgmt.cancel_load($open);
\\! $here "SELECT status FROM order_mgmt.wait_for_load($open, '60 s')"
COMMIT;
SQL
has_written($client, 1, 60);
let_go();
finish($client);
is($client->{out}, "t\ndone\n", 'a cancellation that is not committed keeps no load waiting');
is(outcome(ask(write_file('after', 10))), 'done 10 9 1', 'nor the next');
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.loads WHERE load_id = $open"), 'done', 'and is without effect when it comes too late');
reaches('SELECT count(*) FROM order_mgmt.load_cancels', '0', 'that request is forgotten');

# Whoever ends the worker, it goes on where it was
my $tough = ask_and_hold(write_file('tough', 400), 20);
my $rows = -1;

# What was committed before is there, and it goes on
sub goes_on
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $now = rows_of($tough);
	cmp_ok($now, '>', $rows, "$what: the load goes on from where it was");
	$rows = $now;
	return;
}

my @mishaps = (
	(map { [ "SIGKILL, time $_" => \&kill_loader ] } 1 .. 4),
	[ termination => sub { $node->safe_psql('shop', "SELECT pg_terminate_backend(pid) FROM (@{[ loaders() ]}) AS l") } ],
	[ restart => sub { $node->restart } ],
	[ 'immediate stop' => sub { $node->stop('immediate'); $node->start } ]);
for my $mishap (@mishaps)
{
	arm_next(20);
	$mishap->[1]->();
	reach();
	goes_on($mishap->[0]);
}
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
let_go();
reaches('SELECT count(*) FROM (' . loaders() . ') AS l', '0', 'without workers there is none for loads');
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.loads WHERE load_id = $tough"), 'writing', 'which leaves its load unfinished');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');
is(outcome($tough), 'done 400 360 40', 'after all that every row has been done once');
counts_hold($tough, 'killed');

# While no worker lives, a client cancels by itself
my $left = ask_and_hold(write_file('left', 100), 20);
$node->safe_psql('postgres', 'ALTER SYSTEM SET order_mgmt.workers = off');
$node->reload;
reaches(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker'), '0', 'workers are switched off');
let_go();
reaches('SELECT count(*) FROM (' . loaders() . ') AS l', '0', 'in the middle of a load');
is(cancel($left), 't', 'it can be cancelled all the same');
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.loads WHERE load_id = $left"), 'cancelled', 'at once');
counts_hold($left, 'left');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET order_mgmt.workers');
$node->reload;

# A deadlock that the worker loses is tried again
my $contested = ask_and_hold(write_file('contested', 100), 20);
hold(1) if $stops[0] ne 'loads/after-commit';    # where the row of the load is not locked
my $log = -s $node->logfile;
$client = in_background($node, [ 'psql', '-XAtq', '-d', 'shop' ], <<SQL);
SET deadlock_timeout = '60 s';
BEGIN;
SELECT load_id FROM order_mgmt.loads WHERE load_id = $contested FOR UPDATE;
DO \$\$
BEGIN
    FOR i IN 1 .. 6000 LOOP
        EXIT WHEN EXISTS (SELECT FROM pg_locks JOIN (@{[ loaders() ]}) AS l USING (pid) WHERE NOT granted);
        PERFORM pg_sleep(0.01);
    END LOOP;
END \$\$;
LOCK TABLE order_mgmt.loads IN ACCESS EXCLUSIVE MODE;
COMMIT;
SQL
ok(has_written($client, 1, 60), 'a client has locked the row of a load');
let_go();
finish($client);
is($client->{err}, '', 'a client in a deadlock with a load is let through');
is(outcome($contested), 'done 100 90 10', 'the load is tried again');
like(slurp_file($node->logfile, $log), qr/deadlock detected/, 'after an error');
counts_hold($contested, 'deadlock');

# What ends its process again and again at one place is given up
my $deadly = write_file('deadly', 10);
my $after_it = write_file('survivor', 10);
arm('loads/before-commit', 'kill each', 'worker', 10);
($one, $two) = split /\n/, $node->safe_psql('shop', "BEGIN; SELECT @{[ call($deadly) ]}; SELECT @{[ call($after_it) ]}; COMMIT;");
for my $time (1 .. 10)
{
	my $deadline = time + 60;
	usleep(500) until look('loads/before-commit')->{fired} >= $time || time > $deadline;
	cmp_ok(look('loads/before-commit')->{fired}, '>=', $time, "crash $time");
}
reaches("SELECT concat_ws(' ', status, error_code) FROM order_mgmt.loads WHERE load_id = $one", 'failed OM007', 'after ten crashes at one place a load is given up');
is(outcome($two), 'done 10 9 1', 'and the next one has its turn');

# Commands that need the database for themselves
new_shop($node, 'doomed');
arm_next(20);
$node->safe_psql('doomed', 'SELECT ' . call($long));
reach();
arm_next(20);
is($node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE doomed; ALTER DATABASE doomed RENAME TO fated;'), '', 'a database in which a load runs can be copied and renamed');
reach();
pass('the load goes on');
is($node->safe_psql('copy', "SELECT status FROM order_mgmt.loads"), 'writing', 'the copy has it, too');
is($node->safe_psql('copy', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader' AND datname = 'copy'"), '0', 'but rests');
is($node->safe_psql('fated', q(SELECT order_mgmt.teardown('drop all order data'))), 't', 'teardown() ends a load');
let_go();
is($node->safe_psql('fated', 'SELECT order_mgmt.setup()'), 't', 'setup() begins anew');
arm_next(20);
$node->safe_psql('fated', 'SELECT ' . call($long));
reach();
is($node->safe_psql('postgres', 'DROP DATABASE fated; DROP DATABASE copy;'), '', 'DROP DATABASE ends another');
let_go();
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader' AND datname <> 'shop')), '0', 'nobody is left');

settle($node, 'shop', 'in the end');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|reference leak|background worker "order_mgmt loader.*exited with exit code 2/, 'nothing untoward in the log');
$node->stop;

# Not preloaded: in the transaction of who asks
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
$plain->start;
new_shop($plain, 'shop');
my $by_hand = write_file('hand', 30);
is($plain->safe_psql('shop', "SELECT status, rows_loaded, rows_rejected FROM order_mgmt.wait_for_load(@{[ call($by_hand) ]})"), 'done|27|3', 'without workers the call loads');
$plain->safe_psql('shop', "BEGIN; SELECT @{[ call(write_file('undone', 30)) ]}; ROLLBACK;");
is($plain->safe_psql('shop', 'SELECT count(*), (SELECT count(*) FROM order_mgmt.load_errors) FROM order_mgmt.loads'), '1|3', 'all or nothing');
my ($status, $out, $err) = $plain->psql('shop', "\\set VERBOSITY verbose\nSELECT order_mgmt.load_orders_csv('$directory/nowhere.csv')");
like($err, qr/OM007/, 'and raises what ends a load');
is($plain->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.loads'), '1', 'of which nothing is left');
$plain->stop;
done_testing();
