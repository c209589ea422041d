-- All about an order in one call: head, lines, events; NULL when there is none. VOLATILE, so that
-- get_order(capture_order(...)) answers in one statement.
CREATE FUNCTION order_mgmt.get_order(
    order_id uuid
)
RETURNS jsonb
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_get_order';
COMMENT ON FUNCTION order_mgmt.get_order(uuid) IS
    'An order with its lines and events as JSON (money as strings with 4 decimals, times in UTC); NULL when there is none. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.get_order(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.get_order(uuid) TO order_mgmt_reader;

-- The status of an order; NULL when there is none.
CREATE FUNCTION order_mgmt.get_order_status(
    order_id uuid
)
RETURNS text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_get_order_status';
COMMENT ON FUNCTION order_mgmt.get_order_status(uuid) IS
    'The status of an order: captured, confirmed, shipped, rejected, cancelled or failed; NULL when there is none. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.get_order_status(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.get_order_status(uuid) TO order_mgmt_reader;

-- The orders with a reference, oldest first, of all customers or one.
CREATE FUNCTION order_mgmt.find_orders(
    order_ref text,
    customer_id text DEFAULT NULL
)
RETURNS TABLE (
    order_id uuid,
    created_at timestamptz,
    customer_id text,
    order_ref text,
    status text,
    reasons text[],
    total numeric,
    metadata jsonb,
    updated_at timestamptz
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_find_orders';
COMMENT ON FUNCTION order_mgmt.find_orders(text, text) IS
    'Orders with this order_ref, oldest first. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.find_orders(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.find_orders(text, text) TO order_mgmt_reader;

-- Orders, newest first, since <= created_at < until. The next page begins after the last order_id
-- of this one: no offset, no count, every page costs the same.
CREATE FUNCTION order_mgmt.list_orders(
    customer_id text DEFAULT NULL,
    status text DEFAULT NULL,
    since timestamptz DEFAULT NULL,
    until timestamptz DEFAULT NULL,
    after uuid DEFAULT NULL,
    page_size bigint DEFAULT 50
)
RETURNS TABLE (
    order_id uuid,
    created_at timestamptz,
    customer_id text,
    order_ref text,
    status text,
    reasons text[],
    total numeric,
    metadata jsonb,
    updated_at timestamptz
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_list_orders';
COMMENT ON FUNCTION order_mgmt.list_orders(text, text, timestamptz, timestamptz, uuid, bigint) IS
    'Orders, newest first, since <= created_at < until, beginning after an order_id; page_size 1 to 10000 rows. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.list_orders(text, text, timestamptz, timestamptz, uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.list_orders(text, text, timestamptz, timestamptz, uuid, bigint) TO order_mgmt_reader;

-- When an order was shipped: the event, for account_statement() and stock_statement().
-- trail, created_at and updated_at are those of the order. NULLs when there is none.
CREATE FUNCTION order_mgmt.shipment_of(
    order_id uuid,
    trail bigint[],
    created_at timestamptz,
    updated_at timestamptz,
    OUT event_id bigint,
    OUT at timestamptz
)
LANGUAGE C STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_shipment_of';
COMMENT ON FUNCTION order_mgmt.shipment_of(uuid, bigint[], timestamptz, timestamptz) IS
    'The event of the shipment of an order, given the columns of its row.';
REVOKE ALL ON FUNCTION order_mgmt.shipment_of(uuid, bigint[], timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.shipment_of(uuid, bigint[], timestamptz, timestamptz) TO order_mgmt_owner, order_mgmt_reader;

-- What happened to an order, oldest first. The verdicts of the two checks show once both are in.
CREATE FUNCTION order_mgmt.track_order(
    order_id uuid
)
RETURNS TABLE (
    at timestamptz,
    event_type text,
    since_previous interval,
    detail jsonb
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_track_order';
COMMENT ON FUNCTION order_mgmt.track_order(uuid) IS
    'The events of an order, oldest first; no row when there is none. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.track_order(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.track_order(uuid) TO order_mgmt_reader;

-- Waits until an order is final (or, where auto_ship is off, confirmed) and returns its status, at
-- the latest after timeout. Errors: OM004, OM005 at once for an order of one's own open
-- transaction or in REPEATABLE READ.
CREATE FUNCTION order_mgmt.wait_for_order(
    order_id uuid,
    timeout interval DEFAULT '10s'
)
RETURNS text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_wait_for_order';
COMMENT ON FUNCTION order_mgmt.wait_for_order(uuid, interval) IS
    'Waits until nothing more happens to an order by itself; returns its status, whatever it is after timeout. Errors: OM001, OM004, OM005 (own uncommitted order, REPEATABLE READ), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.wait_for_order(uuid, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.wait_for_order(uuid, interval) TO order_mgmt_reader;

-- Cancels an order that has not shipped; what it holds returns a moment later. Again: 'cancelled'.
CREATE FUNCTION order_mgmt.cancel_order(
    order_id uuid,
    reason text DEFAULT NULL
)
RETURNS text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_cancel_order';
COMMENT ON FUNCTION order_mgmt.cancel_order(uuid, text) IS
    'Cancels an order before it ships; returns ''cancelled''. Errors: OM001, OM004, OM005 (shipped, rejected or failed), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.cancel_order(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.cancel_order(uuid, text) TO order_mgmt_app;

-- Ships a confirmed order by hand, where order_mgmt.auto_ship is off; detail goes with the event.
CREATE FUNCTION order_mgmt.ship_order(
    order_id uuid,
    detail jsonb DEFAULT '{}'
)
RETURNS text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_ship_order';
COMMENT ON FUNCTION order_mgmt.ship_order(uuid, jsonb) IS
    'Ships a confirmed order; detail (a JSON object) goes with its order_shipped event. Returns ''shipped''. Errors: OM001, OM004, OM005 (not confirmed), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.ship_order(uuid, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.ship_order(uuid, jsonb) TO order_mgmt_operator;

-- Adds a note to an order in any state; it shows in track_order. Returns its event id.
CREATE FUNCTION order_mgmt.add_order_note(
    order_id uuid,
    note text,
    detail jsonb DEFAULT '{}'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_add_order_note';
COMMENT ON FUNCTION order_mgmt.add_order_note(uuid, text, jsonb) IS
    'Adds a note, with detail (a JSON object), to an order in any state; returns the event id. Errors: OM001, OM004, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.add_order_note(uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.add_order_note(uuid, text, jsonb) TO order_mgmt_app;
