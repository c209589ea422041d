# An event that crashes the server whenever a checker takes it up is found, and given up after the third time.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $point = 'checkers/ledger-locked';
my $node = start_faulty_server('crashing', [ find_points("$FindBin::RealBin/../../src") ]);
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_retry_policy('balance_checker', backoff_base => '0.1 s', backoff_cap => '0.1 s')));
# So that it is always the balance checker that comes to the point
$node->safe_psql('shop', q(SELECT order_mgmt.pause_consumer('stock_checker')));

arm($point, 'kill each', 'worker', 3);
my $id = capture_until_told($node, 'shop', 'deadly');
for my $crash (1 .. 3)
{
	my $deadline = time + 60;
	usleep(1000) while look($point)->{fired} < $crash && time < $deadline;
	cmp_ok(look($point)->{fired}, '>=', $crash, "crash $crash");
}
ok(becomes($node, 'shop', 'SELECT consumer, error_code FROM order_mgmt.dead_letters', 'balance_checker|57P02', 60), 'after the third crash it is a dead letter');
is($node->safe_psql('shop', "SELECT order_mgmt.get_order_status('$id')"), 'failed', 'its order has failed');
my $healthy = capture_until_told($node, 'shop', 'healthy');
$node->safe_psql('shop', q(SELECT order_mgmt.resume_consumer('stock_checker')));
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$healthy', '60 s')"), 'shipped', 'the next order ships');
settle($node, 'shop', 'after the crashes');
is($node->safe_psql('shop', q(SELECT reserved FROM order_mgmt.get_product('p'))), '0', 'nothing stays held');

is($node->safe_psql('shop', q(SELECT order_mgmt.replay_dead_letters('balance_checker'))), '1', 'taken up again');
is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$id', '60 s')"), 'shipped', 'it ships, now that nothing crashes');
settle($node, 'shop', 'at the end');
$node->stop;
done_testing();
