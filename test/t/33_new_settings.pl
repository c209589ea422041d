# What is captured after ALTER DATABASE ... SET has returned is decided by the new settings, also by a worker that had
# begun before and sees the order yet.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = start_faulty_server('new_settings', [ find_points("$FindBin::RealBin/../../src") ], 'autovacuum = off');
new_shop($node, 'shop');

sub status_of { my ($id) = @_; return $node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id')"); }
sub let_ship { my ($ship) = @_; $node->safe_psql('postgres', 'ALTER DATABASE shop ' . ($ship ? 'RESET order_mgmt.auto_ship' : 'SET order_mgmt.auto_ship = off')); return; }

# One worker takes a batch through all stages in one transaction, two have a transaction for each.
for my $workers (1, 2)
{
	$node->safe_psql('postgres', "ALTER SYSTEM SET order_mgmt.workers_per_database = $workers");
	$node->reload;
	ok(becomes($node, 'postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = 'shop'), $workers, 60), "workers: $workers");
	settle($node, 'shop', 'before');
	for my $ship (0, 1)
	{
		arm('stages/begun', 'stop', 'worker');
		my $before = one_order($node, 'shop');
		my $deadline = time + 60;
		usleep(2_000) until look('stages/begun')->{fired} || time > $deadline;
		ok(look('stages/begun')->{fired}, 'a worker has begun a batch, and not looked for orders');
		let_ship($ship);
		my @after = map { one_order($node, 'shop') } 1 .. 3;
		disarm('stages/begun');
		my $expected = $ship ? 'shipped' : 'confirmed';
		ok(becomes($node, 'shop', "SELECT order_mgmt.get_order_status('$_')", $expected, 60), "auto_ship is $ship: $expected") for @after;
		is($node->safe_psql('shop', q(SELECT order_mgmt.wait_until_idle('60 s'))), 't', 'then all is at rest');
		is(join(' ', map { status_of($_) } @after), join(' ', ($expected) x 3), 'and it stays so');
		next if $ship;
		$node->safe_psql('shop', "SELECT order_mgmt.ship_order('$_')") for grep { status_of($_) eq 'confirmed' } $before, @after;
	}
}
settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
