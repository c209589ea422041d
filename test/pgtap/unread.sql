-- What is pending is counted without being read: by what consumers have passed.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE FUNCTION pending_of(name text) RETURNS bigint LANGUAGE sql AS $$
    SELECT pending FROM order_mgmt.queues WHERE consumer = name
$$;
-- The same of the four stages
CREATE FUNCTION stages() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(pending_of(name)::text, ' ') FROM unnest('{balance_checker,stock_checker,order_updater,shipper}'::text[]) AS name
$$;
-- Rows that a statement reads from the tables of this name. The statistics are those of the transaction.
CREATE FUNCTION rows_read(statement text, tables text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    query text := format('SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables
        WHERE schemaname = ''order_mgmt'' AND relname LIKE %L', tables);
    after bigint;
BEGIN
    EXECUTE query INTO before;
    EXECUTE statement;
    EXECUTE query INTO after;
    RETURN after - before;
END
$$;
-- Orders captured one by one, so that each has a row of the log to itself
CREATE FUNCTION capture(number int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(order_mgmt.capture_order('ann', lines('p'))) FROM generate_series(1, number)
$$;
\set queues 'SELECT count(*) FROM order_mgmt.queues'

SELECT open_shop('ann', 1000000, 'p', 1000000) \g /dev/null
SELECT order_mgmt.create_consumer('early', '{order_captured}'), order_mgmt.create_consumer('failures', '{order_failed}'),
    order_mgmt.create_consumer('everything') \g /dev/null
SELECT is(pending_of('everything'), 2::bigint, 'a new consumer has before it what this transaction has written');

-- Few events: exact, whoever has read them
SELECT capture(10) \g /dev/null
SELECT is(stages() || ' ' || pending_of('early') || ' ' || pending_of('everything') || ' ' || pending_of('failures'), '10 10 0 0 10 12 0', 'what nobody has read');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(stages() || ' ' || pending_of('early') || ' ' || pending_of('everything') || ' ' || pending_of('failures'), '0 0 0 0 10 52 0', 'what the stages have read is still before the others');
SELECT order_mgmt.create_consumer('late', '{order_captured,order_shipped}') \g /dev/null
SELECT order_mgmt.pause_consumer('stock_checker') \g /dev/null
SELECT capture(5), order_mgmt.run_pipeline() \g /dev/null
SELECT is(stages() || ' ' || pending_of('early') || ' ' || pending_of('late'), '0 5 0 0 15 25', 'a stage is paused');
SELECT ok((SELECT oldest_age >= '0' FROM order_mgmt.queues WHERE consumer = 'stock_checker'), 'with its age');
SELECT order_mgmt.resume_consumer('stock_checker'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(stages() || ' ' || pending_of('late'), '0 0 0 0 30', 'and resumed');
SELECT is(pending_of('everything'), (SELECT count(*) FROM order_mgmt.events), 'all that was written since');

-- Where a consumer begins
SELECT order_mgmt.create_consumer('history', start_at => '-infinity'), order_mgmt.create_consumer('shipments', '{order_shipped}', start_at => '2001-01-01'),
    order_mgmt.create_consumer('now', start_at => clock_timestamp()), order_mgmt.create_consumer('tomorrow', start_at => now() + '1 day') \g /dev/null
SELECT is(pending_of('history'), (SELECT count(*) FROM order_mgmt.events), 'from the beginning');
SELECT is(pending_of('shipments'), 15::bigint, 'from a time long ago');
SELECT is(pending_of('now'), 0::bigint, 'what was written earlier in an open transaction is not for it');
SELECT ok((SELECT oldest_age IS NULL FROM order_mgmt.queues WHERE consumer = 'now'), '... and has no age');
SELECT capture(1) \g /dev/null
SELECT is(pending_of('now') || ' ' || pending_of('tomorrow') || ' ' || pending_of('history'), '1 0 ' || (SELECT count(*) FROM order_mgmt.events), 'what comes is');
SELECT order_mgmt.run_pipeline() \g /dev/null

-- Many events that nobody has read
SELECT is(capture(15000), 15000::bigint, '15,000 orders, one by one');
SELECT ok(pending_of('balance_checker') BETWEEN 14900 AND 15100 AND pending_of('early') BETWEEN 14900 AND 15100, 'are estimated well');
SELECT is((SELECT pending FROM order_mgmt.queues WHERE consumer = 'shipper'), 0::bigint, 'and nothing is made up');
SELECT cmp_ok(rows_read(:'queues', 'event_log%'), '<', 12000::bigint, 'without reading them all');
SELECT ok((SELECT oldest_age IS NOT NULL FROM order_mgmt.queues WHERE consumer = 'stock_checker'), 'the first one is known');
SELECT is(error_of('SELECT order_mgmt.wait_until_idle(''0'')'), 'OM005', 'there is something to do');
SELECT order_mgmt.pause_consumer(name) FROM order_mgmt.consumers WHERE kind = 'built-in' \g /dev/null
SELECT ok(order_mgmt.wait_until_idle('0'), 'paused consumers are not waited for, however much is before them');
SELECT order_mgmt.resume_consumer(name) FROM order_mgmt.consumers WHERE kind = 'built-in' AND name <> 'balance_checker' \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(stages(), '15000 0 0 0', 'one stage is paused: the number is exact');
SELECT cmp_ok(rows_read(:'queues', 'event_log%'), '<', 3000::bigint, 'and little is read');
SELECT is(pending_of('history'), (SELECT count(*) FROM order_mgmt.events), 'as it is for one that has never read');
SELECT ok(order_mgmt.wait_until_idle('0'), 'the others are done');
SELECT cmp_ok(rows_read('SELECT order_mgmt.wait_until_idle(''0'')', 'event_log%'), '<', 2500::bigint, '... which takes no reading either');
SELECT is((SELECT count(*) FROM order_mgmt.stock_check_queue), 0::bigint, 'the views agree');
SELECT is((SELECT count(*) FROM order_mgmt.balance_check_queue), 15000::bigint, '... on both');

-- One event far behind others
SELECT is(pending_of('failures'), 0::bigint, 'no order has failed');
SELECT ok((SELECT oldest_age IS NULL FROM order_mgmt.queues WHERE consumer = 'failures'), 'so none has an age');
INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids)
    SELECT clock_timestamp(), pg_current_xact_id()::text::bigint, nextval('order_mgmt.event_ids'), 'order_failed', uuid_send(order_id)
    FROM order_mgmt.orders LIMIT 1;
SELECT is(pending_of('failures'), 1::bigint, 'one among thousands');
SELECT ok((SELECT oldest_age IS NOT NULL FROM order_mgmt.queues WHERE consumer = 'failures'), 'its age is at most that of the first event of all');
DELETE FROM order_mgmt.event_log WHERE event_type = 'order_failed';

SELECT order_mgmt.resume_consumer('balance_checker'), order_mgmt.run_pipeline() \g /dev/null
SELECT is(stages(), '0 0 0 0', 'nothing is left');
SELECT is(pending_of('early'), 15016::bigint, 'the count of a consumer that has never come');
SELECT is(pending_of('history'), (SELECT count(*) FROM order_mgmt.events), '... and of one that gets everything');

-- Events in a month that ended long ago: somebody wrote them then and commits now.
CREATE TABLE order_mgmt.event_log_2020_01 (LIKE order_mgmt.event_log INCLUDING ALL);
ALTER TABLE order_mgmt.event_log ATTACH PARTITION order_mgmt.event_log_2020_01 FOR VALUES FROM ('2020-01-01 00:00:00+00') TO ('2020-02-01 00:00:00+00');
INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids)
    SELECT '2020-01-31 23:59:59+00', pg_current_xact_id()::text::bigint, nextval('order_mgmt.event_ids'), 'order_noted', uuid_send(order_id)
    FROM order_mgmt.orders LIMIT 2;
SELECT is(pending_of('history') || ' ' || pending_of('everything'), (SELECT count(*) || ' ' || count(*) FROM order_mgmt.events), 'late commits of an old month count');
SELECT capture(3), order_mgmt.run_pipeline() \g /dev/null
SELECT is(pending_of('history') || ' ' || stages(), (SELECT count(*) || ' 0 0 0 0' FROM order_mgmt.events), 'and do not stand in the way');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
