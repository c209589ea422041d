# Commands that need a database, or the extension, to themselves, while clients capture: each is done or refused
# within seconds, and where it is refused the shop has been open all the while.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time);

# PostgreSQL finds its files relative to the program. So a copy of the programs in a tree of its own, with links to
# the rest, has a directory of extensions to which a test can add versions that do not exist.
sub own_installation
{
	my %dir = map { chomp(my $d = `pg_config --$_`); ($_ => $d) } qw(bindir sharedir pkglibdir);
	my $root = PostgreSQL::Test::Utils::tempdir();
	make_path("$root$dir{bindir}", "$root$dir{sharedir}/extension");
	for my $program (qw(initdb postgres pg_ctl psql pgbench pg_isready pg_config))
	{
		copy("$dir{bindir}/$program", "$root$dir{bindir}/$program") or next;
		chmod 0755, "$root$dir{bindir}/$program";
	}
	symlink $dir{pkglibdir}, "$root$dir{pkglibdir}";
	for my $file (glob("$dir{sharedir}/*"), glob("$dir{sharedir}/extension/*"))
	{
		symlink $file, "$root$file";
	}
	return ("$root$dir{bindir}", "$root$dir{sharedir}/extension");
}

# Versions that replace all functions and views by themselves, as a later version's script will.
sub add_versions
{
	my ($extensions) = @_;
	my ($version) = slurp_file("$extensions/order_mgmt.control") =~ /default_version *= *'(.*)'/;
	my $script = slurp_file("$extensions/order_mgmt--$version.sql");
	my @replaced;
	for my $block (split /\n\n+/, $script)
	{
		push @replaced, $block if $block !~ /^CREATE (TYPE|DOMAIN|ROLE)/m && $block =~ s/^CREATE (FUNCTION|VIEW)/CREATE OR REPLACE $1/mg;
	}
	append_to_file("$extensions/order_mgmt--$version--next.sql", join "\n\n", @replaced, "CREATE FUNCTION order_mgmt.novelty() RETURNS int LANGUAGE sql AS 'SELECT 1';\n");
	append_to_file("$extensions/order_mgmt--next--wrong.sql", "SELECT order_mgmt.setup();\n");
	return scalar @replaced;
}

my ($bin, $extensions) = own_installation();
cmp_ok(add_versions($extensions), '>', 30, 'a next version of the extension, for this test only');
my $node = PostgreSQL::Test::Cluster->new('commands', install_path => $bin =~ s{/bin$}{}r);
$node->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'order_mgmt'\nmax_worker_processes = 20\nmax_connections = 40\n");
$node->start;
new_shop($node, 'shop');
my $script = $node->basedir . '/capture.pgbench';
append_to_file($script, "SELECT order_mgmt.capture_order('c', $Shop::one_line);\n");

# Runs a command as one that must not hang; returns its error, '' when it has been done.
sub try_command
{
	my ($what, $database, $command) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	my (undef, undef, $err) = $node->psql($database, "\\set VERBOSITY verbose\nSET statement_timeout = '20s';\n$command;\n");
	my ($state) = $err =~ /ERROR:  (\w{5})/;
	note(sprintf '%s: %s after %.2f s', $what, $state ? "refused ($state)" : 'done', time - $start);
	unlike($err, qr/57014/, "$what: it does not hang");
	return $err;
}
sub load
{
	my ($database, @options) = @_;
	my $before = $node->safe_psql($database, q(SELECT count(*) FROM order_mgmt.orders WHERE status = 'shipped'));
	my $load = in_background($node, [ 'pgbench', '-n', '-c', 3, '-T', 600, '-R', 300, @options, '-f', $script, $database ]);
	ok(becomes($node, $database, "SELECT count(*) > $before FROM order_mgmt.orders WHERE status = 'shipped'", 't', 60), "clients capture, and orders ship in $database");
	return $load;
}
sub stop_load
{
	my ($load) = @_;
	end_early($node, $load);
	return;
}
sub ships
{
	my ($database, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($database, "SELECT order_mgmt.wait_for_order('" . one_order($node, $database) . "', '30 s')"), 'shipped', $what);
	return;
}

# Refused, and while the command waits the worker works on.
my $load = load('shop');
my @refused = (
	[ 'CREATE DATABASE copy TEMPLATE shop', 'postgres', '55006' ],
	[ 'DROP DATABASE shop', 'postgres', '55006' ],
	[ 'BEGIN; DROP DATABASE shop', 'postgres', '25001' ],
	[ 'DROP EXTENSION order_mgmt', 'shop', '2BP01' ]);
for my $case (@refused)
{
	my ($command, $database, $state) = @$case;
	my ($worker) = workers($node, 'shop');
	like(try_command("$command beside clients", $database, $command), qr/ERROR:  $state/, "$command is refused beside clients");
	is((workers($node, 'shop'))[0], $worker, 'the worker has not been disturbed');
	ships('shop', 'orders ship');
}

# DROP EXTENSION waits for nobody.
my $client = $node->background_psql('shop');
$client->query_safe("BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line)");
for my $command ('DROP EXTENSION order_mgmt', 'DROP SCHEMA order_mgmt')
{
	like(try_command("$command beside an open transaction", 'shop', $command), qr/2BP01/, "$command is refused beside an open transaction");
}
$client->query_safe('COMMIT');


# A next version. What it replaces may be in use: then it waits, but not for ever, and nobody waits behind it any longer.
$client->query_safe('BEGIN; SELECT count(*) FROM order_mgmt.queues');
like(try_command('ALTER EXTENSION UPDATE beside an open transaction', 'shop', q(ALTER EXTENSION order_mgmt UPDATE TO 'next')), qr/55P03/,
	'ALTER EXTENSION UPDATE is refused beside a transaction that uses what it replaces');
$client->query_safe('COMMIT');
is(try_command('ALTER EXTENSION UPDATE under load', 'shop', q(ALTER EXTENSION order_mgmt UPDATE TO 'next')), '', 'ALTER EXTENSION UPDATE is done under load');
is($node->safe_psql('shop', 'SELECT extension, order_mgmt.novelty() FROM order_mgmt.version()'), 'next|1', 'it is the next version');
ships('shop', 'orders ship');
like(try_command('ALTER EXTENSION UPDATE with a wrong script', 'shop', q(ALTER EXTENSION order_mgmt UPDATE TO 'wrong')), qr/OM005/, 'setup() refuses to run in a script');
is($node->safe_psql('shop', 'SELECT extension FROM order_mgmt.version()'), 'next', 'and then nothing has changed');
like($client->query_safe("SELECT order_mgmt.capture_order('c', $Shop::one_line)"), qr/^[0-9a-f-]{36}$/, 'a session that was open before goes on');
is($client->query_safe('SHOW lock_timeout'), '0', 'with its own settings');
$client->quit;
ok($load->{harness}->pumpable, 'clients have not noticed any of it');
stop_load($load);
settle($node, 'shop', 'after what was refused');

# Clients that come and go
$load = load('shop', '-C', '-j', 3);
my $err = try_command('CREATE DATABASE ... TEMPLATE beside clients that come and go', 'postgres', 'CREATE DATABASE copy TEMPLATE shop');
like($err, qr/^$|ERROR:  55006/, 'CREATE DATABASE ... TEMPLATE beside clients that come and go');
ships('shop', 'orders ship');
stop_load($load);
settle($node, 'shop', 'clients that came and went');
if ($err eq '')
{
	settle($node, 'copy', 'the copy, at rest') if $node->safe_psql('copy', 'SELECT order_mgmt.post_restore()') eq 't';
	is(try_command('DROP DATABASE', 'postgres', 'DROP DATABASE copy'), '', 'the copy is dropped');
}

# DROP EXTENSION ... CASCADE takes the code, not the data.
$load = load('shop');
$client = $node->background_psql('shop');
$client->query_safe("BEGIN; SELECT order_mgmt.capture_order('c', $Shop::one_line)");
like(try_command('DROP EXTENSION ... CASCADE beside an open transaction', 'shop', 'DROP EXTENSION order_mgmt CASCADE'), qr/55P03/,
	'DROP EXTENSION ... CASCADE is refused beside a transaction that has captured');
ships('shop', 'orders ship');
$client->query_safe('COMMIT');
$client->quit;
unlike(try_command('DROP EXTENSION ... CASCADE under load', 'shop', 'DROP EXTENSION order_mgmt CASCADE'), qr/ERROR/, 'DROP EXTENSION ... CASCADE is done under load');
finish($load);
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'nobody works any more');
$node->safe_psql('shop', 'CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup()');
ships('shop', 'installed again, it ships');
settle($node, 'shop', 'installed again');

# DROP SCHEMA ... CASCADE takes code and data, and nobody goes on looking for them.
$load = load('shop');
unlike(try_command('DROP SCHEMA ... CASCADE under load', 'shop', 'DROP SCHEMA order_mgmt CASCADE'), qr/ERROR/, 'DROP SCHEMA ... CASCADE is done under load');
finish($load);
ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), '0', 60), 'nobody works any more');
$node->safe_psql('shop', q(CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup(); SELECT order_mgmt.set_account('c', 1000); SELECT order_mgmt.set_stock('p', 1000)));
ships('shop', 'made anew, it ships');

# DROP DATABASE ... WITH (FORCE) ends clients and workers.
new_shop($node, 'doomed');
$load = load('doomed');
is(try_command('DROP DATABASE ... WITH (FORCE) under load', 'postgres', 'DROP DATABASE doomed WITH (FORCE)'), '', 'DROP DATABASE ... WITH (FORCE) is done under load');
finish($load);
ships('shop', 'the other shop goes on');
settle($node, 'shop', 'at the end');
unlike(slurp_file($node->logfile), qr/PANIC|XX000|terminated by signal|invisible tuple/, 'nothing untoward in the log');
$node->stop;
done_testing();
