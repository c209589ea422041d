# Which event crashes the server is found by what the dead worker has left behind. Here sessions stand
# in for workers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = start_faulty_server('inflight', [], 'max_wal_senders = 2', 'wal_level = replica');
my $file = $node->data_dir . '/pg_dynshmem/order_mgmt.inflight';
for my $database ('postgres', 'template1')
{
	$node->safe_psql($database, q(CREATE FUNCTION test_inflight(text, text, int, bigint) RETURNS text
		LANGUAGE C CALLED ON NULL INPUT AS '$libdir/order_mgmt', 'om_test_inflight'));
}

# A session that works as a consumer; the answers say what is suspect.
sub attach
{
	my ($consumer, $database) = @_;
	my $session = $node->background_psql($database // 'postgres', on_error_stop => 0);
	my $worker = { session => $session, pid => scalar $session->query_safe('SELECT pg_backend_pid()') };
	$worker->{suspicion} = ask($worker, 'attach', $consumer);
	return $worker;
}

sub ask
{
	my ($worker, $action, $consumer, $nevents, $event_id) = @_;
	return $worker->{session}->query(sprintf q(SELECT test_inflight('%s', '%s', %d, %d)), $action, $consumer // '', $nevents // 0, $event_id // 0);
}

sub begin { my ($worker, @batch) = @_; return ask($worker, 'begin', '', @batch); }

# Until the server has ended it: were the client the first to leave, it would end well.
sub lose
{
	my ($worker) = @_;
	my $deadline = time + 30;
	usleep(2000) while kill(0, $worker->{pid}) && time < $deadline;
	eval { $worker->{session}->{run}->finish };
	return;
}

# Kills a session; the server ends all others and starts again.
sub crash
{
	my ($pid, @workers) = @_;
	my $stranger = $pid ? undef : $node->background_psql('postgres');
	$pid //= $stranger->query_safe('SELECT pg_backend_pid()');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(kill('KILL', $pid), 'a session is killed');
	lose($_) for @workers;
	ok(becomes($node, 'postgres', 'SELECT 1', '1', 60), 'the server is back');
	return;
}

my $clean = '0 suspect, event 0 crashed 0 times';
my $worker = attach('a');
is($worker->{suspicion}, $clean, 'at first nothing is suspect');
is(-s $file, 513 * 64, 'there is a file');

# The worker itself crashes.
begin($worker, 100);
my $other = attach('b');
begin($other, 50);
crash($worker->{pid}, $worker, $other);
$other = attach('b');
is($other->{suspicion}, $clean, 'who was ended because of another one is innocent');
$worker = attach('a');
is($worker->{suspicion}, '100 suspect, event 0 crashed 0 times', 'who crashed leaves a suspicion');
begin($worker, 1, 1001);
is(ask($worker, 'end'), '99 suspect, event 0 crashed 0 times', 'an event that has been handled is not suspect any more');
begin($worker, 1, 1002);
crash($worker->{pid}, $worker, $other);
$worker = attach('a');
is($worker->{suspicion}, '99 suspect, event 1002 crashed 1 times', 'an event that crashes alone is known');
begin($worker, 1, 1002);
is(ask($worker, 'abort'), '99 suspect, event 1002 crashed 1 times', 'one that fails without a crash stays suspect');
begin($worker, 1, 1002);
crash($worker->{pid}, $worker);
$worker = attach('a');
is($worker->{suspicion}, '99 suspect, event 1002 crashed 2 times', 'a second crash in a row is counted');

# Other ends do not count.
begin($worker, 1, 1002);
crash(undef, $worker);
$worker = attach('a');
is($worker->{suspicion}, '99 suspect, event 1002 crashed 2 times', 'a crash of somebody else is not');
begin($worker, 1, 1002);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker->{pid}, 10000)");
lose($worker);
$worker = attach('a');
is($worker->{suspicion}, '99 suspect, event 1002 crashed 2 times', 'nor is a termination');
begin($worker, 1, 1002);
$node->stop('immediate');
lose($worker);
$node->start;
$worker = attach('a');
is($worker->{suspicion}, '99 suspect, event 1002 crashed 2 times', 'nor an immediate stop, and a restart forgets nothing');
begin($worker, 1, 1002);
is(ask($worker, 'end'), '98 suspect, event 0 crashed 0 times', 'the count ends when the event has been handled');
begin($worker, 1, 1003);
crash($worker->{pid}, $worker);
$worker = attach('a');
is(ask($worker, 'forget'), '97 suspect, event 0 crashed 0 times', 'or put aside');
begin($worker, 97);
is(ask($worker, 'end'), $clean, 'and all is well when all have been handled');

# Slots
$node->safe_psql('postgres', 'CREATE DATABASE second');
begin($worker, 7);
my $namesake = attach('a', 'second');
is($namesake->{suspicion}, $clean, 'a consumer of the same name in another database is another one');
crash($worker->{pid}, $worker, $namesake);
$worker = attach('a');
is($worker->{suspicion}, '7 suspect, event 0 crashed 0 times', 'and left alone');
my $many = $node->safe_psql('postgres', q(SELECT DISTINCT test_inflight('attach', 'c' || n, 0, 0) FROM generate_series(1, 520) AS n));
like($many, qr/^no slot, $clean/m, 'slots of living processes are not taken away');
is($node->safe_psql('postgres', q(SELECT DISTINCT test_inflight('attach', 'd' || n, 0, 0) FROM generate_series(1, 500) AS n)), $clean,
	'those of dead ones are');
is(ask($worker, 'review'), '7 suspect, event 0 crashed 0 times', 'which does the living no harm');
$worker->{session}->quit;

# Files that are none of ours
sub spoil
{
	my ($what, $content, $expected) = @_;
	$node->stop;
	unlink $file;
	rmdir $file;
	defined $content ? append_to_file($file, $content) : mkdir $file;
	$node->start;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = $node->psql('postgres', q(SELECT test_inflight('attach', 'a', 0, 0)));
	is($out, $expected, $what);
	return $err;
}
my $size = -s $file;
spoil('an empty file is replaced', '', $clean);
spoil('so is one of another size', 'x' x 100, $clean);
spoil('so is one of something else', 'x' x $size, $clean);
my $spoilt = slurp_file($file);
spoil('a file full of rubbish slots is used', substr($spoilt, 0, 64) . "\xff" x ($size - 64), $clean);
substr($spoilt, 64 + 16, 24) = "\xff" x 24;    # all that is said of its batch and its suspicion
spoil('what is impossible in our slot is mended', $spoilt, $clean);
like(spoil('where no file can be had there is no slot', undef, "no slot, $clean"), qr/WARNING:  could not use file .*directory/, 'and a warning');
rmdir $file;

# No copy of the server inherits it.
$node->restart;
$worker = attach('a');
begin($worker, 3);
$node->backup('copy');
ok(!-e $node->backup_dir . '/copy/pg_dynshmem/order_mgmt.inflight', 'a base backup is without it');
ok(-e $file, 'the server is not');
$worker->{session}->quit;
$node->stop;
done_testing();
