# A server whose library has fault points (src/faults.h), and the table by which they are armed.
package Faults;
use strict;
use warnings;
use Exporter 'import';
use Server;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(find_points start_faulty_server arm disarm look);

# As in src/faults.c
my $record = 'a32 L8';
my $record_size = 64;
my %actions = (none => 0, error => 1, kill => 2, exit => 3, stop => 4, 'kill each' => 5);
my %kinds = (client => 0, worker => 1);
my @fields = qw(name action kind countdown fired pid can_be_ended client worker);

my $file;
my %number;    # of a point's record

# All points of the sources: { name => ..., nofail => true where an error is not possible }.
sub find_points
{
	my ($directory) = @_;
	my @points;
	for my $path (sort glob("$directory/*.c"))
	{
		my $source = slurp_file($path);
		push @points, { name => $2, nofail => $1 } while $source =~ /\bOM_FAULT_POINT(_NOFAIL)?\("([^"]+)"\)/g;
	}
	return @points;
}

sub write_fields
{
	my ($name, $first, @values) = @_;
	my $offset = $number{$name} * $record_size + 32 + 4 * $first;
	defined sysseek($file, $offset, 0) or die "seek: $!";
	defined syswrite($file, pack('L*', @values)) or die "write: $!";
	return;
}

# A point as it is now, by names of fields: fired, pid, can_be_ended, and how often clients and workers came.
sub look
{
	my ($name) = @_;
	my $bytes;
	my %point;
	sysseek($file, $number{$name} * $record_size, 0);
	sysread($file, $bytes, $record_size) == $record_size or die "read: $!";
	@point{@fields} = unpack($record, $bytes);
	return \%point;
}

# The next process of this kind, client or worker, that comes to the point fires it, once: the nth. "kill each" kills
# the first n, so that a test need not arm it again before the server is back.
sub arm
{
	my ($name, $action, $kind, $nth) = @_;
	write_fields($name, 0, $actions{$action}, $kinds{$kind}, 0, 0, 0, 0);
	write_fields($name, 2, $nth // 1);
	return;
}

# Also sets free who has been stopped there.
sub disarm
{
	my ($name) = @_;
	write_fields($name, 0, $actions{none});
	write_fields($name, 2, 0);
	return;
}

sub start_faulty_server
{
	my ($name, $points, @settings) = @_;
	my $install = $ENV{ORDER_MGMT_FAULTS} or die "ORDER_MGMT_FAULTS must be what test/tools/faults prints\n";
	my $node = Server->new($name, install_path => $install);
	$node->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
	$node->append_conf('postgresql.conf',
		join("\n", "shared_preload_libraries = 'order_mgmt'", 'restart_after_crash = on', 'max_worker_processes = 20', 'log_statement = none', @settings, ''));
	@number{map { $_->{name} } @$points} = 0 .. $#$points;
	append_to_file($node->data_dir . '/order_mgmt.faults', join '', map { pack $record, $_->{name}, (0) x 8 } @$points);
	open $file, '+<:raw', $node->data_dir . '/order_mgmt.faults' or die "open: $!";
	$node->start;
	return $node;
}

1;
