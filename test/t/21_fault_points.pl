# Lets a client's backend, a worker or the launcher fail at every fault point of the sources: by an
# error, by SIGKILL, and ended by its administrator while it stands there. Whatever is repeated with
# the same keys until it is acknowledged has then happened once, and everything comes to its end.
#
# Which points there are is read from the sources, and which of the steps below leads whom to a point
# is found by running each step once. A point to which none leads fails the test.
#
# FAULTS, a regular expression, picks some: FAULTS='^ticks/.*worker, kill'
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Faults;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;
use Time::HiRes qw(time usleep);

my $give_up = 120;   # seconds for one fault to be fired and to be healed
# Those of months that move are for 51_archive_crash.pl.
my @points = grep { $_->{name} !~ m{^(?:archivedamounts|archivefile|archiving|monthswap|monthtraits|restoring)/} } find_points("$FindBin::RealBin/../../src");
my %seen;
is(join(' ', grep { $seen{$_}++ || length($_) > 31 } map { $_->{name} } @points), '', 'every fault point has a name of its own');

my $node = start_faulty_server('faults', \@points, 'autovacuum = off', 'jit = off', 'order_mgmt.premake_months = 1');
my $shop;         # the database
my $round;        # in this database; part of every key and reference, so each round has orders of its own
my $fault;        # the point that is armed: name, action, kind
my $months;

# A new one from time to time keeps the proofs short.
sub open_shop
{
	my ($name) = @_;
	$node->safe_psql('postgres', "DROP DATABASE $shop") if $shop;
	$shop = $name;
	$round = 0;
	$months = 1;
	new_shop($node, $shop);
	$node->safe_psql($shop, q(SELECT order_mgmt.set_account('poor', 1)));
	return;
}

# Ends whoever stands still at the point, or lets him go on where nobody can be ended.
sub look_after_stopped
{
	return if !$fault || $fault->{action} ne 'stop' || $fault->{released};
	my $point = look($fault->{name});
	return if !$point->{fired};
	my $deadline = time + $give_up;
	kill 'TERM', $point->{pid};
	usleep(1000) while $point->{can_be_ended} && kill(0, $point->{pid}) && time < $deadline;
	disarm($fault->{name});
	$fault->{released} = 1;
	return;
}

# Runs a script of psql; what it has printed.
sub run_script
{
	my ($script) = @_;
	my $run = in_background($node, [ 'psql', '-XAtq', '-d', $shop ], $script);
	while ($run->{harness}->pumpable)
	{
		look_after_stopped();
		usleep(2000);
	}
	finish($run);
	return $run->{out};
}

# Each step gives true when all that it asked for has been acknowledged, and can be repeated until then.

my $two = q([{"product_id": "p", "quantity": 1, "unit_price": 1}, {"product_id": "p", "quantity": 2, "unit_price": 2.5}]);
my %told;    # by key of this round: what was answered

sub shop
{
	my $r = "r$round";
	my $batch = join ',', map { qq({"customer_id": "c", "lines": $_->[1], "idempotency_key": "$r-$_->[0]", "order_ref": "$r-$_->[0]"}) }
	  [ 'first', $two ], [ 'second', $two ], [ 'invalid', '[]' ];
	my $out = run_script(<<SQL);
SELECT 'single', order_mgmt.capture_order('c', '$two', '$r-single', '$r-single');
SELECT 'batch' || ordinal, coalesce(order_id::text, error_code) FROM order_mgmt.capture_orders('[$batch]');
SELECT 'poor', order_mgmt.capture_order('poor', '$two', '$r-poor', '$r-poor');
SELECT order_mgmt.capture_order('c', '$two', '$r-late', '$r-late') AS late \\gset
SELECT 'cancelled', order_mgmt.cancel_order(order_mgmt.capture_order('c', '$two', '$r-cancelled', '$r-cancelled'));
SELECT 'balance', order_mgmt.adjust_balance('c', 1, 'fault', '$r') > 0;
SELECT 'stock', order_mgmt.adjust_stock('p', 1, 'fault', '$r') > 0;
SELECT 'note', order_mgmt.add_order_note(:'late', 'hello') > 0;
SELECT 'late', order_mgmt.cancel_order(:'late');
\\if :ERROR
\\echo late| :SQLSTATE
\\endif
SELECT 'idle', order_mgmt.wait_until_idle('10 s');
SQL
	for my $line (split /\n/, $out)
	{
		my ($what, $answer) = split /\| ?/, $line;
		next if $what eq 'late' && $answer !~ /^(?:cancelled|OM005)$/ || $what eq 'idle' && $answer ne 't';
		fail("$what was answered with $answer, and before with $told{$what}") if ($told{$what} // $answer) ne $answer;
		$told{$what} //= $answer;
	}
	return keys %told == 11;
}

sub ship_by_hand
{
	my $r = "r$round-by-hand";
	return run_script(<<SQL) =~ /^shipped$/m;
SELECT order_mgmt.pause_consumer('shipper') \\g /dev/null
SELECT order_mgmt.capture_order('c', '$two', '$r', '$r') AS id \\gset
SET order_mgmt.auto_ship = off;
SELECT order_mgmt.wait_for_order(:'id', '5 s') = 'confirmed' AS waits \\gset
\\if :waits
SELECT order_mgmt.ship_order(:'id') \\g /dev/null
\\endif
RESET order_mgmt.auto_ship;
SELECT order_mgmt.resume_consumer('shipper') \\g /dev/null
SELECT order_mgmt.get_order_status(:'id');
SQL
}

my $keys_are_old = q(UPDATE order_mgmt.rotations SET since = since - interval '1 year' WHERE name = 'idempotency_keys');

sub maintain
{
	return run_script("$keys_are_old;\nSELECT 'done' FROM (SELECT count(*) FROM order_mgmt.run_maintenance()) AS m;\n") =~ /done/;
}

sub make_months
{
	$months++;
	return run_script("SET order_mgmt.premake_months = $months;\nSELECT 'done' FROM (SELECT count(*) FROM order_mgmt.run_maintenance()) AS m;\n") =~ /done/;
}

# The workers come back, and look after their tables first.
sub knock
{
	return run_script("$keys_are_old;\nALTER DATABASE $shop SET order_mgmt.batch_size = 1000;\nSELECT 'done';\n") =~ /done/;
}

sub knock_for_months
{
	$months++;
	return run_script("ALTER DATABASE $shop SET order_mgmt.premake_months = $months;\nSELECT 'done';\n") =~ /done/;
}

# Without workers a transaction handles its own orders.
sub work_alone
{
	run_script("ALTER DATABASE $shop SET order_mgmt.workers = off");
	my $r = "r$round-alone";
	my $out = becomes($node, 'postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'order_mgmt worker' AND datname = '$shop'", '0', 10)
	  ? run_script(<<SQL) : '';
BEGIN;
SELECT order_mgmt.capture_order('c', '$two', '$r', '$r') \\g /dev/null
SELECT order_mgmt.run_pipeline() \\g /dev/null
COMMIT;
SELECT 'done' FROM order_mgmt.find_orders('$r') WHERE status = 'shipped';
SQL
	run_script("ALTER DATABASE $shop RESET order_mgmt.workers");
	return $out =~ /done/;
}

# The next launcher comes a second later.
sub end_launcher
{
	my $launcher = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'order_mgmt launcher');
	my ($status, $pid) = $node->psql('postgres', $launcher);
	return 0 if !$pid || !kill('TERM', $pid);
	my $deadline = time + 3;
	for (my $next = ''; $status != 0 || $next eq '' || $next eq $pid; usleep(20_000))
	{
		return 0 if time > $deadline;
		look_after_stopped();
		($status, $next) = $node->psql('postgres', $launcher);
	}
	return 1;
}

# A clone is taken over by the first who writes there, and works after post_restore().
sub clone
{
	my ($connect, $wait) = @_;
	return run_script(<<SQL) =~ /^done$/m;
DROP DATABASE IF EXISTS clone WITH (FORCE);
CREATE DATABASE clone TEMPLATE $shop ALLOW_CONNECTIONS false;
$connect
ALTER DATABASE clone ALLOW_CONNECTIONS true;
\\connect clone
SET client_min_messages = error;
$wait
SELECT order_mgmt.capture_order('c', '$two', 'r$round-clone') AS id \\gset
SELECT order_mgmt.post_restore() AS resumed \\gset
\\if :{?resumed}
ALTER DATABASE clone RESET order_mgmt.workers;
SELECT order_mgmt.wait_for_order(:'id', '10 s') = 'shipped' AND order_mgmt.wait_until_idle('10 s')
   AND NOT EXISTS (SELECT FROM order_mgmt.check_invariants()) AS is_well \\gset
\\endif
\\connect $shop
DROP DATABASE clone WITH (FORCE);
SELECT 'done' WHERE :'is_well';
SQL
}

sub clone_for_client
{
	return clone('ALTER DATABASE clone SET order_mgmt.workers = off;', '');
}

sub clone_for_worker
{
	return clone('', <<'SQL');
DO $$
BEGIN
    FOR i IN 1 .. 500 LOOP
        EXIT WHEN (SELECT moved FROM order_mgmt.installation);
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SQL
}

# A check that fails, its dead letter, and the order taken up again when the cause has been mended.
sub fail_and_replay
{
	my $r = "r$round-poisoned";
	return run_script(<<SQL) =~ /^shipped$/m;
SELECT order_mgmt.set_retry_policy('stock_checker', max_attempts => 2, backoff_base => '10 ms', backoff_cap => '10 ms') \\g /dev/null
SELECT NOT EXISTS (SELECT FROM order_mgmt.find_orders('$r')) AS is_new \\gset
\\if :is_new
BEGIN;
SELECT order_mgmt.capture_order('c', '$two', '$r', '$r') AS id \\gset
DELETE FROM order_mgmt.order_lines WHERE order_id = :'id';
COMMIT;
\\endif
SELECT order_id AS id, created_at AS at FROM order_mgmt.find_orders('$r') \\gset
SELECT order_mgmt.wait_for_order(:'id', '5 s') \\g /dev/null
SELECT order_mgmt.wait_until_idle('5 s') \\g /dev/null
INSERT INTO order_mgmt.order_lines SELECT :'id', :'at', n, 'p', n, 1 + 1.5 * (n - 1) FROM generate_series(1, 2) AS n
 WHERE order_mgmt.get_order_status(:'id') = 'failed' ON CONFLICT DO NOTHING;
SELECT order_mgmt.replay_dead_letters('stock_checker') \\g /dev/null
SELECT order_mgmt.wait_for_order(:'id', '5 s');
SQL
}

# A model that checks orders, asked again where it fails
sub ask_model
{
	my $r = "r$round";
	run_script(<<SQL);
SET client_min_messages = warning;
CREATE OR REPLACE FUNCTION risk(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input->''metadata''->''risk''';
SELECT order_mgmt.create_model('risk', 'sql', '{"function": "public.risk"}') \\g /dev/null
SELECT order_mgmt.set_retry_policy('balance_checker', backoff_base => '10 ms', backoff_cap => '10 ms') \\g /dev/null
ALTER DATABASE $shop SET order_mgmt.check_on_failure = retry;
ALTER DATABASE $shop SET order_mgmt.check_model = 'risk';
SQL
	my $out = run_script(<<SQL);
SELECT order_mgmt.capture_order('c', '$two', '$r-harmless', '$r-harmless', '{"risk": 0}') AS harmless \\gset
SELECT order_mgmt.capture_order('c', '$two', '$r-risky', '$r-risky', '{"risk": 1}') AS risky \\gset
SELECT order_mgmt.wait_for_order(:'harmless', '5 s') || ' ' || order_mgmt.wait_for_order(:'risky', '5 s');
SQL
	# Not before: what a crash has left undecided would then be decided without the model.
	return $out =~ /^shipped rejected$/m && run_script("ALTER DATABASE $shop RESET order_mgmt.check_model; SELECT 'reset';") =~ /^reset$/m;
}

# A program's effect and its acknowledgment are one transaction.
sub use_program
{
	my $r = "r$round-program";
	return run_script(<<SQL) =~ /^1$/m;
CREATE TABLE IF NOT EXISTS effects (order_id uuid PRIMARY KEY);
SELECT order_mgmt.create_consumer('program', '{order_shipped}') \\g /dev/null
SELECT order_mgmt.capture_order('c', '$two', '$r', '$r') AS id \\gset
SELECT order_mgmt.wait_for_order(:'id', '5 s') \\g /dev/null
SELECT coalesce(min(batch_id), 0) AS batch FROM order_mgmt.receive_events('program', 1000, '1 s') \\gset
BEGIN;
INSERT INTO effects SELECT order_id FROM order_mgmt.receive_events('program');
SELECT order_mgmt.acknowledge_batch('program', :batch) \\g /dev/null
COMMIT;
SELECT count(*) FROM effects WHERE order_id = :'id';
SQL
}

# A function of the user's own, in a process of its own
sub use_handler
{
	my $r = "r$round-handler";
	return run_script(<<SQL) =~ /^1$/m;
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS handled (order_id uuid PRIMARY KEY);
CREATE OR REPLACE FUNCTION handle(event jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES ((event->>''order_id'')::uuid)';
SELECT order_mgmt.subscribe('handler', 'public.handle(jsonb)', '{order_shipped}') \\g /dev/null
SELECT order_mgmt.capture_order('c', '$two', '$r', '$r') AS id \\gset
SELECT order_mgmt.wait_for_order(:'id', '5 s') \\g /dev/null
SELECT order_mgmt.wait_until_idle('5 s') \\g /dev/null
SELECT count(*) FROM handled WHERE order_id = :'id';
SQL
}

# A file is loaded, one is not there, and one is not to be loaded after all; whatever fails is asked for again.
my $files = PostgreSQL::Test::Utils::tempdir();

sub load_files
{
	my $r = "r$round-load";
	my $path = "$files/$shop-$r.csv";
	append_to_file($path, join '', "order_ref,customer_id,product_id,quantity,unit_price\n", map { "$r$_,c,p,@{[ $_ == 2 ? 'bad' : 1 ]},1\n" } 1 .. 3) if !-e $path;
	return run_script(<<SQL) =~ /^done\nfailed\ncancelled$/m;
SELECT order_mgmt.load_orders_csv('$path', options => '{"batch_rows": 1}') AS id \\gset
SELECT status FROM order_mgmt.wait_for_load(:id, '10 s');
SELECT order_mgmt.load_orders_csv('$path.missing') AS id \\gset
SELECT status FROM order_mgmt.wait_for_load(:id, '10 s');
BEGIN;
SELECT order_mgmt.load_orders_csv('$path') AS id \\gset
SELECT order_mgmt.cancel_load(:id) \\g /dev/null
COMMIT;
SELECT status FROM order_mgmt.wait_for_load(:id, '10 s');
SQL
}

# One file is sent, and a row of history is staged.
sub send_rows
{
	my $r = "r$round-sent";
	return run_script(<<SQL) =~ /^done\ndone$/m;
SELECT upload_id AS id FROM order_mgmt.create_upload() \\gset
SELECT order_mgmt.append_upload(:'id', convert_to(E'order_ref,customer_id,product_id,quantity,unit_price\\n${r}1,c,p,1,1\\n', 'UTF8'), 0) \\g /dev/null
SELECT order_mgmt.load_upload(:'id') AS id \\gset
SELECT status FROM order_mgmt.wait_for_load(:id, '10 s');
INSERT INTO order_mgmt.order_staging VALUES ('${r}2', 'old', 'old', 1, 1, '2020-01-01');
SELECT order_mgmt.load_orders_csv('staged', 'history') AS id \\gset
SELECT status FROM order_mgmt.wait_for_load(:id, '10 s');
SQL
}

# What is a minute old goes.
sub purge
{
	return run_script(<<SQL) =~ /^done$/m;
SET order_mgmt.load_retention = '1min';
SET order_mgmt.dead_letter_retention = '1min';
SELECT order_mgmt.purge_loads() + order_mgmt.purge_dead_letters() >= 0 AS purged \\gset
SELECT order_mgmt.refresh_statistics() >= 0 AS refreshed \\gset
SELECT 'done' WHERE :'purged' AND :'refreshed';
SQL
}

# An old month of a table of a user becomes warm, in the session that has given the table into care, or by the worker for that.
sub old_table
{
	my ($name) = @_;
	return <<SQL;
SET client_min_messages = warning;
DROP TABLE IF EXISTS $name@{[ $round - 1 ]};
CREATE TABLE IF NOT EXISTS $name$round (at date, x int) PARTITION BY RANGE (at);
CREATE TABLE IF NOT EXISTS $name${round}_old PARTITION OF $name$round FOR VALUES FROM ('2010-01-01') TO ('2010-02-01');
INSERT INTO $name$round SELECT '2010-01-01', 1 WHERE NOT EXISTS (SELECT FROM $name$round);
SQL
}

sub move_months
{
	my $t = "moved$round";
	return run_script(old_table('moved') . <<SQL) =~ /^warm 1$/m;
BEGIN;
SELECT order_mgmt.manage_table('$t', 'at', premake => 0, warm_after => '1 month') \\g /dev/null
SELECT count(*) FROM order_mgmt.run_maintenance() \\g /dev/null
SELECT count(*) FROM order_mgmt.run_maintenance() \\g /dev/null
COMMIT;
SELECT tier || ' ' || (SELECT count(*) FROM $t) FROM order_mgmt.partitions WHERE partition_name LIKE '$t%old';
SQL
}

sub move_months_beside
{
	my $t = "watched$round";
	return run_script(old_table('watched') . <<SQL) =~ /^warm 1$/m;
SELECT order_mgmt.manage_table('$t', 'at', premake => 0, warm_after => '1 month') \\g /dev/null
DO \$\$
BEGIN
    FOR i IN 1 .. 500 LOOP
        EXIT WHEN EXISTS (SELECT FROM order_mgmt.partitions WHERE partition_name LIKE '$t%old' AND tier = 'warm');
        COMMIT;  -- who has looked at a table is in the way of a move
        PERFORM pg_sleep(0.01);
    END LOOP;
END
\$\$;
SELECT tier || ' ' || (SELECT count(*) FROM $t) FROM order_mgmt.partitions WHERE partition_name LIKE '$t%old';
SQL
}

my @steps = (
	[ shop => \&shop ],
	[ ship_by_hand => \&ship_by_hand ],
	[ maintain => \&maintain ],
	[ make_months => \&make_months ],
	[ knock => \&knock ],
	[ knock_for_months => \&knock_for_months ],
	[ work_alone => \&work_alone ],
	[ fail_and_replay => \&fail_and_replay ],
	[ ask_model => \&ask_model ],
	[ use_program => \&use_program ],
	[ load_files => \&load_files ],
	[ use_handler => \&use_handler ],
	[ send_rows => \&send_rows ],
	[ purge => \&purge ],
	[ move_months => \&move_months ],
	[ move_months_beside => \&move_months_beside ],
	[ end_launcher => \&end_launcher ],
	[ clone_for_client => \&clone_for_client ],
	[ clone_for_worker => \&clone_for_worker ]);

# What must be true as soon as everything has come to rest; '' when it is.
sub find_wrong
{
	my $wrong = q(SELECT order_ref || ' is ' || string_agg(status, ', ') FROM order_mgmt.orders
GROUP BY order_ref HAVING count(*) <> 1 OR NOT min(status) = ANY (CASE substring(order_ref FROM '-(.*)$')
    WHEN 'poor' THEN '{rejected}' WHEN 'risky' THEN '{rejected}' WHEN 'cancelled' THEN '{cancelled}' WHEN 'late' THEN '{shipped,cancelled}' ELSE '{shipped}' END::text[]));
	my $late = !defined $told{late} ? 'true' : $told{late} eq 'cancelled' ? q(status = 'cancelled') : q(status = 'shipped');
	return $node->safe_psql($shop, <<SQL);
$wrong;
SELECT 'the late one is ' || status FROM order_mgmt.find_orders('r$round-late') WHERE NOT ($late);
SELECT 'of the orders of this round there are ' || count(*) FROM order_mgmt.orders WHERE order_ref IN (SELECT 'r$round-' || name
    FROM unnest('{single,first,second,poor,late,cancelled}'::text[]) AS name) HAVING count(*) <> 6;
SELECT 'balance is ' || balance FROM order_mgmt.accounts WHERE customer_id = 'c' AND (reserved <> 0 OR balance <> 1000000 + $round
    - (SELECT sum(total) FROM order_mgmt.orders WHERE customer_id = 'c' AND status = 'shipped'));
SELECT 'stock is ' || on_hand FROM order_mgmt.stock WHERE product_id = 'p' AND (reserved <> 0 OR on_hand <> 1000000 + $round
    - (SELECT sum(quantity) FROM order_mgmt.order_lines JOIN order_mgmt.orders USING (order_id, created_at) WHERE status = 'shipped' AND order_lines.product_id = 'p'));
SELECT * FROM order_mgmt.check_invariants();
SQL
}

# Who came to which point how often
sub count_hits
{
	return map { my $point = look($_->{name}); ("client $_->{name}" => $point->{client}, "worker $_->{name}" => $point->{worker}) } @points;
}

my %hits;
my %leads;

sub note_leads
{
	my ($step) = @_;
	my %now = count_hits();
	$leads{$_} //= $step for grep { $now{$_} > $hits{$_} } keys %now;
	return;
}

# One round: a step, then a day in the shop, each repeated until it is acknowledged; '' when all ended well.
sub run_round
{
	my ($step, $name, $action, $kind) = @_;
	my $deadline = time + $give_up;
	my ($stepped, $shopped) = (0, 0);
	$round++;
	%told = ();
	$fault = $name && { name => $name, action => $action, kind => $kind };
	my $log_before = -s $node->logfile;
	arm($name, $action, $kind) if $fault;
	for (;;)
	{
		$stepped ||= $step->[1]->();
		$shopped ||= $stepped && ($step->[1] == \&shop || shop());
		my $is_over = !$fault || look($name)->{fired};
		# A worker comes there when the client has its answer.
		for (my $wait = time + 0.3; !$is_over && $kind eq 'worker' && time < $wait; usleep(3000))
		{
			$is_over = look($name)->{fired};
		}
		look_after_stopped();
		last if $stepped && $shopped && $is_over;
		$stepped &&= $is_over;
		return "the point was not reached, or not all was acknowledged: " . join ' ', %told if time > $deadline;
	}
	note_leads($step) if !$fault;
	# Who had all answers before the kill may be asking while the server is being restarted.
	$node->wait_for_log(qr/ready to accept connections/, $log_before) if $action && $action eq 'kill';
	return find_wrong();
}

# Without a fault: which step leads there first
open_shop('shop');
for my $step (@steps)
{
	%hits = count_hits();
	is(run_round($step), '', "without a fault: $step->[0]");
}
is(join(' ', grep { !$leads{"client $_"} && !$leads{"worker $_"} } map { $_->{name} } @points), '', 'every fault point is reached');

for my $point (@points)
{
	my $name = $point->{name};
	my ($module) = split qr{/}, $name;
	for my $kind ('client', 'worker')
	{
		my $step = $leads{"$kind $name"} or next;
		for my $action ($point->{nofail} ? () : ('error'), 'kill', 'stop')
		{
			next if "$name, $kind, $action" !~ ($ENV{FAULTS} // '.');
			open_shop("shop_$module") if $shop ne "shop_$module";
			my $began = time;
			is(run_round($step, $name, $action, $kind), '', "$name, $kind, $action");
			note(sprintf '%.2f s by %s', time - $began, $step->[0]);
			disarm($name);
		}
	}
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|invisible tuple|reference leak/, 'nothing untoward in the log');
$node->stop;
done_testing();
