# A model that checks orders, asked by the workers: it holds up nobody while it thinks, whatever ends the worker
# every order is decided once, and a model that hangs or fails does not stop the shop.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('order_check', 'restart_after_crash = on', 'autovacuum = off');
new_shop($node, 'shop');
# The score stands in the order.  While somebody holds the lock the model thinks.
$node->safe_psql('shop', <<'SQL');
CREATE SCHEMA model;
GRANT USAGE ON SCHEMA model TO order_mgmt_reader;
CREATE FUNCTION model.risk(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7);
    RETURN QUERY SELECT i->'metadata'->'risk' FROM unnest(inputs) WITH ORDINALITY AS u(i, n) ORDER BY n;
END
$$;
SELECT order_mgmt.create_model('risk', 'sql', '{"function": "model.risk", "timeout_ms": 0}');
SQL

sub capture
{
	my ($risk) = @_;
	return $node->safe_psql('shop', qq(SELECT order_mgmt.capture_order('c', $Shop::one_line, metadata => '{"risk": $risk}')));
}

sub fate { my ($id) = @_; return $node->safe_psql('shop', "SELECT status || reasons::text FROM order_mgmt.orders WHERE order_id = '$id'"); }

# Each order has ended as its score says, unless it was cancelled; and each verdict was given once.
sub all_decided
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	settle($node, 'shop', $what);
	is($node->safe_psql('shop', <<'SQL'), '', "$what: each order ends as its score says");
SELECT order_id, status, reasons FROM order_mgmt.orders WHERE metadata ? 'risk' AND status <> 'cancelled'
   AND NOT CASE WHEN (metadata->>'risk')::float8 >= 0.5 THEN status = 'rejected' AND reasons = '{high_risk}' ELSE status = 'shipped' END;
SQL
	is($node->safe_psql('shop', <<'SQL'), '', "$what: each was decided once");
SELECT o.order_id, e.events FROM order_mgmt.orders AS o LEFT JOIN LATERAL (SELECT array_agg(event_type ORDER BY event_type) AS events FROM order_mgmt.events AS e
    WHERE e.order_id = o.order_id AND event_type LIKE 'balance%') AS e ON true WHERE e.events IS NULL OR cardinality(e.events) <> 1;
SQL
	is($node->safe_psql('shop', q(SELECT reserved FROM order_mgmt.get_account('c'))), '0.0000', "$what: nothing stays held");
	return;
}

# --- off: all stages in one transaction, as ever -------------------------------------------------------------
my $stages = q(SELECT string_agg(DISTINCT query, ',') FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop');
one_order($node, 'shop');
settle($node, 'shop', 'off');
like($node->safe_psql('shop', $stages), qr/all stages/, 'off, the stages work together');

# --- on ---------------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_model = 'risk'));
my ($good, $bad) = (capture(0.1), capture(0.9));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'rejected', 'on, a high score rejects');
is(fate($bad), 'rejected{high_risk}', 'for that reason');
like($node->safe_psql('shop', $stages), qr/all stages/, 'on, the stages work together, too');
all_decided('on');
is(fate($good), 'shipped{}', 'a low one does not');

# --- while the model thinks ----------------------------------------------------------------------------------------
my $thinking = q(SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted);

# A session that makes the model think, until it is told to end or the server crashes
sub think
{
	my $session = $node->background_psql('shop', on_error_stop => 0);
	$session->query_safe('SELECT pg_advisory_lock(7)');
	return $session;
}

my $session = think();
$good = capture(0.1);
$bad = capture(0.9);
my $cancelled = capture(0.9);
ok(becomes($node, 'shop', "SELECT count(*) FROM ($thinking) AS t", '1', 60), 'the worker waits for the model');
is($node->safe_psql('shop', "SELECT count(*) FROM pg_locks WHERE pid = ($thinking) AND (locktype = 'transactionid' OR mode IN ('RowShareLock', 'RowExclusiveLock') AND relation <> 0)"),
	'0', 'and has locked no row, nor begun to write');
is($node->safe_psql('shop', q(SET lock_timeout = '5s'; SELECT order_mgmt.adjust_balance('c', 1) > 0, order_mgmt.adjust_stock('p', 1) > 0)), 't|t', 'clients change accounts and stock');
is($node->safe_psql('shop', "SELECT order_mgmt.cancel_order('$cancelled')"), 'cancelled', 'and cancel what the model thinks about');
is(fate($good), 'captured{}', 'nothing is decided');
$session->quit;
all_decided('after it has thought');
is(fate($cancelled), 'cancelled{}', 'what was cancelled stays so');

# --- killed while it thinks ----------------------------------------------------------------------------------------
for my $round (1, 2)
{
	$session = think();
	my @orders = map { capture($_) } 0.1, 0.9, 0.2, 0.8;
	ok(becomes($node, 'shop', "SELECT count(*) FROM ($thinking) AS t", '1', 60), "round $round: the worker waits for the model");
	my $pid = $node->safe_psql('shop', $thinking);
	kill_process($node, $pid);
	eval { $session->quit };
	ok(becomes($node, 'shop', q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), "round $round: the next one goes on");
	all_decided("round $round");
	is(join(' ', map { fate($_) } @orders), 'shipped{} rejected{high_risk} shipped{} rejected{high_risk}', "round $round: as it would have been");
}

# A worker that is to leave does not wait for the model: nor does DROP DATABASE.
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'workers leave');
$node->safe_psql('postgres', 'CREATE DATABASE other TEMPLATE shop');
$node->safe_psql('postgres', q(ALTER DATABASE other SET order_mgmt.check_model = 'risk'));
$node->safe_psql('other', 'SELECT order_mgmt.post_restore()');
$node->safe_psql('other', q(CREATE OR REPLACE FUNCTION model.risk(inputs jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT to_jsonb(pg_sleep(3600)::text)'));
one_order($node, 'other');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'other' AND wait_event = 'PgSleep'), '1', 60), 'a model sleeps');
is($node->psql('postgres', 'DROP DATABASE other'), 0, 'its database is dropped all the same');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');

# --- under load, with cancellations, ended workers, and one worker per stage -----------------------------------------
my $script = $node->basedir . '/load.pgbench';
append_to_file($script, <<'SQL');
\set r random(0, 9)
\set x random(1, 10)
SELECT order_mgmt.capture_order('c', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]', metadata => jsonb_build_object('risk', :r / 10.0)) AS id \gset
SELECT CASE WHEN :x = 1 AND order_mgmt.get_order_status(':id') IN ('captured', 'confirmed') THEN order_mgmt.cancel_order(':id') END;
SQL

sub load_and_end
{
	my ($what, $end) = @_;
	my $ended = q(SELECT count(*) FROM order_mgmt.orders WHERE status IN ('shipped', 'rejected'));
	my $before = $node->safe_psql('shop', $ended);
	my $load = in_background($node, [ 'pgbench', '-n', '-c', 3, '-t', 400, '-f', $script, 'shop' ]);
	ok(becomes($node, 'shop', "SELECT ($ended) >= $before + 50", 't', 60), "$what: orders come to an end");
	$end->((workers($node, 'shop'))[0]);
	finish($load);
	ok(becomes($node, 'shop', q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), "$what: the rest is done");
	all_decided($what);
	return;
}

my $terminate = sub { my ($pid) = @_; kill 'TERM', $pid if $pid; };
load_and_end('a worker ended', $terminate);
load_and_end('a worker killed', sub { my ($pid) = @_; kill_process($node, $pid); });
$node->safe_psql('postgres', 'ALTER SYSTEM SET order_mgmt.workers_per_database = 4');
$node->reload;
ok(becomes($node, 'shop', q(SELECT order_mgmt.wait_until_idle('60 s')), 't', 60), 'several workers');
load_and_end('several workers', $terminate);
cmp_ok($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'cancelled')), '>', 5, 'some were cancelled meanwhile');

# --- a model that hangs ------------------------------------------------------------------------------------------------
$node->safe_psql('shop', q(SELECT order_mgmt.set_model_options('risk', '{"function": "model.risk", "timeout_ms": 50}')));
$session = think();
my $log_before = -s $node->logfile;
$bad = capture(0.9);
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'shipped', 'what a model cannot say in time passes');
ok($node->wait_for_log(qr/WARNING:  orders pass without the check by model "risk": .*no answer within 50 ms/, $log_before), 'and the log says so');
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_on_failure = 'retry'));
$node->safe_psql('shop', q(SELECT order_mgmt.set_retry_policy('balance_checker', backoff_base => '50 ms', backoff_cap => '100 ms')));
$bad = capture(0.9);
ok(becomes($node, 'shop', q(SELECT attempts > 1 AND error_code = 'OM008' FROM order_mgmt.retries), 't', 60), 'or is asked about again');
is(fate($bad), 'captured{}', 'and is not decided');
$session->quit;
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'rejected', 'until it answers');
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_on_failure = 'pass'));
$node->safe_psql('shop', q(SELECT order_mgmt.set_model_options('risk', '{"function": "model.risk", "timeout_ms": 0}')));
$session = think();
$bad = capture(0.9);
ok(becomes($node, 'shop', "SELECT count(*) FROM ($thinking) AS t", '1', 60), 'a worker waits for the model without end');
is($node->safe_psql('shop', "SELECT pg_cancel_backend(($thinking))"), 't', 'somebody cancels that');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'shipped', 'and the shop goes on');
$session->quit;
is($node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s'))), 't', 'all is done');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');

# --- what it says, and to whom ------------------------------------------------------------------------------------------
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION model.tells(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('risk', input->>'order_id');
    RETURN jsonb_build_object('score', coalesce((input->'metadata'->>'risk')::float8, (input->>'total')::float8 / 100), 'path', current_setting('search_path'), 'rows', current_setting('row_security'));
END
$$;
SELECT order_mgmt.create_model('tells', 'sql', '{"function": "model.tells", "log_sample": 1}');
SQL
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_model = 'tells'));
my $listener = $node->background_psql('shop', on_error_stop => 0);
$listener->query_safe('LISTEN risk');
$bad = capture(0.9);
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'rejected', 'a worker asks another model');
is($node->safe_psql('shop', "SELECT version, customer_id, output FROM order_mgmt.prediction_log WHERE model = 'tells' AND input->>'order_id' = '$bad'"),
	'0|c|{"path": "pg_catalog, pg_temp", "rows": "on", "score": 0.9}', 'the log has what was asked and answered, once');
like($listener->query('SELECT 1'), qr/notification "risk" with payload "$bad"/, 'its notification arrives');
$listener->quit;

# Orders from files, too
my $asked = q(SELECT count(*) FROM order_mgmt.prediction_log WHERE model = 'tells');
my $before = $node->safe_psql('shop', $asked);
my $load = $node->safe_psql('shop', <<'SQL');
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price) SELECT 'file' || n, 'c', 'p', CASE WHEN n % 5 = 0 THEN 60 ELSE 1 END, 1 FROM generate_series(1, 50) AS n;
SELECT order_mgmt.load_orders_csv('staged', 'capture');
SQL
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.wait_for_load($load, '60 s')"), 'done', 'orders from a file');
settle($node, 'shop', 'from a file');
is($node->safe_psql('shop', q(SELECT status, reasons, count(*), bool_and((order_ref LIKE '%0' OR order_ref LIKE '%5') = (status = 'rejected')) FROM order_mgmt.orders WHERE order_ref LIKE 'file%' GROUP BY 1, 2 ORDER BY 1)),
	"rejected|{high_risk}|10|t\nshipped|{}|40|t", 'are checked like any other');
is($node->safe_psql('shop', $asked) - $before, 50, 'each of them');
$load = $node->safe_psql('shop', <<'SQL');
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price, created_at) VALUES ('past', 'c', 'p', 60, 1, '2026-01-05');
SELECT order_mgmt.load_orders_csv('staged', 'history');
SQL
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.wait_for_load($load, '60 s')"), 'done', 'those of the past');
settle($node, 'shop', 'the past');
is($node->safe_psql('shop', $asked) - $before, 50, 'are not');

# --- many pass unchecked, and the log says how many in the end ---------------------------------------------------------------
$node->safe_psql('shop', q(CREATE FUNCTION model.down(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1 / 0)'));
$node->safe_psql('shop', q(SELECT order_mgmt.create_model('down', 'sql', '{"function": "model.down"}')));
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_model = 'down'));
$log_before = -s $node->logfile;
my $count = 0;
for (1 .. 3)
{
	capture(0.9);
	settle($node, 'shop', 'unchecked');
}
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'workers leave once more');
my $said = substr(slurp_file($node->logfile), $log_before);
$count += $1 while $said =~ /by model "down".*\n.*DETAIL: .*"orders": "(\d+)"/g;
is($count, 3, 'all orders that passed unchecked are in the log');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');
ok(becomes($node, 'shop', q(SELECT count(worker_pid) FROM order_mgmt.queues), '4', 60), 'they come back');

# --- a model that ends the server ------------------------------------------------------------------------------------------
# It sleeps over one order, and each time somebody kills the worker.
$node->safe_psql('shop', <<'SQL');
CREATE TABLE model.deadly AS SELECT true AS sleeps;
GRANT SELECT ON model.deadly TO order_mgmt_reader;
CREATE FUNCTION model.kills(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF input->'metadata' ? 'deadly' AND (SELECT sleeps FROM model.deadly) THEN
        PERFORM pg_sleep(3600);
    END IF;
    RETURN coalesce(input->'metadata'->'risk', to_jsonb(0));
END
$$;
SELECT order_mgmt.create_model('kills', 'sql', '{"function": "model.kills", "timeout_ms": 0}');
SELECT order_mgmt.set_retry_policy('balance_checker', backoff_base => '0.1 s', backoff_cap => '0.1 s');
SQL
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.check_model = 'kills'));
my $deadly = $node->safe_psql('shop', qq(SELECT order_mgmt.capture_order('c', $Shop::one_line, metadata => '{"deadly": true}')));
my $sleeping = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop' AND wait_event = 'PgSleep');
for my $crash (1 .. 3)
{
	ok(becomes($node, 'shop', "SELECT count(*) FROM ($sleeping) AS t", '1', 60), "crash $crash: the model is asked about it");
	kill_process($node, $node->safe_psql('shop', $sleeping));
}
ok(becomes($node, 'shop', q(SELECT consumer, error_code FROM order_mgmt.dead_letters), 'balance_checker|57P02', 60), 'after the third crash it is a dead letter');
is(fate($deadly), 'failed{}', 'and its order has failed');
$bad = capture(0.9);
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'rejected', 'others are checked');
$node->safe_psql('shop', 'UPDATE model.deadly SET sleeps = false');
is($node->safe_psql('shop', q(SELECT order_mgmt.replay_dead_letters('balance_checker'))), '1', 'taken up again');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$deadly', '60 s')"), 'shipped', 'it ships, now that the model lives');

# --- off again -----------------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.check_model');
$bad = capture(0.9);
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$bad', '30 s')"), 'shipped', 'off, nobody asks');
settle($node, 'shop', 'at the end');
indexes_hold($node, 'shop');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|XX000|invisible tuple|reference leak/, 'nothing untoward in the log');
$node->stop;
done_testing();
