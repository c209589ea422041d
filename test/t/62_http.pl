# Models behind HTTP, called on a server of models that runs beside the test.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

# What must be seen nowhere but in table model_secrets and by whom it is for
my $secret_key = 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY';
my $session    = 'session/token+of=this==test/0123456789';
my $bearer     = 'bearer-token-0123456789/abc+def';
my $header     = 'header-secret-42';
my $in_error   = 'secret-of-a-call-that-fails';
my $rest       = '-rest-of-it';
my $pin        = '~7';
my @secrets    = ($secret_key, $session, $bearer, $header, $in_error, $rest);

my @servers;
my $messages = '';    # all that clients were told

# A server of models: its directory, harness and port
sub start_models
{
	my (@tls) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $harness = IPC::Run::start([ 'python3', "$FindBin::RealBin/model_server.py", $dir, @tls ], '<', \undef, '>', "$dir/out", '2>', "$dir/err");
	push @servers, $harness;
	my $deadline = time + 60;
	until (-e "$dir/port")
	{
		die 'the server of models did not start: ' . slurp_file("$dir/err") if time > $deadline;
		usleep(20_000);
	}
	return { dir => $dir, port => slurp_file("$dir/port") };
}

# What it has been asked, from number so and so on
sub requests
{
	my ($models, $from) = @_;
	my $file = "$models->{dir}/requests";
	my @all = -e $file ? map { decode_json($_) } split /\n/, slurp_file($file) : ();
	return @all[ ($from // 0) .. $#all ];
}

sub asked { my ($models) = @_; my @all = requests($models); return scalar @all; }

END
{
	my $status = $?;
	$_->kill_kill for @servers;
	$? = $status;
}

my $models = start_models();
my $url    = "http://127.0.0.1:$models->{port}";
my $node   = start_server('http', "order_mgmt.predict_providers = 'http'", "order_mgmt.http_endpoints = '$url, https://127.0.0.1'", 'restart_after_crash = on', 'wal_level = replica', 'max_wal_senders = 5', 'hot_standby = on');
new_shop($node, 'shop');
$node->safe_psql('shop', "CREATE ROLE $_ LOGIN IN ROLE order_mgmt_$_") for qw(reader app operator analyst admin);

sub as_role
{
	my ($role, $sql) = @_;
	my ($status, $out, $err) = $node->psql('shop', $sql, connstr => $node->connstr('shop') . " user=$role");
	$messages .= "$out\n$err\n";
	return $status == 0 ? $out : $err;
}

sub query
{
	my ($sql, $database) = @_;
	my ($status, $out, $err) = $node->psql($database // 'shop', "\\set VERBOSITY verbose\n$sql");
	$messages .= "$out\n$err\n";
	return $status == 0 ? $out : $err;
}

my $made = 0;

# The name of a new model with these options
sub model
{
	my (%options) = @_;
	my $name = 'm' . ++$made;
	my $json = encode_json(\%options);
	is(query("SELECT order_mgmt.create_model('$name', 'http', \$json\$$json\$json\$)"), 't', "$name is made: $json");
	return $name;
}

sub generic { my ($path, %options) = @_; return model(endpoint => "$url$path", backoff_ms => 10, %options); }

sub predict
{
	my ($name, $input) = @_;
	return query("SELECT order_mgmt.predict('$name', '$input')");
}

sub fails
{
	my ($name, $message, $what, $input) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(predict($name, $input // '1'), qr/^psql:[^\n]*ERROR:  OM008: [^\n]*$message/, $what);
	return;
}

# A session that predicts, once the caller is at its call
sub hang
{
	my ($name, $database) = @_;
	my $run = in_background($node, [ 'psql', '-XAtq', '-d', $database // 'shop' ], "SELECT order_mgmt.predict('$name', '1');\n");
	ok(becomes($node, 'postgres', q(SELECT query LIKE 'calls under way: 1,%' FROM pg_stat_activity WHERE backend_type = 'order_mgmt caller'), 't', 60), 'a call is under way');
	return $run;
}

sub caller_pid { return $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt caller')); }

sub calls_end
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(becomes($node, 'postgres', q(SELECT query LIKE 'calls under way: 0,%' FROM pg_stat_activity WHERE backend_type = 'order_mgmt caller'), 't', 60), $what);
	return;
}

# --- requests and answers -----------------------------------------------------------------------

my $plain = generic('/ok', max_rows_per_batch => 4);
is(predict($plain, '{"x": 21}'), '42', 'one input');
my $before = asked($models);
is(query("SELECT string_agg(ordinal || ':' || output, ' ' ORDER BY ordinal) FROM order_mgmt.predict_batch('$plain', '[1,2,3,4,5,6,7,8,9,10]')"),
	'1:2 2:4 3:6 4:8 5:10 6:12 7:14 8:16 9:18 10:20', 'ten inputs');
is(join(',', map { $_->{rows} } requests($models, $before)), '4,4,2', '... in calls of four at most');
$before = asked($models);
is(query("SELECT string_agg(ordinal || ':' || output, ' ' ORDER BY ordinal) FROM order_mgmt.invoke_endpoint('$plain', 3, '1', '2', '{\"x\": 3}', '4')"),
	'1:2 2:4 3:6 4:8', 'invoke_endpoint()');
is(join(',', map { $_->{rows} } requests($models, $before)), '3,1', '... in calls of three');
is(query("SELECT count(*) FROM order_mgmt.invoke_endpoint(endpoint => '$plain', max_rows_per_batch => NULL, VARIADIC inputs => array_fill('1'::jsonb, '{9}'))"), '9', '... by names');
like(query("SELECT * FROM order_mgmt.invoke_endpoint('$plain', 0, '1')"), qr/OM001.*"max_rows_per_batch"/s, '... not in none');
like(query("SELECT * FROM order_mgmt.invoke_endpoint('$plain', NULL, '1', NULL)"), qr/OM001.*"inputs\[1\]"/s, '... and not about null');

my $big = generic('/echo');
is(query("SELECT md5(string_agg(output #>> '{}', '' ORDER BY ordinal)) = md5(repeat('ä€😀', 400000)) FROM order_mgmt.predict_batch('$big', "
		  . "(SELECT jsonb_agg(repeat('ä€😀', 40000)) FROM generate_series(1, 10)))"), 't', 'megabytes go there and back');
is(predict(generic('/nested', template => { data => { rows => '{{inputs}}' }, more => [ 1, {}, [], undef, 'x' ] }, response_pointer => '/result/0/a~1b'), '4'),
	'8', 'a template, and a pointer into the answer');
is(predict(generic('/nested', template => { data => { rows => [ '{{input}}', '{{input.x}}', 1 ] } }, response_pointer => '/seen/data'), '{"x": 4}'),
	'{"rows": [{"x": 4}, 4, 1]}', 'parts of an input');
is(predict(generic('/ok', headers => { 'X-Shop' => 'north' }), '1'), '2', 'further headers');
is((grep { $_ eq 'x-shop' } @{ (requests($models))[-1]{headers} }), 1, '... are sent');

for my $case (
	[ '/status/400',  qr/answered with status 400: .*as asked/ ],
	[ '/status/500',  qr/answered with status 500 after 3 attempts/ ],
	[ '/garbage',     qr/has bytes that are no characters/ ],
	[ '/no-json',     qr/is no JSON: <html>x{100,200}$/m ],
	[ '/deep',        qr/is no JSON/ ],
	[ '/odd',         qr/is no JSON/ ],
	[ '/endless',     qr/more than max_response_bytes/ ],
	[ '/few',         qr/has 0 predictions for 1 inputs/ ],
	[ '/many',        qr/has 2 predictions for 1 inputs/ ],
	[ '/nothing',     qr/has nothing where the predictions should be/ ],
	[ '/redirect',    qr/answered with status 307/ ],
	[ '/close',       qr/could not be called/ ],
	[ '/half',        qr/could not be called/ ])
{
	my ($path, $message) = @$case;
	fails(generic($path), $message, "$path is an error");
}
is((grep { $_->{path} =~ /redirected/ } requests($models)), 0, 'nobody has followed the redirect');
fails(generic('/huge', max_response_bytes => 1000000), qr/more than max_response_bytes/, 'three megabytes are too many');
is(query("SELECT length(order_mgmt.predict('@{[ generic('/huge') ]}', '1')::text)"), '3000002', '... or not');
is(predict(generic('/ok', fallback => $plain, response_pointer => '/elsewhere'), '1'), '2', 'a fallback answers');
query(q(CREATE FUNCTION broken(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(1 / 0)'));
query(qq(SELECT order_mgmt.create_model('broken', 'sql', '{"function": "public.broken", "log_sample": 1, "fallback": "$plain"}')));
is(predict('broken', '1'), '2', '... also for a model in the database whose failure is logged');
is(query(q(SELECT string_agg(model || ' ' || error_code, ', ') FROM order_mgmt.prediction_log WHERE model = 'broken')), 'broken 22012', '... which it is');

# --- transactions for which others may have to wait ------------------------------------------------

query('CREATE TABLE touched (x int)');
$before = asked($models);
like(query("BEGIN; INSERT INTO touched VALUES (1); SELECT order_mgmt.predict('$plain', '1'); COMMIT"), qr/OM005: .*"$plain" \(kind "http"\) is not asked in a transaction that has changed or locked rows/, 'nobody is called while rows are locked');
like(query("BEGIN; LOCK TABLE touched IN SHARE MODE; SELECT order_mgmt.predict('$plain', '1'); COMMIT"), qr/OM005: .*has locked a table/, '... or a table');
is(asked($models) - $before, 0, '... really nobody');
is(query("INSERT INTO touched SELECT output::int FROM order_mgmt.predict_batch('$plain', '[1, 2]') RETURNING x"), "2\n4", 'a statement may write what it has been answered');
my ($request) = query("BEGIN; INSERT INTO touched VALUES (1); SELECT 'request ' || order_mgmt.request_prediction('$plain', '[1, {\"x\": 4}]'); COMMIT") =~ /request (\d+)/;
ok(becomes($node, 'shop', "SELECT status || ' ' || outputs FROM order_mgmt.prediction_answer($request)", 'answered [2, 8]', 60), 'after the commit a worker calls');

# --- attempts -----------------------------------------------------------------------------------

is(predict(generic('/flaky/2'), '1'), '2', '429 twice, then success');
is(predict(generic('/flaky/1/503'), '1'), '2', '503, then success');
$before = asked($models);
fails(generic('/flaky/5', retries => 3), qr/status 429 after 4 attempts/, '429 too often');
is(asked($models) - $before, 4, '... was asked for four times');
is(predict(generic('/retry-after/1'), '1'), '2', 'tried again when the server wants it');
fails(generic('/retry-after/3600'), qr/status 503/, '... unless that is too late');
my $slow = generic('/hang', timeout_ms => 200, circuit_failures => 2);
fails($slow, qr/did not answer in time|no answer within/, 'timeout_ms');
like(query("SET order_mgmt.predict_timeout = '200ms'; SELECT order_mgmt.predict('@{[ generic('/hang') ]}', '1')"), qr/OM008: .*(did not answer in time|no answer within)/, 'predict_timeout');
like(query("SET statement_timeout = '300ms'; SELECT order_mgmt.predict('@{[ generic('/hang') ]}', '1')"), qr/57014/, 'statement_timeout');
calls_end('nothing goes on after that');

# --- circuits -----------------------------------------------------------------------------------

my $moody = generic('/moody', retries => 0, circuit_failures => 2, circuit_open_ms => 200);
append_to_file("$models->{dir}/broken", '');
$before = asked($models);
fails($moody, qr/status 500/, 'a failure') for 1, 2;
my $forever = generic('/moody', retries => 0, circuit_failures => 2, circuit_open_ms => 3600000);
fails($forever, qr/status 500/, 'a failure of another model') for 1, 2;
$before = asked($models);
fails($forever, qr/circuit open/, 'after two its circuit is open') for 1 .. 3;
is(asked($models) - $before, 0, '... and nothing is called');
like(query(q(SELECT query FROM pg_stat_activity WHERE backend_type = 'order_mgmt caller')), qr/open circuits: [12]/, '... for all to see');
is(predict($plain, '1'), '2', '... while other models go on');
fails($slow, qr/did not answer in time|no answer within/, 'no answer is a failure');
fails($slow, qr/circuit open/, '... that counts');

# Now and then the short one lets a call through, which fails.
$before = asked($models);
my ($probes, $others) = (0, 0);
my $deadline = time + 60;
while ($probes < 2 && time < $deadline)
{
	my $answer = predict($moody, '1');
	$answer =~ /status 500/ ? $probes++ : $answer =~ /circuit open/ ? $others++ : fail("unexpected: $answer");
	usleep(5_000);
}
is(asked($models) - $before, $probes, "a circuit is probed, and a probe that fails opens it anew ($others calls failed at once)");
unlink "$models->{dir}/broken";
ok(becomes($node, 'shop', "SELECT order_mgmt.predict('$moody', '1')", '2', 60), 'one that succeeds closes it');
append_to_file("$models->{dir}/broken", '');
fails($moody, qr/status 500/, '... and failures are counted from the start');
unlink "$models->{dir}/broken";
is(predict($moody, '1'), '2', '... so it stays closed');
append_to_file("$models->{dir}/broken", '');
fails($forever, qr/circuit open/, 'a circuit that is open');
is(query("SELECT order_mgmt.set_model_options(name, options || '{\"circuit_failures\": 0}') FROM order_mgmt.models WHERE name = '$forever'"), 't', '... of a model that is to have none');
fails($forever, qr/status 500/, '... holds no call back') for 1, 2;
unlink "$models->{dir}/broken";
is(predict($forever, '1'), '2', '... whatever becomes of it');

# --- secrets ------------------------------------------------------------------------------------

# The tests' servers log all statements: this is what an administrator is told to do.
sub set_secret
{
	my ($name, $value) = @_;
	return query("SET log_statement = none; SELECT order_mgmt.set_model_secret('$name', '$value')");
}
my $aws = qq("access_key_id": "AKIDEXAMPLE0001", "secret_access_key": "$secret_key");
is(set_secret('aws', "{$aws}"), 't', 'a secret is kept');
is(set_secret('aws', "{$aws}"), 'f', '... and replaced');
set_secret('temporary', qq({$aws, "session_token": "$session"}));
set_secret('wrong',  qq({"access_key_id": "AKIDEXAMPLE0001", "secret_access_key": "${secret_key}X", "session_token": "$session"}));
set_secret('bearer', qq({"bearer": "$bearer"}));
set_secret('key',    qq({"headers": {"X-Api-Key": "$header"}}));
is(predict(generic('/bearer', secret => 'bearer'), '1'), '2', 'a bearer token');
is(predict(generic('/key', secret => 'key'), '1'), '2', 'a secret header');
fails(generic('/bearer'), qr/status 401/, 'without a secret');
fails(generic('/ok', secret => 'unknown'), qr/there is no secret "unknown"/, 'a secret that is not there');
for my $way (0 .. 3)
{
	fails(generic("/gossip/$way", secret => 'bearer'), qr/status 403: .*Bearer \*\*\*/, "what is told is without the token ($way)");
	fails(generic("/gossip/$way", secret => 'key'), qr/status 403: .*\*\*\*/, "... and without the header ($way)");
}
set_secret('two', qq({"headers": {"X-A": "$header", "X-B": "$header$rest"}}));
fails(generic('/gossip/0', secret => 'two'), qr/status 403: .*X-A=\*\*\*\W.*X-B=\*\*\*(\s|$)/i, 'one that begins with another is struck out whole');
set_secret('pin', qq({"headers": {"X-Pin": "$pin"}}));
fails(generic('/gossip/0', secret => 'pin'), qr/status 403: \*\*\*$/m, 'nothing is told that has one too short to strike out');
fails(generic('/status/403', secret => 'pin'), qr/status 403: .*as asked/, '... but what has not is');
is(query(qq(SELECT order_mgmt.drop_model_secret('two'), order_mgmt.drop_model_secret('pin'))), 't|t', 'both are dropped');
for my $bad (
	qq({"bearer": "$in_error", "other": 1}), qq({"bearer": "$in_error\\nX: y"}), qq({"secret_access_key": "$in_error"}),
	qq({"headers": {"X y": "$in_error"}}), qq({"headers": "$in_error"}), qq("$in_error"), qq({"bearer": ["$in_error"]}))
{
	like(set_secret('bad', $bad), qr/ERROR:  OM001/, 'no secret');
}
like(set_secret('', qq({"bearer": "$in_error"})), qr/OM001/, '... without a name');
like(query("SET log_statement = none; SET default_transaction_read_only = on; SELECT order_mgmt.set_model_secret('bad', '{\"bearer\": \"$in_error\"}')"),
	qr/ERROR:  25006/, '... in a transaction that only reads');
is(query(q(SELECT order_mgmt.drop_model_secret('bad'))), 'f', 'so there is none to drop');
is(query(q(SELECT order_mgmt.drop_model_secret('wrong'))), 't', 'one that is there is dropped');
set_secret('wrong',  qq({"access_key_id": "AKIDEXAMPLE0001", "secret_access_key": "${secret_key}X", "session_token": "$session"}));

# --- Amazon -------------------------------------------------------------------------------------

sub amazon { my (%options) = @_; return model(endpoint => $url, region => 'eu-central-1', secret => 'temporary', backoff_ms => 10, %options); }

is(query("SELECT string_agg(output::text, ' ' ORDER BY ordinal) FROM order_mgmt.predict_batch('"
		  . amazon(format => 'sagemaker', endpoint_name => 'xgb-1') . q{', '[{"features": [1, 2]}, {"features": [3]}]')}),
	'{"score": 6} {"score": 6}', 'SageMaker, JSON');
for my $name ('lines', 'one-line')
{
	is(query("SELECT string_agg(output::text, ' ' ORDER BY ordinal) FROM order_mgmt.predict_batch('"
			  . amazon(format => 'sagemaker', endpoint_name => $name, content_type => 'text/csv', columns => [ 'b', 'a' ], secret => 'aws')
			  . q{', '[[1, 2.5], {"a": 1, "b": -4, "c": 3}]')}),
		'7.0 -6.0', "SageMaker, CSV ($name)");
}
fails(amazon(format => 'sagemaker', endpoint_name => 'x', secret => 'wrong'), qr/status 403: .*signature differs/, 'a wrong key');
fails(amazon(format => 'sagemaker', endpoint_name => 'x', region => 'eu-west-1'), qr/status 403: .*scope is/, 'a wrong region');
fails(model(endpoint => $url, format => 'sagemaker', endpoint_name => 'x'), qr/status 403: .*not signed/, 'no key');
for my $id ('amazon.titan', 'anthropic.claude-v2:1', 'arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-v1:0')
{
	is(query("SELECT order_mgmt.invoke_bedrock('" . amazon(format => 'bedrock', model_id => $id) . q{', '{"prompt": "ä"}')->>'model'}), $id, "Bedrock, $id");
}
is(query("SELECT count(*), min(output->>'of'), max(output->>'of') FROM order_mgmt.predict_batch('"
		  . amazon(format => 'bedrock', model_id => 'm', template => { prompt => '{{input}}', max => 5 }, response_pointer => '/completion', concurrency => 8)
		  . q{', (SELECT jsonb_agg(1000 + n) FROM generate_series(0, 99) AS n))}), '100|{"max": 5, "prompt": 1000}|{"max": 5, "prompt": 1099}', 'a call per input, several at a time');
is(query("SELECT bool_and((output->'of'->>'prompt')::int = 1000 + ordinal - 1) FROM order_mgmt.predict_batch('m$made', (SELECT jsonb_agg(1000 + n) FROM generate_series(0, 99) AS n))"),
	't', '... each with its own answer');

# --- options and the list of what is allowed --------------------------------------------------------

for my $bad (
	[ 'endpoint',  {} ],
	[ 'endpoint',  { endpoint => 'file:///etc/passwd' } ],
	[ 'endpoint',  { endpoint => 'gopher://127.0.0.1/x' } ],
	[ 'endpoint',  { endpoint => "http://127.0.0.1:$models->{port}\@evil.example/ok" } ],
	[ 'endpoint',  { endpoint => "http://user:password\@127.0.0.1:$models->{port}/ok" } ],
	[ 'endpoint',  { endpoint => "$url\\\@evil.example/ok" } ],
	[ 'endpoint',  { endpoint => "$url/v1/../ok" } ],
	[ 'endpoint',  { endpoint => "$url/v1/%2e%2E/ok" } ],
	[ 'endpoint',  { endpoint => "$url/v1/.%2e" } ],
	[ 'endpoint',  { endpoint => "$url/v1/..%2fok" } ],
	[ 'endpoint',  { endpoint => "$url/ok\r\nX: y" } ],
	[ 'endpoint',  { endpoint => "$url/ok#x" } ],
	[ 'endpoint',  { endpoint => '//127.0.0.1/ok' } ],
	[ 'endpoint',  { endpoint => "$url/ok?a=b", region => 'eu-central-1', service => 'x' } ],
	[ 'endpoint',  { endpoint => "$url/base?x", format => 'bedrock', model_id => 'm' } ],
	[ 'model_id',  { endpoint => $url, format => 'bedrock', model_id => '../../ok' } ],
	[ 'endpoint_name', { endpoint => $url, format => 'sagemaker' } ],
	[ 'region',    { format => 'bedrock', model_id => 'm' } ],
	[ 'region',    { format => 'bedrock', model_id => 'm', region => 'evil.example/' } ],
	[ 'service',   { endpoint => "$url/ok", region => 'eu-central-1' } ],
	[ 'format',    { endpoint => "$url/ok", format => 'soap' } ],
	[ 'method',    { endpoint => "$url/ok", method => 'GET' } ],
	[ 'retries',   { endpoint => "$url/ok", retries => 1000 } ],
	[ 'retries',   { endpoint => "$url/ok", retries => 'x' } ],
	[ 'verify_tls', { endpoint => "$url/ok", verify_tls => 'no' } ],
	[ 'ca_file',   { endpoint => "$url/ok", ca_file => 'ca.pem' } ],
	[ 'headers',   { endpoint => "$url/ok", headers => { Authorization => 'x' } } ],
	[ 'headers',   { endpoint => "$url/ok", headers => { 'X-A' => "a\r\nHost: b" } } ],
	[ 'content_type', { endpoint => "$url/ok", content_type => 'text/xml' } ],
	[ 'response_pointer', { endpoint => "$url/ok", response_pointer => 'x' } ],
	[ 'template',  { endpoint => $url, format => 'bedrock', model_id => 'm', region => 'eu-central-1', template => { x => '{{inputs}}' } } ],
	[ 'surprise',  { endpoint => "$url/ok", surprise => 1 } ])
{
	my ($option, $options) = @$bad;
	my $json = JSON::PP->new->canonical->encode($options);
	like(query("SELECT order_mgmt.create_model('bad', 'http', \$json\$$json\$json\$)"), qr/ERROR:  OM001: .*"options\.$option"/s, "not with $json");
}

my $port = $models->{port};
$before = asked($models);
for my $case (
	[ '', '/ok' ],
	[ "http://127.0.0.1:$port/v1",  '/ok' ],
	[ "http://127.0.0.1:$port/o",   '/ok' ],
	[ "http://127.0.0.1:$port/ok/", '/ok' ],
	[ "http://127.0.0.1:$port/OK",  '/ok' ],
	[ "https://127.0.0.1:$port",    '/ok' ],
	[ 'http://127.0.0.1',           '/ok' ],
	[ 'http://127.0.0.1:1' . $port, '/ok' ],
	[ "http://localhost:$port",     '/ok' ],
	[ 'http://127.0.0.1:' . substr($port, 0, 3), '/ok' ],
	[ "127.0.0.1:$port",            '/ok' ],
	[ "http://127.0.0.1:$port/ok?", '/okay' ],
	[ '*', '/ok' ], [ 'http://*', '/ok' ])
{
	my ($setting, $path) = @$case;
	like(query("SET order_mgmt.http_endpoints = '$setting'; SELECT order_mgmt.predict('" . generic($path) . q{', '1')}),
		qr/ERROR:  OM008: .*may not be called/, "\"$setting\" does not admit $path");
}
is(asked($models) - $before, 0, '... and nothing was called');
for my $host ("127.0.0.1.evil.example:$port", "127.0.0.1:$port.evil.example", "evil.example", "[::1]:$port", "127.0.0.1.:$port")
{
	my $json = encode_json({ endpoint => "http://$host/ok" });
	like(query("SELECT order_mgmt.create_model('other', 'http', \$json\$$json\$json\$); SELECT order_mgmt.predict('other', '1')"), qr/may not be called|OM001/, "$host is another host");
	query("SELECT order_mgmt.drop_model('other')");
}
for my $setting ("$url/ok", "$url/", "https://a.example , http://127.0.0.1:$port/ok", "HTTP://127.0.0.1:$port")
{
	is(query("SET order_mgmt.http_endpoints = '$setting'; SELECT order_mgmt.predict('$plain', '1')"), '2', "\"$setting\" admits /ok");
}

# --- who may do what ------------------------------------------------------------------------------

is(as_role('app', "SELECT order_mgmt.predict('m1', '1')"), '2', 'app may predict');
is(as_role('app', "SELECT output FROM order_mgmt.invoke_endpoint('m1', NULL, '1')"), '2', '... also by invoke_endpoint()');
my $bearer_model = generic('/bearer', secret => 'bearer');
is(as_role('app', "SELECT order_mgmt.predict('$bearer_model', '1')"), '2', '... by a model with a secret that it may not see');
for my $role (qw(reader app operator analyst))
{
	like(as_role($role, $_), qr/permission denied/, "$role: $_")
	  for 'SELECT value FROM order_mgmt.model_secrets', "SELECT order_mgmt.set_model_secret('x', '{}')", "SELECT order_mgmt.drop_model_secret('bearer')",
	  "SELECT order_mgmt.create_model('x', 'http', '{}')", "SET order_mgmt.http_endpoints = 'http://evil.example'";
}
is(as_role('admin', q(SELECT string_agg(name, ' ' ORDER BY name) FROM order_mgmt.model_secrets)), 'aws bearer key temporary wrong', 'admin may read them');
is(as_role('admin', q(SELECT order_mgmt.create_model('of_admin', 'http', '{"endpoint": "http://elsewhere.example"}'))), 't', '... and make models');
like(as_role('admin', q(SELECT order_mgmt.predict('of_admin', '1'))), qr/may not be called/, '... but not have everything called');
like(as_role('admin', q(SET order_mgmt.http_endpoints = 'http://elsewhere.example')), qr/permission denied/, '... nor change that');

# --- a check of orders ----------------------------------------------------------------------------

# Workers ask before they write or lock anything.
my $risk = generic('/risk');
$node->safe_psql('postgres', "ALTER DATABASE shop SET order_mgmt.check_model = '$risk'");
for my $case ([ 0.9, 'rejected{high_risk}' ], [ 0.1, 'shipped{}' ])
{
	my ($score, $fate) = @$case;
	my $id = query(qq(SELECT order_mgmt.capture_order('c', $Shop::one_line, metadata => '{"risk": $score}')));
	query("SELECT order_mgmt.wait_for_order('$id', '30 s')");
	is(query("SELECT status || reasons::text FROM order_mgmt.orders WHERE order_id = '$id'"), $fate, "a worker asks about an order of risk $score");
}
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.check_model');
settle($node, 'shop', 'a model behind HTTP checks orders');

# --- TLS ----------------------------------------------------------------------------------------

my $tls = PostgreSQL::Test::Utils::tempdir();
append_to_file("$tls/extensions", "subjectAltName = IP:127.0.0.1\n");
system_or_bail('sh', '-c', "cd $tls && exec 2>log && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2"
	  . ' && openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server'
	  . ' && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -days 2 -out server.pem');
my $secure = start_models("$tls/server.pem", "$tls/server.key");
$node->safe_psql('shop', "ALTER DATABASE shop SET order_mgmt.http_endpoints = '$url, https://127.0.0.1:$secure->{port}, https://localhost:$secure->{port}'");
my %safe = (endpoint => "https://127.0.0.1:$secure->{port}/ok", retries => 0);
fails(model(%safe), qr/could not be called: .*certificate/i, 'a certificate of nobody known');
is(predict(model(%safe, ca_file => "$tls/ca.pem"), '1'), '2', '... is known by ca_file');
fails(model(%safe, ca_file => "$tls/ca.pem", endpoint => "https://localhost:$secure->{port}/ok"), qr/could not be called: .*(name|certificate)/i, '... but not as that of another host');
is(predict(model(%safe, verify_tls => JSON::PP::false), '1'), '2', '... or is not looked at');
fails(model(%safe, endpoint => "https://127.0.0.1:$port/ok"), qr/may not be called|could not be called/, 'no TLS where it is asked for');

# --- the process that calls -----------------------------------------------------------------------

my $hanging = generic('/hang', timeout_ms => 3600000);    # nothing but the session ends it
my $run = hang($hanging);
is(query(q(SELECT count(*) FROM pg_stat_activity AS a WHERE backend_type = 'order_mgmt caller'
	AND datid IS NULL AND backend_xmin IS NULL AND xact_start IS NULL AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid))),
	'1', 'it is in no database and has no transaction, snapshot or lock');
is(query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%$hanging%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"), 't', 'a call is cancelled');
finish($run);
like($run->{err}, qr/canceling statement due to user request/, '... which its session is told');
calls_end('... and the caller has given it up');

my $pid = caller_pid();
query('CREATE DATABASE other', 'postgres');
query(q(CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()), 'other');
query("SELECT order_mgmt.create_model('h', 'http', '{\"endpoint\": \"$url/hang\", \"timeout_ms\": 3600000}'), order_mgmt.create_model('o', 'http', '{\"endpoint\": \"$url/ok\"}')", 'other');
is(query(q(SELECT order_mgmt.predict('o', '1')), 'other'), '2', 'another database uses the same process');
is(query('CREATE DATABASE copy TEMPLATE other', 'postgres'), '', 'which is not in the way of a copy');
$run = hang('h', 'other');
like(query('DROP DATABASE other', 'postgres'), qr/being accessed by other users/, 'a call keeps its database');
is(query('DROP DATABASE other WITH (FORCE)', 'postgres'), '', '... but not by force');
finish($run);
calls_end('... which ends the call');
is(query('DROP DATABASE copy', 'postgres'), '', 'the copy is dropped');
is(caller_pid(), $pid, '... and the caller lives');

$run = hang($hanging);
is(query("SELECT pg_terminate_backend($pid)"), 't', 'the caller is ended in a call');
finish($run);
like($run->{err}, qr/the process that makes the calls has ended/, '... which its session is told');
is(predict($plain, '1'), '2', 'the next call starts another');
isnt(caller_pid(), $pid, '... process');

$run = hang($hanging);
kill_process($node, caller_pid());
finish($run);
ok(becomes($node, 'shop', "SELECT order_mgmt.predict('$plain', '1')", '2', 60), 'killed, it takes the server down for a moment, and comes again');

append_to_file("$tls/script", "SELECT * FROM order_mgmt.predict_batch('$plain', '[1,2,3,4,5]');\n");
my $many = in_background($node, [ 'pgbench', '-n', '-c', '8', '-t', '25', '-f', "$tls/script", 'shop' ]);
finish($many);
like($many->{out}, qr/number of transactions actually processed: 200\/200/, 'eight sessions at once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt caller')), '1', '... by one process');

# --- without preloading, and without a process ------------------------------------------------------

my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
$bare->start;
my $bare_models = "CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup(); SET order_mgmt.predict_providers = 'http'; SET order_mgmt.http_endpoints = '$url';"
  . " SELECT order_mgmt.create_model('m', 'http', '{\"endpoint\": \"$url/ok\"}'); SELECT order_mgmt.predict('m', '1')";
like($bare->safe_psql('postgres', $bare_models), qr/^2$/m, 'not preloaded it works, too');
$bare->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_parallel_workers = 0");
$bare->restart;
my (undef, undef, $none) = $bare->psql('postgres', "LOAD 'order_mgmt'; SET order_mgmt.predict_providers = 'http'; SET order_mgmt.http_endpoints = '$url'; SELECT order_mgmt.predict('m', '1')");
like($none, qr/no process could be started.*max_worker_processes/s, 'without a free place for a process it says so');
$bare->stop;

# --- a standby, and a copy -----------------------------------------------------------------------------

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('shop', "SELECT order_mgmt.predict('$bearer_model', '1')"), '2', 'a standby predicts by itself');
$standby->stop;
ok(!-S $standby->data_dir . '/pg_dynshmem/order_mgmt.caller', 'the caller has cleaned up');
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('shop') ], 'pg_dump');
query('CREATE DATABASE restored', 'postgres');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('restored'), $dump ], 'pg_restore -1');
is(query("SELECT order_mgmt.predict('$bearer_model', '1')", 'restored'), '2', 'a restored database has its models and secrets');
is(query(q(SELECT count(*) FROM order_mgmt.model_secrets), 'restored'), '5', '... all of them');

# --- nothing secret ---------------------------------------------------------------------------------

$messages .= $node->safe_psql('shop', 'SELECT * FROM order_mgmt.models') . $node->safe_psql('shop', 'SELECT query FROM pg_stat_activity');
my $log = slurp_file($node->logfile);
ok(length($log) > 10000 && length($messages) > 10000, 'there are logs and messages');
for my $secret (@secrets)
{
	is(index($log, $secret), -1, 'the log has no secret');
	is(index($messages, $secret), -1, '... and no message');
}
is($node->safe_psql('shop', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'invariants hold');
$node->stop;

done_testing();
