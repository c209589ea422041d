# Data of stored version 2, where high_risk is no reason of orders: nothing works with it until migrate(),
# which brings it to what setup() makes today, with orders under way, archived months and dumps of before.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $archive = PostgreSQL::Test::Utils::tempdir();
my $node = start_server('migrate', "order_mgmt.archive_directory = '$archive'", 'order_mgmt.resume_after_restore = off');
new_shop($node, 'fresh');

# What version 2 had otherwise than today
my $back = <<'SQL';
BEGIN;
ALTER TABLE order_mgmt.orders DROP CONSTRAINT orders_reasons_known;
ALTER TABLE order_mgmt.orders ADD CONSTRAINT orders_reasons_known
  CHECK (reasons <@ '{insufficient_balance,insufficient_stock,unknown_account,unknown_product,expired}'::text[]);
DROP TABLE order_mgmt.known_tables;
DROP TABLE order_mgmt.prediction_requests;
DROP SEQUENCE order_mgmt.request_ids;
UPDATE order_mgmt.installation SET schema_version = 2;
COMMIT;
SQL
my $relations = q(SELECT c.relkind, c.relname, c.relacl, obj_description(c.oid, 'pg_class') FROM pg_class AS c WHERE c.relnamespace = 'order_mgmt'::regnamespace AND NOT c.relispartition
  AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relname !~ '_(2[0-9]{3}|default)' ORDER BY c.relname COLLATE "C");
my $definitions = q(SELECT c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid), c.convalidated, c.conislocal, c.coninhcount
FROM pg_constraint AS c WHERE c.connamespace = 'order_mgmt'::regnamespace AND c.contype = 'c' ORDER BY c.conrelid::regclass::text COLLATE "C", c.conname COLLATE "C");

sub error_of
{
	my ($database, $statement) = @_;
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY sqlstate\n$statement");
	return $err =~ /ERROR:  (\S+)/ ? $1 : $out;
}

# --- a shop of version 2, with orders under way and a month in the archive ---------------------------------
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_account('poor', 1)));
$node->safe_psql('postgres', q(ALTER DATABASE shop SET order_mgmt.clock = '2024-01-15 12:00+00'));
$node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.run_maintenance()));
$node->safe_psql('shop', "SELECT order_mgmt.capture_order(c, $Shop::one_line) FROM unnest('{c,c,poor,poor}'::text[]) AS c");
settle($node, 'shop', 'a month of long ago');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.clock');
my $archived = $node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.archive_month('2024-01-01')));
is($archived, '3', 'it is archived');
my $shipped = one_order($node, 'shop');
settle($node, 'shop', 'version 2');
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('stock_checker')));
my @waiting = split /\n/, $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 20)");
ok(becomes($node, 'shop', q(SELECT pending FROM order_mgmt.queues WHERE consumer = 'balance_checker'), '0', 60), 'some are half checked');
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'the server of before is stopped');
$node->safe_psql('shop', $back);
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');
my $dump = $node->basedir . '/version2.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('shop') ], 'a dump of version 2');

# --- nothing works with it -----------------------------------------------------------------------------------
is($node->safe_psql('shop', 'SELECT schema FROM order_mgmt.version()'), '2', 'it is of version 2');
is(error_of('shop', $_), 'OM006', "$_ is refused") for "SELECT order_mgmt.capture_order('c', $Shop::one_line);", 'SELECT order_mgmt.run_pipeline();',
  'SELECT * FROM order_mgmt.queues;';
is($node->safe_psql('shop', 'SELECT order_mgmt.setup()'), 'f', 'setup() changes nothing');
is($node->safe_psql('shop', 'SELECT schema FROM order_mgmt.version()'), '2', 'and does not migrate');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop')), '0', 'nobody works');
is(error_of('shop', "SET ROLE order_mgmt_operator;\nSELECT order_mgmt.migrate();"), '42501', 'an operator does not migrate');
isnt(error_of('shop', "UPDATE order_mgmt.orders SET reasons = '{high_risk}';"), '', 'the word is not known');

# --- migrate() -------------------------------------------------------------------------------------------------
is($node->safe_psql('shop', "BEGIN;\nSELECT order_mgmt.migrate();\nROLLBACK;\nSELECT schema FROM order_mgmt.version();"), "t\n2", 'rolled back it has not happened');
is($node->safe_psql('shop', "SET ROLE order_mgmt_admin;\nSELECT order_mgmt.migrate();"), 't', 'migrate()');
is($node->safe_psql('shop', 'SELECT order_mgmt.migrate();'), 'f', 'again, there is nothing to do');
is($node->safe_psql('shop', 'SELECT schema FROM order_mgmt.version()'), '3', 'it is of version 3');
ok(becomes($node, 'shop', q(SELECT count(worker_pid) FROM order_mgmt.queues), '4', 60), 'workers come by themselves');
is($node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker'))), 't', 'what was half checked');
settle($node, 'shop', 'migrated');
is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.orders WHERE order_id IN ('" . join("','", @waiting) . "') AND status = 'shipped'"), '20', 'has shipped');

sub same_as_fresh
{
	my ($database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($database, "$definitions") =~ s/^order_mgmt\.\w+_2024\w+\|.*\n//gmr, $node->safe_psql('fresh', $definitions), "$database: each constraint is as setup() makes it, on each partition");
	is($node->safe_psql($database, $relations), $node->safe_psql('fresh', $relations), "$database: all tables are there, and are whose they should be");
	is($node->safe_psql($database, 'SELECT order_mgmt.setup()'), 'f', "$database: setup() finds nothing to mend");
	return;
}

# A model refuses an order, and the word is stored.
sub refuses
{
	my ($database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, <<'SQL');
CREATE SCHEMA IF NOT EXISTS shop;
GRANT USAGE ON SCHEMA shop TO order_mgmt_reader;
CREATE OR REPLACE FUNCTION shop.risk(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input->''metadata''->''risk''';
SELECT order_mgmt.create_model('risk', 'sql', '{"function": "shop.risk"}');
SQL
	$node->safe_psql('postgres', "ALTER DATABASE $database SET order_mgmt.check_model = 'risk'");
	my $id = $node->safe_psql($database, qq(SELECT order_mgmt.capture_order('c', $Shop::one_line, metadata => '{"risk": 0.9}')));
	is($node->safe_psql($database, "SELECT order_mgmt.wait_for_order('$id', '30 s')"), 'rejected', "$database: a model rejects an order");
	is($node->safe_psql($database, "SELECT reasons FROM order_mgmt.orders WHERE order_id = '$id'"), '{high_risk}', "$database: with its reason");
	settle($node, $database, $database);
	return;
}

same_as_fresh('shop');
refuses('shop');

# --- what was archived before ---------------------------------------------------------------------------------
is($node->safe_psql('shop', q(SELECT string_agg(DISTINCT status || reasons::text, ' ' ORDER BY status || reasons::text) FROM order_mgmt.archived_orders('2024-01-01'))),
	'rejected{insufficient_balance} shipped{}', 'an archive of before is read');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.restore_month('2024-01-01'))), '3', 'and restored');
is($node->safe_psql('shop', q(SELECT bool_and(pg_get_constraintdef(oid) LIKE '%high_risk%') FROM pg_constraint WHERE conname = 'orders_reasons_known' AND conrelid::regclass::text LIKE '%2024%')), 't', 'with the constraint of today');
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');

# --- a dump of before, and one of today -----------------------------------------------------------------------
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('restored'), $dump ], 'the dump of version 2 is restored');
is(error_of('restored', 'SELECT order_mgmt.post_restore();'), 'OM006', 'it is still of version 2');
is($node->safe_psql('restored', 'SELECT order_mgmt.migrate()'), 't', 'migrate()');
is($node->safe_psql('restored', "SELECT order_mgmt.post_restore();\nSELECT order_mgmt.resume_consumer('stock_checker');"), "t\nt", 'and goes on after post_restore()');
settle($node, 'restored', 'restored');
same_as_fresh('restored');
refuses('restored');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.new", $node->connstr('restored') ], 'a dump of today');
$node->safe_psql('postgres', 'CREATE DATABASE again TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('again'), "$dump.new" ], 'is restored');
is($node->safe_psql('again', q(SELECT count(*) FROM order_mgmt.orders WHERE reasons = '{high_risk}')), '1', 'with its reasons');
is($node->safe_psql('again', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');

# --- of a version that is not known -----------------------------------------------------------------------------
for my $version (1, 4)
{
	$node->safe_psql('fresh', "UPDATE order_mgmt.installation SET schema_version = $version");
	is(error_of('fresh', 'SELECT order_mgmt.migrate();'), 'OM006', "there is no way from version $version");
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|XX000/, 'nothing untoward in the log');
$node->stop;
done_testing();
