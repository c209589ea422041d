# Uploads and staged rows as clients send them, and loads of both whose process is killed on the way.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

use constant { ORDERS => 4_000, KILLS => 3, CHUNK => 40_000 };

# Where loads are killed every commit waits before it is flushed, so that they are under way for as long as the test wants it.
my $node = start_server('uploads', 'fsync = on', 'commit_siblings = 0', 'restart_after_crash = on', "log_statement = 'none'");
new_shop($node, 'shop');
$node->safe_psql('shop', 'CREATE ROLE olga LOGIN IN ROLE order_mgmt_operator; CREATE ROLE otto LOGIN IN ROLE order_mgmt_operator; CREATE ROLE ann LOGIN IN ROLE order_mgmt_app;');

# As a role that logs in
sub as
{
	my ($role, $query) = @_;
	my ($status, $out, $err) = $node->psql('shop', $query, extra_params => [ '-U', $role ]);
	return $status == 0 ? $out : "failed: $err";
}

# Orders of two rows, each 50th of which is wrong in one
sub make_csv
{
	my ($name, $columns) = @_;
	return join '', "order_ref,customer_id,product_id,quantity,unit_price$columns\n",
		map { my $tail = $columns ? ',2024-01-01,' : ''; "$name$_,c,p," . ($_ % 50 ? 1 : 'many') . ",1$tail\n$name$_,c,p,2,1$tail\n" } 1 .. ORDERS;
}

# Commits wait so long from now on.
sub delay_commits
{
	my ($microseconds) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET commit_delay = $microseconds");
	$node->reload;
	return;
}

# Kills the process of a load again and again, each time after it has committed more; how often
sub kill_often
{
	my ($load) = @_;
	my ($kills, $before, $deadline) = (0, 0, time + 120);
	while ($kills < KILLS && time < $deadline)
	{
		my ($status, $out) = $node->psql('shop', "SELECT done_records, status FROM order_mgmt.loads WHERE load_id = $load;
			SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader'");
		next if !defined $status || $status != 0;
		my ($done, $word, $pid) = $out =~ /^(\d+)\|(\w+)\n?(\d*)/ or next;
		last if $word eq 'done' || $word eq 'failed';
		usleep(1_000), next if $pid eq '' || $done <= $before;
		$kills += kill_process($node, $pid);
		$before = $done;
	}
	delay_commits(0);
	return $kills;
}

# Every row is counted once, and every order there once
sub all_loaded
{
	my ($load, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $refused = 2 * int(ORDERS / 50);
	ok(becomes($node, 'shop', "SELECT status FROM order_mgmt.loads WHERE load_id = $load", 'done', 120), "$name: the load comes to its end");
	is($node->safe_psql('shop', "SELECT rows_read, rows_loaded, rows_rejected FROM order_mgmt.loads WHERE load_id = $load"),
		join('|', 2 * ORDERS, 2 * ORDERS - $refused, $refused), "$name: every row is counted once");
	is($node->safe_psql('shop', "SELECT count(*), count(DISTINCT order_ref), sum(total) FROM order_mgmt.orders WHERE order_ref LIKE '$name%'"),
		join('|', (ORDERS - $refused / 2) x 2, sprintf('%.4f', 3 * (ORDERS - $refused / 2))), "$name: every order is there once");
	is($node->safe_psql('shop', "SELECT count(*) FROM order_mgmt.load_parts WHERE load_id = $load"), '0', "$name: what it has read is gone");
	return;
}

# An upload by a client that is not sure of what has arrived
my $csv = make_csv('up', '');
my $ticket = as('ann', q(SELECT upload_id FROM order_mgmt.create_upload(options => '{"batch_rows": 50}')));
my ($at, $sent) = (0, 0);
while ($at < length $csv)
{
	my $hex = unpack 'H*', substr $csv, $at, CHUNK;
	my $call = "SELECT order_mgmt.append_upload('$ticket', '\\x$hex', $at)";
	as('ann', "BEGIN; $call; ROLLBACK;") if $sent % 3 == 0;    # lost on its way
	my $next = as('ann', $call);
	is(as('ann', $call), $next, "chunk $sent: a repetition changes nothing") if $sent % 3 == 1;
	$sent++;
	last if $next !~ /^\d+$/ || $next != $at + length($hex) / 2;
	$at = $next;
}
is($at, length $csv, 'every chunk has arrived');
is($node->safe_psql('shop', 'SELECT sum(length(content)) FROM order_mgmt.load_parts'), length $csv, 'once');
like(as('olga', "SELECT order_mgmt.append_upload('$ticket', 'x', $at)"), qr/permission denied for upload/, 'nobody else adds to it');

# Two who add the same chunk at the same time
my $second = as('ann', 'SELECT upload_id FROM order_mgmt.create_upload()');
my $client = in_background($node, [ 'psql', '-XAtq', '-U', 'ann', '-d', 'shop' ],
	"BEGIN;\nSELECT order_mgmt.append_upload('$second', 'abcdef', 0);\n"
	. join('', map { "SELECT pg_sleep(0.02) WHERE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple'));\n" } 1 .. 1000)
	. "COMMIT;\n");
ok(has_written($client, 1, 60), 'a client adds a chunk');
is(as('ann', "SELECT order_mgmt.append_upload('$second', 'abcdefgh', 0)"), '8', 'another, which waits for it, adds what is new');
finish($client);
is($node->safe_psql('shop', "SELECT string_agg(content, '' ORDER BY at_byte) FROM order_mgmt.load_parts JOIN order_mgmt.uploads USING (load_id) WHERE upload_id = '$second'"),
	'\x6162636465666768', 'so nothing is there twice');

delay_commits(100_000);
my $load = as('ann', "SELECT order_mgmt.load_upload('$ticket')");
is(kill_often($load), KILLS, 'the load of an upload is killed');
all_loaded($load, 'up');
is(as('ann', "SELECT order_mgmt.load_upload('$ticket')"), $load, 'asked for again, it is that load');

# COPY by psql, with a list of columns and without, by two roles; what is staged after the call stays
my $directory = PostgreSQL::Test::Utils::tempdir();
append_to_file("$directory/all.csv", make_csv('st', ',created_at,metadata'));
append_to_file("$directory/others.csv", "customer_id,order_ref,product_id,quantity\nc,other1,p,1\nc,other2,p,1\n");
is(as('olga', "\\copy order_mgmt.order_staging FROM '$directory/all.csv' CSV HEADER"), '', '\copy of all columns');
is(as('otto', "\\copy order_mgmt.order_staging (customer_id, order_ref, product_id, quantity) FROM '$directory/others.csv' CSV HEADER"), '', '\copy of some, by another role');
like(as('olga', "BEGIN; SELECT order_mgmt.load_orders_csv('staged', 'history'); ROLLBACK;"), qr{^\d+$}, 'a call that is rolled back');
is(as('olga', 'SELECT count(*) FROM order_mgmt.staged_rows'), 2 * ORDERS, 'leaves what is staged');
delay_commits(100_000);
$load = as('olga', q(SELECT order_mgmt.load_orders_csv('staged', 'history', '{"batch_rows": 50}')));
is(as('olga', "\\copy order_mgmt.order_staging FROM '$directory/all.csv' CSV HEADER"), '', 'more is staged while it runs');
is(kill_often($load), KILLS, 'the load of staged rows is killed');
all_loaded($load, 'st');
is(as('olga', 'SELECT count(*) FROM order_mgmt.staged_rows'), 2 * ORDERS, 'what was staged later is still there');
is(as('otto', 'SELECT count(*) FROM order_mgmt.staged_rows'), '2', 'what others have staged is, too');
$load = as('otto', q(SELECT order_mgmt.load_orders_csv('staged', options => '{"defaults": {"unit_price": 1}}')));
is(as('otto', "SELECT status, rows_loaded FROM order_mgmt.wait_for_load($load, '60 s')"), 'done|2', 'until they load it');

# What the loader may read is not what everybody may
my $object = $node->safe_psql('shop', q(SELECT lo_from_bytea(0, 'customer_id,balance')));
like(as('olga', "SELECT order_mgmt.load_accounts_csv('lo:$object')"), qr/permission denied for large object $object/, 'a large object of somebody else');

# What nobody has loaded in time goes at the next maintenance
my $third = as('ann', q(SELECT upload_id FROM order_mgmt.create_upload(expires_in => '1 ms')));
like(as('ann', "SELECT order_mgmt.load_upload('$third')"), qr/has expired/, 'an upload expires');
is(as('olga', q(SELECT * FROM order_mgmt.run_maintenance() WHERE action = 'purge upload')), "purge upload|$third", 'and is deleted');

# After a reinstall one may stage again
$node->safe_psql('shop', 'DROP EXTENSION order_mgmt CASCADE; CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup();');
$node->safe_psql('shop', 'TRUNCATE order_mgmt.order_staging');
is(as('otto', "\\copy order_mgmt.order_staging (customer_id, order_ref, product_id, quantity) FROM '$directory/others.csv' CSV HEADER"), '', 'after a reinstall');
is(as('otto', 'SELECT count(*) FROM order_mgmt.staged_rows'), '2', 'one may stage as before');

settle($node, 'shop', 'in the end');
indexes_hold($node, 'shop');
$node->stop;
done_testing();
