# Where CSV files come from: files of the server, large objects, packed or not; who may read them; and each way in which they
# can be unusable, with an error that says so.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use IO::Compress::Gzip qw(gzip $GzipError);
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('csv_sources');
new_shop($node, 'shop');
my $dir = $node->basedir . '/files';
mkdir $dir or die $!;

sub write_file
{
	my ($name, $data) = @_;
	open(my $file, '>:raw', "$dir/$name") or die $!;
	print $file $data;
	close $file;
	return "$dir/$name";
}
sub packed
{
	my ($data) = @_;
	gzip(\$data => \my $result) or die $GzipError;
	return $result;
}
# The cells of the records of a file, a record a line; or SQLSTATE and message.
sub cells
{
	my ($source, $options, $role) = @_;
	my ($status, $out, $err) = $node->psql('shop', sprintf(q(\set VERBOSITY verbose
		SET ROLE %s;
		SELECT coalesce(array_to_string(cells, ' '), error) FROM order_mgmt.read_csv('%s', '%s')), $role // 'postgres', $source, $options // '{}'));
	return $out if $status == 0;
	my ($state, $message) = $err =~ /ERROR:  (\w{5}): (.*)/;
	$message .= ' NO HINT' if $err !~ /HINT:/;
	return "$state $message";
}
sub tally
{
	my ($source, $options) = @_;
	return $node->safe_psql('shop', sprintf(q(SELECT count(*) || '/' || count(error) FROM order_mgmt.read_csv('%s', '%s')), $source, $options // '{}'));
}

# ---- files that are none

my $plain = write_file('plain.csv', "a,b\n1,2\n");
is(cells($plain), "a b\n1 2", 'a file');
like(cells("$dir/none.csv"), qr/^OM007 file ".*none.csv" does not exist$/, 'no such file');
like(cells("$plain/none.csv"), qr/^OM007 .* does not exist$/, 'a file is no directory');
like(cells($dir), qr/^OM007 .* is a directory$/, 'a directory');
like(cells('files/plain.csv'), qr/^OM007 .* is not given by an absolute path$/, 'a relative path');
like(cells('/dev/zero'), qr/^OM007 .* is no regular file$/, 'a device');
my $locked = write_file('locked.csv', "a\n");
chmod 0, $locked;
like(cells($locked), qr/^OM007 .* may not be read$/, 'no permission');
system_or_bail('mkfifo', "$dir/pipe");
like(cells("$dir/pipe"), qr/^OM007 .* is no regular file$/, 'a pipe, which would wait for a writer');
is(cells(write_file('empty.csv', '')), '', 'an empty file');
is(cells(write_file('header.csv', "a,b\n")), 'a b', 'a header only');
is(cells(write_file('bare_header.csv', 'a,b')), 'a b', 'and no line end');
like(cells(write_file('utf16.csv', "\xff\xfea\0,\0b\0\n\0")), qr/^OM007 .*utf16.csv" is encoded in UTF-16LE$/, 'UTF-16');

# ---- who may

$node->safe_psql('shop', q(CREATE ROLE op LOGIN IN ROLE order_mgmt_operator; CREATE ROLE app LOGIN IN ROLE order_mgmt_app;
	CREATE ROLE importer LOGIN IN ROLE order_mgmt_operator, pg_read_server_files));
like(cells($plain, '{}', 'op'), qr/^42501 permission denied to read a file of the server$/, 'an operator by itself reads no files');
like(cells("$dir/none.csv", '{}', 'op'), qr/^42501/, 'nor learns which there are');
is(cells($plain, '{}', 'importer'), "a b\n1 2", 'with pg_read_server_files it does');
like(cells('text:a', '{}', 'app'), qr/^42501 permission denied for function read_csv/, 'an application does not');
is(cells('text:a', '{}', 'order_mgmt_admin'), 'a', 'an administrator reads');
$node->safe_psql('shop', q(SELECT lo_from_bytea(4711, 'a,b
1,2')));
is(cells('lo:4711'), "a b\n1 2", 'a large object');
like(cells('lo:4711', '{}', 'op'), qr/^42501 permission denied for large object 4711/, 'of somebody else');
$node->safe_psql('shop', 'GRANT SELECT ON LARGE OBJECT 4711 TO op');
is(cells('lo:4711', '{}', 'op'), "a b\n1 2", 'granted');
like(cells('lo:4712'), qr/^OM007 large object 4712 does not exist$/, 'one that is not there');

# ---- packed ones

# Far more than is held at a time, and with quotes over the borders of blocks.
my $lines = join '', map { "$_,\"x\n" . ('y' x ($_ % 50)) . "\",z\n" } 1 .. 100_000;
is(tally(write_file('large.csv', $lines)), '100000/0', 'many blocks');
my $gzip = packed($lines);
is(tally(write_file('large.csv.gz', $gzip)), '100000/0', 'gzip');
is(cells(write_file('two.gz', packed("a,b\n1,") . packed("2\n3,4\n"))), "a b\n1 2\n3 4", 'of two members');
is(cells(write_file('padded.gz', packed("a,b\n1,2\n") . "\0" x 300_000)), "a b\n1 2", 'padded with zeros');
is(cells(write_file('nothing.gz', packed(''))), '', 'of nothing');
is($node->safe_psql('shop', qq(SELECT lo_import('$dir/large.csv.gz', 4713); SELECT count(*) FROM order_mgmt.read_csv('lo:4713'))), "4713\n100000", 'in a large object');
for my $size (2, 9, 1000, length($gzip) - 9, length($gzip) - 1)
{
	like(cells(write_file('cut.gz', substr($gzip, 0, $size))), qr/^OM007 ".*cut.gz" is damaged: it ends too early$/, "gzip cut after $size bytes");
}
my $wrong = $gzip;
substr($wrong, length($gzip) / 2, 4) = "\xff\xff\xff\xff";
like(cells(write_file('wrong.gz', $wrong)), qr/^OM007 .* is damaged: /, 'gzip with wrong bytes');
like(cells(write_file('tail.gz', packed("a\n") . 'and more')), qr/^OM007 .* is damaged: /, 'gzip with something behind it');

# What "zstd" makes of "a,b\n1,2\n" and of "3,4\n".
my ($zstd, $more) = map { pack('H*', $_) } qw(28b52ffd0468410000612c620a312c320a35e7cace 28b52ffd0458210000332c340aaf867ee4);
is(cells(write_file('one.zst', $zstd)), "a b\n1 2", 'zstd');
is(cells(write_file('two.zst', $zstd . $more)), "a b\n1 2\n3 4", 'of two frames');
is(cells(write_file('skippable.zst', pack('H*', '502a4d180300000078797a') . $zstd)), "a b\n1 2", 'behind a frame of others');
for my $size (4, 6, length($zstd) - 1)
{
	like(cells(write_file('cut.zst', substr($zstd, 0, $size))), qr/^OM007 .*cut.zst" is damaged: it ends too early$/, "zstd cut after $size bytes");
}
substr(my $other = $zstd, -1) = 'x';
like(cells(write_file('wrong.zst', $other)), qr/^OM007 .* is damaged: /, 'zstd with a wrong checksum');
like(cells(write_file('wide.zst', pack('H*', '28b52ffd0088' . '0000'))), qr/^OM007 .* is damaged: .*memory/, 'zstd that wants 128 MB');

# ---- without a line end

truncate(write_file('nuls.csv', ''), 1 << 30) or die $!;
my $memory = q(SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int);
my ($before, $bad, $after) = split /\n/, $node->safe_psql('shop', qq($memory;
	SELECT record_no || ' ' || line_no || ' ' || error FROM order_mgmt.read_csv('$dir/nuls.csv');
	$memory));
is($bad, '0 1 the line is longer than 4194304 bytes', '1 GB without a line end is one bad record');
cmp_ok($after - $before, '<', 32 * 1024, 'which does not take much memory') if -e '/proc/self/status';
is(tally(write_file('one_line.csv', "a,b\n" . ('x' x 3_000_000) . "\n1,2\n"), '{"max_field_bytes": 1000}'), '3/1', 'and the next line is read');

# ---- while it is read

# This file says that it is larger than it is.
like(cells('/sys/kernel/mm/transparent_hugepage/enabled'), qr/^OM007 .* has changed while it was read$/, 'a file that is shorter than it was')
  if -r '/sys/kernel/mm/transparent_hugepage/enabled';
is($node->safe_psql('shop', q(SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid())), '1', 'the server is there');

# An error closes the file: a thousand of them leave none behind.
write_file('cut.gz', substr(packed("a\n"), 0, 20));
is($node->safe_psql('shop', qq(DO \$\$ BEGIN FOR i IN 1 .. 1000 LOOP BEGIN PERFORM order_mgmt.read_csv('$dir/cut.gz'); EXCEPTION WHEN OTHERS THEN END; END LOOP; END \$\$;
	SELECT count(*) FROM pg_ls_dir('/proc/self/fd') AS fd WHERE fd ~ '^1\\d\\d')), '0', 'no file stays open') if -d '/proc/self/fd';

unlink "$dir/nuls.csv";
$node->stop;
done_testing();
