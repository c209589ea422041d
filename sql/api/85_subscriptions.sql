-- Subscribes the calling role to the log: from now on (start_at NULL), or for events written at or
-- after start_at, a worker that is connected as this role calls handler(event jsonb) once per event.
-- An event whose handler fails max_attempts times becomes a dead letter. True when it was made,
-- false when the role has the very same subscription already.
CREATE FUNCTION order_mgmt.subscribe(
    name text,
    handler text,
    event_types text[] DEFAULT NULL,
    max_attempts bigint DEFAULT 20,
    start_at timestamptz DEFAULT NULL
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_subscribe';
COMMENT ON FUNCTION order_mgmt.subscribe(text, text, text[], bigint, timestamptz) IS
    'Has a function called once per event, by a worker connected as the calling role; false when that is so already. Errors: OM001, OM004, OM005, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.subscribe(text, text, text[], bigint, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.subscribe(text, text, text[], bigint, timestamptz) TO order_mgmt_operator;

-- Ends a subscription, at once also where its handler runs, and forgets its position, retries and
-- dead letters. For its owner, members of that role, and order_mgmt_admin.
CREATE FUNCTION order_mgmt.unsubscribe(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_unsubscribe';
COMMENT ON FUNCTION order_mgmt.unsubscribe(text) IS
    'Ends a subscription and forgets what it had before it. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.unsubscribe(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.unsubscribe(text) TO order_mgmt_operator;
