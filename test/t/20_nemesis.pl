# Under each kind of fault, with eight clients at work: what was acknowledged is there once, what failed left
# nothing, and money and stock add up to the last digit. See Nemesis.pm for how a run can be repeated.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Nemesis;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server(
	'nemesis',                  'restart_after_crash = on', 'log_statement = none', "log_line_prefix = '%m [%p] %b '",
	'wal_level = replica',      'max_wal_senders = 5',      'hot_standby = on',     'wal_keep_size = 256MB',
	'checkpoint_timeout = 30s', 'wal_receiver_status_interval = 1s');
my @nodes = ($node);

# Does something to a process of these types: mostly to one that is caught in a transaction, sometimes to any.
sub hit
{
	my ($run, $blow, @types) = @_;
	my $pid = rand() < 0.7 || !$run->{heard}{caught} ? catch_one($run, @types) : undef;
	my $caught = defined $pid;
	$blow->($pid // random_process($run, @types));
	mark($run);
	kill('CONT', $pid) if $caught;
	return $caught;
}

my $sigkill = sub { my ($pid) = @_; return kill('KILL', $pid); };

# What pg_terminate_backend() sends, also where that function would have to wait for the one that is stopped.
sub terminate
{
	my ($run) = @_;
	return hit($run, sub { my ($pid) = @_; return kill('TERM', $pid) }, 'client backend', 'order_mgmt worker');
}

sub restart_at_once
{
	my ($run) = @_;
	$run->{node}->stop('immediate');
	mark($run);
	$run->{node}->start;
	return 0;
}

# --- a limit on statements, rows that are held for longer, and calls that take longer ----------------

sub limit_statements
{
	my ($run) = @_;
	$run->{node}->safe_psql('postgres', "ALTER DATABASE $run->{database} SET statement_timeout = '50ms'");
	return;
}

sub limit_no_more
{
	my ($run) = @_;
	$run->{node}->safe_psql('postgres', "ALTER DATABASE $run->{database} RESET statement_timeout");
	return;
}

# Somebody holds accounts for longer than any other may wait.
sub hold_rows
{
	my ($run) = @_;
	my $dbh = admin($run);
	$dbh->begin_work;
	$dbh->do(q(SELECT order_mgmt.adjust_balance(customer_id => ?, delta => 1)), undef, $_) for @Client::customers[ 0, 4, 8 ];
	mark($run);
	$dbh->do('SELECT pg_sleep(0.2)');
	$dbh->rollback;
	return 0;
}

# --- a snapshot that is held all the time ------------------------------------------------------------

my ($holder, $held_count);
my $count = 'SELECT count(*) FROM order_mgmt.orders';

sub hold_snapshot
{
	my ($run) = @_;
	$holder = connect_as_admin($run);
	$holder->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
	($held_count) = $holder->selectrow_array($count);
	return;
}

sub look_at_snapshot
{
	my ($run) = @_;
	mark($run);
	return ($holder->selectrow_array($count))[0] == $held_count;
}

sub let_snapshot_go
{
	my ($run) = @_;
	is(($holder->selectrow_array($count))[0], $held_count, "$run->{name}: the snapshot is still the same");
	$holder->do('COMMIT');
	cmp_ok(($holder->selectrow_array($count))[0], '>', $held_count, "$run->{name}: and orders were captured beside it");
	$holder->disconnect;
	return;
}

# --- a synchronous standby takes over ------------------------------------------------------------------

my $standby;

sub add_standby
{
	my ($run) = @_;
	my $name = 'standby' . @nodes;
	$run->{node}->backup($name);
	$standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($run->{node}, $name, has_streaming => 1);
	$standby->start;
	push @nodes, $standby;
	$run->{node}->safe_psql('postgres', q(ALTER SYSTEM SET synchronous_standby_names = '*'));
	$run->{node}->safe_psql('postgres', 'ALTER SYSTEM SET synchronous_commit = ' . pick('on', 'remote_apply'));
	$run->{node}->reload;
	becomes($run->{node}, 'postgres', 'SELECT sync_state FROM pg_stat_replication', 'sync', 60)
	  or die 'no synchronous standby';
	# That is what the sender says; commits wait when the checkpointer has heard of it, too.
	$run->{node}->safe_psql('postgres', 'CHECKPOINT');
	$run->{node}->wait_for_catchup($standby, 'flush');
	return;
}

# The backup that the standby was made of is older than synchronous_standby_names, so the new primary
# waits for nobody until it gets a standby of its own.
sub fail_over
{
	my ($run) = @_;
	add_standby($run) unless $standby;
	my @server = whole_server($run->{node});
	$run->{node}->kill9;
	kill('KILL', @server);
	mark($run);
	$standby->promote;
	($run->{node}, $standby) = ($standby, undef);
	delete $run->{admin};
	write_address($run);
	return 0;
}

# --- one after the other ---------------------------------------------------------------------------------

my @nemeses = (
	{
		name     => 'SIGKILL a worker',
		every    => 2,
		fault    => sub { my ($run) = @_; return hit($run, $sigkill, 'order_mgmt worker'); },
		evidence => [ 'caught', 'unknown' ],
		at_least => 2
	},
	{
		name     => 'SIGKILL a client backend',
		every    => 2,
		fault    => sub { my ($run) = @_; return hit($run, $sigkill, 'client backend'); },
		evidence => [ 'caught', 'unknown' ],
		at_least => 2
	},
	{ name => 'SIGKILL the postmaster', every => 10, fault => \&kill_postmaster, evidence => ['unknown'] },
	{ name => 'immediate restart', every => 5, fault => \&restart_at_once, evidence => ['unknown'] },
	{ name => 'pg_terminate_backend', every => 0.2, fault => \&terminate, evidence => [ 'caught', 'unknown' ], at_least => 5 },
	{
		name     => 'statement_timeout of 50 ms',
		every    => 0.5,
		begin    => \&limit_statements,
		clients  => { dawdle => 0.03 },
		fault    => \&hold_rows,
		evidence => ['timeout'],
		at_least => 3,
		end      => \&limit_no_more
	},
	{
		name     => 'snapshot held open',
		every    => 1,
		begin    => \&hold_snapshot,
		fault    => \&look_at_snapshot,
		evidence => ['caught'],
		at_least => 2,
		end      => \&let_snapshot_go
	},
	{ name => 'fail over to a synchronous standby', every => 20, begin => \&add_standby, fault => \&fail_over, evidence => ['unknown'] });

my $shops = 0;
for my $nemesis (@nemeses)
{
	$node = endure($node, 'shop' . ++$shops, $nemesis);
}

for (@nodes)
{
	my $log = slurp_file($_->logfile);
	unlike($log, qr/PANIC|TRAP|XX000|invisible tuple|reference leak/, $_->name . ': nothing untoward in the log');
	unlike($log, qr/terminated by signal (?!9:)/, $_->name . ': nobody crashed but who was killed');
	unlike($log, qr/order_mgmt worker ERROR:  .*statement timeout/, $_->name . ': no worker ran out of time');
	$_->stop('immediate');
}
done_testing();
