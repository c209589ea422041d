# Programs outside the server: they sleep until there is something, their effects in the database
# happen once whatever crashes, and what they cannot handle holds nobody up.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(usleep);

my $node = start_server('programs', 'restart_after_crash = on');
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.create_consumer('mailer', '{order_shipped}')));

# ---- the long poll

# Asleep for an hour, unless something wakes it; two minutes are enough for the test.
sub receiver { return in_background($node, [ "psql", "-XqAt", "-v", "VERBOSITY=sqlstate", "shop" ], "SET statement_timeout = '120s';\n$_[0]\n"); }
sub sleeps
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%receive_events%'
		AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND wait_event_type = 'Extension'), '1', 60), "$what: it sleeps");
}
sub events
{
	my ($receiver) = @_;
	finish($receiver);
	return $receiver->{out} . $receiver->{err};
}
my $receive = q(SELECT event_type FROM order_mgmt.receive_events('mailer', 100, '1 h'););

my $sleeper = receiver($receive);
sleeps('nothing there');
# It looks once more after each commit.
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_locks WHERE relation::regclass::text ~ '^order_mgmt.(ticks|cursor_log|event_log)'
	AND pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE '%receive_events%' AND pid <> pg_backend_pid())), '0', 10), 'upkeep finds no lock of it');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.receive_events('mailer'))), '0', 'others need not wait for it');
one_order($node, 'shop');
is(events($sleeper), "order_shipped\n", 'it wakes up when an order ships');
$node->safe_psql('shop', q(SELECT order_mgmt.acknowledge_batch('mailer', batch_id) FROM order_mgmt.receive_events('mailer')));

$sleeper = receiver($receive);
sleeps('once more');
$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%receive_events%' AND pid <> pg_backend_pid()));
like(events($sleeper), qr/57014/, 'it can be cancelled');

$sleeper = receiver($receive);
sleeps('paused');
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('mailer')));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'orders ship while it is paused');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.receive_events('mailer'))), '0', 'it gets nothing');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('mailer')));
is(events($sleeper), "order_shipped\n", 'resumed, it wakes up');
$node->safe_psql('shop', q(SELECT order_mgmt.acknowledge_batch('mailer', batch_id) FROM order_mgmt.receive_events('mailer')));

$sleeper = receiver($receive);
sleeps('about to be dropped');
$node->safe_psql('shop', q(SELECT order_mgmt.drop_consumer('mailer')));
like(events($sleeper), qr/OM004/, 'dropped, it hears of it');

# Nobody makes ticks: programs do not need them.
$node->safe_psql('shop', q(SELECT order_mgmt.create_consumer('clerk', '{order_captured}')));
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer(name) FROM order_mgmt.consumers WHERE kind = 'built-in'));
$sleeper = receiver(q(SELECT event_type FROM order_mgmt.receive_events('clerk', 100, '1 h');));
sleeps('all stages paused');
one_order($node, 'shop');
is(events($sleeper), "order_captured\n", 'it hears of what is captured');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer(name) FROM order_mgmt.consumers WHERE kind = 'built-in'));
$node->safe_psql('shop', q(SELECT order_mgmt.drop_consumer('clerk')));
settle($node, 'shop', 'after the naps');

# ---- exactly once

# A program with effects in the database: one transaction to receive, one for effects and
# acknowledgment. What is on the list of poison it rejects. It ends when there has been nothing for a while.
$node->safe_psql('shop', <<'SQL');
SELECT order_mgmt.create_consumer('mailer', '{order_shipped}');
CREATE TABLE sent (event_id bigint, order_id uuid);
CREATE TABLE poison (order_id uuid);
CREATE PROCEDURE program(consumer text, wait interval) LANGUAGE plpgsql AS $$
DECLARE
    events bigint[];
    orders uuid[];
    batch bigint;
BEGIN
    LOOP
        SELECT array_agg(event_id), array_agg(order_id), min(batch_id) INTO events, orders, batch
        FROM order_mgmt.receive_events(consumer, 7, wait);
        COMMIT;
        EXIT WHEN batch IS NULL;
        INSERT INTO sent SELECT e, o FROM unnest(events, orders) AS u(e, o) WHERE o NOT IN (TABLE poison);
        PERFORM order_mgmt.reject_event(consumer, e, 'poison') FROM unnest(events, orders) AS u(e, o)
            WHERE o IN (TABLE poison) AND EXISTS (SELECT FROM order_mgmt.receive_events(consumer) AS r WHERE r.event_id = e AND r.batch_id = batch);
        IF order_mgmt.acknowledge_batch(consumer, batch) THEN
            COMMIT;
        ELSE
            ROLLBACK;
        END IF;
    END LOOP;
END
$$;
SQL
my $script = $node->basedir . '/capture.pgbench';
PostgreSQL::Test::Utils::append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");
sub load { return in_background($node, [ 'pgbench', '-n', '-c', 2, '-t', $_[0], '-f', $script, 'shop' ]); }
sub program { return in_background($node, [ 'psql', '-X', '-q', 'shop' ], "CALL program('mailer', '$_[0]');\n"); }
my $each_once = q(SELECT count(*) > 0 AND count(*) = count(DISTINCT event_id) AND count(*) = (SELECT count(*) FROM order_mgmt.events AS e
	WHERE event_type = 'order_shipped' AND e.at >= (SELECT created_at FROM order_mgmt.consumers WHERE name = 'mailer')) FROM sent);
my $sent = q(SELECT count(*) FROM sent);

# Asks until there is an answer; psql may come too early to read the question.
sub is_gone
{
	my ($pid, $seconds) = @_;
	my $deadline = time + $seconds;
	while (time < $deadline)
	{
		my $question = in_background($node, [ 'psql', '-XAt', '-c', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 'postgres' ]);
		return 1 if finish($question) == 0 && $question->{out} eq "0\n";
		usleep(20_000);
	}
	return 0;
}

# Its session is killed, which takes the server with it, or the server is killed, each while it works
for my $victim ('backend', 'backend', 'server', 'server')
{
	my $before = $node->safe_psql('shop', $sent);
	my @programs = map { program('20 s') } 1 .. 2;
	my $load = load(400);
	ok(becomes($node, 'shop', "SELECT ($sent) > $before + 20", 't', 60), "$victim: the programs work");
	if ($victim eq 'server')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my $pid = $node->safe_psql('postgres', q(SELECT min(pid) FROM pg_stat_activity WHERE query LIKE 'CALL program%'));
		kill('KILL', $pid);
		ok(is_gone($pid, 60), "$victim: killed, the server comes back");
	}
	finish($_) for $load, @programs;
}
settle($node, 'shop', 'killed four times');
is(finish(program('0')), 0, 'a last program does the rest');
is($node->safe_psql('shop', $each_once), 't', 'every shipment has been sent once');

# ---- one event that fails ten times

$node->safe_psql('shop', q(SELECT order_mgmt.set_retry_policy('mailer', 10, '1 ms', '10 ms')));
$node->safe_psql('shop', qq(BEGIN; INSERT INTO poison SELECT order_mgmt.capture_order('c', $Shop::one_line); COMMIT));
my ($load, $program) = (load(300), program('5 s'));
is(finish($load), 0, 'orders come in meanwhile');
is(finish($program), 0, 'the program gets on with them');
settle($node, 'shop', 'with poison');
is(finish(program('1 s')), 0, 'and to their end');
is($node->safe_psql('shop', q(SELECT consumer, attempts, error_code, message, order_id = (TABLE poison) FROM order_mgmt.dead_letters)),
	'mailer|10|P0001|poison|t', 'what failed ten times is a dead letter');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.retries'), '0', 'nothing is left to be tried');
$node->safe_psql('shop', q(INSERT INTO sent SELECT event_id, order_id FROM order_mgmt.dead_letters));
is($node->safe_psql('shop', $each_once), 't', 'all others have been sent once');

# ---- nothing in the queue is ever dead

$node->safe_psql('shop', 'VACUUM order_mgmt.cursor_log_0, order_mgmt.cursor_log_1, order_mgmt.consumers');
ok(becomes($node, 'shop', q(SELECT sum(pg_stat_get_dead_tuples(oid)) FROM pg_class WHERE relname ~ '^cursor_log_[01]$'), '0', 60), 'swept');
$load = load(100);
is(finish($load), 0, 'more orders');
settle($node, 'shop', 'more orders');
my $rows = q(SELECT count(*) FROM (SELECT FROM order_mgmt.cursor_log_0 WHERE consumer = 'mailer' UNION ALL
	SELECT FROM order_mgmt.cursor_log_1 WHERE consumer = 'mailer') AS c);
my $before = $node->safe_psql('shop', $rows);
is(finish(program('0')), 0, 'are sent');
cmp_ok($node->safe_psql('shop', $rows) - $before, '>=', 56, 'batch by batch');
is($node->safe_psql('shop', q(SELECT sum(pg_stat_get_dead_tuples(oid)) FROM pg_class WHERE relname ~ '^(cursor_log|ticks)_[01]$')), '0', 'without a dead row');

# ---- a program that never comes keeps nothing but its position

$node->safe_psql('shop', q(SELECT order_mgmt.create_consumer('sleeper', '{order_shipped}'), order_mgmt.create_consumer('dreamer', '{order_shipped}')));
my $id = one_order($node, 'shop');
settle($node, 'shop', 'one for those who sleep');
my $open = $node->safe_psql('shop', q(SELECT * FROM order_mgmt.receive_events('dreamer')));
like($open, qr/order_shipped\|$id/, 'one has opened a batch and is gone');
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION slot() RETURNS int LANGUAGE sql AS $$SELECT slot FROM order_mgmt.rotations WHERE name = 'cursor_log'$$;
CREATE FUNCTION grow() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current regclass := 'order_mgmt.cursor_log_' || slot();
BEGIN
    WHILE pg_relation_size(current) < 2048 * 8192 LOOP
        EXECUTE format('INSERT INTO %s SELECT ''filler'', m + n, 0, ''{0,0,0,0}'', NULL, 0, 0, 0, m + n, 0, now(), ''{}''
            FROM (SELECT coalesce(max(seq), 0) AS m FROM %1$s WHERE consumer = ''filler'') AS f, generate_series(1, 20000) AS n', current);
    END LOOP;
END
$$;
SQL
for my $round (1 .. 3)
{
	my $slot = $node->safe_psql('shop', 'SELECT slot()');
	$node->safe_psql('shop', 'SELECT grow()');
	# Two, since a restart may want the position before the last one.
	for my $nth (1, 2)
	{
		one_order($node, 'shop');
		settle($node, 'shop', "round $round, order $nth");
	}
	# A worker's own upkeep may have come first.
	$node->safe_psql('shop', 'SELECT * FROM order_mgmt.run_maintenance()');
	is($node->safe_psql('shop', 'SELECT slot()'), 1 - $slot, "round $round: positions change tables");
	is($node->safe_psql('shop', q(SELECT * FROM order_mgmt.receive_events('dreamer'))), $open, "round $round: the open batch is what it was");
}
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.receive_events('sleeper'))), '7', 'who comes at last gets everything');
is($node->safe_psql('shop', q(SELECT order_mgmt.acknowledge_batch('dreamer', batch_id) FROM order_mgmt.receive_events('dreamer'))), 't', 'who comes back can go on');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.receive_events('dreamer'))), '6', 'with what came after');

settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
