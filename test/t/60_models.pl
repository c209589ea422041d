# Models in several sessions, in a dump, and on a standby.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use DBI;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('models', 'wal_level = replica', 'max_wal_senders = 5', 'hot_standby = on');
new_shop($node, 'shop');
$node->safe_psql('shop', <<'SQL');
CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE TABLE test.source (x int);
GRANT SELECT ON test.source TO PUBLIC;
INSERT INTO test.source VALUES (1);
CREATE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(sum(x)) FROM test.source$$;
CREATE FUNCTION test.apply(input jsonb, model jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT model$$;
SELECT order_mgmt.create_model('sum', 'sql', '{"function": "test.apply", "train_function": "test.learn", "keep_versions": 1000, "log_sample": 1}');
SELECT order_mgmt.train_model('sum');
SQL

sub session
{
	my ($role, $to) = @_;
	my $dbh = DBI->connect('dbi:Pg:' . ($to // $node)->connstr('shop'), undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoInactiveDestroy => 1 });
	$dbh->do("SET ROLE $role") if $role;
	return $dbh;
}

sub answer
{
	my ($dbh, $sql) = @_;
	my $value = eval { ($dbh->selectrow_array($sql))[0] };
	return $@ ? $dbh->state : $value;
}

sub predict { return answer($_[0], q(SELECT order_mgmt.predict('sum', '{"customer_id": "c"}'))); }
my $train = q(SELECT version FROM order_mgmt.train_model('sum'));

# --- what one session changes, others use -----------------------------------------------------------

my ($app, $analyst, $admin) = (session('order_mgmt_app'), session('order_mgmt_analyst'), session('order_mgmt_admin'));
my $super = session();
is(predict($app), '1', 'version 1');
$super->do('INSERT INTO test.source VALUES (10)');
is(predict($app), '1', 'still');
is(answer($analyst, $train), '2', 'another session trains');
is(predict($app), '11', 'and all predict by version 2');
is(answer($admin, q(SELECT order_mgmt.deploy_model('sum', 1))), '1', 'another goes back');
is(predict($app), '1', 'and all do');

# Not before it has committed, and not at all if it has not
$admin->begin_work;
is(answer($admin, q(SELECT order_mgmt.deploy_model('sum', 2))), '1', 'one deploys, for the moment for itself');
is(predict($admin) . ' ' . predict($app), '11 1', 'others predict as before');
$admin->rollback;
is(predict($admin) . ' ' . predict($app), '1 1', 'rolled back, it predicts as before too');
$admin->begin_work;
$super->do('INSERT INTO test.source VALUES (100)');
is(answer($admin, $train), '3', 'one trains a version 3');
is(predict($admin), '111', 'and predicts by it');
$admin->rollback;
$super->do('INSERT INTO test.source VALUES (1000)');
is(answer($analyst, $train), '3', 'rolled back, the next one is version 3');
is(predict($admin) . ' ' . predict($app), '1111 1111', 'for all');

# A transaction with an old snapshot keeps nobody from what is new, also not itself later.
$app->begin_work;
$app->do('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ');
$app->do('SELECT count(*) FROM order_mgmt.models');
$super->do('INSERT INTO test.source VALUES (10000)');
is(answer($analyst, $train), '4', 'trained meanwhile');
predict($app);
$app->rollback;
is(predict($app), '11111', 'version 4');

# --- two at the same time -----------------------------------------------------------------------------

my @trainers = map { session('order_mgmt_analyst') } 1 .. 4;
for my $round (1 .. 5)
{
	$_->do($train, { pg_async => DBD::Pg::PG_ASYNC() }) for @trainers;
	predict($app);
	$_->pg_result for @trainers;
}
is($node->safe_psql('shop', q(SELECT count(*) || ' ' || max(version) || ' ' || max(version) FILTER (WHERE deployed) FROM order_mgmt.models)), '24 24 24', 'trainings at the same time make a version each');

# One waits for the other's transaction; a prediction for nobody
$analyst->begin_work;
answer($analyst, $train);
$trainers[0]->do($train, { pg_async => DBD::Pg::PG_ASYNC() });
ok(becomes($node, 'shop', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $trainers[0]{pg_pid}", 'Lock', 60), 'a training waits for another');
is(predict($app), '11111', 'a prediction does not');
$analyst->commit;
$trainers[0]->pg_result;
is($node->safe_psql('shop', q(SELECT max(version) FROM order_mgmt.models)), '26', 'then it goes on');

# Dropped while it is trained
$super->do(q(SELECT pg_advisory_lock(7)));
$super->do(q(CREATE OR REPLACE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(1) FROM pg_advisory_xact_lock(7)$$));
$analyst->do($train, { pg_async => DBD::Pg::PG_ASYNC() });
ok(becomes($node, 'shop', "SELECT wait_event FROM pg_stat_activity WHERE pid = $analyst->{pg_pid}", 'advisory', 60), 'a training is under way');
my $options = $node->safe_psql('shop', q(SELECT DISTINCT options FROM order_mgmt.models));
is(answer($admin, q(SELECT order_mgmt.drop_model('sum'))), '1', 'the model is dropped');
is(answer($admin, "SELECT order_mgmt.create_model('sum', 'sql', '$options')"), '1', 'and another made');
$super->do(q(SELECT pg_advisory_unlock(7)));
eval { $analyst->pg_result };
is($analyst->state, 'OM004', 'so the training was for nothing');
is(predict($app), 'null', 'the other is untrained');
$super->do(q(CREATE OR REPLACE FUNCTION test.learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT to_jsonb(sum(x)) FROM test.source$$));
is(answer($analyst, $train), '1', 'trained, it begins with version 1');
is(predict($app), '11111', 'and predicts');

# --- a standby ------------------------------------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $there = session('order_mgmt_app', $standby);
my $logged = $node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.prediction_log');
is(predict($there), '11111', 'a standby predicts');
is(answer($there, q(SELECT count(*) FROM order_mgmt.predict_query('sum', 'SELECT 1 AS x'))), '1', 'the rows of a query too');
is(answer($there, q(SELECT count(*) FROM order_mgmt.predict_batch('sum', '[1, 2]'))), '2', 'and a batch');
is(answer(session('order_mgmt_analyst', $standby), $train), '25006', 'but trains nothing');
$super->do('INSERT INTO test.source VALUES (100000)');
is(answer($analyst, $train), '2', 'what the primary trains');
$node->wait_for_catchup($standby);
is(predict($there), '111111', 'predicts on the standby, in the same session');
is($node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.prediction_log'), $logged, 'where nothing is logged');
$there->disconnect;
$standby->stop;

# --- a dump ---------------------------------------------------------------------------------------------

my $dump = $node->basedir . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('shop') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('copy'), $dump ], 'pg_restore -1');
my $models = 'SELECT name, version, deployed, trained_at, metrics, bytes, trained_by FROM order_mgmt.models ORDER BY 1, 2';
is($node->safe_psql('copy', $models), $node->safe_psql('shop', $models), 'the copy has the models');
is($node->safe_psql('copy', q(SELECT order_mgmt.predict('sum', '{}'))), '111111', 'which predict as they did');
is($node->safe_psql('copy', q(SELECT version FROM order_mgmt.train_model('sum'))), '3', 'and can be trained');
is($node->safe_psql('copy', 'SELECT count(*) > 0 FROM order_mgmt.prediction_log'), 't', 'the log is there as well');
is($node->safe_psql('copy', 'SELECT order_mgmt.setup()'), 'f', 'nothing is missing');

# --- a database of before there were models ----------------------------------------------------------------

$node->safe_psql('copy', 'DROP VIEW order_mgmt.models, order_mgmt.prediction_accuracy; DROP TABLE order_mgmt.model_definitions, order_mgmt.model_versions, order_mgmt.prediction_log');
my ($status, $out, $err) = $node->psql('copy', "\\set VERBOSITY verbose\nSELECT order_mgmt.predict('sum', '{}')");
like($err, qr/OM006.*model_definitions/s, 'says that setup() is to be run');
$node->safe_psql('copy', 'SELECT order_mgmt.setup()');
($status, $out, $err) = $node->psql('copy', "\\set VERBOSITY verbose\nSELECT order_mgmt.predict('sum', '{}')");
like($err, qr/OM004/, 'which makes what is missing');

is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
$_->disconnect for $app, $analyst, $admin, $super, @trainers;
done_testing();
