# Clients that run the pipeline in turn, without workers: each finds what the others have left, and does nothing twice.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Shop;
use Test::More;

my $node = start_server('in_turn', 'fsync = off', 'autovacuum = off');
$node->safe_psql('postgres', 'CREATE DATABASE shop; ALTER DATABASE shop SET order_mgmt.workers = off; ALTER DATABASE shop SET order_mgmt.batch_size = 100');
$node->safe_psql('shop', 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('c', 1000000); SELECT order_mgmt.set_stock('p', 1000000)));

my $capture = "SELECT order_mgmt.capture_order('c', $Shop::one_line)";

sub happened_twice
{
	return $node->safe_psql('shop', q(SELECT count(*) FROM (SELECT order_id, event_type FROM order_mgmt.events WHERE order_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1) AS twice));
}

# --- one that has read its own transaction, then one that stops in the middle of a window before it -----
my $early = $node->background_psql('shop');
$early->query_safe("BEGIN; $capture");
$node->safe_psql('shop', "BEGIN; $capture; SELECT order_mgmt.run_pipeline(); COMMIT");
$early->query_safe("SELECT count(order_mgmt.capture_order('c', $Shop::one_line)) FROM generate_series(1, 300); COMMIT");
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
settle($node, 'shop', 'an earlier client that is read after a later one');
is(happened_twice(), '0', 'nothing has happened twice');

# --- one session that remembers where it stood, while another goes on -----------------------------------
$early->query_safe("$capture; SELECT order_mgmt.run_pipeline()");
$node->safe_psql('shop', "$capture; SELECT order_mgmt.run_pipeline()");
$early->query_safe($capture) for 1 .. 10;
$early->query_safe('SELECT order_mgmt.run_pipeline(1)');
$early->query_safe('SELECT order_mgmt.run_pipeline()');
settle($node, 'shop', 'two sessions in turn');
is(happened_twice(), '0', 'nothing has happened twice');

# --- one that waits for credit, and others who read it again ---------------------------------------------
# The first holds what the second wants; a third is captured earlier and committed later. Who takes over reads
# from the beginning, and meets the third before those that have been checked already.
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('d', 10); SELECT order_mgmt.run_pipeline(); SELECT order_mgmt.pause_consumer('shipper'); SELECT order_mgmt.pause_consumer('order_updater')));
my $ten = q(SELECT order_mgmt.capture_order('d', '[{"product_id": "p", "quantity": 1, "unit_price": 10}]'));
$early->query_safe("BEGIN; $capture");
$node->safe_psql('shop', "$ten; $ten; SELECT order_mgmt.run_pipeline(); $capture; SELECT order_mgmt.run_pipeline()");
$early->query_safe('COMMIT');
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('shipper'); SELECT order_mgmt.resume_consumer('order_updater')));
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()') for 1 .. 3;
settle($node, 'shop', 'read again in another order');
is(happened_twice(), '0', 'nothing has happened twice');
$early->quit;

# --- an order that cannot be written, among others ------------------------------------------------------------
$node->safe_psql('shop', q(ALTER TABLE order_mgmt.orders ADD CONSTRAINT not_this_one CHECK (order_ref IS DISTINCT FROM 'odd' OR status = 'captured')));
$node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line, order_ref => CASE WHEN n = 5 THEN 'odd' END) FROM generate_series(1, 10) AS n");
$node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()');
is($node->safe_psql('shop', q(SELECT string_agg(order_ref, ',') FROM order_mgmt.orders WHERE status = 'captured')), 'odd', 'run_pipeline() goes on with the others');
is($node->safe_psql('shop', 'SELECT consumer, error_code FROM order_mgmt.retries'), 'order_updater|23514', 'and sets the event aside that is to blame');
$node->safe_psql('shop', 'ALTER TABLE order_mgmt.orders DROP CONSTRAINT not_this_one');
ok(becomes($node, 'shop', "SELECT order_mgmt.run_pipeline() \\g /dev/null\nSELECT count(*) FROM order_mgmt.retries", '0', 60), 'it is tried again');
settle($node, 'shop', 'an order that could not be written');

# --- places beyond the end of a table ----------------------------------------------------------------------
$node->safe_psql('shop', q(ALTER DATABASE shop SET order_mgmt.workers = on));
$node->safe_psql('shop', q(SELECT count(order_mgmt.set_account('a' || n, 100)) FROM generate_series(1, 3000) AS n));
$node->restart;
my $ship = sub {
	my $id = $node->safe_psql('shop', "SELECT order_mgmt.capture_order('a3000', $Shop::one_line)");
	return $node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id', '60 s')");
};
is($ship->(), 'shipped', 'the worker has written the last account of a large table');
$node->safe_psql('shop', q(SELECT count(order_mgmt.delete_account('a' || n)) FROM generate_series(1, 2990) AS n));
$node->safe_psql('shop', 'VACUUM FULL order_mgmt.accounts');
is($ship->(), 'shipped', 'it finds the account where it is now');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.retries'), '0', 'nothing had to be tried again');
settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
