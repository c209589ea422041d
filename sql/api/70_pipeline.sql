-- Does the workers' work in this session and transaction, for stages that no live worker runs.
-- Handles also what this transaction has captured itself. Stops after about max_events events.
-- Returns the number of events handled. Errors: OM001, OM005 in REPEATABLE READ or at rest.
CREATE FUNCTION order_mgmt.run_pipeline(
    max_events bigint DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_run_pipeline';
COMMENT ON FUNCTION order_mgmt.run_pipeline(bigint) IS
    'Runs checks, updates and shipments in the caller''s transaction, for stages without a live worker; returns the number of events handled. Errors: OM001, OM005, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.run_pipeline(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.run_pipeline(bigint) TO order_mgmt_operator;

-- Waits until no consumer has anything left to do; false when timeout came first. Paused
-- consumers, and the shipper where auto_ship is off, do not count.
CREATE FUNCTION order_mgmt.wait_until_idle(
    timeout interval DEFAULT '1min'
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_wait_until_idle';
COMMENT ON FUNCTION order_mgmt.wait_until_idle(interval) IS
    'Waits until every consumer that may work is done; false when timeout came first. Errors: OM001, OM005 (own events that wait), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.wait_until_idle(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.wait_until_idle(interval) TO order_mgmt_reader;

-- Pauses a consumer, across restarts; its events wait. True when it was running.
CREATE FUNCTION order_mgmt.pause_consumer(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_pause_consumer';
COMMENT ON FUNCTION order_mgmt.pause_consumer(text) IS
    'Pauses a consumer, across restarts; true when it was running. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.pause_consumer(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.pause_consumer(text) TO order_mgmt_operator;

-- Lets a paused consumer go on where it stopped. True when it was paused.
CREATE FUNCTION order_mgmt.resume_consumer(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_resume_consumer';
COMMENT ON FUNCTION order_mgmt.resume_consumer(text) IS
    'Lets a paused consumer go on; true when it was paused. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.resume_consumer(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.resume_consumer(text) TO order_mgmt_operator;

-- The rows of view queues.
CREATE FUNCTION order_mgmt.queues_state()
RETURNS TABLE (
    consumer text,
    pending bigint,
    oldest_age interval,
    retrying bigint,
    dead bigint,
    processed bigint,
    failed bigint,
    worker_pid integer,
    paused boolean
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_queues_state';
COMMENT ON FUNCTION order_mgmt.queues_state() IS
    'The rows of view order_mgmt.queues. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.queues_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.queues_state() TO order_mgmt_reader;

-- What a built-in consumer has not handled yet: the rows of the views below.
CREATE FUNCTION order_mgmt.queue_contents(
    consumer text
)
RETURNS TABLE (
    event_id bigint,
    at timestamptz,
    event_type text,
    order_id uuid,
    detail jsonb
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_queue_contents';
COMMENT ON FUNCTION order_mgmt.queue_contents(text) IS
    'Events that a built-in consumer has not handled yet. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.queue_contents(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.queue_contents(text) TO order_mgmt_reader;

-- Proves under one snapshot that money, stock, orders and events agree; no row when all holds.
CREATE FUNCTION order_mgmt.check_invariants(
    "full" boolean DEFAULT false
)
RETURNS TABLE (
    invariant text,
    subject text,
    expected text,
    actual text
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_check_invariants';
COMMENT ON FUNCTION order_mgmt.check_invariants(boolean) IS
    'Proves under one snapshot that money, stock, orders and events agree: one row per difference, none when all holds. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.check_invariants(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.check_invariants(boolean) TO order_mgmt_reader;

-- What check_invariants() proves: each invariant, what its subjects are, what it says, and whether
-- repair_invariants() can mend it.
CREATE FUNCTION order_mgmt.list_invariants()
RETURNS TABLE (
    invariant text,
    per text,
    meaning text,
    mended boolean
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_list_invariants';
COMMENT ON FUNCTION order_mgmt.list_invariants() IS
    'What check_invariants() proves, and what of it repair_invariants() can mend.';
REVOKE ALL ON FUNCTION order_mgmt.list_invariants() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.list_invariants() TO order_mgmt_reader;

-- Mends what can be derived from the log: one row per change, with the new (expected) and the old
-- (actual) value. With dry_run everything is done and taken back. Workers pause meanwhile.
-- Errors: OM001, OM005 where the work under way does not end within 5 seconds, or in REPEATABLE READ.
CREATE FUNCTION order_mgmt.repair_invariants(
    dry_run boolean DEFAULT false
)
RETURNS TABLE (
    invariant text,
    subject text,
    expected text,
    actual text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_repair_invariants';
COMMENT ON FUNCTION order_mgmt.repair_invariants(boolean) IS
    'Sets counters and marks that differ from what the log says to what it says; one row per change, none when there is nothing to mend. Errors: OM001, OM005, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.repair_invariants(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.repair_invariants(boolean) TO order_mgmt_admin;

CREATE VIEW order_mgmt.queues AS SELECT * FROM order_mgmt.queues_state();
COMMENT ON COLUMN order_mgmt.queues.consumer IS 'Consumer.';
COMMENT ON COLUMN order_mgmt.queues.pending IS 'Events that it has not handled yet.';
COMMENT ON COLUMN order_mgmt.queues.oldest_age IS 'Age of the first of them.';
COMMENT ON COLUMN order_mgmt.queues.retrying IS 'Events set aside to be tried again.';
COMMENT ON COLUMN order_mgmt.queues.dead IS 'Events given up.';
COMMENT ON COLUMN order_mgmt.queues.processed IS 'Events handled since the beginning.';
COMMENT ON COLUMN order_mgmt.queues.failed IS 'Attempts that failed.';
COMMENT ON COLUMN order_mgmt.queues.worker_pid IS 'Process of the worker that runs it.';
COMMENT ON COLUMN order_mgmt.queues.paused IS 'Whether it rests.';
COMMENT ON VIEW order_mgmt.queues IS 'Consumers: how much they have before them, who works as them.';
REVOKE ALL ON order_mgmt.queues FROM PUBLIC;
GRANT SELECT ON order_mgmt.queues TO order_mgmt_reader;

CREATE VIEW order_mgmt.balance_check_queue AS SELECT * FROM order_mgmt.queue_contents('balance_checker');
COMMENT ON COLUMN order_mgmt.balance_check_queue.event_id IS 'Event.';
COMMENT ON COLUMN order_mgmt.balance_check_queue.at IS 'Time at which it was written.';
COMMENT ON COLUMN order_mgmt.balance_check_queue.event_type IS 'What happened.';
COMMENT ON COLUMN order_mgmt.balance_check_queue.order_id IS 'Order that it happened to.';
COMMENT ON COLUMN order_mgmt.balance_check_queue.detail IS 'What else there is to say.';
COMMENT ON VIEW order_mgmt.balance_check_queue IS 'Events that the balance_checker has not handled yet.';
REVOKE ALL ON order_mgmt.balance_check_queue FROM PUBLIC;
GRANT SELECT ON order_mgmt.balance_check_queue TO order_mgmt_reader;

CREATE VIEW order_mgmt.stock_check_queue AS SELECT * FROM order_mgmt.queue_contents('stock_checker');
COMMENT ON COLUMN order_mgmt.stock_check_queue.event_id IS 'Event.';
COMMENT ON COLUMN order_mgmt.stock_check_queue.at IS 'Time at which it was written.';
COMMENT ON COLUMN order_mgmt.stock_check_queue.event_type IS 'What happened.';
COMMENT ON COLUMN order_mgmt.stock_check_queue.order_id IS 'Order that it happened to.';
COMMENT ON COLUMN order_mgmt.stock_check_queue.detail IS 'What else there is to say.';
COMMENT ON VIEW order_mgmt.stock_check_queue IS 'Events that the stock_checker has not handled yet.';
REVOKE ALL ON order_mgmt.stock_check_queue FROM PUBLIC;
GRANT SELECT ON order_mgmt.stock_check_queue TO order_mgmt_reader;

CREATE VIEW order_mgmt.order_update_queue AS SELECT * FROM order_mgmt.queue_contents('order_updater');
COMMENT ON COLUMN order_mgmt.order_update_queue.event_id IS 'Event.';
COMMENT ON COLUMN order_mgmt.order_update_queue.at IS 'Time at which it was written.';
COMMENT ON COLUMN order_mgmt.order_update_queue.event_type IS 'What happened.';
COMMENT ON COLUMN order_mgmt.order_update_queue.order_id IS 'Order that it happened to.';
COMMENT ON COLUMN order_mgmt.order_update_queue.detail IS 'What else there is to say.';
COMMENT ON VIEW order_mgmt.order_update_queue IS 'Events that the order_updater has not handled yet.';
REVOKE ALL ON order_mgmt.order_update_queue FROM PUBLIC;
GRANT SELECT ON order_mgmt.order_update_queue TO order_mgmt_reader;

CREATE VIEW order_mgmt.shipment_queue AS SELECT * FROM order_mgmt.queue_contents('shipper');
COMMENT ON COLUMN order_mgmt.shipment_queue.event_id IS 'Event.';
COMMENT ON COLUMN order_mgmt.shipment_queue.at IS 'Time at which it was written.';
COMMENT ON COLUMN order_mgmt.shipment_queue.event_type IS 'What happened.';
COMMENT ON COLUMN order_mgmt.shipment_queue.order_id IS 'Order that it happened to.';
COMMENT ON COLUMN order_mgmt.shipment_queue.detail IS 'What else there is to say.';
COMMENT ON VIEW order_mgmt.shipment_queue IS 'Events that the shipper has not handled yet.';
REVOKE ALL ON order_mgmt.shipment_queue FROM PUBLIC;
GRANT SELECT ON order_mgmt.shipment_queue TO order_mgmt_reader;
