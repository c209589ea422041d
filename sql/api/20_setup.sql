-- Makes the data tables, or what is missing of them, and lets the workers begin.
-- Returns true when the installation is new. Errors: OM005 inside an extension script, OM006 when
-- a table of another owner is in the way.
CREATE FUNCTION order_mgmt.setup()
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_setup';
COMMENT ON FUNCTION order_mgmt.setup() IS
    'Makes the data tables of this database, or mends what is missing; true when they are new. Idempotent. Errors: OM005, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.setup() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.setup() TO order_mgmt_admin;

-- Brings stored data to the version of the library. Returns true when anything changed.
-- Errors: OM006 where setup() has not been run.
CREATE FUNCTION order_mgmt.migrate()
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_migrate';
COMMENT ON FUNCTION order_mgmt.migrate() IS
    'Brings stored data to the schema version of the library; true when anything changed. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.migrate() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.migrate() TO order_mgmt_admin;

-- Ends the rest that a restored or cloned database begins with: its workers work again.
-- Returns true when it was at rest.
CREATE FUNCTION order_mgmt.post_restore()
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_post_restore';
COMMENT ON FUNCTION order_mgmt.post_restore() IS
    'After a restore or clone: takes the data over into this cluster and lets workers go on; true when they were at rest. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.post_restore() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.post_restore() TO order_mgmt_admin;

-- Drops all data tables. confirm must be 'drop all order data'. Errors: OM001.
CREATE FUNCTION order_mgmt.teardown(
    confirm text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_teardown';
COMMENT ON FUNCTION order_mgmt.teardown(text) IS
    'Drops all orders, accounts, stock and events of this database. confirm must be ''drop all order data''. Errors: OM001.';
REVOKE ALL ON FUNCTION order_mgmt.teardown(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.teardown(text) TO order_mgmt_admin;

-- Versions of the loaded library, of the extension in this database and of the stored data
-- (null before setup()).
CREATE FUNCTION order_mgmt.version()
RETURNS TABLE (library text, extension text, schema text)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_version';
COMMENT ON FUNCTION order_mgmt.version() IS
    'Versions of library, extension and stored data (null before setup()).';
REVOKE ALL ON FUNCTION order_mgmt.version() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.version() TO order_mgmt_reader;

-- Makes the partitions of the coming months, moves a month that is due by its policy, and lets tables
-- take turns. Returns what was done and what could not be; no row when nothing was due. What is
-- locked is done next time. Errors: OM006.
CREATE FUNCTION order_mgmt.run_maintenance()
RETURNS TABLE (action text, object text)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_run_maintenance';
COMMENT ON FUNCTION order_mgmt.run_maintenance() IS
    'Makes partitions ahead, moves a month that is due and rotates internal tables; returns what was done. Safe at any time, also when two run at once. Errors: OM006.';
REVOKE ALL ON FUNCTION order_mgmt.run_maintenance() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.run_maintenance() TO order_mgmt_operator;
