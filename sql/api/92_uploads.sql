-- A ticket for a file that a client sends piece by piece: what it holds and how it is to be loaded.
-- Everybody with role order_mgmt_app may upload orders to be captured; other kinds, and mode
-- 'history', take order_mgmt_operator. What is not loaded by expires_at is deleted.
CREATE FUNCTION order_mgmt.create_upload(
    kind text DEFAULT 'orders',
    mode text DEFAULT 'capture',
    options jsonb DEFAULT '{}',
    expires_in interval DEFAULT '1h'
)
RETURNS TABLE (
    upload_id uuid,
    expires_at timestamptz
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_create_upload';
COMMENT ON FUNCTION order_mgmt.create_upload(text, text, jsonb, interval) IS
    'A ticket for a file to be sent by append_upload() and loaded by load_upload(); kind is orders, accounts, products or stock. Errors: OM001, OM004 (profile), OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.create_upload(text, text, jsonb, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.create_upload(text, text, jsonb, interval) TO order_mgmt_app;

-- Adds the bytes of a file from at_byte on, and returns how many there are now. What is there already
-- may be sent again; so after an error one repeats the chunk, or goes on at the byte that DETAIL names.
CREATE FUNCTION order_mgmt.append_upload(
    upload_id uuid,
    chunk bytea,
    at_byte bigint
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_append_upload';
COMMENT ON FUNCTION order_mgmt.append_upload(uuid, bytea, bigint) IS
    'Adds a chunk to an upload at a byte; the same bytes again change nothing. Returns the number of bytes there are. Errors: OM001 (other bytes than those there), OM004, OM005 (a gap, expired, loaded), OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.append_upload(uuid, bytea, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.append_upload(uuid, bytea, bigint) TO order_mgmt_app;

-- Loads what has been uploaded, as load_orders_csv() and its like do. Called again it returns the same
-- load_id.
CREATE FUNCTION order_mgmt.load_upload(
    upload_id uuid
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_load_upload';
COMMENT ON FUNCTION order_mgmt.load_upload(uuid) IS
    'Loads an upload once the transaction has committed; returns the load_id, the same each time. Errors: OM001, OM004, OM005 (expired), OM006, 42501; without workers also those that end a load.';
REVOKE ALL ON FUNCTION order_mgmt.load_upload(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.load_upload(uuid) TO order_mgmt_app;

-- What generates the columns of table order_staging; see there, and src/api_uploads.c for why they say
-- IMMUTABLE.
CREATE FUNCTION order_mgmt.staging_role(
    any_column text
)
RETURNS oid
LANGUAGE C IMMUTABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_staging_role';
COMMENT ON FUNCTION order_mgmt.staging_role(text) IS
    'The role that calls; for a column of table order_staging only.';
REVOKE ALL ON FUNCTION order_mgmt.staging_role(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.staging_role(text) TO order_mgmt_operator, order_mgmt_owner;

CREATE FUNCTION order_mgmt.staging_time(
    any_column text
)
RETURNS timestamptz
LANGUAGE C IMMUTABLE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_staging_time_sql';
COMMENT ON FUNCTION order_mgmt.staging_time(text) IS
    'The time, a different one for each call; for a column of table order_staging only.';
REVOKE ALL ON FUNCTION order_mgmt.staging_time(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.staging_time(text) TO order_mgmt_operator, order_mgmt_owner;

-- Keeps options of loads under a name, for option "profile" of loads, uploads and read_csv(). False:
-- there was one of that name, which is replaced.
CREATE FUNCTION order_mgmt.set_load_profile(
    name text,
    options jsonb
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_load_profile';
COMMENT ON FUNCTION order_mgmt.set_load_profile(text, jsonb) IS
    'Keeps options of loads under a name, which options may then give as "profile"; false when it replaces one. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.set_load_profile(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_load_profile(text, jsonb) TO order_mgmt_operator;

-- Forgets a profile. Loads that were asked for with it have its options. False: there is none.
CREATE FUNCTION order_mgmt.drop_load_profile(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_drop_load_profile';
COMMENT ON FUNCTION order_mgmt.drop_load_profile(text) IS
    'Forgets options kept by set_load_profile(); false when there are none of that name. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.drop_load_profile(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.drop_load_profile(text) TO order_mgmt_operator;
