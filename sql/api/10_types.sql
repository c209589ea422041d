-- The time inside an order id, to the millisecond. Prunes partitions by id.
CREATE FUNCTION order_mgmt.uuid_time(
    order_id uuid
)
RETURNS timestamptz
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'om_uuid_time';
COMMENT ON FUNCTION order_mgmt.uuid_time(uuid) IS
    'Time inside an order id (UUIDv7), to the millisecond.';
REVOKE ALL ON FUNCTION order_mgmt.uuid_time(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.uuid_time(uuid) TO order_mgmt_owner, order_mgmt_reader;

-- True for a word that orders.status may hold.
CREATE FUNCTION order_mgmt.is_order_status(
    word text
)
RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'om_is_order_status';
COMMENT ON FUNCTION order_mgmt.is_order_status(text) IS
    'True for the status of an order.';
REVOKE ALL ON FUNCTION order_mgmt.is_order_status(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.is_order_status(text) TO order_mgmt_owner, order_mgmt_reader;

-- True for a word that event_log.event_type may hold.
CREATE FUNCTION order_mgmt.is_event_type(
    word text
)
RETURNS boolean
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'om_is_event_type';
COMMENT ON FUNCTION order_mgmt.is_event_type(text) IS
    'True for the type of an event.';
REVOKE ALL ON FUNCTION order_mgmt.is_event_type(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.is_event_type(text) TO order_mgmt_owner, order_mgmt_reader;

-- The orders of a row of event_log, which holds up to 112, in their order.
CREATE FUNCTION order_mgmt.unpack_orders(
    order_ids bytea
)
RETURNS TABLE (
    ordinal bigint,
    order_id uuid
)
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'om_unpack_orders';
COMMENT ON FUNCTION order_mgmt.unpack_orders(bytea) IS
    'Orders packed into a row of the event log: ordinal from 1, order_id.';
REVOKE ALL ON FUNCTION order_mgmt.unpack_orders(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.unpack_orders(bytea) TO order_mgmt_owner, order_mgmt_reader;
