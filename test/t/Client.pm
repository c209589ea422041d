# A client of the shop that writes down what it was told: of each call whether it was acknowledged, failed,
# or is unknown because the connection broke before the answer. Everything that it does follows from its seed.
#
# A *unit* is what happens as a whole or not at all: {how => call | batch | transaction, ops => [...],
# outcome, code}. An op is one call: {kind => capture | cancel | balance | stock | note, ..., result}.
# Money is in units of 0.0001, so sums are exact.
package Client;
use strict;
use warnings;
use DBI;
use List::Util qw(min);
use POSIX ();
use Storable;
use Time::HiRes qw(usleep);

our @customers = map { "c$_" } 1 .. 12;
our @products  = map { "p$_" } 1 .. 8;
our %final     = map { $_ => 1 } qw(shipped rejected cancelled failed);

sub new
{
	my ($class, %self) = @_;
	return bless { units => [], seen => {}, complaints => [], recent => [], samples => 0, keys => 0, %self }, $class;
}

# --- connections -------------------------------------------------------------------------------

# The address book: where the server is now. A failover rewrites it.
sub address
{
	my ($self) = @_;
	open my $book, '<', $self->{book} or die "$self->{book}: $!";
	chomp(my $address = <$book>);
	return $address;
}

sub open_connection
{
	my ($self, $options) = @_;
	return DBI->connect(
		'dbi:Pg:' . $self->address . ";dbname=$self->{database};application_name=client;options='$options'",
		undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, AutoInactiveDestroy => 1 });
}

# A connection, as soon as there is a server; undef when told to stop before, or when none comes.
sub connection
{
	my ($self) = @_;
	my $deadline = time + 120;
	until ($self->{dbh})
	{
		$self->{dbh} = eval { $self->open_connection($self->{options} // '-c role=order_mgmt_operator') };
		last if $self->{dbh} || $self->{stop} || time > $deadline;
		usleep(20_000);
	}
	return $self->{dbh};
}

# Whether the connection survived an error.
sub still_connected
{
	my ($self) = @_;
	return 1 if eval { $self->{dbh}->ping };
	eval { $self->{dbh}->disconnect };
	delete $self->{dbh};
	return 0;
}

# Says a word to the test.
sub tell
{
	my ($self, $word) = @_;
	syswrite($self->{pipe}, "$word\n") if $self->{pipe};
	return;
}

# --- calls -------------------------------------------------------------------------------------

sub money
{
	my ($units) = @_;
	return sprintf '%s%d.%04d', $units < 0 ? '-' : '', int(abs($units) / 10000), abs($units) % 10000;
}

sub total
{
	my ($capture) = @_;
	my $total = 0;
	$total += $_->[1] * $_->[2] for @{ $capture->{lines} };
	return $total;
}

sub lines_json
{
	my ($capture) = @_;
	return '['
	  . join(',', map { sprintf '{"product_id":"%s","quantity":%d,"unit_price":"%s"}', $_->[0], $_->[1], money($_->[2]) }
		@{ $capture->{lines} }) . ']';
}

sub capture_json
{
	my ($capture) = @_;
	return sprintf '{"customer_id":"%s","idempotency_key":"%s","order_ref":"%s","expected_total":"%s","lines":%s}',
	  @$capture{qw(customer key key)}, money(total($capture)), lines_json($capture);
}

my %calls = (
	capture => sub {
		my ($op) = @_;
		return (q(SELECT order_mgmt.capture_order(customer_id => ?, lines => ?, idempotency_key => ?, order_ref => ?, expected_total => ?)),
			$op->{customer}, lines_json($op), $op->{key}, $op->{key}, money(total($op)));
	},
	cancel => sub {
		my ($op) = @_;
		return ('SELECT order_mgmt.cancel_order(order_id => ?)', $op->{order});
	},
	note => sub {
		my ($op) = @_;
		return ('SELECT order_mgmt.add_order_note(order_id => ?, note => ?)', $op->{order}, $op->{text});
	},
	balance => sub {
		my ($op) = @_;
		return ('SELECT order_mgmt.adjust_balance(customer_id => ?, delta => ?, reason => ?, idempotency_key => ?)',
			$op->{customer}, money($op->{delta}), $op->{key}, $op->{key});
	},
	stock => sub {
		my ($op) = @_;
		return ('SELECT order_mgmt.adjust_stock(product_id => ?, delta => ?, reason => ?, idempotency_key => ?)',
			@$op{qw(product delta key key)});
	});

sub call
{
	my ($self, $op) = @_;
	my ($sql, @arguments) = $calls{ $op->{kind} }->($op);
	$sql .= ', pg_sleep(0.2)' if $self->{dawdle} && rand() < $self->{dawdle};    # done, and then not over in time
	return ($self->{dbh}->selectrow_array($sql, undef, @arguments))[0];
}

# All captures of a batch in one call; the last element may be one that must be reported as broken.
sub call_batch
{
	my ($self, $unit) = @_;
	my @orders = map { capture_json($_) } @{ $unit->{ops} };
	push @orders, '{"customer_id":"c1","lines":[]}' if $unit->{broken};
	my $rows = $self->{dbh}->selectall_arrayref('SELECT order_id, error_code FROM order_mgmt.capture_orders(orders => ?) ORDER BY ordinal',
		undef, '[' . join(',', @orders) . ']');
	my $broken = $unit->{broken} ? pop @$rows : [ undef, 'OM001' ];
	$self->complain("a broken order was not reported in $unit->{ops}[0]{key}") if defined $broken->[0] || ($broken->[1] // '') ne 'OM001';
	return map { $_->[0] } @$rows;
}

sub perform
{
	my ($self, $unit) = @_;
	delete $unit->{asked};
	return $self->call_batch($unit) if $unit->{how} eq 'batch';
	if ($unit->{how} eq 'call')
	{
		$unit->{asked} = 1;
		return $self->call($unit->{ops}[0]);
	}
	$self->{dbh}->begin_work;
	my @results = map { $self->call($_) } @{ $unit->{ops} };
	if ($unit->{rollback})
	{
		$self->{dbh}->rollback;
		die "rolled back\n";
	}
	$unit->{asked} = 1;
	$self->{dbh}->commit;
	return @results;
}

# Tries a unit once. What was unknown before stays so until it is acknowledged or refused for good: a
# repetition with the same key is refused (OM...) only if the first attempt did nothing.
sub attempt
{
	my ($self, $unit) = @_;
	my $before = $unit->{outcome} // '';
	return unless $self->connection;
	my @results;
	if (eval { @results = $self->perform($unit); 1 })
	{
		$unit->{ops}[$_]{result} = $results[$_] for 0 .. $#results;
		return $unit->{outcome} = 'acknowledged';
	}
	$unit->{message} = $@;
	$unit->{code}    = $unit->{rollback} ? '' : $self->{dbh}->state;
	my $alive = $self->still_connected;
	eval { $self->{dbh}->rollback } if $alive && !$self->{dbh}{AutoCommit};
	# Without COMMIT sent a transaction is over with its connection.
	$unit->{outcome} = $alive || $unit->{how} eq 'transaction' && !$unit->{asked} ? 'failed' : 'unknown';
	$self->tell($unit->{outcome}) if $unit->{outcome} eq 'unknown';
	$self->tell('timeout') if $unit->{code} eq '57014';
	$unit->{outcome} = 'unknown' if $before eq 'unknown' && $unit->{code} !~ /^OM/;
	return $unit->{outcome};
}

# --- what a client does ------------------------------------------------------------------------

sub complain
{
	my ($self, $what) = @_;
	push @{ $self->{complaints} }, $what;
	return;
}

sub pick { return $_[ rand @_ ]; }
sub roll { my ($from, $to) = @_; return $from + int rand($to - $from + 1); }

sub key
{
	my ($self) = @_;
	return "$self->{number}-" . ++$self->{keys};
}

sub new_lines { return [ map { [ pick(@products), roll(1, 4), roll(1, 10000) ] } 1 .. roll(1, 3) ]; }

sub new_capture
{
	my ($self) = @_;
	return { kind => 'capture', customer => pick(@customers), key => $self->key, lines => new_lines() };
}

# A request that several clients make under the same key, perhaps at the same moment.
sub shared_capture
{
	my ($self) = @_;
	my $n = int(@{ $self->{units} } / 8) + roll(0, 3);
	return {
		kind     => 'capture',
		customer => $customers[ $n % @customers ],
		key      => "shared-$n",
		lines    => [ [ $products[ $n % @products ], 1 + $n % 3, 1000 + $n ], [ $products[ -1 - $n % @products ], 1, 3333 ] ]
	};
}

sub new_adjustment
{
	my ($self) = @_;
	return { kind => 'balance', customer => pick(@customers), key => $self->key, delta => roll(-60000, 300000) || 1 } if rand() < 0.5;
	return { kind => 'stock', product => pick(@products), key => $self->key, delta => roll(-10, 90) || 1 };
}

sub recent_order { my ($self) = @_; return pick(@{ $self->{recent} }); }

sub one { my (@ops) = @_; return { how => 'call', ops => \@ops }; }

# Something that was asked for before, with the same key.
sub repetition
{
	my ($self) = @_;
	my $old = pick(@{ $self->{units} }) or return;
	my ($op) = grep { $_->{key} } @{ $old->{ops} } or return;
	return $old->{outcome} eq 'acknowledged' ? { %{ one({ %$op, result => undef }) }, again => 1 } : undef;
}

# What a client may choose, with weights.
my @choices = (
	[ 38, sub { my ($self) = @_; return one($self->new_capture); } ],
	[ 6,  sub { my ($self) = @_; return one($self->shared_capture); } ],
	[ 6,  sub { my ($self) = @_; return { how => 'batch', broken => rand() < 0.25, ops => [ map { $self->new_capture } 1 .. roll(2, 12) ] }; } ],
	[ 6,  sub { my ($self) = @_; return $self->repetition; } ],
	[ 14, sub { my ($self) = @_; return one($self->new_adjustment); } ],
	[ 12, sub { my ($self) = @_; my $order = $self->recent_order or return; return one({ kind => 'cancel', order => $order }); } ],
	[ 8,  sub { my ($self) = @_; my $order = $self->recent_order or return; return one({ kind => 'note', order => $order, text => $self->key }); } ],
	[ 10, sub {
			my ($self) = @_;
			my @ops = map { rand() < 0.6 ? $self->new_capture : $self->new_adjustment } 1 .. roll(2, 4);
			return { how => 'transaction', rollback => rand() < 0.1, ops => \@ops };
		} ]);

sub next_unit
{
	my ($self) = @_;
	my $point = rand(100);
	for my $choice (@choices)
	{
		return $choice->[1]->($self) if ($point -= $choice->[0]) < 0;
	}
	return;
}

sub remember_orders
{
	my ($self, $unit) = @_;
	push @{ $self->{recent} }, map { $_->{result} } grep { $_->{kind} eq 'capture' } @{ $unit->{ops} };
	splice @{ $self->{recent} }, 0, -10 if @{ $self->{recent} } > 10;
	return;
}

sub act
{
	my ($self) = @_;
	my $unit = $self->next_unit or return;
	return unless $self->attempt($unit);
	push @{ $self->{units} }, $unit;
	$self->complain("$unit->{ops}[0]{key} was acknowledged, then refused: $unit->{message}")
	  if $unit->{again} && $unit->{outcome} eq 'failed' && $unit->{code} =~ /^OM/;
	# Half of the clients' calls are repeated at once; the others are left for the end. A note has no key.
	$self->attempt($unit) if $unit->{ops}[0]{kind} ne 'note' && $unit->{outcome} ne 'acknowledged' && !$unit->{rollback} && rand() < 0.5;
	return if $unit->{outcome} ne 'acknowledged';
	$self->remember_orders($unit);
	$self->regret($unit) if $unit->{ops}[0]{kind} eq 'capture' && rand() < 0.2;
	return;
}

# Cancels what was captured just now, before it has shipped if that can be.
sub regret
{
	my ($self, $unit) = @_;
	my $cancel = one({ kind => 'cancel', order => $unit->{ops}[0]{result} });
	push @{ $self->{units} }, $cancel if $self->attempt($cancel);
	return;
}

# What a client once saw must stay true.
sub look
{
	my ($self) = @_;
	my $order = $self->recent_order or return;
	return unless $self->connection;
	my $status;
	unless (eval { ($status) = $self->{dbh}->selectrow_array('SELECT order_mgmt.get_order_status(order_id => ?)', undef, $order); 1 })
	{
		$self->still_connected;
		return;
	}
	my $was = $self->{seen}{$order};
	$self->complain("order $order was acknowledged and is not there") unless defined $status;
	$self->complain("order $order was $was, then " . ($status // 'lost')) if defined $was && ($status // '') ne $was;
	$self->{seen}{$order} = $status if defined $status && $final{$status};
	return;
}

sub work
{
	my ($self) = @_;
	rand() < 0.15 ? $self->look : $self->act;
	usleep(rand 50_000);    # a client thinks
	return;
}

# --- the one who looks at the sums meanwhile -----------------------------------------------------

my $sums = <<'SQL';
SELECT 'money', ? + (SELECT coalesce(sum((detail->>'amount')::numeric), 0) FROM order_mgmt.events
           WHERE event_type = 'balance_changed' AND detail->>'reason' <> 'set_account'),
       (SELECT sum(balance) FROM order_mgmt.accounts) + (SELECT coalesce(sum(quantity * unit_price), 0)
           FROM order_mgmt.orders JOIN order_mgmt.order_lines USING (order_id, created_at) WHERE status = 'shipped')
UNION ALL
SELECT 'stock', ? + (SELECT coalesce(sum((detail->>'quantity')::bigint), 0) FROM order_mgmt.events
           WHERE event_type = 'stock_changed' AND detail->>'reason' <> 'set_stock'),
       (SELECT sum(on_hand) FROM order_mgmt.stock) + (SELECT coalesce(sum(quantity), 0)
           FROM order_mgmt.orders JOIN order_mgmt.order_lines USING (order_id, created_at) WHERE status = 'shipped')
SQL

# All in one snapshot, while the others go on.
sub sample
{
	my ($self) = @_;
	my $dbh  = $self->{dbh};
	my @opening = @{ $self->{opening} };
	$dbh->do('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
	my $broken = $dbh->selectall_arrayref('SELECT * FROM order_mgmt.check_invariants()');
	my $added  = $dbh->selectall_arrayref($sums, undef, @opening);
	$dbh->do('COMMIT');
	$self->complain("during the faults: @$_") for @$broken;
	$self->complain("during the faults: $_->[0] is $_->[2], not $_->[1]") for grep { $_->[1] != $_->[2] } @$added;
	return;
}

sub watch
{
	my ($self) = @_;
	return unless $self->connection;
	if (eval { $self->sample; 1 })
	{
		$self->{samples}++;
		$self->tell('sample');
	}
	else
	{
		my $message = $@;
		$self->complain("sampling: $message") if $self->still_connected;
	}
	usleep(200_000);    # ... and leaves the processor to the others
	return;
}

# --- processes ---------------------------------------------------------------------------------

# Does something over and over until SIGTERM, then leaves its records in a file.
sub run_until_told
{
	my ($self, $what) = @_;
	local $SIG{TERM} = sub { $self->{stop} = 1; };
	srand($self->{seed} + $self->{number});
	my $parent = getppid;
	$self->$what until $self->{stop} || getppid != $parent;
	eval { $self->{dbh}->disconnect } if $self->{dbh};
	store({ map { $_ => $self->{$_} } qw(units seen complaints samples) }, $self->{file});
	return;
}

sub start
{
	my ($self, $what) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		# _exit: what the test registered for its own end is not this process's business.
		my $done = eval { $self->run_until_told($what); 1 };
		print STDERR "client $self->{number}: $@" unless $done;
		POSIX::_exit($done ? 0 : 1);
	}
	return $self->{pid} = $pid;
}

# Its records, once it has come to an end.
sub records
{
	my ($self) = @_;
	return -e $self->{file} ? retrieve($self->{file}) : undef;
}

1;
