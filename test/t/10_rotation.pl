# Cursors are kept in two tables that take turns: one is emptied only when nobody needs a row of it,
# however many rows it has.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Shop;
use Test::More;

my $node = start_server('rotation', 'fsync = off');
$node->safe_psql('postgres', 'CREATE DATABASE shop; ALTER DATABASE shop SET order_mgmt.workers = off');
$node->safe_psql('shop', q(CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()));
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c', 1000); SELECT order_mgmt.set_stock('p', 1000)));

# Appends rows to the current table until it is due, as very many batches would.
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION slot() RETURNS int LANGUAGE sql AS $$SELECT slot FROM order_mgmt.rotations WHERE name = 'cursor_log'$$;
CREATE VIEW cursors AS SELECT * FROM order_mgmt.cursor_log_0 UNION ALL SELECT * FROM order_mgmt.cursor_log_1;
CREATE FUNCTION grow() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    current regclass := 'order_mgmt.cursor_log_' || slot();
BEGIN
    WHILE pg_relation_size(current) < 2048 * 8192 LOOP
        EXECUTE format('INSERT INTO %s SELECT c.consumer, c.seq + n, c.tick_id, c.base, c.target, c.lxid, c.event_id, c.processed,
            c.seq + n, 0, c.at, c.passed FROM (SELECT * FROM cursors WHERE consumer = ''shipper'' ORDER BY seq DESC LIMIT 1) AS c,
            generate_series(1, 20000) AS n', current);
    END LOOP;
END
$$;
SQL
sub maintain
{
	my ($status, $out) = $node->psql('shop', q(SET statement_timeout = '10s'; SELECT action, object FROM order_mgmt.run_maintenance()));
	return $status == 0 ? $out : 'no answer';
}
sub one_ships
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = one_order($node, 'shop');
	$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
	is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id')"), 'shipped', $what);
	return;
}

one_ships('before');
is(maintain(), '', 'nothing is due');

# One consumer stands still, with a verdict of its partner waiting for it.
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('stock_checker')));
my $half = one_order($node, 'shop');
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
$node->safe_psql('shop', 'SELECT grow()');
is(maintain(), 'rotate|cursor_log', 'a table that has grown gives way to the other one');
is($node->safe_psql('shop', 'SELECT slot()'), '1', 'which takes the next rows');
one_order($node, 'shop');
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.cursor_log_1 WHERE consumer = 'balance_checker')), '1', 'of those who work');
$node->safe_psql('shop', 'SELECT grow()');
is(maintain(), '', 'a table with the position of a consumer is not emptied');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker'); SELECT order_mgmt.run_pipeline()));
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$half')"), 'shipped', 'an order that waited for a verdict all the time ships');
one_ships('so does the next one');
my $other = $node->background_psql('shop');
$other->query_safe('SELECT order_mgmt.run_pipeline()');
one_order($node, 'shop');
$other->query_safe('SELECT order_mgmt.run_pipeline()');

is(maintain(), 'rotate|cursor_log', 'when all have moved on the table is emptied');
is($node->safe_psql('shop', 'SELECT slot()'), '0', 'and used again');
is($node->safe_psql('shop', q(SELECT count(DISTINCT consumer) FROM cursors)), '4', 'every consumer has a position');
one_order($node, 'shop');
$other->query_safe('SELECT order_mgmt.run_pipeline()');
is($node->safe_psql('shop', q(SELECT count(DISTINCT consumer) FROM order_mgmt.cursor_log_0)), '4', 'by others, too, who have used the one before');
$other->quit;
one_ships('orders ship afterwards');

# Ticks are numbered on from the newest, so that one stays wherever it is.
my $grow_ticks = q(INSERT INTO order_mgmt.ticks_%d SELECT -n, snapshot, at FROM generate_series(1, 230000) AS n, (SELECT snapshot, at FROM order_mgmt.ticks_0 WHERE tick_id = 1) AS t);
$node->safe_psql('shop', q(INSERT INTO order_mgmt.ticks_0 SELECT 1, base, now() FROM cursors WHERE consumer = 'shipper' ORDER BY seq DESC LIMIT 1));
one_ships('with a tick');
$node->safe_psql('shop', sprintf $grow_ticks, 0);
is(maintain(), 'rotate|ticks', 'a table of ticks that has grown gives way to the other one');
$node->safe_psql('shop', sprintf $grow_ticks, 1);
is(maintain(), '', 'one with the newest tick is not emptied');
is($node->safe_psql('shop', 'SELECT max(tick_id) FROM (SELECT * FROM order_mgmt.ticks_0 UNION ALL SELECT * FROM order_mgmt.ticks_1) AS t'), '1', 'which is still there');
one_ships('orders ship all the while');
settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
