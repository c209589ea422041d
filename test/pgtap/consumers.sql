-- Arguments and rights of consumers for programs outside. What they get, and when, is in the
-- regression test of that name: a transaction is not given its own events.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT is(order_mgmt.create_consumer('mailer', '{order_shipped}'), true, 'a new consumer');
SELECT is(order_mgmt.create_consumer('mailer', '{order_shipped}'), false, 'again, it is there');
SELECT is(order_mgmt.create_consumer('mailer', '{order_shipped}', now() - interval '1 day'), false,
    'where it began is not part of what it is');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('mailer')$$), 'OM005', 'with other types it is another one');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('mailer', '{order_shipped,order_failed}')$$), 'OM005', 'with more, too');
SELECT is(order_mgmt.create_consumer(repeat('ä', 64)), true, 'a name of 64 characters');
SELECT is(error_of($$SELECT order_mgmt.create_consumer(repeat('a', 65))$$), 'OM001 name', 'one of 65');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('')$$), 'OM001 name', 'one of none');
SELECT is(error_of($$SELECT order_mgmt.create_consumer(NULL)$$), 'OM001 name', 'no name');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('*')$$), 'OM001 name', 'the name that means all');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('shipper')$$), 'OM005', 'the name of a built-in one');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('c', '{}')$$), 'OM001 event_types', 'no types');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('c', '{order_shipped,parcel_lost}')$$), 'OM001 event_types[1]', 'an unknown type');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('c', '{NULL}')$$), 'OM001 event_types[0]', 'a type that is NULL');
SELECT is(error_of($$SELECT order_mgmt.create_consumer('c', NULL, 'infinity')$$), 'OM001 start_at', 'never');

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
SELECT order_mgmt.capture_order('ann', lines('p')) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'shipped', 'an order of this transaction ships in it');
SELECT is_empty($$SELECT * FROM order_mgmt.receive_events('mailer')$$, 'programs hear of it after the commit');

SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('nobody')$$), 'OM004', 'receive as nobody');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('shipper')$$), 'OM005', 'receive as the shipper');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events(NULL)$$), 'OM001 consumer', 'receive as NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('mailer', 0)$$), 'OM001 max_events', 'receive nothing');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('mailer', 10001)$$), 'OM001 max_events', 'receive too much');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('mailer', NULL)$$), 'OM001 max_events', 'receive NULL');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('mailer', 1, '-1 s')$$), 'OM001 wait', 'wait for the past');
SELECT is(error_of($$SELECT * FROM order_mgmt.receive_events('mailer', 1, NULL)$$), 'OM001 wait', 'wait for NULL');

SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('mailer', 1000000001)$$), 'OM004', 'a batch that never was');
SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('mailer', 2)$$), 'OM004', 'a number that no batch has');
SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('mailer', -1)$$), 'OM004', 'a negative one');
SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('mailer', NULL)$$), 'OM001 batch_id', 'NULL');
SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('nobody', 1)$$), 'OM004', 'acknowledge as nobody');
SELECT is(error_of($$SELECT order_mgmt.acknowledge_batch('shipper', 1)$$), 'OM005', 'acknowledge as the shipper');
SELECT is(error_of($$SELECT order_mgmt.reject_event('mailer', 1, 'no')$$), 'OM004', 'reject an event without a batch');
SELECT is(error_of($$SELECT order_mgmt.reject_event('mailer', 1, NULL)$$), 'OM001 message', 'reject without a word');
SELECT is(error_of($$SELECT order_mgmt.reject_event('mailer', NULL, 'no')$$), 'OM001 event_id', 'reject NULL');
SELECT is(error_of($$SELECT order_mgmt.reject_event('shipper', 1, 'no')$$), 'OM005', 'reject as the shipper');

-- Retry policy, of every kind
SELECT is(order_mgmt.set_retry_policy('shipper', 5), true, 'attempts of a built-in one');
SELECT is(order_mgmt.set_retry_policy('shipper', 5), false, 'again, nothing changes');
SELECT is(order_mgmt.set_retry_policy('mailer', backoff_base => '2 s', backoff_cap => '1 h'), true, 'waits of another');
SELECT is(rows_of($$SELECT name, max_attempts, backoff_base, backoff_cap FROM order_mgmt.consumers
    WHERE name IN ('mailer', 'shipper') ORDER BY name$$), '(mailer,20,00:00:02,01:00:00) (shipper,5,00:00:01,00:05:00)', 'what is not said stays');
SELECT is(error_of($$SELECT order_mgmt.set_retry_policy('mailer', 0)$$), 'OM001 max_attempts', 'no attempts');
SELECT is(error_of($$SELECT order_mgmt.set_retry_policy('mailer', backoff_base => '0')$$), 'OM001 backoff_base', 'no wait');
SELECT is(error_of($$SELECT order_mgmt.set_retry_policy('mailer', backoff_cap => '1 s')$$), 'OM001 backoff_cap', 'a cap below the base');
SELECT is(error_of($$SELECT order_mgmt.set_retry_policy('nobody', 1)$$), 'OM004', 'the policy of nobody');
SELECT is(error_of($$SELECT order_mgmt.set_retry_policy(NULL, 1)$$), 'OM001 consumer', 'the policy of NULL');

-- Only the owner, members of that role, and administrators
CREATE ROLE test_owner IN ROLE order_mgmt_app;
CREATE ROLE test_member IN ROLE test_owner;
CREATE ROLE test_other IN ROLE order_mgmt_operator;
CREATE ROLE test_admin IN ROLE order_mgmt_admin;
GRANT USAGE ON SCHEMA test TO PUBLIC;
SET LOCAL ROLE test_owner;
SELECT ok(order_mgmt.create_consumer('own'), 'an application makes a consumer');
CREATE TEMP TABLE tries (role text, receive text, acknowledge text, reject text, "drop" text);
GRANT INSERT ON tries TO PUBLIC;
CREATE TEMP VIEW attempt AS SELECT current_user,
    error_of($$SELECT count(*) FROM order_mgmt.receive_events('own')$$) AS receive,
    error_of($$SELECT order_mgmt.acknowledge_batch('own', 1000000001)$$) AS acknowledge,
    error_of($$SELECT order_mgmt.reject_event('own', 1, 'no')$$) AS reject,
    error_of($$DO 'BEGIN PERFORM order_mgmt.drop_consumer(''own''); RAISE division_by_zero; END'$$) AS drop;
GRANT SELECT ON attempt TO PUBLIC;
INSERT INTO tries TABLE attempt;
SET LOCAL ROLE test_member;
INSERT INTO tries TABLE attempt;
SET LOCAL ROLE test_other;
INSERT INTO tries TABLE attempt;
SET LOCAL ROLE test_admin;
INSERT INTO tries TABLE attempt;
RESET ROLE;
SELECT is(rows_of('SELECT * FROM tries ORDER BY role'),
    '(test_admin,"no error",OM004,OM004,22012) (test_member,"no error",OM004,OM004,22012)'
    ' (test_other,42501,42501,42501,42501) (test_owner,"no error",OM004,OM004,22012)', 'who may do what with a consumer');
SET LOCAL ROLE test_other;
SELECT is(error_of($$SELECT order_mgmt.create_consumer('own')$$), 'OM005', 'nobody makes the consumer of another');
RESET ROLE;
SELECT is(order_mgmt.drop_consumer('own'), true, 'drop');
SELECT is(error_of($$SELECT order_mgmt.drop_consumer('own')$$), 'OM004', 'again, it is gone');
SELECT is(error_of($$SELECT order_mgmt.drop_consumer('shipper')$$), 'OM005', 'a built-in one stays');
SELECT is(error_of($$SELECT order_mgmt.drop_consumer(NULL)$$), 'OM001 name', 'drop NULL');
SELECT is_empty($$SELECT consumer FROM order_mgmt.cursor_log_0 WHERE consumer = 'own'$$, 'it leaves no position');

SELECT invariants_hold();
SELECT * FROM finish();
ROLLBACK;
