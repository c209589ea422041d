# What the tests of this directory share: servers with a shop on them, and waiting for things.
package Shop;
use strict;
use warnings;
use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;
use Server;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(start_server new_shop becomes workers settle one_order capture_until_told in_background has_written finish end_early indexes_hold kill_process kill_server with_other_bytes);

our $one_line = q('[{"product_id": "p", "quantity": 1, "unit_price": 1}]');

# A running server with the library preloaded; more lines for postgresql.conf may follow.
sub start_server
{
	my ($name, @settings) = @_;
	my $node = Server->new($name);
	$node->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
	$node->append_conf('postgresql.conf',
		join("\n", "shared_preload_libraries = 'order_mgmt'", 'max_worker_processes = 20', 'max_connections = 40', @settings, ''));
	$node->start;
	return $node;
}

# A database with one rich customer c and much of product p in it.
sub new_shop
{
	my ($node, $name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup();');
	$node->safe_psql($name, q(SELECT order_mgmt.set_account('c', 1000000); SELECT order_mgmt.set_stock('p', 1000000)));
	return;
}

# True as soon as a query gives the expected answer; false when it has not after so many seconds.
sub becomes
{
	my ($node, $database, $query, $expected, $seconds) = @_;
	my $deadline = time + $seconds;
	my $answer;
	for (;;)
	{
		my ($status, $out, $err) = $node->psql($database, $query);
		$answer = $status == 0 ? $out : $err;
		return 1 if $status == 0 && $answer eq $expected;
		last if time > $deadline;
		usleep(20_000);
	}
	diag("after $seconds s: $query\n  gives: $answer\n  not:   $expected");
	return 0;
}

# The processes that work in a database, as a list of pids.
sub workers
{
	my ($node, $database) = @_;
	return split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = '$database' ORDER BY pid");
}

# Waits until nothing is left to do, and proves that all is well.
sub settle
{
	my ($node, $database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($database, q(SELECT order_mgmt.wait_until_idle('180 s'))), 't', "$what: the pipeline comes to rest");
	is($node->safe_psql($database, 'SELECT * FROM order_mgmt.check_invariants()'), '', "$what: invariants hold");
	is($node->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders WHERE status IN ('captured', 'confirmed'))),
		'0', "$what: every order is final");
	return;
}

# Every row of every table is in its indexes, and these are in order.
sub indexes_hold
{
	my ($node, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($database, 'CREATE EXTENSION IF NOT EXISTS amcheck');
	my ($status, $out, $err) = $node->psql($database, <<'SQL');
SELECT count(bt_index_check(c.oid, true)) > 10 FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam
WHERE c.relnamespace = 'order_mgmt'::regnamespace AND c.relkind = 'i' AND a.amname = 'btree';
SQL
	is("$status $out $err", '0 t ', "$database: every row is in its indexes");
	return;
}

# Captures an order and returns its id.
sub one_order
{
	my ($node, $database) = @_;
	return $node->safe_psql($database, "SELECT order_mgmt.capture_order('c', $one_line)");
}

# Captures an order as somebody does who repeats it until it is acknowledged, whatever happens to the server.
sub capture_until_told
{
	my ($node, $database, $key) = @_;
	my $deadline = time + 60;
	while (time < $deadline)
	{
		my ($status, $id) = $node->psql($database, "SELECT order_mgmt.capture_order('c', $one_line, idempotency_key => '$key')");
		return $id if $status == 0;
		usleep(20_000);
	}
	die "could not capture $key";
}

# Starts a program of PostgreSQL (pgbench, psql) beside the test, with a text to read.
sub in_background
{
	my ($node, $command, $text) = @_;
	my $files = PostgreSQL::Test::Utils::tempdir();
	PostgreSQL::Test::Utils::append_to_file("$files/in", $text // '');
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	return {
		files => $files,
		harness => IPC::Run::start($command, '<', "$files/in", '>', "$files/out", '2>', "$files/err"),
	};
}

# True as soon as it has written so many bytes.
sub has_written
{
	my ($run, $bytes, $seconds) = @_;
	my $deadline = time + $seconds;
	until ((-s "$run->{files}/out" // 0) >= $bytes)
	{
		return 0 if time > $deadline;
		usleep(20_000);
	}
	return 1;
}

# Waits for it; its exit status and what it wrote.
sub finish
{
	my ($run) = @_;
	IPC::Run::finish($run->{harness});
	$run->{out} = slurp_file("$run->{files}/out");
	$run->{err} = slurp_file("$run->{files}/err");
	return $run->{harness}->result(0);
}

# Ends a program before it is done, and waits until the server has done with what it was at.
sub end_early
{
	my ($node, $run) = @_;
	IPC::Run::kill_kill($run->{harness});
	becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'), '0', 60) or die 'clients stay';
	return;
}

# Kills a process of the server, and waits until the server has begun anew: for a moment it answers as if nothing
# had happened. False when there was no such process.
sub kill_process
{
	my ($node, $pid) = @_;
	my $log = -s $node->logfile;
	return 0 if !$pid || !kill('KILL', $pid);
	$node->wait_for_log(qr/ready to accept connections/, $log);
	return 1;
}

# Kills the postmaster, and starts another when the last process of the old one has gone.
sub kill_server
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my $deadline = time + 180;
	my $started = 0;
	$node->kill9;
	until ($started)
	{
		die 'the server does not come back' if time > $deadline;
		usleep(20_000);
		$started = !kill(0, $postmaster) && $node->start(fail_ok => 1);
	}
	return;
}

# Predicts by a model whose bytes are each time others; what it says but for answers and OM008, and how often it said which.
sub with_other_bytes
{
	my ($node, $database, $model, $input, $rounds) = @_;
	return $node->safe_psql($database, <<"SQL");
CREATE TEMP TABLE said (code text);
DO \$\$
DECLARE
    bytes bytea := (SELECT model FROM order_mgmt.model_versions WHERE name = '$model' ORDER BY version DESC LIMIT 1);
    options jsonb := (SELECT d.options FROM order_mgmt.model_definitions AS d WHERE name = '$model');
    tried bytea;
    at int;
BEGIN
    PERFORM setseed(0.5);
    FOR i IN 1 .. $rounds LOOP
        at := floor(power(random(), 1 + 3 * round(random())) * length(bytes));
        tried := CASE i % 5
            WHEN 0 THEN set_byte(bytes, at, floor(random() * 256)::int)
            WHEN 1 THEN substr(bytes, 1, at)
            WHEN 2 THEN bytes || substr(bytes, at + 1)
            WHEN 3 THEN overlay(bytes PLACING '\\xffffffff' FROM at + 1)
            ELSE substr(bytes, 1, at) || decode(md5(i::text), 'hex') || substr(bytes, at + 1)
        END;
        UPDATE order_mgmt.model_versions SET model = tried WHERE name = '$model';
        PERFORM order_mgmt.set_model_options('$model', options || jsonb_build_object('keep_versions', i));
        BEGIN
            PERFORM order_mgmt.predict('$model', '$input');
            INSERT INTO said VALUES ('answer');
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO said VALUES (SQLSTATE);
        END;
    END LOOP;
    UPDATE order_mgmt.model_versions SET model = bytes WHERE name = '$model';
    PERFORM order_mgmt.set_model_options('$model', options);
END
\$\$;
SELECT string_agg(DISTINCT code, ' ' ORDER BY code) FROM said;
SQL
}

1;
