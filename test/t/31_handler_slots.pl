# Workers of subscriptions: where there is no room for one, when those end that look after them, in 2PC.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

# Room for two launchers (one is PostgreSQL's own), the worker, and one subscription
my $node = start_server('slots', 'max_worker_processes = 4', 'max_prepared_transactions = 2');
new_shop($node, 'shop');
$node->safe_psql('shop', <<'SQL');
CREATE TABLE seen (consumer text, event_id bigint);
CREATE FUNCTION one(event jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO public.seen VALUES ('one', (event->>'event_id')::bigint)$$;
CREATE FUNCTION two(event jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO public.seen VALUES ('two', (event->>'event_id')::bigint)$$;
SELECT order_mgmt.subscribe('one', 'one', '{order_captured}');
SQL
my $pids = q(SELECT string_agg(query || ' ' || pid, ',' ORDER BY query) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler');
my $names = q(SELECT string_agg(query, ',' ORDER BY query) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler');
ok(becomes($node, 'shop', $names, 'one', 60), 'a subscription gets the last free slot');
$node->safe_psql('shop', q(SELECT order_mgmt.subscribe('two', 'two', '{order_captured}')));
ok($node->wait_for_log(qr/order_mgmt found no free background worker slot for subscriptions/), 'the next finds none, and the log says so');
one_order($node, 'shop') for 1 .. 5;
ok(becomes($node, 'shop', q(SELECT count(*) FROM seen WHERE consumer = 'one'), '5', 60), 'the first works');
is($node->safe_psql('shop', q(SELECT pending || ' ' || coalesce(worker_pid::text, 'nobody') FROM order_mgmt.queues WHERE consumer = 'two')), '5 nobody', 'the second waits');

# Who looks after them ends: the handler stays, and there is never another beside it.
my $before = $node->safe_psql('shop', $pids);
for my $round (1 .. 3)
{
	my ($pid) = workers($node, 'shop');
	kill('TERM', $pid);
	ok(becomes($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop' AND pid <> $pid", '1', 60),
		"round $round: another worker comes");
	is($node->safe_psql('shop', $pids), $before, "round $round: the handler is the same");
}
$node->safe_psql('shop', q(SELECT order_mgmt.unsubscribe('one')));
ok(becomes($node, 'shop', $names, 'two', 60), 'when a slot is free the second takes it');
ok(becomes($node, 'shop', q(SELECT count(*) || ' ' || count(DISTINCT event_id) FROM seen WHERE consumer = 'two'), '5 5', 60), 'and has lost nothing');
my $said = () = slurp_file($node->logfile) =~ /no free background worker slot for subscriptions/g;
cmp_ok($said, '<=', 4, 'the log does not fill up');    # once for each worker that looked

# Ended, it is back
my $pid = $node->safe_psql('shop', q(SELECT worker_pid FROM order_mgmt.queues WHERE consumer = 'two'));
kill('TERM', $pid);
ok(becomes($node, 'shop', "SELECT count(*) FROM order_mgmt.queues WHERE consumer = 'two' AND worker_pid <> $pid", '1', 60), 'a handler that is ended is started again');
one_order($node, 'shop');
ok(becomes($node, 'shop', q(SELECT count(*) || ' ' || count(DISTINCT event_id) FROM seen WHERE consumer = 'two'), '6 6', 60), 'and goes on');
$node->safe_psql('shop', q(SELECT order_mgmt.unsubscribe('two')));
ok(becomes($node, 'shop', $names, '', 60), 'unsubscribed, it ends');    # which nobody waits for

# A subscription that is rolled back has no worker; one that is prepared has it from COMMIT PREPARED on.
$node->safe_psql('shop', q(BEGIN; SELECT order_mgmt.subscribe('one', 'one'); ROLLBACK));
$node->safe_psql('shop', q(BEGIN; SELECT order_mgmt.subscribe('two', 'two', '{order_captured}'); PREPARE TRANSACTION 'p'));
one_order($node, 'shop');
is($node->safe_psql('shop', $names), '', 'not rolled back, not prepared');
$node->safe_psql('shop', q(COMMIT PREPARED 'p'));
ok(becomes($node, 'shop', $names, 'two', 60), 'COMMIT PREPARED starts it');
one_order($node, 'shop');
ok(becomes($node, 'shop', q(SELECT count(*) FROM seen WHERE consumer = 'two' AND event_id = (SELECT max(event_id) FROM order_mgmt.events WHERE event_type = 'order_captured')), '1', 60),
	'it works');

# Built-in consumers pause, one and all: ticks are made for subscriptions all the same.
$node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.consumers, order_mgmt.pause_consumer(name) WHERE kind = 'built-in'));
one_order($node, 'shop');
ok(becomes($node, 'shop', q(SELECT count(*) FROM seen WHERE consumer = 'two' AND event_id = (SELECT max(event_id) FROM order_mgmt.events WHERE event_type = 'order_captured')), '1', 60),
	'with all stages paused, events arrive');
$node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.consumers, order_mgmt.resume_consumer(name) WHERE kind = 'built-in'));
settle($node, 'shop', 'at the end');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|invisible tuple|reference leak|snapshot reference/, 'nothing untoward in the log');
$node->stop;
done_testing();
