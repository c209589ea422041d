# Compares what the clients wrote down with what is in the database. The figures that must come out are
# reckoned from the clients' records and the opening stock and balances alone; of the database only the
# final state of each order is taken over, and whether that was reached by a legal way is looked at too.
package Books;
use strict;
use warnings;
use Client;
use Exporter 'import';
use List::Util qw(sum0 uniq);
use Test::More;

our $shop;    # of which the tests speak
our @EXPORT = qw(retry_unknown repeat_all compare check_storage);

# Fails with the first few of what is wrong.
sub none
{
	my ($what, @wrong) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	splice @wrong, 5, @wrong - 5, '... ' . @wrong . ' in all' if @wrong > 6;
	return is(join("\n", @wrong), '', "$shop: $what");
}

# --- the clients' records ------------------------------------------------------------------------

# For each idempotency key its request, and what all who used it were told.
sub by_key
{
	my ($units) = @_;
	my %keys;
	for my $unit (@$units)
	{
		for my $op (grep { $_->{key} } @{ $unit->{ops} })
		{
			my $entry = $keys{ $op->{key} } //= { %$op, key => $op->{key}, results => [], refused => 0 };
			push @{ $entry->{results} }, $op->{result} if $unit->{outcome} eq 'acknowledged';
			$entry->{refused}++ if $unit->{how} ne 'transaction' && $unit->{outcome} eq 'failed' && $unit->{code} =~ /^OM/;
		}
	}
	return \%keys;
}

sub single_ops
{
	my ($units, $kind) = @_;
	return map { { %{ $_->{ops}[0] }, outcome => $_->{outcome}, code => $_->{code} } } grep { $_->{ops}[0]{kind} eq $kind } @$units;
}

# --- after the faults ----------------------------------------------------------------------------

# A unit of several parts that nobody knows the end of is there as a whole or not at all.
sub check_whole
{
	my ($dbh, $units) = @_;
	my %there = map { $_->[0] => 1 } @{ $dbh->selectall_arrayref('SELECT order_ref FROM order_mgmt.orders UNION ALL'
			  . q( SELECT detail->>'reason' FROM order_mgmt.events WHERE event_type IN ('balance_changed', 'stock_changed'))) };
	my @torn;
	for my $unit (grep { $_->{outcome} eq 'unknown' && $_->{ops}[0]{kind} =~ /capture|balance|stock/ } @$units)
	{
		my @found = grep { $there{ $_->{key} } } @{ $unit->{ops} };
		push @torn, join ' ', map { $_->{key} } @{ $unit->{ops} } if @found && @found < @{ $unit->{ops} };
	}
	return none('what is unknown has happened as a whole or not at all', @torn);
}

# Asks again for everything unknown, until it is known. (Notes have no key; they stay unknown.)
sub retry_unknown
{
	my ($client, $units) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	check_whole($client->connection, $units);
	for my $unit (grep { $_->{outcome} eq 'unknown' && $_->{ops}[0]{kind} ne 'note' } @$units)
	{
		for (1 .. 20)
		{
			$client->attempt($unit);
			last if $unit->{outcome} ne 'unknown';
		}
	}
	none('asked again with the same key, everything unknown becomes known',
		map { "$_->{ops}[0]{kind}: $_->{message}" } grep { $_->{outcome} eq 'unknown' && $_->{ops}[0]{kind} ne 'note' } @$units);
	return;
}

# Asks once more for everything acknowledged: the answers are the same, and nothing new happens.
sub repeat_all
{
	my ($client, $units) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $keys = by_key($units);
	my @known = map { $keys->{$_} } sort grep { @{ $keys->{$_}{results} } } keys %$keys;
	my @again;
	my @captures = grep { $_->{kind} eq 'capture' } @known;
	while (my @some = splice @captures, 0, 200)
	{
		push @again, { how => 'batch', ops => [ map { { %$_, result => undef } } @some ] };
	}
	push @again, map { { how => 'call', ops => [ { %$_, result => undef } ] } } grep { $_->{kind} ne 'capture' } @known;
	$client->attempt($_) for @again;
	none('everything can be asked for again', map { "$_->{ops}[0]{key}: $_->{message}" } grep { $_->{outcome} ne 'acknowledged' } @again);
	none('and the answer is the first one',
		map { "$_->{key}: $_->{result}, not @{ $_->{results} }" } grep { my $op = $_; grep { $_ ne ($op->{result} // '') } @{ $op->{results} } }
		  map { @{ $_->{ops} } } @again);
	return;
}

# --- what is in the database -----------------------------------------------------------------------

my $orders_query = <<'SQL';
SELECT o.order_id, o.order_ref, o.customer_id, o.status, o.reasons::text, round(o.total * 10000) AS total,
       (SELECT string_agg(format('%s %s %s', l.product_id, l.quantity, round(l.unit_price * 10000)), ', ' ORDER BY l.line_no)
          FROM order_mgmt.order_lines AS l WHERE l.order_id = o.order_id AND l.created_at = o.created_at) AS lines,
       e.path, e.shipped_at
  FROM order_mgmt.orders AS o
  LEFT JOIN (SELECT order_id, string_agg(event_type, ' ' ORDER BY at, event_id) AS path,
                    extract(epoch FROM min(at) FILTER (WHERE event_type = 'order_shipped')) AS shipped_at
               FROM order_mgmt.events WHERE order_id IS NOT NULL GROUP BY order_id) AS e USING (order_id)
 ORDER BY o.order_id
SQL

sub rows
{
	my ($dbh, $sql) = @_;
	return @{ $dbh->selectall_arrayref($sql, { Slice => {} }) };
}

# The states from which an order may come into a state. A verdict on an order that nobody waits for may follow.
my %from = (
	captured  => qr/^$/,
	confirmed => qr/^captured$/,
	shipped   => qr/^confirmed$/,
	rejected  => qr/^captured$/,
	cancelled => qr/^(captured|confirmed)$/,
	failed    => qr/^(captured|confirmed)$/);

# Walks an order's history; what is wrong with it, or nothing.
sub illegal
{
	my ($order) = @_;
	my ($state, $released, %verdict) = ('', 0);
	for my $event (split / /, $order->{path} // '')
	{
		next if $event eq 'order_noted' && $state;
		if (my ($check, $verdict) = $event =~ /^(balance|stock)_(held|refused)$/)
		{
			return "$event after " . ($verdict{$check} // $state)
			  if $verdict{$check} || $state !~ /^(captured|rejected|cancelled|failed)$/;
			$verdict{$check} = $verdict;
			next;
		}
		my $next = $event =~ s/^order_//r;
		if ($next eq 'released')
		{
			return "$event after '$state'" if $state !~ /^(cancelled|failed)$/ || $released++;
			return "$event without a hold or before both verdicts" if 2 != keys %verdict || !grep { $_ eq 'held' } values %verdict;
			next;
		}
		return "$event after '$state'" if !$from{$next} || $state !~ $from{$next};
		return 'confirmed without two holds' if $next eq 'confirmed' && 2 != grep { $_ eq 'held' } values %verdict;
		return 'rejected without a refusal'  if $next eq 'rejected'  && !grep { $_ eq 'refused' } values %verdict;
		$state = $next;
	}
	return 'what it held was not released' if $state =~ /^(cancelled|failed)$/ && !$released && grep { $_ eq 'held' } values %verdict;
	return $state eq $order->{status} ? () : "ends as '$state'";
}

# --- one comparison after the other ----------------------------------------------------------------

sub compare_orders
{
	my ($keys, $orders) = @_;
	my (%by_ref, @wrong, @invented);
	push @{ $by_ref{ $_->{order_ref} } }, $_ for @$orders;
	for my $key (sort grep { $keys->{$_}{kind} eq 'capture' } keys %$keys)
	{
		my $entry = $keys->{$key};
		my @there = map { $_->{order_id} } @{ delete $by_ref{$key} // [] };
		my @told  = uniq @{ $entry->{results} };
		push @wrong, "$key: told @told, there is @there" if "@told" ne "@there" || @there > 1;
		push @wrong, "$key: refused" if $entry->{refused};
	}
	none('every acknowledged order is there exactly once, and what failed left nothing', @wrong);
	none('there are no other orders', map { $_->{order_id} } map { @$_ } values %by_ref);
	return;
}

sub compare_lines
{
	my ($keys, $orders) = @_;
	my @wrong;
	for my $order (@$orders)
	{
		my $capture = $keys->{ $order->{order_ref} } or next;
		my $lines = join ', ', map { "@$_" } @{ $capture->{lines} };
		push @wrong, "$order->{order_id}: $order->{lines}, not $lines"
		  if $lines ne $order->{lines} || $order->{customer_id} ne $capture->{customer} || $order->{total} != Client::total($capture);
	}
	return none('orders are what was asked for', @wrong);
}

sub compare_ends
{
	my ($orders, $records, $units) = @_;
	my %status = map { $_->{order_id} => $_->{status} } @$orders;
	my %count;
	$count{ $_->{status} }++ for @$orders;
	none('every order is in one final state', map { "$_->{order_id}: $_->{status}" } grep { !$Client::final{ $_->{status} } } @$orders);
	# Faults hit processes; nothing is wrong with any order, so none may end as failed.
	none('no order was given up', map { $_->{order_id} } grep { $_->{status} eq 'failed' } @$orders);
	none('histories are legal', map { my $wrong = illegal($_); $wrong ? "$_->{order_id} ($_->{status}): $wrong: $_->{path}" : () } @$orders);
	my %seen = map { %{ $_->{seen} } } @$records;
	none('what clients saw of orders is how they ended',
		map { "$_: was $seen{$_}, is $status{$_}" } grep { $seen{$_} ne ($status{$_} // '') } sort keys %seen);
	none('clients met no contradiction', map { @{ $_->{complaints} } } @$records);

	my %cancelled = map { $_->{order} => 1 } grep { $_->{outcome} eq 'acknowledged' } single_ops($units, 'cancel');
	none('what was cancelled is, and nothing else',
		map { "$_: $status{$_}" } grep { ($status{$_} eq 'cancelled') != ($cancelled{$_} // 0) } sort keys %status);
	return \%count;
}

sub compare_notes
{
	my ($dbh, $units) = @_;
	my %there = map { $_->[0] => $_->[1] } @{ $dbh->selectall_arrayref(
		q(SELECT order_id || ' ' || (detail->>'note'), count(*) FROM order_mgmt.events WHERE event_type = 'order_noted' GROUP BY 1)) };
	my @wrong;
	for my $note (single_ops($units, 'note'))
	{
		my $n = delete $there{"$note->{order} $note->{text}"} // 0;
		push @wrong, "$note->{text}: $note->{outcome}, $n times"
		  if $n != ($note->{outcome} eq 'acknowledged') && !($note->{outcome} eq 'unknown' && $n == 1);
	}
	return none('every acknowledged note is there once', @wrong, sort keys %there);
}

# Adjustments in the log: each acknowledged key once with its amount, no others.
sub compare_adjustments
{
	my ($dbh, $keys) = @_;
	my %there = map { $_->{key} => "$_->{subject} $_->{amount}" } rows($dbh, <<'SQL');
SELECT detail->>'reason' AS key, coalesce(customer_id, product_id) AS subject,
       string_agg(coalesce(round((detail->>'amount')::numeric * 10000), (detail->>'quantity')::numeric)::text, ' and ') AS amount
  FROM order_mgmt.events WHERE event_type IN ('balance_changed', 'stock_changed') AND detail->>'reason' NOT LIKE 'set\_%' GROUP BY 1, 2
SQL
	my @wrong;
	for my $entry (map { $keys->{$_} } sort grep { $keys->{$_}{kind} ne 'capture' } keys %$keys)
	{
		my $told = @{ $entry->{results} } ? ($entry->{customer} // $entry->{product}) . " $entry->{delta}" : 'nothing';
		my $is = delete $there{ $entry->{key} } // 'nothing';
		push @wrong, "$entry->{key}: $is, not $told" if $is ne $told;
		push @wrong, "$entry->{key}: two answers: @{ $entry->{results} }" if uniq(@{ $entry->{results} }) > 1;
	}
	return none('every acknowledged adjustment was made once', @wrong, map { "$_: $there{$_}" } sort keys %there);
}

# What each balance and each stock must be.
sub reckon
{
	my ($keys, $orders, $opening) = @_;
	my %is = ((map { $_ => $opening->{balance} } @Client::customers), (map { $_ => $opening->{stock} } @Client::products));
	$is{ $_->{customer} // $_->{product} } += $_->{delta} for grep { $_->{kind} ne 'capture' && @{ $_->{results} } } values %$keys;
	my ($charged, $shipped) = (0, 0);
	for my $capture (map { $keys->{ $_->{order_ref} } // () } grep { $_->{status} eq 'shipped' } @$orders)
	{
		$is{ $capture->{customer} } -= Client::total($capture);
		$is{ $_->[0] } -= $_->[1] for @{ $capture->{lines} };
		$charged += Client::total($capture);
		$shipped += $_->[1] for @{ $capture->{lines} };
	}
	return (\%is, $charged, $shipped);
}

sub compare_sums
{
	my ($dbh, $keys, $orders, $opening) = @_;
	my ($is, $charged, $shipped) = reckon($keys, $orders, $opening);
	my @rows = rows($dbh, 'SELECT customer_id AS id, round(balance * 10000) AS amount, reserved FROM order_mgmt.accounts'
		  . ' UNION ALL SELECT product_id, on_hand, reserved FROM order_mgmt.stock ORDER BY 1');
	none('each balance and each stock is what the clients reckon',
		map { "$_->{id}: $_->{amount}, not $is->{ $_->{id} }" } grep { $_->{amount} != $is->{ $_->{id} } } @rows);
	none('nothing is held any more', map { "$_->{id}: $_->{reserved}" } grep { $_->{reserved} != 0 } @rows);

	my $added = sub { my ($kind) = @_; return sum0(map { $_->{delta} } grep { $_->{kind} eq $kind && @{ $_->{results} } } values %$keys); };
	is(sum0(map { $_->{amount} } grep { $_->{id} =~ /^c/ } @rows) + $charged,
		@Client::customers * $opening->{balance} + $added->('balance'), "$shop: balances + charged = opening + deposits");
	is(sum0(map { $_->{amount} } grep { $_->{id} =~ /^p/ } @rows) + $shipped,
		@Client::products * $opening->{stock} + $added->('stock'), "$shop: on hand + shipped = opening + received");
	return;
}

# An order is shipped if and only if its two charges are in the statements, once each, with the right figures.
sub compare_postings
{
	my ($dbh, $keys, $orders) = @_;
	my %charged;
	push @{ $charged{ $_->{order_id} } }, -$_->{amount}
	  for rows($dbh, q(SELECT s.order_id, round(s.amount * 10000) AS amount FROM order_mgmt.accounts AS a,
		order_mgmt.account_statement(a.customer_id, page_size => 10000) AS s WHERE s.kind = 'charge'));
	my %moved;
	$moved{ $_->{order_id} } += $_->{quantity}
	  for rows($dbh, q(SELECT s.order_id, -s.quantity AS quantity FROM order_mgmt.stock AS p,
		order_mgmt.stock_statement(p.product_id, page_size => 10000) AS s WHERE s.kind = 'shipment'));
	my @wrong;
	for my $order (grep { $keys->{ $_->{order_ref} } } @$orders)
	{
		my $capture = $keys->{ $order->{order_ref} };
		my $once    = $order->{status} eq 'shipped';
		my $events  = () = $order->{path} =~ /order_shipped/g;
		my @charged = @{ $charged{ $order->{order_id} } // [] };
		push @wrong, "$order->{order_id} ($order->{status}): shipped $events times, charged @charged, moved " . ($moved{ $order->{order_id} } // 0)
		  if $events != $once
		  || "@charged" ne ($once ? Client::total($capture) : '')
		  || ($moved{ $order->{order_id} } // 0) != ($once ? sum0(map { $_->[1] } @{ $capture->{lines} }) : 0);
	}
	return none('shipped if and only if posted, once', @wrong);
}

# All comparisons; how many orders ended how, and when orders were shipped.
sub compare
{
	my ($dbh, $records, $units, $opening) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $keys   = by_key($units);
	$dbh->do('ANALYZE');    # nobody has had time to; the statements below join all there is
	my $orders = [ rows($dbh, $orders_query) ];
	compare_orders($keys, $orders);
	compare_lines($keys, $orders);
	my $count = compare_ends($orders, $records, $units);
	compare_notes($dbh, $units);
	compare_adjustments($dbh, $keys);
	compare_sums($dbh, $keys, $orders, $opening);
	compare_postings($dbh, $keys, $orders);
	return { count => $count, shipped_at => [ sort { $a <=> $b } map { $_->{shipped_at} // () } @$orders ] };
}

# amcheck: heap and indexes agree.
sub check_storage
{
	my ($dbh) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$dbh->do('CREATE EXTENSION IF NOT EXISTS amcheck');
	my $relations = q(FROM pg_class AS c JOIN pg_am AS m ON m.oid = c.relam WHERE c.relnamespace = 'order_mgmt'::regnamespace);
	my $checked = eval {
		$dbh->selectrow_array("SELECT count(bt_index_check(c.oid, heapallindexed => true)) $relations AND c.relkind = 'i' AND m.amname = 'btree'"); };
	cmp_ok($checked // 0, '>', 10, "$shop: amcheck finds the indexes sound") or diag($@);
	none('amcheck finds the tables sound', map { join ' ', values %$_ }
		rows($dbh, "SELECT c.oid::regclass, v.* FROM (SELECT c.oid $relations AND c.relkind = 'r') AS c, verify_heapam(c.oid) AS v"));
	return;
}

1;
