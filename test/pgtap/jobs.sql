-- What jobs call, without pg_cron: each purge deletes what is old and nothing else; who may call what.
BEGIN;
\ir helpers.psql
SET LOCAL client_min_messages = error;
SELECT no_plan();
SELECT open_shop('ann', 100, 'p', 100) \g /dev/null

-- Without pg_cron
SELECT is(error_of('SELECT order_mgmt.schedule_jobs()'), 'OM006', 'no pg_cron, no jobs');
SELECT is(error_of('SELECT order_mgmt.unschedule_jobs()'), 'OM006', 'nor any to remove');
SELECT is(order_mgmt.purge_job_history(), 0::bigint, 'and no history');
SELECT is(error_of(format('SELECT order_mgmt.schedule_jobs(%L)', schedules)), answer, coalesce(schedules, 'null') || ' is not accepted') FROM (VALUES
    (NULL, 'OM001 schedules'), ('[]', 'OM001 schedules'), ('"x"', 'OM001 schedules'), ('{"load": "* * * * *"}', 'OM001 schedules.load'),
    ('{"loads": 5}', 'OM001 schedules.loads'), ('{"loads": {"a": "b"}}', 'OM001 schedules.loads'), ('{"loads": ""}', 'OM001 schedules.loads'),
    ('{"statistics": null, "loads": ["* * * * *"]}', 'OM001 schedules.loads'),
    (format('{"loads": "%s"}', repeat('*', 128)), 'OM001 schedules.loads'), ('{"loads": "* * * * *"}', 'OM006')) AS t(schedules, answer);

-- A procedure that commits
SELECT is(error_of('CALL order_mgmt.archive_due()'), '2D000', 'archive_due() cannot be part of a transaction');

-- Privileges
SELECT is(has_function_privilege('order_mgmt_' || role, oid, 'EXECUTE'), role IN ('operator', 'admin'), role || ': ' || proname)
FROM pg_proc, unnest('{reader,app,operator,admin}'::text[]) AS role
WHERE pronamespace = 'order_mgmt'::regnamespace AND proname ~ '^(schedule_jobs|unschedule_jobs|archive_due|purge_|refresh_statistics)' ORDER BY proname, role;

-- Idempotency keys: a table is emptied when a third of the retention has passed, none sooner
SELECT order_mgmt.capture_order('ann', lines('p'), 'k') AS keyed \gset
CREATE FUNCTION later(past interval) RETURNS void LANGUAGE sql AS $$ UPDATE order_mgmt.rotations SET since = since - past WHERE name = 'idempotency_keys' $$;
SELECT is(order_mgmt.purge_idempotency_keys(), 0::bigint, 'keys are kept');
CREATE FUNCTION turn() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM later('10 days');
    RETURN order_mgmt.purge_idempotency_keys();
END
$$;
SELECT later('9 days 23 hours') \g /dev/null
SELECT is(order_mgmt.purge_idempotency_keys(), 0::bigint, 'until the tables take turns');
SELECT later('1 hour') \g /dev/null
SELECT is(order_mgmt.purge_idempotency_keys(), 1::bigint, 'after ten days');
SELECT is(order_mgmt.purge_idempotency_keys(), 0::bigint, 'once');
SELECT is(turn() + turn(), 2::bigint, 'after thirty days');
SELECT is(order_mgmt.capture_order('ann', lines('p'), 'k'), :'keyed'::uuid, 'a key is still known');
SELECT is(turn(), 1::bigint, 'after forty days');
SELECT isnt(order_mgmt.capture_order('ann', lines('p'), 'k'), :'keyed'::uuid, 'it is new');

-- Loads: with a retention only, those that have ended, and what belongs to them
SELECT lo_from_bytea(0, convert_to(E'customer_id,name\nbob,Bob\n,nobody\n', 'UTF8')) AS file, lo_from_bytea(0, convert_to(E'customer_id,name\nbea,Bea\n,nobody\n', 'UTF8')) AS other,
    lo_from_bytea(0, convert_to(E'customer_id,name\nbill,Bill\n', 'UTF8')) AS third \gset
SELECT order_mgmt.load_accounts_csv('lo:' || :'file', '{"max_errors": 10}') AS old \gset
SELECT order_mgmt.load_accounts_csv('lo:' || :'other', '{"max_errors": 10}') AS young \gset
SELECT order_mgmt.load_accounts_csv('lo:' || :'third', '{"max_errors": 10}') AS running \gset
SELECT is((SELECT count(*) FROM order_mgmt.load_errors WHERE load_id = :old), 1::bigint, 'a load with an error');
UPDATE order_mgmt.loads SET finished_at = now() - interval '91 days' WHERE load_id = :old;
UPDATE order_mgmt.loads SET finished_at = now() - interval '89 days' WHERE load_id = :young;
UPDATE order_mgmt.loads SET finished_at = NULL, status = 'queued', created_at = now() - interval '1 year' WHERE load_id = :running;
SELECT is(order_mgmt.purge_loads(), 0::bigint, 'without a retention loads are kept');
SET LOCAL order_mgmt.load_retention = '90d';
UPDATE order_mgmt.loads SET retry_of = :old WHERE load_id = :running;
SELECT is(order_mgmt.purge_loads(), 0::bigint, 'so are those of which a retry is under way');
UPDATE order_mgmt.loads SET retry_of = NULL WHERE load_id = :running;
SELECT is(order_mgmt.purge_loads(), 1::bigint, 'old ones go');
SELECT is((SELECT string_agg(load_id::text, ' ' ORDER BY load_id) FROM order_mgmt.loads), :'young' || ' ' || :'running', 'others stay');
SELECT is((SELECT string_agg(DISTINCT load_id::text, ' ') FROM order_mgmt.load_errors WHERE load_id IN (:old, :young)), :'young', 'errors go with their loads');
SELECT is(order_mgmt.purge_loads(), 0::bigint, 'once');
UPDATE order_mgmt.loads SET status = 'cancelled', finished_at = now() WHERE load_id = :running;
COPY order_mgmt.order_staging FROM stdin WITH (FORMAT csv);
x,ann,p,1,1,,
\.
SELECT is(order_mgmt.purge_loads(), 0::bigint, 'staged rows stay for a while');
SET LOCAL order_mgmt.load_retention = '1min';
ALTER TABLE order_mgmt.order_staging ALTER COLUMN staged_at DROP EXPRESSION;
UPDATE order_mgmt.order_staging SET staged_at = now() - interval '2 min';
SELECT is(order_mgmt.purge_loads(), 2::bigint, 'and go when nobody loads them, with the other load');
SELECT is((SELECT count(*) FROM order_mgmt.order_staging), 0::bigint, 'none is left');

-- Dead letters: with a retention only; discarded as by hand, with a note on the order
SELECT order_mgmt.capture_order('ann', lines('p')) AS failed \gset
INSERT INTO order_mgmt.dead_letters SELECT n, 'balance_checker', n * 128, o, 20, now() - interval '1 year', now() - age, 'XX000', 'm', '{"event_type": "order_captured", "at": "2026-01-01T00:00:00Z"}', 1, 1
FROM (VALUES (1, :'failed'::uuid, interval '31 days'), (2, :'failed', '29 days'), (3, NULL, '31 days'), (4, gen_random_uuid(), '31 days')) AS t(n, o, age);
SELECT is(order_mgmt.purge_dead_letters(), 0::bigint, 'without a retention dead letters are kept');
SET LOCAL order_mgmt.dead_letter_retention = '30d';
SELECT is(order_mgmt.purge_dead_letters(), 3::bigint, 'old ones are discarded');
SELECT is(rows_of('SELECT dead_letter_id FROM order_mgmt.dead_letters'), '(2)', 'the younger one stays');
SELECT is((SELECT string_agg(detail->>'note', ', ') FROM order_mgmt.track_order(:'failed') WHERE event_type = 'order_noted'),
    'dead letter 1 of balance_checker discarded: older than order_mgmt.dead_letter_retention', 'the order tells');
SELECT is(order_mgmt.purge_dead_letters(), 0::bigint, 'once');
INSERT INTO order_mgmt.dead_letters SELECT n, 'balance_checker', n * 128, NULL, 20, now() - interval '1 year', now() - interval '31 days', 'XX000', 'm', '{"event_type": "order_captured", "at": "2026-01-01T00:00:00Z"}', 1, 1 FROM generate_series(10, 2509) AS n;
SELECT is(order_mgmt.purge_dead_letters(), 2500::bigint, 'however many');

-- Maintenance by hand, or by a worker, does the same
INSERT INTO order_mgmt.dead_letters SELECT 3000, 'balance_checker', 128, NULL, 20, now(), now() - interval '31 days', 'XX000', 'm', '{"event_type": "order_captured", "at": "2026-01-01T00:00:00Z"}', 1, 1;
SELECT is(rows_of($$SELECT action, object FROM order_mgmt.run_maintenance() WHERE action LIKE 'purge%'$$), '("purge dead letters",1)', 'run_maintenance() purges');
SELECT is((SELECT count(*) FROM order_mgmt.dead_letters), 1::bigint, 'what is old');

-- Statistics of the tables as a whole
SELECT is((SELECT reltuples FROM pg_class WHERE oid = 'order_mgmt.orders'::regclass), -1::real, 'nobody has looked at the orders of all months');
SELECT is(order_mgmt.refresh_statistics(), 3::bigint, 'three tables are looked at');
SELECT is((SELECT reltuples FROM pg_class WHERE oid = 'order_mgmt.orders'::regclass), (SELECT count(*) FROM order_mgmt.orders)::real, 'now it is known how many there are');

DELETE FROM order_mgmt.dead_letters;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
