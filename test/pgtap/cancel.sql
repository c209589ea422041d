-- cancel_order at every stage: the order stays cancelled, and whatever it held comes back.
BEGIN;
\ir helpers.psql
SELECT no_plan();

SELECT open_shop('ann', 100, 'p', 10) \g /dev/null
CREATE FUNCTION capture(quantity int DEFAULT 2, customer text DEFAULT 'ann') RETURNS uuid LANGUAGE sql AS
    $$SELECT order_mgmt.capture_order(customer, lines('p', quantity, 5))$$;
CREATE FUNCTION all_back(what text) RETURNS text LANGUAGE sql AS
    $$SELECT is(credit('ann') || ' ' || units('p'), '100/0 10/0', what)$$;

-- Before any check
SELECT capture() AS id \gset
SELECT is(order_mgmt.cancel_order(:'id', 'changed my mind'), 'cancelled', 'cancelled before any check');
SELECT is(order_mgmt.get_order_status(:'id'), 'cancelled', 'at once');
SELECT is(order_mgmt.cancel_order(:'id'), 'cancelled', 'again is no error');
SELECT is(rows_of(format('SELECT event_type, detail->>''from'', detail->>''reason'' FROM order_mgmt.track_order(%L)', :'id')),
    '(order_captured,,) (order_cancelled,captured,"changed my mind")', 'one event, with the reason');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('nothing stays held');
SELECT is(outcome(:'id'), 'cancelled', 'nor does it ship');

-- After one check, the other consumer being paused
SELECT is(order_mgmt.pause_consumer('stock_checker'), true, 'stock_checker pauses');
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '100/10 10/0', 'only credit is held');
SELECT is(outcome(:'id'), 'captured', 'and nothing decided');
SELECT is(order_mgmt.cancel_order(:'id'), 'cancelled', 'cancelled between the checks');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('credit comes back before the other check has been');
SELECT is(order_mgmt.resume_consumer('stock_checker'), true, 'stock_checker goes on');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('what the late check held comes back as well');
SELECT is(outcome(:'id'), 'cancelled', 'and the order stays cancelled');

SELECT order_mgmt.pause_consumer('balance_checker') \g /dev/null
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '100/0 10/2', 'only stock is held');
SELECT order_mgmt.cancel_order(:'id') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('stock comes back before the other check has been');
SELECT order_mgmt.resume_consumer('balance_checker') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('and the credit of the late check');

-- With the second check a refusal
SELECT order_mgmt.pause_consumer('stock_checker') \g /dev/null
SELECT capture(11) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT order_mgmt.cancel_order(:'id') \g /dev/null
SELECT order_mgmt.resume_consumer('stock_checker') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('a refusal after the cancellation');
SELECT is(outcome(:'id'), 'cancelled', 'does not reject the order');
SELECT capture(11, 'nobody') AS id \gset
SELECT order_mgmt.cancel_order(:'id') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'cancelled', 'nor do two refusals');

-- After both checks, before the updater
SELECT order_mgmt.pause_consumer('order_updater') \g /dev/null
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '100/10 10/2', 'both are held');
SELECT order_mgmt.cancel_order(:'id') \g /dev/null
SELECT is(credit('ann') || ' ' || units('p'), '100/10 10/2', 'cancel_order itself touches neither account nor stock');
SELECT order_mgmt.resume_consumer('order_updater') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('both come back');

-- Confirmed
SELECT order_mgmt.pause_consumer('shipper') \g /dev/null
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'confirmed', 'the shipper being paused, an order stays confirmed');
SELECT is(order_mgmt.cancel_order(:'id'), 'cancelled', 'cancelled when confirmed');
SELECT order_mgmt.resume_consumer('shipper') \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(outcome(:'id'), 'cancelled', 'the shipper leaves it alone');
SELECT all_back('and both holds come back');
SELECT is(story(:'id'), 'order_captured balance_held stock_held order_confirmed order_cancelled order_released', 'its story');
SET LOCAL order_mgmt.auto_ship = off;
SELECT capture() AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(order_mgmt.cancel_order(:'id'), 'cancelled', 'cancelled with auto_ship off');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT all_back('and both holds come back then');
SET LOCAL order_mgmt.auto_ship = on;

-- At every step of a pipeline that stops after each event
DO $$
DECLARE
    id uuid;
BEGIN
    FOR steps IN 1..4 LOOP
        id := capture();
        FOR step IN 1..steps LOOP
            PERFORM order_mgmt.run_pipeline(1);
        END LOOP;
        IF order_mgmt.get_order_status(id) <> 'shipped' THEN
            PERFORM order_mgmt.cancel_order(id);
        END IF;
        PERFORM order_mgmt.run_pipeline();
        IF order_mgmt.get_order_status(id) <> 'cancelled' THEN
            RAISE EXCEPTION 'after % steps the order is %', steps, order_mgmt.get_order_status(id);
        END IF;
    END LOOP;
END
$$;
SELECT all_back('cancelled after one to four events');

-- Too late, or nothing there
SELECT capture(1) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(error_of(format('SELECT order_mgmt.cancel_order(%L)', :'id')), 'OM005 shipped', 'shipped is final');
SELECT capture(100) AS id \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(error_of(format('SELECT order_mgmt.cancel_order(%L)', :'id')), 'OM005 rejected', 'rejected is final');
SELECT is(error_of($$SELECT order_mgmt.cancel_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0')$$), 'OM004', 'no such order');
SELECT is(error_of($$SELECT order_mgmt.cancel_order(NULL)$$), 'OM001 order_id', 'order NULL');

SELECT is(pending(), '0 0 0 0', 'nothing is left to do');
SELECT invariants_hold();
SELECT finish();
ROLLBACK;
