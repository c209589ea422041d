# Workers wait on latches: an idle database runs no transaction and writes no WAL, and yet an order ships at once.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Shop;
use Test::More;
use Time::HiRes qw(usleep);

my $node = start_server('idle', 'autovacuum = off', 'checkpoint_timeout = 1h', 'bgwriter_delay = 10s', 'wal_level = minimal', 'max_wal_senders = 0');
new_shop($node, 'shop');
$node->safe_psql('postgres', 'CREATE DATABASE never_set_up; CREATE DATABASE not_set_up');
$node->safe_psql('not_set_up', 'CREATE EXTENSION order_mgmt');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'the shop is open');
settle($node, 'shop', 'before');
# Nobody is connected to any database but postgres, and all that has been counted has been reported.
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname <> 'postgres' AND backend_type = 'client backend'), '0', 60), 'no client');

# The launcher has looked at every database, too.
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname <> 'postgres' AND NOT (datname = 'shop' AND backend_type = 'order_mgmt worker')), '0', 60), 'nobody but the worker');
# When a day begins workers look after their tables.
usleep(100_000) while time % 86_400 > 86_400 - 100 || time % 86_400 < 5;

# Counted for a while from another database; the only condition is that nothing changes from the first to the last look.
my $counts = q(SELECT datname || ' ' || xact_commit + xact_rollback FROM pg_stat_database WHERE datname IN ('shop', 'never_set_up', 'not_set_up') ORDER BY 1);
my $quiet = $node->safe_psql('postgres', <<SQL);
CREATE TEMPORARY TABLE look AS SELECT 0 AS n, NULL::text AS seen, NULL::pg_lsn AS wal WITH NO DATA;
SELECT pg_sleep(2) \\g /dev/null
INSERT INTO look SELECT 1, string_agg(c, ', '), NULL FROM ($counts) AS t(c);
SELECT pg_current_wal_flush_lsn() AS first \\gset
CHECKPOINT;
SELECT pg_current_wal_insert_lsn() AS first \\gset
SELECT pg_sleep(60) \\g /dev/null
SELECT pg_current_wal_insert_lsn() = :'first' AS no_wal \\gset
INSERT INTO look SELECT 2, string_agg(c, ', '), NULL FROM ($counts) AS t(c);
SELECT count(DISTINCT seen), :'no_wal' FROM look;
SQL
is($quiet, '1|t', 'in sixty seconds not one transaction, and not one byte of WAL');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'order_mgmt%'
	AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL OR wait_event <> 'Extension'))), '0',
	'no worker holds a snapshot, each waits on its latch');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname <> 'shop')), '0',
	'nobody works where nothing has been set up');

# A hundred orders, each captured after the last one has shipped: every one of them has to wake the worker.
my $shipped = $node->safe_psql('shop', join '', map { <<SQL } 1 .. 100);
SELECT order_mgmt.capture_order('c', $Shop::one_line) AS id \\gset
SELECT order_mgmt.wait_for_order(:'id', '60 s');
SQL
is(scalar(() = $shipped =~ /^shipped$/mg), 100, 'and yet each order is shipped, on an idle server');

# An old snapshot holds up nothing.
my $old = $node->background_psql('shop');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM order_mgmt.orders');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('" . one_order($node, 'shop') . "')"), 'shipped', 'orders ship beside an old snapshot') for 1 .. 3;
$old->query_safe('COMMIT');
$old->quit;

# Who waits for long in short pieces holds no old snapshot either.
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'), '0', 60), 'nobody works');
my $id = one_order($node, 'shop');
my $wait = q(DO $$ BEGIN WHILE NOT order_mgmt.wait_until_idle(timeout => '0.1s') LOOP COMMIT; END LOOP; END $$);
my $waiting = in_background($node, [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'shop', '-c', $wait ]);
my $waiters = q(SELECT pid FROM pg_stat_activity WHERE datname = 'shop' AND query LIKE 'DO %' AND backend_xmin IS NOT NULL);
ok(becomes($node, 'postgres', "SELECT count(*) FROM ($waiters) AS w", '1', 60), 'a session waits');
my $xid = $node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
ok(becomes($node, 'postgres', "SELECT backend_xmin::text::bigint > $xid FROM pg_stat_activity WHERE pid = (SELECT pid FROM ($waiters) AS w)", 't', 60), 'and lets go of its snapshot meanwhile');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');
is(finish($waiting), 0, 'until all is done') or diag($waiting->{err});
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id')"), 'shipped', 'as it is then');
settle($node, 'shop', 'afterwards');
$node->stop;
done_testing();
