# Loads of files that are none, or that are larger than life: each ends with an error and a hint, and loads nothing that it does not count.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $node = start_server('bad_files');
new_shop($node, 'shop');
my $dir = $node->basedir . '/files';
mkdir $dir or die $!;
my $header = "order_ref,customer_id,product_id,quantity,unit_price,metadata\n";

sub write_file
{
	my ($name, @data) = @_;
	open(my $file, '>:raw', "$dir/$name") or die $!;
	print $file $_ for @data;
	close $file;
	return "$dir/$name";
}

# How the load of a file ended: its status, counts and error with the hint
sub load
{
	my ($path, $options) = @_;
	my $id = $node->safe_psql('shop', sprintf(q(SELECT order_mgmt.load_orders_csv('%s', options => '%s')), $path, $options // '{}'));
	return $node->safe_psql('shop', "SELECT concat_ws(' ', status, rows_read, rows_loaded, rows_rejected, error_code, error) FROM order_mgmt.wait_for_load($id, '100 s')");
}
sub orders { return $node->safe_psql('shop', 'SELECT count(*) FROM order_mgmt.orders') }

# ---- no file of orders

my $locked = write_file('locked.csv', $header);
chmod 0, $locked;
my $invalid = write_file('invalid.csv', $header, "r1,c,p,1,1,\n", "r2,c,p\xff,1,1,\n", "r3,c,p,1,1,\n");
for my $case (
	[ "$dir/none.csv", qr/^failed 0 0 0 OM007 file ".*none.csv" does not exist\nHINT: \w/, 'no file' ],
	[ $locked, qr/^failed 0 0 0 OM007 .* may not be read\nHINT: \w/, 'no permission' ],
	[ $dir, qr/^failed 0 0 0 OM007 .* is a directory\nHINT: \w/, 'a directory' ],
	[ write_file('empty.csv'), qr/^failed 0 0 0 OM007 .*empty.csv has no header\nHINT: .*options.header/, 'an empty file' ],
	[ write_file('header.csv', $header), qr/^done 0 0 0$/, 'a header only is a file of no orders' ],
	[ write_file('wrong.csv', "Invoice,Customer,Item\n1,c,p\n"), qr/^failed 0 0 0 OM007 the file has no column .*\nHINT: Its columns are: .*Invoice.*Customer.*Item.*options.columns/, 'a wrong header' ],
	[ write_file('utf16.csv', join '', "\xff\xfe", map { "$_\0" } split //, $header . "r,c,p,1,1,\n"), qr/^failed 0 0 0 OM007 .*utf16.csv" is encoded in UTF-16LE\nHINT: \w/, 'UTF-16' ],
	[ write_file('quoted.csv', qq("order_ref,customer_id\n), 'x,' x 3_000_000), qr/^failed 0 0 0 OM007 the header of .* cannot be read: .*\nHINT: \w/, 'a header that never ends' ])
{
	my ($path, $expected, $what) = @$case;
	like(load($path), $expected, $what);
}
is(orders(), 0, 'none of them has made an order');
like(load($invalid), qr/^done 3 2 1$/, 'invalid UTF-8: the row is refused, the others load');
is($node->safe_psql('shop', q(SELECT row_no, error_code FROM order_mgmt.load_errors WHERE raw LIKE 'r2%' OR row_no = 2)), '2|22021', 'and it says so of the row');

# ---- records of megabytes

# What the loader has needed at most, in kB
sub memory_of
{
	my ($path, $options) = @_;
	my $id = $node->safe_psql('shop', sprintf(q(SELECT order_mgmt.load_orders_csv('%s', options => '%s')), $path, $options));
	my ($peak, $status) = (0, '');
	for (1 .. 6000)
	{
		($status, my $pid) = split /\|/, $node->safe_psql('shop',
			"SELECT status, (SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt loader' LIMIT 1) FROM order_mgmt.loads WHERE load_id = $id");
		last if $status =~ /done|failed/;
		next unless $pid && open(my $proc, '<', "/proc/$pid/status");
		my %of = map { /^(VmHWM|RssShmem|RssFile):\s+(\d+)/ ? ($1 => $2) : () } <$proc>;
		my $own = ($of{VmHWM} // 0) - ($of{RssShmem} // 0) - ($of{RssFile} // 0);
		$peak = $own if $own > $peak;
	}
	is($status, 'done', 'it is loaded');
	return $peak;
}

my $wide = 'x' x 1_000_000;
my $records = write_file('wide.csv', $header, map { qq(w$_,c,p,1,1,"{""text"": ""$wide""}"\n) } 1 .. 100);
my $peak = memory_of($records, '{}');
note("100 records of 1 MB each: the loader has taken $peak kB");
cmp_ok($peak, '<', 64 * 1024, 'records of 1 MB: less than 64 MB are enough');
my $scattered = write_file('scattered.csv', $header, map { my $part = $_; map { qq(s$_,c,p$part,1,1,"{""text"": ""$wide""}"\n) } 1 .. 50 } 1 .. 2);
$peak = memory_of($scattered, '{}');
note("50 orders of two records of 1 MB that do not stand together: $peak kB");
cmp_ok($peak, '<', 64 * 1024, 'also where the rows of an order do not stand together');

truncate(write_file('nuls.csv', $header), 1 << 30) or die $!;
like(load("$dir/nuls.csv"), qr/^done 1 0 1$/, '1 GB without a line end is one row that is refused');
is($node->safe_psql('shop', q(SELECT e.error_code FROM order_mgmt.load_errors AS e JOIN order_mgmt.loads AS l USING (load_id) WHERE l.source LIKE '%nuls.csv')), '54000', 'as too long');

settle($node, 'shop', 'bad files');
$node->stop;
done_testing();
