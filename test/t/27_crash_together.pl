# An event that crashes the server while all stages work together is found as well:
# the stages go on one by one until it has been given up.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = start_faulty_server('crashing_together', [ find_points("$FindBin::RealBin/../../src") ]);
new_shop($node, 'shop');
$node->safe_psql('shop', q(SELECT order_mgmt.set_retry_policy(name, backoff_base => '0.1 s', backoff_cap => '0.1 s') FROM order_mgmt.consumers));

# Crashes at the point, again and again, until the order has failed.
sub crash_at
{
	my ($point) = @_;
	my $deadline = time + 120;
	my $id = "SELECT order_id FROM order_mgmt.find_orders('$point')";
	arm($point, 'kill each', 'worker', 12);
	my $client = in_background($node, [ 'psql', '-X', 'shop' ], "SELECT order_mgmt.capture_order('c', $Shop::one_line, order_ref => '$point')");
	my ($status, $state) = (1, '');
	until ($status == 0 && $state eq 'failed' || look($point)->{fired} >= 12 || time > $deadline)
	{
		usleep(200_000);
		($status, $state) = $node->psql('shop', "SELECT order_mgmt.get_order_status(($id))");
	}
	my $crashes = look($point)->{fired};
	disarm($point);
	finish($client);
	cmp_ok($crashes, '<', 12, "$point: given up after a few crashes");
	ok(becomes($node, 'shop', "SELECT order_mgmt.get_order_status(($id))", 'failed', 60), "$point: the order has failed");
	note("$point: $crashes crashes");
	my $healthy = capture_until_told($node, 'shop', "healthy $point");
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order('$healthy', '60 s')"), 'shipped', "$point: the next order ships");
	settle($node, 'shop', $point);
	is($node->safe_psql('shop', q(SELECT reserved FROM order_mgmt.get_product('p'))), '0', "$point: nothing stays held");
	is($node->safe_psql('shop', q(SELECT sum(order_mgmt.replay_dead_letters(name)) FROM order_mgmt.consumers)), '1', "$point: taken up again");
	is($node->safe_psql('shop', "SELECT order_mgmt.wait_for_order(($id), '60 s')"), 'shipped', "$point: it ships, now that nothing crashes");
	settle($node, 'shop', "$point, at the end");
	return;
}

crash_at('checkers/ledger-locked');
crash_at('shipper/ledgers-locked');
$node->stop;
done_testing();
