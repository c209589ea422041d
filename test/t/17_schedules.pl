# No false refusal: however the work is cut up, every order ends as if each had been final before the next began.
#
# Each schedule is a shop of its own with little credit and little stock, a few hundred orders that one client
# captures one after the other, and whatever may come between: stages that are paused and resumed, workers that are
# terminated, clients that run the pipeline themselves, transactions that are rolled back. All of it follows from
# the schedule's seed; among consecutive seeds every size of batch and every number of workers takes turns. With
# workers the seed does not say when each of them comes to something, so a failure may take several tries to
# come again; without them (drivers "client") it comes every time.
#
#   SCHEDULES_SEED=N    of the first schedule, by default from the clock
#   SCHEDULES=N         how many, by default 20
use strict;
use warnings;
use DBI;
use FindBin;
use lib $FindBin::RealBin;
use List::Util qw(sum0 uniq);
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes ();

my $first = $ENV{SCHEDULES_SEED} // time % 1_000_000;
my $count = $ENV{SCHEDULES} // 20;

my @batch_sizes = (1, 2, 3, 7, 50, 1000);
my @stages = qw(balance_checker stock_checker order_updater shipper);
my @ways = ('single calls', 'small transactions', 'batches', 'one transaction');

sub pick { return $_[ rand @_ ]; }
sub roll { my ($from, $to) = @_; return $from + int rand($to - $from + 1); }
sub money { my ($cents) = @_; return sprintf '%d.%02d', int($cents / 100), $cents % 100; }

# --- what is to be captured, and what must become of it ------------------------------------------

# Four customers want many of six products; two of the ids have no account, or no stock.
sub new_orders
{
	my ($number) = @_;
	return map {
		my $ref = $_;
		my @lines = map { [ rand() < 0.01 ? 'unknown' : 'p' . roll(1, 6), rand() < 0.1 ? roll(10, 40) : roll(1, 6), pick(0, 25, 99, 100, 100, 333) ] } 1 .. roll(1, 4);
		{ ref => "o$ref", customer => rand() < 0.01 ? 'nobody' : 'c' . roll(1, 4), lines => \@lines }
	} 1 .. $number;
}

sub total { my ($order) = @_; return sum0(map { $_->[1] * $_->[2] } @{ $order->{lines} }); }

sub needs
{
	my ($order) = @_;
	my %needs;
	$needs{ $_->[0] } += $_->[1] for @{ $order->{lines} };
	return \%needs;
}

# Less than all orders together ask for.
sub opening_amounts
{
	my (@orders) = @_;
	my (%credit, %stock);
	for my $order (@orders)
	{
		$credit{ $order->{customer} } += total($order);
		my $needs = needs($order);
		$stock{$_} += $needs->{$_} for keys %$needs;
	}
	delete $credit{nobody};
	delete $stock{unknown};
	$credit{$_} = int($credit{$_} * (0.6 + rand 0.3)) for sort keys %credit;
	$stock{$_} = int($stock{$_} * (0.6 + rand 0.3)) for sort keys %stock;
	return (\%credit, \%stock);
}

# One order at a time: { ref => "status reasons" }, and what is left of credit and stock.
sub predict
{
	my ($orders, $credit, $stock) = @_;
	my %credit = %$credit;
	my %stock = %$stock;
	my %outcome;
	for my $order (@$orders)
	{
		my ($customer, $total, $needs) = ($order->{customer}, total($order), needs($order));
		my @reasons;
		push @reasons, 'unknown_account' if !exists $credit{$customer};
		push @reasons, 'insufficient_balance' if exists $credit{$customer} && $credit{$customer} < $total;
		push @reasons, map { !exists $stock{$_} ? 'unknown_product' : $stock{$_} < $needs->{$_} ? 'insufficient_stock' : () } keys %$needs;
		$outcome{ $order->{ref} } = join ' ', @reasons ? 'rejected' : 'shipped', sort(uniq(@reasons));
		next if @reasons;
		$credit{$customer} -= $total;
		$stock{$_} -= $needs->{$_} for keys %$needs;
	}
	return (\%outcome, \%credit, \%stock);
}

# --- one schedule --------------------------------------------------------------------------------

my $node = start_server('schedules', 'fsync = off', "log_statement = 'none'");

sub connection
{
	my ($database) = @_;
	my $address = $node->connstr($database) =~ s/\s+/;/gr =~ s/'//gr;
	return DBI->connect("dbi:Pg:$address", undef, undef, { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
}

sub open_shop
{
	my ($run) = @_;
	my $shop = $run->{shop};
	my $workers = $run->{workers} ? 'on' : 'off';
	$run->{admin}->do("ALTER SYSTEM SET order_mgmt.workers_per_database = @{[ $run->{workers} || 1 ]}");
	$run->{admin}->do('SELECT pg_reload_conf()');
	$run->{admin}->do("CREATE DATABASE $shop");
	$run->{admin}->do("ALTER DATABASE $shop SET order_mgmt.workers = $workers");
	$run->{admin}->do("ALTER DATABASE $shop SET order_mgmt.batch_size = $run->{batch_size}");
	$run->{control} = connection($shop);
	$run->{control}->do('CREATE EXTENSION order_mgmt');
	$run->{control}->do('SELECT order_mgmt.setup()');
	$run->{control}->do('SELECT order_mgmt.set_account(?, ?)', undef, $_, money($run->{credit}{$_})) for keys %{ $run->{credit} };
	$run->{control}->do('SELECT order_mgmt.set_stock(?, ?)', undef, $_, $run->{stock}{$_}) for keys %{ $run->{stock} };
	$run->{client} = connection($shop);
	return;
}

sub lines_json
{
	my ($order) = @_;
	return '[' . join(',', map { sprintf '{"product_id":"%s","quantity":%d,"unit_price":"%s"}', $_->[0], $_->[1], money($_->[2]) } @{ $order->{lines} }) . ']';
}

sub capture_each
{
	my ($run, @orders) = @_;
	$run->{client}->do('SELECT order_mgmt.capture_order(?, ?, order_ref => ?)', undef, $_->{customer}, lines_json($_), $_->{ref}) for @orders;
	return;
}

sub capture_batch
{
	my ($run, @orders) = @_;
	my @json = map { sprintf '{"customer_id":"%s","order_ref":"%s","lines":%s}', $_->{customer}, $_->{ref}, lines_json($_) } @orders;
	$run->{client}->do(q(SELECT count(*) FROM order_mgmt.capture_orders(?, 'reject_all')), undef, '[' . join(',', @json) . ']');
	return;
}

sub run_pipeline
{
	my ($run) = @_;
	$run->{client}->do('SELECT order_mgmt.run_pipeline(?)', undef, pick(undef, 1, 2, 5, roll(1, 60)));
	return;
}

# Captures the next few, in a transaction that may handle some of them itself, or be tried twice.
sub capture_together
{
	my ($run, @orders) = @_;
	my $client = $run->{client};
	my $again = rand() < 0.3;
	$client->begin_work;
	while (my @some = splice @orders, 0, roll(1, 10))
	{
		rand() < 0.5 ? capture_each($run, @some) : capture_batch($run, @some);
		run_pipeline($run) if rand() < 0.2;
		next unless $again;
		$client->do('SAVEPOINT s');
		capture_batch($run, @some);
		run_pipeline($run) if rand() < 0.5;
		$client->do('ROLLBACK TO s');
	}
	$client->commit;
	return;
}

my %captures = (
	'single calls'       => \&capture_each,
	'small transactions' => \&capture_together,
	'batches'            => \&capture_batch);

sub capture_some
{
	my ($run) = @_;
	my @orders = splice @{ $run->{left} }, 0, pick(1, 5, 5, 20, 50);
	return $run->{way} eq 'one transaction' ? capture_batch($run, @orders) : $captures{ $run->{way} }->($run, @orders);
}

sub pause
{
	my ($run) = @_;
	my $stage = pick(@stages);
	$run->{control}->do('SELECT order_mgmt.pause_consumer(?)', undef, $stage);
	$run->{paused}{$stage} = 1;
	return;
}

sub resume
{
	my ($run) = @_;
	my $stage = pick(sort keys %{ $run->{paused} }) // return;
	$run->{control}->do('SELECT order_mgmt.resume_consumer(?)', undef, $stage);
	delete $run->{paused}{$stage};
	return;
}

sub terminate
{
	my ($run) = @_;
	$run->{control}->do(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE backend_type = 'order_mgmt worker' AND datname = current_database() ORDER BY random() LIMIT 1)) if $run->{workers};
	return;
}

# Lets those who are not paused get on, perhaps until there is nothing left to do.
sub breathe
{
	my ($run) = @_;
	$run->{control}->do('SELECT order_mgmt.wait_until_idle(?)', undef, pick('1 ms', '10 ms', '50 ms')) if $run->{workers};
	return;
}

my @steps = ((\&capture_some) x 5, (\&run_pipeline) x 2, (\&breathe) x 3, (\&pause) x 3, (\&resume) x 3, \&terminate);

# What one transaction captures is seen by others at its end only; afterwards it goes on as with the others.
sub play
{
	my ($run) = @_;
	$run->{client}->begin_work if $run->{way} eq 'one transaction';
	while (@{ $run->{left} })
	{
		pick(@steps)->($run);
	}
	$run->{client}->commit unless $run->{client}{AutoCommit};
	for (1 .. 12)
	{
		pick(grep { $_ != \&capture_some } @steps)->($run);
	}
	resume($run) while %{ $run->{paused} };
	while (!$run->{workers})
	{
		last unless $run->{client}->selectrow_array('SELECT order_mgmt.run_pipeline()');
	}
	return;
}

# The first few of two hashes' differences, in words
sub differences
{
	my ($actual, $expected) = @_;
	my @wrong = map { "$_: " . ($actual->{$_} // 'nothing') . ' instead of ' . ($expected->{$_} // 'nothing') }
	  grep { ($actual->{$_} // '') ne ($expected->{$_} // '') } sort { $a cmp $b } uniq(keys %$actual, keys %$expected);
	splice @wrong, 10, @wrong - 10, '... ' . @wrong . ' in all' if @wrong > 11;
	return join "\n", @wrong;
}

sub fetch
{
	my ($run, $query) = @_;
	return { map { $_->[0] => $_->[1] } @{ $run->{control}->selectall_arrayref($query) } };
}

sub compare
{
	my ($run) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $what = "seed $run->{seed}";
	my ($outcome, $credit, $stock) = @$run{qw(outcome left_credit left_stock)};
	is($run->{control}->selectrow_array(q(SELECT order_mgmt.wait_until_idle('60 s'))), 1, "$what: the pipeline comes to rest")
	  or diag(join "\n", map { join ' ', map { $_ // '-' } @$_ } @{ $run->{control}->selectall_arrayref('SELECT consumer, pending, processed, retrying, dead, worker_pid, paused FROM order_mgmt.queues') });
	my $good = is(differences(fetch($run, q(SELECT order_ref, array_to_string(status || array(SELECT unnest(reasons) ORDER BY 1), ' ') FROM order_mgmt.orders)), $outcome),
		'', "$what: status and reasons of every order are those of one at a time");
	$good &= is(differences(fetch($run, q(SELECT customer_id, concat_ws('/', (100 * balance)::bigint, reserved = 0) FROM order_mgmt.accounts)), { map { $_ => "$credit->{$_}/t" } keys %$credit }),
		'', "$what: so are the balances");
	$good &= is(differences(fetch($run, q(SELECT product_id, concat_ws('/', on_hand, reserved = 0) FROM order_mgmt.stock)), { map { $_ => "$stock->{$_}/t" } keys %$stock }),
		'', "$what: so is the stock");
	$good &= is(differences(fetch($run, 'SELECT invariant || subject, concat_ws(chr(32), expected, actual) FROM order_mgmt.check_invariants()'), {}), '', "$what: invariants hold");
	diag("again: SCHEDULES_SEED=$run->{seed} SCHEDULES=1") unless $good;
	return;
}

sub new_run
{
	my ($seed) = @_;
	srand($seed);
	my @orders = new_orders(roll(250, 400));
	my ($credit, $stock) = opening_amounts(@orders);
	my ($outcome, $left_credit, $left_stock) = predict(\@orders, $credit, $stock);
	my %run = (
		seed => $seed, shop => "shop$seed", workers => $seed % 5, batch_size => $batch_sizes[ $seed % @batch_sizes ], way => pick(@ways), paused => {},
		orders => scalar @orders, left => [@orders], credit => $credit, stock => $stock, outcome => $outcome, left_credit => $left_credit, left_stock => $left_stock);
	$run{refused} = grep { /rejected/ } values %$outcome;
	return \%run;
}

my $admin = connection('postgres');
my ($orders, $refused) = (0, 0);
note("SCHEDULES_SEED=$first SCHEDULES=$count");
for my $seed ($first .. $first + $count - 1)
{
	my $start = Time::HiRes::time();
	my $run = new_run($seed);
	$run->{admin} = $admin;
	open_shop($run);
	play($run);
	compare($run);
	note(sprintf 'seed %d: %d orders, %d refused, batches of %d, %s, captured in %s, %.1f s',
		$seed, @$run{qw(orders refused batch_size)}, $run->{workers} ? "$run->{workers} workers" : 'drivers: client', $run->{way}, Time::HiRes::time() - $start);
	$orders += $run->{orders};
	$refused += $run->{refused};
	$run->{$_}->disconnect for qw(client control);
	$admin->do("DROP DATABASE $run->{shop}");
}
my $share = sprintf '%.0f', 100 * $refused / $orders;
ok($share > 15 && $share < 40, "about a quarter of the orders are to be refused ($share %)");
unlike(slurp_file($node->logfile), qr/PANIC|XX000|deadlock detected/, 'nothing untoward in the log');
$admin->disconnect;
$node->stop;
done_testing();
