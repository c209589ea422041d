# Providers in libraries of their own: a good one, and those that do all that a provider should not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use DBI;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $libraries = "$ENV{TESTDIR}/test/provider";
my $node = start_server('providers', "dynamic_library_path = '\$libdir:$libraries'", 'max_prepared_transactions = 2');
new_shop($node, 'shop');

sub session
{
	my ($role) = @_;
	my $dbh = DBI->connect('dbi:Pg:' . $node->connstr('shop'), undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoInactiveDestroy => 1 });
	$dbh->do("SET ROLE $role") if $role;
	return $dbh;
}

# SQLSTATE and message of what a statement raises; its value when it does not.
sub answer
{
	my ($dbh, $sql, @arguments) = @_;
	my $value = eval { ($dbh->selectrow_array($sql, undef, @arguments))[0] };
	return $@ ? $dbh->state . ' ' . $dbh->errstr =~ s/^ERROR: *//r : $value;
}

sub as { my ($dbh, $what) = @_; return answer($dbh, "SELECT order_mgmt.$what"); }

# --- the allow-list -------------------------------------------------------------------------------

my $dbh = session();
like(as($dbh, q(create_model('m', 'sample'))), qr/^OM008 .*"sample": there is none built in, and no library.*order_mgmt\.predict_providers/s, 'what is not in the list is not loaded');
like(as($dbh, q(create_model('m', '../sample'))), qr/^OM001 kind is not the name/, 'a path is no kind');
my $app = session('order_mgmt_app');
like(answer($app, q(SELECT set_config('order_mgmt.predict_providers', 'sample', false))), qr/^42501/, 'an application does not extend the list');
my $admin = session('order_mgmt_admin');
like(answer($admin, q(SELECT set_config('order_mgmt.predict_providers', 'sample', false))), qr/^42501/, 'nor does an administrator of the shop');
like(answer($dbh, q(SELECT set_config('order_mgmt.predict_providers', 'a b', false))), qr/^22023/, 'a list has commas');
my @bad = qw(symbol abi null init kind callbacks training flags absent);
$node->safe_psql('shop', "ALTER DATABASE shop SET order_mgmt.predict_providers = 'sample, faulty, outside, " . join(', ', @bad) . "'");
$_->disconnect for $dbh, $app, $admin;
($dbh, $app, $admin) = (session(), session('order_mgmt_app'), session('order_mgmt_admin'));

# --- the sample -----------------------------------------------------------------------------------

is(as($admin, q(create_model('mean', 'sample', '{"query": "SELECT x FROM generate_series(1, 9) AS x"}'))), 1, 'the sample is a kind');
like(as($admin, q(create_model('other', 'sample'))), qr/^OM001 options\.query is missing/, 'it checks its options');
like(as($app, q(predict('mean', '{}'))), qr/^OM005 model "mean" has no version that is deployed/, 'not trained, it does not predict');
is(as($admin, q(train_model('mean'))) =~ /^\(mean,sample,1,t,/, 1, 'trained, it has a version');
is(as($app, q(predict('mean', '{"times": 2}'))), '10', 'which predicts');
is(answer($app, q(SELECT string_agg(ordinal || ':' || output, ' ' ORDER BY ordinal) FROM order_mgmt.predict_batch('mean', '[{"times": 1}, {}, {"times": 0}]'))),
	'1:5 2:5 3:0', 'a batch too');
is(answer($app, q(SELECT count(*) || ' ' || sum(output::numeric) FROM order_mgmt.predict_query('mean', 'SELECT x AS times FROM generate_series(1, 2500) AS x'))),
	'2500 15631250', 'and the rows of a query');

# --- libraries that are none ----------------------------------------------------------------------

my %fault = (
	symbol => qr/could not find function "order_mgmt_provider_init"/,
	abi => qr/has ABI 3, order_mgmt has 2/,
	null => qr/does not work with ABI 2/,
	flags => qr/wants what this version cannot do/,
	init => qr/cannot begin/,
	kind => qr/one of another kind/,
	callbacks => qr/cannot predict/,
	training => qr/cannot train/,
	absent => qr/could not access file "order_mgmt_absent"/);
for my $kind (@bad)
{
	for my $try (1, 2)
	{
		my $said = as($admin, "create_model('x', '$kind')");
		like($said, qr/^OM008 .*models of kind "$kind".*$fault{$kind}/s, "library $kind, attempt $try");
	}
}
is(as($admin, q(predict('mean', '{}'))), '5', 'the session goes on');

# --- providers that misbehave -----------------------------------------------------------------------

$admin->do('RESET ROLE');
$admin->do('CREATE TABLE written (x int)');
$admin->do('GRANT INSERT ON written TO order_mgmt_app');
$admin->do(q(CREATE FUNCTION public.seven(i jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '7'::jsonb$$));
as($admin, q(create_model('seven', 'sql', '{"function": "public.seven"}')));
sub faulty
{
	my ($fault) = @_;
	as($admin, "create_model('$fault', 'faulty', '{\"fault\": \"$fault\"}')");
	return as($admin, "train_model('$fault')");
}
like(as($admin, q(create_model('v', 'faulty', '{"fault": "validate"}'))), qr/^OM008 .*checking the options of model "v" \(kind "faulty"\) failed: cannot validate/s, 'validating fails');
like(faulty('train'), qr/^OM008 .*training model "train" \(kind "faulty"\) failed: cannot train.*"error_code": "22012".*Do not try/s, 'training fails');
like(faulty('train nothing'), qr/^OM008 .*has made no model/s, 'training makes nothing');
like(faulty('train scalar'), qr/^OM008 .*metrics are no JSON object/s, 'metrics that are none');

my @faults = ([ 'throw', qr/failed: cannot predict/ ], [ 'elog', qr/failed: cannot predict/ ], [ 'write and throw', qr/failed: cannot predict/ ],
	[ 'few', qr/has answered 1 of 2 inputs/ ], [ 'many', qr/has answered 3 of 2 inputs/ ], [ 'none', qr/has answered 0 of 2 inputs/ ],
	[ 'null', qr/has left output 1 empty/ ], [ 'behind', qr/has written behind the last output/ ], [ 'load', qr/failed: cannot load/ ]);
my $state = q(SELECT concat_ws(' ', current_user, current_setting('search_path'), (SELECT count(*) FROM public.written)));
$admin->do('GRANT SELECT ON written TO order_mgmt_app');
my $before = answer($app, $state);
for my $case (@faults)
{
	my ($fault, $expected) = @$case;
	like(faulty($fault), qr/^\(/, "$fault: it trains");
	my $batch = "SELECT string_agg(output::text, ' ' ORDER BY ordinal) FROM order_mgmt.predict_batch('$fault', '[1, 2]')";
	for my $try (1, 2)
	{
		like(answer($app, $batch), qr/^OM008 .*model "$fault" \(kind "faulty"\).*$expected.*"kind": "faulty"/s, "$fault, attempt $try");
	}
	is(answer($app, $state), $before, "$fault: the session is as it was");
	as($admin, "set_model_options('$fault', '{\"fault\": \"$fault\", \"fallback\": \"seven\", \"log_sample\": 1}')");
	is(answer($app, $batch), '7 7', "$fault: its fallback answers");
	is(answer($admin, "SELECT string_agg(model || ' ' || coalesce(error_code, output::text), ',' ORDER BY prediction_id) FROM order_mgmt.prediction_log"),
		$fault eq 'load' ? undef : join(',', ("$fault " . ($fault =~ /throw/ && $fault ne 'write and throw' ? '22000' : $fault =~ /elog|write/ ? 'XX000' : 'OM008')) x 2),
		"$fault: the log says that it failed");
	$admin->do('TRUNCATE order_mgmt.prediction_log');
}
for my $fault (qw(settings role context spi))
{
	faulty($fault);
	is(as($app, "predict('$fault', '1')"), '1', "$fault: it answers");
	is(answer($app, "$state -- $fault") , $fault eq 'spi' ? $before =~ s/0$/1/r : $before, "$fault: and changes nothing of the session");
}
faulty('train role');
is(answer($admin, 'SELECT current_user'), answer($admin, 'SELECT session_user'), 'nor does a training');
faulty('conflict');
as($admin, q(set_model_options('conflict', '{"fault": "conflict", "fallback": "seven"}')));
like(as($app, q(predict('conflict', '1'))), qr/^40001/, 'who is to try again is told so, whatever the fallback');
faulty('evaluate');
like(answer($admin, q(SELECT value FROM order_mgmt.evaluate_model('evaluate'))), qr/^OM008 .*evaluating model "evaluate" .*cannot evaluate/s, 'evaluating fails');
faulty('good');
is(answer($admin, q(SELECT metric || value FROM order_mgmt.evaluate_model('good'))), 'one1', 'a kind measures itself');

# --- fallbacks in circles, and chains ---------------------------------------------------------------

as($admin, q(set_model_options('throw', '{"fault": "throw", "fallback": "elog"}')));
as($admin, q(set_model_options('elog', '{"fault": "elog", "fallback": "throw"}')));
like(as($app, q(predict('throw', '1'))), qr/^OM008 .*model "throw".*Its fallback "elog" has failed as well/s, 'a circle of fallbacks ends');
as($admin, q(set_model_options('elog', '{"fault": "elog", "fallback": "nobody"}')));
like(as($app, q(predict('throw', '1'))), qr/^OM008 .*model "throw".*"nobody" has failed as well: there is no model "nobody"/s, 'so does a chain to nowhere');
as($admin, q(set_model_options('elog', '{"fault": "elog", "fallback": "seven"}')));
is(as($app, q(predict('throw', '1'))), '7', 'the third of a chain answers');
as($admin, q(create_model('new', 'sample', '{"query": "SELECT 1", "fallback": "seven"}')));
is(as($app, q(predict('new', '{}'))), '7', 'one that has not been trained has a fallback too');
like(as($app, q(predict('nobody', '1'))), qr/^OM004/, 'one that is not there has none');

# --- time limits and cancellation -------------------------------------------------------------------

faulty('hang');
$app->do(q(SET order_mgmt.predict_timeout = '50ms'));
like(as($app, q(predict('hang', '1'))), qr/^OM008 .*model "hang".*no answer within 50 ms/s, 'the time limit of the session');
$app->do('SET order_mgmt.predict_timeout = 0');
as($admin, q(set_model_options('hang', '{"fault": "hang", "timeout_ms": 60, "fallback": "seven"}')));
is(as($app, q(predict('hang', '1'))), '7', 'that of the model, and its fallback');
is(answer($app, q(SELECT count(order_mgmt.predict('hang', '1')) FROM generate_series(1, 5))), '5', 'time after time');
as($admin, q(set_model_options('hang', '{"fault": "hang", "timeout_ms": 600000, "fallback": "seven"}')));
$app->do(q(SET statement_timeout = '50ms'));
like(as($app, q(predict('hang', '1'))), qr/^57014 .*statement timeout/, 'the time limit of the statement is no failure of the model');
$app->do('SET statement_timeout = 0');
$app->do(q(SELECT order_mgmt.predict('hang', '1')), { pg_async => DBD::Pg::PG_ASYNC() });
my $pid = $app->{pg_pid};
ok(becomes($node, 'shop', "SELECT state FROM pg_stat_activity WHERE pid = $pid", 'active', 60), 'it hangs');
$admin->do("SELECT pg_cancel_backend($pid)");
eval { $app->pg_result };
like($app->state, qr/^57014/, 'nor is a cancellation');
is(as($app, q(predict('seven', '1'))), '7', 'and the session goes on');

# A limit inside another: the nearer one strikes, whichever it is.
$admin->do(q(CREATE FUNCTION public.outer(i jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT order_mgmt.predict('hang', i)$$));
as($admin, q(create_model('outer', 'sql', '{"function": "public.outer", "timeout_ms": 60}')));
like(as($app, q(predict('outer', '1'))), qr/^OM008 .*model "outer".*no answer within 60 ms/s, 'the limit of the outer prediction');
as($admin, q(set_model_options('hang', '{"fault": "hang", "timeout_ms": 60, "fallback": "seven"}')));
as($admin, q(set_model_options('outer', '{"function": "public.outer", "timeout_ms": 600000}')));
is(as($app, q(predict('outer', '1'))), '7', 'the limit of the inner one');
$admin->do(q(CREATE FUNCTION public.later(i jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN
	PERFORM order_mgmt.predict('settings', i);
	PERFORM pg_sleep(600);
	RETURN i;
END$$));
as($admin, q(set_model_options('settings', '{"fault": "settings", "timeout_ms": 2000}')));
as($admin, q(create_model('later', 'sql', '{"function": "public.later", "timeout_ms": 3000}')));
$app->do(q(SET statement_timeout = '60s'));
like(as($app, q(predict('later', '1'))), qr/^OM008 .*model "later".*no answer within 3000 ms/s, 'the outer one still counts when the inner has not struck');
$app->do('SET statement_timeout = 0');
as($admin, q(create_model('self', 'sql', '{"function": "public.self"}'))) if $admin->do(q(CREATE FUNCTION public.self(i jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT order_mgmt.predict('self', i)$$));
like(as($app, q(predict('self', '1'))), qr/^OM008 .*more than 16 deep/s, 'one that asks itself comes to an end');

# Loading and evaluating have limits, too
faulty('load hang');
as($admin, q(set_model_options('load hang', '{"fault": "load hang", "timeout_ms": 60}')));
like(as($app, q(predict('load hang', '1'))), qr/^OM008 .*loading model "load hang".*no answer within 60 ms.*timeout_ms/s, 'loading has the limit of an answer');
as($admin, q(set_model_options('load hang', '{"fault": "load hang", "timeout_ms": 60, "fallback": "seven"}')));
is(as($app, q(predict('load hang', '1'))), '7', 'and a fallback that answers');
as($admin, q(set_model_options('load hang', '{"fault": "load hang", "fallback": "seven"}')));
$app->do(q(SET statement_timeout = '50ms'));
like(as($app, q(predict('load hang', '1'))), qr/^57014/, 'without a limit it can be cancelled');
$app->do('SET statement_timeout = 0');
$app->do('BEGIN');
$app->do('SAVEPOINT s');
as($admin, q(set_model_options('load hang', '{"fault": "load hang", "timeout_ms": 60}')));
like(as($app, q(predict('load hang', '1'))), qr/^OM008/, 'what was being loaded');
$app->do('ROLLBACK TO s');
is(as($app, q(predict('seven', '1'))), '7', 'leaves the transaction as it was');
$app->do('COMMIT');
faulty('evaluate hang');
my $measure = q(SELECT value FROM order_mgmt.evaluate_model('evaluate hang', '{%s}'));
like(answer($admin, sprintf $measure, '"timeout_ms": 60'), qr/^OM008 .*evaluating model "evaluate hang".*no answer within 60 ms.*of the evaluation/s, 'an evaluation has one if one is named');
like(answer($admin, sprintf $measure, qq("timeout_ms": $_)), qr/^OM001 .*timeout_ms/s, "which is not $_") for '-1', '1.5', '"1"', 'true';
$admin->do(q(SET statement_timeout = '50ms'));
like(answer($admin, sprintf $measure, '"version": 1'), qr/^57014/, 'else it can be cancelled');
$admin->do('SET statement_timeout = 0');
like(answer($admin, q(SELECT * FROM order_mgmt.evaluate_model('outer', '{"query": "SELECT pg_sleep(600), 1 AS label", "timeout_ms": 60}'))), qr/^OM008 .*evaluating model "outer".*no answer within 60 ms/s, 'that of the query counts for it');
like(answer($admin, q(SELECT * FROM order_mgmt.evaluate_model('outer', '{"query": "SELECT 1 / 0 AS x, 1 AS label", "timeout_ms": 6000}'))), qr/^22012/, 'whose errors are what they are');

# Next orders: a batch of customers has the limit of the model, and who locks the orders makes it strike
as($admin, q(create_model('next', 'next_basket', '{"algorithm": "personal_frequency", "timeout_ms": 60000}')));
$node->safe_psql('shop', q(SELECT order_mgmt.set_stock('p', 1000), order_mgmt.set_account('c' || n, 10) FROM generate_series(1, 60) AS n));
$node->safe_psql('shop', q(SELECT order_mgmt.capture_order('c' || n, '[{"product_id": "p", "quantity": 1, "unit_price": 1}]') FROM generate_series(1, 60) AS n));
as($admin, q(train_model('next')));
my $next = q(SELECT count(DISTINCT customer_id) FROM order_mgmt.predict_next_orders(%s, 3, 'next'));
is(answer($app, sprintf $next, 'NULL'), '60', 'next orders within the limit');
as($admin, q(set_model_options('next', '{"algorithm": "personal_frequency", "timeout_ms": 200}')));
my $locker = session();
$locker->begin_work;
$locker->do('LOCK TABLE order_mgmt.orders');
like(answer($app, sprintf $next, $_), qr/^OM008 .*model "next" \(kind "next_basket"\).*no answer within 200 ms/s, "predict_next_orders($_) under the limit") for 'NULL', q('{c1}');
like(answer($app, q(SELECT count(*) FROM order_mgmt.predict_next_order('c1', 3, 'next'))), qr/^OM008 .*no answer within 200 ms/s, 'and predict_next_order()');
like(answer($app, q(SELECT count(*) FROM order_mgmt.predict_next_orders('{c1,c2}', 3, 'hang'))), qr/^OM008/, 'a fallback must answer with products');
as($admin, q(set_model_options('next', '{"algorithm": "personal_frequency", "timeout_ms": 200, "fallback": "products"}')));
$admin->do(q(CREATE FUNCTION public.products(i jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '[{"product_id": "q", "score": 1}]'::jsonb$$));
as($admin, q(create_model('products', 'sql', '{"function": "public.products"}')));
is(answer($app, q(SELECT string_agg(customer_id || product_id, ' ') FROM order_mgmt.predict_next_orders('{c1,c2}', 3, 'next'))), 'c1q c2q', 'and then does');
$locker->rollback;

# So have forecasts and reorders
my $load = $node->safe_psql('shop', <<'SQL');
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price, created_at) SELECT 'r' || n, 'c1', 'p', 1, 1, '2026-01-05'::timestamptz + n * interval '1 day' FROM generate_series(1, 60) AS n;
SELECT order_mgmt.load_orders_csv('staged', 'history');
SQL
is($node->safe_psql('shop', "SELECT status FROM order_mgmt.wait_for_load($load, '60 s')"), 'done', 'some history');
as($admin, qq(create_model('$_', 'demand', '{"from": "history"}'))), as($admin, qq(train_model('$_'))) for qw(slow quick);
as($admin, q(set_model_options('slow', '{"from": "history", "timeout_ms": 60000, "log_sample": 1}')));
$admin->do(q(SELECT order_mgmt.set_product('unsold', 'Unsold')));
my $forecast = q(SELECT count(*) FROM order_mgmt.forecast_demand('unsold', 3, 'slow'));
is(answer($app, $forecast), '3', 'a forecast within the limit');
as($admin, q(set_model_options('slow', '{"from": "history", "timeout_ms": 200, "log_sample": 1}')));
$locker->begin_work;
$locker->do('LOCK TABLE order_mgmt.products');
like(answer($app, $forecast), qr/^OM008 .*prediction by model "slow" \(kind "demand"\) failed: no answer within 200 ms/s, 'and one that is not');
$locker->rollback;
is($node->safe_psql('shop', q(SELECT string_agg((input->>'product_id') || ' ' || (input->'days') || ' ' || coalesce(error_code, 'answered'), ', ' ORDER BY prediction_id) FROM order_mgmt.prediction_log WHERE model = 'slow')),
	'unsold 3 answered', 'the log has what was answered');
as($admin, q(set_model_options('slow', '{"from": "history", "timeout_ms": 60000, "log_sample": 1}')));
is(answer($app, q(SELECT count(*) FROM order_mgmt.suggest_reorder(7, 'slow'))), '1', 'a reorder within the limit');
is(answer($app, sprintf $next, q('{c1,c2,c3}')), '3', 'the session goes on');

# --- those that wait for somebody outside -------------------------------------------------------------

$admin->do('GRANT ALL ON written TO order_mgmt_app');
as($admin, q(create_model('out', 'outside', '{"fallback": "seven", "log_sample": 1}')));
is(as($admin, q(train_model('out'))) =~ /^\(out,outside,1,t,/, 1, 'such a model is trained');
is(as($app, q(predict('out', '1'))), '1', 'and answers');

# Within a transaction block: what was done before decides
sub after
{
	my ($before, $what) = @_;
	$app->do('BEGIN');
	$app->do($_) for @$before;
	my $said = answer($app, $what // q(SELECT order_mgmt.predict('out', '2')));
	$app->do('ROLLBACK');
	return $said;
}
is(after([ $_ ]), '1', "after $_") for 'SELECT 1', 'SELECT count(*) FROM written', q(SELECT order_mgmt.predict('out', '3')), 'LOCK TABLE written IN ROW EXCLUSIVE MODE',
	'SAVEPOINT s', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'SET TRANSACTION READ ONLY';
$admin->do('INSERT INTO written VALUES (42)');
for my $before ([ 'INSERT INTO written VALUES (2)' ], [ 'SELECT * FROM written FOR KEY SHARE' ], [ 'SELECT * FROM written FOR UPDATE' ],
	[ 'SAVEPOINT s', 'INSERT INTO written VALUES (2)' ], [ 'SAVEPOINT s', 'INSERT INTO written VALUES (2)', 'RELEASE s' ], [ 'UPDATE written SET x = x' ],
	[ q(SELECT order_mgmt.capture_order('out', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]')) ])
{
	like(after($before), qr/^OM005 .*model "out" \(kind "outside"\) is not asked in a transaction that has changed or locked rows.*\{"model": "out", "kind": "outside"\}.*request_prediction/s, "not after @$before");
}
like(after([ "LOCK TABLE written IN $_ MODE" ]), qr/^OM005 .*has (locked a table|changed)/s, "nor with a lock in $_ mode") for 'SHARE UPDATE EXCLUSIVE', 'SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE';
my @write = ('INSERT INTO written VALUES (2)');
like(after(\@write, $_), qr/^OM005 .*is not asked in a transaction/s, $_)
	for q(SELECT * FROM order_mgmt.predict_batch('out', '[1]')), q(SELECT * FROM order_mgmt.predict_query('out', 'SELECT 1 AS x')), q(SELECT * FROM order_mgmt.predict_next_order('c1', 1, 'out')),
	q(SELECT * FROM order_mgmt.predict_next_orders('{c1}', 1, 'out')), q(SELECT * FROM order_mgmt.invoke_endpoint('out', NULL, '1'));
$app->do('SET ROLE order_mgmt_admin');
$admin->do('GRANT ALL ON written TO order_mgmt_admin');
like(after(\@write, $_), qr/^OM005 .*is not asked in a transaction/s, $_) for q(SELECT order_mgmt.train_model('out')), q(SELECT * FROM order_mgmt.evaluate_model('out'));
$app->do('SET ROLE order_mgmt_app');
is(after(\@write, q(SELECT order_mgmt.predict('seven', '1'))), '7', 'others are');
like(after([], q(INSERT INTO written SELECT order_mgmt.predict('out', to_jsonb(x))::int FROM generate_series(1, 3) AS x)), qr/^OM005/, 'not for each row that a statement writes');
is(after([ q(INSERT INTO written SELECT output::int FROM order_mgmt.predict_query('out', 'SELECT x FROM generate_series(1, 3) AS x')) ], 'SELECT count(*) FROM written WHERE x = 1'), '4', 'but for all of them before');

# What is logged waits for the commit, and is part of the transaction
my $logged = q(SELECT string_agg(coalesce(input::text, '') || coalesce(error_code, ''), ' ' ORDER BY prediction_id) FROM order_mgmt.prediction_log);
$admin->do('TRUNCATE order_mgmt.prediction_log');
$app->do('BEGIN');
is(as($app, qq(predict('out', '$_'))), '1', "prediction $_") for 1, 2;
$app->do('SAVEPOINT s');
as($app, q(predict('out', '3')));
$app->do('ROLLBACK TO s');
as($app, q(predict('out', '4')));
$app->do('SAVEPOINT t');
as($app, q(predict('out', '5')));
$app->do('RELEASE t');
is($node->safe_psql('shop', $logged), '', 'nothing is logged yet');
$app->do('COMMIT');
is($node->safe_psql('shop', $logged), '1 2 4 5', 'what has not been rolled back is');
$app->do('BEGIN');
as($app, q(predict('out', '6')));
$app->do('ROLLBACK');
is(answer($app, q(SELECT count(order_mgmt.predict('out', to_jsonb(x))) FROM generate_series(7, 9) AS x)), '3', 'one statement, several predictions');
$app->do('BEGIN');
as($app, q(predict('out', '10')));
$app->do(q(PREPARE TRANSACTION 'p'));
$app->do('BEGIN READ ONLY');
is(as($app, q(predict('out', '11'))), '1', 'also where nothing may be written');
$app->do('COMMIT');
$admin->do(q(COMMIT PREPARED 'p'));
is($node->safe_psql('shop', $logged), '1 2 4 5 7 8 9 10', 'and nothing is lost');
as($admin, q(set_model_options('out', '{"fault": "throw", "fallback": "seven", "log_sample": 1}')));
as($admin, q(set_model_options('seven', '{"function": "public.seven", "log_sample": 1}')));
$admin->do('TRUNCATE order_mgmt.prediction_log');
$app->do('BEGIN');
is(as($app, q(predict('out', '1'))) . as($app, q(predict('out', '2'))), '77', 'a fallback answers, whose log waits as well');
$app->do('COMMIT');
is($node->safe_psql('shop', $logged), '122000 1 222000 2', 'with the failures');
as($admin, q(set_model_options('seven', '{"function": "public.seven"}')));
as($admin, q(set_model_options('out', '{}')));

$admin->do('RESET ROLE');

# --- bytes that somebody has changed -----------------------------------------------------------------

is(with_other_bytes($node, 'shop', 'mean', '{"times": 2}', 50), 'OM008 answer', 'the sample looks at its bytes');
is(as($app, q(predict('mean', '{"times": 2}'))), '10', 'and the session goes on');

# --- nothing is left behind -------------------------------------------------------------------------

my $fresh = session();
$fresh->do("CREATE FUNCTION public.faulty_loaded() RETURNS bigint LANGUAGE c AS '$libraries/order_mgmt_faulty', 'faulty_loaded'");
my $used = q(SELECT sum(used_bytes) FROM pg_backend_memory_contexts);
sub keep_failing
{
	$fresh->do(qq(DO \$\$DECLARE fault text; BEGIN
		FOR i IN 1 .. $_[0] LOOP FOREACH fault IN ARRAY '{elog,few,"null",behind,load,throw,none}'::text[] LOOP
			BEGIN PERFORM order_mgmt.predict(fault, '1'); EXCEPTION WHEN SQLSTATE 'OM008' THEN NULL; END;
		END LOOP; END LOOP; END\$\$));
	return answer($fresh, $used);
}
as($admin, qq(set_model_options('$_', '{"fault": "$_"}'))) for qw(elog few null behind load throw none);
my $first = keep_failing(20);
my $then = keep_failing(300);
cmp_ok($then, '<', $first + 65536, 'thousands of failures leave no memory behind');
is(answer($fresh, 'SELECT public.faulty_loaded()'), '6', 'models stay loaded');
$fresh->do('SET order_mgmt.model_cache_size = 0');
is(as($fresh, q(predict('good', '1'))), '1', 'without a cache');
is(answer($fresh, 'SELECT public.faulty_loaded()'), '1', 'one does');
as($admin, q(drop_model('good')));
like(as($fresh, q(predict('good', '1'))), qr/^OM004/, 'dropped, it is not there');

is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
my $log = slurp_file($node->logfile);
unlike($log, qr/was terminated by signal|PANIC|WARNING:.*leak/, 'no process has crashed');
$_->disconnect for $dbh, $app, $admin, $fresh, $locker;
done_testing();
