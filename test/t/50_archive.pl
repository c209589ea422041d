# Months in files, beside other sessions and with what may be wrong with files: public tools read them,
# damaged ones are refused, what cannot be written leaves everything as it was, long readers win, and
# old snapshots see the same before and after.
use strict;
use warnings;
use DBI;
use Digest::SHA;
use FindBin;
use lib $FindBin::RealBin;
use Forgery;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir();
my $node      = start_server('archive', "order_mgmt.archive_directory = '$directory'", 'max_prepared_transactions = 5', 'statement_timeout = 60s');

sub session
{
	my ($database, %more) = @_;
	return DBI->connect('dbi:Pg:dbname=' . $database . ';host=' . $node->host . ';port=' . $node->port,
		undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, %more });
}

# SQLSTATE of what a statement raises, or 'none'.
sub state_of
{
	my ($dbh, $statement) = @_;
	return 'none' if eval { $dbh->selectall_arrayref($statement); 1 };
	return $dbh->state;
}

sub one { my ($dbh, $query) = @_; return ($dbh->selectrow_array($query))[0]; }

# Runs the pipeline, and proves that all is well.
sub run_all
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql($name, 'SELECT order_mgmt.run_pipeline()');
	is($node->safe_psql($name, 'SELECT * FROM order_mgmt.check_invariants()'), '', "$what: invariants hold");
	return;
}

# A shop without workers, in which orders were captured in these months, and shipped; it is September now.
sub old_shop
{
	my ($name, $orders, @months) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql('postgres', "ALTER DATABASE $name SET order_mgmt.workers = off");
	$node->safe_psql($name, q(CREATE EXTENSION order_mgmt; SELECT order_mgmt.setup(), order_mgmt.set_account('c', 1000000), order_mgmt.set_stock('p', 1000000)));
	for my $month (@months)
	{
		$node->safe_psql('postgres', "ALTER DATABASE $name SET order_mgmt.clock = '$month-20 12:00+00'");
		$node->safe_psql($name, <<"SQL");
SELECT count(order_mgmt.capture_order('c', jsonb_build_array(jsonb_build_object('product_id', 'p', 'quantity', 1 + n % 3, 'unit_price', 1.25)),
    order_ref => 'ref, "' || n || '"', metadata => jsonb_build_object('text', E'line\n "quoted" ' || md5(n::text)))) FROM generate_series(1, $orders) AS n
SQL
		run_all($name, "$name in $month");
	}
	$node->safe_psql('postgres', "ALTER DATABASE $name SET order_mgmt.clock = '2024-09-20 12:00+00'");
	one_order($node, $name);
	run_all($name, "$name now");
	return;
}

my $content = q(SELECT string_agg(t.c, ' ') FROM (SELECT 1 AS n, md5(string_agg(o::text, ' ' ORDER BY created_at, order_id)) AS c FROM order_mgmt.orders AS o
    UNION ALL SELECT 2, md5(string_agg(l::text, ' ' ORDER BY created_at, order_id, line_no)) FROM order_mgmt.order_lines AS l
    UNION ALL SELECT 3, md5(string_agg(e::text, ' ' ORDER BY lxid, event_id)) FROM order_mgmt.event_log AS e ORDER BY 1) AS t);
my $archive = q(SELECT * FROM order_mgmt.archive_month('2024-01-01'));
my $restore = q(SELECT * FROM order_mgmt.restore_month('2024-01-01'));
my $states  = q(SELECT string_agg(DISTINCT state, ' ') FROM order_mgmt.archives);

sub files { my @found; require File::Find; File::Find::find(sub { push @found, $File::Find::name if -f }, $directory); @found = sort @found; return @found; }
sub count_files { my @found = files(); return scalar @found; }
sub file_of { my ($dbh, $table) = @_; return "$directory/" . one($dbh, "SELECT file FROM order_mgmt.archives WHERE table_name = '$table' ORDER BY month LIMIT 1"); }
sub manifest_of { my ($file) = @_; $file =~ s/\.csv\.zst$/.json/; return $file; }
sub settings { my ($line) = @_; $node->append_conf('postgresql.conf', $line); $node->reload; return; }

# --- what is in a file --------------------------------------------------------------------------------------

old_shop('tools', 3000, '2024-01');
my $dbh = session('tools');
my %before = map { $_ => $node->safe_psql('tools', "SET TimeZone = 'UTC'; COPY (SELECT * FROM order_mgmt.${_}_2024_01 ORDER BY " . ($_ eq 'event_log' ? 'lxid, event_id' : $_ eq 'orders' ? 'created_at, order_id' : 'created_at, order_id, line_no') . ') TO STDOUT (FORMAT csv, HEADER)') }
	qw(event_log orders order_lines);
my $whole = one($dbh, $content);
is(scalar(@{ $dbh->selectall_arrayref($archive) }), 3, 'a month goes');
for my $table (sort keys %before)
{
	my $file     = file_of($dbh, $table);
	my $manifest = decode_json(slurp_file(manifest_of($file)));
	my $csv      = `zstd -dc '$file'`;
	my $copied   = $before{$table} . "\n";
	is($csv, $copied, "$table: zstd gives what COPY TO gave");
	is((split ' ', `sha256sum '$file'`)[0], $manifest->{sha256}, "$table: sha256sum agrees with the manifest");
	is(Digest::SHA::sha256_hex($csv), $manifest->{csv_sha256}, "$table: also about the CSV");
	is((stat $file)[2] & 07777, 0600, "$table: nobody else may read it");
	is(join(' ', @$manifest{qw(format version table month)}), "order_mgmt archive 1 $table 2024-01", "$table: the manifest says what it is");
	is(-s $file, $manifest->{bytes}, "$table: and how large");
	my ($rows, $offset) = (0, $manifest->{header_bytes});
	for my $frame (@{ $manifest->{frames} })
	{
		$rows += $frame->{rows};
		is($frame->{offset}, $offset, "$table: frames follow each other");
		$offset += $frame->{bytes};
	}
	is($offset, $manifest->{bytes}, "$table: to the end");
	is($rows, $manifest->{rows}, "$table: their rows add up");
	is($node->safe_psql('tools', "CREATE TABLE public.back_$table (LIKE order_mgmt.$table);\n\\copy public.back_$table FROM PROGRAM 'zstd -dc $file' CSV HEADER\nSELECT count(*) FROM public.back_$table"),
		$manifest->{rows}, "$table: psql copies it into a table");
	my $python = q(import csv, sys; rows = list(csv.reader(open(0, newline=''))); print(len(rows), len({len(r) for r in rows})));
	my $answer = `zstd -dc '$file' | python3 -c "$python"`;
	is($answer, ($manifest->{rows} + 1) . " 1\n", "$table: python reads it");
}
is($node->safe_psql('tools', q(SELECT count(*) FROM public.back_orders AS b JOIN order_mgmt.archived_orders('2024-01-01') AS o USING (order_id, metadata, order_ref, total))), 3000, 'as archived_orders() does');

# --- what is wrong with a file --------------------------------------------------------------------------------

my $order_id = one($dbh, q(SELECT order_id FROM order_mgmt.archived_orders('2024-01-01') ORDER BY random() LIMIT 1));
my $file = file_of($dbh, 'orders');
my $good = slurp_file($file);
my $good_manifest = slurp_file(manifest_of($file));

sub put { my ($name, $bytes) = @_; open my $out, '>:raw', $name or die "$name: $!"; print $out $bytes; close $out; return; }

sub is_refused
{
	my ($what, $state) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(state_of($dbh, $restore), $state, "$what: it is not restored");
	is(state_of($dbh, "SELECT order_mgmt.get_order('$order_id')"), $state, "$what: nor read");
	is(one($dbh, $states), 'cold', "$what: and stays what it was");
	is(one($dbh, q(SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2024-02-01')), 0, "$what: nothing has come");
	return;
}

put($file, substr($good, 0, length($good) - 10));
is_refused('a file that is cut off', 'XX001');
state_of($dbh, $restore);
like($dbh->errstr, qr/bytes instead of/, 'the error says by how much');
my $altered = $good;
substr($altered, 200 + length($good) / 2, 1) ^= "\x10";
put($file, $altered);
is(state_of($dbh, $restore), 'XX001', 'a file with one other bit is not restored');
is(one($dbh, $states), 'cold', 'and stays what it was');
# Only the hash of the whole file knows
put($file, forge($good));
is(-s $file, length $good, 'a file with other rows has the same length');
is(system("zstd -tq '$file'"), 0, 'and its frames are whole');
is(one($dbh, q(SELECT count(*) FROM order_mgmt.archived_orders('2024-01-01'))), 3000, 'and as many rows');
is(state_of($dbh, $restore), 'XX001', 'it is not restored');
is(one($dbh, $states), 'cold', 'and stays what it was');
is(one($dbh, q(SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2024-02-01')), 0, 'nothing has come');
put($file, $good);
my $other_hash = $good_manifest =~ s/("sha256": ")([0-9a-f])/$1 . ($2 eq '0' ? '1' : '0')/er;
isnt($other_hash, $good_manifest, 'a manifest has a hash');
put(manifest_of($file), $other_hash);
is_refused('a manifest with another hash', 'XX001');
my $known = one($dbh, q(SELECT encode(manifest_sha256, 'hex') FROM order_mgmt.archives WHERE table_name = 'orders'));
$dbh->do(q(UPDATE order_mgmt.archives SET manifest_sha256 = decode(?, 'hex') WHERE table_name = 'orders'), undef, Digest::SHA::sha256_hex($other_hash));
is(state_of($dbh, $restore), 'XX001', 'also where nobody knows of another manifest: it is not restored');
is(one($dbh, $states), 'cold', 'and stays what it was');
$dbh->do(q(UPDATE order_mgmt.archives SET manifest_sha256 = decode(?, 'hex') WHERE table_name = 'orders'), undef, $known);
put(manifest_of($file), $good_manifest);
unlink $file;
is_refused('a file that is gone', '58P01');
put($file, $good);
put(manifest_of($file), $good_manifest =~ s/"rows": /"rows": 1/r);
is_refused('a manifest with another number', 'XX001');
put(manifest_of($file), $good_manifest);
chmod 0, $file;
is_refused('a file that may not be read', '42501');
chmod 0600, $file;
is(scalar(@{ $dbh->selectall_arrayref($restore) }), 3, 'the right file is restored');
is(one($dbh, $content), $whole, 'and holds what it held');
is(one($dbh, 'SELECT count(*) FROM order_mgmt.check_invariants()'), 0, 'invariants hold');

# --- what cannot be written -----------------------------------------------------------------------------------

for my $wrong ([ "''", '55000' ], [ "'archive'", '55000' ], [ "'$directory/none'", '58P01' ])
{
	my ($value, $state) = @$wrong;
	settings("order_mgmt.archive_directory = $value");
	ok(becomes($node, 'tools', 'SHOW order_mgmt.archive_directory', $value =~ tr/'//dr, 60), "archive_directory is $value");
	$dbh = session('tools');
	is(state_of($dbh, $archive), $state, "$value: nothing is archived");
	is(one($dbh, $content), $whole, "$value: nothing is lost");
}
settings("order_mgmt.archive_directory = '$directory'");
ok(becomes($node, 'tools', 'SHOW order_mgmt.archive_directory', $directory, 60), 'archive_directory is right again');
$dbh = session('tools');
my @files = files();
my ($folder) = $file =~ m{(.*)/};
chmod 0500, $folder;
is(state_of($dbh, $archive), '42501', 'nothing is archived into a folder that may not be written');
chmod 0700, $folder;
my $limited = session('tools');
system('prlimit', '--pid', one($limited, 'SELECT pg_backend_pid()'), '--fsize=20000:20000') == 0 or die 'prlimit';
is(state_of($limited, $archive), '53100', 'nothing is archived when the disk is full');
like($limited->errstr, qr/could not write .*archive_directory/s, 'and the error says what to look after');
$limited->disconnect;
is(one($dbh, $content), $whole, 'nothing is lost');
is(one($dbh, $states), 'restored', 'nor said to be elsewhere');
is_deeply([ files() ], \@files, 'no file is left behind');
$dbh->begin_work;
$dbh->selectall_arrayref($archive);
is(count_files(), 2 * @files, 'an archive that has not committed has files');
$dbh->rollback;
is_deeply([ files() ], \@files, 'which go with its rollback');
$dbh->do('BEGIN');
$dbh->do('SAVEPOINT s');
$dbh->selectall_arrayref($archive);
$dbh->do('ROLLBACK TO s');
is_deeply([ files() ], \@files, 'also to a savepoint');
$dbh->do('COMMIT');
is(one($dbh, $content), $whole, 'nothing is lost');
$dbh->do('BEGIN');
$dbh->selectall_arrayref($archive);
is(state_of($dbh, q(PREPARE TRANSACTION 'archived')), '0A000', 'it cannot be prepared');
is_deeply([ files() ], \@files, 'and is rolled back');
put("$folder/2024-01.9.csv.zst", 'left behind');
put("$folder/2024-01.9.json.tmp", 'left behind');
put("$folder/2020-01.1.csv.zst", 'of another installation');
utime 1_500_000_000, 1_500_000_000, "$folder/2020-01.1.csv.zst";
$node->safe_psql('tools', 'SELECT order_mgmt.run_maintenance()');
is(count_files(), 1 + @files, 'files that nobody names go');
ok(-e "$folder/2020-01.1.csv.zst", 'but not those from before setup()');
unlink "$folder/2020-01.1.csv.zst";
$dbh->selectall_arrayref($archive);
is(count_files(), scalar(@files), 'an archive that replaces an older one takes its files away');
is_deeply([ grep { -e } map { $_, manifest_of($_) } map { file_of($dbh, $_) } keys %before ], [ map { $_, manifest_of($_) } map { file_of($dbh, $_) } keys %before ], 'not its own');

# --- who reads meanwhile --------------------------------------------------------------------------------------

old_shop('readers', 300, '2024-01', '2024-02');
$dbh   = session('readers');
$whole = one($dbh, $content);
$order_id = one($dbh, q(SELECT order_id FROM order_mgmt.orders WHERE created_at < '2024-02-01' LIMIT 1));
my $answer = one($dbh, "SELECT order_mgmt.get_order('$order_id')");
my $reader = session('readers');
$reader->begin_work;
one($reader, q(SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2024-02-01'));
my $give_up = session('readers', pg_server_prepare => 0);
$give_up->do($archive, { pg_async => DBD::Pg::PG_ASYNC() });
my $inside = 0;
my $client = session('readers');
until ($give_up->pg_ready)
{
	one($client, "SELECT order_mgmt.capture_order('c', $Shop::one_line)");
	$inside++ if !$give_up->pg_ready;
}
is(eval { $give_up->pg_result; 1 }, undef, 'an archive gives up for who reads the month');
is($give_up->state, '55P03', 'and says so');
cmp_ok($inside, '>', 2, 'captures ended while it was still trying');
run_all('readers', 'beside a long reader');
is(one($dbh, q(SELECT count(*) FROM order_mgmt.archives)), 0, 'nothing has changed');
is(one($dbh, q(SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2024-02-01')), 300, 'nothing is lost');
$reader->rollback;

my $writer = session('readers');
$writer->begin_work;
one($writer, "SELECT order_mgmt.add_order_note('$order_id', 'while it is archived')");
is(state_of($dbh, $archive), '55P03', 'an archive gives up for who writes to the month');
$writer->rollback;

# Snapshots of before, whose first look at the month comes later
my $old = session('readers');
$old->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
one($old, 'SELECT 1 FROM pg_class LIMIT 1');
is(scalar(@{ $dbh->selectall_arrayref($archive) }), 3, 'the month goes when nobody reads it');
is(one($old, "SELECT order_mgmt.get_order('$order_id')"), $answer, 'a snapshot of before sees the order in the archive');
is(one($old, q(SELECT count(*) FROM order_mgmt.archived_orders('2024-01-01'))), 300, 'and all of them');
$old->do('ROLLBACK');
$old->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
one($old, 'SELECT 1 FROM pg_class LIMIT 1');
is(scalar(@{ $dbh->selectall_arrayref($restore) }), 3, 'it comes back');
is(one($old, "SELECT order_mgmt.get_order('$order_id')"), $answer, 'a snapshot of before sees the order in the table');
is(one($old, q(SELECT count(*) FROM order_mgmt.orders WHERE created_at < '2024-02-01')), 300, 'and all of them');
$old->do('ROLLBACK');
$old->do('BEGIN');
one($old, "SELECT order_mgmt.get_order('$order_id')");
is(state_of($dbh, $archive), '55P03', 'who has looked at the month keeps it to the end of the transaction');
$old->do('ROLLBACK');

# --- the next months, and another database --------------------------------------------------------------------

is(state_of($dbh, q(SELECT * FROM order_mgmt.archive_month('2024-02-01'))), 'OM005', 'months go in their order');
$dbh->selectall_arrayref($archive);
$dbh->selectall_arrayref(q(SELECT * FROM order_mgmt.archive_month('2024-02-01')));
is(one($dbh, $states), 'cold', 'both months have gone');
is(one($dbh, 'SELECT count(*) FROM order_mgmt.check_invariants()'), 0, 'invariants hold');
$node->safe_psql('readers', <<'SQL');
CREATE TABLE public.sales (at date NOT NULL, x int) PARTITION BY RANGE (at);
CREATE TABLE public.sales_1 PARTITION OF public.sales FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
ALTER TABLE public.sales_1 ADD CONSTRAINT odd CHECK (x % 2 = 1);
INSERT INTO public.sales VALUES ('2020-01-01', 1), ('2020-01-31', 3);
SELECT order_mgmt.archive_month('2020-01-01', 'public.sales');
SQL
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('readers') ], 'the database is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE again');
$node->command_ok([ 'pg_restore', '-1', '-d', $node->connstr('again'), $dump ], 'and restored into another one');
is($node->safe_psql('again', "SELECT order_mgmt.get_order('$order_id')::text"), $answer, 'which reads the same archives');
$node->safe_psql('again', q(SELECT order_mgmt.post_restore(); SELECT order_mgmt.run_maintenance()));
is($node->safe_psql('again', "SELECT order_mgmt.get_order('$order_id')::text"), $answer, 'and leaves them there');
is($node->safe_psql('again', q(SET order_mgmt.clock = '2024-09-20'; SELECT count(*) FROM order_mgmt.restore_month('2024-01-01'))), 3, 'a month is restored there');
is($node->safe_psql('again', 'SELECT * FROM order_mgmt.check_invariants()'), '', 'where invariants hold');
$node->safe_psql('again', 'ALTER TABLE public.sales RENAME TO income');
is($node->safe_psql('again', q(SELECT order_mgmt.rename_managed_table('public.sales', 'public.income'))), 1, 'a table of a user that has another name by now gets its archive');
is($node->safe_psql('again', q(SELECT rows FROM order_mgmt.restore_month('2020-01-01', 'public.income'))), 2, 'and its month');
is($node->safe_psql('again', q(SELECT sum(x), (SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'public.sales_1'::regclass AND conname = 'odd') FROM public.income)), '4|CHECK (((x % 2) = 1))',
	'with the constraint of its own');
is($node->safe_psql('again', q(SET order_mgmt.clock = '2024-09-20'; SELECT count(*) FROM order_mgmt.archive_month('2024-01-01'))), 3, 'and archived again');
is($node->safe_psql('again', "SELECT order_mgmt.get_order('$order_id')::text"), $answer, 'into files of its own');
is(one($dbh, "SELECT order_mgmt.get_order('$order_id')"), $answer, 'here, it is still in the archive of before');

# --- who moves archives to another name waits for who moves months ---------------------------------------------

$dbh->do('ALTER TABLE public.sales RENAME TO income');
my $rename = q(SELECT order_mgmt.rename_managed_table('public.sales', 'public.income'));
$old->do('BEGIN');
$old->selectall_arrayref(q(SELECT * FROM order_mgmt.restore_month('2024-02-01')));
$dbh->do(q(SET lock_timeout = '100 ms'));
is(state_of($dbh, $rename), '55P03', 'no longer than lock_timeout says');
$old->do('ROLLBACK');
is(one($dbh, $rename), 1, 'and then moves them');
is(one($dbh, q(SELECT string_agg(table_name, ' ') FROM order_mgmt.archives WHERE schema_name = 'public')), 'income', 'there they are');
$dbh->do('BEGIN ISOLATION LEVEL REPEATABLE READ');
is(state_of($dbh, $rename), 'OM005', 'not in REPEATABLE READ');
$dbh->do('ROLLBACK');

$_->disconnect for $dbh, $reader, $writer, $old, $client, $give_up;
$node->stop;
done_testing();
