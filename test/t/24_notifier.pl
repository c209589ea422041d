# The example client: e-mails and webhooks arrive, each event once, whatever fails on the way.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $program = "$FindBin::RealBin/../../docs/examples/notifier.py";
my $files   = PostgreSQL::Test::Utils::tempdir();
my $node    = start_server('notifier', 'restart_after_crash = on');
new_shop($node, 'shop');
$node->safe_psql('shop', <<'SQL');
SELECT order_mgmt.set_account('ann', 1000, 'Ann', 'ann@example.org'), order_mgmt.set_account('shy', 1000, 'Shy', 'shy@example.org'),
    order_mgmt.set_account('broken', 1000, 'Broken', 'nobody@example.org'), order_mgmt.set_account('poor', 0, NULL, 'poor@example.org');
CREATE ROLE notifier LOGIN IN ROLE order_mgmt_app;
SQL
sub capture
{
	my ($customer) = @_;
	return $node->safe_psql('shop', "SELECT order_mgmt.capture_order('$customer', $Shop::one_line)");
}

my $sink = IPC::Run::start([ '/usr/bin/python3', "$FindBin::RealBin/sink.py", "$files/got", 'secret' ], '>', \my $unused, '2>', "$files/sink.err");
sub got { return -e "$files/got" ? slurp_file("$files/got") : ''; }
sub arrives
{
	my ($pattern, $times, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $deadline = time + 120;
	my $count;
	for (;;)
	{
		$count = () = got() =~ /$pattern/mg;
		last if $count >= $times || time > $deadline;
		usleep(20_000);
	}
	return is($count, $times, $what);
}
arrives(qr/^ports \d+ \d+$/m, 1, 'somebody listens');
my ($smtp, $http) = got() =~ /^ports (\d+) (\d+)$/m;

my %programs;
sub run_notifier
{
	my ($channel) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'shop', PGUSER => 'notifier', NOTIFIER_BATCH => 5,
		NOTIFIER_SMTP => "127.0.0.1:$smtp", NOTIFIER_URL => "http://127.0.0.1:$http/hook", NOTIFIER_SECRET => 'secret');
	$programs{$channel} = IPC::Run::start([ '/usr/bin/python3', $program, $channel ], '>', "$files/$channel.out", '2>', "$files/$channel.err");
	return;
}
sub end_notifier
{
	my ($channel, $signal) = @_;
	$programs{$channel}->signal($signal);
	eval { $programs{$channel}->finish };
	return $programs{$channel}->full_result(0);
}
run_notifier($_) for qw(mail webhook);
ok(becomes($node, 'shop', q(SELECT string_agg(name || ' ' || owner, ', ' ORDER BY name) FROM order_mgmt.consumers WHERE kind = 'external'),
	'notifier-mail notifier, notifier-webhook notifier', 60), 'each channel makes its consumer');
$node->safe_psql('shop', q(SELECT order_mgmt.set_retry_policy(name, 3, '1 ms', '10 ms') FROM order_mgmt.consumers WHERE kind = 'external'));

capture($_) for qw(ann poor);
arrives(qr/^mail ann\@example.org <\d+\.notifier-mail\@localhost>$/m, 1, 'a mail about a shipment');
arrives(qr/^mail poor\@example.org /m, 1, 'a mail about a refusal');
arrives(qr/^hook 200 ann order_shipped notifier-webhook-\d+$/m, 1, 'a webhook about a shipment, with a good signature');
arrives(qr/^hook 200 poor order_rejected /m, 1, 'a webhook about a refusal');

# What fails once, or always, holds up nothing else.
capture($_) for qw(shy broken ann);
arrives(qr/^hook 200 ann /m, 2, 'the next webhook');
arrives(qr/^hook 500 shy /m, 1, 'one that fails');
arrives(qr/^hook 200 shy /m, 1, 'comes again');
arrives(qr/^hook 500 broken /m, 3, 'one that always fails comes three times');
arrives(qr/^mail ann /m, 0, 'no mail without an address');
ok(becomes($node, 'shop', q(SELECT string_agg(concat_ws(' ', consumer, attempts, error_code, split_part(message, ':', 1)), ', ' ORDER BY consumer)
	FROM order_mgmt.dead_letters), 'notifier-mail 3 P0001 SMTPRecipientsRefused, notifier-webhook 3 P0001 HTTPError', 60), 'and is a dead letter');

# The server is killed, and the programs find it again.
$node->stop('immediate');
$node->start;
capture('ann');
arrives(qr/^mail ann\@/m, 3, 'after a crash of the server, mails go on');
arrives(qr/^hook 200 ann /m, 3, 'so do webhooks');

# A program is ended, while it sleeps and while it works.
is(end_notifier('webhook', 'TERM'), 0, 'SIGTERM ends a program that sleeps');
$node->safe_psql('shop', "SELECT order_mgmt.capture_order('ann', $Shop::one_line) FROM generate_series(1, 100)");
arrives(qr/^mail ann\@/m, 103, 'mails of a hundred orders');
run_notifier('webhook');
my $deadline = time + 180;
usleep(1000) until (() = got() =~ /^hook 200 ann /mg) > 5 || time > $deadline;
end_notifier('webhook', 'KILL');
run_notifier('webhook');
my %keys;
until (keys %keys >= 103 || time > $deadline)
{
	%keys = ();
	$keys{$_}++ for got() =~ /^hook 200 ann order_shipped (\S+)$/mg;
	usleep(20_000);
}
is(scalar keys %keys, 103, 'killed in its work, started again, it does the rest');
ok(becomes($node, 'shop', q(SELECT count(*) FROM order_mgmt.receive_events('notifier-webhook')), '0', 60), 'down to the last event');
cmp_ok((grep { $_ > 1 } values %keys), '<=', 5, 'twice at most those of one batch');
my @ids = got() =~ /^mail ann\@\S+ (\S+)$/mg;
my %ids = map { $_ => 1 } @ids;
is(scalar keys %ids, scalar @ids, 'no mail has come twice');

is(end_notifier($_, 'TERM'), 0, "$_: SIGTERM ends it") for qw(mail webhook);
settle($node, 'shop', 'at the end');
$sink->kill_kill;
$node->stop;
done_testing();
