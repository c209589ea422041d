# Jobs of pg_cron: from its own database and from another, really run, changed, removed; two runs at once; its history.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Shop;
use Test::More;

my $extensions = `pg_config --sharedir`;
chomp $extensions;
plan skip_all => 'pg_cron is not installed' unless -e "$extensions/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('cron');
$node->init(extra => [ '--locale=C', '-E', 'UTF8' ]);
$node->append_conf('postgresql.conf', join "\n", "shared_preload_libraries = 'order_mgmt, pg_cron'", 'cron.use_background_workers = on',
	"cron.database_name = 'home'", 'max_worker_processes = 40', 'max_connections = 40', "timezone = 'UTC'", '');
$node->start;

# What a statement raises: SQLSTATE, message and hint, on one line.
sub error_of
{
	my ($database, $sql, %more) = @_;
	my ($status, $out, $err) = $node->psql($database, $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ], %more);
	return 'no error' if $status == 0;
	my ($error) = $err =~ /ERROR:  (.*?)\n/;
	my ($hint) = $err =~ /HINT:  (.*?)\n/;
	return join ' | ', $error // $err, $hint // ();
}

my $schedule = q(SELECT job_name FROM order_mgmt.schedule_jobs());
my $often = q(SELECT count(*) FROM order_mgmt.schedule_jobs('{"maintenance": "* * * * *", "archive": "* * * * *", "idempotency_keys": "* * * * *", "loads": "* * * * *", "dead_letters": "* * * * *", "statistics": "* * * * *", "job_history": "* * * * *", "predictions": "* * * * *"}'));
my @words = qw(maintenance archive idempotency_keys loads dead_letters statistics job_history predictions);
sub every_minute { my ($only) = @_; return sprintf q(SELECT count(*) FROM order_mgmt.schedule_jobs('{%s}')), join ', ', (map { qq("$_": null) } grep { $_ ne $only } @words), qq("$only": "* * * * *"); }
sub jobs_of { my ($database) = @_; return join "\n", map { "order_mgmt $database $_" } @words }
sub jobs { return $node->safe_psql('home', "SELECT string_agg(jobname || ' ' || schedule || ' ' || username, ', ' ORDER BY jobid) FROM cron.job") }

new_shop($node, 'away');

# Nothing is there yet
like(error_of('away', $schedule), qr/^OM006: database "home", in which pg_cron lives, takes no connections \| /, 'its database is missing');
new_shop($node, 'home');
like(error_of('away', $schedule), qr/^OM006: pg_cron is not installed in database "home" \| Run CREATE EXTENSION pg_cron/, 'it is missing in its database, seen from another');
like(error_of('home', $schedule), qr/^OM006: pg_cron is not installed in database "home" \| Run CREATE EXTENSION pg_cron/, 'and from there');
$node->safe_psql('home', 'CREATE EXTENSION pg_cron');

# From both databases, twice
for my $database (qw(home away))
{
	is($node->safe_psql($database, $schedule), jobs_of($database), "$database: all jobs are scheduled");
	my $before = jobs();
	is($node->safe_psql($database, $schedule), jobs_of($database), "$database: again");
	is(jobs(), $before, "$database: that changes nothing");
}
is($node->safe_psql('home', 'SELECT database, count(*), count(DISTINCT jobid) FROM cron.job GROUP BY 1 ORDER BY 1'), "away|8|8\nhome|8|8", 'each job is there once, for its database');
is($node->safe_psql('home', q(SELECT schedule FROM cron.job WHERE jobname = 'order_mgmt away loads')), '17 3 * * *', 'with its usual time');

# Other times, none, nonsense
is($node->safe_psql('away', q(SELECT job_name FROM order_mgmt.schedule_jobs('{"loads": "5 4 * * 0", "statistics": null}'))),
	join("\n", map { "order_mgmt away $_" } qw(maintenance archive idempotency_keys loads dead_letters job_history predictions)), 'a job less');
is($node->safe_psql('home', q(SELECT schedule FROM cron.job WHERE jobname = 'order_mgmt away loads')), '5 4 * * 0', 'and one at another time');
is($node->safe_psql('home', q(SELECT count(*) FROM cron.job WHERE jobname = 'order_mgmt away statistics')), '0', 'the one less is gone');
my $nonsense = q(SELECT order_mgmt.schedule_jobs('{"loads": "at noon"}'));
like(error_of($_, $nonsense), qr/^22023: invalid schedule: at noon/, "$_: pg_cron refuses what is no schedule") for qw(home away);
is($node->safe_psql('home', q(SELECT schedule FROM cron.job WHERE jobname = 'order_mgmt away loads')), '5 4 * * 0', 'which changes nothing');

# A transaction that is rolled back: in its own database nothing happens
$node->safe_psql('home', 'BEGIN; SELECT order_mgmt.unschedule_jobs(); ROLLBACK');
is($node->safe_psql('home', q(SELECT count(*) FROM cron.job WHERE database = 'home')), '8', 'what is rolled back has not happened');

# Others: their own jobs, by the privileges that they have
$node->safe_psql('home', 'CREATE ROLE keeper LOGIN IN ROLE order_mgmt_operator; CREATE ROLE clerk LOGIN IN ROLE order_mgmt_app; CREATE ROLE crowd IN ROLE order_mgmt_operator');
like(error_of($_, "SET ROLE clerk; $schedule"), qr/^42501: permission denied for function schedule_jobs/, "$_: who is no operator may not") for qw(home away);
like(error_of($_, "SET ROLE crowd; $schedule"), qr/^OM005: role "crowd" cannot have jobs/, "$_: nor who may not log in") for qw(home away);
like(error_of($_, "SET ROLE keeper; $schedule"), qr/^42501: permission denied to use pg_cron \| In database "home": GRANT USAGE/, "$_: nor who may not use pg_cron") for qw(home away);
$node->safe_psql('home', 'GRANT USAGE ON SCHEMA cron TO keeper');
is($node->safe_psql('home', "SET ROLE keeper; $schedule"), jobs_of('home'), 'home: who may use schema cron may');
like(error_of('away', "SET ROLE keeper; $schedule"), qr/^42501: permission denied to use pg_cron \| .*schedule_in_database/, 'away: that takes a function more');
$node->safe_psql('home', 'GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO keeper');
is($node->safe_psql('away', "SET ROLE keeper; $schedule"), jobs_of('away'), 'and then one may');
$node->safe_psql('home', 'REVOKE CONNECT ON DATABASE home FROM PUBLIC');
like(error_of('away', "SET ROLE keeper; $schedule"), qr/^42501: permission denied to connect to database "home"/, 'away: nor who may not go there');
$node->safe_psql('home', 'GRANT CONNECT ON DATABASE home TO PUBLIC');
is($node->safe_psql('home', q(SELECT username, count(*) FROM cron.job WHERE database = 'away' GROUP BY 1 ORDER BY 1)), "keeper|8\npostgres|7", 'each has jobs of their own');
is($node->safe_psql($_, 'SET ROLE keeper; SELECT order_mgmt.unschedule_jobs()'), '8', "$_: and takes only these away") for qw(home away);
is($node->safe_psql('home', q(SELECT database, count(*) FROM cron.job GROUP BY 1 ORDER BY 1)), "away|7\nhome|8", 'those of others stay');

# A name that is too long for a job
my $long = 'x' x 60;
new_shop($node, $long);
is($node->safe_psql($long, 'SELECT count(*), count(DISTINCT job_name), max(length(job_name)) FROM order_mgmt.schedule_jobs()'), '8|8|63', 'long names are cut');
is($node->safe_psql($long, $schedule), $node->safe_psql('home', "SELECT jobname FROM cron.job WHERE database = '$long' ORDER BY jobid"), 'as pg_cron has them');
is($node->safe_psql($long, 'SELECT order_mgmt.unschedule_jobs()'), '8', 'and found again');

# Many at once
my @crowd = map { in_background($node, [ 'psql', '-X', '-q', '-A', '-t', '-d', 'away', '-c', $_ % 2 ? $schedule : 'SELECT order_mgmt.unschedule_jobs()' ]) } 1 .. 6;
finish($_) for @crowd;
is($node->safe_psql('away', $schedule), jobs_of('away'), 'several at once do no harm');

# A backlog of months in a database without workers, of which a job moves each in a transaction of its own
my $archive = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "ALTER SYSTEM SET order_mgmt.archive_directory = '$archive'; SELECT pg_reload_conf()");
new_shop($node, 'idle');
$node->safe_psql('postgres', 'ALTER DATABASE idle SET order_mgmt.workers = off');
$node->safe_psql('idle', <<'SQL');
CREATE TABLE readings (at date, v int) PARTITION BY RANGE (at);
CREATE TABLE readings_1 PARTITION OF readings FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE readings_2 PARTITION OF readings FOR VALUES FROM ('2020-02-01') TO ('2020-03-01');
CREATE TABLE readings_3 PARTITION OF readings FOR VALUES FROM ('2020-03-01') TO ('2020-04-01');
INSERT INTO readings SELECT '2020-01-01'::date + n, n FROM generate_series(0, 90) AS n;
SELECT order_mgmt.manage_table('readings', 'at', premake => 0, cold_after => '1 month');
SQL
is($node->safe_psql('idle', every_minute('archive')), '1', 'one job alone');

# A model that is a day old, which a job trains again as the role that has it
$node->safe_psql('idle', <<'SQL');
CREATE TABLE visits (v int);
CREATE FUNCTION learn(request jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_object('sum', sum(v), 'by', current_user) FROM public.visits$$;
CREATE FUNCTION apply(input jsonb, model jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT model$$;
GRANT SELECT ON visits TO keeper;
SELECT order_mgmt.create_model('sums', 'sql', '{"function": "public.apply", "train_function": "public.learn"}');
INSERT INTO visits VALUES (1);
SELECT order_mgmt.train_model('sums');
UPDATE order_mgmt.model_versions SET trained_at = trained_at - interval '25 hours';
INSERT INTO visits VALUES (2);
SQL
is($node->safe_psql('idle', 'SET ROLE keeper; ' . every_minute('models')), '1', 'of which others have one, too');

# They run
is($node->safe_psql($_, $often), '8', "$_: scheduled for every minute") for qw(home away);
my $runs = q(SELECT count(DISTINCT (database, command)) FROM cron.job_run_details WHERE status = 'succeeded' AND database IN ('home', 'away'));
ok(becomes($node, 'home', $runs, '16', 300), 'all jobs of both databases succeed');
is($node->safe_psql('home', q(SELECT DISTINCT status || ' ' || return_message FROM cron.job_run_details WHERE status = 'failed')), '', 'and none fails');
ok(becomes($node, 'idle', q(SELECT count(*) FROM order_mgmt.partitions WHERE next_action = 'archive' AND next_action_at <= now()), '0', 300), 'a backlog is worked off');
is($node->safe_psql('idle', 'SELECT count(*) > 50, count(*) - count(DISTINCT xmin::text), sum(rows) FROM order_mgmt.archives'), 't|0|91', 'a transaction a month');
is($node->safe_psql('home', q(SELECT count(*) FROM cron.job_run_details WHERE command LIKE '%archive_due%' AND database = 'idle' AND status = 'succeeded' AND end_time <= (SELECT min(end_time) FROM cron.job_run_details WHERE command LIKE '%archive_due%' AND database = 'idle' AND status = 'succeeded'))), '1', 'by the first run of the job');
is($node->safe_psql('idle', 'SELECT order_mgmt.unschedule_jobs()'), '1', 'which is removed');
ok(becomes($node, 'idle', q(SELECT max(version) FROM order_mgmt.models WHERE name = 'sums'), '2', 150), 'the model has been trained again');
is($node->safe_psql('idle', q(SELECT order_mgmt.predict('sums', '{}'))), '{"by": "keeper", "sum": 3}', 'with what has come since, by the role whose job it is');
is($node->safe_psql('idle', 'SET ROLE keeper; SELECT order_mgmt.unschedule_jobs()'), '1', 'whose job is removed, too');
is($node->safe_psql($_, 'SELECT order_mgmt.unschedule_jobs()'), '8', "$_: all are removed") for qw(home away);
is($node->safe_psql($_, 'SELECT order_mgmt.unschedule_jobs()'), '0', "$_: and are gone") for qw(home away);
is(jobs(), '', 'nothing is left');
ok(becomes($node, 'home', q(SELECT count(*) FROM cron.job_run_details WHERE status NOT IN ('succeeded', 'failed')), '0', 60), 'what had begun has ended');

# What pg_cron remembers of them
my $history = 'SELECT count(*) FROM cron.job_run_details';
my $kept = $node->safe_psql('home', $history);
$node->safe_psql('home', q(UPDATE cron.job_run_details SET end_time = end_time - interval '7 days 1 hour' WHERE command LIKE '%purge_loads%' OR command LIKE '%run_maintenance%'));
my $old = $node->safe_psql('home', "$history WHERE end_time < now() - interval '7 days' AND database = 'home'");
$node->safe_psql('home', q(INSERT INTO cron.job_run_details SELECT 0, 1000000, 1, 'home', 'postgres', 'SELECT 1', 'succeeded', '', now() - interval '1 year', now() - interval '1 year'));
is($node->safe_psql('home', 'SELECT order_mgmt.purge_job_history()'), $old, 'home: a week of history is kept');
is($node->safe_psql('home', "$history WHERE end_time < now() - interval '7 days' AND database = 'home'"), '1', 'and that of jobs that are not ours');
cmp_ok($node->safe_psql('away', 'SELECT order_mgmt.purge_job_history()'), '>', 0, 'away: the same from another database');
is($node->safe_psql('home', "$history WHERE end_time < now() - interval '7 days' AND database = 'away'"), '0', 'nothing old is left of it');
is($node->safe_psql('away', 'SELECT order_mgmt.purge_job_history()'), '0', 'nor purged twice');
cmp_ok($node->safe_psql('home', $history), '<', $kept, 'there is less than before');
settle($node, $_, $_) for qw(home away);

# Workers purge by themselves, when they look after the database at their start
$node->safe_psql('away', q(INSERT INTO order_mgmt.dead_letters SELECT n, 'shipper', 128 * n, NULL, 20, now(), now() - n * interval '20 days', 'XX000', 'm', '{"event_type": "order_confirmed", "at": "2026-01-01T00:00:00Z"}', 1, 1 FROM generate_series(1, 2) AS n));
$node->safe_psql('postgres', q(ALTER DATABASE away SET order_mgmt.dead_letter_retention = '30d'));
ok(becomes($node, 'away', q(SELECT string_agg(dead_letter_id::text, ' ') FROM order_mgmt.dead_letters), '1', 60), 'a worker discards dead letters that are old enough');
$node->safe_psql('away', 'DELETE FROM order_mgmt.dead_letters');

# By a clock that is set for the database they date what they do, and make its months
$node->safe_psql('postgres', q(ALTER DATABASE away SET order_mgmt.clock = '2032-02-29 23:59:59.999+00'));
my $order = one_order($node, 'away');
is($node->safe_psql('away', "SELECT order_mgmt.wait_for_order('$order', '30 s')"), 'shipped', 'by a clock that is set for the database');
is($node->safe_psql('away', "SELECT status, created_at, tableoid::regclass FROM order_mgmt.orders WHERE order_id = '$order'"), 'shipped|2032-02-29 23:59:59.999+00|order_mgmt.orders_2032_02', 'an order of a leap day');
is($node->safe_psql('away', "SELECT DISTINCT at FROM order_mgmt.track_order('$order')"), '2032-02-29 23:59:59.999+00', 'is shipped on that day');
ok(becomes($node, 'away', q(SELECT to_regclass('order_mgmt.orders_2032_05') IS NOT NULL), 't', 60), 'and the months that come after it are made');
settle($node, 'away', 'with a clock that is set');
$node->safe_psql('postgres', 'ALTER DATABASE away RESET order_mgmt.clock');

# No slot for a worker
my $stop = $node->safe_psql('away', 'SELECT count(*) FROM order_mgmt.schedule_jobs()');
is($stop, '8', 'away: scheduled once more');
$node->append_conf('postgresql.conf', "max_worker_processes = 2\ncron.use_background_workers = off");
$node->safe_psql('postgres', 'ALTER SYSTEM SET order_mgmt.workers = off');
$node->restart;
like(error_of('away', $schedule), qr/^OM006: no background worker slot is free to go to pg_cron's database \| Increase max_worker_processes/, 'no slot is free');

# Not preloaded, order_mgmt goes there all the same
$node->append_conf('postgresql.conf', "max_worker_processes = 10\nshared_preload_libraries = 'pg_cron'");
$node->restart;
is($node->safe_psql('away', 'SELECT order_mgmt.unschedule_jobs()'), '8', 'not preloaded it works as well');

# Without pg_cron
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'order_mgmt'");
$node->restart;
like(error_of('away', $schedule), qr/^OM006: pg_cron is not loaded \| Add pg_cron to shared_preload_libraries/, 'without pg_cron there are no jobs');
is($node->safe_psql('away', 'SELECT order_mgmt.purge_job_history()'), '0', 'and no history');
is($node->safe_psql('home', 'SELECT count(*) >= 0 FROM order_mgmt.run_maintenance()'), 't', 'maintenance needs none');
$node->stop;
done_testing();
