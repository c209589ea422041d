-- Writes a month (any day of it) to files below order_mgmt.archive_directory and drops its partitions:
-- of orders, lines and events together, or of a partitioned table of one's own. To be called in a
-- transaction of its own. A month that is in files already stays as it is.
CREATE FUNCTION order_mgmt.archive_month(
    month date,
    relation regclass DEFAULT NULL
)
RETURNS TABLE (
    relation regclass,
    rows bigint,
    bytes bigint,
    file text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_archive_month_sql';
COMMENT ON FUNCTION order_mgmt.archive_month(date, regclass) IS
    'Writes a month to compressed files, reads them back, and drops its partitions. Errors: OM001, OM004 (no such month), OM005 (something still needs it), OM006, 55P03 (being read), 55000 (no directory set), 53100, 58P01, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.archive_month(date, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.archive_month(date, regclass) TO order_mgmt_operator;

-- Brings an archived month back, from the same files, which are checked. A month that is there stays
-- as it is.
CREATE FUNCTION order_mgmt.restore_month(
    month date,
    relation regclass DEFAULT NULL
)
RETURNS TABLE (
    relation regclass,
    rows bigint,
    bytes bigint,
    file text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_restore_month_sql';
COMMENT ON FUNCTION order_mgmt.restore_month(date, regclass) IS
    'Makes the partitions of an archived month again, from its files. Errors: OM001, OM004 (no such month), OM006, XX001 (file damaged), 55P03 (being read), 58P01, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.restore_month(date, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.restore_month(date, regclass) TO order_mgmt_operator;

-- Orders of a month that is in an archive, oldest first; of one customer, or one of them.
CREATE FUNCTION order_mgmt.archived_orders(
    month date,
    customer_id text DEFAULT NULL,
    order_id uuid DEFAULT NULL
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
AS 'MODULE_PATHNAME', 'om_archived_orders';
COMMENT ON FUNCTION order_mgmt.archived_orders(date, text, uuid) IS
    'Orders of an archived month, oldest first. Errors: OM001, OM004 (the month is not in an archive), OM006, XX001 (file damaged), 58P01.';
REVOKE ALL ON FUNCTION order_mgmt.archived_orders(date, text, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.archived_orders(date, text, uuid) TO order_mgmt_reader;

-- Events of a month that is in an archive, as in view events, in the order of the log; of one order.
CREATE FUNCTION order_mgmt.archived_events(
    month date,
    order_id uuid DEFAULT NULL
)
RETURNS TABLE (
    event_id bigint,
    at timestamptz,
    event_type text,
    order_id uuid,
    customer_id text,
    product_id text,
    detail jsonb,
    lxid bigint
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_archived_events';
COMMENT ON FUNCTION order_mgmt.archived_events(date, uuid) IS
    'Events of an archived month, as in view events. Errors: OM001, OM004 (the month is not in an archive), OM006, XX001 (file damaged), 58P01.';
REVOKE ALL ON FUNCTION order_mgmt.archived_events(date, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.archived_events(date, uuid) TO order_mgmt_reader;
