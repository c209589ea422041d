# Subscriptions: a function is called once per event, as its role, whatever it does.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('handlers', 'restart_after_crash = on');
new_shop($node, 'shop');
$node->safe_psql('shop', <<'SQL');
CREATE ROLE low LOGIN IN ROLE order_mgmt_operator;
GRANT CREATE ON SCHEMA public TO low;
SELECT order_mgmt.set_account('poison', 1000000);
SQL

# SQL as role low
sub low
{
	my ($sql) = @_;
	return $node->safe_psql('shop', $sql, connstr => $node->connstr('shop') . ' user=low');
}

# Subscribes low to captures: name, body of the handler in PL/pgSQL, further arguments
sub subscribe
{
	my ($name, $body, $more) = @_;
	low(<<SQL);
CREATE TABLE ${name}_seen (event_id bigint, at timestamptz DEFAULT clock_timestamp());
CREATE SEQUENCE ${name}_tries;
CREATE FUNCTION $name(event jsonb) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM nextval('public.${name}_tries');
    $body
    INSERT INTO public.${name}_seen VALUES ((event->>'event_id')::bigint);
END \$\$;
SELECT order_mgmt.subscribe('$name', '$name', '{order_captured}'@{[ $more // '' ]});
SQL
	$node->safe_psql('shop', "UPDATE order_mgmt.consumers SET backoff_base = '10 ms', backoff_cap = '50 ms' WHERE name = '$name'");
	return;
}

# The server is away for a moment after a crash
sub reaches_after_crashes
{
	my ($query, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('shop', $query), $what);
}

# Captures so many orders for a customer
sub capture
{
	my ($count, $customer) = @_;
	$customer //= 'c';
	$node->safe_psql('shop', <<SQL);
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', '$customer', 'lines', ${Shop::one_line}::jsonb)) FROM generate_series(1, $count)));
SQL
	return;
}

# Waits until a query gives the expected answer
sub reaches
{
	my ($query, $expected, $what, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(becomes($node, 'shop', $query, $expected, $seconds // 60), $what);
}

sub seen { return "SELECT count(*) || ' ' || count(DISTINCT event_id) FROM ${\shift}_seen" }
sub letters { return "SELECT string_agg(attempts || ' ' || error_code || ' ' || message, ',') FROM order_mgmt.dead_letters WHERE consumer = '${\shift}'" }
sub pid_of { return "SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler' AND query = '${\shift}'" }
sub unsubscribe { return low("SELECT order_mgmt.unsubscribe('${\shift}')") }
sub ships
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "', '60 s')"), 'shipped', $what);
}

# As whom: nobody else, not even in what is deferred to the commit, nor after all that a handler may set
low(<<'SQL');
CREATE TABLE users (place text, current_name text DEFAULT current_user, session_name text DEFAULT session_user, is_super text DEFAULT current_setting('is_superuser'),
    role text DEFAULT current_setting('role'), search_path text DEFAULT current_setting('search_path'));
CREATE TABLE bait (event jsonb);
CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN EXECUTE 'RESET SESSION AUTHORIZATION'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'ALTER ROLE low SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END;
    INSERT INTO public.users VALUES ('deferred trigger');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER climb AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION climb();
CREATE FUNCTION attack(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.users VALUES ('handler');
    INSERT INTO public.bait VALUES (event);
    SET search_path = nowhere;
    SET ROLE order_mgmt_reader;
    SET synchronous_commit = off;
END $$;
SELECT order_mgmt.subscribe('attack', 'attack', '{order_captured}');
SQL
capture(3);
reaches(q(SELECT count(*) FROM users), '6', 'a handler and its deferred triggers run');
is($node->safe_psql('shop', q(SELECT DISTINCT current_name, session_name, is_super, role FROM users)), 'low|low|off|none', 'as the subscribing role, all of them');
is($node->safe_psql('shop', q(SELECT DISTINCT search_path FROM users)), '"$user", public', 'with its settings, whatever the last event set');
is($node->safe_psql('shop', q(SELECT rolsuper FROM pg_roles WHERE rolname = 'low')), 'f', 'which has gained nothing');
is($node->safe_psql('shop', q(SELECT usename FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler')), 'low', 'the worker is connected as it');
isnt($node->psql('shop', q(SELECT order_mgmt.unsubscribe('attack')), connstr => $node->connstr('shop') . ' user=nobody'), 0, 'nobody else ends it');
unsubscribe('attack');
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler'), '0', 60), 'unsubscribed, it has no worker');

# Fails three times, then succeeds
subscribe('third', q(IF currval('public.third_tries') <= 3 THEN INSERT INTO public.third_seen VALUES (-1); RAISE 'not yet'; END IF;));
capture(1);
reaches(seen('third'), '1 1', 'who fails three times and then succeeds has effects once');
is($node->safe_psql('shop', 'SELECT last_value FROM third_tries'), '4', 'after four attempts');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.retries)), '0', 'and nothing is left to be tried');
unsubscribe('third');

# Poison among a thousand
subscribe('picky', q(IF event->>'customer_id' = 'poison' THEN RAISE 'bad %', event->>'customer_id' USING ERRCODE = 'P0099'; END IF;), ', max_attempts => 3');
capture(500);
capture(1, 'poison');
capture(499);
reaches(seen('picky'), '999 999', 'one poisoned event of a thousand: the others are handled once');
reaches(letters('picky'), '3 P0099 bad poison', 'it becomes a dead letter');
is($node->safe_psql('shop', q(SELECT payload->>'customer_id' FROM order_mgmt.dead_letters WHERE consumer = 'picky')), 'poison', 'with the event');
is($node->safe_psql('shop', 'SELECT last_value FROM picky_tries'), '1002', 'after three attempts');

# Mended, and replayed
low('CREATE OR REPLACE FUNCTION picky(event jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO public.picky_seen VALUES ((event->>$q$event_id$q$)::bigint)$$');
is($node->safe_psql('shop', q(SELECT order_mgmt.replay_dead_letters('picky'))), '1', 'a dead letter is replayed');
reaches(seen('picky'), '1000 1000', 'its event is handled, once');
is($node->safe_psql('shop', q(SELECT retrying || ' ' || dead || ' ' || pending FROM order_mgmt.queues WHERE consumer = 'picky')), '0 0 0', 'and nothing is left of it');

# An error that comes with the commit names no event, and hits the guilty one all the same
low(<<'SQL');
CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'too late'; END $$;
CREATE TABLE late_bait (event_id bigint);
CREATE CONSTRAINT TRIGGER too_late AFTER INSERT ON late_bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION too_late();
SQL
subscribe('late', q(IF event->>'customer_id' = 'poison' THEN INSERT INTO public.late_bait VALUES (1); END IF;), ', max_attempts => 2');
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('late')));
capture(10);
capture(1, 'poison');
capture(10);
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('late')));
reaches(seen('late'), '20 20', 'an event that fails at the commit: the others are handled once');
reaches(letters('late'), '2 P0001 too late', 'it becomes a dead letter');
unsubscribe('late');

# What a handler should not do, while orders keep shipping
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.handler_timeout = '200 ms'));
subscribe('sleeping', 'PERFORM pg_sleep(1000);', ', max_attempts => 2');
subscribe('looping', 'LOOP END LOOP;', ', max_attempts => 2');
subscribe('stubborn', 'LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;', ', max_attempts => 2');
subscribe('suicidal', q(IF event->>'customer_id' = 'poison' THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); END IF;), ', max_attempts => 2');
capture(1, 'poison');
ships('orders ship while handlers misbehave');
capture(2);
for my $name ('sleeping', 'looping')
{
	reaches("SELECT (count(*) >= 4) || ' ' || min(attempts) || ' ' || min(error_code) FROM order_mgmt.dead_letters WHERE consumer = '$name'", 'true 2 57014', "$name: cancelled, and given up");
	ships("$name: orders ship");
	unsubscribe($name);
}
reaches("SELECT count(*) > 0 FROM order_mgmt.dead_letters WHERE consumer = 'stubborn' AND error_code = '57P02'", 't', 'stubborn: ended with its process, and given up');
unsubscribe('stubborn');
reaches(letters('suicidal'), '1 57P02 the handler ended its process 3 times in a row', 'suicidal: given up after three processes');
reaches("SELECT count(*) >= 3 AND count(*) = count(DISTINCT event_id) FROM suicidal_seen", 't', 'suicidal: the other events are handled');
unsubscribe('suicidal');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.handler_timeout');
subscribe('greedy', q(PERFORM length(repeat(repeat('x', 1000000), 1000)); PERFORM repeat('x', 2000000000);), ', max_attempts => 2');
capture(2);
ships('orders ship while a handler takes gigabytes');
reaches("SELECT count(*) || ' ' || min(attempts) || ' ' || min(error_code) FROM order_mgmt.dead_letters WHERE consumer = 'greedy'", '3 2 54000', 'greedy: refused, and given up');
unsubscribe('greedy');
settle($node, 'shop', 'after that');

# Paused, with events behind it
subscribe('rests', '');
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('rests')));
ok(becomes($node, 'shop', pid_of('rests'), '', 60), 'a paused subscription has no worker');
capture(1000);
ships('nobody else is paused');
is($node->safe_psql('shop', seen('rests')), '0 0', 'nothing is handled meanwhile');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('rests')));
reaches(seen('rests'), '1001 1001', 'resumed, it catches up');

# Ended from outside in the middle of a batch, and with the server
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('rests')));
subscribe('slow', 'PERFORM pg_sleep(0.01);');
capture(300);
for my $signal ('TERM', 'KILL', 'KILL')
{
	my $tries = $node->safe_psql('shop', 'SELECT last_value FROM slow_tries');
	reaches("SELECT last_value > $tries + 5 FROM slow_tries", 't', "$signal: it is at work");
	my $pid = $node->safe_psql('shop', pid_of('slow'));
	ok($pid, "$signal: there is a worker");
	kill($signal, $pid);
	ok($node->poll_query_until('shop', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), "$signal: it is gone");
}
$node->restart('fast');
$node->stop('immediate');
$node->start;
reaches(seen('slow'), '300 300', 'ended again and again, it has handled each event once', 120);
is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.dead_letters WHERE consumer = 'slow'"), '0', 'and blames none');
unsubscribe('slow');

# A handler that crashes the server
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION kill_backend() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pg_backend_pid());
    PERFORM pg_sleep(10);
END $$;
SQL
subscribe('crashing', q(IF event->>'customer_id' = 'poison' THEN PERFORM public.kill_backend(); END IF;));
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('crashing')));
capture(5);
capture(1, 'poison');
capture(5);
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('crashing')));
reaches_after_crashes("SELECT count(*) = 1 FROM order_mgmt.dead_letters WHERE consumer = 'crashing'", 'an event that crashes the server is given up');
reaches(letters('crashing'), '1 57P02 the handler ended its process 3 times in a row', 'after three crashes');
reaches(seen('crashing'), '10 10', 'the others are handled once');
ships('and orders ship');
unsubscribe('crashing');

# Unsubscribed, and dropped, while it runs
subscribe('busy', 'PERFORM pg_sleep(600);');
capture(1);
reaches('SELECT is_called FROM busy_tries', 't', 'a handler is at work');
is(low("SET statement_timeout = '60 s'; SELECT order_mgmt.unsubscribe('busy')"), 't', 'unsubscribe() does not wait for it');
is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.consumers WHERE name = 'busy'"), '0', 'it is gone');

# Its function gone, it waits; its role gone, it has no worker
low('DROP TABLE busy_seen, rests_seen; DROP FUNCTION rests');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('rests')));
capture(1);
ok($node->wait_for_log(qr/handler public\.rests\(jsonb\) of subscription "rests" does not exist/), 'a handler that is gone is reported');
low('CREATE TABLE rests_seen (event jsonb); CREATE FUNCTION rests(event jsonb) RETURNS void LANGUAGE sql AS $$INSERT INTO public.rests_seen VALUES (event)$$');
reaches(q(SELECT count(*) > 300 FROM rests_seen), 't', 'made again, it goes on where it was', 60);
$node->safe_psql('shop', 'DROP OWNED BY low CASCADE; DROP ROLE low');
capture(1);
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler'), '0', 60), 'a role that is gone has no workers');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.consumers, order_mgmt.unsubscribe(name) WHERE kind = 'handler')), '2', 'an administrator ends what is left');

# What needs the database for itself, or the extension gone, ends a handler that runs
$node->safe_psql('shop', <<'SQL');
CREATE SEQUENCE nap_tries;
CREATE FUNCTION nap(event jsonb) RETURNS bigint LANGUAGE sql AS $$SELECT nextval('public.nap_tries'); SELECT 1::bigint FROM pg_sleep(600)$$;
SELECT order_mgmt.subscribe('nap', 'nap');
SQL
sub quick
{
	my ($database, $command, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $tries = $node->safe_psql('shop', 'SELECT last_value FROM nap_tries');
	capture(1);
	reaches("SELECT is_called FROM nap_tries", 't', "$what: a handler is at work");
	is($node->psql($database, "SET statement_timeout = '60 s'; $command"), 0, $what);
	return;
}
quick('postgres', 'CREATE DATABASE copy TEMPLATE shop', 'CREATE DATABASE ... TEMPLATE');
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler' AND datname = 'shop'), '1', 60), 'it comes back');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler' AND datname = 'copy')), '0', 'a copy calls nobody');
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler'), '0', 60), 'workers off: no handler either');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');
ok(becomes($node, 'shop', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt handler'), '1', 60), 'on: there it is');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
quick('shop', 'DROP EXTENSION order_mgmt CASCADE', 'DROP EXTENSION ... CASCADE');
$node->safe_psql('shop', 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
quick('shop', q(SELECT order_mgmt.teardown('drop all order data')), 'teardown()');
is($node->psql('postgres', "SET statement_timeout = '60 s'; DROP DATABASE shop"), 0, 'DROP DATABASE');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|invisible tuple|reference leak|snapshot reference/, 'nothing untoward in the log');
$node->stop;
done_testing();
