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
