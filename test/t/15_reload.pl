# Settings take effect by a reload, without a restart of anything; and whatever an operator has set for sessions,
# setup() and the workers do the same.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

my $node = start_server('reload');
new_shop($node, 'shop');

sub set
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET order_mgmt.$name = $value");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	ok(becomes($node, 'shop', "SELECT 1 FROM order_mgmt.version(); SHOW order_mgmt.$name", "1\n" . $value =~ s/'//gr, 60), "$name is $value by a reload");
	return;
}
sub wait_for
{
	my ($id, $status, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	ok(becomes($node, 'shop', "SELECT order_mgmt.get_order_status('$id')", $status, 60), $what);
	note(sprintf '%s: %.2f s', $what, time - $start);
	return;
}

my $first = one_order($node, 'shop');
wait_for($first, 'shipped', 'the shop is open');
my ($worker) = workers($node, 'shop');

# Shipping
set('auto_ship', 'off');
my $parked = one_order($node, 'shop');
wait_for($parked, 'confirmed', 'auto_ship off: an order waits');
set('auto_ship', 'on');
wait_for($parked, 'shipped', 'auto_ship on: the waiting one ships');
set('auto_ship', 'off');
set('hold_timeout', q('1s'));
wait_for(one_order($node, 'shop'), 'cancelled', 'hold_timeout: the next one expires');
set('hold_timeout', '0');
set('auto_ship', 'on');

# How much a stage takes at a time: every batch of the balance checker is a transaction.
sub batches
{
	$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('balance_checker')));
	my @ids = split /\n/, $node->safe_psql('shop', "SELECT order_mgmt.capture_order('c', $Shop::one_line) FROM generate_series(1, 300)");
	$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('balance_checker')));
	$node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('30 s')));
	my $list = join ', ', map { "'$_'" } @ids;
	return $node->safe_psql('shop', "SELECT count(DISTINCT lxid) FROM order_mgmt.events WHERE event_type = 'balance_held' AND order_id IN ($list)");
}
my $default = batches();
set('batch_size', 10);
my $small = batches();
cmp_ok($small, '>', 2 * $default, "batch_size 10: $small batches where there were $default");
set('batch_size', 1000);
is(batches(), $default, 'batch_size 1000 again');
is((workers($node, 'shop'))[0], $worker, 'all this time it was the same worker');

# Workers off and on for the whole server
set('workers', 'off');
ok(becomes($node, 'shop', 'SELECT count(worker_pid) FROM order_mgmt.queues', '0', 60), 'workers off: they leave');
my $waits = one_order($node, 'shop');
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$waits')"), 'captured', 'and orders wait');
set('workers', 'on');
wait_for($waits, 'shipped', 'workers on: it ships');
settle($node, 'shop', 'reloaded');

# Odd defaults, all at once, for the database and for the superuser; set up by the one in the other.
my @odd = ("default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on', "search_path = 'nowhere'",
	"session_replication_role = 'replica'", 'row_security = off', "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'",
	"bytea_output = 'escape'", 'extra_float_digits = -15', 'standard_conforming_strings = off', 'escape_string_warning = off', "backslash_quote = 'off'",
	'array_nulls = off', 'transform_null_equals = on', 'quote_all_identifiers = on', "xmloption = 'document'", 'check_function_bodies = off', 'work_mem = \'64kB\'',
	'enable_indexscan = off', 'enable_bitmapscan = off', 'enable_partition_pruning = off', "constraint_exclusion = 'off'", "plan_cache_mode = 'force_custom_plan'",
	'force_parallel_mode = on', 'jit_above_cost = 0', 'from_collapse_limit = 1', 'join_collapse_limit = 1', 'synchronous_commit = off', 'commit_delay = 1000',
	'exit_on_error = on', 'default_toast_compression = \'pglz\'', 'log_duration = on', 'track_activities = off', 'track_counts = off', "client_min_messages = 'debug1'",
	'idle_in_transaction_session_timeout = 1', 'statement_timeout = 1', 'lock_timeout = 1', 'deadlock_timeout = \'1s\'', 'gin_fuzzy_search_limit = 1',
	'default_statistics_target = 1', 'lo_compat_privileges = on', "event_source = 'x'", 'temp_file_limit = 0', 'max_stack_depth = \'500kB\'', 'tcp_keepalives_idle = 1');
$node->safe_psql('postgres', 'CREATE DATABASE odd');
my ($set, $user) = (0, (getpwuid($<))[0]);
for my $setting (@odd)
{
	$set += $node->psql('postgres', "ALTER DATABASE odd SET $setting; ALTER ROLE \"$user\" IN DATABASE odd SET $setting") == 0;
}
cmp_ok($set, '>', 40, "$set settings are odd");
{
	# What would end the clients themselves they override.
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0';
	$node->safe_psql('odd', 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup();');
	$node->safe_psql('odd', q(SELECT order_mgmt.set_account('c', 1000); SELECT order_mgmt.set_stock('p', 1000)));
	for my $read_only (qw(off on))
	{
		$node->safe_psql('postgres', "ALTER DATABASE odd SET default_transaction_read_only = $read_only");
		local $ENV{PGOPTIONS} = "$ENV{PGOPTIONS} -c default_transaction_read_only=off";
		my $id = one_order($node, 'odd');
		is($node->safe_psql('odd', "SELECT order_mgmt.wait_for_order('$id', '30 s')"), 'shipped', "odd settings, read only $read_only: an order ships");
		my $cancelled = $node->safe_psql('odd', "SELECT order_mgmt.cancel_order(order_mgmt.capture_order('c', $Shop::one_line))");
		is($cancelled, 'cancelled', 'another is cancelled');
		is($node->safe_psql('odd', "SELECT order_mgmt.get_order('$id')->>'created_at' ~ '^\\\\d{4}-\\\\d\\\\d-\\\\d\\\\dT.*(Z|[+]00:00)\$'"), 't', 'times in JSON are of UTC');
		settle($node, 'odd', 'odd settings');
	}
}
unlike(slurp_file($node->logfile), qr/PANIC|XX000|terminated by signal|order_mgmt worker" \(PID \d+\) exited/, 'nothing untoward in the log');
$node->stop;
done_testing();
