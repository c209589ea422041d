# Databases come, go and are copied beside workers; what an operator sets for one does not hurt it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = start_server('databases');
new_shop($node, 'shop');
my $script = $node->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");

# Runs a command that needs a database for itself; it must not hang.
sub quick
{
	my ($command, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $run = in_background($node, [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-c', "SET statement_timeout = '60s'", '-c', $command ]);
	is(finish($run), 0, $what) or diag($run->{err});
	return;
}
sub works
{
	my ($database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($database, "SELECT order_mgmt.wait_for_order('" . one_order($node, $database) . "', '60 s')"), 'shipped', $what);
	return;
}
# As many orders as make a worker busy for a while
sub pile_up
{
	my ($database) = @_;
	$node->safe_psql($database, <<SQL);
SELECT count(*) FROM order_mgmt.capture_orders((SELECT jsonb_agg(jsonb_build_object('customer_id', 'c', 'lines', ${Shop::one_line}::jsonb)) FROM generate_series(1, 3000)));
SQL
	return;
}

sub comes_to
{
	my ($point) = @_;
	my $deadline = time + 60;
	usleep(10_000) until look($point)->{fired} || time > $deadline;
	return look($point)->{fired};
}

works('shop', 'the shop is open');
quick('CREATE DATABASE copy TEMPLATE shop', 'CREATE DATABASE ... TEMPLATE of an idle shop');
works('shop', 'which goes on');
pile_up('shop');
quick('CREATE DATABASE busy_copy TEMPLATE shop', 'CREATE DATABASE ... TEMPLATE of a busy shop');
works('shop', 'which goes on too');

# A copy rests until somebody says that it is a shop of its own.
my $id = one_order($node, 'copy');
is($node->safe_psql('copy', q(SELECT count(*) FROM order_mgmt.queues WHERE worker_pid IS NOT NULL)), '0', 'a copy has no workers');
is($node->safe_psql('copy', "SELECT order_mgmt.get_order_status('$id')"), 'captured', 'and ships nothing');
isnt($node->psql('copy', 'SELECT order_mgmt.run_pipeline()'), 0, 'not by hand either');
is($node->safe_psql('copy', 'SELECT order_mgmt.post_restore()'), 't', 'until post_restore()');
is($node->safe_psql('copy', "SELECT order_mgmt.wait_for_order('$id')"), 'shipped', 'then it does');
settle($node, 'copy', 'the copy');
$node->safe_psql('busy_copy', 'SELECT order_mgmt.post_restore()');
settle($node, 'busy_copy', 'the copy of the busy shop');

quick('ALTER DATABASE copy RENAME TO renamed', 'RENAME of an idle shop');
works('renamed', 'which goes on');
pile_up('renamed');
quick('ALTER DATABASE renamed RENAME TO renamed_again', 'RENAME of a busy shop');
works('renamed_again', 'which goes on too');
quick('DROP DATABASE busy_copy', 'DROP DATABASE of an idle shop');
pile_up('renamed_again');
quick('DROP DATABASE renamed_again', 'DROP DATABASE of a busy shop');
works('shop', 'others go on');

# A command that is refused leaves the shop open.
my $client = $node->background_psql('shop');
$client->query_safe('SELECT 1');
isnt($node->psql('postgres', 'DROP DATABASE shop'), 0, 'DROP DATABASE is refused beside a client');
works('shop', 'and the shop stays open');
$client->quit;
isnt($node->psql('postgres', 'BEGIN; DROP DATABASE shop; COMMIT'), 0, 'so it is in a transaction');
works('shop', 'and the shop stays open then too');
$node->safe_psql('postgres', 'CREATE ROLE somebody LOGIN');
isnt($node->psql('postgres', 'DROP DATABASE shop', connstr => $node->connstr('postgres') . ' user=somebody'), 0, 'who does not own it cannot drop it');
ok(scalar(workers($node, 'shop')), 'nor stop its workers');
isnt($node->psql('shop', 'DROP EXTENSION order_mgmt'), 0, 'DROP EXTENSION is refused');
works('shop', 'and the shop stays open once more');
quick('DROP DATABASE IF EXISTS nowhere', 'a database that is not there');

# Dropped with everything, a database can be made again.
$node->safe_psql('shop', 'DROP EXTENSION order_mgmt CASCADE');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60),
	'without the extension nobody works');
$node->safe_psql('shop', 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
works('shop', 'after a reinstall somebody does');

# Workers off and on
my $live = q(SELECT count(worker_pid) > 0 FROM order_mgmt.queues);
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = off');
ok(becomes($node, 'shop', $live, 'f', 60), 'ALTER DATABASE ... SET order_mgmt.workers = off ends the workers');
$id = one_order($node, 'shop');
is($node->safe_psql('shop', 'SELECT order_mgmt.run_pipeline()'), '5', 'run_pipeline() does their work');
$id = one_order($node, 'shop');
$node->safe_psql('postgres', 'ALTER DATABASE shop SET order_mgmt.workers = on');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id')"), 'shipped', 'on again, they do it');
$node->safe_psql('postgres', 'ALTER DATABASE shop RESET order_mgmt.workers');

# Closed to connections, or made a template, a shop has no workers; opened again, it has.
for my $closing ('ALLOW_CONNECTIONS false', 'IS_TEMPLATE true')
{
	$node->safe_psql('postgres', "ALTER DATABASE shop $closing");
	ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60),
		"$closing ends the workers");
	$node->safe_psql('postgres', 'ALTER DATABASE shop ' . ($closing =~ s/true|false/$& eq 'true' ? 'false' : 'true'/er));
	works('shop', "and the opposite of $closing brings them back");
}

# Databases that come and go while their workers are just starting
for my $round (1 .. 6)
{
	my $is_copy = $round % 2;
	$node->safe_psql('postgres', 'CREATE DATABASE brief' . ($is_copy ? ' TEMPLATE shop' : ''));
	$node->safe_psql('brief', $is_copy ? 'SELECT order_mgmt.post_restore()' : 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
	one_order($node, 'brief') if $is_copy;
	quick('DROP DATABASE brief', "DROP DATABASE of one that was made a moment ago, round $round");
}

# Settings that would stop a client
my @settings = ("default_transaction_read_only = on", "default_transaction_isolation = 'serializable'", "statement_timeout = '1ms'",
	"lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'", "search_path = 'nowhere'", "session_replication_role = 'replica'",
	"row_security = off", "DateStyle = 'German'", "TimeZone = 'Pacific/Apia'", "default_tablespace = 'nowhere'", "transaction_timeout = 1",
	"enable_indexscan = off", "client_encoding = 'LATIN1'", "work_mem = '64kB'", "log_statement = 'all'", "bytea_output = 'escape'",
	"force_parallel_mode = on", "role = 'order_mgmt_reader'", "session_preload_libraries = 'order_mgmt'");
# Clients override them, so it is the worker that has to live with each.
for my $setting (@settings)
{
	my ($name) = $setting =~ /^(\w+)/;
	next if $node->psql('postgres', "ALTER DATABASE shop SET $setting") != 0;
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'default_transaction_read_only=off', 'default_transaction_isolation=read\ committed',
	  'statement_timeout=0', 'lock_timeout=0', 'idle_in_transaction_session_timeout=0', 'role=none', 'default_tablespace=';
	works('shop', "the worker works with $setting");
	$node->safe_psql('postgres', "ALTER DATABASE shop RESET $name");
}
settle($node, 'shop', 'at the end');
unlike(slurp_file($node->logfile), qr/(FATAL|PANIC):(?!  (terminating|database "\w+" does not exist|the database system))/, 'nothing untoward in the log');
$node->stop;

# The launcher comes to know of a database, and starts a worker there, while a command is on its way to it.
my @points = map { { name => $_ } } qw(launcher/before-list utility_hook/before-lock);
$node = start_faulty_server('late', \@points);
new_shop($node, 'shop');
arm('launcher/before-list', 'stop', 'worker');
$node->restart;
arm('utility_hook/before-lock', 'stop', 'client');
my $drop = in_background($node, [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-c', 'DROP DATABASE shop' ]);
ok(comes_to('utility_hook/before-lock'), 'a command is on its way to a database of which the launcher does not know yet');
disarm('launcher/before-list');
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '1', 60), 'a worker comes');
disarm('utility_hook/before-lock');
is(finish($drop), 0, 'and is sent away by the command') or diag($drop->{err});
$node->stop;
done_testing();
