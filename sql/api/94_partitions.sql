-- Gives a table that is partitioned by month into care: months are made ahead, and by age made warm,
-- archived, deleted. relation is a table of the caller's own, partitioned by range on a date, timestamp
-- or timestamptz column (time_column), or by list into tables that are; or one of order_mgmt's own,
-- whose three monthly tables share one policy. Ages count from the end of a month, in UTC; NULL: never.
-- premake NULL: as order_mgmt.premake_months says. Called again it changes the policy, as a whole.
-- Returns true when anything changed. Errors: OM001, OM006, 42501.
CREATE FUNCTION order_mgmt.manage_table(
    relation regclass,
    time_column name,
    premake bigint DEFAULT 3,
    warm_after interval DEFAULT NULL,
    cold_after interval DEFAULT NULL,
    drop_after interval DEFAULT NULL,
    warm_tablespace name DEFAULT NULL,
    stay_hot_reads bigint DEFAULT NULL,
    restored_for interval DEFAULT '7 days',
    lock_timeout interval DEFAULT '100 ms'
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_manage_table';
COMMENT ON FUNCTION order_mgmt.manage_table(regclass, name, bigint, interval, interval, interval, name, bigint, interval, interval) IS
    'Gives a table partitioned by month into the care of maintenance, or changes how; true when anything changed. Errors: OM001, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.manage_table(regclass, name, bigint, interval, interval, interval, name, bigint, interval, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.manage_table(regclass, name, bigint, interval, interval, interval, name, bigint, interval, interval) TO order_mgmt_operator;

-- Takes a table of the caller's own out of care; it stays as it is. False: it was in nobody's.
-- Errors: OM001, OM006, 42501.
CREATE FUNCTION order_mgmt.unmanage_table(
    relation regclass
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_unmanage_table';
COMMENT ON FUNCTION order_mgmt.unmanage_table(regclass) IS
    'Ends the care of a table; false when it had none. Errors: OM001, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.unmanage_table(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.unmanage_table(regclass) TO order_mgmt_operator;

-- After ALTER TABLE or ALTER SCHEMA … RENAME: what stands under the old name (with its schema, or in that
-- of the table), policy and archives, is the table's from now on. Only of the owner of the table, who must
-- call it, or an admin. Returns how many archived months the table has got.
-- Errors: OM001, OM004, OM005, OM006, 42501.
CREATE FUNCTION order_mgmt.rename_managed_table(
    old_name text,
    new_name regclass
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_rename_managed_table';
COMMENT ON FUNCTION order_mgmt.rename_managed_table(text, regclass) IS
    'Gives a table that has been renamed its policy and archives; how many archives. Errors: OM001, OM004, OM005, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.rename_managed_table(text, regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.rename_managed_table(text, regclass) TO order_mgmt_operator;

-- The rows of view partitions.
CREATE FUNCTION order_mgmt.partitions_state()
RETURNS TABLE (
    table_name text,
    partition_name text,
    month date,
    tier text,
    rows_estimate bigint,
    bytes bigint,
    last_read timestamptz,
    next_action text,
    next_action_at timestamptz,
    waits_for text,
    reads_per_day double precision
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_partitions_state';
COMMENT ON FUNCTION order_mgmt.partitions_state() IS
    'The rows of view order_mgmt.partitions. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.partitions_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.partitions_state() TO order_mgmt_reader;

CREATE VIEW order_mgmt.partitions AS SELECT * FROM order_mgmt.partitions_state();
COMMENT ON COLUMN order_mgmt.partitions.table_name IS 'Table of which it is a month; one of a user with its schema. A name that policies or archives have, and no table, is a row of its own.';
COMMENT ON COLUMN order_mgmt.partitions.partition_name IS 'Partition.';
COMMENT ON COLUMN order_mgmt.partitions.month IS 'First day of the month.';
COMMENT ON COLUMN order_mgmt.partitions.tier IS 'hot, warm, cold (in an archive file only) or restored (back from one).';
COMMENT ON COLUMN order_mgmt.partitions.rows_estimate IS 'Rows, as the last ANALYZE saw them; those of a cold month exactly.';
COMMENT ON COLUMN order_mgmt.partitions.bytes IS 'Size with indexes, or of the file.';
COMMENT ON COLUMN order_mgmt.partitions.last_read IS 'Time of the first look of maintenance after it was read last.';
COMMENT ON COLUMN order_mgmt.partitions.next_action IS 'What maintenance will do with it next: make warm, archive or drop.';
COMMENT ON COLUMN order_mgmt.partitions.next_action_at IS 'Time from which that is due.';
COMMENT ON COLUMN order_mgmt.partitions.waits_for IS 'Why it is not done though it is due; and what a table is called that has been renamed.';
COMMENT ON COLUMN order_mgmt.partitions.reads_per_day IS 'Scans a day, over the last day or more that maintenance has looked at.';
COMMENT ON VIEW order_mgmt.partitions IS 'Months of the managed tables: where they are, and what is to become of them.';
REVOKE ALL ON order_mgmt.partitions FROM PUBLIC;
GRANT SELECT ON order_mgmt.partitions TO order_mgmt_reader;
