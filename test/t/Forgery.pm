# Archives that hold other rows than were written, and have the same length, frames and checksums of frames.
package Forgery;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(forge);

my $frame    = "\x28\xb5\x2f\xfd";
my $skipped  = 0x184D2A50;
my $place    = 8;    # bytes of a frame that is skipped

sub through_zstd
{
	my ($bytes, @options) = @_;
	my $directory = PostgreSQL::Test::Utils::tempdir();
	open my $in, '>:raw', "$directory/in" or die "$directory: $!";
	print $in $bytes;
	close $in;
	system('zstd', '-qf', @options, "$directory/in", '-o', "$directory/out") == 0 or die 'zstd';
	return slurp_file("$directory/out");
}

# What a file would be in which one digit of a hash (32 hex digits in a row) of the last frame is another one.
sub forge
{
	my ($bytes) = @_;
	my $begin   = rindex $bytes, $frame;
	my $length  = length($bytes) - $begin;
	my $csv     = through_zstd(substr($bytes, $begin), '-d');
	while ($csv =~ /([0-9a-f]{32})/g)
	{
		my $other = $csv;
		substr($other, $-[1], 1) = substr($other, $-[1], 1) eq '0' ? '1' : '0';
		for my $level (1 .. 19)
		{
			my $packed = through_zstd($other, "-$level");
			my $spare  = $length - length $packed;
			next if $spare < 0 || $spare > 0 && $spare < $place;
			$packed .= pack("VVx@{[$spare - $place]}", $skipped, $spare - $place) if $spare > 0;
			return substr($bytes, 0, $begin) . $packed;
		}
	}
	die 'no other rows have that length';
}

1;
