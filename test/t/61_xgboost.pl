# Models of kind xgboost: made-up data whose truth is known, mistakes, and the example of the documentation.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use DBI;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'libxgboost-dev is not here, so there is no order_mgmt_xgboost'
	if !-f (`pg_config --pkglibdir` =~ s/\s+$//r) . '/order_mgmt_xgboost.so';

my $node = start_server('xgboost', "order_mgmt.predict_providers = 'xgboost'");
new_shop($node, 'shop');

sub session
{
	my ($database, $role) = @_;
	my $dbh = DBI->connect('dbi:Pg:' . $node->connstr($database), undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoInactiveDestroy => 1 });
	$dbh->do("SET ROLE $role") if $role;
	return $dbh;
}

# SQLSTATE, message and detail of what a statement raises; its value when it does not.
sub answer
{
	my ($dbh, $sql, @arguments) = @_;
	my $value = eval { ($dbh->selectrow_array($sql, undef, @arguments))[0] };
	return $@ ? $dbh->state . ' ' . $dbh->errstr =~ s/^ERROR: *//r : $value;
}

my $dbh = session('shop');

# Makes a model of a query and other options, and trains it.
sub learn
{
	my ($name, $query, $options) = @_;
	answer($dbh, 'SELECT order_mgmt.drop_model(name) FROM order_mgmt.model_definitions WHERE name = $1', $name);
	my $made = answer($dbh, 'SELECT order_mgmt.create_model($1, \'xgboost\', $2::jsonb || jsonb_build_object(\'query\', $3::text, \'label\', \'y\'))', $name, $options // '{}', $query);
	return $made eq '1' ? answer($dbh, 'SELECT metrics FROM order_mgmt.train_model($1)', $name) : $made;
}

sub metric { my ($name, $key) = @_; return answer($dbh, 'SELECT metrics->>$2 FROM order_mgmt.models WHERE name = $1 AND deployed', $name, $key); }
sub predicted { my ($name, $input, $of) = @_; return answer($of // $dbh, 'SELECT order_mgmt.predict($1, $2)', $name, $input); }
sub score { my ($name, $input) = @_; return answer($dbh, 'SELECT v::float8 FROM jsonb_each_text(order_mgmt.predict($1, $2)) AS e (k, v)', $name, $input); }

# --- not in the list --------------------------------------------------------------------------------------

$dbh->do(q(SET order_mgmt.predict_providers = ''));
like(answer($dbh, q(SELECT order_mgmt.create_model('m', 'xgboost', '{"query": "SELECT 1", "label": "y"}'))), qr/^OM008 .*predict_providers/s, 'what is not in the list is not loaded');
unlike(slurp_file("/proc/" . $dbh->{pg_pid} . '/maps'), qr/xgboost/, 'not even mapped');
$dbh->do(q(RESET order_mgmt.predict_providers));

# --- options ----------------------------------------------------------------------------------------------

for my $case (
	[ '{"label": "y"}', '"query" is missing' ], [ '{"query": "SELECT 1"}', '"label" is missing' ],
	[ '{"query": 1, "label": "y"}', '"query" is not a string' ], [ '{"query": "SELECT 1", "label": "y", "objective": "rank:pairwise"}', '"objective" is another word' ],
	[ '{"query": "SELECT 1", "label": "y", "rounds": 0}', '"rounds" is out of range' ], [ '{"query": "SELECT 1", "label": "y", "rounds": 1.5}', '"rounds" is not a whole number' ],
	[ '{"query": "SELECT 1", "label": "y", "eta": "fast"}', '"eta" is not a number' ], [ '{"query": "SELECT 1", "label": "y", "eta": 1e400}', '"eta" is out of range' ], [ '{"query": "SELECT 1", "label": "y", "nthread": 4}', '"nthread" is out of range' ],
	[ '{"query": "SELECT 1", "label": "y", "validation_fraction": 0.9}', '"validation_fraction" is out of range' ], [ '{"query": "SELECT 1", "label": "y", "depth": 3}', '"depth" is not a known option' ])
{
	my ($options, $expected) = @$case;
	like(answer($dbh, q(SELECT order_mgmt.create_model('m', 'xgboost', $1)), $options), qr/^OM001 .*(?:$expected).*"path": "options\./s, $options);
}

# --- two classes --------------------------------------------------------------------------------------------
# y is true where a + b > 1; c is noise; every tenth a is missing; every hundredth label is not known.

$dbh->do(<<'SQL');
CREATE TABLE points AS SELECT n, (n * 7919 % 1000) / 1000.0::float8 AS a, (n * 104729 % 1000)::numeric / 1000 AS b, (n % 2 = 0) AS c
FROM generate_series(1, 3000) AS n;
CREATE VIEW known AS SELECT CASE WHEN n % 10 = 3 THEN NULL ELSE a END AS a, b, c, CASE WHEN n % 100 <> 7 THEN a + b::float8 > 1 END AS y FROM points ORDER BY n;
GRANT SELECT ON points, known TO order_mgmt_analyst;
SQL
my $metrics = learn('points', 'SELECT * FROM known', '{"seed": 7}');
like($metrics, qr/"measured_on": "validation"/, 'a model of two classes is trained');
is(metric('points', 'rows') + metric('points', 'rows_validated'), 2970, 'from the rows with a label');
is(metric('points', 'rows_skipped'), 30, 'without the others');
cmp_ok(metric('points', 'rows_validated'), '>', 500, 'a fifth of them validates');
cmp_ok(metric('points', 'rows_validated'), '<', 700, 'not more');
cmp_ok(metric('points', 'auc'), '>', 0.95, 'it tells them apart');
cmp_ok(metric('points', 'log_loss'), '<', 0.3, 'and is sure of it');
cmp_ok(score('points', '{"a": 0.9, "b": 0.9, "c": true}'), '>', 0.9, 'surely true');
cmp_ok(score('points', '{"a": 0.1, "b": 0.1, "c": true}'), '<', 0.1, 'surely not');
cmp_ok(score('points', '{"b": 0.999}'), '>', 0.8, 'what is missing is not zero');
is(predicted('points', '{"a": null, "b": 0.5}'), predicted('points', '{"b": 0.5}'), 'null is missing, too');
is(predicted('points', '{"b": 0.4, "c": 1, "a": 0.3}'), predicted('points', '{"a": 0.3, "b": 0.4, "c": true}'), 'whatever the order, and true is 1');
is(answer($dbh, q(SELECT count(*) || ' ' || bool_and(output = order_mgmt.predict('points', input)) FROM order_mgmt.predict_query('points', 'SELECT a, b, c FROM points ORDER BY n LIMIT 50'))),
	'50 true', 'a batch has the answers of its rows');
$dbh->begin_work;
$dbh->do(q(SELECT order_mgmt.set_model_options(name, options || '{"max_rows_per_batch": 1000000}') FROM order_mgmt.models WHERE name = 'points'));
is(answer($dbh, q(SELECT count(*) || ' ' || (count(DISTINCT (input, output)) = count(DISTINCT input)) FROM order_mgmt.predict_query('points',
	'SELECT a, b, c FROM (SELECT a, b, c FROM points ORDER BY n LIMIT 50) AS p, generate_series(1, 4001) AS g ORDER BY g'))),
	'200050 true', 'one of 200,000 too, which goes through in parts');
$dbh->rollback;
cmp_ok(answer($dbh, q(SELECT value FROM order_mgmt.evaluate_model('points', '{"query": "SELECT a, b, c, y FROM known", "label": "y"}') WHERE metric = 'auc')), '>', 0.95, 'evaluate_model() finds the same');
like(predicted('points', '{"d": 1}'), qr/^OM008 .*has no feature "d"/s, 'an unknown feature');
like(predicted('points', '{"a": "much"}'), qr/^OM008 .*feature "a" is not a number/s, 'a feature that is no number');
like(predicted('points', '[1]'), qr/^OM008 .*not a JSON object/s, 'an input that is no object');
like(slurp_file("/proc/" . $dbh->{pg_pid} . '/status'), qr/^Threads:\s+1$/m, 'the session has one thread');

# --- the same again, and another ----------------------------------------------------------------------------

my $bytes = q(SELECT md5(model) FROM order_mgmt.model_versions WHERE name = 'points' AND version = $1);
$dbh->do(q(SELECT order_mgmt.train_model('points')));
is(answer($dbh, $bytes, 2), answer($dbh, $bytes, 1), 'the same rows and seed give the same bytes');
my $first = predicted('points', '{"a": 0.5, "b": 0.5, "c": false}');
$dbh->do(q(SELECT order_mgmt.set_model_options('points', '{"query": "SELECT * FROM known", "label": "y", "seed": 8, "subsample": 0.5}')));
$dbh->do(q(SELECT order_mgmt.train_model('points')));
isnt(answer($dbh, $bytes, 3), answer($dbh, $bytes, 1), 'another seed does not');
isnt(predicted('points', '{"a": 0.5, "b": 0.5, "c": false}'), $first, 'nor the same answers');
$dbh->do(q(SELECT order_mgmt.deploy_model('points', 1)));
is(predicted('points', '{"a": 0.5, "b": 0.5, "c": false}'), $first, 'until the first version is deployed again');

# --- numbers ------------------------------------------------------------------------------------------------

like(learn('sum', 'SELECT a, b, 10 * a + b::float8 AS y FROM points ORDER BY n', '{"objective": "reg:squarederror", "rounds": 400}'), qr/"rmse": 0\.[0-9]/, 'a regression');
cmp_ok(abs(score('sum', '{"a": 0.5, "b": 0.5}') - 5.5), '<', 0.4, 'comes near the truth');
like(predicted('sum', '{"a": 0.5}'), qr/^\{"value": /, 'its answer is a value');
cmp_ok(metric('sum', 'rounds'), '<=', 400, 'and has no more rounds than it may');

# A label that is pure chance: what is learnt first is best, and the training ends soon.
learn('chance', 'SELECT a, b, hashint4(n) % 2 = 0 AS y FROM points ORDER BY n', '{"rounds": 1000, "eta": 0.5, "early_stopping_rounds": 5}');
cmp_ok(metric('chance', 'rounds'), '<', 50, 'chance ends the training early');
learn('chance', 'SELECT a, b, hashint4(n) % 2 = 0 AS y FROM points ORDER BY n', '{"rounds": 30, "eta": 0.5, "early_stopping_rounds": 0}');
is(metric('chance', 'rounds'), 30, 'unless all rounds are wanted');
like(learn('all', 'SELECT a, b, y FROM known', '{"validation_fraction": 0, "rounds": 30}'), qr/"rounds": 30.*"measured_on": "training"|"measured_on": "training".*"rounds": 30/, 'without validation all rounds are made');
is(metric('all', 'rows'), 2970, 'and all rows learnt from');

# --- mistakes -----------------------------------------------------------------------------------------------

for my $case (
	[ 'SELEKT', qr/syntax error/ ], [ 'SELECT a, y FROM nowhere', qr/"nowhere" does not exist/ ], [ 'DELETE FROM points RETURNING a AS y', qr/DELETE is not allowed/ ],
	[ 'SELECT a, y FROM known; SELECT 1', qr/multi-query/ ], [ 'SELECT a, b FROM known', qr/no column "y"/ ], [ 'SELECT y FROM known', qr/no features/ ],
	[ q(SELECT a, 'red' AS colour, y FROM known), qr/column "colour" of the query is of type text, not a number/ ], [ q(SELECT a, n::text AS y FROM points), qr/column "y" of the query is of type text/ ],
	[ 'SELECT a, a, y FROM known', qr/two columns "a"/ ], [ 'SELECT a, y FROM known LIMIT 20', qr/only [0-9]+ rows to learn from/ ], [ 'SELECT a, y FROM known WHERE false', qr/only 0 rows/ ],
	[ 'SELECT a, NULL::bool AS y FROM known', qr/only 0 rows/ ], [ 'SELECT a, true AS y FROM known', qr/all rows have label 1/ ], [ 'SELECT a, n AS y FROM points WHERE n > 1', qr/label [0-9]+ is neither 0 nor 1/ ],
	[ q(SELECT 'infinity'::float8 AS a, y FROM known), qr/XGBoost could not read the features: .*inf/i ])
{
	my ($query, $expected) = @$case;
	like(learn('wrong', $query), qr/^OM008 .*$expected/s, $query);
}
is(predicted('points', '{"a": 0.5, "b": 0.5, "c": false}'), $first, 'after all that the session is well');
like(predicted('wrong', '{"a": 1}'), qr/^OM005/, 'what was never trained does not predict');

# --- bytes that are none -------------------------------------------------------------------------------------

$dbh->do(q(UPDATE order_mgmt.model_versions SET model = substr(model, 1, length(model) / 2) WHERE name = 'all'));
like(predicted('all', '{"a": 1}', session('shop')), qr/^OM008 /, 'half a model is refused');
$dbh->do(q(UPDATE order_mgmt.model_versions SET model = 'what' WHERE name = 'all'));
like(predicted('all', '{"a": 1}', session('shop')), qr/^OM008 .*no model of XGBoost/s, 'and what is none');

# --- rights ---------------------------------------------------------------------------------------------------

my $analyst = session('shop', 'order_mgmt_analyst');
like(answer($analyst, q(SELECT order_mgmt.train_model('points'))), qr/^\(points,xgboost,/, 'an analyst trains from what he may read');
$dbh->do('REVOKE SELECT ON points, known FROM order_mgmt_analyst');
like(answer($analyst, q(SELECT order_mgmt.train_model('points'))), qr/^OM008 .*permission denied for view known/s, 'but from nothing else');
is(answer($analyst, q(SELECT order_mgmt.predict('points', '{"a": 0.5}') IS NOT NULL)), 1, 'predictions read no rows');

# --- cancelled -------------------------------------------------------------------------------------------------

$dbh->do(q(SELECT order_mgmt.create_model('long', 'xgboost', '{"query": "SELECT a, b, c, hashint4(n) % 2 = 0 AS y FROM points, generate_series(1, 20)", "label": "y", "rounds": 10000, "max_depth": 16, "early_stopping_rounds": 0, "eta": 0.001}')));
my $other = session('shop');
$other->{pg_async} = 0;
my $sth = $other->prepare(q(SELECT order_mgmt.train_model('long')), { pg_async => DBD::Pg::PG_ASYNC() });
$sth->execute;
ok(becomes($node, 'shop', "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $other->{pg_pid}", 't', 60), 'a long training runs');
ok(becomes($node, 'shop', "SELECT pg_cancel_backend($other->{pg_pid})", 't', 60), 'it is cancelled');
ok(becomes($node, 'shop', "SELECT state <> 'active' FROM pg_stat_activity WHERE pid = $other->{pg_pid}", 't', 60), 'it does not go on to its last round');
eval { $other->pg_result };
is($other->state, '57014', 'and ends');
is(answer($other, q(SELECT count(*) FROM order_mgmt.model_versions WHERE name = 'long')), 0, 'without a version');
is(predicted('points', '{"a": 0.5}', $other), predicted('points', '{"a": 0.5}'), 'the session goes on');
$other->do(q(SET statement_timeout = '300ms'));
like(answer($other, q(SELECT order_mgmt.train_model('long'))), qr/^57014/, 'a time limit holds, too');

# --- bytes that somebody has changed -------------------------------------------------------------------------------

like(with_other_bytes($node, 'shop', 'points', '{"a": 0.5, "b": 0.5, "c": false}', 200), qr/^OM008( answer)?$/, 'bytes that XGBoost has not written never reach it');
is($node->safe_psql('shop', 'SELECT 1'), '1', 'and no process has ended');

# --- restored -----------------------------------------------------------------------------------------------------

my $dump = $node->basedir . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('shop') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('copy'), $dump ], 'and restored');
my $copy = session('copy');
is(predicted('points', '{"a": 0.5, "b": 0.5, "c": false}', $copy), predicted('points', '{"a": 0.5, "b": 0.5, "c": false}'), 'a model predicts what it predicted');
$_->disconnect for $copy, $other, $analyst;

# --- the example of the documentation --------------------------------------------------------------------------------
# Half of the customers have little credit, so their large orders are rejected; some cancel.

new_shop($node, 'risk');
$dbh->disconnect;
$dbh = session('risk');
$dbh->do(<<'SQL');
SELECT order_mgmt.set_account('c' || n, CASE WHEN n % 2 = 0 THEN 1e9 ELSE 5000 END) FROM generate_series(1, 40) AS n;
SELECT order_mgmt.pause_consumer('order_updater');
SQL
$dbh->do(<<'SQL');
SELECT order_mgmt.capture_order('c' || 1 + n % 40, jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', 1 + n * 7 % 20, 'unit_price', 1 + abs(hashint4(n)) % 200)))
FROM generate_series(1, 1200) AS n;
SQL
$dbh->do(q(SELECT order_mgmt.resume_consumer('order_updater')));
settle($node, 'risk', 'the shop');
my ($example) = slurp_file("$ENV{TESTDIR}/docs/xgboost.md") =~ /^## Example.*?```sql\n(.*?)```/ms;
$dbh->do(q(SELECT order_mgmt.pause_consumer('balance_checker')));
$dbh->do(q(SELECT order_mgmt.capture_order('c' || n, jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', 10, 'unit_price', 100))) FROM generate_series(1, 2) AS n));
my $printed = $node->safe_psql('risk', $example);
like($printed, qr/^1\|\{.*"auc": /m, 'the example trains');
like($printed, qr/^1000(\.0000)?\|[01]\.[0-9]{3}\n1000(\.0000)?\|[01]\.[0-9]{3}$/m, 'predicts what is open');
cmp_ok(metric('order_risk', 'auc'), '>', 0.8, 'and is right more often than not');
cmp_ok(($printed =~ /^auc\|([0-9.]+)/m)[0], '>', 0.8, 'evaluate_model() agrees');
$dbh->do(q(SELECT order_mgmt.resume_consumer('balance_checker')));
settle($node, 'risk', 'the shop at last');

# --- such a model checks orders, by a function ------------------------------------------------------------------------
# What it says of two orders, one small and of somebody with credit, decides the threshold between them.

my ($wrapper) = slurp_file("$ENV{TESTDIR}/docs/xgboost.md") =~ /^## As a check of orders.*?```sql\n(.*?)```/ms;
$wrapper =~ s/DATABASE shop/DATABASE risk/;
$node->safe_psql('risk', $wrapper);
sub risk_of
{
	my ($customer, $quantity, $price) = @_;
	return $node->safe_psql('risk', qq(SELECT order_mgmt.predict('risk_of_orders', jsonb_build_object('customer_id', '$customer', 'total', '@{[$quantity * $price]}.0000',
		'lines', jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', $quantity, 'unit_price', '$price.0000'))))->>'probability'));
}
my @safe = ('c2', 1, 1);
my @risky = ('c3', 20, 200);
cmp_ok(risk_of(@risky), '>', risk_of(@safe) + 0.1, 'the function makes features of orders');
$node->safe_psql('postgres', 'ALTER DATABASE risk SET order_mgmt.check_threshold = ' . (risk_of(@risky) + risk_of(@safe)) / 2);
$node->safe_psql('risk', q(SELECT order_mgmt.set_account('c3', 1e9)));
sub fate
{
	my ($customer, $quantity, $price) = @_;
	my $id = $node->safe_psql('risk', qq(SELECT order_mgmt.capture_order('$customer', '[{"product_id": "p", "quantity": $quantity, "unit_price": $price}]')));
	$node->safe_psql('risk', "SELECT order_mgmt.wait_for_order('$id', '30 s')");
	return $node->safe_psql('risk', "SELECT status || reasons::text FROM order_mgmt.orders WHERE order_id = '$id'");
}
is(fate(@safe), 'shipped{}', 'an order of little risk passes');
is(fate(@risky), 'rejected{high_risk}', 'one of much risk does not, though there is credit');
is($node->safe_psql('risk', q(SELECT order_mgmt.preview_order('c3', '[{"product_id": "p", "quantity": 20, "unit_price": 200}]')->'reasons')), '["high_risk"]', 'a preview says so');
unlike(slurp_file($node->logfile), qr/pass without the check/, 'none has passed unchecked');

# Named itself, it fails for each order, and the log says why.
my $before = -s $node->logfile;
$node->safe_psql('postgres', q(ALTER DATABASE risk SET order_mgmt.check_model = 'order_risk'));
is(fate(@risky), 'shipped{}', 'without the function orders pass');
ok($node->wait_for_log(qr/orders pass without the check by model "order_risk": .*(?:has no feature|is not a number)/, $before), 'with a warning');
$node->safe_psql('postgres', q(ALTER DATABASE risk RESET order_mgmt.check_model));
settle($node, 'risk', 'with the check');

$dbh->disconnect;
$node->stop;
done_testing();
