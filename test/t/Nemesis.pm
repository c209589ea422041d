# Faults against a shop that is being used. endure() starts clients, lets one kind of fault happen until
# it has certainly hit transactions under way, heals, and compares the books.
#
#   NEMESIS_SEED      decides what clients do and what is hit; every run prints it
#   NEMESIS           pattern for the names of the kinds of fault to run; all otherwise
#   TORTURE_SECONDS   how long each kind of fault goes on (4)
package Nemesis;
use strict;
use warnings;
use Books;
use Client;
use DBD::Pg ':async';
use DBI;
use Exporter 'import';
use List::Util qw(max min);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(endure admin connect_as_admin write_address mark catch_one random_process whole_server kill_postmaster pick);

my $seed    = $ENV{NEMESIS_SEED}    // int(rand(2**30));
my $seconds = $ENV{TORTURE_SECONDS} // 4;
my $only    = $ENV{NEMESIS} || '.';
my $clients = 8;

# Opening balance (0.0001 each) and stock of everybody; too little for all that is asked for.
my %opening = (balance => 1_200_000, stock => 300);

diag("NEMESIS_SEED=$seed");

sub pick { return $_[ rand @_ ]; }

# --- the test's own connection -------------------------------------------------------------------

sub address_of
{
	my ($node) = @_;
	return 'host=' . $node->host . ' port=' . $node->port;
}

# A connection for looking at processes; made again as long as the server comes and goes.
sub admin
{
	my ($run) = @_;
	my $deadline = time + 60;
	until ($run->{admin} && eval { $run->{admin}->ping })
	{
		die "no connection within a minute: $DBI::errstr" if time > $deadline;
		$run->{admin} = eval { connect_as_admin($run) } or usleep(20_000);
	}
	return $run->{admin};
}

sub connect_as_admin
{
	my ($run) = @_;
	return DBI->connect('dbi:Pg:' . address_of($run->{node}) . ";dbname=$run->{database};application_name=nemesis;options='-c statement_timeout=0'",
		undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoInactiveDestroy => 1 });
}

# First column of what a query gives, asked again if the server goes away meanwhile.
sub ask
{
	my ($run, $sql, @arguments) = @_;
	for (1 .. 100)
	{
		my $rows = eval { admin($run)->selectcol_arrayref($sql, undef, @arguments) };
		return @$rows if $rows;
		die $@ if eval { $run->{admin}->ping };
	}
	die "no answer: $sql";
}

# --- processes -------------------------------------------------------------------------------------

# From here on the recovery time counts.
sub mark { my ($run) = @_; push @{ $run->{faults} }, time; return; }

# Processes of the database: 'order_mgmt worker' or 'client backend' (the clients', not the test's).
sub processes
{
	my ($run, @types) = @_;
	return ask($run, q(SELECT pid FROM pg_stat_activity WHERE datname = ? AND backend_type = ANY (?) AND application_name <> 'nemesis' ORDER BY pid),
		$run->{database}, \@types);
}

sub random_process
{
	my ($run, @types) = @_;
	my $deadline = time + 30;
	for (;;)
	{
		my $pid = pick(processes($run, @types));
		return $pid if $pid;
		die "no @types within 30 s" if time > $deadline;
		usleep(10_000);
	}
}

sub state_of
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return '';
	my $line = <$stat> // '';
	return $line =~ /\) (\S)/ ? $1 : '';
}

# Stops a process; true when it stands still in a transaction that has written.
sub stopped_in_transaction
{
	my ($run, $pid) = @_;
	kill('STOP', $pid) or return 0;
	my $deadline = time + 1;
	usleep(100) until state_of($pid) =~ /^[T]?$/ || time > $deadline;
	my $written = eval { has_written_so_far($run, $pid) } // 0;
	kill('CONT', $pid) unless $written;
	return $written;
}

# Gives up the test's own connection with a query that is under way. Without its socket being closed the session would
# live as long as this test, and be in the way of DROP DATABASE.
sub lose
{
	my ($run, $query) = @_;
	my $lost = delete $run->{admin};
	POSIX::close($lost->{pg_socket});
	$_->{InactiveDestroy} = 1 for $query, $lost;
	return;
}

# Who gets no answer within a second waits for a lock inside the server that the stopped process holds, so
# that stands in the middle of something too; this connection is then lost.
sub has_written_so_far
{
	my ($run, $pid) = @_;
	my $query = $run->{admin}->prepare('SELECT backend_xid IS NOT NULL FROM pg_stat_activity WHERE pid = ?', { pg_async => PG_ASYNC });
	$query->execute($pid);
	my $deadline = time + 1;
	until ($query->pg_ready)
	{
		if (time > $deadline)
		{
			lose($run, $query);
			return 1;
		}
		usleep(200);
	}
	$query->pg_result;
	return ($query->fetchrow_array)[0];
}

# A process of these types, stopped in the middle of a transaction; none when there was none for some seconds.
sub catch_one
{
	my ($run, @types) = @_;
	my $deadline = time + 5;
	while (time < $deadline)
	{
		my $pid = random_process($run, @types);
		return $pid if stopped_in_transaction($run, $pid);
		usleep(rand 3000);
	}
	return;
}

sub children
{
	my ($parent) = @_;
	opendir my $proc, '/proc' or die "/proc: $!";
	my @children;
	for my $pid (grep { /^\d+$/ } readdir $proc)
	{
		open my $stat, '<', "/proc/$pid/stat" or next;
		push @children, $pid if (<$stat> // '') =~ /\) \S (\d+)/ && $1 == $parent;
	}
	return @children;
}

# The postmaster and its children.
sub whole_server
{
	my ($node) = @_;
	my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	return ($postmaster, children($postmaster));
}

# Half of the time all others are killed at once, as systemd does. Otherwise they must notice by themselves (who
# runs a long query does so only after it); until they are gone their memory keeps a new server from starting. A
# dead process that nobody has reaped yet does not count, but it would make the lock files look valid.
sub kill_postmaster
{
	my ($run) = @_;
	my @orphans = whole_server($run->{node});
	$run->{node}->kill9;
	mark($run);
	kill('KILL', @orphans) if rand() < 0.5;
	my $deadline = time + 60;
	usleep(10_000) while (@orphans = grep { state_of($_) =~ /[^Z]/ } @orphans) && time < $deadline;
	is(@orphans, 0, "$run->{name}: no process outlives its postmaster") if @orphans;
	kill('KILL', @orphans);
	unlink $run->{node}->data_dir . '/postmaster.pid', $run->{node}->host . '/.s.PGSQL.' . $run->{node}->port . '.lock';
	$run->{node}->start;
	return 0;
}

# --- clients -----------------------------------------------------------------------------------------

sub write_address
{
	my ($run) = @_;
	append_to_file("$run->{dir}/book.new", address_of($run->{node}) . "\n");
	rename "$run->{dir}/book.new", "$run->{dir}/book" or die "book: $!";
	return;
}

sub new_client
{
	my ($run, $number, %more) = @_;
	return Client->new(
		number   => $number,
		seed     => $seed,
		book     => "$run->{dir}/book",
		database => $run->{database},
		file     => "$run->{dir}/client$number",
		%more);
}

sub start_clients
{
	my ($run, %more) = @_;
	pipe $run->{ear}, my $mouth or die "pipe: $!";
	$run->{ear}->blocking(0);
	my @clients = map { new_client($run, $_, pipe => $mouth, %more) } 0 .. $clients;
	$clients[0]{options} = '-c role=order_mgmt_reader -c statement_timeout=0';
	$clients[0]{opening} = [ @Client::customers * $opening{balance} / 10000, @Client::products * $opening{stock} ];
	delete $run->{admin};
	$_->start($_->{number} ? 'work' : 'watch') for @clients;
	$run->{clients} = \@clients;
	return;
}

# Counts the words that clients have said.
sub listen_to_clients
{
	my ($run) = @_;
	while (sysread($run->{ear}, my $text, 4096))
	{
		$run->{heard}{$_}++ for $text =~ /(\w+)\n/g;
	}
	return;
}

sub stop_clients
{
	my ($run) = @_;
	my @pids = map { $_->{pid} } @{ $run->{clients} };
	kill('TERM', @pids);
	my ($deadline, @bad) = (time + 60);
	for my $pid (@pids)
	{
		my $reaped;
		until ($reaped = waitpid($pid, POSIX::WNOHANG()))
		{
			listen_to_clients($run);
			kill('KILL', $pid) if time > $deadline;
			usleep(20_000);
		}
		push @bad, $pid if $? != 0;
	}
	is(@bad, 0, "$run->{name}: every client comes to an end");
	$run->{records} = [ map { $_->records // () } @{ $run->{clients} } ];
	return [ map { @{ $_->{units} } } @{ $run->{records} } ];
}

# --- a run -----------------------------------------------------------------------------------------

sub open_shop
{
	my ($run) = @_;
	my $node = $run->{node};
	$node->safe_psql('postgres', 'ALTER SYSTEM SET order_mgmt.workers_per_database = ' . pick(1, 2, 4));
	$node->reload;
	$node->safe_psql('postgres', "CREATE DATABASE $run->{database}");
	$node->safe_psql($run->{database}, 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup();'
		  . join('', map { "SELECT order_mgmt.set_account('$_', @{[ Client::money($opening{balance}) ]});" } @Client::customers)
		  . join('', map { "SELECT order_mgmt.set_stock('$_', $opening{stock});" } @Client::products));
	$run->{dir} = PostgreSQL::Test::Utils::tempdir();
	write_address($run);
	return;
}

# Whether this run counts: faults enough, and evidence that they hit something.
sub counts
{
	my ($run, $nemesis) = @_;
	return
		 @{ $run->{faults} } >= ($nemesis->{at_least} // 1)
	  && ($run->{heard}{sample} // 0) >= 2
	  && !grep { !$run->{heard}{$_} } @{ $nemesis->{evidence} };
}

sub let_it_rage
{
	my ($run, $nemesis) = @_;
	my $every    = min($nemesis->{every}, $seconds / 2);
	my $until    = time + $seconds;
	my $deadline = $until + 60;
	my $due      = time + rand($every);
	while (time < $deadline && !(time > $until && counts($run, $nemesis)))
	{
		listen_to_clients($run);
		if (time >= $due)
		{
			$run->{heard}{caught}++ if $nemesis->{fault}->($run);
			$due = time + $every;
		}
		usleep(min(20_000, 1e6 * max(0, $due - time)));
	}
	listen_to_clients($run);
	return ok(counts($run, $nemesis), "$run->{name}: transactions under way were hit, and the sums looked at meanwhile")
	  || diag('faults ' . @{ $run->{faults} } . ', evidence: ' . join ' ', %{ $run->{heard} });
}

# Retries, repetitions, and the comparison of the books.
sub close_books
{
	my ($run, $units) = @_;
	my $client = new_client($run, 99, options => '-c role=order_mgmt_operator -c statement_timeout=0');
	my $unknown = grep { $_->{outcome} eq 'unknown' } @$units;
	retry_unknown($client, $units);
	ok(becomes($run->{node}, $run->{database}, q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), "$run->{name}: heals");
	repeat_all($client, $units);
	settle($run->{node}, $run->{database}, $run->{name});
	my $result = compare(admin($run), $run->{records}, $units, \%opening);
	check_storage(admin($run));
	eval { $client->{dbh}->disconnect };
	return report($run, $units, $unknown, $result);
}

# From the fault to the next order shipped; but it takes the server some milliseconds to notice, and until then
# it ships: so the longest pause that began within half a second.
sub recovery_time
{
	my ($fault, @shipped_at) = @_;
	my @moments = ($fault, grep { $_ > $fault } @shipped_at);
	my @pauses = map { $moments[ $_ + 1 ] - $moments[$_] } grep { $moments[$_] < $fault + 0.5 } 0 .. $#moments - 1;
	return @pauses ? max(@pauses) : ();
}

sub report
{
	my ($run, $units, $unknown, $result) = @_;
	my $timed_out = grep { ($_->{code} // '') eq '57014' } @$units;
	note(sprintf '%s: %d faults, %d caught in a transaction; %d calls, %d unknown, %d out of time; orders: %s; sums looked at %d times',
		$run->{name}, scalar @{ $run->{faults} }, $run->{heard}{caught} // 0, scalar @$units, $unknown, $timed_out,
		join(', ', map { "$result->{count}{$_} $_" } sort keys %{ $result->{count} }), $run->{heard}{sample} // 0);
	my @recovery = sort { $a <=> $b } map { recovery_time($_, @{ $result->{shipped_at} }) } @{ $run->{faults} };
	note(sprintf '%s: recovery, until orders ship again: median %.0f ms, most %.0f ms',
		$run->{name}, 1000 * $recovery[ $#recovery / 2 ], 1000 * $recovery[-1])
	  if @recovery;
	return;
}

# Lets a shop on the node endure a nemesis; the node that it is on afterwards. The nemesis:
#   name, every (seconds), fault => sub that returns true when it caught somebody in a transaction,
#   evidence => what must have been heard for the run to count: "caught", or from clients "unknown", "timeout",
#   at_least => faults,
#   begin and end => subs before the clients connect and after they have gone, clients => more for Client->new.
sub endure
{
	my ($node, $database, $nemesis) = @_;
	return $node if $nemesis->{name} !~ $only;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local $Books::shop = $nemesis->{name};
	srand($seed);
	my $run = { node => $node, database => $database, name => $nemesis->{name}, faults => [], heard => {} };
	open_shop($run);
	$nemesis->{begin}->($run) if $nemesis->{begin};
	start_clients($run, %{ $nemesis->{clients} // {} });
	ok(becomes($run->{node}, $database, q(SELECT count(*) > 10 FROM order_mgmt.orders WHERE status = 'shipped'), 't', 60), "$run->{name}: orders ship");
	let_it_rage($run, $nemesis);
	my $units = stop_clients($run);
	$nemesis->{end}->($run) if $nemesis->{end};
	close_books($run, $units);
	delete $run->{admin};
	if (Test::More->builder->is_passing)
	{
		$run->{node}->safe_psql('postgres', "DROP DATABASE $database");
	}
	else
	{
		diag("$run->{name}: again with NEMESIS_SEED=$seed");
	}
	return $run->{node};
}

1;
