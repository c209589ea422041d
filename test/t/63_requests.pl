# Predictions that a worker makes after the commit, for transactions that may not wait for somebody outside.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use DBI;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $libraries = "$ENV{TESTDIR}/test/provider";
my $node = start_server('requests', "dynamic_library_path = '\$libdir:$libraries'", "order_mgmt.predict_providers = 'outside, faulty'", 'restart_after_crash = on');
new_shop($node, $_) for qw(shop other);

sub session
{
	my ($role) = @_;
	my $dbh = DBI->connect('dbi:Pg:' . $node->connstr('shop'), undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoInactiveDestroy => 1 });
	$dbh->do("SET ROLE $role") if $role;
	return $dbh;
}

sub answer
{
	my ($dbh, $sql) = @_;
	my $value = eval { ($dbh->selectrow_array($sql))[0] };
	return $@ ? $dbh->state . ' ' . $dbh->errstr =~ s/^ERROR: *//r : $value;
}

# A model of the kind that waits for somebody outside, and does this wrong
sub model
{
	my ($name, $options, $database) = @_;
	$node->safe_psql($database // 'shop', "SELECT order_mgmt.create_model('$name', 'outside', '$options'); SELECT * FROM order_mgmt.train_model('$name')");
	return;
}

sub request { my ($dbh, $model, $inputs) = @_; return answer($dbh, "SELECT order_mgmt.request_prediction('$model', '" . ($inputs // '[1, 2]') . "')"); }

sub state_of { my ($id) = @_; return "SELECT concat_ws(' ', status, outputs, error_code, attempts) FROM order_mgmt.prediction_answer($id)"; }

# As its role sees it, once it is so
sub ends
{
	my ($id, $expected, $what, $role) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(becomes($node, 'shop', 'SET ROLE ' . ($role // 'order_mgmt_app') . '; ' . state_of($id), $expected, 60), $what)
	  or diag $node->safe_psql('shop', 'SELECT * FROM order_mgmt.prediction_requests');
	return;
}

my $predictor = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt predictor' AND datname = 'shop');

model('good', '{"log_sample": 1}');
model('fallback', '{"fault": "throw", "fallback": "good"}');
model('local', '{"fault": "throw", "fallback": "seven"}');
model($_, qq({"fault": "$_"})) for qw(throw hang few);
$node->safe_psql('shop', <<'SQL');
CREATE FUNCTION public.seven(i jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '7'::jsonb$$;
SELECT order_mgmt.create_model('seven', 'sql', '{"function": "public.seven"}');
CREATE TABLE written (x int);
GRANT ALL ON written TO order_mgmt_app;
SQL

# --- what is asked --------------------------------------------------------------------------------

my ($app, $other) = (session('order_mgmt_app'), session('order_mgmt_reader'));
like(answer($app, "SELECT order_mgmt.request_prediction('good', $_)"), qr/^OM001 .*inputs/s, "inputs $_") for 'NULL', q('{}'), q('1'), q('[]'), q((SELECT jsonb_agg(n) FROM generate_series(1, 10001) AS n));
like(answer($app, q(SELECT order_mgmt.request_prediction(NULL, '[1]'))), qr/^OM001 .*model/s, 'no model');
like(request($app, 'absent'), qr/^OM004/, 'one that is not there');
like(request($app, 'seven'), qr/^OM005 .*answers in the database.*predict\(\)/s, 'one that need not be waited for');
like(answer($app, 'SELECT * FROM order_mgmt.prediction_answer(NULL)'), qr/^OM001 .*request_id/s, 'which answer?');
$app->do('BEGIN READ ONLY');
like(request($app, 'good'), qr/^25006/, 'not where nothing may be written');
$app->do('ROLLBACK');
like(answer($app, 'SELECT * FROM order_mgmt.prediction_requests'), qr/^42501/, 'an application sees its answers only');
is(answer($app, "SELECT has_function_privilege('$_', 'order_mgmt.request_prediction(text, jsonb)', 'EXECUTE')::int"), $_ eq 'public' ? 0 : 1, "may $_ ask?")
  for qw(order_mgmt_reader order_mgmt_app order_mgmt_analyst public);

# --- after the commit, and only then -----------------------------------------------------------------

$app->do('BEGIN');
$app->do('INSERT INTO written VALUES (1)');
my $first = request($app, 'good');
like($first, qr/^\d+$/, 'a transaction that has written may ask');
is(answer($app, state_of($first)), 'waiting 0', 'it waits');
$app->do('SAVEPOINT s');
my $second = request($app, 'good');
$app->do('ROLLBACK TO s');
$app->do('LISTEN order_mgmt_predictions');
is($node->safe_psql('shop', $predictor), '', 'and nobody works at it');
$app->do('COMMIT');
ends($first, 'answered [1, 1] 1', 'committed, it is answered');
is(answer($app, state_of($second)), undef, 'what was rolled back is not there');
my $notice;
for (my $deadline = time + 60; !$notice && time < $deadline; select undef, undef, undef, 0.05) { $notice = $app->pg_notifies }
is("$notice->[0] $notice->[2]", "order_mgmt_predictions $first", 'who listens is told');
is(answer($other, state_of($first)), undef, 'others do not see it');
is($node->safe_psql('shop', q(SELECT count(*) || ' ' || min(model) FROM order_mgmt.prediction_log)), '2 good', 'the log has it');
is($node->safe_psql('shop', q(SELECT string_agg(requested_by || ' ' || model, ', ') FROM order_mgmt.prediction_requests)), 'order_mgmt_app good', 'the table says who asked');
my @many = map { request($app, 'good', "[$_]") } 1 .. 30;
ends($many[-1], 'answered [1] 1', 'many are answered');
is($node->safe_psql('shop', q(SELECT count(*) FROM order_mgmt.prediction_requests WHERE outputs IS NULL)), '0', 'all of them');

# --- failures --------------------------------------------------------------------------------------------

my $throw = request($app, 'throw');
ok(becomes($node, 'shop', 'SET ROLE order_mgmt_app; ' . "SELECT concat_ws(' ', status, error_code) FROM order_mgmt.prediction_answer($throw) WHERE error ~ 'prediction by model \"throw\" .*cannot predict'", 'waiting OM008', 60), 'one that fails is to be tried again');
$node->safe_psql('shop', q(SELECT order_mgmt.set_model_options('throw', '{}')));
ok(becomes($node, 'shop', "SET ROLE order_mgmt_app; SELECT status, outputs, attempts > 1 FROM order_mgmt.prediction_answer($throw)", 'answered|[1, 1]|t', 90), 'and is answered when it works again');
my $few = request($app, 'few');
$node->safe_psql('shop', "UPDATE order_mgmt.prediction_requests SET attempts = 4, due = now() WHERE request_id = $few");
request($app, 'good');
ends($few, 'failed OM008 5', 'five failures are enough');
my $local = request($app, 'local');
ok(becomes($node, 'shop', "SELECT error ~ 'fallback \"seven\" has failed as well: .*is not asked by this worker' FROM order_mgmt.prediction_requests WHERE request_id = $local", 't', 60), 'no code of users runs in the worker');
ends(request($app, 'fallback'), 'answered [1, 1] 1', 'another model outside may answer for one that fails');
$app->do('BEGIN');
my $gone = request($app, 'few');
$node->safe_psql('shop', q(SELECT order_mgmt.drop_model('few')));
$app->do('COMMIT');
ends($gone, 'failed OM004 1', 'a model that is gone is not asked again');

# --- nothing is held meanwhile -----------------------------------------------------------------------------

my $hang = request($app, 'hang');
ok(becomes($node, 'shop', "SELECT attempts FROM order_mgmt.prediction_requests WHERE request_id = $hang", '1', 60), 'a model does not answer');
my $pid = $node->safe_psql('shop', $predictor);
ok(becomes($node, 'shop', "SELECT count(*) > 0 FROM pg_locks WHERE pid = $pid AND relation = 'order_mgmt.model_definitions'::regclass OR pid = $pid AND virtualxid IS NOT NULL", 't', 60), 'the worker is in a transaction');
is($node->safe_psql('shop', "SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks WHERE pid = $pid AND locktype <> 'virtualxid' AND locktype <> 'advisory' AND mode <> 'AccessShareLock'"), '', 'which keeps nobody from anything');
is($node->safe_psql('shop', "SELECT backend_xid IS NULL FROM pg_stat_activity WHERE pid = $pid"), 't', 'and has written nothing');
$node->safe_psql('shop', 'VACUUM FULL order_mgmt.prediction_requests');
$node->safe_psql('shop', q(SELECT order_mgmt.set_model_options('hang', '{}')));
ok(kill_process($node, $pid), 'killed, it takes the server with it, which comes back');
ends($hang, 'answered [1, 1] 2', 'and the request is served by the next');

# --- databases that go -----------------------------------------------------------------------------------------

model('hang', '{"fault": "hang"}', 'other');
$node->safe_psql('other', q(SELECT order_mgmt.request_prediction('hang', '[1]')));
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt predictor' AND datname = 'other'), '1', 60), 'a worker of another database waits');
is($node->safe_psql('postgres', 'DROP DATABASE other'), '', 'which can be dropped');

# --- purging -----------------------------------------------------------------------------------------------------

($app, $other) = (session('order_mgmt_app'), session('order_mgmt_operator'));
model('late', '{"fault": "hang"}');
my $late = request($app, 'late');
$node->safe_psql('shop', 'TRUNCATE order_mgmt.prediction_log');
is(answer($other, 'SELECT order_mgmt.purge_predictions()'), '0', 'answers are kept for a while');
my $answered = $node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.prediction_requests WHERE answered_at IS NOT NULL');
$node->safe_psql('shop', "UPDATE order_mgmt.prediction_requests SET answered_at = answered_at - interval '91 days'");
is(answer($other, 'SELECT order_mgmt.purge_predictions()'), $answered, 'and go then');
is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.prediction_requests WHERE request_id = $late"), '1', 'but for those that wait');

is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
$_->disconnect for $app, $other;
done_testing();
