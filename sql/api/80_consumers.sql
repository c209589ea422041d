-- Makes a consumer for a program outside the server; it belongs to the role that makes it.
--   name         1 to 64 characters
--   event_types  types of events that it gets; null: all, also those that may be added
--   start_at     it gets what was written at or after this time; null: what commits from now on
-- True when it was made, false when the role has it already. Errors: OM001, OM005 (another one of
-- the name), OM006.
CREATE FUNCTION order_mgmt.create_consumer(
    name text,
    event_types text[] DEFAULT NULL,
    start_at timestamptz DEFAULT NULL
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_create_consumer';
COMMENT ON FUNCTION order_mgmt.create_consumer(text, text[], timestamptz) IS
    'Makes a consumer for a program outside the server; false when the role has it already. Errors: OM001, OM005, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.create_consumer(text, text[], timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.create_consumer(text, text[], timestamptz) TO order_mgmt_app;

-- Removes a consumer of an outside program with its position, retries and dead letters.
-- Errors: OM001, OM004, OM005 (of another kind), OM006, 42501 (of another role).
CREATE FUNCTION order_mgmt.drop_consumer(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_drop_consumer';
COMMENT ON FUNCTION order_mgmt.drop_consumer(text) IS
    'Removes a consumer of an outside program with its position, retries and dead letters. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.drop_consumer(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.drop_consumer(text) TO order_mgmt_app;

-- The open batch of a consumer; where none is open, opens one: first the events that are due to be
-- tried again, then new ones.
--   max_events  size of a new batch, 1 to 10,000
--   wait        how long to wait for an event when there is none
-- attempts counts those that failed. The same batch comes again, to whoever asks, until it is
-- acknowledged. A consumer that is paused gets nothing.
-- Errors: OM001, OM004, OM005 (another kind, REPEATABLE READ, or at rest after a restore), OM006,
-- 42501 (of another role).
CREATE FUNCTION order_mgmt.receive_events(
    consumer text,
    max_events bigint DEFAULT 100,
    wait interval DEFAULT '0'
)
RETURNS TABLE (
    batch_id bigint,
    event_id bigint,
    at timestamptz,
    event_type text,
    order_id uuid,
    detail jsonb,
    customer_id text,
    product_id text,
    attempts bigint
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_receive_events';
COMMENT ON FUNCTION order_mgmt.receive_events(text, bigint, interval) IS
    'The open batch of a consumer, or a new one: the same until it is acknowledged. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.receive_events(text, bigint, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.receive_events(text, bigint, interval) TO order_mgmt_app;

-- Ends a batch, in the transaction of the program's own effects. False when it has been ended
-- before: roll those effects back then.
-- Errors: OM001, OM004 (no such batch, no such consumer), OM005, OM006, 42501.
CREATE FUNCTION order_mgmt.acknowledge_batch(
    consumer text,
    batch_id bigint
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_acknowledge_batch';
COMMENT ON FUNCTION order_mgmt.acknowledge_batch(text, bigint) IS
    'Ends a batch; false when it has been ended before. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.acknowledge_batch(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.acknowledge_batch(text, bigint) TO order_mgmt_app;

-- Takes an event that the program could not handle out of its open batch. True when it will come
-- again after a while, false when that was its last attempt and it is a dead letter now
-- (error_code P0001). Errors: OM001, OM004 (not in the open batch), OM005, OM006, 42501.
CREATE FUNCTION order_mgmt.reject_event(
    consumer text,
    event_id bigint,
    message text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_reject_event';
COMMENT ON FUNCTION order_mgmt.reject_event(text, bigint, text) IS
    'Sets an event of the open batch aside, to be tried again later; false when that was its last attempt. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.reject_event(text, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.reject_event(text, bigint, text) TO order_mgmt_app;

-- How often, and when, a consumer of any kind is given an event that failed; null: as it is.
--   backoff_base  wait after the first failure; it doubles with each further one, up to backoff_cap
-- True when that changed anything. Errors: OM001, OM004, OM006.
CREATE FUNCTION order_mgmt.set_retry_policy(
    consumer text,
    max_attempts bigint DEFAULT NULL,
    backoff_base interval DEFAULT NULL,
    backoff_cap interval DEFAULT NULL
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_retry_policy';
COMMENT ON FUNCTION order_mgmt.set_retry_policy(text, bigint, interval, interval) IS
    'Sets how often and when a consumer is given an event that failed; true when that changed anything. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.set_retry_policy(text, bigint, interval, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_retry_policy(text, bigint, interval, interval) TO order_mgmt_operator;
